/*
 * temporal_tail.h - the end of the feed-forward: three shifted taps, gate, residual
 *
 *   f_t = r_t + z0_{t-1} + z1_t + z2_{t+1}       z = r [W0 W1 W2]^T, one GEMM of width 3D before
 *   out_t = f_t,  or  out_t += gate[g] * f_t
 *
 *   out    [F * HW, D]          act  out, f32 or of r's type; or f32 in/out with a gate
 *   r      [(F + 1) * HW, D]    act  in; its first frame is the left neighbour of frame 0: the
 *                                    last frame of the previous block, or zeros
 *   z      [(F + 1) * HW, 3D]   act  in, of r's type; of r
 *   gate   [U, D], group [F]    f32, i32  in; both NULL for the plain form
 *
 * Right of the last frame is zero, always (MODEL 4.3). Source: [diffusers GLUMBTempConv], NVlabs
 * CachedGLUMBConvTemp. Errors: ERR_INVALID shape or type. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_TEMPORAL_TAIL_H
#define KERNELS_TEMPORAL_TAIL_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_temporal_tail(struct device *dev, const struct tensor *out,
                                const struct tensor *r, const struct tensor *z, int64_t frames,
                                const struct tensor *gate, const struct tensor *group,
                                struct err *err);

C_END

#endif
