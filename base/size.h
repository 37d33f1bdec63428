/*
 * size.h - size arithmetic on numbers that came from outside: false on overflow.
 */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

static inline MUST_CHECK bool size_mul(size_t *ret, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, ret);
}

static inline MUST_CHECK bool size_add(size_t *ret, size_t a, size_t b)
{
    return !__builtin_add_overflow(a, b, ret);
}

/* Element counts are signed 64 bit so that differences are safe. */
static inline MUST_CHECK bool count_mul(int64_t *ret, int64_t a, int64_t b)
{
    return !__builtin_mul_overflow(a, b, ret);
}

static inline int64_t div_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

#endif
