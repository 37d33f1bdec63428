/*
 * image_container_internal.h - what the readers of the formats share. Between image_container.c and
 * image_{png,jpeg,webp}.c only.
 */
#ifndef MEDIA_IMAGE_CONTAINER_INTERNAL_H
#define MEDIA_IMAGE_CONTAINER_INTERNAL_H

#include "media/image_container.h"

struct image_reader {
    struct image_container *c;
    const uint8_t *data;
    size_t len;
    size_t at;
};

static inline uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

static inline uint32_t le16(const uint8_t *p)
{
    return (uint32_t)p[1] << 8 | p[0];
}

static inline uint32_t le24(const uint8_t *p)
{
    return (uint32_t)p[2] << 16 | le16(p);
}

static inline uint32_t le32(const uint8_t *p)
{
    return le16(p + 2) << 16 | le16(p);
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

/* Bytes not yet read. */
static inline size_t image_reader_left(const struct image_reader *r)
{
    return r->len - r->at;
}

/* The error exits. */
int image_reader_damaged(const struct image_reader *r, struct err *err, const char *what);
int image_reader_cut_off(const struct image_reader *r, struct err *err);

/* Appends to the stripped file. */
MUST_CHECK int image_reader_keep(struct image_reader *r, const void *data, size_t len,
                                 struct err *err);

/* Checks the limits. */
MUST_CHECK int image_reader_set_size(struct image_reader *r, uint32_t width, uint32_t height,
                                     struct err *err);

/* From behind the first bytes, which are known, to the end. */
MUST_CHECK int image_png_read(struct image_reader *r, struct err *err);
MUST_CHECK int image_jpeg_read(struct image_reader *r, struct err *err);
MUST_CHECK int image_webp_read(struct image_reader *r, struct err *err);

enum {
    IMAGE_PNG_MAGIC = 8,
    IMAGE_WEBP_MAGIC = 12
};

#endif
