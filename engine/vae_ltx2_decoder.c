/*
 * The whole clip goes through level by level. What is wide (the upsamplers' convolutions, 8 numbers
 * for each one that remains; the patches) is made and folded frame by frame.
 */
#include "engine/vae_ltx2_internal.h"
#include "kernels/channel_affine.h"
#include "kernels/elementwise.h"
#include "kernels/space_time.h"

/* One input frame t of an upsampler to its st output frames; the clip's very first is dropped. */
static int upsample_frame(struct ltx2_run *run, const struct ltx2_level *level, int64_t t,
                          const struct tensor *buf, const struct tensor *x, const struct tensor *y,
                          struct err *err)
{
    const int64_t drop = t == 0 ? level->st - 1 : 0;
    const struct tensor window = tensor_slice(buf, t, buf->dim[0] - x->dim[0] + 1);
    const struct tensor frame = tensor_slice(x, t, 1);
    const struct tensor to =
        tensor_slice(y, t == 0 ? 0 : t * level->st - (level->st - 1), level->st - drop);
    const struct space_time_params p = {
        .st = level->st,
        .sh = level->ss,
        .sw = level->ss,
        .drop_frames = drop,
        .add = level->residual ? &frame : NULL,
    };
    const size_t mark = workspace_mark(run->ws);
    struct tensor wide;
    int rc =
        WORKSPACE_ACT(run->ws, &wide, err, 1, x->dim[1], x->dim[2], level->sampler.weight.dim[0]);

    if (rc == ERR_OK) {
        rc = ltx2_conv(run, &level->sampler, &wide, &window, NULL, err);
    }
    if (rc == ERR_OK) {
        rc = op_space_time_split(run->dev, &to, &wide, &p, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

static int upsample(struct ltx2_run *run, const struct ltx2_level *level, const struct tensor *x,
                    const struct tensor *y, struct err *err)
{
    const size_t mark = workspace_mark(run->ws);
    struct tensor buf;
    int rc = WORKSPACE_ACT(run->ws, &buf, err, x->dim[0] + ltx2_front(run) + ltx2_back(run),
                           x->dim[1], x->dim[2], x->dim[3]);

    if (rc == ERR_OK) {
        rc = ltx2_pad(run, &buf, x, 0, false, err);
    }
    for (int64_t t = 0; t < x->dim[0] && rc == ERR_OK; t++) {
        rc = upsample_frame(run, level, t, &buf, x, y, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

/* Norm, conv_out and unpatchify. */
static int run_head(struct ltx2_run *run, const struct vae_ltx2 *vae, const struct tensor *x,
                    const struct tensor *out, struct err *err)
{
    const struct vae_conv *conv = &vae->decoder.conv_out;
    const struct space_time_params p = {
        .st = 1,
        .sh = vae->config.patch_size,
        .sw = vae->config.patch_size,
        .columns_first = true,
    };
    struct tensor buf;
    struct tensor patches;
    int rc = WORKSPACE_ACT(run->ws, &buf, err, x->dim[0] + ltx2_front(run) + ltx2_back(run),
                           x->dim[1], x->dim[2], x->dim[3]);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(run->ws, &patches, err, 1, x->dim[1], x->dim[2], conv->weight.dim[0]);
    }
    if (rc == ERR_OK) {
        rc = ltx2_pad(run, &buf, x, 0, true, err);
    }
    for (int64_t t = 0; t < x->dim[0] && rc == ERR_OK; t++) {
        const struct tensor window = tensor_slice(&buf, t, buf.dim[0] - x->dim[0] + 1);
        const struct tensor to = tensor_slice(out, t, 1);

        rc = ltx2_conv(run, conv, &patches, &window, NULL, err);
        if (rc == ERR_OK) {
            rc = op_space_time_split(run->dev, &to, &patches, &p, err);
        }
    }
    return rc;
}

/* z -> the mid block's input */
static int run_front(struct ltx2_run *run, const struct vae_ltx2 *vae, const struct tensor *z,
                     enum vae_space space, const struct tensor *x, struct err *err)
{
    const size_t mark = workspace_mark(run->ws);
    struct tensor scaled;
    struct tensor buf;
    int rc = WORKSPACE_ACT(run->ws, &scaled, err, z->dim[0], z->dim[1], z->dim[2], z->dim[3]);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &buf, err, z->dim[0] + ltx2_front(run) + ltx2_back(run),
                           z->dim[1], z->dim[2], z->dim[3]);
    }
    if (rc == ERR_OK && space == VAE_NORMALISED) {
        rc = op_channel_affine(run->dev, &scaled, z, &vae->scale_in, &vae->shift_in, err);
    } else if (rc == ERR_OK) {
        rc = op_cast(run->dev, &scaled, z, err);
    }
    if (rc == ERR_OK) {
        rc = ltx2_pad(run, &buf, &scaled, 0, false, err);
    }
    if (rc == ERR_OK) {
        rc = ltx2_conv(run, &vae->decoder.conv_in, x, &buf, NULL, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

/* Levels' outputs, the last one deepest in the stack: they die in order. */
static int allocate_outputs(struct ltx2_run *run, const struct vae_ltx2 *vae,
                            const struct tensor *z, struct tensor output[VAE_MAX_LEVELS + 1],
                            size_t above[VAE_MAX_LEVELS + 1], struct err *err)
{
    const struct ltx2_half *half = &vae->decoder;
    int64_t dims[VAE_MAX_LEVELS + 1][3];
    int rc = ERR_OK;

    for (int l = 0; l < half->n_levels; l++) {
        const struct ltx2_level *level = &half->level[l];
        const int64_t *in = l == 0 ? z->dim : dims[l - 1];

        dims[l][0] = level->samples ? (in[0] - 1) * level->st + 1 : in[0];
        dims[l][1] = level->samples ? in[1] * level->ss : in[1];
        dims[l][2] = level->samples ? in[2] * level->ss : in[2];
    }
    for (int l = half->n_levels - 1; l >= 0 && rc == ERR_OK; l--) {
        rc = WORKSPACE_ACT(run->ws, &output[l], err, dims[l][0], dims[l][1], dims[l][2],
                           half->level[l].c_out);
        above[l] = workspace_mark(run->ws);
    }
    return rc;
}

static int run_levels(struct ltx2_run *run, const struct vae_ltx2 *vae, const struct tensor *z,
                      enum vae_space space, struct tensor *ret, struct err *err)
{
    const struct ltx2_half *half = &vae->decoder;
    struct tensor output[VAE_MAX_LEVELS + 1];
    size_t above[VAE_MAX_LEVELS + 1];
    int rc = allocate_outputs(run, vae, z, output, above, err);

    if (rc == ERR_OK) {
        rc = run_front(run, vae, z, space, &output[0], err);
    }
    for (int l = 0; l < half->n_levels && rc == ERR_OK; l++) {
        const struct ltx2_level *level = &half->level[l];

        if (level->samples) {
            rc = upsample(run, level, &output[l - 1], &output[l], err);
        } else if (l > 0) {
            rc = op_copy(run->dev, &output[l], &output[l - 1], err);
        }
        workspace_rewind(run->ws, above[l]);
        if (rc == ERR_OK) {
            rc = ltx2_resnets(run, level, &output[l], err);
        }
    }
    if (rc == ERR_OK) {
        *ret = output[half->n_levels - 1];
    }
    return rc;
}

int vae_ltx2_decode(struct vae_ltx2 *vae, const struct tensor *z, const struct vae_ltx2_decode *how,
                    struct workspace *ws, const struct tensor *out, struct err *err)
{
    const size_t mark = workspace_mark(ws);
    struct ltx2_run run = {.dev = vae->dev, .ws = ws};
    struct tensor last;
    int rc;

    CHECK_BUG(vae->halves & VAE_DECODER);
    run.causal = how->causal || vae->config.decoder_causal;
    run.reflect = vae->config.decoder_reflect;
    if (!TENSOR_IS(z, DTYPE_F32, -1, -1, -1, vae->config.latent_channels) || tensor_count(z) == 0) {
        return device_shape_err(err, "vae_ltx2_decode", "z", z);
    }
    if (!TENSOR_IS(out, DTYPE_F32, 1 + (z->dim[0] - 1) * vae->stride_t, z->dim[1] * vae->stride_s,
                   z->dim[2] * vae->stride_s, 3)) {
        return device_shape_err(err, "vae_ltx2_decode", "out", out);
    }
    rc = run_levels(&run, vae, z, how->space, &last, err);
    if (rc == ERR_OK) {
        rc = run_head(&run, vae, &last, out, err);
    }
    workspace_rewind(ws, mark);
    return rc;
}
