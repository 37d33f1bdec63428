/*
 * image_probe.h - is this a reference picture we would read? From its structure only: nothing is
 * decoded, so that the daemon can refuse at once what image_read would refuse before decoding.
 *
 * Any thread.
 */
#ifndef MEDIA_IMAGE_PROBE_H
#define MEDIA_IMAGE_PROBE_H

#include "media/image.h"

enum image_probe_problem {
    IMAGE_PROBE_OK,
    IMAGE_PROBE_NOT_AN_IMAGE, /* not PNG, JPEG or WebP by its first bytes */
    IMAGE_PROBE_TOO_LARGE,    /* bytes, sides or pixels over the limits of image.h */
    IMAGE_PROBE_BAD,          /* damaged, cut off, or a kind that is not supported */
};

struct image_probe {
    enum image_probe_problem problem;
    const char *type; /* "image/png"; NULL if not an image */
    int width, height;
};

/* The sentence in err is for the client when ret->problem is not OK (then the return value is
 * ERR_INVALID, ERR_FORMAT or ERR_UNSUPPORTED). Also ERR_NO_MEMORY. */
MUST_CHECK int image_probe(struct image_probe *ret, const uint8_t *data, size_t len,
                           struct err *err);

/* The same of a file; also ERR_NOT_FOUND and ERR_IO. */
MUST_CHECK int image_probe_file(struct image_probe *ret, const char *path, struct err *err);

#endif
