#include "kernels/convert.h"

#include <string.h>

#include "base/err.h"

/* Exponent and fraction stand one type's bias too low after the shift; a multiplication by a power of two is
 * exact and mends it, for subnormals too. */
float convert_f16(uint16_t bits)
{
    uint32_t u = (uint32_t)(bits & 0x7fff) << 13;
    float f;

    memcpy(&f, &u, sizeof(f));
    f *= 0x1p112F;
    memcpy(&u, &f, sizeof(u));
    u |= (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
    u |= (uint32_t)(bits & 0x8000) << 16;
    memcpy(&f, &u, sizeof(f));
    return f;
}

/* The upper half, rounded; a NaN keeps its quiet bit. */
static uint16_t to_bf16(uint32_t u)
{
    const uint32_t nearest = (u + 0x7fff + ((u >> 16) & 1)) >> 16;

    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : nearest);
}

void convert_round_bf16(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;

        memcpy(&u, &x[i], sizeof(u));
        if (x[i] == x[i]) {
            u = (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000;
        }
        memcpy(&x[i], &u, sizeof(u));
    }
}

static void from_bf16(float *to, const char *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        uint32_t u;

        memcpy(&half, from + 2 * i, sizeof(half));
        u = (uint32_t)half << 16;
        memcpy(to + i, &u, sizeof(u));
    }
}

void convert_to_f32(float *to, const void *from, enum dtype dtype, int64_t n)
{
    switch (dtype) {
    case DTYPE_F32:
        memcpy(to, from, (size_t)n * sizeof(float));
        return;
    case DTYPE_BF16:
        from_bf16(to, from, n);
        return;
    case DTYPE_F16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t half;

            memcpy(&half, (const char *)from + 2 * i, sizeof(half));
            to[i] = convert_f16(half);
        }
        return;
    default:
        CHECK_BUG(!"not a float type");
    }
}

static void bf16_from_f32(uint16_t *to, const char *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;

        memcpy(&u, from + 4 * i, sizeof(u));
        to[i] = to_bf16(u);
    }
}

static void bf16_from_f16(uint16_t *to, const char *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        uint32_t u;
        float f;

        memcpy(&half, from + 2 * i, sizeof(half));
        f = convert_f16(half);
        memcpy(&u, &f, sizeof(u));
        to[i] = to_bf16(u);
    }
}

void convert_floats(void *to, enum dtype to_dtype, const void *from, enum dtype from_dtype,
                    int64_t n)
{
    if (to_dtype == from_dtype) {
        memcpy(to, from, (size_t)n * dtype_size(to_dtype));
    } else if (to_dtype == DTYPE_F32) {
        convert_to_f32(to, from, from_dtype, n);
    } else if (to_dtype == DTYPE_BF16 && from_dtype == DTYPE_F32) {
        bf16_from_f32(to, from, n);
    } else if (to_dtype == DTYPE_BF16 && from_dtype == DTYPE_F16) {
        bf16_from_f16(to, from, n);
    } else {
        CHECK_BUG(!"a conversion between these types");
    }
}
