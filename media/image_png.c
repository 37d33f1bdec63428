/*
 * PNG from outside (W3C PNG 3rd edition, section 5): chunks of length, name, body, CRC. Kept: IHDR, PLTE
 * and the compressed rows, which are also measured here, as one IDAT.
 */
#include "media/image_container_internal.h"

#include <libavutil/crc.h>
#include <stdbool.h>
#include <string.h>

#include "media/deflate_size.h"
#include "media/exif.h"
#include "media/image.h"

enum {
    CHUNK_EXTRA = 12,
    IHDR_BYTES = 13
};

static uint32_t checksum(const uint8_t *chunk, size_t body)
{
    const AVCRC *table = av_crc_get_table(AV_CRC_32_IEEE_LE);

    return av_crc(table, UINT32_MAX, chunk + 4, body + 4) ^ UINT32_MAX;
}

/* Bytes of w x h pixels in PNG's row format: a filter byte, then the samples packed. */
static uint64_t rows_size(uint64_t w, uint64_t h, unsigned bits)
{
    return w == 0 ? 0 : h * (1 + (w * bits + 7) / 8);
}

/* Bytes of the uncompressed picture; 0 for a combination that there is not (table 11.1). */
static uint64_t raw_size(const uint8_t *ihdr)
{
    static const uint8_t samples[7] = {1, 0, 3, 1, 2, 0, 4};
    /* Adam7: first column and row, and their steps */
    static const uint8_t pass[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                       {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
    const uint64_t w = be32(ihdr);
    const uint64_t h = be32(ihdr + 4);
    const unsigned depth = ihdr[8];
    const unsigned type = ihdr[9];
    uint64_t size = 0;

    if (type > 6 || samples[type] == 0 || ihdr[10] != 0 || ihdr[11] != 0 || ihdr[12] > 1 ||
        (depth != 8 && (depth != 16 || type == 3) &&
         ((depth != 1 && depth != 2 && depth != 4) || (type != 0 && type != 3)))) {
        return 0;
    }
    if (ihdr[12] == 0) {
        return rows_size(w, h, depth * samples[type]);
    }
    for (int i = 0; i < 7; i++) {
        size += rows_size((w - pass[i][0] + pass[i][2] - 1) / pass[i][2],
                          (h - pass[i][1] + pass[i][3] - 1) / pass[i][3], depth * samples[type]);
    }
    return size;
}

/* All rows as one chunk, once it is known that they are there. */
static int keep_rows(struct image_reader *r, struct str *rows, uint64_t size, struct err *err)
{
    const size_t body = rows->len - 8; /* length and name stand before it already */
    uint8_t *chunk = (uint8_t *)rows->data;
    uint8_t crc[4];
    int rc;

    if (deflate_size(chunk + 8, body, size) < size) {
        return image_reader_damaged(r, err, "its data do not fill the picture");
    }
    put_be32(chunk, (uint32_t)body);
    put_be32(crc, checksum(chunk, body));
    rc = image_reader_keep(r, chunk, rows->len, err);
    return rc == ERR_OK ? image_reader_keep(r, crc, sizeof(crc), err) : rc;
}

static int keep_header(struct image_reader *r, const uint8_t *chunk, size_t body,
                       uint64_t *ret_size, struct err *err)
{
    int rc;

    if (body != IHDR_BYTES) {
        return image_reader_damaged(r, err, "its IHDR has a wrong length");
    }
    rc = image_reader_set_size(r, be32(chunk + 8), be32(chunk + 12), err);
    if (rc != ERR_OK) {
        return rc;
    }
    *ret_size = raw_size(chunk + 8);
    if (*ret_size == 0) {
        return image_reader_damaged(r, err, "its IHDR asks for a kind of PNG that there is not");
    }
    return image_reader_keep(r, chunk, body + CHUNK_EXTRA, err);
}

/* One chunk, whose checksum is right if it is one of those that are read. */
static int read_chunk(struct image_reader *r, const uint8_t *chunk, size_t body, struct str *rows,
                      uint64_t *size, struct err *err)
{
    const bool is_header = memcmp(chunk + 4, "IHDR", 4) == 0;

    if ((r->c->width == 0) != is_header) {
        return image_reader_damaged(r, err, "it does not start with one IHDR");
    }
    if (memcmp(chunk + 4, "eXIf", 4) == 0) {
        r->c->orientation = exif_orientation(chunk + 8, body);
        return ERR_OK;
    }
    if (!(chunk[4] & 32) && checksum(chunk, body) != be32(chunk + 8 + body)) {
        return image_reader_damaged(r, err, "a checksum is wrong");
    }
    if (is_header) {
        return keep_header(r, chunk, body, size, err);
    }
    if (memcmp(chunk + 4, "PLTE", 4) == 0 && rows->len == 0) {
        return image_reader_keep(r, chunk, body + CHUNK_EXTRA, err);
    }
    if (memcmp(chunk + 4, "IDAT", 4) == 0 &&
        ((rows->len == 0 && !str_append(rows, "\0\0\0\0IDAT", 8)) ||
         !str_append(rows, chunk + 8, body))) {
        return err_set(err, ERR_NO_MEMORY, "PNG image");
    }
    if (memcmp(chunk + 4, "IEND", 4) == 0) {
        const int rc = rows->len == 0 ? image_reader_damaged(r, err, "it has no IDAT")
                                      : keep_rows(r, rows, *size, err);

        return rc == ERR_OK ? image_reader_keep(r, chunk, body + CHUNK_EXTRA, err) : rc;
    }
    return ERR_OK;
}

int image_png_read(struct image_reader *r, struct err *err)
{
    struct str rows;
    uint64_t size = 0;
    bool ended = false;
    int rc = image_reader_keep(r, r->data, IMAGE_PNG_MAGIC, err);

    str_init(&rows, IMAGE_MAX_BYTES);
    r->at = IMAGE_PNG_MAGIC;
    while (rc == ERR_OK && !ended) {
        const uint8_t *chunk = r->data + r->at;
        size_t body;

        if (image_reader_left(r) < CHUNK_EXTRA ||
            image_reader_left(r) - CHUNK_EXTRA < be32(chunk)) {
            rc = image_reader_cut_off(r, err);
            break;
        }
        body = be32(chunk);
        rc = read_chunk(r, chunk, body, &rows, &size, err);
        ended = memcmp(chunk + 4, "IEND", 4) == 0;
        r->at += body + CHUNK_EXTRA;
    }
    str_done(&rows);
    return rc;
}
