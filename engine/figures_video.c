/*
 * Videos and their parts. A session's first run finds algorithms and loads kernels; the second is measured, as a
 * request to a daemon that has been running is.
 */
#include "engine/figures.h"

#include <stdlib.h>

#include "base/clock.h"
#include "kernels/elementwise.h"
#include "kernels/noise.h"

enum {
    MAX_STAMPS = 64,
    BLOCKS = 3, /* that are timed */
    BLOCKS_QUICK = 1,
    STEPS = 6, /* of the clip; the first does not count */
    STEPS_QUICK = 4,
    STEPS_TOLD = 50,
    CLIP_FRAMES = 81,
    MINUTE_FRAMES = 961,
    MAX_FRAMES = 32 /* latent, of a forward */
};

/* ---- parts ---- */

/* What was timed must have been numbers. */
static int check_result(struct figures *f, const struct tensor *y, const char *stage,
                        struct err *err)
{
    int rc = op_check_finite(f->dev, y, stage, err);

    if (rc == ERR_OK) {
        rc = device_mark(f->dev, DEVICE_MARK_STEP_A, err);
    }
    return rc == ERR_OK ? device_wait(f->dev, DEVICE_MARK_STEP_A, err) : rc;
}

struct forward_job {
    struct transformer *tf;
    struct workspace ws;
    struct figures_forward shape;
    struct tensor x[2], v[2];
    struct transformer_text text[2];
    float times[2 * MAX_FRAMES];
};

static int set_up_item(struct forward_job *j, const struct model *model, int i, struct err *err)
{
    const struct model_dir *dir = model->dir;
    struct tensor embeds;
    int rc = WORKSPACE_F32(&j->ws, &j->x[i], err, j->shape.frames, j->shape.h, j->shape.w,
                           dir->transformer.in_channels);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&j->ws, &j->v[i], err, j->shape.frames, j->shape.h, j->shape.w,
                           dir->transformer.in_channels);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&j->ws, &embeds, err, dir->defaults.max_prompt_tokens,
                           dir->transformer.caption_channels);
    }
    if (rc == ERR_OK) {
        rc = op_noise(j->ws.dev, &j->x[i], 1, (uint64_t)i, 0, err);
    }
    if (rc == ERR_OK) {
        rc = op_noise(j->ws.dev, &embeds, 2, (uint64_t)i, 0, err);
    }
    return rc == ERR_OK ? transformer_encode_text(j->tf, &j->ws, &embeds, &j->text[i], err) : rc;
}

/* A call with a tap is not recorded. */
static int no_tap(void *ctx, enum transformer_tap tap, int64_t layer, const struct tensor *x,
                  struct err *err)
{
    (void)ctx;
    (void)tap;
    (void)layer;
    (void)x;
    (void)err;
    return ERR_OK;
}

static int issue_forward(void *ctx, struct err *err)
{
    struct forward_job *j = ctx;
    const struct transformer_item items[2] = {
        {.x = &j->x[0], .v = &j->v[0], .text = &j->text[0]},
        {.x = &j->x[1], .v = &j->v[1], .text = &j->text[1]},
    };
    const struct transformer_call call = {
        .n_items = j->shape.n_items,
        .items = items,
        .timesteps = j->times,
        .tap = j->shape.unrecorded ? no_tap : NULL,
    };

    return transformer_forward(j->tf, &j->ws, &call, err);
}

static int set_up_forward(struct forward_job *j, const struct model *model, struct err *err)
{
    int rc = ERR_OK;

    for (int i = 0; i < j->shape.n_items && rc == ERR_OK; i++) {
        rc = set_up_item(j, model, i, err);
    }
    return rc;
}

static int plan_forward(struct forward_job *j, const struct model *model, struct err *err)
{
    int rc;

    j->ws.dev->dry_run = true;
    rc = set_up_forward(j, model, err);
    if (rc == ERR_OK) {
        rc = issue_forward(j, err);
    }
    j->ws.dev->dry_run = false;
    return rc == ERR_OK ? workspace_commit(&j->ws, 0, err) : rc;
}

int figures_time_forward(struct figures *f, struct model *model,
                         const struct figures_forward *shape, double *ret_ms, struct err *err)
{
    struct forward_job j = {.tf = model->transformer, .shape = *shape};
    int rc;

    CHECK_BUG(shape->n_items <= 2 && shape->frames <= MAX_FRAMES);
    for (int i = 0; i < 2 * MAX_FRAMES; i++) {
        j.times[i] = 900;
    }
    workspace_init(&j.ws, f->dev);
    rc = plan_forward(&j, model, err);
    if (rc == ERR_OK) {
        rc = set_up_forward(&j, model, err);
    }
    if (rc == ERR_OK) {
        rc = figures_time(f, issue_forward, &j, ret_ms, err);
    }
    if (rc == ERR_OK) {
        rc = check_result(f, &j.v[0], "the transformer", err);
    }
    workspace_done(&j.ws);
    return rc;
}

struct decode_job {
    struct vae_stream *stream;
    struct workspace ws;
    struct tensor z, out;
};

static int issue_decode(void *ctx, struct err *err)
{
    struct decode_job *j = ctx;

    return vae_decode(j->stream, &j->z, &j->ws, &j->out, err);
}

static int set_up_decode(struct decode_job *j, const struct model *model, const int64_t dims[3],
                         struct err *err)
{
    const struct vae_config *c = &model->dir->vae;
    int rc = vae_stream_open(&j->stream, model->vae, dims[1], dims[2], err);

    if (rc == ERR_OK && vae_streams(model->vae)) {
        rc = vae_stream_reset(j->stream, true, err);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&j->ws, &j->z, err, dims[0], dims[1], dims[2], c->latent_channels);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&j->ws, &j->out, err, vae_stream_frames(j->stream, dims[0]),
                           dims[1] * c->stride_s, dims[2] * c->stride_s, 3);
    }
    return rc == ERR_OK ? op_noise(j->ws.dev, &j->z, 4, 0, 0, err) : rc;
}

static int plan_decode(struct decode_job *j, const struct model *model, const int64_t dims[3],
                       struct err *err)
{
    int rc;

    j->ws.dev->dry_run = true;
    rc = set_up_decode(j, model, dims, err);
    if (rc == ERR_OK) {
        rc = issue_decode(j, err);
    }
    j->ws.dev->dry_run = false;
    vae_stream_close(j->stream);
    j->stream = NULL;
    return rc == ERR_OK ? workspace_commit(&j->ws, 0, err) : rc;
}

int figures_time_decode(struct figures *f, struct model *model, int64_t frames, int64_t h,
                        int64_t w, double *ret_ms, struct err *err)
{
    const int64_t dims[3] = {frames, h, w};
    struct decode_job j = {0};
    int rc;

    workspace_init(&j.ws, f->dev);
    rc = plan_decode(&j, model, dims, err);
    if (rc == ERR_OK) {
        rc = set_up_decode(&j, model, dims, err);
    }
    if (rc == ERR_OK) {
        rc = figures_time(f, issue_decode, &j, ret_ms, err);
    }
    if (rc == ERR_OK) {
        rc = check_result(f, &j.out, "the vae decoder", err);
    }
    vae_stream_close(j.stream);
    workspace_done(&j.ws);
    return rc;
}

/* ---- sessions ---- */

/* When what happened. */
struct watch {
    int64_t first_ns; /* the first picture */
    int n_steps;
    int64_t step_ns[MAX_STAMPS]; /* denoising steps, as they are told */
};

static int see_frame(void *ctx, const uint8_t *i420, int64_t index, struct err *err)
{
    struct watch *w = ctx;

    (void)i420;
    (void)err;
    w->first_ns = index == 0 ? clock_now_ns() : w->first_ns;
    return ERR_OK;
}

static void see_progress(void *ctx, const struct session_progress *p)
{
    struct watch *w = ctx;

    if (p->phase == SESSION_DENOISE && w->n_steps < MAX_STAMPS) {
        w->step_ns[w->n_steps++] = clock_now_ns();
    }
}

static int open_session(struct figures *f, struct model *model, int64_t frames, int steps,
                        struct watch *w, struct session **ret, struct err *err)
{
    const struct session_callbacks callbacks = {
        .ctx = w, .on_frame = see_frame, .on_progress = see_progress};
    struct session_request r = {.prompt = "a ship at sea", .frames = frames, .steps = steps};

    if (f->options.tiny) {
        r.width = r.height = SIDE_MIN;
        r.exact_size = true;
    }
    *w = (struct watch){0};
    return session_open(ret, model, &r, &callbacks, err);
}

static int open_model(struct figures *f, enum model_family family, struct model **ret,
                      struct err *err)
{
    const struct model_synthetic_options o = {.family = family, .tiny = f->options.tiny};
    const int rc = model_synthetic_open(ret, &o, f->dev, err);

    if (rc == ERR_OK && f->options.tiny) {
        (*ret)->dir->defaults.block_latent_frames = 2;
    }
    return rc;
}

static int make_blocks(struct session *s, int64_t n, struct err *err)
{
    struct geometry_block block;
    int rc = ERR_OK;

    for (int64_t i = 0; i < n && rc == ERR_OK; i++) {
        rc = session_next_block(s, &block, err);
    }
    return rc;
}

static int warm_up(struct figures *f, struct model *model, int64_t frames, struct err *err)
{
    struct session *s = NULL;
    struct watch w;
    int rc = open_session(f, model, frames, 0, &w, &s, err);

    if (rc == ERR_OK) {
        rc = make_blocks(s, session_settings(s)->blocks, err);
    }
    session_close(s);
    return rc;
}

/* The shape of a session's forward, and how long its decoder works, as the ceilings have it. */
struct shape {
    struct figures_forward forward;
    int64_t stride_t; /* pictures of a latent frame */
};

static struct shape shape_of(const struct figures *f, const struct model *model, int items,
                             int64_t frames)
{
    const struct model_dir *dir = model->dir;
    const int64_t width = f->options.tiny ? SIDE_MIN : dir->defaults.width;
    const int64_t height = f->options.tiny ? SIDE_MIN : dir->defaults.height;

    return (struct shape){.forward = {.n_items = items,
                                      .frames = frames,
                                      .h = height / dir->vae.stride_s,
                                      .w = width / dir->vae.stride_s},
                          .stride_t = dir->vae.stride_t};
}

/* ms: of a block's pictures. */
static void report_rate(const struct figures *f, const struct shape *shape, int forwards, double ms)
{
    const int64_t per_block = shape->forward.frames;
    const double pictures = (double)(per_block * shape->stride_t);
    const double bound = forwards * figures_forward_bound(f, &shape->forward) +
                         figures_decode_bound(f, per_block, shape->forward.h, shape->forward.w);
    const double parts = forwards * f->block_ms + (double)per_block * f->decode_ms;

    figures_report(f, &(struct figure){.key = "longsana.rate",
                                       .name = "LongSANA 480p: pictures",
                                       .unit = "frames/s",
                                       .value = 1e3 * pictures / ms,
                                       .bound = bound > 0 ? 1e3 * pictures / bound : 0,
                                       .goal = 38});
    figures_report(f, &(struct figure){.key = "longsana.parts",
                                       .name = "... if its parts did not overlap",
                                       .unit = "frames/s",
                                       .value = 1e3 * pictures / parts});
}

/* A block more than is timed is in the making behind it, as one was before the clock started. */
static int time_session(struct figures *f, struct model *model, const struct shape *shape,
                        struct err *err)
{
    const int timed = f->options.quick || f->options.tiny ? BLOCKS_QUICK : BLOCKS;
    const int steps = model->dir->defaults.steps;
    const int64_t latents = shape->forward.frames * (timed + 2);
    const int64_t start = clock_now_ns();
    struct session *s = NULL;
    struct watch w;
    int64_t from = 0;
    int rc = open_session(f, model, 1 + shape->stride_t * (latents - 1), 0, &w, &s, err);

    if (rc == ERR_OK) {
        rc = make_blocks(s, 1, err);
        from = clock_now_ns();
    }
    if (rc == ERR_OK) {
        rc = make_blocks(s, timed, err);
    }
    if (rc == ERR_OK) {
        const double ms = 1e3 * clock_seconds(clock_now_ns() - from) / timed;

        figures_report(f,
                       &(struct figure){.key = "longsana.first",
                                        .name = "LongSANA 480p: request to first picture",
                                        .unit = "ms",
                                        .value = 1e3 * clock_seconds(w.first_ns - start),
                                        .bound = steps * figures_forward_bound(f, &shape->forward),
                                        .goal = 800,
                                        .at_most = true});
        report_rate(f, shape, steps + 1, ms); /* and the pass that leaves the state */
    }
    session_close(s);
    return rc;
}

static int time_parts(struct figures *f, struct model *model, const struct shape *shape,
                      struct err *err)
{
    const struct figures_forward *fw = &shape->forward;
    double ms = 0;
    int rc = figures_time_forward(f, model, fw, &ms, err);

    if (rc == ERR_OK) {
        figures_report(f, &(struct figure){.key = "forward.block",
                                           .name = "transformer, a block of 15,600 tokens",
                                           .unit = "ms",
                                           .value = ms,
                                           .bound = figures_forward_bound(f, fw),
                                           .at_most = true});
        f->block_ms = ms;
        rc = figures_time_decode(f, model, 1, fw->h, fw->w, &ms, err);
    }
    if (rc == ERR_OK) {
        f->decode_ms = ms;
        figures_report(f, &(struct figure){.key = "decode.wan",
                                           .name = "Wan VAE, a latent frame (4 pictures)",
                                           .unit = "ms",
                                           .value = ms,
                                           .bound = figures_decode_bound(f, 1, fw->h, fw->w),
                                           .at_most = true});
    }
    return rc;
}

static int planned_memory(struct figures *f, struct model *model, int64_t frames, double *ret,
                          struct err *err)
{
    struct session *s = NULL;
    struct watch w;
    const int rc = open_session(f, model, frames, 0, &w, &s, err);

    if (rc == ERR_OK) {
        *ret = (double)session_memory(s);
    }
    session_close(s);
    return rc;
}

static int compare_minute(struct figures *f, struct model *model, struct err *err)
{
    double minute = 0;
    double five = 0;
    int rc = planned_memory(f, model, CLIP_FRAMES, &five, err);

    if (rc == ERR_OK) {
        rc = planned_memory(f, model, MINUTE_FRAMES, &minute, err);
    }
    if (rc == ERR_OK) {
        figures_report(f, &(struct figure){.key = "longsana.session",
                                           .name = "LongSANA 480p: memory of a session, 81 frames",
                                           .unit = "GB",
                                           .value = five / 1e9});
        figures_report(f, &(struct figure){.key = "longsana.minute",
                                           .name = "LongSANA 480p: ... of 961 frames",
                                           .unit = "times that",
                                           .value = minute / five,
                                           .goal = 1.01,
                                           .at_most = true});
    }
    return rc;
}

int figures_longsana(struct figures *f, struct err *err)
{
    struct model *model = NULL;
    struct shape shape;
    int rc = open_model(f, FAMILY_LONGSANA, &model, err);

    if (rc == ERR_OK) {
        shape = shape_of(f, model, 1, model->dir->defaults.block_latent_frames);
        rc = time_parts(f, model, &shape, err);
    }
    if (rc == ERR_OK) {
        rc = warm_up(f, model, 1 + shape.stride_t * (2 * shape.forward.frames - 1), err);
    }
    if (rc == ERR_OK) {
        rc = time_session(f, model, &shape, err);
    }
    if (rc == ERR_OK) {
        rc = compare_minute(f, model, err);
    }
    model_close(model);
    return rc;
}

/* ---- a clip ---- */

static int compare_stamps(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a;
    const int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* From one step to the next: the median of those behind the first two, which prepare. */
static double median_step_ms(const struct watch *w)
{
    int64_t ns[MAX_STAMPS];
    int n = 0;

    for (int i = 2; i < w->n_steps; i++) {
        ns[n++] = w->step_ns[i] - w->step_ns[i - 1];
    }
    qsort(ns, (size_t)n, sizeof(ns[0]), compare_stamps);
    return n > 0 ? 1e3 * clock_seconds(ns[n / 2]) : 0;
}

/* after_ms: from the last step's end to the last picture. */
static void report_clip(struct figures *f, const struct model *model, const struct watch *w,
                        double after_ms)
{
    const int64_t latents = geometry_latent_frames(CLIP_FRAMES, model->dir->vae.stride_t);
    const struct shape shape = shape_of(f, model, 2, latents);
    const double bound = figures_forward_bound(f, &shape.forward);
    const double decode = figures_decode_bound(f, latents, shape.forward.h, shape.forward.w);
    const double step_ms = median_step_ms(w);

    figures_report(f, &(struct figure){.key = "clip.step",
                                       .name = "81 frames, guidance: a step of 65,520 tokens",
                                       .unit = "ms",
                                       .value = step_ms,
                                       .bound = bound,
                                       .goal = 520,
                                       .at_most = true});
    figures_report(f, &(struct figure){.key = "clip.total",
                                       .name = "81 frames, guidance: 50 steps and decoding",
                                       .unit = "s",
                                       .value = 1e-3 * (STEPS_TOLD * step_ms + after_ms),
                                       .bound = 1e-3 * (STEPS_TOLD * bound + decode),
                                       .goal = 27,
                                       .at_most = true});
}

int figures_clip(struct figures *f, struct err *err)
{
    const int64_t frames = f->options.tiny ? 9 : CLIP_FRAMES;
    struct model *model = NULL;
    struct session *s = NULL;
    struct watch w;
    int rc = open_model(f, FAMILY_SANA_VIDEO_WAN, &model, err);

    if (rc == ERR_OK) {
        rc = open_session(f, model, frames, f->options.quick ? STEPS_QUICK : STEPS, &w, &s, err);
    }
    if (rc == ERR_OK) {
        rc = make_blocks(s, session_settings(s)->blocks, err);
    }
    if (rc == ERR_OK) {
        report_clip(f, model, &w, 1e3 * clock_seconds(clock_now_ns() - w.step_ns[w.n_steps - 1]));
    }
    session_close(s);
    model_close(model);
    return rc;
}
