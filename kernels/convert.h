/*
 * convert.h - elements of float types, on the host.
 *
 * bf16 is the upper half of an f32; f16 is IEEE binary16. Conversions up are exact. `from` needs
 * the alignment of its type only where `aligned` memory is the rule; unaligned bytes are fine.
 * Any thread.
 */
#ifndef KERNELS_CONVERT_H
#define KERNELS_CONVERT_H

#include <stdint.h>

#include "kernels/tensor.h"

C_BEGIN

/* to[0..n) = (float)from[0..n). dtype is F32, BF16 or F16. */
void convert_to_f32(float *to, const void *from, enum dtype dtype, int64_t n);

float convert_f16(uint16_t bits);

/* to[0..n) = from[0..n), both F32, BF16 or F16 by their dtypes, to nearest (ties to even) where `to` is
 * BF16; F16 comes from F16 only. Equal dtypes may be of any kind. */
void convert_floats(void *to, enum dtype to_dtype, const void *from, enum dtype from_dtype,
                    int64_t n);

/* Each x[i] becomes the nearest bf16 (ties to even). NaN stays NaN. */
void convert_round_bf16(float *x, int64_t n);

C_END

#endif
