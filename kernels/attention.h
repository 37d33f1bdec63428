/*
 * attention.h - softmax attention, o_h[i] = sum_j softmax_j( cap(scale * q_h[i] . k_g[j]) ) v_g[j]
 *
 *   o  [Lq, heads * head_dim]      act  out; may alias q
 *   q  [Lq, heads * head_dim]      act  in
 *   k  [Lk, kv_heads * head_dim]   act  in
 *   v  [Lk, kv_heads * head_dim]   act  in
 *   act is F32 or BF16, all four alike; sums and softmax are in F32.
 *   scale     multiplies q . k
 *   softcap   > 0: cap(s) = softcap * tanh(s / softcap), before the mask; 0: cap(s) = s
 *   causal    key j is visible to query i iff j <= i (needs Lq == Lk)
 *   window    > 0 with causal: and iff j > i - window
 *
 * Query head h reads key/value head g = h / (heads / kv_heads). Keys that are padding are left
 * out by passing fewer rows. One sequence per call. A GPU does heads of up to 512 channels.
 *
 * Used by the transformer's cross attention (MODEL: softmax over the prompt's tokens), by the
 * text encoder (Gemma 2: grouped heads, soft cap, sliding window) and by the Wan VAE's mid block (one head).
 * Errors: ERR_INVALID shape; ERR_UNSUPPORTED head_dim, on a GPU. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_ATTENTION_H
#define KERNELS_ATTENTION_H

#include "kernels/device.h"

C_BEGIN

struct attention_params {
    int64_t heads;
    int64_t kv_heads;
    float scale;
    float softcap;
    bool causal;
    int64_t window;
};

MUST_CHECK int op_attention(struct device *dev, const struct tensor *o, const struct tensor *q,
                            const struct tensor *k, const struct tensor *v,
                            const struct attention_params *params, struct err *err);

C_END

#endif
