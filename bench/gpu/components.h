/*
 * components.h - one component of a synthetic model, run once on made-up input, its output on the host.
 *
 * Inputs are the device's own noise, which is the same numbers in either precision. One thread.
 */
#ifndef BENCH_GPU_COMPONENTS_H
#define BENCH_GPU_COMPONENTS_H

#include "engine/model_synthetic.h"
#include "kernels/workspace.h"

enum component {
    COMPONENT_TEXT,        /* a prompt through the text encoder */
    COMPONENT_TRANSFORMER, /* a forward */
    COMPONENT_DECODER,     /* latents to pictures, from the beginning of a video */
    COMPONENT_ENCODER,     /* a picture to a latent frame */
};

/* Latent frames of h x w cells. */
struct component_shape {
    int64_t frames, h, w;
};

struct component_run {
    float *input, *embeds,
        *output; /* owned; input: latents or a picture; embeds: the transformer's */
    int64_t n_input, n_embeds, n_output;
    int64_t output_dims[4];
};

/* Done with component_run_done(), also after an error. Errors: those of the engine, ERR_NO_MEMORY. */
MUST_CHECK int component_run(struct component_run *ret, enum component which, struct model *model,
                             const struct component_shape *shape, struct err *err);
void component_run_done(struct component_run *run);

/* Of a and b; NaN where they are. */
double component_cosine(const struct component_run *a, const struct component_run *b);

/* Of pictures in [-1, 1], dB. */
double component_psnr(const struct component_run *a, const struct component_run *b);

#endif
