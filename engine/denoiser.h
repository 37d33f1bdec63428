/*
 * denoiser.h - one block (or whole clip) from noise to clean latents, one solver step at a time
 *
 * Ties transformer, guidance and sampler together. A caller runs denoiser_step() until
 * denoiser_finished(), and may stop, save or cancel between steps. Guidance evaluates the
 * negative and the positive prompt as one batch, in that order.
 * Engine thread.
 */
#ifndef ENGINE_DENOISER_H
#define ENGINE_DENOISER_H

#include "engine/sampler.h"
#include "engine/transformer.h"

/* Borrowed until the last step. Index 0: positive prompt, 1: negative. */
struct denoiser_input {
    const struct transformer_text *text[2];     /* [1] NULL: no guidance */
    const struct transformer_state *history[2]; /* NULL: no earlier blocks */
    float guidance_scale;                       /* with a negative prompt */
    int64_t first_frame;                        /* absolute, latent frames */
    bool keep_first;                            /* frame 0 of x is given and stays (image) */
};

struct denoiser {
    struct transformer *tf; /* borrowed */
    struct workspace *ws;   /* borrowed */
    struct denoiser_input in;
    struct sampler sampler;
    struct tensor x;    /* [T, h, w, C] caller's: noise at first, clean at the end */
    struct tensor v[2]; /* like x: the guided velocity ends in v[0] */
};

/* Allocates v and the sampler's history from ws. x: caller's, filled before the first step. */
MUST_CHECK int denoiser_init(struct denoiser *d, struct transformer *tf, struct workspace *ws,
                             const struct denoiser_input *in,
                             const struct sampler_schedule *schedule, const struct tensor *x,
                             struct err *err);

bool denoiser_finished(const struct denoiser *d);
MUST_CHECK int denoiser_step(struct denoiser *d, struct err *err);

/* The frames the sampler works on: all, or all but the first. */
struct tensor denoiser_free_frames(const struct denoiser *d, const struct tensor *t);

/* The t = 0 pass over clean latents x that leaves a block's own sums and tail in save (MODEL 4.5). */
MUST_CHECK int denoiser_save_state(struct transformer *tf, struct workspace *ws,
                                   const struct tensor *x, const struct transformer_text *text,
                                   const struct transformer_state *history,
                                   const struct transformer_state *save, int64_t first_frame,
                                   struct err *err);

#endif
