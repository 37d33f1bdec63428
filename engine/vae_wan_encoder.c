/*
 * A clip is encoded in chunks of 1, then stride_t pictures. Its caches live in the workspace and,
 * for the one picture of image-to-video, do not exist: nothing before it, nothing after it.
 *
 * As in the decoder, levels' inputs are allocated last level first, so that they die in order.
 */
#include "engine/vae_wan_internal.h"
#include "kernels/channel_affine.h"
#include "kernels/elementwise.h"

struct encode {
    struct vae_wan *vae;
    struct wan_run run;
    int64_t h, w; /* latent cells */
    struct tensor input[VAE_MAX_LEVELS];
    size_t below[VAE_MAX_LEVELS];
};

static int allocate_caches(struct encode *e, struct err *err)
{
    const struct wan_half *half = &e->vae->encoder;
    struct tensor *cache = e->vae->encoder_cache;
    int rc = ERR_OK;

    for (int i = 0; i < half->n_slots && rc == ERR_OK; i++) {
        const struct wan_slot *s = &half->slots[i];

        rc = WORKSPACE_ACT(e->run.ws, &cache[i], err, s->frames, e->h << s->grid, e->w << s->grid,
                           s->channels);
        if (rc == ERR_OK) {
            rc = op_fill(e->run.dev, &cache[i], 0, err);
        }
    }
    return rc;
}

/* Half the frames: a stride of two over (last frame of the chunk before, x). The first chunk is one
 * frame, which passes as it is. */
static int halve_frames(struct encode *e, const struct wan_level *level, const struct tensor *x,
                        const struct tensor *y, struct err *err)
{
    const struct conv3d_params p = {.stride_t = 2};

    return wan_conv_run(&e->run, &level->time_conv, y, x, p, err);
}

/* x -> y, the next level's input. */
static int run_level(struct encode *e, int l, const struct tensor *x, const struct tensor *y,
                     struct err *err)
{
    const struct wan_level *level = &e->vae->encoder.level[l];
    const struct conv3d_params down = {.stride_s = 2, .pad_right = 1, .pad_bottom = 1};
    const bool halves = level->resamples_time && !e->run.first;
    const size_t mark = workspace_mark(e->run.ws);
    struct tensor cur = *x;
    struct tensor small = *y;
    int rc = wan_resnets(&e->run, level, &cur, err);

    if (rc == ERR_OK && halves) {
        rc = WORKSPACE_ACT(e->run.ws, &small, err, x->dim[0], y->dim[1], y->dim[2], y->dim[3]);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_frames(&e->run, &level->resample, &small, &cur, down, err);
    }
    if (rc == ERR_OK && halves) {
        rc = halve_frames(e, level, &small, y, err);
    } else if (rc == ERR_OK && level->resamples_time) {
        rc = wan_remember(&e->run, level->time_conv.slot, &small, err);
    }
    workspace_rewind(e->run.ws, mark);
    return rc;
}

/* moments [n, h, w, 2C] -> what is wanted of frames [first, first + n) */
static int write_posterior(struct encode *e, const struct tensor *moments, int64_t first,
                           const struct vae_wan_posterior *ret, struct err *err)
{
    const struct vae_wan *vae = e->vae;
    const struct conv3d_params plain = {0};
    const struct conv3d_params clamp = {.clamp = true, .clamp_min = -30, .clamp_max = 20};
    const int64_t n = moments->dim[0];
    struct tensor mean;
    int rc = WORKSPACE_F32(e->run.ws, &mean, err, n, e->h, e->w, vae->config.z_dim);

    if (rc == ERR_OK) {
        rc = wan_conv_frames(&e->run, &vae->quant_mean, &mean, moments, plain, err);
    }
    if (rc == ERR_OK && ret->mean) {
        const struct tensor to = tensor_slice(ret->mean, first, n);

        rc = op_copy(e->run.dev, &to, &mean, err);
    }
    if (rc == ERR_OK && ret->normalised) {
        const struct tensor to = tensor_slice(ret->normalised, first, n);

        rc = op_channel_affine(e->run.dev, &to, &mean, &vae->scale_out, &vae->shift_out, err);
    }
    if (rc == ERR_OK && ret->logvar) {
        const struct tensor to = tensor_slice(ret->logvar, first, n);

        rc = wan_conv_frames(&e->run, &vae->quant_logvar, &to, moments, clamp, err);
    }
    return rc;
}

/* The last level, the mid block and the head: the posterior from latent frame `first` on. */
static int run_last(struct encode *e, const struct tensor *x, int64_t first,
                    const struct vae_wan_posterior *ret, struct err *err)
{
    const struct vae_wan *vae = e->vae;
    const struct wan_half *half = &vae->encoder;
    struct wan_run *run = &e->run;
    const int64_t n = x->dim[0];
    struct tensor cur = *x;
    struct tensor normed;
    struct tensor moments;
    int rc = wan_resnets(run, &half->level[vae->config.levels - 1], &cur, err);

    if (rc == ERR_OK) {
        rc = wan_mid_run(run, &half->mid, &cur, err);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &normed, err, n, e->h, e->w, cur.dim[3]);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &moments, err, n, e->h, e->w, 2 * vae->config.z_dim);
    }
    if (rc == ERR_OK) {
        rc = wan_norm_silu(run, &normed, &cur, &half->gamma_out, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_same(run, &half->conv_out, &moments, &normed, NULL, err);
    }
    return rc != ERR_OK ? rc : write_posterior(e, &moments, first, ret, err);
}

static int allocate_inputs(struct encode *e, int64_t n, struct err *err)
{
    const struct vae_wan *vae = e->vae;
    const int last = vae->config.levels - 1;
    int64_t frames[VAE_MAX_LEVELS];
    int rc = ERR_OK;

    for (int l = 0; l <= last; l++) {
        frames[l] = n;
        n /= vae->encoder.level[l].resamples_time && !e->run.first ? 2 : 1;
    }
    for (int l = last; l >= 0 && rc == ERR_OK; l--) {
        e->below[l] = workspace_mark(e->run.ws);
        rc = WORKSPACE_ACT(e->run.ws, &e->input[l], err, frames[l], e->h << (last - l),
                           e->w << (last - l), vae->encoder.level[l].ci);
    }
    return rc;
}

/* One chunk of pictures to latent frames from `first` on. */
static int encode_chunk(struct encode *e, const struct tensor *video, int64_t first,
                        const struct vae_wan_posterior *ret, struct err *err)
{
    const int last = e->vae->config.levels - 1;
    const size_t mark = workspace_mark(e->run.ws);
    struct tensor pictures;
    int rc = workspace_as_act(e->run.ws, video, &pictures, err);

    if (rc == ERR_OK) {
        rc = allocate_inputs(e, video->dim[0], err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_same(&e->run, &e->vae->encoder.conv_in, &e->input[0], &pictures, NULL, err);
    }
    for (int l = 0; l < last && rc == ERR_OK; l++) {
        rc = run_level(e, l, &e->input[l], &e->input[l + 1], err);
        workspace_rewind(e->run.ws, e->below[l]);
    }
    if (rc == ERR_OK) {
        rc = run_last(e, &e->input[last], first, ret, err);
    }
    workspace_rewind(e->run.ws, mark);
    return rc;
}

static int check_posterior(const struct encode *e, int64_t t, const struct tensor *x,
                           const char *name, struct err *err)
{
    if (x && !TENSOR_IS(x, DTYPE_F32, t, e->h, e->w, e->vae->config.z_dim)) {
        return device_shape_err(err, "vae_wan_encode", name, x);
    }
    return ERR_OK;
}

static int check_encode(const struct encode *e, const struct tensor *video,
                        const struct vae_wan_posterior *ret, struct err *err)
{
    const int64_t t = (video->dim[0] - 1) / e->vae->stride_t + 1;
    int rc;

    if (!TENSOR_IS(video, DTYPE_F32, -1, e->h * e->vae->stride_s, e->w * e->vae->stride_s, 3) ||
        tensor_count(video) == 0 || video->dim[0] != 1 + (t - 1) * e->vae->stride_t) {
        return device_shape_err(err, "vae_wan_encode", "video", video);
    }
    rc = check_posterior(e, t, ret->normalised, "normalised", err);
    if (rc == ERR_OK) {
        rc = check_posterior(e, t, ret->mean, "mean", err);
    }
    return rc != ERR_OK ? rc : check_posterior(e, t, ret->logvar, "logvar", err);
}

int vae_wan_encode(struct vae_wan *vae, const struct tensor *video, struct workspace *ws,
                   const struct vae_wan_posterior *ret, struct err *err)
{
    const size_t mark = workspace_mark(ws);
    struct encode e = {.vae = vae, .run = {.dev = vae->dev, .ws = ws, .first = true}};
    int64_t done = 0;
    int rc;

    CHECK_BUG(vae->halves & VAE_ENCODER);
    e.h = video->dim[1] / vae->stride_s;
    e.w = video->dim[2] / vae->stride_s;
    rc = check_encode(&e, video, ret, err);
    if (rc == ERR_OK && video->dim[0] > 1) {
        e.run.cache = vae->encoder_cache;
        rc = allocate_caches(&e, err);
    }
    for (int64_t t = 0; done < video->dim[0] && rc == ERR_OK; t++) {
        const int64_t n = t == 0 ? 1 : vae->stride_t;
        const struct tensor chunk = tensor_slice(video, done, n);

        rc = encode_chunk(&e, &chunk, t, ret, err);
        e.run.first = false;
        done += n;
    }
    workspace_rewind(ws, mark);
    return rc;
}
