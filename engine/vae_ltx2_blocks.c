/*
 * The layers that both halves are made of [diffusers autoencoder_kl_ltx2.py: LTX2VideoCausalConv3d,
 * PerChannelRMSNorm, LTX2VideoResnetBlock3d]. Temporal padding repeats frames, so a convolution's
 * input is a buffer with room for them on both sides.
 */
#include "engine/vae_ltx2_internal.h"
#include "kernels/channel_norm.h"
#include "kernels/elementwise.h"

enum {
    KERNEL = 3
};

static const float norm_eps = 1e-8F; /* PerChannelRMSNorm's default */

int64_t ltx2_front(const struct ltx2_run *run)
{
    return run->causal ? KERNEL - 1 : (KERNEL - 1) / 2;
}

int64_t ltx2_back(const struct ltx2_run *run)
{
    return KERNEL - 1 - ltx2_front(run);
}

static int repeat_frame(struct ltx2_run *run, const struct tensor *buf, int64_t from, int64_t first,
                        int64_t last, struct err *err)
{
    const struct tensor frame = tensor_slice(buf, from, 1);
    int rc = ERR_OK;

    for (int64_t t = first; t < last && rc == ERR_OK; t++) {
        const struct tensor to = tensor_slice(buf, t, 1);

        rc = op_copy(run->dev, &to, &frame, err);
    }
    return rc;
}

int ltx2_pad(struct ltx2_run *run, const struct tensor *buf, const struct tensor *x, int64_t lead,
             bool norm, struct err *err)
{
    const struct channel_norm_params p = {
        .kind = CHANNEL_NORM_MEAN_SQUARE,
        .eps = norm_eps,
        .silu = true,
    };
    const int64_t first = lead + ltx2_front(run);
    const int64_t end = first + x->dim[0];
    const struct tensor middle = tensor_slice(buf, first, x->dim[0]);
    int rc;

    CHECK_BUG(buf->dim[0] == end + ltx2_back(run));
    rc = norm ? op_channel_norm(run->dev, &middle, x, &p, err) : op_copy(run->dev, &middle, x, err);
    if (rc == ERR_OK) {
        rc = repeat_frame(run, buf, first, 0, first, err);
    }
    return rc != ERR_OK ? rc : repeat_frame(run, buf, end - 1, end, buf->dim[0], err);
}

int ltx2_conv(struct ltx2_run *run, const struct vae_conv *conv, const struct tensor *y,
              const struct tensor *buf, const struct tensor *residual, struct err *err)
{
    const struct conv3d_params p = {
        .pad_top = KERNEL / 2,
        .pad_bottom = KERNEL / 2,
        .pad_left = KERNEL / 2,
        .pad_right = KERNEL / 2,
        .reflect = run->reflect,
        .bias = &conv->bias,
        .residual = residual,
    };

    return op_conv3d(run->dev, y, buf, &conv->weight, &p, err);
}

/* x += conv2(silu(PN(conv1(silu(PN(x)))))) */
static int resnet(struct ltx2_run *run, const struct ltx2_resnet *r, const struct tensor *x,
                  const struct tensor *buf, const struct tensor *inner, struct err *err)
{
    int rc = ltx2_pad(run, buf, x, 0, true, err);

    if (rc == ERR_OK) {
        rc = ltx2_conv(run, &r->conv1, inner, buf, NULL, err);
    }
    if (rc == ERR_OK) {
        rc = ltx2_pad(run, buf, inner, 0, true, err);
    }
    return rc != ERR_OK ? rc : ltx2_conv(run, &r->conv2, x, buf, x, err);
}

int ltx2_resnets(struct ltx2_run *run, const struct ltx2_level *level, const struct tensor *x,
                 struct err *err)
{
    const size_t mark = workspace_mark(run->ws);
    struct tensor buf;
    struct tensor inner;
    int rc =
        WORKSPACE_ACT(run->ws, &buf, err, x->dim[0] + KERNEL - 1, x->dim[1], x->dim[2], x->dim[3]);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &inner, err, x->dim[0], x->dim[1], x->dim[2], x->dim[3]);
    }
    for (int64_t i = 0; i < level->n_resnets && rc == ERR_OK; i++) {
        rc = resnet(run, &level->resnets[i], x, &buf, &inner, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}
