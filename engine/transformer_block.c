/*
 * One block of the transformer, in the order of MODEL 3.5:
 *   x += gate_msa * self_attention(adaln(x));  x += cross_attention(x);  x += gate_mlp * ffn(adaln(x))
 * Only the linear attention's sums and the temporal convolution's left neighbour know of other
 * blocks (MODEL 4.2, 4.3). Scratch tensors are rewound after each branch.
 */
#include "engine/transformer_internal.h"

#include "kernels/adaln.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/glu_dwconv.h"
#include "kernels/linear_attention.h"
#include "kernels/rmsnorm.h"
#include "kernels/temporal_tail.h"

#include <math.h>

/* Of the RMSNorms on queries and keys, and in the linear attention's denominator [diffusers]. */
static const float QK_NORM_EPS = 1e-5F;
static const float LINEAR_ATTENTION_EPS = 1e-15F;

/* The feed-forward's 2M-wide activations exist for this many tokens at a time: few where the caches are
 * small, a whole clip where a piece has to fill a GPU. */
enum {
    FEED_FORWARD_TOKENS_CPU = 4096,
    FEED_FORWARD_TOKENS_GPU = 32768
};

static const struct tensor *bias_of(const struct transformer_linear *linear)
{
    return linear->bias.data ? &linear->bias : NULL;
}

static int project(struct transformer_run *run, const struct transformer_linear *linear,
                   const struct tensor *y, const struct tensor *x, struct err *err)
{
    const struct matmul_epilogue ep = {.bias = bias_of(linear)};

    return op_matmul(run->tf->dev, y, x, &linear->weight, &ep, err);
}

/* Layer l's part of a carried state. */
static struct tensor layer_s(const struct transformer_state *state, int64_t l)
{
    const struct tensor s = tensor_slice(&state->s, l, 1);

    return TENSOR_RESHAPE(&s, s.dim[1], s.dim[2], s.dim[3]);
}

static struct tensor layer_k_sum(const struct transformer_state *state, int64_t l)
{
    const struct tensor k = tensor_slice(&state->k_sum, l, 1);

    return TENSOR_RESHAPE(&k, k.dim[1], k.dim[2]);
}

static struct tensor layer_tail(const struct transformer_state *state, int64_t l)
{
    const struct tensor t = tensor_slice(&state->tail, l, 1);

    return TENSOR_RESHAPE(&t, t.dim[1], t.dim[2]);
}

static int add_history(struct transformer_run *run, int64_t l,
                       const struct transformer_state *history, const struct tensor *s,
                       const struct tensor *k_sum, struct err *err)
{
    const struct tensor old_s = layer_s(history, l);
    const struct tensor old_k_sum = layer_k_sum(history, l);
    const int rc = op_add(run->tf->dev, s, s, &old_s, err);

    return rc != ERR_OK ? rc : op_add(run->tf->dev, k_sum, k_sum, &old_k_sum, err);
}

static int save_sums(struct transformer_run *run, int64_t l, const struct transformer_state *save,
                     const struct tensor *s, const struct tensor *k_sum, struct err *err)
{
    const struct tensor to_s = layer_s(save, l);
    const struct tensor to_k_sum = layer_k_sum(save, l);
    const int rc = op_copy(run->tf->dev, &to_s, s, err);

    return rc != ERR_OK ? rc : op_copy(run->tf->dev, &to_k_sum, k_sum, err);
}

/* S and k_sum of one item: its own, saved if asked; then with the history's added. s_all and
 * k_sum_all are what queries read. save may be history, so the sum comes before the save. */
static int item_state(struct transformer_run *run, int64_t l, const struct transformer_item *item,
                      const struct tensor *k, const struct tensor *v, const struct tensor s[2],
                      const struct tensor k_sum[2], struct err *err)
{
    struct device *dev = run->tf->dev;
    const size_t mark = workspace_mark(run->ws);
    struct tensor rstd;
    struct linear_attention_qk kn = {
        .rstd = &rstd, .weight = &run->tf->layers[l].self.norm_k, .rope = &run->rope};
    int rc = WORKSPACE_F32(run->ws, &rstd, err, run->n);

    if (rc == ERR_OK) {
        rc = op_rms_rstd(dev, &rstd, k, QK_NORM_EPS, err);
    }
    if (rc == ERR_OK) {
        rc = op_fill(dev, &s[0], 0.0F, err);
    }
    if (rc == ERR_OK) {
        rc = op_fill(dev, &k_sum[0], 0.0F, err);
    }
    if (rc == ERR_OK) {
        rc = op_linear_attention_state(dev, &s[0], &k_sum[0], k, v, &kn, err);
    }
    if (rc == ERR_OK) {
        rc = op_copy(dev, &s[1], &s[0], err);
    }
    if (rc == ERR_OK) {
        rc = op_copy(dev, &k_sum[1], &k_sum[0], err);
    }
    if (rc == ERR_OK && item->history) {
        rc = add_history(run, l, item->history, &s[1], &k_sum[1], err);
    }
    if (rc == ERR_OK && item->save) {
        rc = save_sums(run, l, item->save, &s[0], &k_sum[0], err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

static int item_query(struct transformer_run *run, int64_t l, const struct tensor *q,
                      const struct tensor *s, const struct tensor *k_sum, struct err *err)
{
    const size_t mark = workspace_mark(run->ws);
    struct tensor rstd;
    struct linear_attention_qk qn = {
        .rstd = &rstd, .weight = &run->tf->layers[l].self.norm_q, .rope = &run->rope};
    int rc = WORKSPACE_F32(run->ws, &rstd, err, run->n);

    if (rc == ERR_OK) {
        rc = op_rms_rstd(run->tf->dev, &rstd, q, QK_NORM_EPS, err);
    }
    if (rc == ERR_OK) {
        rc = op_linear_attention_out(run->tf->dev, q, q, s, k_sum, LINEAR_ATTENTION_EPS, &qn, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

/* The linear attention of every item, q in place. */
static int attend(struct transformer_run *run, int64_t l, const struct tensor *q,
                  const struct tensor *k, const struct tensor *v, struct err *err)
{
    const int64_t heads = run->tf->config.heads;
    const int64_t d = run->tf->config.head_dim;
    struct tensor s[2];
    struct tensor k_sum[2];
    int rc = ERR_OK;

    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        rc = WORKSPACE_F32(run->ws, &s[i], err, heads, d, d);
        if (rc == ERR_OK) {
            rc = WORKSPACE_F32(run->ws, &k_sum[i], err, heads, d);
        }
    }
    for (int64_t b = 0; b < run->items && rc == ERR_OK; b++) {
        const struct tensor qb = tensor_slice(q, b * run->n, run->n);
        const struct tensor kb = tensor_slice(k, b * run->n, run->n);
        const struct tensor vb = tensor_slice(v, b * run->n, run->n);

        rc = item_state(run, l, &run->call->items[b], &kb, &vb, s, k_sum, err);
        if (rc == ERR_OK) {
            rc = item_query(run, l, &qb, &s[1], &k_sum[1], err);
        }
    }
    return rc;
}

int transformer_self_attention(struct transformer_run *run, int64_t l, const struct tensor *a,
                               const struct tensor *y, const struct matmul_epilogue *ep,
                               struct err *err)
{
    const struct transformer_layer *layer = &run->tf->layers[l];
    const size_t mark = workspace_mark(run->ws);
    const struct transformer_linear *linear[3] = {&layer->self.q, &layer->self.k, &layer->self.v};
    struct tensor qkv[3];
    int rc = ERR_OK;

    for (int i = 0; i < 3 && rc == ERR_OK; i++) {
        rc = WORKSPACE_ACT(run->ws, &qkv[i], err, run->items * run->n, run->tf->width);
        if (rc == ERR_OK) {
            rc = project(run, linear[i], &qkv[i], a, err);
        }
    }
    if (rc == ERR_OK) {
        rc = attend(run, l, &qkv[0], &qkv[1], &qkv[2], err);
    }
    if (rc == ERR_OK) {
        rc = op_matmul(run->tf->dev, y, &qkv[0], &layer->self.out.weight, ep, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

static int attend_text(struct transformer_run *run, int64_t l, int64_t item, const struct tensor *q,
                       struct err *err)
{
    const struct transformer_config *config = &run->tf->config;
    const struct transformer_text *text = run->call->items[item].text;
    const struct tensor k_layer = tensor_slice(&text->k, l, 1);
    const struct tensor v_layer = tensor_slice(&text->v, l, 1);
    const struct tensor k = TENSOR_RESHAPE(&k_layer, k_layer.dim[1], k_layer.dim[2]);
    const struct tensor v = TENSOR_RESHAPE(&v_layer, v_layer.dim[1], v_layer.dim[2]);
    const struct attention_params params = {
        .heads = config->cross_heads,
        .kv_heads = config->cross_heads,
        .scale = (float)(1.0 / sqrt((double)config->cross_head_dim)),
    };

    return op_attention(run->tf->dev, q, q, &k, &v, &params, err);
}

int transformer_cross_attention(struct transformer_run *run, int64_t l, const struct tensor *x,
                                const struct tensor *y, const struct matmul_epilogue *ep,
                                struct err *err)
{
    const struct transformer_layer *layer = &run->tf->layers[l];
    const struct rmsnorm_params norm = {.eps = QK_NORM_EPS};
    const size_t mark = workspace_mark(run->ws);
    const int64_t rows = x->dim[0] / run->items;
    struct tensor in;
    struct tensor q;
    int rc = WORKSPACE_ACT(run->ws, &q, err, x->dim[0], run->tf->width);

    if (rc == ERR_OK) {
        rc = workspace_as_act(run->ws, x, &in, err);
    }
    if (rc == ERR_OK) {
        rc = project(run, &layer->cross.q, &q, &in, err);
    }
    if (rc == ERR_OK) {
        rc = op_rmsnorm(run->tf->dev, &q, &q, &layer->cross.norm_q, &norm, err);
    }
    for (int64_t b = 0; b < run->items && rc == ERR_OK; b++) {
        const struct tensor qb = tensor_slice(&q, b * rows, rows);

        rc = attend_text(run, l, b, &qb, err);
    }
    if (rc == ERR_OK) {
        rc = op_matmul(run->tf->dev, y, &q, &layer->cross.out.weight, ep, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

/* r[rows, D] = conv_point(glu(conv_inverted(b))), some frames at a time. */
static int spatial_part(struct transformer_run *run, int64_t l, const struct tensor *b,
                        const struct tensor *r, struct err *err)
{
    const struct transformer_layer *layer = &run->tf->layers[l];
    const int64_t m = run->tf->config.mlp_hidden;
    const int64_t hw = run->height * run->width;
    const int64_t frames = b->dim[0] / hw;
    const int64_t tokens =
        run->tf->dev->kind == DEVICE_CPU ? FEED_FORWARD_TOKENS_CPU : FEED_FORWARD_TOKENS_GPU;
    const int64_t piece = tokens / hw < 1 ? 1 : tokens / hw;
    const size_t mark = workspace_mark(run->ws);
    int rc = ERR_OK;

    for (int64_t f = 0; f < frames && rc == ERR_OK; f += piece) {
        const int64_t n = frames - f < piece ? frames - f : piece;
        const struct tensor in = tensor_slice(b, f * hw, n * hw);
        const struct tensor out = tensor_slice(r, f * hw, n * hw);
        struct tensor u;
        struct tensor p;

        rc = WORKSPACE_ACT(run->ws, &u, err, n, run->height, run->width, 2 * m);
        if (rc == ERR_OK) {
            rc = WORKSPACE_ACT(run->ws, &p, err, n, run->height, run->width, m);
        }
        if (rc == ERR_OK) {
            const struct tensor rows = TENSOR_RESHAPE(&u, n * hw, 2 * m);

            rc = project(run, &layer->inverted, &rows, &in, err);
        }
        if (rc == ERR_OK) {
            rc = op_glu_dwconv(run->tf->dev, &p, &u, &layer->depth, &layer->depth_bias, err);
        }
        if (rc == ERR_OK) {
            const struct tensor rows = TENSOR_RESHAPE(&p, n * hw, m);

            rc = project(run, &layer->point, &out, &rows, err);
        }
        workspace_rewind(run->ws, mark);
    }
    return rc;
}

/* The left neighbour of the block's first frame: the history's tail, or zeros. */
static int left_neighbour(struct transformer_run *run, int64_t l,
                          const struct transformer_item *item, const struct tensor *first,
                          struct err *err)
{
    if (item->history) {
        const struct tensor tail = layer_tail(item->history, l);

        return op_copy(run->tf->dev, first, &tail, err);
    }
    return op_fill(run->tf->dev, first, 0.0F, err);
}

static int save_tail(struct transformer_run *run, int64_t l, const struct transformer_item *item,
                     const struct tensor *last_frame, struct err *err)
{
    struct tensor tail;

    if (!item->save) {
        return ERR_OK;
    }
    tail = layer_tail(item->save, l);
    return op_copy(run->tf->dev, &tail, last_frame, err);
}

static int feed_forward_item(struct transformer_run *run, int64_t l, int64_t b_index,
                             const struct tensor *b, const struct tensor *y,
                             const struct tensor *gate, struct err *err)
{
    const struct transformer_item *item = &run->call->items[b_index];
    const int64_t hw = run->height * run->width;
    const int64_t frames = b->dim[0] / hw;
    const struct tensor group = tensor_slice(&run->group, b_index * run->frames, run->frames);
    struct tensor r;
    struct tensor z;
    struct tensor first;
    struct tensor rest;
    struct tensor last;
    int rc = WORKSPACE_ACT(run->ws, &r, err, (frames + 1) * hw, run->tf->width);

    if (rc != ERR_OK) {
        return rc;
    }
    first = tensor_slice(&r, 0, hw);
    rest = tensor_slice(&r, hw, frames * hw);
    last = tensor_slice(&r, frames * hw, hw);
    rc = spatial_part(run, l, b, &rest, err);
    if (rc == ERR_OK && y) {
        rc = left_neighbour(run, l, item, &first, err);
    }
    if (rc == ERR_OK) {
        rc = save_tail(run, l, item, &last, err);
    }
    if (rc != ERR_OK || !y) {
        return rc;
    }
    rc = WORKSPACE_ACT(run->ws, &z, err, (frames + 1) * hw, 3 * run->tf->width);
    if (rc == ERR_OK) {
        rc = op_matmul(run->tf->dev, &z, &r, &run->tf->layers[l].temporal, NULL, err);
    }
    if (rc == ERR_OK) {
        rc = op_temporal_tail(run->tf->dev, y, &r, &z, frames, gate, gate ? &group : NULL, err);
    }
    return rc;
}

int transformer_feed_forward(struct transformer_run *run, int64_t l, const struct tensor *b,
                             const struct tensor *y, const struct tensor *gate, struct err *err)
{
    const int64_t rows = b->dim[0] / run->items;
    int rc = ERR_OK;

    for (int64_t i = 0; i < run->items && rc == ERR_OK; i++) {
        const size_t mark = workspace_mark(run->ws);
        const struct tensor in = tensor_slice(b, i * rows, rows);
        struct tensor out = {0};

        if (y) {
            out = tensor_slice(y, i * rows, rows);
        }
        rc = feed_forward_item(run, l, i, &in, y ? &out : NULL, gate, err);
        workspace_rewind(run->ws, mark);
    }
    return rc;
}

/* Part p of the block's modulation, [n_times, D]. */
static struct tensor part(const struct tensor *mod, int p)
{
    const struct tensor t = tensor_slice(mod, p, 1);

    return TENSOR_RESHAPE(&t, t.dim[1], t.dim[2]);
}

static int modulate(struct transformer_run *run, const struct tensor *a, const struct tensor *x,
                    const struct tensor *mod, int shift_part, const struct tensor *group,
                    struct err *err)
{
    const struct tensor shift = part(mod, shift_part);
    const struct tensor scale = part(mod, shift_part + 1);
    const struct adaln_params params = {
        .shift = &shift,
        .scale = &scale,
        .group = group,
        .rows_per_group = run->height * run->width,
        .eps = run->tf->config.norm_eps,
    };

    return op_adaln(run->tf->dev, a, x, &params, err);
}

/* Cross attention and feed-forward on the rows of x; `group` fits those rows. */
static int after_self_attention(struct transformer_run *run, int64_t l, const struct tensor *x,
                                const struct tensor *a, const struct tensor *mod,
                                const struct tensor *group, bool tail_only, struct err *err)
{
    const struct tensor gate = part(mod, MOD_GATE_MLP);
    const struct matmul_epilogue residual = {.bias = bias_of(&run->tf->layers[l].cross.out),
                                             .residual = true};
    int rc = transformer_cross_attention(run, l, x, x, &residual, err);

    if (rc == ERR_OK) {
        rc = modulate(run, a, x, mod, MOD_SHIFT_MLP, group, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_feed_forward(run, l, a, tail_only ? NULL : x, &gate, err);
    }
    return rc;
}

int transformer_block(struct transformer_run *run, int64_t l, const struct tensor *x,
                      bool last_state, struct err *err)
{
    const int64_t hw = run->height * run->width;
    const size_t mark = workspace_mark(run->ws);
    struct tensor mod;
    struct tensor a;
    struct tensor gate;
    int rc = WORKSPACE_F32(run->ws, &mod, err, MOD_PARTS, run->n_times, run->tf->width);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &a, err, x->dim[0], x->dim[1]);
    }
    if (rc == ERR_OK) {
        rc = op_modulation(run->tf->dev, &mod, &run->tf->layers[l].table, &run->temb, err);
    }
    if (rc == ERR_OK) {
        rc = modulate(run, &a, x, &mod, MOD_SHIFT_MSA, &run->group, err);
    }
    if (rc == ERR_OK) {
        gate = part(&mod, MOD_GATE_MSA);
        rc = transformer_self_attention(run, l, &a, x,
                                        &(const struct matmul_epilogue){
                                            .bias = bias_of(&run->tf->layers[l].self.out),
                                            .residual = true,
                                            .gate = &gate,
                                            .group = &run->group,
                                            .rows_per_group = hw,
                                        },
                                        err);
    }
    if (rc == ERR_OK && last_state && run->items == 1) {
        /* Only the last frame's r is wanted of the rest (MODEL 4.5): it needs no other frame. */
        const struct tensor x_last = tensor_slice(x, x->dim[0] - hw, hw);
        const struct tensor a_last = tensor_slice(&a, x->dim[0] - hw, hw);
        const struct tensor group_last = tensor_slice(&run->group, run->frames - 1, 1);

        rc = after_self_attention(run, l, &x_last, &a_last, &mod, &group_last, true, err);
    } else if (rc == ERR_OK) {
        rc = after_self_attention(run, l, x, &a, &mod, &run->group, last_state, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}
