#include "media/exif.h"

#include <stdbool.h>
#include <string.h>

/*
 * TIFF 6.0 section 2: "II" or "MM", 42, the place of the first directory. A directory is a count
 * and entries of 12 bytes: tag, type, count, value. Orientation is in the first directory, its value
 * in place; no other place in the file is followed, so nothing can lead round in a loop.
 */
enum {
    HEAD = 8,
    ENTRY = 12,
    TAG_ORIENTATION = 0x0112,
    TYPE_SHORT = 3
};

static uint32_t get16(const uint8_t *p, bool little)
{
    return little ? (uint32_t)p[0] | (uint32_t)p[1] << 8 : (uint32_t)p[0] << 8 | (uint32_t)p[1];
}

static uint32_t get32(const uint8_t *p, bool little)
{
    return little ? get16(p, true) | get16(p + 2, true) << 16
                  : get16(p, false) << 16 | get16(p + 2, false);
}

int exif_orientation(const uint8_t *tiff, size_t len)
{
    bool little;
    size_t at;
    size_t n;

    if (len < HEAD || (memcmp(tiff, "II", 2) != 0 && memcmp(tiff, "MM", 2) != 0)) {
        return 1;
    }
    little = tiff[0] == 'I';
    at = get32(tiff + 4, little);
    if (get16(tiff + 2, little) != 42 || at < HEAD || at > len - 2) {
        return 1;
    }
    n = get16(tiff + at, little);
    at += 2;
    for (; n > 0 && len - at >= ENTRY; n--, at += ENTRY) {
        const uint8_t *e = tiff + at;

        if (get16(e, little) == TAG_ORIENTATION) {
            const uint32_t value = get16(e + 8, little);
            const bool valid = get16(e + 2, little) == TYPE_SHORT && get32(e + 4, little) == 1 &&
                               value >= 1 && value <= 8;

            return valid ? (int)value : 1;
        }
    }
    return 1;
}
