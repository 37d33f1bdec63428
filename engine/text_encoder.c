#include "engine/text_encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/embed.h"
#include "kernels/geglu.h"
#include "kernels/matmul.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope_half.h"

struct layer {
    struct tensor q, k, v, o; /* [heads * head_dim or kv_heads * head_dim, hidden], o transposed */
    struct tensor gate, up, down; /* [intermediate, hidden], down transposed */
    struct tensor input_norm, post_attention_norm, pre_ff_norm, post_ff_norm; /* [hidden] */
};

struct text_encoder {
    struct gemma2_config config;
    struct device *dev; /* borrowed */
    bool rope_bf16;     /* text_encoder_round_rope_frequencies */
    bool on_host;       /* matrices stay in the mapped files and are uploaded when they are used */
    struct weight_pool pool;
    struct tensor embed;  /* [vocab, hidden] */
    struct tensor norm;   /* [hidden] */
    struct layer *layers; /* owned; config.layers entries */
};

/* Activations of one forward pass over n tokens; F32 where it says so, else as the device keeps them. */
struct buffers {
    struct tensor table;    /* [n, 2, head_dim / 2] F32 rotary positions */
    struct tensor x;        /* [n, hidden] F32 residual stream */
    struct tensor a;        /* [n, hidden] normed input of a branch, then its output */
    struct tensor q;        /* [n, heads * head_dim], then the attention's output */
    struct tensor k, v;     /* [n, kv_heads * head_dim] */
    struct tensor gate, up; /* [n, intermediate] */
    struct tensor matrix;   /* on_host: room for the largest matrix, one at a time */
};

static int take(struct text_encoder *enc, struct weights *w, int64_t index, const char *name,
                struct tensor *ret, const int64_t dims[2], struct err *err)
{
    const int rank = dims[1] > 0 ? 2 : 1;
    char full[96];
    struct tensor found;
    int rc;

    if (index >= 0) {
        snprintf(full, sizeof(full), "layers.%lld.%s.weight", (long long)index, name);
    } else {
        snprintf(full, sizeof(full), "%s.weight", name);
    }
    rc = weights_get(w, full, rank, dims, &found, err);
    if (rc != ERR_OK) {
        return rc;
    }
    if (rank == 2 && enc->on_host) {
        *ret = found;
        return ERR_OK;
    }
    return rank == 2 ? weight_pool_keep(&enc->pool, &found, ret, err)
                     : weight_pool_f32(&enc->pool, &found, ret, err);
}

static int take_layer(struct text_encoder *enc, struct weights *w, int64_t index, struct err *err)
{
    const struct gemma2_config *c = &enc->config;
    struct layer *l = &enc->layers[index];
    const int64_t hidden = c->hidden_size;
    const int64_t q_width = c->heads * c->head_dim;
    const int64_t kv_width = c->kv_heads * c->head_dim;
    const struct {
        const char *name;
        struct tensor *to;
        int64_t dims[2];
    } wanted[] = {
        {"self_attn.q_proj", &l->q, {q_width, hidden}},
        {"self_attn.k_proj", &l->k, {kv_width, hidden}},
        {"self_attn.v_proj", &l->v, {kv_width, hidden}},
        {"self_attn.o_proj", &l->o, {hidden, q_width}},
        {"mlp.gate_proj", &l->gate, {c->intermediate_size, hidden}},
        {"mlp.up_proj", &l->up, {c->intermediate_size, hidden}},
        {"mlp.down_proj", &l->down, {hidden, c->intermediate_size}},
        {"input_layernorm", &l->input_norm, {hidden, 0}},
        {"post_attention_layernorm", &l->post_attention_norm, {hidden, 0}},
        {"pre_feedforward_layernorm", &l->pre_ff_norm, {hidden, 0}},
        {"post_feedforward_layernorm", &l->post_ff_norm, {hidden, 0}},
    };
    int rc = ERR_OK;

    for (size_t i = 0; i < ARRAY_LEN(wanted) && rc == ERR_OK; i++) {
        rc = take(enc, w, index, wanted[i].name, wanted[i].to, wanted[i].dims, err);
    }
    return rc;
}

static int take_all(struct text_encoder *enc, struct weights *w, struct err *err)
{
    const int64_t embed_dims[2] = {enc->config.vocab_size, enc->config.hidden_size};
    const int64_t norm_dims[2] = {enc->config.hidden_size, 0};
    int rc = take(enc, w, -1, "embed_tokens", &enc->embed, embed_dims, err);

    if (rc == ERR_OK) {
        rc = take(enc, w, -1, "norm", &enc->norm, norm_dims, err);
    }
    for (int64_t i = 0; i < enc->config.layers && rc == ERR_OK; i++) {
        rc = take_layer(enc, w, i, err);
    }
    /* The language head, tied to the embedding, in files that were saved with one. */
    weights_ignore(w, "lm_head.weight");
    return rc;
}

int text_encoder_open(struct text_encoder **ret, const struct gemma2_config *config,
                      struct weights *w, struct device *dev, struct err *err)
{
    struct text_encoder *enc = calloc(1, sizeof(*enc));
    int rc;

    if (!enc) {
        return err_set(err, ERR_NO_MEMORY, "text encoder");
    }
    enc->config = *config;
    enc->dev = dev;
    enc->on_host = dev->frugal && dev->kind != DEVICE_CPU;
    weight_pool_init(&enc->pool, dev);
    enc->layers = calloc((size_t)config->layers, sizeof(*enc->layers));
    if (!enc->layers) {
        rc = err_set(err, ERR_NO_MEMORY, "text encoder");
        goto out;
    }
    rc = take_all(enc, w, err);
    if (rc != ERR_OK) {
        goto out;
    }
    *ret = enc;
    enc = NULL;
out:
    text_encoder_close(enc);
    return rc;
}

void text_encoder_close(struct text_encoder *enc)
{
    if (!enc) {
        return;
    }
    weight_pool_done(&enc->pool);
    free(enc->layers);
    free(enc);
}

const struct gemma2_config *text_encoder_config(const struct text_encoder *enc)
{
    return &enc->config;
}

void text_encoder_round_rope_frequencies(struct text_encoder *enc, bool to_bf16)
{
    enc->rope_bf16 = to_bf16;
}

static int norm(const struct text_encoder *enc, const struct tensor *y, const struct tensor *x,
                const struct tensor *w, bool residual, struct err *err)
{
    const struct rmsnorm_params params = {
        .eps = (float)enc->config.rms_norm_eps, .w_offset = 1.0F, .residual = residual};

    return op_rmsnorm(enc->dev, y, x, w, &params, err);
}

/* y = x w^T */
static int linear(const struct text_encoder *enc, const struct buffers *b, const struct tensor *y,
                  const struct tensor *x, const struct tensor *w, struct err *err)
{
    struct tensor resident = *w;
    int rc = ERR_OK;

    if (enc->on_host) {
        resident = TENSOR_OF(b->matrix.data, enc->dev->act, w->dim[0], w->dim[1]);
        rc = device_upload_as(enc->dev, &resident, w->data, w->dtype, err);
    }
    return rc != ERR_OK ? rc : op_matmul(enc->dev, y, x, &resident, NULL, err);
}

/* x += norm(o(attention(norm(x)))) */
static int attention_branch(const struct text_encoder *enc, int64_t index, const struct buffers *b,
                            struct err *err)
{
    const struct gemma2_config *c = &enc->config;
    const struct layer *l = &enc->layers[index];
    const struct attention_params params = {
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .scale = (float)(1.0 / sqrt(c->query_pre_attn_scalar)),
        .softcap = (float)c->attn_logit_softcapping,
        .causal = true,
        .window = index % 2 == 0 ? c->sliding_window : 0,
    };
    int rc = norm(enc, &b->a, &b->x, &l->input_norm, false, err);

    if (rc == ERR_OK) {
        rc = linear(enc, b, &b->q, &b->a, &l->q, err);
    }
    if (rc == ERR_OK) {
        rc = linear(enc, b, &b->k, &b->a, &l->k, err);
    }
    if (rc == ERR_OK) {
        rc = linear(enc, b, &b->v, &b->a, &l->v, err);
    }
    if (rc == ERR_OK) {
        rc = op_rope_half(enc->dev, &b->q, &b->table, err);
    }
    if (rc == ERR_OK) {
        rc = op_rope_half(enc->dev, &b->k, &b->table, err);
    }
    if (rc == ERR_OK) {
        rc = op_attention(enc->dev, &b->q, &b->q, &b->k, &b->v, &params, err);
    }
    if (rc == ERR_OK) {
        rc = linear(enc, b, &b->a, &b->q, &l->o, err);
    }
    if (rc == ERR_OK) {
        rc = norm(enc, &b->x, &b->a, &l->post_attention_norm, true, err);
    }
    return rc;
}

/* x += norm(down(gelu(gate(m)) * up(m))), m = norm(x) */
static int feed_forward_branch(const struct text_encoder *enc, int64_t index,
                               const struct buffers *b, struct err *err)
{
    const struct layer *l = &enc->layers[index];
    int rc = norm(enc, &b->a, &b->x, &l->pre_ff_norm, false, err);

    if (rc == ERR_OK) {
        rc = linear(enc, b, &b->gate, &b->a, &l->gate, err);
    }
    if (rc == ERR_OK) {
        rc = linear(enc, b, &b->up, &b->a, &l->up, err);
    }
    if (rc == ERR_OK) {
        rc = op_geglu(enc->dev, &b->gate, &b->gate, &b->up, err);
    }
    if (rc == ERR_OK) {
        rc = linear(enc, b, &b->a, &b->gate, &l->down, err);
    }
    if (rc == ERR_OK) {
        rc = norm(enc, &b->x, &b->a, &l->post_ff_norm, true, err);
    }
    return rc;
}

static int reserve(const struct text_encoder *enc, int64_t n, struct workspace *ws,
                   struct buffers *b, struct err *err)
{
    const struct gemma2_config *c = &enc->config;
    const int64_t kv_width = c->kv_heads * c->head_dim;
    const enum dtype act = enc->dev->act;
    const struct {
        struct tensor *to;
        int64_t cols;
        enum dtype dtype;
    } wanted[] = {
        {&b->table, c->head_dim, DTYPE_F32},
        {&b->x, c->hidden_size, DTYPE_F32},
        {&b->a, c->hidden_size, act},
        {&b->q, c->heads * c->head_dim, act},
        {&b->k, kv_width, act},
        {&b->v, kv_width, act},
        {&b->gate, c->intermediate_size, act},
        {&b->up, c->intermediate_size, act},
    };
    int rc = ERR_OK;

    for (size_t i = 0; i < ARRAY_LEN(wanted) && rc == ERR_OK; i++) {
        rc = workspace_tensor(ws, wanted[i].to, wanted[i].dtype, 2,
                              (const int64_t[]){n, wanted[i].cols}, err);
    }
    if (rc == ERR_OK) {
        b->table = TENSOR_RESHAPE(&b->table, n, 2, c->head_dim / 2);
    }
    if (rc == ERR_OK && enc->on_host) {
        const int64_t q_width = c->heads * c->head_dim;
        const int64_t widest = q_width > c->intermediate_size ? q_width : c->intermediate_size;

        rc = WORKSPACE_ACT(ws, &b->matrix, err, widest, c->hidden_size);
    }
    return rc;
}

static int check_ids(const struct text_encoder *enc, const int32_t *ids, int64_t n, struct err *err)
{
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= enc->config.vocab_size) {
            return err_set(err, ERR_INVALID, "token %lld is %d, the vocabulary has %lld",
                           (long long)i, ids[i], (long long)enc->config.vocab_size);
        }
    }
    return ERR_OK;
}

/* The rows of the embedding that are used, and their numbers; for when the table is not there. */
static int upload_rows(const struct text_encoder *enc, const int32_t *ids, int64_t n,
                       struct workspace *ws, struct tensor *ret_rows, struct tensor *ret_numbers,
                       struct err *err)
{
    const size_t row_bytes = (size_t)enc->config.hidden_size * dtype_size(enc->embed.dtype);
    int rc = WORKSPACE_ACT(ws, ret_rows, err, n, enc->config.hidden_size);

    if (rc == ERR_OK) {
        rc = workspace_tensor(ws, ret_numbers, DTYPE_I32, 1, &n, err);
    }
    for (int64_t i = 0; i < n && rc == ERR_OK; i++) {
        const struct tensor row = tensor_slice(ret_rows, i, 1);
        const struct tensor number = tensor_slice(ret_numbers, i, 1);
        const int32_t k = (int32_t)i;

        rc = device_upload_as(enc->dev, &row,
                              (const char *)enc->embed.data + (size_t)ids[i] * row_bytes,
                              enc->embed.dtype, err);
        if (rc == ERR_OK) {
            rc = device_upload(enc->dev, &number, &k, err);
        }
    }
    return rc;
}

/* x = embed[ids] * sqrt(hidden) */
static int embed(const struct text_encoder *enc, const int32_t *ids, int64_t n,
                 struct workspace *ws, const struct tensor *x, struct err *err)
{
    const float scale = (float)sqrt((double)enc->config.hidden_size);
    struct tensor table = enc->embed;
    struct tensor on_device;
    int rc = check_ids(enc, ids, n, err);

    if (rc == ERR_OK && enc->on_host) {
        rc = upload_rows(enc, ids, n, ws, &table, &on_device, err);
    } else if (rc == ERR_OK) {
        rc = workspace_tensor(ws, &on_device, DTYPE_I32, 1, &n, err);
        if (rc == ERR_OK) {
            rc = device_upload(enc->dev, &on_device, ids, err);
        }
    }
    return rc != ERR_OK ? rc : op_embed(enc->dev, x, &table, &on_device, scale, err);
}

static int forward(const struct text_encoder *enc, const struct buffers *b,
                   const struct tensor *out, const struct text_encoder_tap *tap, struct err *err)
{
    int rc =
        op_rope_half_table(enc->dev, &b->table, (float)enc->config.rope_theta, enc->rope_bf16, err);

    for (int64_t i = 0; i < enc->config.layers && rc == ERR_OK; i++) {
        rc = attention_branch(enc, i, b, err);
        if (rc == ERR_OK) {
            rc = feed_forward_branch(enc, i, b, err);
        }
        if (rc == ERR_OK && tap && tap->layer == i) {
            rc = op_copy(enc->dev, &tap->to, &b->x, err);
        }
    }
    if (rc == ERR_OK) {
        rc = norm(enc, out, &b->x, &enc->norm, false, err);
    }
    return rc;
}

int text_encoder_forward(struct text_encoder *enc, const int32_t *ids, int64_t n,
                         struct workspace *ws, const struct tensor *out,
                         const struct text_encoder_tap *tap, struct err *err)
{
    const size_t mark = workspace_mark(ws);
    struct buffers b;
    int rc;

    if (n < 1) {
        return err_set(err, ERR_INVALID, "text encoder: no tokens");
    }
    rc = reserve(enc, n, ws, &b, err);
    if (rc == ERR_OK) {
        rc = embed(enc, ids, n, ws, &b.x, err);
    }
    if (rc == ERR_OK) {
        rc = forward(enc, &b, out, tap, err);
    }
    workspace_rewind(ws, mark);
    return rc;
}
