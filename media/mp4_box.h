/*
 * mp4_box.h - finding boxes in an MP4 file in memory (ISO/IEC 14496-12 4.2). Nothing is trusted:
 * a length that does not fit ends the search. Any thread.
 */
#ifndef MEDIA_MP4_BOX_H
#define MEDIA_MP4_BOX_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t mp4_box_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void mp4_box_put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

/* The body of the first box at `path`, four-letter names joined by dots such as "moov.trak.tkhd",
 * each level a plain container; NULL when there is none. Only boxes with 32-bit lengths. */
const uint8_t *mp4_box_find(const uint8_t *data, size_t len, const char *path, size_t *ret_len);

#endif
