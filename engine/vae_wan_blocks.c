/*
 * The layers that both halves are made of [diffusers autoencoder_kl_wan.py: WanCausalConv3d,
 * WanRMS_norm, WanResidualBlock, WanAttentionBlock, WanMidBlock].
 */
#include <math.h>

#include "engine/vae_wan_internal.h"
#include "kernels/attention.h"
#include "kernels/channel_norm.h"
#include "kernels/elementwise.h"

static const float norm_floor = 1e-12F; /* torch's F.normalize */

int wan_remember(struct wan_run *run, int slot, const struct tensor *x, struct err *err)
{
    const struct tensor *cache = run->cache ? &run->cache[slot] : NULL;
    const int64_t n = cache ? cache->dim[0] : 0;
    const int64_t kept = x->dim[0] < n ? n - x->dim[0] : 0; /* frames of the cache that stay */
    int rc = ERR_OK;

    for (int64_t i = 0; i < kept && rc == ERR_OK; i++) {
        const struct tensor to = tensor_slice(cache, i, 1);
        const struct tensor from = tensor_slice(cache, n - kept + i, 1);

        rc = op_copy(run->dev, &to, &from, err);
    }
    if (cache && rc == ERR_OK) {
        const struct tensor to = tensor_slice(cache, kept, n - kept);
        const struct tensor from = tensor_slice(x, x->dim[0] - (n - kept), n - kept);

        rc = op_copy(run->dev, &to, &from, err);
    }
    return rc;
}

int wan_conv_run(struct wan_run *run, const struct wan_conv *conv, const struct tensor *y,
                 const struct tensor *x, struct conv3d_params p, struct err *err)
{
    const int64_t kt = conv->conv.weight.dim[1];
    int rc;

    p.bias = &conv->conv.bias;
    if (run->first) {
        p.zero_frames = kt - 1;
    } else {
        p.history = &run->cache[conv->slot];
    }
    rc = op_conv3d(run->dev, y, x, &conv->conv.weight, &p, err);
    if (rc != ERR_OK) {
        return rc;
    }
    return wan_remember(run, conv->slot, x, err);
}

int wan_conv_same(struct wan_run *run, const struct wan_conv *conv, const struct tensor *y,
                  const struct tensor *x, const struct tensor *residual, struct err *err)
{
    const int64_t pad = conv->conv.weight.dim[2] / 2;
    const struct conv3d_params p = {
        .pad_top = pad,
        .pad_bottom = pad,
        .pad_left = pad,
        .pad_right = pad,
        .residual = residual,
    };

    return wan_conv_run(run, conv, y, x, p, err);
}

int wan_conv_frames(struct wan_run *run, const struct vae_conv *conv, const struct tensor *y,
                    const struct tensor *x, struct conv3d_params p, struct err *err)
{
    p.bias = &conv->bias;
    return op_conv3d(run->dev, y, x, &conv->weight, &p, err);
}

int wan_norm_silu(struct wan_run *run, const struct tensor *y, const struct tensor *x,
                  const struct tensor *gamma, struct err *err)
{
    const struct channel_norm_params p = {
        .kind = CHANNEL_NORM_L2,
        .eps = norm_floor,
        .gamma = gamma,
        .silu = true,
    };

    return op_channel_norm(run->dev, y, x, &p, err);
}

/* y = x + conv2(silu(norm(conv1(silu(norm(x)))))), with a shortcut where the widths differ; y is x
 * where they do not. */
static int resnet(struct wan_run *run, const struct wan_resnet *r, const struct tensor *y,
                  const struct tensor *x, struct err *err)
{
    const int64_t t = x->dim[0];
    const int64_t h = x->dim[1];
    const int64_t w = x->dim[2];
    const size_t mark = workspace_mark(run->ws);
    struct tensor inner;
    struct tensor normed; /* both convolutions' inputs, one after the other */
    struct tensor normed1;
    struct tensor normed2;
    int rc = WORKSPACE_ACT(run->ws, &normed, err, t, h, w, r->ci > r->co ? r->ci : r->co);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &inner, err, t, h, w, r->co);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    normed1 = TENSOR_OF(normed.data, normed.dtype, t, h, w, r->ci);
    normed2 = TENSOR_OF(normed.data, normed.dtype, t, h, w, r->co);
    if (r->ci != r->co) {
        rc = wan_conv_frames(run, &r->shortcut, y, x, (struct conv3d_params){0}, err);
    }
    if (rc == ERR_OK) {
        rc = wan_norm_silu(run, &normed1, x, &r->gamma1, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_same(run, &r->conv1, &inner, &normed1, NULL, err);
    }
    if (rc == ERR_OK) {
        rc = wan_norm_silu(run, &normed2, &inner, &r->gamma2, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_same(run, &r->conv2, y, &normed2, y, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

int wan_resnets(struct wan_run *run, const struct wan_level *level, struct tensor *x,
                struct err *err)
{
    struct tensor y = *x;
    int rc = ERR_OK;

    if (level->ci != level->co) {
        rc = WORKSPACE_ACT(run->ws, &y, err, x->dim[0], x->dim[1], x->dim[2], level->co);
    }
    for (int64_t i = 0; i < level->n_resnets && rc == ERR_OK; i++) {
        rc = resnet(run, &level->resnets[i], &y, i == 0 ? x : &y, err);
    }
    *x = y;
    return rc;
}

/* The three projections of the frame's normed pixels, then attention into q's place. */
static int attend(struct wan_run *run, const struct wan_attention *a, const struct tensor *q,
                  const struct tensor *normed, struct err *err)
{
    const int64_t c = q->dim[3];
    const int64_t n = q->dim[1] * q->dim[2];
    const struct conv3d_params plain = {0};
    const struct attention_params p = {
        .heads = 1,
        .kv_heads = 1,
        .scale = (float)(1.0 / sqrt((double)c)),
    };
    struct tensor q_rows = TENSOR_RESHAPE(q, n, c);
    struct tensor k;
    struct tensor v;
    int rc = WORKSPACE_ACT(run->ws, &k, err, 1, q->dim[1], q->dim[2], c);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &v, err, 1, q->dim[1], q->dim[2], c);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_frames(run, &a->q, q, normed, plain, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_frames(run, &a->k, &k, normed, plain, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_frames(run, &a->v, &v, normed, plain, err);
    }
    if (rc == ERR_OK) {
        const struct tensor k_rows = TENSOR_RESHAPE(&k, n, c);
        const struct tensor v_rows = TENSOR_RESHAPE(&v, n, c);

        rc = op_attention(run->dev, &q_rows, &q_rows, &k_rows, &v_rows, &p, err);
    }
    return rc;
}

/* x += proj(attention(norm(x))) of one frame [1, h, w, C] */
static int attention(struct wan_run *run, const struct wan_attention *a, const struct tensor *x,
                     struct err *err)
{
    const struct channel_norm_params norm = {
        .kind = CHANNEL_NORM_L2,
        .eps = norm_floor,
        .gamma = &a->gamma,
    };
    const struct conv3d_params add = {.residual = x};
    const size_t mark = workspace_mark(run->ws);
    struct tensor normed;
    struct tensor q;
    int rc = WORKSPACE_ACT(run->ws, &normed, err, 1, x->dim[1], x->dim[2], x->dim[3]);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &q, err, 1, x->dim[1], x->dim[2], x->dim[3]);
    }
    if (rc == ERR_OK) {
        rc = op_channel_norm(run->dev, &normed, x, &norm, err);
    }
    if (rc == ERR_OK) {
        rc = attend(run, a, &q, &normed, err);
    }
    if (rc == ERR_OK) {
        rc = wan_conv_frames(run, &a->proj, x, &q, add, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

int wan_mid_run(struct wan_run *run, const struct wan_mid *mid, const struct tensor *x,
                struct err *err)
{
    int rc = resnet(run, &mid->resnet[0], x, x, err);

    for (int64_t t = 0; t < x->dim[0] && rc == ERR_OK; t++) {
        const struct tensor frame = tensor_slice(x, t, 1);

        rc = attention(run, &mid->attention, &frame, err);
    }
    return rc != ERR_OK ? rc : resnet(run, &mid->resnet[1], x, x, err);
}
