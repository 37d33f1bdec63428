/*
 * Checkers of the samplers: schedules and solver steps on recorded velocities, whole clips through
 * the transformer, and LongSANA's blocks with carried state and prompt switches.
 */
#include <stdio.h>
#include <string.h>

#include "engine/denoiser.h"
#include "engine/history.h"
#include "engine/vae.h"
#include "kernels/elementwise.h"
#include "tests/golden_runner/support.h"

enum {
    MAX_CHUNKS = 16
};

static int sampler_by_name(const char *name, enum sampler_kind *ret)
{
    static const char *const names[] = {"dpm", "euler", "unipc"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum sampler_kind)i;
            return 1;
        }
    }
    return 0;
}

/* ---- solver steps on recorded model outputs ---- */

struct solver_check {
    struct sampler_schedule schedule;
    struct tensor x, v; /* [..], [steps, ..] */
    float *samples;
};

static int run_solver(struct golden_bench *b, void *ctx, struct err *err)
{
    struct solver_check *k = ctx;
    const int64_t n = tensor_count(&k->x);
    const struct tensor flat = TENSOR_RESHAPE(&k->x, n);
    struct sampler s;
    struct tensor x;
    struct tensor all;
    int rc = golden_place(b, &flat, &x, err);

    if (rc == ERR_OK) {
        rc = golden_place(b, &k->v, &all, err);
    }
    if (rc == ERR_OK) {
        rc = sampler_init(&s, &k->schedule, &b->ws, &x, err);
    }
    for (int i = 0; i < k->schedule.steps && rc == ERR_OK; i++) {
        const struct tensor v = tensor_slice(&all, i, 1);

        rc = sampler_step(&s, &x, &v, err);
        if (rc == ERR_OK) {
            rc = device_download(b->c->dev, k->samples + i * n, &x, err);
        }
    }
    return rc;
}

static int compare_schedule(struct golden_case *c, struct golden_bench *b,
                            const struct sampler_schedule *s, struct err *err)
{
    float *sigma = golden_floats(b, s->steps + 1);
    int rc;

    for (int i = 0; i <= s->steps; i++) {
        sigma[i] = (float)s->sigma[i];
    }
    rc = golden_compare(c, "out.sigmas", sigma, s->steps + 1, err);
    return rc != ERR_OK ? rc : golden_compare(c, "out.timesteps", s->timestep, s->steps, err);
}

int golden_scheduler(struct golden_case *c, struct err *err)
{
    struct sampler_options options = {.steps = (int)golden_number(c, "steps", 0),
                                      .flow_shift = golden_number(c, "shift", 8)};
    struct golden_bench b;
    struct solver_check k;
    int rc = golden_bench_open(&b, c, false, err);

    if (!sampler_by_name(strchr(c->component, '.') + 1, &options.kind)) {
        rc = golden_mismatch(err, "unknown scheduler %s", c->component);
    }
    if (rc == ERR_OK) {
        rc = sampler_schedule_init(&k.schedule, &options, err);
    }
    if (rc == ERR_OK) {
        rc = compare_schedule(c, &b, &k.schedule, err);
    }
    if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.x", &k.x, err);
    }
    if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.model_outputs", &k.v, err);
    }
    if (rc == ERR_OK) {
        k.samples = golden_floats(&b, tensor_count(&k.v));
        rc = golden_run(&b, run_solver, &k, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare(c, "out.samples", k.samples, tensor_count(&k.v), err);
    }
    golden_bench_close(&b);
    return rc;
}

int golden_longlive(struct golden_case *c, struct err *err)
{
    float sigma[LONGLIVE_TABLE];
    float timestep[LONGLIVE_TABLE];
    float index[64];
    float found[64];
    struct tensor query;
    int rc = golden_tensor(c, "in.timesteps_query", &query, err);

    if (rc != ERR_OK || query.dim[0] > 64) {
        return rc != ERR_OK ? rc : golden_mismatch(err, "more than 64 queries");
    }
    sampler_longlive_table(sigma, golden_number(c, "shift", 7));
    for (int j = 0; j < LONGLIVE_TABLE; j++) {
        timestep[j] = sigma[j] * 1000.0F;
    }
    for (int64_t i = 0; i < query.dim[0]; i++) {
        int64_t t;

        memcpy(&t, (const char *)query.data + 8 * i, sizeof(t));
        index[i] = (float)sampler_longlive_index(sigma, (double)t);
        found[i] = sigma[(int)index[i]];
    }
    rc = golden_compare(c, "out.index", index, query.dim[0], err);
    if (rc == ERR_OK) {
        rc = golden_compare(c, "out.sigma", found, query.dim[0], err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare(c, "out.sigmas", sigma, LONGLIVE_TABLE, err);
    }
    return rc != ERR_OK ? rc : golden_compare(c, "out.timesteps", timestep, LONGLIVE_TABLE, err);
}

/* ---- whole clips ---- */

struct clip_check {
    struct sampler_schedule schedule;
    float guidance;
    bool guided;
    struct tensor noise, positive, negative;
    struct tensor image; /* [1, H, W, 3] in [-1, 1]; data NULL: text only */
    struct tensor *per_step;
};

/* Encodes the picture into latent frame 0 of x; the VAE stays open for this call only. */
static int put_image(struct golden_bench *b, const struct clip_check *k, const struct tensor *x,
                     struct err *err)
{
    struct vae *vae = NULL;
    const struct tensor first = tensor_slice(x, 0, 1);
    struct tensor image;
    int rc =
        vae_open(&vae, &b->c->model->vae, b->c->model->vae_weights, b->c->dev, VAE_ENCODER, err);

    if (rc == ERR_OK) {
        rc = golden_place(b, &k->image, &image, err);
    }
    if (rc == ERR_OK) {
        rc = vae_encode_image(vae, &image, &b->ws, &first, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_on_device(b, "out.cond_latent", &first, 1, err);
    }
    vae_close(vae);
    return rc;
}

/* Embeddings of the host to what the transformer reads. */
static int encode_text(struct golden_bench *b, const struct tensor *embeds,
                       struct transformer_text *ret, struct err *err)
{
    struct tensor placed;
    const int rc = golden_place(b, embeds, &placed, err);

    return rc != ERR_OK ? rc : transformer_encode_text(b->tf, &b->ws, &placed, ret, err);
}

static int run_clip(struct golden_bench *b, void *ctx, struct err *err)
{
    struct clip_check *k = ctx;
    struct transformer_text text[2];
    struct denoiser_input in = {.text = {&text[0], k->guided ? &text[1] : NULL},
                                .guidance_scale = k->guidance,
                                .keep_first = k->image.data != NULL};
    struct denoiser d;
    struct tensor x;
    int rc = golden_place(b, &k->noise, &x, err);

    if (rc == ERR_OK) {
        rc = encode_text(b, &k->positive, &text[0], err);
    }
    if (rc == ERR_OK && k->guided) {
        rc = encode_text(b, &k->negative, &text[1], err);
    }
    if (rc == ERR_OK && in.keep_first) {
        rc = put_image(b, k, &x, err);
    }
    if (rc == ERR_OK) {
        rc = denoiser_init(&d, b->tf, &b->ws, &in, &k->schedule, &x, err);
    }
    while (rc == ERR_OK && !denoiser_finished(&d)) {
        const struct tensor *to = &k->per_step[d.sampler.step];

        rc = denoiser_step(&d, err);
        if (rc == ERR_OK) {
            rc = device_download(b->c->dev, to->data, &x, err);
        }
    }
    return rc;
}

static int clip_inputs(struct golden_bench *b, struct clip_check *k, struct err *err)
{
    int rc = golden_latents(b, "in.noise", 0, &k->noise, err);

    if (rc == ERR_OK) {
        rc = golden_text(b, "in.prompt_embeds", "in.prompt_mask", 0, &k->positive, err);
    }
    if (rc == ERR_OK && k->guided) {
        rc = golden_text(b, "in.negative_embeds", "in.negative_mask", 0, &k->negative, err);
    }
    return rc != ERR_OK ? rc : golden_image(b, &k->image, err);
}

static int compare_clip(struct golden_bench *b, const struct clip_check *k, struct err *err)
{
    const int steps = k->schedule.steps;
    const int rc = golden_compare_latents(b, "out.latents_per_step", k->per_step, steps, err);

    return rc != ERR_OK ? rc
                        : golden_compare_latents(b, "out.latents", &k->per_step[steps - 1], 1, err);
}

int golden_sampler(struct golden_case *c, struct err *err)
{
    struct sampler_options options = {.steps = (int)golden_number(c, "steps", 0),
                                      .flow_shift = golden_number(c, "flow_shift", 8)};
    struct golden_bench b;
    struct clip_check k = {.guidance = (float)golden_number(c, "guidance_scale", 1)};
    struct tensor per_step[SAMPLER_MAX_STEPS];
    int rc = golden_bench_open(&b, c, true, err);

    k.guided = k.guidance > 1.0F;
    k.per_step = per_step;
    if (rc == ERR_OK && !sampler_by_name(golden_string(c, "scheduler", ""), &options.kind)) {
        rc = golden_mismatch(err, "unknown scheduler");
    }
    if (rc == ERR_OK) {
        rc = sampler_schedule_init(&k.schedule, &options, err);
    }
    if (rc == ERR_OK) {
        rc = clip_inputs(&b, &k, err);
    }
    for (int i = 0; rc == ERR_OK && i < k.schedule.steps; i++) {
        per_step[i] = k.noise;
        per_step[i].data = golden_floats(&b, tensor_count(&k.noise));
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_clip, &k, err);
    }
    if (rc == ERR_OK) {
        rc = compare_clip(&b, &k, err);
    }
    golden_bench_close(&b);
    return rc;
}

/* ---- LongSANA ---- */

struct long_check {
    struct golden_bench *b;
    struct sampler_schedule schedule;
    int chunks;
    int64_t starts[MAX_CHUNKS + 1];
    int64_t prompt_of[MAX_CHUNKS];
    int64_t prompts;
    int64_t window;
    bool recache;
    int chunk;             /* the one being made, for the noise */
    struct tensor latents; /* [T, h, w, C]: noise in, clean out */
    struct tensor embeds[MAX_CHUNKS];
    struct tensor noise[MAX_CHUNKS][RENOISE_MAX_STEPS];
};

static int recorded_noise(void *ctx, int step, const struct tensor *y, struct err *err)
{
    struct long_check *k = ctx;

    return device_upload(k->b->c->dev, y, k->noise[k->chunk][step].data, err);
}

/* Compares with output `key` if the case has it. */
static int compare_if_there(struct long_check *k, const char *key, const struct tensor *t,
                            struct err *err)
{
    if (k->b->c->dev->dry_run || !safetensors_find(k->b->c->data, key)) {
        return ERR_OK;
    }
    return golden_compare_on_device(k->b, key, t, 1, err);
}

static int run_chunk(struct long_check *k, const struct transformer_text *text, struct history *h,
                     const struct tensor *x, struct err *err)
{
    const struct denoiser_input in = {
        .text = {text}, .history = {history_read(h)}, .first_frame = k->starts[k->chunk]};
    const size_t mark = workspace_mark(&k->b->ws);
    struct denoiser d;
    char key[96];
    int rc = denoiser_init(&d, k->b->tf, &k->b->ws, &in, &k->schedule, x, err);

    d.sampler.noise = recorded_noise;
    d.sampler.noise_ctx = k;
    while (rc == ERR_OK && !denoiser_finished(&d)) {
        const int step = d.sampler.step;

        rc = denoiser_step(&d, err);
        if (rc == ERR_OK) {
            snprintf(key, sizeof(key), "out.chunk%d.step%d.flow", k->chunk, step);
            rc = compare_if_there(k, key, &d.v[0], err);
        }
        if (rc == ERR_OK) {
            snprintf(key, sizeof(key), "out.chunk%d.step%d.x0", k->chunk, step);
            rc = compare_if_there(k, key, &d.sampler.m[0], err);
        }
    }
    workspace_rewind(&k->b->ws, mark);
    return rc;
}

/* Puts block chunk - 1, whose own state stands in h->own, behind us; with another prompt from here on
 * it is cached again first. The recordings reproduce NVlabs' quirk: block 0 does so with its own old
 * state as history. */
static int push_last(struct long_check *k, const struct transformer_text *text, struct history *h,
                     const struct tensor *last, struct err *err)
{
    const int i = k->chunk - 1;
    char key[64];
    int rc = ERR_OK;

    if (k->recache && k->prompt_of[k->chunk] != k->prompt_of[i]) {
        rc = denoiser_save_state(k->b->tf, &k->b->ws, last, text,
                                 i == 0 ? &h->own : history_read(h), &h->own, k->starts[i], err);
        if (rc == ERR_OK) {
            snprintf(key, sizeof(key), "out.recache%d", i);
            rc = golden_compare_state(k->b, key, &h->own, err);
        }
    }
    return rc != ERR_OK ? rc : history_push(h, err);
}

static struct tensor chunk_of(const struct long_check *k, const struct tensor *all, int chunk)
{
    return tensor_slice(all, k->starts[chunk], k->starts[chunk + 1] - k->starts[chunk]);
}

static int run_long(struct golden_bench *b, void *ctx, struct err *err)
{
    struct long_check *k = ctx;
    const int64_t p = b->c->model->transformer.patch_size;
    const int64_t hw = (k->latents.dim[1] / p) * (k->latents.dim[2] / p);
    struct transformer_text text[MAX_CHUNKS];
    struct history h;
    struct tensor all;
    int rc = golden_place(b, &k->latents, &all, err);

    if (rc == ERR_OK) {
        rc = history_init(&h, b->tf, &b->ws, hw, k->window, err);
    }
    for (int64_t i = 0; i < k->prompts && rc == ERR_OK; i++) {
        rc = encode_text(b, &k->embeds[i], &text[i], err);
    }
    for (k->chunk = 0; k->chunk < k->chunks && rc == ERR_OK; k->chunk++) {
        const struct tensor x = chunk_of(k, &all, k->chunk);
        const struct transformer_text *now = &text[k->prompt_of[k->chunk]];
        char key[64];

        if (k->chunk > 0) {
            const struct tensor last = chunk_of(k, &all, k->chunk - 1);

            rc = push_last(k, now, &h, &last, err);
        }
        if (rc == ERR_OK) {
            rc = run_chunk(k, now, &h, &x, err);
        }
        if (rc == ERR_OK) {
            rc = denoiser_save_state(b->tf, &b->ws, &x, now, history_read(&h), &h.own,
                                     k->starts[k->chunk], err);
        }
        if (rc == ERR_OK) {
            snprintf(key, sizeof(key), "out.chunk%d.state", k->chunk);
            rc = golden_compare_state(k->b, key, &h.own, err);
        }
    }
    return rc == ERR_OK ? compare_if_there(k, "out.latents", &all, err) : rc;
}

static int long_inputs(struct golden_bench *b, struct long_check *k, struct err *err)
{
    struct tensor embeds;
    int rc = golden_latents(b, "in.latents", 0, &k->latents, err);

    if (rc == ERR_OK) {
        rc = golden_tensor(b->c, "in.prompt_embeds", &embeds, err);
    }
    k->prompts = rc == ERR_OK && embeds.dim[0] <= MAX_CHUNKS ? embeds.dim[0] : 0;
    for (int64_t i = 0; i < k->prompts && rc == ERR_OK; i++) {
        rc = golden_text(b, "in.prompt_embeds", "in.prompt_mask", i, &k->embeds[i], err);
    }
    for (int c = 0; c < k->chunks; c++) {
        for (int s = 0; s < k->schedule.steps - 1 && rc == ERR_OK; s++) {
            char key[64];

            snprintf(key, sizeof(key), "in.chunk%d.noise%d", c, s);
            rc = golden_latents(b, key, 0, &k->noise[c][s], err);
        }
    }
    return rc;
}

int golden_long(struct golden_case *c, struct err *err)
{
    struct sampler_options options = {.kind = SAMPLER_LONGLIVE,
                                      .flow_shift = golden_number(c, "flow_shift", 7)};
    struct golden_bench b;
    struct long_check k = {.b = &b, .window = (int64_t)golden_number(c, "num_cached_blocks", -1)};
    int64_t steps[RENOISE_MAX_STEPS];
    int rc = golden_bench_open(&b, c, true, err);

    options.n_renoise = golden_ints(c, "denoising_step_list", steps, RENOISE_MAX_STEPS);
    for (int i = 0; i < options.n_renoise; i++) {
        options.renoise[i] = (double)steps[i];
    }
    k.chunks = golden_ints(c, "chunk_starts", k.starts, MAX_CHUNKS + 1) - 1;
    k.recache = golden_bool(c, "recache_on_switch", true);
    golden_ints(c, "chunk_prompt", k.prompt_of, MAX_CHUNKS);
    if (rc == ERR_OK) {
        rc = sampler_schedule_init(&k.schedule, &options, err);
    }
    if (rc == ERR_OK) {
        rc = long_inputs(&b, &k, err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_long, &k, err);
    }
    golden_bench_close(&b);
    return rc;
}
