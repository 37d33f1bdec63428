/*
 * The whole clip goes through level by level: resnets, then the sampler to the next level's input.
 */
#include "engine/vae_ltx2_internal.h"
#include "kernels/channel_affine.h"
#include "kernels/elementwise.h"
#include "kernels/space_time.h"

/* x -> y, both at a level's full width. In time, the first frame is there st times. */
static int downsample(struct ltx2_run *run, const struct ltx2_level *level, const struct tensor *x,
                      const struct tensor *y, struct err *err)
{
    const int64_t lead = level->st - 1;
    const int64_t t = x->dim[0] + lead;
    const struct space_time_params p = {
        .st = level->st,
        .sh = level->ss,
        .sw = level->ss,
        .lead_frames = lead,
        .add = x,
    };
    const size_t mark = workspace_mark(run->ws);
    struct tensor buf;
    struct tensor narrow;
    int rc = WORKSPACE_ACT(run->ws, &buf, err, t + ltx2_front(run) + ltx2_back(run), x->dim[1],
                           x->dim[2], x->dim[3]);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &narrow, err, t, x->dim[1], x->dim[2],
                           level->sampler.weight.dim[0]);
    }
    if (rc == ERR_OK) {
        rc = ltx2_pad(run, &buf, x, lead, false, err);
    }
    if (rc == ERR_OK) {
        rc = ltx2_conv(run, &level->sampler, &narrow, &buf, NULL, err);
    }
    if (rc == ERR_OK) {
        rc = op_space_time_merge(run->dev, y, &narrow, &p, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

/* Patches and conv_in. */
static int run_front(struct ltx2_run *run, const struct vae_ltx2 *vae, const struct tensor *video,
                     const struct tensor *x, struct err *err)
{
    const struct space_time_params p = {
        .st = 1,
        .sh = vae->config.patch_size,
        .sw = vae->config.patch_size,
        .columns_first = true,
    };
    const int64_t front = ltx2_front(run);
    const int64_t back = ltx2_back(run);
    const int64_t channels = vae->encoder.conv_in.weight.dim[4];
    const size_t mark = workspace_mark(run->ws);
    struct tensor pictures;
    struct tensor patches;
    struct tensor buf;
    int rc = WORKSPACE_ACT(run->ws, &patches, err, x->dim[0], x->dim[1], x->dim[2], channels);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &buf, err, front + x->dim[0] + back, x->dim[1], x->dim[2],
                           channels);
    }
    if (rc == ERR_OK) {
        rc = workspace_as_act(run->ws, video, &pictures, err);
    }
    if (rc == ERR_OK) {
        rc = op_space_time_merge(run->dev, &patches, &pictures, &p, err);
    }
    if (rc == ERR_OK) {
        rc = ltx2_pad(run, &buf, &patches, 0, false, err);
    }
    if (rc == ERR_OK) {
        rc = ltx2_conv(run, &vae->encoder.conv_in, x, &buf, NULL, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

/* Norm, conv_out, and the mean in the two forms. */
static int run_head(struct ltx2_run *run, const struct vae_ltx2 *vae, const struct tensor *x,
                    const struct vae_ltx2_posterior *ret, struct err *err)
{
    struct tensor buf;
    struct tensor mean;
    int rc = WORKSPACE_ACT(run->ws, &buf, err, x->dim[0] + ltx2_front(run) + ltx2_back(run),
                           x->dim[1], x->dim[2], x->dim[3]);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(run->ws, &mean, err, x->dim[0], x->dim[1], x->dim[2],
                           vae->config.latent_channels);
    }
    if (rc == ERR_OK) {
        rc = ltx2_pad(run, &buf, x, 0, true, err);
    }
    if (rc == ERR_OK) {
        rc = ltx2_conv(run, &vae->encoder.conv_out, &mean, &buf, NULL, err);
    }
    if (rc == ERR_OK && ret->mean) {
        rc = op_copy(run->dev, ret->mean, &mean, err);
    }
    if (rc == ERR_OK && ret->normalised) {
        rc = op_channel_affine(run->dev, ret->normalised, &mean, &vae->scale_out, &vae->shift_out,
                               err);
    }
    return rc;
}

/* Levels' inputs, the last one deepest in the stack: they die in order. */
static int allocate_inputs(struct ltx2_run *run, const struct vae_ltx2 *vae,
                           const struct tensor *video, struct tensor input[VAE_MAX_LEVELS + 1],
                           size_t below[VAE_MAX_LEVELS + 1], struct err *err)
{
    const struct ltx2_half *half = &vae->encoder;
    int64_t dims[VAE_MAX_LEVELS + 1][3] = {{video->dim[0], video->dim[1] / vae->config.patch_size,
                                            video->dim[2] / vae->config.patch_size}};
    int rc = ERR_OK;

    for (int l = 0; l + 1 < half->n_levels; l++) {
        const struct ltx2_level *level = &half->level[l];

        dims[l + 1][0] = level->samples ? (dims[l][0] - 1) / level->st + 1 : dims[l][0];
        dims[l + 1][1] = level->samples ? dims[l][1] / level->ss : dims[l][1];
        dims[l + 1][2] = level->samples ? dims[l][2] / level->ss : dims[l][2];
    }
    for (int l = half->n_levels - 1; l >= 0 && rc == ERR_OK; l--) {
        below[l] = workspace_mark(run->ws);
        rc = WORKSPACE_ACT(run->ws, &input[l], err, dims[l][0], dims[l][1], dims[l][2],
                           half->level[l].c_in);
    }
    return rc;
}

static int run_encoder(struct ltx2_run *run, const struct vae_ltx2 *vae, const struct tensor *video,
                       const struct vae_ltx2_posterior *ret, struct err *err)
{
    const struct ltx2_half *half = &vae->encoder;
    const int mid = half->n_levels - 1;
    struct tensor input[VAE_MAX_LEVELS + 1] = {{0}};
    size_t below[VAE_MAX_LEVELS + 1];
    int rc = allocate_inputs(run, vae, video, input, below, err);

    if (rc == ERR_OK) {
        rc = run_front(run, vae, video, &input[0], err);
    }
    for (int l = 0; l < mid && rc == ERR_OK; l++) {
        rc = ltx2_resnets(run, &half->level[l], &input[l], err);
        if (rc == ERR_OK) {
            rc = half->level[l].samples
                     ? downsample(run, &half->level[l], &input[l], &input[l + 1], err)
                     : op_copy(run->dev, &input[l + 1], &input[l], err);
        }
        workspace_rewind(run->ws, below[l]);
    }
    if (rc == ERR_OK) {
        rc = ltx2_resnets(run, &half->level[mid], &input[mid], err);
    }
    return rc != ERR_OK ? rc : run_head(run, vae, &input[mid], ret, err);
}

static int check_encode(const struct vae_ltx2 *vae, const struct tensor *video,
                        const struct vae_ltx2_posterior *ret, struct err *err)
{
    const int64_t t = (video->dim[0] - 1) / vae->stride_t + 1;
    const int64_t h = video->dim[1] / vae->stride_s;
    const int64_t w = video->dim[2] / vae->stride_s;
    const int64_t c = vae->config.latent_channels;

    if (!TENSOR_IS(video, DTYPE_F32, -1, h * vae->stride_s, w * vae->stride_s, 3) ||
        tensor_count(video) == 0 || video->dim[0] != 1 + (t - 1) * vae->stride_t) {
        return device_shape_err(err, "vae_ltx2_encode", "video", video);
    }
    if (ret->normalised && !TENSOR_IS(ret->normalised, DTYPE_F32, t, h, w, c)) {
        return device_shape_err(err, "vae_ltx2_encode", "normalised", ret->normalised);
    }
    if (ret->mean && !TENSOR_IS(ret->mean, DTYPE_F32, t, h, w, c)) {
        return device_shape_err(err, "vae_ltx2_encode", "mean", ret->mean);
    }
    return ERR_OK;
}

int vae_ltx2_encode(struct vae_ltx2 *vae, const struct tensor *video, struct workspace *ws,
                    const struct vae_ltx2_posterior *ret, struct err *err)
{
    const size_t mark = workspace_mark(ws);
    struct ltx2_run run = {.dev = vae->dev, .ws = ws};
    int rc;

    CHECK_BUG(vae->halves & VAE_ENCODER);
    run.causal = vae->config.encoder_causal;
    run.reflect = vae->config.encoder_reflect;
    rc = check_encode(vae, video, ret, err);
    if (rc == ERR_OK) {
        rc = run_encoder(&run, vae, video, ret, err);
    }
    workspace_rewind(ws, mark);
    return rc;
}
