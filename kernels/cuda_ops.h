/*
 * cuda_ops.h - every operation's CUDA implementation: NAME_cuda() in kernels/NAME.cu.
 *
 * Arguments are those of op_NAME() in kernels/NAME.h, which is the contract. Tensors marked "act" there are
 * F32 or BF16, all of one call alike; sums are in F32 either way.
 */
#ifndef KERNELS_CUDA_OPS_H
#define KERNELS_CUDA_OPS_H

#include "base/err.h"
#include "kernels/tensor.h"

C_BEGIN

struct device;
struct adaln_params;
struct attention_params;
struct channel_norm_params;
struct conv3d_params;
struct linear_attention_qk;
struct matmul_epilogue;
struct rmsnorm_params;
struct space_time_params;

/* X(name, arguments) */
#define CUDA_OPS(X)                                                                                \
    X(modulation, (struct device * dev, const struct tensor *out, const struct tensor *table,      \
                   const struct tensor *temb, struct err *err))                                    \
    X(adaln, (struct device * dev, const struct tensor *y, const struct tensor *x,                 \
              const struct adaln_params *params, struct err *err))                                 \
    X(attention, (struct device * dev, const struct tensor *o, const struct tensor *q,             \
                  const struct tensor *k, const struct tensor *v,                                  \
                  const struct attention_params *params, struct err *err))                         \
    X(channel_affine, (struct device * dev, const struct tensor *y, const struct tensor *x,        \
                       const struct tensor *scale, const struct tensor *shift, struct err *err))   \
    X(channel_norm, (struct device * dev, const struct tensor *y, const struct tensor *x,          \
                     const struct channel_norm_params *params, struct err *err))                   \
    X(conv3d, (struct device * dev, const struct tensor *y, const struct tensor *x,                \
               const struct tensor *w, const struct conv3d_params *params, struct err *err))       \
    X(fill, (struct device * dev, const struct tensor *y, float value, struct err *err))           \
    X(copy,                                                                                        \
      (struct device * dev, const struct tensor *y, const struct tensor *x, struct err *err))      \
    X(cast,                                                                                        \
      (struct device * dev, const struct tensor *y, const struct tensor *x, struct err *err))      \
    X(silu,                                                                                        \
      (struct device * dev, const struct tensor *y, const struct tensor *x, struct err *err))      \
    X(linear_combine, (struct device * dev, const struct tensor *y, int n, const float *coef,      \
                       const struct tensor *const *x, struct err *err))                            \
    X(guide, (struct device * dev, const struct tensor *y, const struct tensor *u,                 \
              const struct tensor *c, float scale, struct err *err))                               \
    X(check_finite,                                                                                \
      (struct device * dev, const struct tensor *x, const char *stage, struct err *err))           \
    X(embed, (struct device * dev, const struct tensor *y, const struct tensor *table,             \
              const struct tensor *ids, float scale, struct err *err))                             \
    X(geglu, (struct device * dev, const struct tensor *y, const struct tensor *gate,              \
              const struct tensor *up, struct err *err))                                           \
    X(glu_dwconv, (struct device * dev, const struct tensor *p, const struct tensor *u,            \
                   const struct tensor *weight, const struct tensor *bias, struct err *err))       \
    X(rms_rstd, (struct device * dev, const struct tensor *rstd, const struct tensor *x,           \
                 float eps, struct err *err))                                                      \
    X(linear_attention_state,                                                                      \
      (struct device * dev, const struct tensor *s, const struct tensor *k_sum,                    \
       const struct tensor *k, const struct tensor *v, const struct linear_attention_qk *kn,       \
       struct err *err))                                                                           \
    X(linear_attention_out, (struct device * dev, const struct tensor *o, const struct tensor *q,  \
                             const struct tensor *s, const struct tensor *k_sum, float eps,        \
                             const struct linear_attention_qk *qn, struct err *err))               \
    X(matmul, (struct device * dev, const struct tensor *y, const struct tensor *x,                \
               const struct tensor *w, const struct matmul_epilogue *ep, struct err *err))         \
    X(noise, (struct device * dev, const struct tensor *y, uint64_t seed, uint64_t stream,         \
              int64_t first, struct err *err))                                                     \
    X(patch, (struct device * dev, const struct tensor *x, const struct tensor *u, int64_t patch,  \
              bool to_patches, struct err *err))                                                   \
    X(resize_crop,                                                                                 \
      (struct device * dev, const struct tensor *out, const struct tensor *in, struct err *err))   \
    X(rmsnorm, (struct device * dev, const struct tensor *y, const struct tensor *x,               \
                const struct tensor *w, const struct rmsnorm_params *params, struct err *err))     \
    X(rope_half_table,                                                                             \
      (struct device * dev, const struct tensor *table, float theta, bool bf16, struct err *err))  \
    X(rope_half,                                                                                   \
      (struct device * dev, const struct tensor *x, const struct tensor *table, struct err *err))  \
    X(space_time_split, (struct device * dev, const struct tensor *y, const struct tensor *x,      \
                         const struct space_time_params *params, struct err *err))                 \
    X(space_time_merge, (struct device * dev, const struct tensor *y, const struct tensor *x,      \
                         const struct space_time_params *params, struct err *err))                 \
    X(frame_interleave,                                                                            \
      (struct device * dev, const struct tensor *y, const struct tensor *x, struct err *err))      \
    X(temporal_tail, (struct device * dev, const struct tensor *out, const struct tensor *r,       \
                      const struct tensor *z, int64_t frames, const struct tensor *gate,           \
                      const struct tensor *group, struct err *err))                                \
    X(timestep_features,                                                                           \
      (struct device * dev, const struct tensor *out, const struct tensor *t, struct err *err))    \
    X(rgb_to_yuv420,                                                                               \
      (struct device * dev, const struct tensor *out, const struct tensor *in, struct err *err))

/* NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define CUDA_OP_MEMBER(name, args) int(*name) args;
struct cuda_ops {
    CUDA_OPS(CUDA_OP_MEMBER)
};

#define CUDA_OP_DECLARE(name, args) int name##_cuda args;
CUDA_OPS(CUDA_OP_DECLARE)

C_END

#endif
