/*
 * rope3d.h - tables of the transformer's 3-D rotary embedding, one per axis.
 *
 * head_dim channels are split t, h, w: h and w get 2 * floor(head_dim / 6) each, t the rest. Pair j
 * of an axis of width d at position p turns by p * 10000^(-2j / d), computed in double, stored as
 * f32 (cos, sin). A token (t, y, x) of the grid uses rows t, y and x; pairs are interleaved:
 * (a, b) = (v[2j], v[2j+1]) -> (a cos - b sin, a sin + b cos).
 *
 * Positions in time are absolute, so a carried state stays valid (MODEL 3.3, 4.7).
 * Source: [diffusers transformer_sana_video.py: WanRotaryPosEmbed], NVlabs casual_wan_rope.
 */
#ifndef KERNELS_ROPE3D_H
#define KERNELS_ROPE3D_H

#include "kernels/tensor.h"

C_BEGIN

/* The grid of tokens and where its angles are; plain data, tensors borrowed. */
struct rope3d {
    int64_t frames, height, width; /* token grid */
    struct tensor t;               /* [frames, t_pairs, 2] f32 */
    struct tensor h;               /* [height, hw_pairs, 2] f32 */
    struct tensor w;               /* [width, hw_pairs, 2] f32 */
};

/* Pairs per axis for a head. */
static inline int64_t rope3d_hw_pairs(int64_t head_dim)
{
    return head_dim / 6;
}

static inline int64_t rope3d_t_pairs(int64_t head_dim)
{
    return head_dim / 2 - 2 * (head_dim / 6);
}

/* out[n, pairs, 2] on the host for positions first..first+n-1. Any thread. */
void rope3d_fill(float *out, int64_t first, int64_t n, int64_t pairs);

C_END

#endif
