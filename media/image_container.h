/*
 * image_container.h - PNG, JPEG and WebP files seen from outside: size, orientation, completeness,
 * and a copy with nothing in it but the picture. Hostile bytes in, decoder's food out. Any thread.
 */
#ifndef MEDIA_IMAGE_CONTAINER_H
#define MEDIA_IMAGE_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum image_format {
    IMAGE_PNG,
    IMAGE_JPEG,
    IMAGE_WEBP,
};

struct image_container {
    enum image_format format;
    int width; /* as stored, before orientation; also when it is over a limit */
    int height;
    int orientation; /* EXIF 1..8 */
    struct str bare; /* owned: the stripped file */
};

/* Limits and errors as in image.h. `ret` is set up in any case; end it by image_container_done. */
MUST_CHECK int image_container_read(struct image_container *ret, const uint8_t *data, size_t len,
                                    struct err *err);
void image_container_done(struct image_container *c);

/* By the first bytes; false: none of them. */
bool image_container_format(enum image_format *ret, const uint8_t *data, size_t len);

/* "PNG", "JPEG" or "WebP". */
const char *image_format_name(enum image_format format);

#endif
