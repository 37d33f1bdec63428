#include "kernels/convert.h"

#include <string.h>

#include "base/err.h"

float convert_f16(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = (bits >> 10) & 31;
    uint32_t fraction = bits & 1023;
    uint32_t u;
    float f;

    if (exponent == 31) {
        u = sign | 0x7f800000 | fraction << 13;
    } else if (exponent > 0) {
        u = sign | (exponent + 112) << 23 | fraction << 13;
    } else if (fraction == 0) {
        u = sign;
    } else { /* subnormal: shift the leading one into place */
        exponent = 113;
        while (!(fraction & 1024)) {
            fraction <<= 1;
            exponent--;
        }
        u = sign | exponent << 23 | (fraction & 1023) << 13;
    }
    memcpy(&f, &u, sizeof(f));
    return f;
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
