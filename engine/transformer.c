/*
 * The forward pass around the blocks: patches in, time and text embeddings, patches out.
 */
#include "engine/transformer_internal.h"

#include <stdlib.h>

#include "base/hash.h"
#include "kernels/adaln.h"
#include "kernels/convert.h"
#include "kernels/elementwise.h"
#include "kernels/patchify.h"
#include "kernels/rmsnorm.h"
#include "kernels/timestep.h"

static const float CAPTION_NORM_EPS = 1e-5F;
static const float CROSS_NORM_EPS = 1e-5F;

static int linear(struct transformer *tf, const struct transformer_linear *l,
                  const struct tensor *y, const struct tensor *x, enum matmul_act act,
                  struct err *err)
{
    const struct matmul_epilogue ep = {.bias = &l->bias, .act = act};

    return op_matmul(tf->dev, y, x, &l->weight, &ep, err);
}

int transformer_time_embed(struct transformer *tf, struct workspace *ws,
                           const struct tensor *features, const struct tensor *e,
                           const struct tensor *temb, struct err *err)
{
    const size_t mark = workspace_mark(ws);
    struct tensor h;
    int rc = WORKSPACE_F32(ws, &h, err, features->dim[0], tf->width);

    if (rc == ERR_OK) {
        rc = linear(tf, &tf->time1, &h, features, MATMUL_SILU, err);
    }
    if (rc == ERR_OK) {
        rc = linear(tf, &tf->time2, e, &h, MATMUL_NONE, err);
    }
    if (rc == ERR_OK) {
        rc = op_silu(tf->dev, &h, e, err);
    }
    if (rc == ERR_OK) {
        rc = linear(tf, &tf->time_mod, temb, &h, MATMUL_NONE, err);
    }
    workspace_rewind(ws, mark);
    return rc;
}

int transformer_caption(struct transformer *tf, struct workspace *ws, const struct tensor *embeds,
                        const struct tensor *proj, const struct tensor *out, struct err *err)
{
    const struct rmsnorm_params norm = {.eps = CAPTION_NORM_EPS};
    const size_t mark = workspace_mark(ws);
    struct tensor in;
    struct tensor h;
    int rc = workspace_as_act(ws, embeds, &in, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(ws, &h, err, embeds->dim[0], tf->width);
    }
    if (rc == ERR_OK) {
        rc = linear(tf, &tf->caption1, &h, &in, MATMUL_GELU_TANH, err);
    }
    if (rc == ERR_OK) {
        rc = linear(tf, &tf->caption2, proj, &h, MATMUL_NONE, err);
    }
    if (rc == ERR_OK) {
        rc = op_rmsnorm(tf->dev, out, proj, &tf->caption_norm, &norm, err);
    }
    workspace_rewind(ws, mark);
    return rc;
}

int transformer_text_from_caption(struct transformer *tf, const struct tensor *y,
                                  const struct transformer_text *text, struct err *err)
{
    const struct rmsnorm_params norm = {.eps = CROSS_NORM_EPS};
    int rc = ERR_OK;

    for (int64_t l = 0; l < tf->config.layers && rc == ERR_OK; l++) {
        const struct transformer_layer *layer = &tf->layers[l];
        const struct tensor k_layer = tensor_slice(&text->k, l, 1);
        const struct tensor v_layer = tensor_slice(&text->v, l, 1);
        const struct tensor k = TENSOR_RESHAPE(&k_layer, y->dim[0], tf->width);
        const struct tensor v = TENSOR_RESHAPE(&v_layer, y->dim[0], tf->width);

        rc = linear(tf, &layer->cross.k, &k, y, MATMUL_NONE, err);
        if (rc == ERR_OK) {
            rc = op_rmsnorm(tf->dev, &k, &k, &layer->cross.norm_k, &norm, err);
        }
        if (rc == ERR_OK) {
            rc = linear(tf, &layer->cross.v, &v, y, MATMUL_NONE, err);
        }
    }
    return rc;
}

int transformer_encode_text(struct transformer *tf, struct workspace *ws,
                            const struct tensor *embeds, struct transformer_text *ret,
                            struct err *err)
{
    const int64_t n = embeds->dim[0];
    struct transformer_text text;
    struct tensor y;
    size_t mark;
    int rc = WORKSPACE_ACT(ws, &text.k, err, tf->config.layers, n, tf->width);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(ws, &text.v, err, tf->config.layers, n, tf->width);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    mark = workspace_mark(ws);
    rc = WORKSPACE_ACT(ws, &y, err, n, tf->width);
    if (rc == ERR_OK) {
        rc = transformer_caption(tf, ws, embeds, &y, &y, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_text_from_caption(tf, &y, &text, err);
    }
    workspace_rewind(ws, mark);
    if (rc == ERR_OK) {
        *ret = text;
    }
    return rc;
}

int transformer_state_alloc(struct transformer *tf, struct workspace *ws, int64_t hw,
                            struct transformer_state *ret, struct err *err)
{
    const struct transformer_config *c = &tf->config;
    int rc = WORKSPACE_F32(ws, &ret->s, err, c->layers, c->heads, c->head_dim, c->head_dim);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(ws, &ret->k_sum, err, c->layers, c->heads, c->head_dim);
    }
    return rc != ERR_OK ? rc : WORKSPACE_ACT(ws, &ret->tail, err, c->layers, hw, tf->width);
}

int transformer_state_add(struct transformer *tf, const struct transformer_state *to,
                          const struct transformer_state *a, const struct transformer_state *b,
                          struct err *err)
{
    const int rc = op_add(tf->dev, &to->s, &a->s, &b->s, err);

    return rc != ERR_OK ? rc : op_add(tf->dev, &to->k_sum, &a->k_sum, &b->k_sum, err);
}

int transformer_state_copy(struct transformer *tf, const struct transformer_state *to,
                           const struct transformer_state *from, struct err *err)
{
    int rc = op_copy(tf->dev, &to->s, &from->s, err);

    if (rc == ERR_OK) {
        rc = op_copy(tf->dev, &to->k_sum, &from->k_sum, err);
    }
    return rc != ERR_OK ? rc : op_copy(tf->dev, &to->tail, &from->tail, err);
}

void transformer_round_rope_tables(struct transformer *tf, bool to_bf16)
{
    tf->rope_bf16 = to_bf16;
}

/* Room for n floats on the host. Grows in the dry run, so a forward that was planned allocates
 * nothing. */
static int reserve_host(struct transformer *tf, int64_t n, struct err *err)
{
    float *host;

    if ((size_t)n <= tf->host_capacity) {
        return ERR_OK;
    }
    host = realloc(tf->host, (size_t)n * sizeof(*host));
    if (!host) {
        return err_set(err, ERR_NO_MEMORY, "tables of %lld numbers", (long long)n);
    }
    tf->host = host;
    tf->host_capacity = (size_t)n;
    return ERR_OK;
}

static int rope_axis(struct transformer_run *run, int64_t first, int64_t n, int64_t pairs,
                     struct tensor *ret, struct err *err)
{
    struct transformer *tf = run->tf;
    int rc = WORKSPACE_F32(run->ws, ret, err, n, pairs, 2);

    if (rc == ERR_OK) {
        rc = reserve_host(tf, n * pairs * 2, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    rope3d_fill(tf->host, first, n, pairs);
    if (tf->rope_bf16) {
        convert_round_bf16(tf->host, n * pairs * 2);
    }
    return device_upload(tf->dev, ret, tf->host, err);
}

int transformer_rope(struct transformer_run *run, int64_t first_frame, struct err *err)
{
    const int64_t d = run->tf->config.head_dim;
    int rc;

    run->rope.frames = run->frames;
    run->rope.height = run->height;
    run->rope.width = run->width;
    rc = rope_axis(run, first_frame, run->frames, rope3d_t_pairs(d), &run->rope.t, err);
    if (rc == ERR_OK) {
        rc = rope_axis(run, 0, run->height, rope3d_hw_pairs(d), &run->rope.h, err);
    }
    return rc != ERR_OK ? rc : rope_axis(run, 0, run->width, rope3d_hw_pairs(d), &run->rope.w, err);
}

/* The distinct timesteps of all frames, and which of them each frame has. Both arrays hold
 * items * frames entries. Returns how many are distinct. */
static int64_t distinct_times(const struct transformer_run *run, float *times, int32_t *group)
{
    int64_t n = 0;

    for (int64_t i = 0; i < run->items * run->frames; i++) {
        int64_t u = 0;

        while (u < n && times[u] != run->call->timesteps[i]) {
            u++;
        }
        if (u == n) {
            times[n++] = run->call->timesteps[i];
        }
        group[i] = (int32_t)u;
    }
    return n;
}

static int upload_times(struct transformer_run *run, const float *times, const int32_t *group,
                        struct err *err)
{
    const int64_t entries = run->items * run->frames;
    int rc = workspace_tensor(run->ws, &run->group, DTYPE_I32, 1, &entries, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(run->ws, &run->times, err, run->n_times);
    }
    if (rc == ERR_OK) {
        rc = device_upload(run->tf->dev, &run->group, group, err);
    }
    return rc != ERR_OK ? rc : device_upload(run->tf->dev, &run->times, times, err);
}

/* The distinct timesteps and the frames' groups, to the device. */
static int place_times(struct transformer_run *run, struct err *err)
{
    const int64_t entries = run->items * run->frames;
    int32_t *group;
    int rc = reserve_host(run->tf, 2 * entries, err);

    if (rc != ERR_OK) {
        return rc;
    }
    group = (int32_t *)(void *)(run->tf->host + entries);
    run->n_times = distinct_times(run, run->tf->host, group);
    return upload_times(run, run->tf->host, group, err);
}

static int embed_times(struct transformer_run *run, struct err *err)
{
    struct tensor features;
    size_t mark;
    int rc = WORKSPACE_F32(run->ws, &run->temb, err, run->n_times, MOD_PARTS * run->tf->width);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(run->ws, &run->e, err, run->n_times, run->tf->width);
    }
    mark = workspace_mark(run->ws);
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(run->ws, &features, err, run->n_times, TIMESTEP_FEATURES);
    }
    if (rc == ERR_OK) {
        rc = op_timestep_features(run->tf->dev, &features, &run->times, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_time_embed(run->tf, run->ws, &features, &run->e, &run->temb, err);
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

static int embed_patches(struct transformer_run *run, const struct tensor *x, struct err *err)
{
    struct transformer *tf = run->tf;
    const size_t mark = workspace_mark(run->ws);
    const int64_t p = tf->config.patch_size;
    struct tensor u;
    int rc = WORKSPACE_ACT(run->ws, &u, err, run->n, p * p * tf->config.in_channels);

    for (int64_t b = 0; b < run->items && rc == ERR_OK; b++) {
        const struct tensor rows = tensor_slice(x, b * run->n, run->n);

        rc = op_patchify(tf->dev, &u, run->call->items[b].x, p, err);
        if (rc == ERR_OK) {
            rc = linear(tf, &tf->patch, &rows, &u, MATMUL_NONE, err);
        }
    }
    workspace_rewind(run->ws, mark);
    return rc;
}

/* y = LN(x) (1 + scale) + shift, both from table + e (MODEL 3.9). */
static int final_norm(struct transformer_run *run, const struct tensor *y, const struct tensor *x,
                      struct err *err)
{
    struct transformer *tf = run->tf;
    struct tensor mod;
    struct tensor parts[2];
    struct adaln_params params = {
        .shift = &parts[0],
        .scale = &parts[1],
        .group = &run->group,
        .rows_per_group = run->height * run->width,
        .eps = tf->config.norm_eps,
    };
    int rc = WORKSPACE_F32(run->ws, &mod, err, 2, run->n_times, tf->width);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = op_modulation(tf->dev, &mod, &tf->table, &run->e, err);
    for (int64_t i = 0; i < 2; i++) {
        parts[i] = tensor_slice(&mod, i, 1);
        parts[i] = TENSOR_RESHAPE(&parts[i], run->n_times, tf->width);
    }
    return rc != ERR_OK ? rc : op_adaln(tf->dev, y, x, &params, err);
}

/* Norm, projection, patches to latents. */
static int final_layer(struct transformer_run *run, const struct tensor *x, struct err *err)
{
    struct transformer *tf = run->tf;
    const int64_t p = tf->config.patch_size;
    struct tensor normed;
    struct tensor out;
    int rc = WORKSPACE_F32(run->ws, &out, err, x->dim[0], p * p * tf->config.out_channels);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(run->ws, &normed, err, x->dim[0], x->dim[1]);
    }
    if (rc == ERR_OK) {
        rc = final_norm(run, &normed, x, err);
    }
    if (rc == ERR_OK) {
        rc = linear(tf, &tf->proj_out, &out, &normed, MATMUL_NONE, err);
    }
    for (int64_t b = 0; b < run->items && rc == ERR_OK; b++) {
        const struct tensor rows = tensor_slice(&out, b * run->n, run->n);

        if (run->call->items[b].v) {
            rc = op_unpatchify(tf->dev, run->call->items[b].v, &rows, p, err);
        }
    }
    return rc;
}

static int tap(const struct transformer_run *run, enum transformer_tap which, int64_t layer,
               const struct tensor *x, struct err *err)
{
    return run->call->tap ? run->call->tap(run->call->tap_ctx, which, layer, x, err) : ERR_OK;
}

static int blocks_and_final(struct transformer_run *run, const struct tensor *x, struct err *err)
{
    const int64_t layers = run->tf->config.layers;
    bool wanted = false;
    int rc = tap(run, TRANSFORMER_TAP_TOKENS, 0, x, err);

    for (int64_t b = 0; b < run->items; b++) {
        wanted = wanted || run->call->items[b].v;
    }
    for (int64_t l = 0; l < layers && rc == ERR_OK; l++) {
        rc = transformer_block(run, l, x, !wanted && l == layers - 1, err);
        if (rc == ERR_OK) {
            rc = tap(run, TRANSFORMER_TAP_BLOCK, l, x, err);
        }
    }
    return rc == ERR_OK && wanted ? final_layer(run, x, err) : rc;
}

static int check_call(struct transformer *tf, const struct transformer_call *call, struct err *err)
{
    const struct tensor *x = call->items[0].x;
    const int64_t p = tf->config.patch_size;

    CHECK_BUG(call->n_items > 0);
    if (!TENSOR_IS(x, DTYPE_F32, -1, -1, -1, tf->config.in_channels) || x->dim[0] < 1 ||
        x->dim[1] < p || x->dim[2] < p || x->dim[1] % p != 0 || x->dim[2] % p != 0) {
        return device_shape_err(err, "transformer", "x", x);
    }
    for (int i = 0; i < call->n_items; i++) {
        const struct transformer_item *item = &call->items[i];

        if (!tensor_same_shape(item->x, x)) {
            return device_shape_err(err, "transformer", "x", item->x);
        }
        if (item->v && !tensor_same_shape(item->v, x)) {
            return device_shape_err(err, "transformer", "v", item->v);
        }
    }
    return ERR_OK;
}

/* ---- the recorded part ---- */

static void hash(uint64_t *h, const void *data, size_t size)
{
    *h = hash_bytes(*h, data, size);
}

static void hash_pointer(uint64_t *h, const void *p)
{
    const uintptr_t place = (uintptr_t)p;

    hash(h, &place, sizeof(place));
}

static void hash_place(uint64_t *h, const struct tensor *t)
{
    hash_pointer(h, t->data);
    hash(h, t->dim, sizeof(t->dim));
}

static void hash_state(uint64_t *h, const struct transformer_state *state)
{
    if (state) {
        hash_place(h, &state->s);
        hash_place(h, &state->k_sum);
        hash_place(h, &state->tail);
    }
    hash(h, &(const bool){state != NULL}, sizeof(bool));
}

/* Equal for calls that issue the same operations on the same places. What differs from step to step
 * (times, positions, latents) lies in device memory at those places. */
static uint64_t graph_key(const struct transformer_run *run)
{
    const size_t mark = workspace_mark(run->ws);
    uint64_t h = HASH_START;

    hash_pointer(&h, run->ws->base);
    hash(&h, &mark, sizeof(mark));
    hash_pointer(&h, run->tf);
    hash(&h, &run->n_times, sizeof(run->n_times));
    for (int64_t i = 0; i < run->items; i++) {
        const struct transformer_item *item = &run->call->items[i];

        hash_place(&h, item->x);
        hash_place(&h, item->v ? item->v : &(const struct tensor){0});
        hash_place(&h, &item->text->k);
        hash_place(&h, &item->text->v);
        hash_state(&h, item->history);
        hash_state(&h, item->save);
    }
    return run->call->tap || h == 0 ? 0 : h;
}

/* Operations only, so that a GPU can record them. */
static int compute(struct transformer_run *run, struct err *err)
{
    struct tensor x;
    int rc = embed_times(run, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(run->ws, &x, err, run->items * run->n, run->tf->width);
    }
    if (rc == ERR_OK) {
        rc = embed_patches(run, &x, err);
    }
    return rc != ERR_OK ? rc : blocks_and_final(run, &x, err);
}

static int compute_or_replay(struct transformer_run *run, struct err *err)
{
    struct device *dev = run->tf->dev;
    bool replayed;
    int rc = device_graph_begin(dev, graph_key(run), &replayed, err);

    if (rc != ERR_OK || replayed) {
        return rc;
    }
    rc = compute(run, err);
    if (rc != ERR_OK) {
        device_graph_abort(dev);
        return rc;
    }
    return device_graph_end(dev, err);
}

int transformer_forward(struct transformer *tf, struct workspace *ws,
                        const struct transformer_call *call, struct err *err)
{
    const size_t mark = workspace_mark(ws);
    struct transformer_run run = {.tf = tf, .ws = ws, .call = call};
    int rc = check_call(tf, call, err);

    if (rc != ERR_OK) {
        return rc;
    }
    run.items = call->n_items;
    run.frames = call->items[0].x->dim[0];
    run.height = call->items[0].x->dim[1] / tf->config.patch_size;
    run.width = call->items[0].x->dim[2] / tf->config.patch_size;
    run.n = run.frames * run.height * run.width;
    rc = transformer_rope(&run, call->first_frame, err);
    if (rc == ERR_OK) {
        rc = place_times(&run, err);
    }
    if (rc == ERR_OK) {
        rc = compute_or_replay(&run, err);
    }
    workspace_rewind(ws, mark);
    return rc;
}
