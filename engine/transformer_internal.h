/*
 * transformer_internal.h - the pieces of the transformer, for transformer*.c and their tests.
 */
#ifndef ENGINE_TRANSFORMER_INTERNAL_H
#define ENGINE_TRANSFORMER_INTERNAL_H

#include "engine/transformer.h"
#include "kernels/matmul.h"
#include "kernels/rope3d.h"

/* The order of the six parts of a block's modulation (MODEL 3.5). */
enum {
    MOD_SHIFT_MSA,
    MOD_SCALE_MSA,
    MOD_GATE_MSA,
    MOD_SHIFT_MLP,
    MOD_SCALE_MLP,
    MOD_GATE_MLP,
    MOD_PARTS
};

struct transformer_linear {
    struct tensor weight; /* [out, in], F32 or as stored */
    struct tensor bias;   /* [out] F32; data NULL: none */
};

struct transformer_layer {
    struct tensor table; /* [6, D] */
    struct {
        struct transformer_linear q, k, v, out;
        struct tensor norm_q, norm_k; /* [D] */
    } self, cross;
    struct transformer_linear inverted; /* [2M, D] */
    struct tensor depth;                /* [9, 2M] */
    struct tensor depth_bias;           /* [2M] */
    struct transformer_linear point;    /* [D, M], no bias */
    struct tensor temporal;             /* [3D, D] rows: tap -1, 0, +1 */
};

struct transformer {
    struct transformer_config config;
    struct device *dev;      /* borrowed */
    struct weight_pool pool; /* owns the copies */
    int64_t width;           /* heads * head_dim */
    bool rope_bf16;          /* transformer_round_rope_tables */
    struct transformer_linear patch, time1, time2, time_mod, caption1, caption2, proj_out;
    struct tensor caption_norm;       /* [D] */
    struct tensor table;              /* [2, D] of the final layer */
    struct transformer_layer *layers; /* owned */
    float *host;                      /* owned; tables on their way to the device */
    size_t host_capacity;             /* floats */
};

/* One forward in flight: sizes, and what all blocks share. */
struct transformer_run {
    struct transformer *tf;
    struct workspace *ws;
    const struct transformer_call *call;
    int64_t items, frames, height, width; /* token grid */
    int64_t n;                            /* tokens of an item */
    struct rope3d rope;
    int64_t n_times;     /* distinct timesteps */
    struct tensor times; /* [n_times] */
    struct tensor group; /* [items * frames] i32: which of them each frame has */
    struct tensor temb;  /* [n_times, 6D] */
    struct tensor e;     /* [n_times, D] */
};

/* features [U, 256] -> e [U, D] (the embedding) and temb [U, 6D]; each may be looked at. */
MUST_CHECK int transformer_time_embed(struct transformer *tf, struct workspace *ws,
                                      const struct tensor *features, const struct tensor *e,
                                      const struct tensor *temb, struct err *err);

/* embeds [n, caption] -> proj [n, D] and out [n, D] = RMSNorm(proj); proj and out may be one. */
MUST_CHECK int transformer_caption(struct transformer *tf, struct workspace *ws,
                                   const struct tensor *embeds, const struct tensor *proj,
                                   const struct tensor *out, struct err *err);

/* K and V of every layer from y [n, D], the projected and normed caption. */
MUST_CHECK int transformer_text_from_caption(struct transformer *tf, const struct tensor *y,
                                             const struct transformer_text *text, struct err *err);

/* Rope tables of run->frames frames from first_frame on; in the workspace. */
MUST_CHECK int transformer_rope(struct transformer_run *run, int64_t first_frame, struct err *err);

/* The three branches of block l. `ep` says what becomes of the last product: y = or y += gate *.
 * a [items * N, D] is modulated input; y [items * N, D]. */
MUST_CHECK int transformer_self_attention(struct transformer_run *run, int64_t l,
                                          const struct tensor *a, const struct tensor *y,
                                          const struct matmul_epilogue *ep, struct err *err);
MUST_CHECK int transformer_cross_attention(struct transformer_run *run, int64_t l,
                                           const struct tensor *x, const struct tensor *y,
                                           const struct matmul_epilogue *ep, struct err *err);

/* gate NULL: y = FFN(b); else y += gate[group] * FFN(b). y NULL: only saves the tail. */
MUST_CHECK int transformer_feed_forward(struct transformer_run *run, int64_t l,
                                        const struct tensor *b, const struct tensor *y,
                                        const struct tensor *gate, struct err *err);

/* Block l on x [items * N, D], in place. last_state: nothing but the saved state is wanted. */
MUST_CHECK int transformer_block(struct transformer_run *run, int64_t l, const struct tensor *x,
                                 bool last_state, struct err *err);

#endif
