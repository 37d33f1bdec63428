/*
 * image.h - reading a reference picture: PNG, JPEG or WebP bytes from anybody, to RGB.
 *
 * What it is follows from its first bytes. Our own parser reads size and orientation from the
 * header, refuses what is too large before anything is decoded, requires the file to be complete,
 * and hands the decoder (libavcodec) a stripped copy without comments, profiles, alpha and further
 * pictures: they cannot change the result, so they need not be parsed.
 *
 * Colours are as stored, 8 bits (of 16, the upper 8), alpha dropped as by PIL's convert("RGB"),
 * profiles and gamma ignored; JPEG and WebP luma and chroma by BT.601, of full and limited range.
 * EXIF orientation is applied. Of an animated PNG the default picture is read; an animated WebP, a
 * CMYK, lossless or arithmetic-coded JPEG is refused.
 *
 * Memory: at most some 16 bytes a pixel. Any thread; not for the loop thread.
 */
#ifndef MEDIA_IMAGE_H
#define MEDIA_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    IMAGE_MAX_BYTES = 20 << 20,
    IMAGE_MIN_SIDE = 32,
    IMAGE_MAX_SIDE = 8192,
    IMAGE_MAX_PIXELS = 40000000,
};

struct image {
    int width;
    int height;
    uint8_t *rgb; /* owned; [height, width, 3] */
};

/*
 * Errors: ERR_INVALID (over a limit above, which the sentence names), ERR_FORMAT (not such a file,
 * damaged or cut off), ERR_UNSUPPORTED (see above), ERR_NO_MEMORY.
 */
MUST_CHECK int image_read(struct image *ret, const uint8_t *data, size_t len, struct err *err);

/* The same from a file; also ERR_NOT_FOUND and ERR_IO. Sentences begin with the path. */
MUST_CHECK int image_read_file(struct image *ret, const char *path, struct err *err);

/* Frees the pixels; accepts an image that is all zero. */
void image_done(struct image *image);

#endif
