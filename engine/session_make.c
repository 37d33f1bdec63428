/*
 * Making blocks. Everything here runs twice: dry, to plan, and for real; so nothing looks at tensor
 * data on the host, and callbacks are skipped in the dry run.
 *
 * A block's state is added to the history when the next block starts, not when the block ends: its
 * pictures leave first, the last block's is never computed, and a prompt switch caches the block
 * once, with the new prompt, instead of twice.
 */
#include "engine/session_internal.h"

#include <stdio.h>

#include "kernels/elementwise.h"
#include "kernels/noise.h"

/* Noise streams: 0 starts a video, 1 + step is added after a LongLive step. */
enum {
    NOISE_INITIAL = 0,
    NOISE_AFTER_STEP = 1
};

/* ---- progress and cancel ---- */

/* As session_report() adds it up. A bidirectional clip is denoised whole before its first block; the state
 * of a block-causal block is computed when the next one starts. */
double session_work(const struct session *s, int64_t blocks)
{
    struct geometry_block last;
    struct geometry_block end;
    int64_t denoised;

    if (blocks == 0) {
        return 0;
    }
    last = session_block(s, blocks - 1);
    end = s->causal ? last : session_block(s, s->set.blocks - 1);
    denoised = end.first + end.count;
    return (double)denoised * (s->schedule.steps * (s->guided ? 2 : 1)) +
           (double)(last.first + last.count) * SESSION_DECODE_WORK +
           (double)(s->causal ? last.first : 0);
}

void session_report(struct session *s, enum session_phase phase, int64_t step, int64_t steps,
                    double work)
{
    struct session_progress p = {
        .phase = phase, .step = step, .steps = steps, .block = s->next, .blocks = s->set.blocks};

    s->work_done += work;
    if (s->dev->dry_run || !s->callbacks.on_progress) {
        return;
    }
    p.fraction = s->work_done / s->work_total;
    p.fraction = p.fraction > 1.0 ? 1.0 : p.fraction;
    s->callbacks.on_progress(s->callbacks.ctx, &p);
}

int session_check_cancel(const struct session *s, struct err *err)
{
    const bool cancelled = s->callbacks.cancel && atomic_load(s->callbacks.cancel);

    if (!s->dev->dry_run && (s->stop || cancelled)) {
        return err_set(err, ERR_CANCELLED, "cancelled in block %lld of %lld",
                       (long long)s->next + 1, (long long)s->set.blocks);
    }
    return ERR_OK;
}

/* ---- set-up ---- */

static int encode_prompt(struct session *s, const struct prompt_tokens *tokens,
                         struct transformer_text *ret, struct err *err)
{
    struct tensor embeds;
    int rc = WORKSPACE_F32(&s->ws, &embeds, err, tokens->n_valid,
                           s->model->dir->text_encoder.hidden_size);

    if (rc == ERR_OK) {
        rc = prompt_encode(s->model->text_encoder, tokens, &s->ws, &embeds, err);
    }
    if (rc == ERR_OK) {
        rc = op_check_finite(s->dev, &embeds, "the text encoder", err);
    }
    return rc != ERR_OK ? rc
                        : transformer_encode_text(s->model->transformer, &s->ws, &embeds, ret, err);
}

static int encode_prompts(struct session *s, struct err *err)
{
    const int total = s->n_prompts + (s->guided ? 1 : 0);
    int rc = ERR_OK;

    for (int i = 0; i < total && rc == ERR_OK; i++) {
        const bool negative = i == s->n_prompts;

        rc = session_check_cancel(s, err);
        if (rc == ERR_OK) {
            rc = encode_prompt(s, negative ? &s->negative_tokens : &s->tokens[i],
                               negative ? &s->negative : &s->text[i], err);
        }
        if (rc == ERR_OK) {
            session_report(s, SESSION_TEXT, i + 1, total, 0);
        }
    }
    return rc;
}

/* The picture lives in scratch, its latent stays. */
static int encode_image(struct session *s, struct err *err)
{
    const struct geometry_size *size = &s->set.size;
    struct tensor picture;
    size_t mark;
    int rc = WORKSPACE_F32(&s->ws, &s->image_latent, err, 1, size->latent_height,
                           size->latent_width, s->model->dir->vae.latent_channels);

    if (rc != ERR_OK) {
        return rc;
    }
    mark = workspace_mark(&s->ws);
    rc = session_check_cancel(s, err);
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&s->ws, &picture, err, 1, size->gen_height, size->gen_width, 3);
    }
    if (rc == ERR_OK) {
        rc = device_upload(s->dev, &picture, s->image, err);
    }
    if (rc == ERR_OK) {
        rc = vae_encode_image(s->model->vae, &picture, &s->ws, &s->image_latent, err);
    }
    if (rc == ERR_OK) {
        rc = op_check_finite(s->dev, &s->image_latent, "the vae encoder", err);
    }
    workspace_rewind(&s->ws, mark);
    if (rc == ERR_OK) {
        session_report(s, SESSION_IMAGE, 1, 1, 0);
    }
    return rc;
}

static int set_up_latents(struct session *s, struct err *err)
{
    const struct geometry_size *size = &s->set.size;
    const int64_t patch = s->model->dir->transformer.patch_size;
    const int64_t hw = (size->latent_height / patch) * (size->latent_width / patch);
    const int64_t count = s->causal
                              ? session_block(s, 0).count
                              : geometry_latent_frames(s->set.frames, s->model->dir->vae.stride_t);
    int rc = ERR_OK;

    for (int i = 0; i < (s->overlaps ? 2 : 1) && rc == ERR_OK; i++) {
        rc = WORKSPACE_F32(&s->ws, &s->x[i], err, count, size->latent_height, size->latent_width,
                           s->model->dir->vae.latent_channels);
    }
    for (int i = 0; s->causal && i < (s->guided ? 2 : 1) && rc == ERR_OK; i++) {
        rc = history_init(&s->history[i], s->model->transformer, &s->ws, hw,
                          s->model->dir->defaults.history_blocks, err);
    }
    return rc;
}

int session_set_up(struct session *s, struct err *err)
{
    int rc = set_up_latents(s, err);

    if (rc == ERR_OK) {
        rc = session_set_up_pictures(s, err);
    }
    if (rc == ERR_OK) {
        rc = encode_prompts(s, err);
    }
    if (rc == ERR_OK && s->image) {
        rc = encode_image(s, err);
    }
    s->ready = rc == ERR_OK;
    return rc;
}

/* ---- denoising ---- */

static int fill_noise(struct session *s, int64_t first, int step, const struct tensor *y,
                      struct err *err)
{
    const uint64_t stream = step < 0 ? NOISE_INITIAL : NOISE_AFTER_STEP + (uint64_t)step;

    if (s->hooks.noise) {
        return s->dev->dry_run ? ERR_OK : s->hooks.noise(s->hooks.ctx, first, step, y, err);
    }
    return op_noise(s->dev, y, s->set.seed, stream, first * session_latent_frame_size(s), err);
}

/* Noise after a LongLive step: for the frames the sampler works on. */
static int noise_after_step(void *ctx, int step, const struct tensor *y, struct err *err)
{
    struct session *s = ctx;
    const int64_t first = s->denoiser.in.first_frame + (s->denoiser.in.keep_first ? 1 : 0);

    return fill_noise(s, first, step, y, err);
}

static int prompt_of(const struct session *s, int64_t block)
{
    int i = s->n_prompts - 1;

    while (i > 0 && s->prompt_from[i] > block) {
        i--;
    }
    return i;
}

/* Reserves the solver for latents x of block `block`, of frames first.., and fills x: noise, and the image in
 * front. */
static int start_denoising(struct session *s, const struct tensor *x, int64_t block, int64_t first,
                           struct err *err)
{
    const struct denoiser_input in = {
        .text = {&s->text[prompt_of(s, block)], s->guided ? &s->negative : NULL},
        .history = {s->causal ? history_read(&s->history[0]) : NULL,
                    s->causal && s->guided ? history_read(&s->history[1]) : NULL},
        .guidance_scale = (float)s->set.guidance_scale,
        .first_frame = first,
        .keep_first = s->image && first == 0,
    };
    int rc = fill_noise(s, first, -1, x, err);

    if (rc == ERR_OK && in.keep_first) {
        const struct tensor frame = tensor_slice(x, 0, 1);

        rc = op_copy(s->dev, &frame, &s->image_latent, err);
    }
    if (rc == ERR_OK) {
        rc = denoiser_init(&s->denoiser, s->model->transformer, &s->ws, &in, &s->schedule, x, err);
    }
    s->denoiser.sampler.noise = noise_after_step;
    s->denoiser.sampler.noise_ctx = s;
    return rc;
}

/* Step `step` is done: the host has waited for it. */
static int settle_step(struct session *s, int step, struct err *err)
{
    const double work = (double)s->denoiser.x.dim[0] * (s->guided ? 2 : 1);
    const int rc = device_wait(s->dev, DEVICE_MARK_STEP_A + step % 2, err);

    if (rc == ERR_OK) {
        session_report(s, SESSION_DENOISE, step, s->schedule.steps, work);
    }
    return rc;
}

static int issue_step(struct session *s, int64_t block, struct err *err)
{
    char stage[96];
    int rc = denoiser_step(&s->denoiser, err);

    if (rc == ERR_OK) {
        snprintf(stage, sizeof(stage), "the transformer in block %lld, step %d of %d",
                 (long long)block + 1, s->denoiser.sampler.step, s->schedule.steps);
        rc = op_check_finite(s->dev, &s->denoiser.x, stage, err);
    }
    return rc != ERR_OK
               ? rc
               : device_mark(s->dev, DEVICE_MARK_STEP_A + s->denoiser.sampler.step % 2, err);
}

/* All steps that are left. A GPU always has the next one waiting; what is told is what is done. */
static int denoise(struct session *s, struct err *err)
{
    const int lag = s->dev->kind == DEVICE_CPU ? 0 : 1;
    int told = s->denoiser.sampler.step; /* those of a snapshot count already */
    int rc = ERR_OK;

    while (rc == ERR_OK && !denoiser_finished(&s->denoiser)) {
        rc = session_check_cancel(s, err);
        if (rc == ERR_OK) {
            rc = issue_step(s, s->next, err);
        }
        if (rc == ERR_OK && s->denoiser.sampler.step - told > lag) {
            rc = settle_step(s, ++told, err);
        }
    }
    while (rc == ERR_OK && told < s->denoiser.sampler.step) {
        rc = settle_step(s, ++told, err);
    }
    return rc;
}

int session_begin_clip(struct session *s, struct err *err)
{
    int rc;

    s->denoiser_mark = workspace_mark(&s->ws);
    rc = start_denoising(s, &s->x[0], 0, 0, err);
    s->denoising = rc == ERR_OK;
    return rc;
}

static int denoise_clip(struct session *s, struct err *err)
{
    int rc = s->denoising ? ERR_OK : session_begin_clip(s, err);

    if (rc == ERR_OK) {
        rc = denoise(s, err);
    }
    if (rc == ERR_OK) {
        workspace_rewind(&s->ws, s->denoiser_mark);
        s->denoising = false;
        s->clip_done = true;
    }
    return rc;
}

static int denoise_block(struct session *s, struct err *err)
{
    const struct tensor x = session_block_latents(s, s->next);
    const size_t mark = workspace_mark(&s->ws);
    int rc = start_denoising(s, &x, s->next, session_block(s, s->next).first, err);

    if (rc == ERR_OK) {
        rc = denoise(s, err);
    }
    workspace_rewind(&s->ws, mark);
    return rc;
}

/* ---- carried state ---- */

/* One branch: the t = 0 pass with `text`, then into the history. */
static int push_branch(struct session *s, struct history *h, const struct transformer_text *text,
                       int64_t block, struct err *err)
{
    const struct tensor x = session_block_latents(s, block);
    const int64_t first = session_block(s, block).first;
    const struct transformer_text *old = &s->text[prompt_of(s, block)];
    const struct transformer_state *read = history_read(h);
    int rc = ERR_OK;

    if (s->nvlabs_recache && block == 0 && text != old && text != &s->negative) {
        rc = denoiser_save_state(s->model->transformer, &s->ws, &x, old, NULL, &h->own, first, err);
        read = &h->own;
    }
    if (rc == ERR_OK) {
        rc =
            denoiser_save_state(s->model->transformer, &s->ws, &x, text, read, &h->own, first, err);
    }
    return rc != ERR_OK ? rc : history_push(h, err);
}

/* Issues it without telling. */
static int push_block(struct session *s, int64_t block, struct err *err)
{
    const int prompt = prompt_of(s, s->recache ? block + 1 : block);
    int rc = session_check_cancel(s, err);

    if (rc == ERR_OK) {
        rc = push_branch(s, &s->history[0], &s->text[prompt], block, err);
    }
    if (rc == ERR_OK && s->guided) {
        rc = push_branch(s, &s->history[1], &s->negative, block, err);
    }
    return rc;
}

int session_push_block(struct session *s, int64_t block, struct err *err)
{
    const int rc = push_block(s, block, err);

    if (rc == ERR_OK) {
        session_report(s, SESSION_CACHE, 1, 1, (double)session_block(s, block).count);
    }
    return rc;
}

/* ---- ahead ---- */

/* Issues block `block`, whose predecessor is being decoded, from its predecessor's state to its clean
 * latents, and waits for nothing. */
static int start_ahead(struct session *s, int64_t block, struct err *err)
{
    const struct tensor x = session_block_latents(s, block);
    const size_t mark = workspace_mark(&s->ws);
    int rc;

    device_select(s->dev, DEVICE_STREAM_MAIN);
    rc = push_block(s, block - 1, err);
    if (rc == ERR_OK) {
        rc = start_denoising(s, &x, block, session_block(s, block).first, err);
    }
    while (rc == ERR_OK && !denoiser_finished(&s->denoiser)) {
        rc = issue_step(s, block, err);
    }
    workspace_rewind(&s->ws, mark);
    s->ahead = rc == ERR_OK;
    return rc != ERR_OK ? rc : device_mark(s->dev, DEVICE_MARK_LATENTS, err);
}

/* The block that was issued ahead is s->next by now. */
static int settle_ahead(struct session *s, struct err *err)
{
    const double frames = (double)session_block(s, s->next).count;
    const int branches = s->guided ? 2 : 1;
    const int steps = s->schedule.steps;
    const int rc = device_wait(s->dev, DEVICE_MARK_LATENTS, err);

    s->ahead = false;
    if (rc == ERR_OK) {
        session_report(s, SESSION_CACHE, 1, 1, (double)session_block(s, s->next - 1).count);
        session_report(s, SESSION_DENOISE, steps, steps, frames * steps * branches);
    }
    return rc;
}

/* ---- blocks ---- */

/* Clean latents of block s->next, in x. */
static int make_latents(struct session *s, struct err *err)
{
    int rc = ERR_OK;

    if (!s->causal) {
        return s->clip_done ? ERR_OK : denoise_clip(s, err);
    }
    if (s->ahead) {
        return settle_ahead(s, err);
    }
    if (s->history[0].blocks < s->next) {
        rc = session_push_block(s, s->next - 1, err);
    }
    return rc != ERR_OK ? rc : denoise_block(s, err);
}

/* The decoder goes on when the latents are there; behind its first frame the next block is issued, so that
 * pictures come first and no multiprocessor waits. */
static int make_pictures(struct session *s, struct err *err)
{
    const struct geometry_block b = session_block(s, s->next);
    const int64_t piece = vae_streams(s->model->vae) ? 1 : b.count;
    int64_t picture = b.first_picture;
    int rc = device_mark(s->dev, DEVICE_MARK_LATENTS, err);

    for (int64_t f = 0; f < b.count && rc == ERR_OK; f += piece) {
        device_select(s->dev, DEVICE_STREAM_DECODE);
        rc = f == 0 ? device_follow(s->dev, DEVICE_MARK_LATENTS, err) : ERR_OK;
        if (rc == ERR_OK) {
            rc = session_decode(s, f, &picture, err);
        }
        if (rc == ERR_OK && f == 0 && s->overlaps && s->next + 1 < s->set.blocks) {
            rc = start_ahead(s, s->next + 1, err);
        }
    }
    if (rc == ERR_OK) {
        rc = session_flush(s, err);
    }
    device_select(s->dev, DEVICE_STREAM_MAIN);
    return rc;
}

int session_make_block(struct session *s, struct err *err)
{
    int rc = make_latents(s, err);

    if (rc == ERR_OK) {
        rc = make_pictures(s, err);
    }
    s->next++;
    return rc;
}

int session_next_block(struct session *s, struct geometry_block *ret, struct err *err)
{
    int rc = ERR_OK;

    CHECK_BUG(!session_finished(s) && !s->failed);
    s->busy = true;
    if (!s->ready) {
        rc = session_set_up(s, err);
    }
    if (rc == ERR_OK) {
        rc = session_make_block(s, err);
    }
    s->busy = false;
    s->failed = rc != ERR_OK;
    if (rc == ERR_OK) {
        *ret = session_block(s, s->next - 1);
    }
    return rc;
}

int session_latents(struct session *s, float *out, struct err *err)
{
    struct tensor x;
    int rc;

    if (s->next == 0 || s->failed) {
        return err_set(err, ERR_BUSY, "no block is done");
    }
    x = session_block_latents(s, s->next - 1);
    device_select(s->dev, DEVICE_STREAM_COPY); /* not behind the block that is being made */
    rc = device_download(s->dev, out, &x, err);
    device_select(s->dev, DEVICE_STREAM_MAIN);
    return rc;
}
