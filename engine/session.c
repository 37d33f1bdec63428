/*
 * Opening a session: defaults, checks, tokens, and the plan. The plan is the run itself on a dry
 * device: set-up and the first blocks go through all their calls, and the workspace learns its peak.
 */
#include "engine/session_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/size.h"

/* Blocks whose dry runs together reach the peak: the first, longest one, and steady ones behind it. */
enum {
    PLANNED_BLOCKS = 3
};

struct geometry_block session_block(const struct session *s, int64_t index)
{
    return geometry_block(s->set.frames, s->model->dir->vae.stride_t, s->set.block_latent_frames,
                          index);
}

struct tensor session_block_latents(const struct session *s, int64_t index)
{
    const struct geometry_block b = session_block(s, index);

    if (!s->causal) {
        return tensor_slice(&s->x[0], b.first, b.count);
    }
    return tensor_slice(&s->x[s->overlaps ? index % 2 : 0], 0, b.count);
}

void session_set_hooks(struct session *s, const struct session_hooks *hooks)
{
    s->hooks = *hooks;
}

/* ---- the request ---- */

int session_plan_size(const struct model *model, const struct session_request *request,
                      struct geometry_size *ret, struct err *err)
{
    const struct model_defaults *d = &model->dir->defaults;
    const int64_t width = request->width ? request->width : d->width;
    const int64_t height = request->height ? request->height : d->height;

    if ((request->width == 0) != (request->height == 0)) {
        return err_set(err, ERR_INVALID, "size: width and height must be given together");
    }
    return geometry_size(ret, &model->dir->transformer, &model->dir->vae, d->sizes,
                         request->exact_size ? 0 : d->n_sizes, width, height, err);
}

static int resolve_sampler(struct session *s, const struct session_request *request,
                           struct err *err)
{
    const struct model_defaults *d = &s->model->dir->defaults;
    struct sampler_options *o = &s->set.sampler;

    *o = (struct sampler_options){
        .kind = d->sampler,
        .steps = request->steps ? request->steps : d->steps,
        .flow_shift = request->flow_shift != 0 ? request->flow_shift : d->flow_shift,
        .n_renoise = d->n_renoise,
        .bf16_timesteps = d->bf16_timesteps,
    };
    memcpy(o->renoise, d->renoise, sizeof(o->renoise));
    if (o->kind == SAMPLER_LONGLIVE && request->steps != 0 && request->steps != d->n_renoise) {
        return err_set(err, ERR_INVALID, "steps: this model was made for exactly %d steps",
                       d->n_renoise);
    }
    /* The published image pipeline runs with FlowMatch Euler (MODEL 1.6). */
    if (request->image && !s->causal && o->kind != SAMPLER_LONGLIVE) {
        o->kind = SAMPLER_EULER;
    }
    return sampler_schedule_init(&s->schedule, o, err);
}

static int resolve_numbers(struct session *s, const struct session_request *request,
                           struct err *err)
{
    const struct model_defaults *d = &s->model->dir->defaults;

    s->set.guidance_scale = request->has_guidance ? request->guidance_scale : d->guidance_scale;
    if (!(s->set.guidance_scale >= 0 && s->set.guidance_scale <= 20)) {
        return err_set(err, ERR_INVALID, "guidance: %g is not in 0..20", s->set.guidance_scale);
    }
    s->set.motion_score = request->has_motion_score ? request->motion_score : d->motion_score;
    if (s->set.motion_score < 0 || s->set.motion_score > 100) {
        return err_set(err, ERR_INVALID, "motion_score: %d is not in 0..100", s->set.motion_score);
    }
    s->set.frames = request->frames ? request->frames : d->frames;
    s->set.fps = d->fps;
    s->set.seed = request->seed;
    s->set.image = request->image != NULL;
    s->guided = s->set.guidance_scale > 1.0;
    return geometry_check_frames(s->set.frames, err);
}

static int resolve_blocks(struct session *s, struct err *err)
{
    const int64_t total = geometry_latent_frames(s->set.frames, s->model->dir->vae.stride_t);

    s->set.block_latent_frames = s->model->dir->defaults.block_latent_frames;
    if (!vae_streams(s->model->vae)) {
        s->set.block_latent_frames = total; /* decoded whole */
    }
    s->set.blocks = geometry_block_count(total, s->set.block_latent_frames);
    if (s->set.image && (s->causal ? session_block(s, 0).count : total) < 2) {
        return err_set(err, ERR_INVALID, "frames: an image needs at least 2 frames to continue");
    }
    return ERR_OK;
}

static int resolve_settings(struct session *s, const struct session_request *request,
                            struct err *err)
{
    int rc = session_plan_size(s->model, request, &s->set.size, err);

    if (rc == ERR_OK) {
        rc = resolve_sampler(s, request, err);
    }
    if (rc == ERR_OK) {
        rc = resolve_numbers(s, request, err);
    }
    return rc != ERR_OK ? rc : resolve_blocks(s, err);
}

/* ---- prompts ---- */

static int tokenize(struct session *s, const char *what, const char *text,
                    struct prompt_tokens *ret, struct err *err)
{
    const struct model_defaults *d = &s->model->dir->defaults;
    const bool negative = ret == &s->negative_tokens;
    const struct prompt_options options = {
        .chi = negative ? CHI_NONE : d->chi,
        .lower_case = d->lower_case,
        .motion_score = negative ? 0 : s->set.motion_score,
        .max_tokens = d->max_prompt_tokens,
    };

    if (!s->model->tokenizer) {
        return prompt_synthetic(d->max_prompt_tokens, s->model->dir->text_encoder.vocab_size, ret,
                                err);
    }
    if (prompt_tokenize(s->model->tokenizer, text, strlen(text), &options, ret, err) != ERR_OK) {
        return err_prefix(err, "%s", what);
    }
    s->set.prompt_truncated = s->set.prompt_truncated || ret->truncated;
    return ERR_OK;
}

static int check_switches(const struct session *s, const struct session_request *request,
                          struct err *err)
{
    if (request->n_switches > 0 && !s->causal) {
        return err_set(err, ERR_INVALID,
                       "prompt_at: this model denoises all frames together, its prompt "
                       "cannot change within a video");
    }
    if (request->n_switches > SESSION_MAX_SWITCHES) {
        return err_set(err, ERR_INVALID, "prompt_at: %d switches, at most %d", request->n_switches,
                       SESSION_MAX_SWITCHES);
    }
    for (int i = 0; i < request->n_switches; i++) {
        const int64_t block = request->switches[i].block;

        if (block < 1 || block >= s->set.blocks) {
            return err_set(err, ERR_INVALID,
                           "prompt_at: block %lld is not in 1..%lld; this video has %lld blocks",
                           (long long)block, (long long)s->set.blocks - 1,
                           (long long)s->set.blocks);
        }
        if (i > 0 && block <= request->switches[i - 1].block) {
            return err_set(err, ERR_INVALID, "prompt_at: block %lld comes after block %lld",
                           (long long)block, (long long)request->switches[i - 1].block);
        }
    }
    return ERR_OK;
}

static int tokenize_all(struct session *s, const struct session_request *request, struct err *err)
{
    int rc = check_switches(s, request, err);

    if (rc == ERR_OK) {
        rc = tokenize(s, "prompt", request->prompt, &s->tokens[0], err);
    }
    s->n_prompts = 1;
    for (int i = 0; i < request->n_switches && rc == ERR_OK; i++) {
        s->prompt_from[s->n_prompts] = request->switches[i].block;
        rc = tokenize(s, "prompt_at", request->switches[i].text, &s->tokens[s->n_prompts], err);
        s->n_prompts++;
    }
    if (rc == ERR_OK && s->guided) {
        rc =
            tokenize(s, "negative_prompt", request->negative_prompt ? request->negative_prompt : "",
                     &s->negative_tokens, err);
    }
    return rc;
}

/* Everything that needs no device. Only reads the model, which nothing changes. */
static int resolve(struct session *s, const struct model *model,
                   const struct session_request *request, struct err *err)
{
    int rc;

    s->model = model;
    s->causal = model->dir->family == FAMILY_LONGSANA;
    s->recache = !request->keep_old_cache;
    s->nvlabs_recache = request->nvlabs_recache;
    s->image = request->image;
    rc = resolve_settings(s, request, err);
    return rc == ERR_OK ? tokenize_all(s, request, err) : rc;
}

int session_resolve(const struct model *model, const struct session_request *request,
                    struct session_settings *ret, struct err *err)
{
    struct session *s = calloc(1, sizeof(*s));
    int rc;

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "session");
    }
    rc = resolve(s, model, request, err);
    if (rc == ERR_OK) {
        *ret = s->set;
    }
    session_close(s);
    return rc;
}

/* ---- fingerprint ---- */

static void hash(uint64_t *h, const void *data, size_t size)
{
    *h = hash_bytes(*h, data, size);
}

static void hash_number(uint64_t *h, int64_t n)
{
    for (int bit = 0; bit < 64; bit += 8) {
        const uint8_t byte = (uint8_t)((uint64_t)n >> bit);

        hash(h, &byte, 1);
    }
}

static void hash_tokens(uint64_t *h, const struct prompt_tokens *t)
{
    hash(h, &t->list.n, sizeof(t->list.n));
    hash(h, t->list.ids, (size_t)t->list.n * sizeof(t->list.ids[0]));
}

/* Fields one by one: structs have padding. */
static uint64_t fingerprint(const struct session *s)
{
    const struct session_settings *set = &s->set;
    const int64_t numbers[] = {
        set->size.width,
        set->size.height,
        set->size.gen_width,
        set->size.gen_height,
        set->frames,
        (int64_t)set->seed,
        (int64_t)set->sampler.kind,
        s->schedule.steps,
        set->motion_score,
        set->block_latent_frames,
        s->n_prompts,
        s->recache,
        s->nvlabs_recache,
        set->image,
        s->model->dir->transformer.layers,
        s->model->dir->transformer.heads,
        s->model->dir->transformer.head_dim,
        (int64_t)s->model->dir->family,
        s->model->dir->defaults.history_blocks,
        (int64_t)weights_total_bytes(s->model->dir->transformer_weights),
        (int64_t)weights_total_bytes(s->model->dir->text_encoder_weights),
        (int64_t)weights_total_bytes(s->model->dir->vae_weights),
    };
    uint64_t h = HASH_START;

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        hash_number(&h, numbers[i]);
    }
    hash(&h, &set->guidance_scale, sizeof(set->guidance_scale));
    hash(&h, s->schedule.sigma, sizeof(s->schedule.sigma));
    hash(&h, s->schedule.timestep, sizeof(s->schedule.timestep));
    hash(&h, s->schedule.renoise_sigma, sizeof(s->schedule.renoise_sigma));
    hash(&h, s->prompt_from, sizeof(s->prompt_from));
    for (int i = 0; i < s->n_prompts; i++) {
        hash_tokens(&h, &s->tokens[i]);
    }
    hash_tokens(&h, &s->negative_tokens);
    if (s->image) {
        hash(&h, s->image,
             (size_t)(set->size.gen_width * set->size.gen_height * 3) * sizeof(*s->image));
    }
    return h;
}

/* ---- plan ---- */

static int plan_blocks(struct session *s, struct err *err)
{
    int rc = session_set_up(s, err);

    for (int64_t i = 0; i < PLANNED_BLOCKS && i < s->set.blocks && rc == ERR_OK; i++) {
        rc = session_make_block(s, err);
    }
    return rc != ERR_OK ? rc : session_plan_restore(s, err);
}

static int plan(struct session *s, struct err *err)
{
    const struct geometry_size *size = &s->set.size;
    int rc;

    workspace_init(&s->ws, s->dev);
    workspace_init(&s->decoder_ws, s->dev);
    s->dev->dry_run = true;
    rc = vae_stream_open(&s->stream, s->model->vae, size->latent_height, size->latent_width, err);
    if (rc == ERR_OK) {
        rc = plan_blocks(s, err);
    }
    s->dev->dry_run = false;
    vae_stream_close(s->stream);
    s->stream = NULL;
    s->ready = false;
    s->ahead = false;
    s->clip_done = false;
    s->denoising = false;
    s->next = 0;
    s->work_done = 0;
    return rc;
}

static int reserve(struct session *s, size_t limit, struct err *err)
{
    const struct geometry_size *size = &s->set.size;
    const size_t need = s->ws.peak + s->decoder_ws.peak +
                        vae_stream_bytes(s->model->vae, size->latent_height, size->latent_width);
    int rc;

    if (limit > 0 && need > limit) {
        return err_set(err, ERR_NO_VRAM,
                       "this video needs %zu MiB of working memory, the limit is %zu MiB",
                       (need >> 20) + 1, limit >> 20);
    }
    rc = vae_stream_open(&s->stream, s->model->vae, size->latent_height, size->latent_width, err);
    if (rc == ERR_OK) {
        rc = workspace_commit(&s->ws, 0, err);
    }
    return rc == ERR_OK && s->overlaps ? workspace_commit(&s->decoder_ws, 0, err) : rc;
}

static void release(struct session *s)
{
    vae_stream_close(s->stream);
    s->stream = NULL;
    workspace_done(&s->ws);
    workspace_done(&s->decoder_ws);
}

/* What it needs is known, and there. Making the next block while one is decoded takes memory: where that
 * is not to be had, blocks are made one after the other. */
static int plan_and_reserve(struct session *s, size_t limit, struct err *err)
{
    int rc = plan(s, err);

    if (rc == ERR_OK) {
        rc = reserve(s, limit, err);
    }
    if (rc == ERR_NO_VRAM && s->overlaps) {
        release(s);
        s->overlaps = false;
        rc = plan_and_reserve(s, limit, err);
    }
    return rc;
}

int session_open(struct session **ret, struct model *model, const struct session_request *request,
                 const struct session_callbacks *callbacks, struct err *err)
{
    struct session *s = calloc(1, sizeof(*s));
    int rc;

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "session");
    }
    s->dev = model->dev;
    s->callbacks = *callbacks;
    rc = resolve(s, model, request, err);
    if (rc == ERR_OK) {
        s->fingerprint = fingerprint(s);
        s->work_total = session_work(s, s->set.blocks);
        s->overlaps = s->dev->kind != DEVICE_CPU && s->causal && vae_streams(model->vae) &&
                      s->schedule.steps <= SESSION_AHEAD_STEPS;
        rc = plan_and_reserve(s, request->memory_limit, err);
    }
    if (rc != ERR_OK) {
        session_close(s);
        return rc;
    }
    *ret = s;
    return ERR_OK;
}

/* Waits for what is still under way, and drops what op_check_finite() found: the next session must not hear
 * of it. Whatever else went wrong was told, or does not matter any more. */
static void settle(struct device *dev)
{
    struct err unheard;

    for (int i = 0; i < DEVICE_STREAMS; i++) {
        int rc;

        device_select(dev, (enum device_stream)i);
        rc = device_mark(dev, DEVICE_MARK_LATENTS, &unheard);
        if (rc == ERR_OK) {
            rc = device_wait(dev, DEVICE_MARK_LATENTS, &unheard);
        }
        (void)rc;
    }
    device_select(dev, DEVICE_STREAM_MAIN);
}

void session_close(struct session *s)
{
    if (!s) {
        return;
    }
    if (s->dev) {
        settle(s->dev);
    }
    release(s);
    for (int i = 0; i < SESSION_SLOTS && s->dev; i++) {
        device_host_free(s->dev, s->host_yuv[i]);
    }
    for (int i = 0; i < SESSION_PROMPTS; i++) {
        prompt_tokens_done(&s->tokens[i]);
    }
    prompt_tokens_done(&s->negative_tokens);
    free(s);
}

void session_stop(struct session *s)
{
    s->stop = true;
}

const struct session_settings *session_settings(const struct session *s)
{
    return &s->set;
}

size_t session_memory(const struct session *s)
{
    return s->ws.capacity + s->decoder_ws.capacity +
           vae_stream_bytes(s->model->vae, s->set.size.latent_height, s->set.size.latent_width);
}

bool session_finished(const struct session *s)
{
    return s->next >= s->set.blocks;
}

int64_t session_blocks_done(const struct session *s)
{
    return s->next;
}

int64_t session_memory_frames(const struct session *s)
{
    return vae_memory(s->model->vae);
}

int64_t session_latent_frame_size(const struct session *s)
{
    return s->set.size.latent_height * s->set.size.latent_width *
           s->model->dir->vae.latent_channels;
}
