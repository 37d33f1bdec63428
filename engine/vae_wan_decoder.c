/*
 * One latent frame at a time: levels up to the last change of frame rate see all frames of it at
 * once, the levels after it, where frames are large, TAIL_FRAMES at a time. Both cuts are exact:
 * what a convolution needs of earlier frames is in its cache.
 *
 * The workspace is a stack, and the input of a level dies when its output is complete. So the
 * levels' inputs are allocated last level first; finishing a level then pops its input, and a level
 * works with nothing below it but its own output.
 *
 * The first latent frame differs in one thing: there is no time_conv in its way, neither to double
 * the frames nor to be remembered (diffusers' "Rep"; MODEL 6.3). All else are caches full of zeros.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/size.h"
#include "engine/vae_wan_internal.h"
#include "kernels/channel_affine.h"
#include "kernels/elementwise.h"
#include "kernels/space_time.h"

/* Caches of a dry run have addresses; nobody looks behind them. */
#define DRY_BASE ((char *)(uintptr_t)4096)

enum {
    TAIL_FRAMES = 1,
    TAP_NAME_LEN = 16
};

struct vae_wan_stream {
    struct vae_wan *vae; /* borrowed */
    int64_t h, w;        /* latent cells */
    void *memory;        /* owned device memory; NULL when opened in a dry run */
    size_t bytes;
    struct tensor *cache; /* owned list, by slot, views of memory */
    bool first;           /* the next latent frame begins a video */
    vae_wan_tap_fn tap;
    void *tap_ctx;
};

/* One latent frame on its way. */
struct decode {
    struct vae_wan_stream *stream;
    struct wan_run run;
    int tail;                            /* first level behind the last change of frame rate */
    struct tensor input[VAE_MAX_LEVELS]; /* of each level */
    size_t below[VAE_MAX_LEVELS];        /* the workspace before input[l] was allocated */
};

static int64_t slot_count(const struct wan_slot *slot, int64_t h, int64_t w)
{
    return slot->frames * (h << slot->grid) * (w << slot->grid) * slot->channels;
}

size_t vae_wan_stream_bytes(const struct vae_wan *vae, int64_t h, int64_t w)
{
    int64_t count = 0;

    for (int i = 0; i < vae->decoder.n_slots; i++) {
        count += slot_count(&vae->decoder.slots[i], h, w);
    }
    return (size_t)count * dtype_size(vae->dev->act);
}

static int allocate_caches(struct vae_wan_stream *s, struct err *err)
{
    const struct wan_half *half = &s->vae->decoder;
    const enum dtype act = s->vae->dev->act;
    char *at = DRY_BASE;

    if (!s->vae->dev->dry_run) {
        const int rc = device_alloc(s->vae->dev, s->bytes, &s->memory, err);

        if (rc != ERR_OK) {
            return rc;
        }
        at = s->memory;
    }
    for (int i = 0; i < half->n_slots; i++) {
        const struct wan_slot *slot = &half->slots[i];

        s->cache[i] = TENSOR_OF(at, act, slot->frames, s->h << slot->grid, s->w << slot->grid,
                                slot->channels);
        at += (size_t)slot_count(slot, s->h, s->w) * dtype_size(act);
    }
    return vae_wan_stream_reset(s, false, err);
}

int vae_wan_stream_open(struct vae_wan_stream **ret, struct vae_wan *vae, int64_t h, int64_t w,
                        struct err *err)
{
    enum {
        MAX_CELLS = 4096 /* of a side: 32768 pixels */
    };
    struct vae_wan_stream *s;
    int rc;

    CHECK_BUG(vae->halves & VAE_DECODER);
    if (h < 1 || w < 1 || h > MAX_CELLS || w > MAX_CELLS) {
        return err_set(err, ERR_INVALID, "%lld x %lld latents: each side is 1 to %d", (long long)h,
                       (long long)w, MAX_CELLS);
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "VAE stream");
    }
    s->vae = vae;
    s->h = h;
    s->w = w;
    s->bytes = vae_wan_stream_bytes(vae, h, w);
    s->cache = calloc((size_t)vae->decoder.n_slots, sizeof(*s->cache));
    rc = s->cache ? allocate_caches(s, err) : err_set(err, ERR_NO_MEMORY, "VAE stream");
    if (rc == ERR_OK) {
        *ret = s;
        s = NULL; /* the caller owns it now */
    }
    vae_wan_stream_close(s);
    return rc;
}

void vae_wan_stream_close(struct vae_wan_stream *s)
{
    if (s) {
        device_free(s->vae->dev, s->memory);
        free(s->cache);
        free(s);
    }
}

int vae_wan_stream_reset(struct vae_wan_stream *s, bool steady, struct err *err)
{
    const enum dtype act = s->vae->dev->act;
    const struct tensor all = TENSOR_OF(s->memory, act, (int64_t)(s->bytes / dtype_size(act)));

    s->first = !steady;
    return op_fill(s->vae->dev, &all, 0, err);
}

int64_t vae_wan_stream_frames(const struct vae_wan_stream *s, int64_t t)
{
    return s->first && t > 0 ? 1 + (t - 1) * s->vae->stride_t : t * s->vae->stride_t;
}

void vae_wan_stream_tap(struct vae_wan_stream *s, vae_wan_tap_fn fn, void *ctx)
{
    s->tap = fn;
    s->tap_ctx = ctx;
}

/* level -1 is the mid block */
static int tap(struct decode *d, int level, const struct tensor *x, struct err *err)
{
    char name[TAP_NAME_LEN] = "mid";

    if (!d->stream->tap || d->run.dev->dry_run) {
        return ERR_OK;
    }
    if (level >= 0) {
        snprintf(name, sizeof(name), "up%d", level);
    }
    return d->stream->tap(d->stream->tap_ctx, name, x, err);
}

/* Twice the frames, from twice the channels. *x is replaced by a tensor of the workspace. */
static int double_frames(struct decode *d, const struct wan_level *level, struct tensor *x,
                         struct err *err)
{
    const int64_t t = x->dim[0];
    struct tensor wide;
    struct tensor doubled;
    int rc = WORKSPACE_ACT(d->run.ws, &wide, err, t, x->dim[1], x->dim[2], 2 * level->co);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(d->run.ws, &doubled, err, 2 * t, x->dim[1], x->dim[2], level->co);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_same(&d->run, &level->time_conv, &wide, x, NULL, err);
    }
    if (rc == ERR_OK) {
        rc = op_frame_interleave(d->run.dev, &doubled, &wide, err);
    }
    if (rc == ERR_OK) {
        *x = doubled;
    }
    return rc;
}

/* x -> y, the next level's input. */
static int run_level(struct decode *d, int l, const struct tensor *x, const struct tensor *y,
                     struct err *err)
{
    const struct wan_level *level = &d->stream->vae->decoder.level[l];
    const struct conv3d_params up = {
        .upsample = true,
        .pad_top = 1,
        .pad_bottom = 1,
        .pad_left = 1,
        .pad_right = 1,
    };
    const size_t mark = workspace_mark(d->run.ws);
    struct tensor cur = *x;
    int rc = wan_resnets(&d->run, level, &cur, err);

    if (rc == ERR_OK && level->resamples_time && !d->run.first) {
        rc = double_frames(d, level, &cur, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_frames(&d->run, &level->resample, y, &cur, up, err);
    }
    if (rc == ERR_OK) {
        rc = tap(d, l, y, err);
    }
    workspace_rewind(d->run.ws, mark);
    return rc;
}

/* The last level and what follows: pictures [n, 8h, 8w, 3]. */
static int run_last(struct decode *d, const struct tensor *x, const struct tensor *out,
                    struct err *err)
{
    const struct wan_half *half = &d->stream->vae->decoder;
    const int last = d->stream->vae->config.levels - 1;
    const struct conv3d_params p = {
        .pad_top = 1,
        .pad_bottom = 1,
        .pad_left = 1,
        .pad_right = 1,
        .clamp = true,
        .clamp_min = -1,
        .clamp_max = 1,
    };
    const size_t mark = workspace_mark(d->run.ws);
    struct tensor cur = *x;
    struct tensor normed;
    int rc = wan_resnets(&d->run, &half->level[last], &cur, err);

    if (rc == ERR_OK) {
        rc = tap(d, last, &cur, err);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(d->run.ws, &normed, err, cur.dim[0], cur.dim[1], cur.dim[2], cur.dim[3]);
    }
    if (rc == ERR_OK) {
        rc = wan_norm_silu(&d->run, &normed, &cur, &half->gamma_out, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_run(&d->run, &half->conv_out, out, &normed, p, err);
    }
    workspace_rewind(d->run.ws, mark);
    return rc;
}

/* n frames of the tail's input, from `first` on, to pictures. */
static int run_tail(struct decode *d, int64_t first, int64_t n, const struct tensor *out,
                    struct err *err)
{
    const int last = d->stream->vae->config.levels - 1;
    const struct tensor pictures = tensor_slice(out, first, n);
    struct tensor x = tensor_slice(&d->input[d->tail], first, n);
    int rc = ERR_OK;

    for (int l = d->tail; l < last && rc == ERR_OK; l++) {
        const struct tensor y = tensor_slice(&d->input[l + 1], 0, n);

        rc = run_level(d, l, &x, &y, err);
        x = y;
    }
    return rc != ERR_OK ? rc : run_last(d, &x, &pictures, err);
}

/* Frames that level l sees, and the tail that they begin. */
static int64_t plan_frames(struct decode *d, int64_t frames[VAE_MAX_LEVELS])
{
    const struct vae_wan *vae = d->stream->vae;
    int64_t n = 1;

    d->tail = 0;
    for (int l = 0; l < vae->config.levels; l++) {
        frames[l] = n;
        if (vae->decoder.level[l].resamples_time) {
            n *= d->stream->first ? 1 : 2;
            d->tail = l + 1;
        }
    }
    for (int l = d->tail + 1; l < vae->config.levels; l++) {
        frames[l] = n < TAIL_FRAMES ? n : TAIL_FRAMES;
    }
    return n;
}

static int allocate_inputs(struct decode *d, const int64_t frames[VAE_MAX_LEVELS], struct err *err)
{
    const struct vae_wan_stream *s = d->stream;
    int rc = ERR_OK;

    for (int l = s->vae->config.levels - 1; l >= 0 && rc == ERR_OK; l--) {
        d->below[l] = workspace_mark(d->run.ws);
        rc = WORKSPACE_ACT(d->run.ws, &d->input[l], err, frames[l], s->h << l, s->w << l,
                           s->vae->decoder.level[l].ci);
    }
    return rc;
}

/* z [1, h, w, C] -> the first level's input */
static int run_front(struct decode *d, const struct tensor *z, enum vae_space space,
                     struct err *err)
{
    const struct vae_wan *vae = d->stream->vae;
    const size_t mark = workspace_mark(d->run.ws);
    struct tensor scaled;
    struct tensor mixed;
    int rc = WORKSPACE_ACT(d->run.ws, &scaled, err, 1, z->dim[1], z->dim[2], z->dim[3]);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(d->run.ws, &mixed, err, 1, z->dim[1], z->dim[2], z->dim[3]);
    }
    if (rc == ERR_OK && space == VAE_NORMALISED) {
        rc = op_channel_affine(d->run.dev, &scaled, z, &vae->scale_in, &vae->shift_in, err);
    } else if (rc == ERR_OK) {
        rc = op_cast(d->run.dev, &scaled, z, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_frames(&d->run, &vae->post_quant, &mixed, &scaled, (struct conv3d_params){0},
                             err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_same(&d->run, &vae->decoder.conv_in, &d->input[0], &mixed, NULL, err);
    }
    if (rc == ERR_OK) {
        rc = wan_mid_run(&d->run, &vae->decoder.mid, &d->input[0], err);
    }
    if (rc == ERR_OK) {
        rc = tap(d, -1, &d->input[0], err);
    }
    workspace_rewind(d->run.ws, mark);
    return rc;
}

static int decode_one(struct decode *d, const struct tensor *z, enum vae_space space,
                      const struct tensor *out, struct err *err)
{
    const size_t mark = workspace_mark(d->run.ws);
    int64_t frames[VAE_MAX_LEVELS];
    const int64_t n = plan_frames(d, frames);
    int rc = allocate_inputs(d, frames, err);

    if (rc == ERR_OK) {
        rc = run_front(d, z, space, err);
    }
    for (int l = 0; l < d->tail && rc == ERR_OK; l++) {
        rc = run_level(d, l, &d->input[l], &d->input[l + 1], err);
        workspace_rewind(d->run.ws, d->below[l]);
    }
    for (int64_t first = 0; first < n && rc == ERR_OK; first += TAIL_FRAMES) {
        rc = run_tail(d, first, n - first < TAIL_FRAMES ? n - first : TAIL_FRAMES, out, err);
    }
    workspace_rewind(d->run.ws, mark);
    return rc;
}

int vae_wan_decode(struct vae_wan_stream *s, const struct tensor *z, enum vae_space space,
                   struct workspace *ws, const struct tensor *out, struct err *err)
{
    const int64_t stride = s->vae->stride_s;
    int64_t done = 0;

    CHECK_BUG(s->memory || s->vae->dev->dry_run);
    if (!TENSOR_IS(z, DTYPE_F32, -1, s->h, s->w, s->vae->config.z_dim)) {
        return device_shape_err(err, "vae_wan_decode", "z", z);
    }
    if (!TENSOR_IS(out, DTYPE_F32, vae_wan_stream_frames(s, z->dim[0]), s->h * stride,
                   s->w * stride, 3)) {
        return device_shape_err(err, "vae_wan_decode", "out", out);
    }
    for (int64_t t = 0; t < z->dim[0]; t++) {
        const int64_t n = vae_wan_stream_frames(s, 1);
        const struct tensor pictures = tensor_slice(out, done, n);
        const struct tensor frame = tensor_slice(z, t, 1);
        struct decode d = {.stream = s};
        int rc;

        d.run = (struct wan_run){.dev = s->vae->dev, .ws = ws, .cache = s->cache};
        d.run.first = s->first;
        rc = decode_one(&d, &frame, space, &pictures, err);
        if (rc != ERR_OK) {
            return rc;
        }
        s->first = false;
        done += n;
    }
    return ERR_OK;
}
