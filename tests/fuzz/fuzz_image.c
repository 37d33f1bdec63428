/*
 * fuzz_image.c - a reference picture from anybody. What is accepted must be within the limits, and be the
 * same picture when it is read again.
 */
#include <stdlib.h>
#include <string.h>

#include "media/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image;
    struct image again;
    struct err err;

    if (image_read(&image, data, size, &err) != ERR_OK) {
        CHECK_BUG(err.code == ERR_FORMAT || err.code == ERR_INVALID || err.code == ERR_UNSUPPORTED);
        return 0;
    }
    CHECK_BUG(image.width >= IMAGE_MIN_SIDE && image.width <= IMAGE_MAX_SIDE);
    CHECK_BUG(image.height >= IMAGE_MIN_SIDE && image.height <= IMAGE_MAX_SIDE);
    CHECK_BUG((int64_t)image.width * image.height <= IMAGE_MAX_PIXELS);
    CHECK_BUG(image_read(&again, data, size, &err) == ERR_OK);
    CHECK_BUG(memcmp(image.rgb, again.rgb, (size_t)image.width * (size_t)image.height * 3) == 0);
    image_done(&again);
    image_done(&image);
    return 0;
}
