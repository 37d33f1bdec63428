/*
 * Device memory and pinned memory: host memory that starts as NaN and is guarded. With ASan it is ASan's;
 * else the bytes up to the next page hold a pattern and then comes a page that cannot be touched.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/hostsim/hostsim_sim.h"

enum {
    PAGE = 4096,
    ALIGN = 256,
};

struct allocation {
    struct allocation *next;
    enum hostsim_memory kind;
    unsigned char *p;
    size_t bytes;
};

static struct allocation *allocations;
static size_t used;

#if HOSTSIM_ASAN
static unsigned char *map(size_t bytes)
{
    void *p;

    return posix_memalign(&p, ALIGN, bytes) == 0 ? (unsigned char *)p : NULL;
}

static void unmap(unsigned char *p, size_t bytes)
{
    (void)bytes;
    free(p);
}

static void check_guards(const struct allocation *a)
{
    (void)a;
}
#else
static size_t pages_of(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

enum {
    PERIOD = 4093, /* a prime: guards in different places differ */
    PATTERN = PERIOD + 2 * PAGE
};

/* The pattern at p and as many bytes from there on as a guard has at most; who copies from one guard to another
 * is seen. */
static const unsigned char *pattern(const unsigned char *p)
{
    static unsigned char bytes[PATTERN];

    if (bytes[0] == 0) {
        for (size_t i = 0; i < PATTERN; i++) {
            bytes[i] = (unsigned char)((i % PERIOD + 1) * 0x9e3779b97f4a7c15U >> 56 | 1);
        }
    }
    return bytes + (uintptr_t)p % PERIOD;
}

static void set_pattern(unsigned char *p, const unsigned char *end)
{
    memcpy(p, pattern(p), (size_t)(end - p));
}

/* A page before, in whose last bytes the pattern is too, and one after. The end is as near to the latter as
 * the alignment lets it. */
static size_t slack_of(size_t bytes)
{
    return (pages_of(bytes) - bytes) / ALIGN * ALIGN;
}

static unsigned char *map(size_t bytes)
{
    const size_t inner = pages_of(bytes);
    unsigned char *p = (unsigned char *)mmap(NULL, inner + (size_t)3 * PAGE, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        return NULL;
    }
    const size_t before = PAGE + slack_of(bytes);

    mprotect(p, PAGE, PROT_NONE);
    mprotect(p + (size_t)2 * PAGE + inner, PAGE, PROT_NONE);
    set_pattern(p + PAGE, p + PAGE + before);
    set_pattern(p + PAGE + before + bytes, p + (size_t)2 * PAGE + inner);
    return p + PAGE + before;
}

static void unmap(unsigned char *p, size_t bytes)
{
    munmap(p - slack_of(bytes) - (size_t)2 * PAGE, pages_of(bytes) + (size_t)3 * PAGE);
}

static void check_bytes(const struct allocation *a, const unsigned char *from,
                        const unsigned char *to)
{
    const unsigned char *right = pattern(from);
    size_t i = 0;

    if (memcmp(from, right, (size_t)(to - from)) == 0) {
        return;
    }
    while (from[i] == right[i]) {
        i++;
    }
    hostsim_bug("byte %td of an allocation of %zu bytes was written to", from + i - a->p, a->bytes);
}

static void check_guards(const struct allocation *a)
{
    const unsigned char *begin = a->p - slack_of(a->bytes) - PAGE;

    check_bytes(a, begin, a->p);
    check_bytes(a, a->p + a->bytes, begin + PAGE + pages_of(a->bytes));
}
#endif

void *hostsim_memory_alloc(enum hostsim_memory kind, size_t bytes)
{
    struct allocation *a;

    if (kind == HOSTSIM_DEVICE && bytes > hostsim_config_get()->memory - used) {
        return NULL;
    }
    a = (struct allocation *)malloc(sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    *a = {allocations, kind, map(bytes), bytes};
    if (a->p == NULL) {
        free(a);
        return NULL;
    }
    memset(a->p, 0xFF, bytes);
    used += kind == HOSTSIM_DEVICE ? bytes : 0;
    allocations = a;
    return a->p;
}

bool hostsim_memory_free(enum hostsim_memory kind, void *p)
{
    for (struct allocation **at = &allocations; *at != NULL; at = &(*at)->next) {
        struct allocation *a = *at;

        if (a->p != p || a->kind != kind) {
            continue;
        }
        check_guards(a);
        used -= kind == HOSTSIM_DEVICE ? a->bytes : 0;
        unmap(a->p, a->bytes);
        *at = a->next;
        free(a);
        return true;
    }
    return false;
}

enum hostsim_memory hostsim_memory_of(const void *p, size_t bytes, bool *ret_inside)
{
    const unsigned char *q = (const unsigned char *)p;

    *ret_inside = false;
    for (const struct allocation *a = allocations; a != NULL; a = a->next) {
        if (q >= a->p - PAGE && q < a->p + a->bytes + PAGE) {
            const size_t offset = (size_t)(q - a->p);

            *ret_inside = q >= a->p && offset <= a->bytes && bytes <= a->bytes - offset;
            if (*ret_inside || (q >= a->p && q < a->p + a->bytes)) {
                return a->kind;
            }
        }
    }
    return HOSTSIM_PAGEABLE;
}

size_t hostsim_memory_used()
{
    return used;
}

void hostsim_memory_check()
{
    for (const struct allocation *a = allocations; a != NULL; a = a->next) {
        check_guards(a);
    }
}

void hostsim_memory_describe(const void *p)
{
    const unsigned char *q = (const unsigned char *)p;

    for (const struct allocation *a = allocations; a != NULL; a = a->next) {
        if (q >= a->p - (ptrdiff_t)2 * PAGE && q < a->p + a->bytes + (ptrdiff_t)2 * PAGE) {
            fprintf(stderr, "hostsim: %p is byte %td of an allocation of %zu bytes\n", p, q - a->p,
                    a->bytes);
        }
    }
}

/* Near an allocation of ours: pointers to an end, or to before a beginning, are no crime. */
static bool is_ours(const unsigned char *p)
{
    for (const struct allocation *a = allocations; a != NULL; a = a->next) {
        if (p >= a->p - PAGE && p <= a->p + a->bytes + PAGE) {
            return true;
        }
    }
    return false;
}

void hostsim_check_argument(const char *kernel, int index, const void *arg, size_t bytes)
{
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;
        unsigned char in_core;

        memcpy(&word, (const char *)arg + i, 8);
        /* Below are sizes and numbers, not addresses of a 64-bit program. */
        if (word < (uint64_t)0x5000 << 32 || word >= (uint64_t)0x8000 << 32 ||
            is_ours((const unsigned char *)word)) {
            continue;
        }
        if (mincore((void *)(word / PAGE * PAGE), 1, &in_core) == 0) {
            hostsim_bug("kernel %s: argument %d, byte %zu: %p is memory of the host", kernel, index,
                        i, (void *)word);
        }
    }
}
