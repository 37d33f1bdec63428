/*
 * hash.h - FNV-1a, 64 bits: to tell things apart, not to keep secrets or withstand forgery. Any thread.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* Goes on from h (HASH_START at first) with the bytes of data. */
static inline uint64_t hash_bytes(uint64_t h, const void *data, size_t size)
{
    const uint8_t *p = (const uint8_t *)data;

    for (size_t i = 0; i < size; i++) {
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    }
    return h;
}

#endif
