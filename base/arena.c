#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum {
    ARENA_ALIGN = 64,
    ARENA_CHUNK = 64 * 1024
};

struct arena_chunk {
    struct arena_chunk *next;
    size_t used;
    size_t size; /* bytes after the header */
};

void arena_init(struct arena *arena, size_t max)
{
    *arena = (struct arena){.max = max};
}

void arena_done(struct arena *arena)
{
    struct arena_chunk *next;

    for (struct arena_chunk *c = arena->chunks; c; c = next) {
        next = c->next;
        free(c);
    }
    *arena = (struct arena){.max = arena->max};
}

static struct arena_chunk *add_chunk(struct arena *arena, size_t bytes)
{
    const size_t size = bytes > ARENA_CHUNK ? bytes : ARENA_CHUNK;
    struct arena_chunk *c = aligned_alloc(ARENA_ALIGN, ARENA_ALIGN + size);

    if (!c) {
        return NULL;
    }
    memset(c, 0, ARENA_ALIGN + size);
    c->next = arena->chunks;
    c->size = size;
    arena->chunks = c;
    return c;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size)
{
    struct arena_chunk *c = arena->chunks;
    size_t bytes;
    void *p;

    if (!size_mul(&bytes, count, size) || bytes > arena->max - arena->used ||
        bytes > SIZE_MAX - 2 * (size_t)ARENA_ALIGN) {
        return NULL;
    }
    bytes = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (!c || c->size - c->used < bytes) {
        c = add_chunk(arena, bytes);
        if (!c) {
            return NULL;
        }
    }
    p = (char *)c + ARENA_ALIGN + c->used;
    c->used += bytes;
    arena->used += bytes < arena->max - arena->used ? bytes : arena->max - arena->used;
    return p;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = arena_alloc(arena, n, 1);

    return copy ? memcpy(copy, text, n) : NULL;
}
