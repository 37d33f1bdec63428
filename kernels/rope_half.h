/*
 * rope_half.h - rotary positions in the half-split form, positions 0..S-1
 *
 * op_rope_half_table:  table[s, 0, j] = cos(s * f_j), table[s, 1, j] = sin(s * f_j),
 *                      f_j = theta^(-2j / head_dim), j in [0, head_dim / 2)
 *   table  [S, 2, head_dim / 2]  f32  out
 *
 * op_rope_half: for each row s and head, with halves u, w of the head and c, n = table[s, :, j]:
 *   u'[j] = u[j] c - w[j] n,   w'[j] = w[j] c + u[j] n
 *   x      [S, heads * head_dim]  act  in and out
 *   table  [S, 2, head_dim / 2]   f32  in
 *
 * f and the angles are rounded to f32, as the reference has them; the cosines are exact to f32.
 * bf16 rounds f to bf16 first: what the reference's buffer of frequencies holds after
 * .to(bfloat16).
 * [transformers modeling_gemma2.py], MODEL 2.4.
 * Errors: ERR_INVALID shape, dtype or theta. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_ROPE_HALF_H
#define KERNELS_ROPE_HALF_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_rope_half_table(struct device *dev, const struct tensor *table, float theta,
                                  bool bf16, struct err *err);
MUST_CHECK int op_rope_half(struct device *dev, const struct tensor *x, const struct tensor *table,
                            struct err *err);

C_END

#endif
