#include "media/image_container.h"

#include <libavutil/crc.h>
#include <string.h>

#include "media/exif.h"
#include "media/image.h"

struct reader {
    struct image_container *c;
    const uint8_t *data;
    size_t len;
    size_t at;
};

const char *image_format_name(enum image_format format)
{
    static const char *const names[] = {"PNG", "JPEG", "WebP"};

    return names[format];
}

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

static uint32_t le16(const uint8_t *p)
{
    return (uint32_t)p[1] << 8 | p[0];
}

static uint32_t le24(const uint8_t *p)
{
    return (uint32_t)p[2] << 16 | le16(p);
}

static uint32_t le32(const uint8_t *p)
{
    return le16(p + 2) << 16 | le16(p);
}

static size_t left(const struct reader *r)
{
    return r->len - r->at;
}

static int damaged(const struct reader *r, struct err *err, const char *what)
{
    return err_set(err, ERR_FORMAT, "the %s image is damaged: %s", image_format_name(r->c->format),
                   what);
}

static int cut_off(const struct reader *r, struct err *err)
{
    return err_set(err, ERR_FORMAT, "the %s image is cut off after %zu bytes",
                   image_format_name(r->c->format), r->len);
}

static int keep(struct reader *r, const uint8_t *data, size_t len, struct err *err)
{
    if (!str_append(&r->c->bare, data, len)) {
        return err_set(err, ERR_NO_MEMORY, "%s image", image_format_name(r->c->format));
    }
    return ERR_OK;
}

static int set_size(struct reader *r, uint32_t width, uint32_t height, struct err *err)
{
    if (width < IMAGE_MIN_SIDE || width > IMAGE_MAX_SIDE || height < IMAGE_MIN_SIDE ||
        height > IMAGE_MAX_SIDE || (uint64_t)width * height > IMAGE_MAX_PIXELS) {
        return err_set(
            err, ERR_INVALID,
            "the %s image is %ux%u; each side must be %d to %d pixels, the whole at most %d "
            "megapixels",
            image_format_name(r->c->format), width, height, IMAGE_MIN_SIDE, IMAGE_MAX_SIDE,
            IMAGE_MAX_PIXELS / 1000000);
    }
    r->c->width = (int)width;
    r->c->height = (int)height;
    return ERR_OK;
}

/* ---- PNG (W3C PNG 3rd edition, section 5): length, name, body, CRC of name and body ---- */

static const uint8_t png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

enum {
    PNG_CHUNK_EXTRA = 12,
    PNG_IHDR_BYTES = 13
};

static int png_keep(struct reader *r, const uint8_t *chunk, size_t body, struct err *err)
{
    const AVCRC *table = av_crc_get_table(AV_CRC_32_IEEE_LE);

    if ((av_crc(table, UINT32_MAX, chunk + 4, body + 4) ^ UINT32_MAX) != be32(chunk + 8 + body)) {
        return damaged(r, err, "a checksum is wrong");
    }
    return keep(r, chunk, body + PNG_CHUNK_EXTRA, err);
}

static int png_read(struct reader *r, struct err *err)
{
    size_t n_data = 0;
    int rc = keep(r, png_magic, sizeof(png_magic), err);

    r->at = sizeof(png_magic);
    while (rc == ERR_OK) {
        const uint8_t *chunk = r->data + r->at;
        size_t body;

        if (left(r) < PNG_CHUNK_EXTRA || left(r) - PNG_CHUNK_EXTRA < be32(chunk)) {
            return cut_off(r, err);
        }
        body = be32(chunk);
        if ((r->c->width == 0) != (memcmp(chunk + 4, "IHDR", 4) == 0)) {
            return damaged(r, err, "it does not start with one IHDR");
        }
        if (r->c->width == 0) {
            if (body != PNG_IHDR_BYTES) {
                return damaged(r, err, "its IHDR has a wrong length");
            }
            rc = set_size(r, be32(chunk + 8), be32(chunk + 12), err);
            rc = rc == ERR_OK ? png_keep(r, chunk, body, err) : rc;
        } else if (memcmp(chunk + 4, "IEND", 4) == 0) {
            return n_data > 0 ? png_keep(r, chunk, body, err) : damaged(r, err, "it has no IDAT");
        } else if (memcmp(chunk + 4, "IDAT", 4) == 0 || memcmp(chunk + 4, "PLTE", 4) == 0) {
            n_data += chunk[4] == 'I';
            rc = png_keep(r, chunk, body, err);
        } else if (memcmp(chunk + 4, "eXIf", 4) == 0) {
            r->c->orientation = exif_orientation(chunk + 8, body);
        }
        r->at += body + PNG_CHUNK_EXTRA;
    }
    return rc;
}

/* ---- JPEG (ITU-T T.81 annex B): FF marker, length, body; entropy-coded data after a SOS ---- */

enum {
    JPEG_SOF0 = 0xc0,
    JPEG_SOF2 = 0xc2,
    JPEG_DHT = 0xc4,
    JPEG_JPG = 0xc8,
    JPEG_DAC = 0xcc,
    JPEG_SOF15 = 0xcf,
    JPEG_RST0 = 0xd0,
    JPEG_RST7 = 0xd7,
    JPEG_SOI = 0xd8,
    JPEG_EOI = 0xd9,
    JPEG_SOS = 0xda,
    JPEG_DQT = 0xdb,
    JPEG_DRI = 0xdd,
    JPEG_DHP = 0xde,
    JPEG_APP0 = 0xe0,
    JPEG_APP1 = 0xe1,
    JPEG_APP14 = 0xee,
    /* An encoder makes about ten; each costs a pass over all pixels, however few bytes it has. */
    JPEG_MAX_SCANS = 100,
};

static int jpeg_frame(struct reader *r, int marker, const uint8_t *body, size_t len,
                      struct err *err)
{
    if (marker > JPEG_SOF2) {
        return err_set(err, ERR_UNSUPPORTED,
                       "lossless, hierarchical and arithmetic-coded JPEG images are not supported");
    }
    if (len < 6 || len < 6 + (size_t)body[5] * 3) {
        return damaged(r, err, "its frame header is too short");
    }
    if (r->c->width != 0) {
        return damaged(r, err, "it has two frame headers");
    }
    if (body[0] != 8) {
        return err_set(err, ERR_UNSUPPORTED, "a JPEG image of %d bits is not supported, only 8",
                       body[0]);
    }
    if (body[5] != 1 && body[5] != 3) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a JPEG image of %d components (CMYK?) is not supported; convert it to RGB",
                       body[5]);
    }
    return set_size(r, be16(body + 3), be16(body + 1), err);
}

static bool jpeg_wanted(int marker, const uint8_t *body, size_t len)
{
    switch (marker) {
    case JPEG_DHT:
    case JPEG_DQT:
    case JPEG_DRI:
    case JPEG_SOS:
        return true;
    case JPEG_APP0: /* both say how to read the components: JFIF YCbCr, Adobe RGB or YCbCr */
        return len >= 5 && memcmp(body, "JFIF", 5) == 0;
    case JPEG_APP14:
        return len >= 12 && memcmp(body, "Adobe", 5) == 0;
    default:
        return marker >= JPEG_SOF0 && marker <= JPEG_SOF2;
    }
}

/* A marker with length and body at r->at; leaves r->at behind it. */
static int jpeg_segment(struct reader *r, int marker, struct err *err)
{
    static const char exif[6] = "Exif\0";
    const uint8_t *start = r->data + r->at;
    const uint8_t head[2] = {0xff, (uint8_t)marker};
    size_t len;
    int rc = ERR_OK;

    if (left(r) < 2 || left(r) < be16(start)) {
        return cut_off(r, err);
    }
    len = be16(start);
    if (len < 2) {
        return damaged(r, err, "a segment of no length");
    }
    const uint8_t *body = start + 2;
    const size_t n = len - 2;

    if (marker >= JPEG_SOF0 && marker <= JPEG_SOF15 && marker != JPEG_DHT && marker != JPEG_JPG &&
        marker != JPEG_DAC) {
        rc = jpeg_frame(r, marker, body, n, err);
    } else if (marker == JPEG_DHP) {
        rc = jpeg_frame(r, JPEG_SOF15, body, n, err);
    } else if (marker == JPEG_APP1 && n > sizeof(exif) && memcmp(body, exif, sizeof(exif)) == 0) {
        r->c->orientation = exif_orientation(body + sizeof(exif), n - sizeof(exif));
    }
    if (rc == ERR_OK && jpeg_wanted(marker, body, n)) {
        rc = keep(r, head, sizeof(head), err);
        rc = rc == ERR_OK ? keep(r, start, len, err) : rc;
    }
    r->at += len;
    return rc;
}

/* Entropy-coded data, up to the next marker that is not a restart. */
static int jpeg_scan(struct reader *r, struct err *err)
{
    const size_t start = r->at;

    while (left(r) >= 2) {
        const uint8_t *p = memchr(r->data + r->at, 0xff, left(r) - 1);

        if (!p) {
            break;
        }
        r->at = (size_t)(p - r->data);
        if (p[1] != 0 && p[1] != 0xff && (p[1] < JPEG_RST0 || p[1] > JPEG_RST7)) {
            return keep(r, r->data + start, r->at - start, err);
        }
        r->at += p[1] == 0xff ? 1 : 2;
    }
    return cut_off(r, err);
}

static int jpeg_read(struct reader *r, struct err *err)
{
    static const uint8_t soi[2] = {0xff, JPEG_SOI};
    static const uint8_t eoi[2] = {0xff, JPEG_EOI};
    int n_scans = 0;
    int rc = keep(r, soi, sizeof(soi), err);

    r->at = sizeof(soi);
    while (rc == ERR_OK) {
        int marker;

        if (left(r) < 2) {
            return cut_off(r, err);
        }
        if (r->data[r->at] != 0xff) {
            return damaged(r, err, "bytes between its segments");
        }
        marker = r->data[r->at + 1];
        if (marker == 0xff) { /* fill */
            r->at++;
            continue;
        }
        r->at += 2;
        if (marker == JPEG_EOI) {
            return n_scans > 0 ? keep(r, eoi, sizeof(eoi), err) : damaged(r, err, "it has no scan");
        }
        if (marker <= 1 || (marker >= JPEG_RST0 && marker <= JPEG_SOI)) {
            return damaged(r, err, "a marker out of place");
        }
        rc = jpeg_segment(r, marker, err);
        if (rc == ERR_OK && marker == JPEG_SOS) {
            n_scans++;
            if (r->c->width == 0) {
                return damaged(r, err, "a scan before the frame header");
            }
            if (n_scans > JPEG_MAX_SCANS) {
                return err_set(err, ERR_INVALID, "the JPEG image has more than %d scans",
                               JPEG_MAX_SCANS);
            }
            rc = jpeg_scan(r, err);
        }
    }
    return rc;
}

/* ---- WebP (RFC 9649): RIFF chunks, padded to even; VP8 or VP8L holds the picture ---- */

enum {
    RIFF_HEAD = 12,
    RIFF_CHUNK_HEAD = 8,
    VP8X_ANIMATION = 0x02
};

static int webp_picture(struct reader *r, const uint8_t *chunk, size_t len, struct err *err)
{
    const bool lossless = chunk[3] == 'L';
    const uint8_t *body = chunk + RIFF_CHUNK_HEAD;
    const size_t padded = len + len % 2;
    uint8_t riff[RIFF_HEAD] = "RIFF\0\0\0\0WEBP";
    uint32_t width;
    uint32_t height;
    int rc;

    if (r->c->bare.len > 0) {
        return damaged(r, err, "it has two pictures");
    }
    if (len < 10 || (lossless && body[0] != 0x2f) ||
        (!lossless && ((body[0] & 1) != 0 || memcmp(body + 3, "\x9d\x01\x2a", 3) != 0))) {
        return damaged(r, err, "its picture does not start as it must");
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
        return damaged(r, err, "its picture is not of the size its header says");
    }
    rc = set_size(r, width, height, err);
    for (int i = 0; i < 4; i++) {
        riff[4 + i] = (uint8_t)((4 + RIFF_CHUNK_HEAD + padded) >> (8 * i));
    }
    rc = rc == ERR_OK ? keep(r, riff, sizeof(riff), err) : rc;
    rc = rc == ERR_OK ? keep(r, chunk, RIFF_CHUNK_HEAD + len, err) : rc;
    return rc == ERR_OK ? keep(r, (const uint8_t *)"", len % 2, err) : rc;
}

static int webp_chunk(struct reader *r, const uint8_t *chunk, size_t len, struct err *err)
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
            return damaged(r, err, "its header is too short or comes too late");
        }
        return set_size(r, le24(body + 4) + 1, le24(body + 7) + 1, err);
    }
    if (memcmp(chunk, "EXIF", 4) == 0) { /* some writers keep JPEG's prefix */
        const size_t skip = len > 6 && memcmp(body, "Exif\0", 6) == 0 ? 6 : 0;

        r->c->orientation = exif_orientation(body + skip, len - skip);
    }
    return ERR_OK;
}

static int webp_read(struct reader *r, struct err *err)
{
    const size_t said = le32(r->data + 4);
    int rc = ERR_OK;

    if (said > r->len - RIFF_CHUNK_HEAD) {
        return cut_off(r, err);
    }
    if (said < 4) {
        return damaged(r, err, "its length is too small");
    }
    r->len = said + RIFF_CHUNK_HEAD; /* bytes behind the file are not its own */
    r->at = RIFF_HEAD;
    while (rc == ERR_OK && left(r) > 0) {
        const uint8_t *chunk = r->data + r->at;
        size_t len;

        if (left(r) < RIFF_CHUNK_HEAD || left(r) - RIFF_CHUNK_HEAD < le32(chunk + 4)) {
            return cut_off(r, err);
        }
        len = le32(chunk + 4);
        rc = webp_chunk(r, chunk, len, err);
        r->at += RIFF_CHUNK_HEAD + len;
        r->at += len % 2 && left(r) > 0;
    }
    if (rc == ERR_OK && r->c->bare.len == 0) {
        return damaged(r, err, "it has no picture");
    }
    return rc;
}

int image_container_read(struct image_container *ret, const uint8_t *data, size_t len,
                         struct err *err)
{
    struct reader r = {.c = ret, .data = data, .len = len};

    *ret = (struct image_container){.orientation = 1};
    str_init(&ret->bare, IMAGE_MAX_BYTES + 64);
    if (len > IMAGE_MAX_BYTES) {
        return err_set(err, ERR_INVALID, "the image has %zu bytes, more than %d MiB", len,
                       IMAGE_MAX_BYTES >> 20);
    }
    if (len >= sizeof(png_magic) && memcmp(data, png_magic, sizeof(png_magic)) == 0) {
        ret->format = IMAGE_PNG;
        return png_read(&r, err);
    }
    if (len >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) {
        ret->format = IMAGE_JPEG;
        return jpeg_read(&r, err);
    }
    if (len >= RIFF_HEAD && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0) {
        ret->format = IMAGE_WEBP;
        return webp_read(&r, err);
    }
    return err_set(err, ERR_FORMAT, "not a PNG, JPEG or WebP image");
}

void image_container_done(struct image_container *c)
{
    str_done(&c->bare);
}
