/*
 * vec_math.h - the transcendental functions of the CPU operations, over rows of floats.
 *
 * libm's expf and tanhf are accurate and slow, and scalar calls stop the compiler from vectorising
 * a loop. These are branch-free, so they vectorise. Error: exp over [-87, 88], tanh and SiLU from
 * -87 up below 3e-7 of the result; GELU below 3e-7 of |x|, because the rounding of its sigmoid's
 * argument shows in the negative tail; further left both are below 1e-38 |x|.
 * Same input, same output on any machine that rounds as IEEE 754 asks.
 * in and out may be the same row. Any thread.
 */
#ifndef KERNELS_VEC_MATH_H
#define KERNELS_VEC_MATH_H

#include <stdint.h>
#include <string.h>

#include "base/macros.h"

C_BEGIN

/* e^x; 0 below -87.3, e^88 above 88 (never infinity), NaN stays NaN. */
static inline float vec_exp1(float x)
{
    /* 2^k * e^r with k = round(x / ln 2), |r| <= ln2 / 2; Cephes' polynomial for e^r. */
    const float clamped_high = x > 88.0F ? 88.0F : x;
    const float c = clamped_high < -87.3F ? -87.3F : clamped_high;
    const float shifted = c * 1.44269504F + 12582912.0F; /* 1.5 * 2^23: rounds to integer */
    const float k = shifted - 12582912.0F;
    const float r = c - k * 0.693359375F + k * 2.12194440e-4F;
    float p = 1.9875691500e-4F;
    uint32_t bits;
    float scale;

    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits << 23) + 0x3f800000; /* low bits of `shifted` are k */
    memcpy(&scale, &bits, sizeof(scale));
    p *= scale;
    return x < -87.3F ? 0.0F : p;
}

static inline float vec_silu1(float x)
{
    return x / (1.0F + vec_exp1(-x));
}

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), written as x * sigmoid(2u). */
static inline float vec_gelu_tanh1(float x)
{
    const float u = 0.7978845608F * (x + 0.044715F * x * x * x);

    return x / (1.0F + vec_exp1(-2.0F * u));
}

/* Cephes' split: a polynomial where 1 - 2 / (1 + e^2x) would cancel. */
static inline float vec_tanh1(float x)
{
    const float z = x * x;
    float p = -5.70498872745e-3F;
    float far;

    p = p * z + 2.06390887954e-2F;
    p = p * z - 5.37397155531e-2F;
    p = p * z + 1.33314422036e-1F;
    p = p * z - 3.33332819422e-1F;
    p = p * z * x + x;
    far = 1.0F - 2.0F / (1.0F + vec_exp1(2.0F * x));
    return z < 0.390625F ? p : far;
}

void vec_silu(float *out, const float *in, int64_t n);
void vec_gelu_tanh(float *out, const float *in, int64_t n);

/* Sum and sum of squares in double, in a fixed order. */
double vec_sum(const float *x, int64_t n);
double vec_sum_squares(const float *x, int64_t n);

C_END

#endif
