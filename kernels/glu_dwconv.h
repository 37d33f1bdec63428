/*
 * glu_dwconv.h - the middle of the transformer's feed-forward: SiLU, depthwise 3x3, SiLU gate
 *
 *   a = silu(u);  c = depthwise3x3(a) + bias;  p = c[.., :M] * silu(c[.., M:])
 *
 *   p       [F, H, W, M]   act  out; must not overlap u
 *   u       [F, H, W, 2M]  act  in, of p's type; undefined afterwards (the CPU activates it in place)
 *   weight  [9, 2M]        f32  in; taps row by row, channels fastest
 *   bias    [2M]           f32  in
 *
 * Zero padding of 1 inside each frame, on the activated tensor (so padding is 0). First half of
 * the channels is the value, second half the gate.
 * Source: [diffusers GLUMBTempConv], MODEL 3.8. Errors: ERR_INVALID shape. Engine thread. Async on
 * a GPU.
 */
#ifndef KERNELS_GLU_DWCONV_H
#define KERNELS_GLU_DWCONV_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_glu_dwconv(struct device *dev, const struct tensor *p, const struct tensor *u,
                             const struct tensor *weight, const struct tensor *bias,
                             struct err *err);

C_END

#endif
