/*
 * Weights of the transformer: names and shapes as published (MODEL 3.11). Matrices are borrowed
 * as they lie; small vectors become F32; two tensors are rearranged: the depthwise kernel to taps
 * by channels, and the temporal kernel to one [3D, D] matrix.
 */
#include "engine/transformer_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/convert.h"
#include "kernels/timestep.h"

enum {
    NAME_MAX_LEN = 128
};

struct loader {
    struct transformer *tf;
    struct weights *weights;
    struct err *err;
    char prefix[48];
};

static void full_name(const struct loader *ld, const char *name, const char *suffix,
                      char out[NAME_MAX_LEN])
{
    snprintf(out, NAME_MAX_LEN, "%s%s%s", ld->prefix, name, suffix);
}

static int load_vector(struct loader *ld, const char *name, const char *suffix, int64_t n,
                       struct tensor *ret)
{
    char key[NAME_MAX_LEN];
    struct tensor t;
    int rc;

    full_name(ld, name, suffix, key);
    rc = WEIGHTS_GET(ld->weights, &t, ld->err, key, n);
    return rc != ERR_OK ? rc : weight_pool_f32(&ld->tf->pool, &t, ret, ld->err);
}

/* A matrix stored with trailing dimensions of 1 (or a patch), used as [out, in]. */
static int load_matrix(struct loader *ld, const char *name, int rank, const int64_t *dims,
                       struct tensor *ret)
{
    char key[NAME_MAX_LEN];
    struct tensor t;
    int rc;

    full_name(ld, name, ".weight", key);
    rc = weights_get(ld->weights, key, rank, dims, &t, ld->err);
    if (rc != ERR_OK) {
        return rc;
    }
    t = TENSOR_RESHAPE(&t, dims[0], tensor_count(&t) / dims[0]);
    return weight_pool_keep(&ld->tf->pool, &t, ret, ld->err);
}

static int load_linear(struct loader *ld, const char *name, int64_t out, int64_t in, bool bias,
                       struct transformer_linear *ret)
{
    int rc = load_matrix(ld, name, 2, (const int64_t[]){out, in}, &ret->weight);

    if (rc == ERR_OK && bias) {
        rc = load_vector(ld, name, ".bias", out, &ret->bias);
    }
    return rc;
}

static int load_attention(struct loader *ld, struct transformer_layer *layer)
{
    const int64_t d = ld->tf->width;
    const struct {
        const char *name;
        struct transformer_linear *to;
        bool bias;
    } linear[] = {
        {"attn1.to_q", &layer->self.q, false}, {"attn1.to_k", &layer->self.k, false},
        {"attn1.to_v", &layer->self.v, false}, {"attn1.to_out.0", &layer->self.out, true},
        {"attn2.to_q", &layer->cross.q, true}, {"attn2.to_k", &layer->cross.k, true},
        {"attn2.to_v", &layer->cross.v, true}, {"attn2.to_out.0", &layer->cross.out, true},
    };
    const struct {
        const char *name;
        struct tensor *to;
    } norm[] = {
        {"attn1.norm_q.weight", &layer->self.norm_q},
        {"attn1.norm_k.weight", &layer->self.norm_k},
        {"attn2.norm_q.weight", &layer->cross.norm_q},
        {"attn2.norm_k.weight", &layer->cross.norm_k},
    };
    int rc = ERR_OK;

    for (size_t i = 0; i < ARRAY_LEN(linear) && rc == ERR_OK; i++) {
        rc = load_linear(ld, linear[i].name, d, d, linear[i].bias, linear[i].to);
    }
    for (size_t i = 0; i < ARRAY_LEN(norm) && rc == ERR_OK; i++) {
        rc = load_vector(ld, norm[i].name, "", d, norm[i].to);
    }
    return rc;
}

/* `name` as F32, which the caller frees; NULL: ld->err says why. */
static float *read_f32(struct loader *ld, const char *name, int rank, const int64_t *dims)
{
    char key[NAME_MAX_LEN];
    struct tensor t;
    float *data;

    full_name(ld, name, ".weight", key);
    if (weights_get(ld->weights, key, rank, dims, &t, ld->err) != ERR_OK) {
        return NULL;
    }
    data = malloc((size_t)tensor_count(&t) * sizeof(float));
    if (!data) {
        err_set(ld->err, ERR_NO_MEMORY, "%s", key);
        return NULL;
    }
    convert_to_f32(data, t.data, t.dtype, tensor_count(&t));
    return data;
}

/* from[r][c] -> to[c][r] */
static void transpose(float *to, const float *from, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) {
            to[c * rows + r] = from[r * cols + c];
        }
    }
}

/* The stored kernel [rows, taps] (taps fastest) becomes [taps, rows], shaped as out_dims. */
static int load_by_taps(struct loader *ld, const char *name, int rank, const int64_t *dims,
                        int64_t taps, const int64_t out_dims[2], enum dtype dtype,
                        struct tensor *ret)
{
    const int64_t count = out_dims[0] * out_dims[1];
    float *stored = read_f32(ld, name, rank, dims);
    float *by_taps;
    int rc;

    if (!stored) {
        return ld->err->code;
    }
    by_taps = malloc((size_t)count * sizeof(float));
    if (by_taps) {
        transpose(by_taps, stored, count / taps, taps);
        rc = weight_pool_copy(&ld->tf->pool, dtype, 2, out_dims, by_taps, ret, ld->err);
    } else {
        rc = err_set(ld->err, ERR_NO_MEMORY, "%s%s", ld->prefix, name);
    }
    free(by_taps);
    free(stored);
    return rc;
}

static int load_feed_forward(struct loader *ld, struct transformer_layer *layer)
{
    const int64_t d = ld->tf->width;
    const int64_t m = ld->tf->config.mlp_hidden;
    int rc = load_matrix(ld, "ff.conv_inverted", 4, (const int64_t[]){2 * m, d, 1, 1},
                         &layer->inverted.weight);

    if (rc == ERR_OK) {
        rc = load_vector(ld, "ff.conv_inverted", ".bias", 2 * m, &layer->inverted.bias);
    }
    if (rc == ERR_OK) {
        rc = load_by_taps(ld, "ff.conv_depth", 4, (const int64_t[]){2 * m, 1, 3, 3}, 9,
                          (const int64_t[]){9, 2 * m}, DTYPE_F32, &layer->depth);
    }
    if (rc == ERR_OK) {
        rc = load_vector(ld, "ff.conv_depth", ".bias", 2 * m, &layer->depth_bias);
    }
    if (rc == ERR_OK) {
        rc = load_matrix(ld, "ff.conv_point", 4, (const int64_t[]){d, m, 1, 1},
                         &layer->point.weight);
    }
    if (rc == ERR_OK) {
        rc = load_by_taps(ld, "ff.conv_temp", 4, (const int64_t[]){d, d, 3, 1}, 3,
                          (const int64_t[]){3 * d, d}, ld->tf->dev->act, &layer->temporal);
    }
    return rc;
}

static int load_table(struct loader *ld, int64_t rows, struct tensor *ret)
{
    char key[NAME_MAX_LEN];
    struct tensor t;
    int rc;

    full_name(ld, "scale_shift_table", "", key);
    rc = WEIGHTS_GET(ld->weights, &t, ld->err, key, rows, ld->tf->width);
    return rc != ERR_OK ? rc : weight_pool_f32(&ld->tf->pool, &t, ret, ld->err);
}

static int load_layers(struct loader *ld)
{
    struct transformer *tf = ld->tf;
    int rc = ERR_OK;

    for (int64_t l = 0; l < tf->config.layers && rc == ERR_OK; l++) {
        snprintf(ld->prefix, sizeof(ld->prefix), "transformer_blocks.%lld.", (long long)l);
        rc = load_table(ld, MOD_PARTS, &tf->layers[l].table);
        if (rc == ERR_OK) {
            rc = load_attention(ld, &tf->layers[l]);
        }
        if (rc == ERR_OK) {
            rc = load_feed_forward(ld, &tf->layers[l]);
        }
    }
    ld->prefix[0] = '\0';
    return rc;
}

static int load_global(struct loader *ld)
{
    struct transformer *tf = ld->tf;
    const int64_t d = tf->width;
    const int64_t p = tf->config.patch_size;
    const int64_t c = tf->config.in_channels;
    const struct {
        const char *name;
        struct transformer_linear *to;
        int64_t out, in;
    } linear[] = {
        {"time_embed.emb.timestep_embedder.linear_1", &tf->time1, d, TIMESTEP_FEATURES},
        {"time_embed.emb.timestep_embedder.linear_2", &tf->time2, d, d},
        {"time_embed.linear", &tf->time_mod, MOD_PARTS * d, d},
        {"caption_projection.linear_1", &tf->caption1, d, tf->config.caption_channels},
        {"caption_projection.linear_2", &tf->caption2, d, d},
        {"proj_out", &tf->proj_out, p * p * c, d},
    };
    int rc =
        load_matrix(ld, "patch_embedding", 5, (const int64_t[]){d, c, 1, p, p}, &tf->patch.weight);

    if (rc == ERR_OK) {
        rc = load_vector(ld, "patch_embedding", ".bias", d, &tf->patch.bias);
    }
    for (size_t i = 0; i < ARRAY_LEN(linear) && rc == ERR_OK; i++) {
        rc = load_linear(ld, linear[i].name, linear[i].out, linear[i].in, true, linear[i].to);
    }
    if (rc == ERR_OK) {
        rc = load_vector(ld, "caption_norm", ".weight", d, &tf->caption_norm);
    }
    return rc != ERR_OK ? rc : load_table(ld, 2, &tf->table);
}

int transformer_open(struct transformer **ret, const struct transformer_config *config,
                     struct weights *weights, struct device *dev, struct err *err)
{
    struct transformer *tf = calloc(1, sizeof(*tf));
    struct loader ld = {.tf = tf, .weights = weights, .err = err};
    int rc;

    if (!tf) {
        return err_set(err, ERR_NO_MEMORY, "transformer");
    }
    tf->config = *config;
    tf->dev = dev;
    tf->width = config->heads * config->head_dim;
    weight_pool_init(&tf->pool, dev);
    tf->layers = calloc((size_t)config->layers, sizeof(*tf->layers));
    if (!tf->layers) {
        rc = err_set(err, ERR_NO_MEMORY, "transformer: %lld layers", (long long)config->layers);
        goto out;
    }
    rc = load_global(&ld);
    if (rc == ERR_OK) {
        rc = load_layers(&ld);
    }
    if (rc == ERR_OK) {
        *ret = tf;
        tf = NULL; /* the caller owns it now */
    }
out:
    transformer_close(tf);
    return rc;
}

void transformer_close(struct transformer *tf)
{
    if (!tf) {
        return;
    }
    weight_pool_done(&tf->pool);
    free(tf->host);
    free(tf->layers);
    free(tf);
}

struct device *transformer_device(const struct transformer *tf)
{
    return tf->dev;
}

size_t transformer_copied_bytes(const struct transformer *tf)
{
    return tf->pool.bytes;
}
