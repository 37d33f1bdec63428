/*
 * Checkers of the transformer: its pieces, whole forwards, and the causal form with its state.
 */
#include <stdio.h>
#include <string.h>

#include "engine/transformer_internal.h"
#include "kernels/adaln.h"
#include "kernels/elementwise.h"
#include "kernels/timestep.h"
#include "tests/golden_runner/support.h"

enum {
    MAX_ITEMS = 4,
    MAX_FRAMES = 64
};

/* ---- time embedding and caption ---- */

static int run_time_embed(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct tensor *host = ctx;
    const int64_t n = host->dim[0];
    struct tensor t;
    struct tensor features;
    struct tensor e;
    struct tensor temb;
    int rc = golden_place(b, host, &t, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &features, err, n, TIMESTEP_FEATURES);
    }

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &e, err, n, b->tf->width);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &temb, err, n, 6 * b->tf->width);
    }
    if (rc == ERR_OK) {
        rc = op_timestep_features(b->c->dev, &features, &t, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_time_embed(b->tf, &b->ws, &features, &e, &temb, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_tensor(b, "out.time_proj", &features, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_tensor(b, "out.embedded_timestep", &e, err);
    }
    return rc != ERR_OK ? rc : golden_compare_tensor(b, "out.temb6", &temb, err);
}

int golden_time_embed(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct tensor t;
    int rc = golden_bench_open(&b, c, true, err);

    if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.timestep", &t, err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_time_embed, &t, err);
    }
    golden_bench_close(&b);
    return rc;
}

static int run_caption(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct tensor *y = ctx;
    const struct tensor host = TENSOR_RESHAPE(y, y->dim[0] * y->dim[1], y->dim[2]);
    struct tensor rows;
    struct tensor proj;
    struct tensor out;
    int rc = golden_place(b, &host, &rows, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(&b->ws, &proj, err, rows.dim[0], b->tf->width);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(&b->ws, &out, err, rows.dim[0], b->tf->width);
    }
    if (rc == ERR_OK) {
        rc = transformer_caption(b->tf, &b->ws, &rows, &proj, &out, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_tensor(b, "out.proj", &proj, err);
    }
    return rc != ERR_OK ? rc : golden_compare_tensor(b, "out.out", &out, err);
}

int golden_caption(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct tensor y;
    int rc = golden_bench_open(&b, c, true, err);

    if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.y", &y, err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_caption, &y, err);
    }
    golden_bench_close(&b);
    return rc;
}

/* ---- rope tables ---- */

/* cos and sin of one token as the reference stores them: each value twice. */
static void expand_axis(float *cos_out, float *sin_out, const float *table, int64_t pairs)
{
    for (int64_t j = 0; j < pairs; j++) {
        cos_out[2 * j] = cos_out[2 * j + 1] = table[2 * j];
        sin_out[2 * j] = sin_out[2 * j + 1] = table[2 * j + 1];
    }
}

static int compare_rope(struct golden_bench *b, const int64_t range[4], struct err *err)
{
    const int64_t d = b->c->model->transformer.head_dim;
    const int64_t tp = rope3d_t_pairs(d);
    const int64_t hp = rope3d_hw_pairs(d);
    const int64_t frames = range[1] - range[0];
    const int64_t n = frames * range[2] * range[3];
    float *t = golden_floats(b, frames * tp * 2);
    float *h = golden_floats(b, range[2] * hp * 2);
    float *w = golden_floats(b, range[3] * hp * 2);
    float *cos_all = golden_floats(b, n * d);
    float *sin_all = golden_floats(b, n * d);
    int rc;

    rope3d_fill(t, range[0], frames, tp);
    rope3d_fill(h, 0, range[2], hp);
    rope3d_fill(w, 0, range[3], hp);
    for (int64_t i = 0; i < n; i++) {
        const int64_t x = i % range[3];
        const int64_t y = i / range[3] % range[2];
        const int64_t f = i / (range[3] * range[2]);
        float *c = cos_all + i * d;
        float *s = sin_all + i * d;

        expand_axis(c, s, t + f * tp * 2, tp);
        expand_axis(c + 2 * tp, s + 2 * tp, h + y * hp * 2, hp);
        expand_axis(c + 2 * (tp + hp), s + 2 * (tp + hp), w + x * hp * 2, hp);
    }
    rc = golden_compare(b->c, "out.cos", cos_all, n * d, err);
    return rc != ERR_OK ? rc : golden_compare(b->c, "out.sin", sin_all, n * d, err);
}

int golden_rope(struct golden_case *c, struct err *err)
{
    const int64_t p = c->model->transformer.patch_size;
    struct golden_bench b;
    struct tensor dims;
    int64_t v[4];
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK && safetensors_find(c->data, "in.start_end_H_W")) {
        rc = golden_tensor(c, "in.start_end_H_W", &dims, err);
        if (rc == ERR_OK) {
            memcpy(v, dims.data, sizeof(v));
        }
    } else if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.dims_THW_latent", &dims, err);
        if (rc == ERR_OK) {
            v[0] = 0;
            memcpy(v + 1, dims.data, 3 * sizeof(v[0]));
        }
    }
    if (rc == ERR_OK) {
        v[2] /= p;
        v[3] /= p;
        rc = compare_rope(&b, v, err);
    }
    golden_bench_close(&b);
    return rc;
}

/* ---- one block ---- */

/* The branches one by one with plain outputs, and the block as the product runs it. */
struct block_check {
    int64_t index;
    struct transformer_run run;
    struct transformer_call call;
    struct transformer_item items[MAX_ITEMS];
    struct transformer_text text[MAX_ITEMS];
    struct tensor in_x;                          /* [items * n, D] */
    struct tensor in_temb;                       /* [items, 6D] */
    struct tensor y[MAX_ITEMS];                  /* [keys, D] */
    struct tensor x, a, branch, temb, mod, zero; /* in the workspace */
};

static int block_prepare(struct golden_bench *b, struct block_check *k, struct err *err)
{
    struct transformer *tf = b->tf;
    const int64_t rows = k->in_x.dim[0];
    const int64_t entries = k->run.items * k->run.frames;
    int32_t group[MAX_ITEMS * MAX_FRAMES];
    int rc = golden_place(b, &k->in_x, &k->x, err);

    if (rc == ERR_OK) {
        rc = golden_place(b, &k->in_temb, &k->temb, err);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_ACT(&b->ws, &k->a, err, rows, tf->width);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &k->branch, err, rows, tf->width);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &k->mod, err, MOD_PARTS, k->run.items, tf->width);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &k->zero, err, k->run.items, tf->width);
    }
    if (rc == ERR_OK) {
        rc = workspace_tensor(&b->ws, &k->run.group, DTYPE_I32, 1, &entries, err);
    }
    for (int64_t i = 0; i < entries; i++) {
        group[i] = (int32_t)(i / k->run.frames);
    }
    for (int64_t i = 0; i < k->run.items && rc == ERR_OK; i++) {
        const int64_t layers = tf->config.layers;
        struct tensor y;

        rc = WORKSPACE_ACT(&b->ws, &k->text[i].k, err, layers, k->y[i].dim[0], tf->width);
        if (rc == ERR_OK) {
            rc = WORKSPACE_ACT(&b->ws, &k->text[i].v, err, layers, k->y[i].dim[0], tf->width);
        }
        if (rc == ERR_OK) {
            rc = golden_place_act(b, &k->y[i], &y, err);
        }
        if (rc == ERR_OK) {
            rc = transformer_text_from_caption(tf, &y, &k->text[i], err);
        }
        k->items[i].text = &k->text[i];
    }
    if (rc == ERR_OK) {
        rc = device_upload(b->c->dev, &k->run.group, group, err);
    }
    if (rc == ERR_OK) {
        rc = op_fill(b->c->dev, &k->zero, 0.0F, err);
    }
    if (rc == ERR_OK) {
        rc = op_modulation(b->c->dev, &k->mod, &tf->layers[k->index].table, &k->temb, err);
    }
    return rc != ERR_OK ? rc : transformer_rope(&k->run, 0, err);
}

static struct tensor mod_part(const struct block_check *k, int part)
{
    const struct tensor t = tensor_slice(&k->mod, part, 1);

    return TENSOR_RESHAPE(&t, t.dim[1], t.dim[2]);
}

static int block_norm(struct golden_bench *b, struct block_check *k, const struct tensor *shift,
                      const struct tensor *scale, struct err *err)
{
    const struct adaln_params params = {
        .shift = shift,
        .scale = scale,
        .group = &k->run.group,
        .rows_per_group = k->run.height * k->run.width,
        .eps = b->tf->config.norm_eps,
    };

    return op_adaln(b->c->dev, &k->a, &k->x, &params, err);
}

static int check_self(struct golden_bench *b, struct block_check *k, struct err *err)
{
    const struct tensor *bias = &b->tf->layers[k->index].self.out.bias;
    const struct tensor shift = mod_part(k, MOD_SHIFT_MSA);
    const struct tensor scale = mod_part(k, MOD_SCALE_MSA);
    const struct tensor gate = mod_part(k, MOD_GATE_MSA);
    const struct matmul_epilogue plain = {.bias = bias};
    const struct matmul_epilogue gated = {.bias = bias,
                                          .residual = true,
                                          .gate = &gate,
                                          .group = &k->run.group,
                                          .rows_per_group = k->run.height * k->run.width};
    int rc = block_norm(b, k, &k->zero, &k->zero, err);

    if (rc == ERR_OK) {
        rc = golden_compare_tensor(b, "out.norm1_out", &k->a, err);
    }
    if (rc == ERR_OK) {
        rc = block_norm(b, k, &shift, &scale, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_self_attention(&k->run, k->index, &k->a, &k->branch, &plain, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_tensor(b, "out.attn1_out", &k->branch, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_self_attention(&k->run, k->index, &k->a, &k->x, &gated, err);
    }
    return rc != ERR_OK ? rc : golden_compare_tensor(b, "out.after_self_attn", &k->x, err);
}

static int check_cross(struct golden_bench *b, struct block_check *k, struct err *err)
{
    const struct tensor *bias = &b->tf->layers[k->index].cross.out.bias;
    const struct matmul_epilogue plain = {.bias = bias};
    const struct matmul_epilogue residual = {.bias = bias, .residual = true};
    int rc = transformer_cross_attention(&k->run, k->index, &k->x, &k->branch, &plain, err);

    if (rc == ERR_OK) {
        rc = golden_compare_tensor(b, "out.attn2_out", &k->branch, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_cross_attention(&k->run, k->index, &k->x, &k->x, &residual, err);
    }
    return rc != ERR_OK ? rc : golden_compare_tensor(b, "out.after_cross_attn", &k->x, err);
}

static int check_feed_forward(struct golden_bench *b, struct block_check *k, struct err *err)
{
    const struct tensor shift = mod_part(k, MOD_SHIFT_MLP);
    const struct tensor scale = mod_part(k, MOD_SCALE_MLP);
    int rc = block_norm(b, k, &shift, &scale, err);

    if (rc == ERR_OK) {
        rc = golden_compare_tensor(b, "out.ff_in", &k->a, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_feed_forward(&k->run, k->index, &k->a, &k->branch, NULL, err);
    }
    return rc != ERR_OK ? rc : golden_compare_tensor(b, "out.ff_out", &k->branch, err);
}

static int run_block(struct golden_bench *b, void *ctx, struct err *err)
{
    struct block_check *k = ctx;
    int rc;

    k->run.tf = b->tf;
    k->run.ws = &b->ws;
    rc = block_prepare(b, k, err);
    if (rc == ERR_OK) {
        rc = check_self(b, k, err);
    }
    if (rc == ERR_OK) {
        rc = check_cross(b, k, err);
    }
    if (rc == ERR_OK) {
        rc = check_feed_forward(b, k, err);
    }
    if (rc == ERR_OK) {
        rc = device_upload(b->c->dev, &k->x, k->in_x.data, err);
    }
    if (rc == ERR_OK) {
        k->run.temb = k->temb;
        k->run.n_times = k->run.items;
        rc = transformer_block(&k->run, k->index, &k->x, false, err);
    }
    return rc != ERR_OK ? rc : golden_compare_tensor(b, "out.out", &k->x, err);
}

int golden_block(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct block_check k = {.index = (int64_t)golden_number(c, "block", 0)};
    struct tensor x;
    int rc = golden_bench_open(&b, c, true, err);

    if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.x", &x, err);
    }
    if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.temb6", &k.in_temb, err);
    }
    if (rc == ERR_OK) {
        k.in_x = TENSOR_RESHAPE(&x, x.dim[0] * x.dim[1], x.dim[2]);
        k.run.items = x.dim[0];
        k.run.frames = (int64_t)golden_number(c, "frames", 0);
        k.run.height = (int64_t)golden_number(c, "height", 0);
        k.run.width = (int64_t)golden_number(c, "width", 0);
        k.run.n = x.dim[1];
        k.call.n_items = (int)x.dim[0];
        k.call.items = k.items;
        k.run.call = &k.call;
    }
    for (int64_t i = 0; i < k.run.items && rc == ERR_OK; i++) {
        rc = golden_text(&b, "in.y", "in.mask", i, &k.y[i], err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_block, &k, err);
    }
    golden_bench_close(&b);
    return rc;
}

/* ---- whole forward ---- */

struct forward_check {
    int64_t items;
    struct tensor x[MAX_ITEMS], y[MAX_ITEMS];
    float times[MAX_ITEMS * MAX_FRAMES];
    struct golden_bench *b;
    float *stacked; /* [items * n, D] of a tap */
};

static int forward_tap(void *ctx, enum transformer_tap tap, int64_t layer, const struct tensor *x,
                       struct err *err)
{
    const struct forward_check *k = ctx;
    const int64_t last = k->b->tf->config.layers - 1;
    int rc = ERR_OK;

    if (tap == TRANSFORMER_TAP_TOKENS) {
        return golden_compare_tensor(k->b, "out.tokens", x, err);
    }
    if (layer == 0) {
        rc = golden_compare_tensor(k->b, "out.block0", x, err);
    }
    if (rc == ERR_OK && layer == last) {
        rc = golden_compare_tensor(k->b, "out.block_last", x, err);
    }
    return rc;
}

static int run_forward(struct golden_bench *b, void *ctx, struct err *err)
{
    struct forward_check *k = ctx;
    struct transformer_item items[MAX_ITEMS] = {0};
    struct transformer_text text[MAX_ITEMS];
    struct tensor x[MAX_ITEMS];
    struct tensor v[MAX_ITEMS];
    const struct transformer_call call = {
        .n_items = (int)k->items,
        .items = items,
        .timesteps = k->times,
        .tap = forward_tap,
        .tap_ctx = k,
    };
    int rc = ERR_OK;

    k->b = b;
    for (int64_t i = 0; i < k->items && rc == ERR_OK; i++) {
        struct tensor y;

        rc = golden_place(b, &k->y[i], &y, err);
        if (rc == ERR_OK) {
            rc = transformer_encode_text(b->tf, &b->ws, &y, &text[i], err);
        }
        if (rc == ERR_OK) {
            rc = golden_place(b, &k->x[i], &x[i], err);
        }
        if (rc == ERR_OK) {
            rc = workspace_tensor(&b->ws, &v[i], DTYPE_F32, 4, x[i].dim, err);
        }
        items[i] = (struct transformer_item){.x = &x[i], .v = &v[i], .text = &text[i]};
    }
    if (rc == ERR_OK) {
        rc = transformer_forward(b->tf, &b->ws, &call, err);
    }
    return rc != ERR_OK ? rc : golden_compare_on_device(b, "out.out", v, k->items, err);
}

static int forward_times(struct forward_check *k, const struct golden_case *c, struct err *err)
{
    const int64_t frames = k->x[0].dim[0];
    const bool per_frame = safetensors_find(c->data, "in.timestep_per_frame");
    struct tensor t;
    const int rc = golden_tensor(c, per_frame ? "in.timestep_per_frame" : "in.timestep", &t, err);

    for (int64_t i = 0; rc == ERR_OK && i < k->items * frames; i++) {
        k->times[i] = ((const float *)t.data)[per_frame ? i : i / frames];
    }
    return rc;
}

int golden_forward(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct forward_check k = {0};
    struct tensor x;
    int rc = golden_bench_open(&b, c, true, err);

    if (rc == ERR_OK) {
        rc = golden_tensor(c, "in.x", &x, err);
    }
    if (rc == ERR_OK && (x.dim[0] > MAX_ITEMS || x.dim[2] > MAX_FRAMES)) {
        rc = golden_mismatch(err, "in.x is larger than this checker's arrays");
    }
    k.items = rc == ERR_OK ? x.dim[0] : 0;
    for (int64_t i = 0; i < k.items && rc == ERR_OK; i++) {
        rc = golden_latents(&b, "in.x", i, &k.x[i], err);
        if (rc == ERR_OK) {
            rc = golden_text(&b, "in.y", "in.mask", i, &k.y[i], err);
        }
    }
    if (rc == ERR_OK) {
        rc = forward_times(&k, c, err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_forward, &k, err);
    }
    golden_bench_close(&b);
    return rc;
}

/* ---- causal form ---- */

enum {
    MAX_CHUNKS = 16
};

struct causal_check {
    int n_bounds;
    int64_t bounds[MAX_CHUNKS + 1];
    int64_t window; /* -1: all */
    struct tensor y;
    struct tensor x[MAX_CHUNKS], clean[MAX_CHUNKS];
    float t[MAX_CHUNKS];
};

/* Sum of the blocks in the window before chunk, and the last one's tail. */
static int causal_history(struct golden_bench *b, const struct causal_check *k, int64_t chunk,
                          const struct transformer_state *own, const struct transformer_state *sum,
                          struct err *err)
{
    const int64_t first = k->window < 0 || chunk < k->window ? 0 : chunk - k->window;
    int rc = transformer_state_copy(b->tf, sum, &own[first], err);

    for (int64_t i = first + 1; i < chunk && rc == ERR_OK; i++) {
        rc = transformer_state_add(b->tf, sum, sum, &own[i], err);
    }
    return rc != ERR_OK ? rc : op_copy(b->c->dev, &sum->tail, &own[chunk - 1].tail, err);
}

static int causal_pass(struct golden_bench *b, const struct causal_check *k, int64_t chunk,
                       const struct transformer_item *item, float time, const char *name,
                       struct err *err)
{
    struct tensor v;
    const struct transformer_item one = {
        .x = item->x, .v = &v, .text = item->text, .history = item->history, .save = item->save};
    float times[MAX_FRAMES];
    const struct transformer_call call = {
        .n_items = 1, .items = &one, .timesteps = times, .first_frame = k->bounds[chunk]};
    char key[64];
    int rc = workspace_tensor(&b->ws, &v, DTYPE_F32, 4, item->x->dim, err);

    for (int64_t i = 0; i < item->x->dim[0]; i++) {
        times[i] = time;
    }
    if (rc == ERR_OK) {
        rc = transformer_forward(b->tf, &b->ws, &call, err);
    }
    snprintf(key, sizeof(key), "out.chunk%lld.%s", (long long)chunk, name);
    return rc != ERR_OK ? rc : golden_compare_on_device(b, key, &v, 1, err);
}

static int run_causal(struct golden_bench *b, void *ctx, struct err *err)
{
    struct causal_check *k = ctx;
    const int64_t p = b->tf->config.patch_size;
    const int64_t hw = (k->x[0].dim[1] / p) * (k->x[0].dim[2] / p);
    struct transformer_state own[MAX_CHUNKS];
    struct transformer_state sum;
    struct transformer_text text;
    struct tensor y;
    int rc = golden_place(b, &k->y, &y, err);

    if (rc == ERR_OK) {
        rc = transformer_encode_text(b->tf, &b->ws, &y, &text, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_state_alloc(b->tf, &b->ws, hw, &sum, err);
    }
    for (int64_t i = 0; i < k->n_bounds - 1 && rc == ERR_OK; i++) {
        struct tensor x;
        struct tensor clean;
        struct transformer_item item = {.x = &x, .text = &text};

        rc = golden_place(b, &k->x[i], &x, err);
        if (rc == ERR_OK) {
            rc = golden_place(b, &k->clean[i], &clean, err);
        }
        if (rc == ERR_OK) {
            rc = transformer_state_alloc(b->tf, &b->ws, hw, &own[i], err);
        }
        if (rc == ERR_OK && i > 0) {
            rc = causal_history(b, k, i, own, &sum, err);
            item.history = &sum;
        }
        if (rc == ERR_OK) {
            rc = causal_pass(b, k, i, &item, k->t[i], "out", err);
        }
        item.x = &clean;
        item.save = &own[i];
        if (rc == ERR_OK) {
            rc = causal_pass(b, k, i, &item, 0.0F, "clean_out", err);
        }
        if (rc == ERR_OK) {
            char prefix[64];

            snprintf(prefix, sizeof(prefix), "out.chunk%lld.state", (long long)i);
            rc = golden_compare_state(b, prefix, &own[i], err);
        }
    }
    return rc;
}

static int causal_inputs(struct golden_bench *b, struct causal_check *k, struct err *err)
{
    int rc = golden_text(b, "in.y", "in.mask", 0, &k->y, err);

    for (int i = 0; i < k->n_bounds - 1 && rc == ERR_OK; i++) {
        char key[64];
        struct tensor t;

        snprintf(key, sizeof(key), "in.chunk%d.x", i);
        rc = golden_latents(b, key, 0, &k->x[i], err);
        if (rc == ERR_OK) {
            snprintf(key, sizeof(key), "in.chunk%d.clean", i);
            rc = golden_latents(b, key, 0, &k->clean[i], err);
        }
        if (rc == ERR_OK) {
            snprintf(key, sizeof(key), "in.chunk%d.t", i);
            rc = golden_tensor(b->c, key, &t, err);
        }
        if (rc == ERR_OK) {
            memcpy(&k->t[i], t.data, sizeof(k->t[i]));
        }
    }
    return rc;
}

int golden_causal(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct causal_check k = {.window = (int64_t)golden_number(c, "num_cached_blocks", -1)};
    int rc = golden_bench_open(&b, c, true, err);

    k.n_bounds = golden_ints(c, "chunk_frames", k.bounds, MAX_CHUNKS + 1);
    if (rc == ERR_OK && k.n_bounds < 2) {
        rc = golden_mismatch(err, "no chunk_frames");
    }
    if (rc == ERR_OK) {
        rc = causal_inputs(&b, &k, err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_causal, &k, err);
    }
    golden_bench_close(&b);
    return rc;
}
