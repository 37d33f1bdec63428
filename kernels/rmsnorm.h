/*
 * rmsnorm.h - y[r,c] = x[r,c] / sqrt(mean_c(x[r,:]^2) + eps) * (w_offset + w[c])
 *
 *   y  [rows, cols]  act   out; may be x where it is of x's type
 *   x  [rows, cols]  act   in; of y's type or the other one
 *   w  [cols]        f32   in
 *   eps              > 0
 *   w_offset         0, or 1 for Gemma, which stores the difference from 1
 *   residual         true: y += ... instead of y = ...; y is then f32 and not x
 *
 * Used by the transformer for its queries and keys (over the whole row, all heads together) and
 * its caption, and by the text encoder [transformers modeling_gemma2.py]: MODEL 2.4, 3.4, 3.6.
 * Errors: ERR_INVALID shape, dtype or eps; ERR_UNSUPPORTED: a GPU takes rows of at most 6144
 * numbers. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_RMSNORM_H
#define KERNELS_RMSNORM_H

#include "kernels/device.h"

C_BEGIN

struct rmsnorm_params {
    float eps;
    float w_offset;
    bool residual;
};

MUST_CHECK int op_rmsnorm(struct device *dev, const struct tensor *y, const struct tensor *x,
                          const struct tensor *w, const struct rmsnorm_params *params,
                          struct err *err);

C_END

#endif
