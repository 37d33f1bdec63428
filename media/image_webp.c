/*
 * WebP from outside (RFC 9649): RIFF chunks, padded to even; VP8 or VP8L holds the picture, a VP8X before
 * it says what else there is. Kept: the picture, as a file of its own without alpha.
 */
#include "media/image_container_internal.h"

#include <stdbool.h>
#include <string.h>

#include "media/exif.h"

enum {
    RIFF_CHUNK_HEAD = 8,
    VP8X_ANIMATION = 0x02
};

static int webp_picture(struct image_reader *r, const uint8_t *chunk, size_t len, struct err *err)
{
    const bool lossless = chunk[3] == 'L';
    const uint8_t *body = chunk + RIFF_CHUNK_HEAD;
    const size_t padded = len + len % 2;
    uint8_t riff[IMAGE_WEBP_MAGIC] = "RIFF\0\0\0\0WEBP";
    uint32_t width;
    uint32_t height;
    int rc;

    if (r->c->bare.len > 0) {
        return image_reader_damaged(r, err, "it has two pictures");
    }
    if (len < 10 || (lossless && body[0] != 0x2f) ||
        (!lossless && ((body[0] & 1) != 0 || memcmp(body + 3, "\x9d\x01\x2a", 3) != 0))) {
        return image_reader_damaged(r, err, "its picture does not start as it must");
    }
    if (lossless) { /* RFC 9649 3.4: 14 bits width - 1, 14 bits height - 1 */
        const uint32_t bits = le32(body + 1);

        width = (bits & 0x3fff) + 1;
        height = (bits >> 14 & 0x3fff) + 1;
    } else { /* RFC 6386 9.1; the upper two bits ask for scaling at display */
        width = le16(body + 6) & 0x3fff;
        height = le16(body + 8) & 0x3fff;
    }
    if (r->c->width != 0 && (width != (uint32_t)r->c->width || height != (uint32_t)r->c->height)) {
        return image_reader_damaged(r, err, "its picture is not of the size its header says");
    }
    rc = image_reader_set_size(r, width, height, err);
    for (int i = 0; i < 4; i++) {
        riff[4 + i] = (uint8_t)((4 + RIFF_CHUNK_HEAD + padded) >> (8 * i));
    }
    rc = rc == ERR_OK ? image_reader_keep(r, riff, sizeof(riff), err) : rc;
    rc = rc == ERR_OK ? image_reader_keep(r, chunk, RIFF_CHUNK_HEAD + len, err) : rc;
    return rc == ERR_OK ? image_reader_keep(r, "", len % 2, err) : rc;
}

static int webp_chunk(struct image_reader *r, const uint8_t *chunk, size_t len, struct err *err)
{
    const uint8_t *body = chunk + RIFF_CHUNK_HEAD;

    if (memcmp(chunk, "VP8 ", 4) == 0 || memcmp(chunk, "VP8L", 4) == 0) {
        return webp_picture(r, chunk, len, err);
    }
    if (memcmp(chunk, "ANIM", 4) == 0 || memcmp(chunk, "ANMF", 4) == 0 ||
        (memcmp(chunk, "VP8X", 4) == 0 && len > 0 && (body[0] & VP8X_ANIMATION) != 0)) {
        return err_set(err, ERR_UNSUPPORTED, "animated WebP images are not supported");
    }
    if (memcmp(chunk, "VP8X", 4) == 0) {
        if (len < 10 || r->c->width != 0) {
            return image_reader_damaged(r, err, "its header is too short or comes too late");
        }
        return image_reader_set_size(r, le24(body + 4) + 1, le24(body + 7) + 1, err);
    }
    if (memcmp(chunk, "EXIF", 4) == 0) { /* some writers keep JPEG's prefix */
        const size_t skip = len > 6 && memcmp(body, "Exif\0", 6) == 0 ? 6 : 0;

        r->c->orientation = exif_orientation(body + skip, len - skip);
    }
    return ERR_OK;
}

int image_webp_read(struct image_reader *r, struct err *err)
{
    const size_t said = le32(r->data + 4);
    int rc = ERR_OK;

    if (said > r->len - RIFF_CHUNK_HEAD) {
        return image_reader_cut_off(r, err);
    }
    if (said < 4) {
        return image_reader_damaged(r, err, "its length is too small");
    }
    r->len = said + RIFF_CHUNK_HEAD; /* bytes behind the file are not its own */
    r->at = IMAGE_WEBP_MAGIC;
    while (rc == ERR_OK && image_reader_left(r) > 0) {
        const uint8_t *chunk = r->data + r->at;
        size_t len;

        if (image_reader_left(r) < RIFF_CHUNK_HEAD ||
            image_reader_left(r) - RIFF_CHUNK_HEAD < le32(chunk + 4)) {
            return image_reader_cut_off(r, err);
        }
        len = le32(chunk + 4);
        rc = webp_chunk(r, chunk, len, err);
        r->at += RIFF_CHUNK_HEAD + len;
        r->at += len % 2 && image_reader_left(r) > 0;
    }
    if (rc == ERR_OK && r->c->bare.len == 0) {
        return image_reader_damaged(r, err, "it has no picture");
    }
    return rc;
}
