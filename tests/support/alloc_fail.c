#include "tests/support/alloc_fail.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_long countdown; /* 0: off */
static atomic_bool fired;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
char *__wrap_strdup(const char *s);

static bool fail_this_one(void)
{
    if (atomic_load(&countdown) <= 0) {
        return false;
    }
    if (atomic_fetch_sub(&countdown, 1) == 1) {
        atomic_store(&fired, true);
        errno = ENOMEM; /* as malloc does */
        return true;
    }
    return false;
}

void *__wrap_malloc(size_t size)
{
    return fail_this_one() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fail_this_one() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fail_this_one() ? NULL : __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fail_this_one() ? NULL : __real_aligned_alloc(align, size);
}

char *__wrap_strdup(const char *s)
{
    return fail_this_one() ? NULL : __real_strdup(s);
}

void alloc_fail_at(long n)
{
    atomic_store(&fired, false);
    atomic_store(&countdown, n);
}

bool alloc_fail_stop(void)
{
    atomic_store(&countdown, 0);
    return atomic_load(&fired);
}

void alloc_fail_hook_cjson(void)
{
    cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = free};

    cJSON_InitHooks(&hooks);
}
