#include "engine/denoiser.h"

#include "base/err.h"
#include "kernels/elementwise.h"

enum {
    MAX_LATENT_FRAMES = 4096
};

struct tensor denoiser_free_frames(const struct denoiser *d, const struct tensor *t)
{
    return d->in.keep_first ? tensor_slice(t, 1, t->dim[0] - 1) : *t;
}

int denoiser_init(struct denoiser *d, struct transformer *tf, struct workspace *ws,
                  const struct denoiser_input *in, const struct sampler_schedule *schedule,
                  const struct tensor *x, struct err *err)
{
    struct tensor free_frames;
    int rc;

    *d = (struct denoiser){.tf = tf, .ws = ws, .in = *in, .x = *x};
    if (x->dim[0] > MAX_LATENT_FRAMES || (in->keep_first && x->dim[0] < 2)) {
        return err_set(err, ERR_INVALID,
                       "frames: %lld latent frames in one piece are not in %d..%d",
                       (long long)x->dim[0], in->keep_first ? 2 : 1, MAX_LATENT_FRAMES);
    }
    rc = workspace_tensor(ws, &d->v[0], DTYPE_F32, 4, x->dim, err);
    if (rc == ERR_OK && in->text[1]) {
        rc = workspace_tensor(ws, &d->v[1], DTYPE_F32, 4, x->dim, err);
    }
    free_frames = denoiser_free_frames(d, x);
    return rc != ERR_OK ? rc : sampler_init(&d->sampler, schedule, ws, &free_frames, err);
}

bool denoiser_finished(const struct denoiser *d)
{
    return sampler_finished(&d->sampler);
}

/* Velocity of all frames at the sampler's timestep, into v[0]. */
static int evaluate(struct denoiser *d, struct err *err)
{
    const int n = d->in.text[1] ? 2 : 1;
    const int64_t frames = d->x.dim[0];
    const float t = d->sampler.schedule.timestep[d->sampler.step];
    struct transformer_item items[2] = {0};
    float times[2 * MAX_LATENT_FRAMES];
    const struct transformer_call call = {
        .n_items = n, .items = items, .timesteps = times, .first_frame = d->in.first_frame};
    int rc;

    for (int i = 0; i < n; i++) {
        const int which = n == 2 ? 1 - i : 0; /* negative first */

        items[i] = (struct transformer_item){.x = &d->x,
                                             .v = &d->v[which],
                                             .text = d->in.text[which],
                                             .history = d->in.history[which]};
        for (int64_t f = 0; f < frames; f++) {
            times[i * frames + f] = d->in.keep_first && f == 0 ? 0.0F : t;
        }
    }
    rc = transformer_forward(d->tf, d->ws, &call, err);
    if (rc == ERR_OK && n == 2) {
        rc = op_guide(d->ws->dev, &d->v[0], &d->v[1], &d->v[0], d->in.guidance_scale, err);
    }
    return rc;
}

int denoiser_step(struct denoiser *d, struct err *err)
{
    const struct tensor x = denoiser_free_frames(d, &d->x);
    struct tensor v;
    int rc = evaluate(d, err);

    if (rc != ERR_OK) {
        return rc;
    }
    v = denoiser_free_frames(d, &d->v[0]);
    return sampler_step(&d->sampler, &x, &v, err);
}

int denoiser_save_state(struct transformer *tf, struct workspace *ws, const struct tensor *x,
                        const struct transformer_text *text,
                        const struct transformer_state *history,
                        const struct transformer_state *save, int64_t first_frame, struct err *err)
{
    static const float zeros[MAX_LATENT_FRAMES];
    const struct transformer_item item = {.x = x, .text = text, .history = history, .save = save};
    const struct transformer_call call = {
        .n_items = 1, .items = &item, .timesteps = zeros, .first_frame = first_frame};

    CHECK_BUG(x->dim[0] <= MAX_LATENT_FRAMES);
    return transformer_forward(tf, ws, &call, err);
}
