/*
 * transformer.h - SANA-Video's diffusion transformer: velocity from noisy latents, text and time
 *
 * Both forms with one code: bidirectional (one block covers everything) and block-causal, where
 * linear attention carries what earlier blocks contributed as a sum of constant size (MODEL 3, 4).
 * Latents are channels-last [T, h, w, C] f32, one sequence per batch item. Everything works in
 * the caller's workspace and can run dry.
 *
 * Source: [diffusers transformer_sana_video.py], NVlabs CachedCausalAttention, CachedGLUMBConvTemp.
 * Engine thread.
 */
#ifndef ENGINE_TRANSFORMER_H
#define ENGINE_TRANSFORMER_H

#include "engine/model_config.h"
#include "engine/weights.h"
#include "kernels/workspace.h"

struct transformer;

/* Loads what the device needs; borrows mapped matrices from `weights`, which must outlive it.
 * Errors: ERR_FORMAT (tensor named), ERR_NO_MEMORY, ERR_NO_VRAM. */
MUST_CHECK int transformer_open(struct transformer **ret, const struct transformer_config *config,
                                struct weights *weights, struct device *dev, struct err *err);

/* Accepts NULL. */
void transformer_close(struct transformer *tf);

/* The rope tables are F32. The reference rounds them to bf16 once a pipeline was moved to bf16 with
 * .to(): its tables are buffers that are cast along (MODEL 11.3). This makes it do the same, to
 * compare with results recorded that way. */
void transformer_round_rope_tables(struct transformer *tf, bool to_bf16);

struct device *transformer_device(const struct transformer *tf);

/* Bytes it copied rather than borrowed. */
size_t transformer_copied_bytes(const struct transformer *tf);

/* One prompt as every layer's cross attention reads it. */
struct transformer_text {
    struct tensor k; /* [layers, n, width] normed keys */
    struct tensor v; /* [layers, n, width] */
};

/* Allocates k and v from ws (they live until it is rewound past them) and fills them from the
 * prompt's embeddings [n, caption_channels]; n >= 1, padding left out. */
MUST_CHECK int transformer_encode_text(struct transformer *tf, struct workspace *ws,
                                       const struct tensor *embeds, struct transformer_text *ret,
                                       struct err *err);

/* What blocks leave behind (MODEL 4.4), for a grid of h x w tokens. */
struct transformer_state {
    struct tensor s;     /* [layers, heads, d, d] sum of v k~^T; rows v, columns k */
    struct tensor k_sum; /* [layers, heads, d] */
    struct tensor tail;  /* [layers, h * w, width] last frame of the temporal convolution's input */
};

/* Allocates from ws; undefined contents. hw: tokens of a frame. */
MUST_CHECK int transformer_state_alloc(struct transformer *tf, struct workspace *ws, int64_t hw,
                                       struct transformer_state *ret, struct err *err);

/* to.s, to.k_sum = a + b (tail is left alone); to may be a. */
MUST_CHECK int transformer_state_add(struct transformer *tf, const struct transformer_state *to,
                                     const struct transformer_state *a,
                                     const struct transformer_state *b, struct err *err);

/* Copies s and k_sum, and the tail. */
MUST_CHECK int transformer_state_copy(struct transformer *tf, const struct transformer_state *to,
                                      const struct transformer_state *from, struct err *err);

/* One sequence of a batch. All of a batch have x of one shape. */
struct transformer_item {
    const struct tensor *x; /* [T, h, w, C] */
    const struct tensor *v; /* out, like x; may be x; NULL: not wanted */
    const struct transformer_text *text;
    const struct transformer_state
        *history; /* sums of earlier blocks and the last one's tail; NULL: none */
    const struct transformer_state
        *save; /* out: this block's own sums and tail; may be history; NULL */
};

enum transformer_tap {
    TRANSFORMER_TAP_TOKENS, /* after the patch embedding, [items * N, width] */
    TRANSFORMER_TAP_BLOCK,  /* after block `layer` */
};

typedef int (*transformer_tap_fn)(void *ctx, enum transformer_tap tap, int64_t layer,
                                  const struct tensor *x, struct err *err);

struct transformer_call {
    int n_items;
    const struct transformer_item *items;
    const float *timesteps; /* [n_items * T] on the host: scheduler units, one per frame */
    int64_t first_frame;    /* absolute position in time of frame 0, latent frames */
    transformer_tap_fn tap; /* for tests; NULL */
    void *tap_ctx;
};

/* One evaluation. Errors: ERR_INVALID shapes, ERR_DEVICE. */
MUST_CHECK int transformer_forward(struct transformer *tf, struct workspace *ws,
                                   const struct transformer_call *call, struct err *err);

#endif
