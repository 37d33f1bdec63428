/*
 * adaln.h - the modulation of the transformer's blocks ("adaLN-single")
 *
 * op_modulation: out[p,u,:] = table[p,:] + temb[u,p,:]
 *   out    [P, U, D]  f32  out; slices [U, D] are what op_adaln and a matmul's gate take
 *   table  [P, D]     f32  in; scale_shift_table of the block
 *   temb   [U, P * D] f32  in; one row per distinct timestep. Or [U, D]: the same for every part
 *
 * op_adaln: y[m,:] = LN(x[m,:]) * (1 + scale[g,:]) + shift[g,:],  g = group[m / rows_per_group]
 *   LN(x) = (x - mean) / sqrt(var + eps), no affine
 *   x             [M, D]  f32  in
 *   y             [M, D]  act  out; may be x where it is f32
 *   shift, scale  [U, D]  f32  in
 *   group         [M / rows_per_group]  i32  in; the timestep of each frame
 *
 * Source: [diffusers transformer_sana_video.py], MODEL 3.5. Errors: ERR_INVALID; ERR_UNSUPPORTED:
 * a GPU takes rows of at most 6144 numbers. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_ADALN_H
#define KERNELS_ADALN_H

#include "kernels/device.h"

C_BEGIN

struct adaln_params {
    const struct tensor *shift;
    const struct tensor *scale;
    const struct tensor *group;
    int64_t rows_per_group;
    float eps;
};

MUST_CHECK int op_modulation(struct device *dev, const struct tensor *out,
                             const struct tensor *table, const struct tensor *temb,
                             struct err *err);
MUST_CHECK int op_adaln(struct device *dev, const struct tensor *y, const struct tensor *x,
                        const struct adaln_params *params, struct err *err);

C_END

#endif
