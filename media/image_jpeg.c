/*
 * JPEG from outside (ITU-T T.81 annex B): segments of FF, marker, length, body; entropy-coded data after
 * a SOS, up to the next marker. Kept: tables, the frame header, scans, and the two markers that say what
 * the components are.
 */
#include "media/image_container_internal.h"

#include <stdbool.h>
#include <string.h>

#include "media/exif.h"

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

static int jpeg_frame(struct image_reader *r, int marker, const uint8_t *body, size_t len,
                      struct err *err)
{
    if (marker > JPEG_SOF2) {
        return err_set(err, ERR_UNSUPPORTED,
                       "lossless, hierarchical and arithmetic-coded JPEG images are not supported");
    }
    if (len < 6 || len < 6 + (size_t)body[5] * 3) {
        return image_reader_damaged(r, err, "its frame header is too short");
    }
    if (r->c->width != 0) {
        return image_reader_damaged(r, err, "it has two frame headers");
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
    return image_reader_set_size(r, be16(body + 3), be16(body + 1), err);
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
static int jpeg_segment(struct image_reader *r, int marker, struct err *err)
{
    static const char exif[6] = "Exif\0";
    const uint8_t *start = r->data + r->at;
    const uint8_t head[2] = {0xff, (uint8_t)marker};
    size_t len;
    int rc = ERR_OK;

    if (image_reader_left(r) < 2 || image_reader_left(r) < be16(start)) {
        return image_reader_cut_off(r, err);
    }
    len = be16(start);
    if (len < 2) {
        return image_reader_damaged(r, err, "a segment of no length");
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
        rc = image_reader_keep(r, head, sizeof(head), err);
        rc = rc == ERR_OK ? image_reader_keep(r, start, len, err) : rc;
    }
    r->at += len;
    return rc;
}

/* Entropy-coded data, up to the next marker that is not a restart. */
static int jpeg_scan(struct image_reader *r, struct err *err)
{
    const size_t start = r->at;

    while (image_reader_left(r) >= 2) {
        const uint8_t *p = memchr(r->data + r->at, 0xff, image_reader_left(r) - 1);

        if (!p) {
            break;
        }
        r->at = (size_t)(p - r->data);
        if (p[1] != 0 && p[1] != 0xff && (p[1] < JPEG_RST0 || p[1] > JPEG_RST7)) {
            return image_reader_keep(r, r->data + start, r->at - start, err);
        }
        r->at += p[1] == 0xff ? 1 : 2;
    }
    return image_reader_cut_off(r, err);
}

int image_jpeg_read(struct image_reader *r, struct err *err)
{
    static const uint8_t soi[2] = {0xff, JPEG_SOI};
    static const uint8_t eoi[2] = {0xff, JPEG_EOI};
    int n_scans = 0;
    int rc = image_reader_keep(r, soi, sizeof(soi), err);

    r->at = sizeof(soi);
    while (rc == ERR_OK) {
        int marker;

        if (image_reader_left(r) < 2) {
            return image_reader_cut_off(r, err);
        }
        if (r->data[r->at] != 0xff) {
            return image_reader_damaged(r, err, "bytes between its segments");
        }
        marker = r->data[r->at + 1];
        if (marker == 0xff) { /* fill */
            r->at++;
            continue;
        }
        r->at += 2;
        if (marker == JPEG_EOI) {
            return n_scans > 0 ? image_reader_keep(r, eoi, sizeof(eoi), err)
                               : image_reader_damaged(r, err, "it has no scan");
        }
        if (marker <= 1 || (marker >= JPEG_RST0 && marker <= JPEG_SOI)) {
            return image_reader_damaged(r, err, "a marker out of place");
        }
        rc = jpeg_segment(r, marker, err);
        if (rc == ERR_OK && marker == JPEG_SOS) {
            n_scans++;
            if (r->c->width == 0) {
                return image_reader_damaged(r, err, "a scan before the frame header");
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
