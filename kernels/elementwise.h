/*
 * elementwise.h - small operations over whole tensors of one count. They are f32, or act where it
 * says so.
 *
 *   op_fill            y = value                 y act
 *   op_copy            y = x                     any dtype, same bytes; y is x or apart from it
 *   op_cast            y = x                     y and x act, each of either type
 *   op_silu            y = x / (1 + e^-x)        y and x act, but no f32 of bf16; y may be x
 *   op_linear_combine  y = sum_i coef[i] x[i]    up to 4 terms, in order; y may be any x
 *   op_guide           y = u + scale * (c - u)   classifier-free guidance; y may be u or c
 *   op_add             y = a + b                 y may be a or b
 *   op_check_finite    ERR_NUMERIC "STAGE produced NaN or infinity" if any element of x, act, is
 *                      not finite
 *
 * Errors: ERR_INVALID shape or dtype. Engine thread. Async on a GPU, op_check_finite too: there
 * the next device_wait() for a later mark, or device_download(), reports the first stage that went
 * wrong.
 */
#ifndef KERNELS_ELEMENTWISE_H
#define KERNELS_ELEMENTWISE_H

#include "kernels/device.h"

C_BEGIN

enum {
    LINEAR_COMBINE_MAX = 4
};

MUST_CHECK int op_fill(struct device *dev, const struct tensor *y, float value, struct err *err);
MUST_CHECK int op_copy(struct device *dev, const struct tensor *y, const struct tensor *x,
                       struct err *err);
MUST_CHECK int op_cast(struct device *dev, const struct tensor *y, const struct tensor *x,
                       struct err *err);
MUST_CHECK int op_silu(struct device *dev, const struct tensor *y, const struct tensor *x,
                       struct err *err);
MUST_CHECK int op_linear_combine(struct device *dev, const struct tensor *y, int n,
                                 const float *coef, const struct tensor *const *x, struct err *err);
MUST_CHECK int op_guide(struct device *dev, const struct tensor *y, const struct tensor *u,
                        const struct tensor *c, float scale, struct err *err);
MUST_CHECK int op_add(struct device *dev, const struct tensor *y, const struct tensor *a,
                      const struct tensor *b, struct err *err);
MUST_CHECK int op_check_finite(struct device *dev, const struct tensor *x, const char *stage,
                               struct err *err);

C_END

#endif
