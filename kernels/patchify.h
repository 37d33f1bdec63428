/*
 * patchify.h - between latent grid and tokens; patches of 1 x p x p, tokens n = (t H + y) W + x
 *
 *   op_patchify:   u[n, (c p + i) p + j] = x[t, p y + i, p x + j, c]     channel slowest
 *   op_unpatchify: x[t, p y + i, p x + j, c] = u[n, (i p + j) C + c]     channel fastest
 *
 *   x  [T, p H, p W, C]   f32    u  [T H W, p p C]  act; f32 in unpatchify
 *
 * The two orders differ: the first is a convolution's, the second the model's own
 * (MODEL 3.1, 3.9; GOLDEN trap 1). Errors: ERR_INVALID shape. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_PATCHIFY_H
#define KERNELS_PATCHIFY_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_patchify(struct device *dev, const struct tensor *u, const struct tensor *x,
                           int64_t patch, struct err *err);
MUST_CHECK int op_unpatchify(struct device *dev, const struct tensor *x, const struct tensor *u,
                             int64_t patch, struct err *err);

C_END

#endif
