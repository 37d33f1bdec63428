/*
 * text_encoder.h - Gemma 2 as a text encoder: token ids in, last hidden states out.
 *
 * Computes what transformers' Gemma2Model computes for the valid tokens of a right-padded prompt.
 * Pads are not computed at all: attention is causal, so no valid token sees one. Float32 with the
 * weights in their own type; soft cap before the mask; layers 0, 2, 4, ... have the sliding window.
 * MODEL 2.3, 2.4; tensor names as in text_encoder/ of a published directory.
 *
 * Engine thread.
 */
#ifndef ENGINE_TEXT_ENCODER_H
#define ENGINE_TEXT_ENCODER_H

#include "engine/model_config.h"
#include "engine/weights.h"
#include "kernels/workspace.h"

struct text_encoder;

/* A copy of the residual stream as layer `layer` leaves it; for tests. */
struct text_encoder_tap {
    int64_t layer;
    struct tensor to; /* [n, hidden_size] f32 out */
};

/* Takes its tensors from w, which must live longer, as must dev. With attn_logit_softcapping 0 in
 * the config there is no soft cap.
 * Errors: ERR_FORMAT (a tensor is missing or has another shape), ERR_NO_MEMORY. */
MUST_CHECK int text_encoder_open(struct text_encoder **ret, const struct gemma2_config *config,
                                 struct weights *w, struct device *dev, struct err *err);

/* Accepts NULL. */
void text_encoder_close(struct text_encoder *enc);

const struct gemma2_config *text_encoder_config(const struct text_encoder *enc);

/* The rotary frequencies are f32. The reference's are a buffer that .to(bfloat16) rounds, and that
 * moving back does not restore (MODEL 11.3). This makes it round likewise, to compare with results
 * recorded that way. */
void text_encoder_round_rope_frequencies(struct text_encoder *enc, bool to_bf16);

/* ids [n] on the host, at positions 0..n-1; out [n, hidden_size] f32, after the final norm.
 * Activations are taken from ws and given back; tap may be NULL. Runs dry with its device.
 * Errors: ERR_INVALID (no ids, an id outside the vocabulary, shape of out). */
MUST_CHECK int text_encoder_forward(struct text_encoder *enc, const int32_t *ids, int64_t n,
                                    struct workspace *ws, const struct tensor *out,
                                    const struct text_encoder_tap *tap, struct err *err);

#endif
