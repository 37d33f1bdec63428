/*
 * arena.h - host memory for things that live and die together (h2o's pool, Varnish's workspace).
 *
 * One per model, request or job; freed whole. It has a maximum, because what fills it may come
 * from outside. Memory is zeroed. One thread at a time.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/macros.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* owned */
    size_t used;
    size_t max;
};

void arena_init(struct arena *arena, size_t max);
void arena_done(struct arena *arena);

/* Zeroed, 64-byte aligned memory that lives until arena_done; NULL when over the maximum or out of
 * memory, or when count * size overflows. */
void *arena_alloc(struct arena *arena, size_t count, size_t size);

/* A copy of text, likewise. */
char *arena_strdup(struct arena *arena, const char *text);

#endif
