/*
 * linear_attention.h - the transformer's ReLU linear attention in its carried-state form
 *
 *   q' = relu(rms(q)),  k' = relu(rms(k)),  q~ = rope(q'),  k~ = rope(k')      per head
 *   S      += sum_m v_m k~_m^T        [d, d]  rows: v channel, columns: k channel
 *   k_sum  += sum_m k'_m              [d]     not rotated
 *   o_n    = (S q~_n) / (k_sum . q'_n + eps)
 *
 * rms() is over the whole row (all heads): x * rstd * weight, with rstd from op_rms_rstd.
 *
 * op_rms_rstd:  rstd[m] = 1 / sqrt(mean_c(x[m,c]^2) + eps)
 *   rstd [M] f32 out;  x [M, D] act in
 *
 * op_linear_attention_state: adds one sequence's contribution; the caller zeroes or carries.
 *   s      [heads, d, d]  f32  in/out
 *   k_sum  [heads, d]     f32  in/out
 *   k, v   [N, heads * d] act  in, both alike
 *   qk.rstd [N], qk.weight [heads * d], qk.rope: grid with frames * height * width == N
 *
 * op_linear_attention_out:
 *   o  [N, heads * d]  act  out; may be q
 *   q  [N, heads * d]  act  in, like o
 *   s, k_sum           in
 *
 * act is F32 or BF16; what else there is is f32. The state is f32 and so are all sums (MODEL 3.6, 4.2,
 * 11.2); with BF16, k~ and q~ are rounded to it, as the reference's are. A GPU does d up to 256. Source: [diffusers
 * SanaLinearAttnProcessor3_0], NVlabs LiteLAReLURope / CachedCausalAttention.
 * Errors: ERR_INVALID shape; ERR_UNSUPPORTED d, on a GPU. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_LINEAR_ATTENTION_H
#define KERNELS_LINEAR_ATTENTION_H

#include "kernels/device.h"
#include "kernels/rope3d.h"

C_BEGIN

struct linear_attention_qk {
    const struct tensor *rstd;
    const struct tensor *weight;
    const struct rope3d *rope;
};

MUST_CHECK int op_rms_rstd(struct device *dev, const struct tensor *rstd, const struct tensor *x,
                           float eps, struct err *err);
MUST_CHECK int op_linear_attention_state(struct device *dev, const struct tensor *s,
                                         const struct tensor *k_sum, const struct tensor *k,
                                         const struct tensor *v,
                                         const struct linear_attention_qk *kn, struct err *err);
MUST_CHECK int op_linear_attention_out(struct device *dev, const struct tensor *o,
                                       const struct tensor *q, const struct tensor *s,
                                       const struct tensor *k_sum, float eps,
                                       const struct linear_attention_qk *qn, struct err *err);

C_END

#endif
