/*
 * fuzz_image.c - a reference picture from anybody. What is accepted must be within the limits, and be the
 * same picture when it is read again. Headers of all sizes are parsed, pictures only decoded when they
 * are small: large ones find nothing more and take a second each.
 */
#include <stdlib.h>
#include <string.h>

#include "media/deflate_size.h"
#include "media/exif.h"
#include "media/image.h"
#include "media/image_container.h"

enum {
    DECODED_PIXELS = 65536,
    MEASURED_BYTES = 1 << 20,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *data, size_t size)
{
    struct image image;
    struct image again;
    struct err err;

    if (image_read(&image, data, size, &err) != ERR_OK) {
        CHECK_BUG(err.code == ERR_FORMAT || err.code == ERR_UNSUPPORTED);
        return;
    }
    CHECK_BUG(image_read(&again, data, size, &err) == ERR_OK);
    CHECK_BUG(image.width == again.width && image.height == again.height);
    CHECK_BUG(memcmp(image.rgb, again.rgb, (size_t)image.width * (size_t)image.height * 3) == 0);
    image_done(&again);
    image_done(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_container c;
    struct err err;
    const int rc = image_container_read(&c, data, size, &err);

    /* what stands behind checksums and prefixes, which a fuzzer does not get past */
    CHECK_BUG(deflate_size(data, size, MEASURED_BYTES) <= MEASURED_BYTES);
    CHECK_BUG(exif_orientation(data, size) >= 1 && exif_orientation(data, size) <= 8);
    CHECK_BUG(rc == ERR_OK || rc == ERR_FORMAT || rc == ERR_INVALID || rc == ERR_UNSUPPORTED);
    if (rc == ERR_OK) {
        CHECK_BUG(c.width >= IMAGE_MIN_SIDE && c.width <= IMAGE_MAX_SIDE);
        CHECK_BUG(c.height >= IMAGE_MIN_SIDE && c.height <= IMAGE_MAX_SIDE);
        CHECK_BUG(c.width * c.height <= IMAGE_MAX_PIXELS);
        CHECK_BUG(c.orientation >= 1 && c.orientation <= 8);
        CHECK_BUG(c.bare.len <= size + 64);
        if (c.width * c.height <= DECODED_PIXELS) {
            decode(data, size);
        }
    }
    image_container_done(&c);
    return 0;
}
