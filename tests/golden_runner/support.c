#include "tests/golden_runner/support.h"

#include <stdio.h>
#include <string.h>

#include "kernels/convert.h"

int golden_bench_open(struct golden_bench *b, struct golden_case *c, bool transformer,
                      struct err *err)
{
    *b = (struct golden_bench){.c = c};
    arena_init(&b->arena, (size_t)1 << 30);
    workspace_init(&b->ws, c->dev);
    if (transformer) {
        const int rc = transformer_open(&b->tf, &c->model->transformer,
                                        c->model->transformer_weights, c->dev, err);

        if (rc != ERR_OK) {
            return rc;
        }
        transformer_round_rope_tables(b->tf, c->rope_bf16);
    }
    return ERR_OK;
}

void golden_bench_close(struct golden_bench *b)
{
    transformer_close(b->tf);
    workspace_done(&b->ws);
    arena_done(&b->arena);
}

float *golden_floats(struct golden_bench *b, int64_t n)
{
    float *p = arena_alloc(&b->arena, (size_t)n, sizeof(float));

    CHECK_BUG(p); /* a test program may end here */
    return p;
}

int golden_run(struct golden_bench *b, golden_run_fn fn, void *ctx, struct err *err)
{
    int rc;

    workspace_done(&b->ws);
    workspace_init(&b->ws, b->c->dev);
    b->c->dev->dry_run = true;
    rc = fn(b, ctx, err);
    b->c->dev->dry_run = false;
    if (rc == ERR_OK) {
        rc = workspace_commit(&b->ws, 0, err);
    }
    return rc != ERR_OK ? rc : fn(b, ctx, err);
}

static int place(struct golden_bench *b, const struct tensor *host, enum dtype dtype,
                 struct tensor *ret, struct err *err)
{
    const int rc = workspace_tensor(&b->ws, ret, dtype, host->rank, host->dim, err);

    return rc != ERR_OK ? rc : device_upload_as(b->c->dev, ret, host->data, host->dtype, err);
}

int golden_place(struct golden_bench *b, const struct tensor *host, struct tensor *ret,
                 struct err *err)
{
    return place(b, host, DTYPE_F32, ret, err);
}

int golden_place_act(struct golden_bench *b, const struct tensor *host, struct tensor *ret,
                     struct err *err)
{
    return place(b, host, b->c->dev->act, ret, err);
}

int golden_host(struct golden_bench *b, const struct tensor *t, struct tensor *ret, struct err *err)
{
    void *raw = golden_floats(b, tensor_count(t));
    float *host = golden_floats(b, tensor_count(t));
    const int rc = device_download(b->c->dev, raw, t, err);

    if (rc == ERR_OK) {
        convert_to_f32(host, raw, t->dtype, tensor_count(t));
        *ret = tensor_make(host, DTYPE_F32, t->rank, t->dim);
    }
    return rc;
}

int golden_compare_tensor(struct golden_bench *b, const char *name, const struct tensor *t,
                          struct err *err)
{
    struct tensor host;
    const int rc = b->c->dev->dry_run ? ERR_OK : golden_host(b, t, &host, err);

    return rc != ERR_OK || b->c->dev->dry_run
               ? rc
               : golden_compare(b->c, name, host.data, tensor_count(t), err);
}

int golden_latents(struct golden_bench *b, const char *name, int64_t index, struct tensor *ret,
                   struct err *err)
{
    struct tensor t;
    int64_t thw;
    float *in;
    float *out;
    int rc = golden_tensor(b->c, name, &t, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (t.dtype != DTYPE_F32 || t.rank != 5 || index >= t.dim[0]) {
        return golden_mismatch(err, "%s is not F32 [B, C, T, H, W]", name);
    }
    thw = t.dim[2] * t.dim[3] * t.dim[4];
    in = golden_floats(b, t.dim[1] * thw);
    out = golden_floats(b, t.dim[1] * thw);
    memcpy(in, (const float *)t.data + index * t.dim[1] * thw,
           (size_t)(t.dim[1] * thw) * sizeof(float));
    golden_to_channels_last(out, in, t.dim[1], thw);
    *ret = TENSOR_F32(out, t.dim[2], t.dim[3], t.dim[4], t.dim[1]);
    return ERR_OK;
}

int golden_text(struct golden_bench *b, const char *y, const char *mask, int64_t index,
                struct tensor *ret, struct err *err)
{
    struct tensor ty;
    struct tensor tm;
    float *rows;
    int64_t n = 0;
    int rc = golden_tensor(b->c, y, &ty, err);

    if (rc == ERR_OK) {
        rc = golden_tensor(b->c, mask, &tm, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    rows = golden_floats(b, ty.dim[1] * ty.dim[2]);
    for (int64_t i = 0; i < ty.dim[1]; i++) {
        if (((const float *)tm.data)[index * ty.dim[1] + i] > 0.5F) {
            memcpy(rows + n * ty.dim[2],
                   (const float *)ty.data + (index * ty.dim[1] + i) * ty.dim[2],
                   (size_t)ty.dim[2] * sizeof(float));
            n++;
        }
    }
    *ret = TENSOR_F32(rows, n, ty.dim[2]);
    return ERR_OK;
}

int golden_image(struct golden_bench *b, struct tensor *ret, struct err *err)
{
    struct tensor t;
    float *rgb;
    int rc;

    *ret = (struct tensor){0};
    if (!safetensors_find(b->c->data, "in.image01")) {
        return ERR_OK;
    }
    rc = golden_tensor(b->c, "in.image01", &t, err);
    if (rc != ERR_OK) {
        return rc;
    }
    rgb = golden_floats(b, tensor_count(&t));
    golden_to_channels_last(rgb, t.data, 3, t.dim[2] * t.dim[3]);
    for (int64_t i = 0; i < tensor_count(&t); i++) {
        rgb[i] = 2.0F * rgb[i] - 1.0F;
    }
    *ret = TENSOR_F32(rgb, 1, t.dim[2], t.dim[3], 3);
    return ERR_OK;
}

int golden_compare_state(struct golden_bench *b, const char *prefix,
                         const struct transformer_state *state, struct err *err)
{
    static const char *const name[3] = {"vk", "k_sum", "temporal"};
    const struct tensor *part[3] = {&state->s, &state->k_sum, &state->tail};
    int rc = ERR_OK;

    for (int64_t i = 0; i < 3 * state->s.dim[0] && rc == ERR_OK; i++) {
        const struct tensor t = tensor_slice(part[i % 3], i / 3, 1);
        struct tensor host;
        const float *got;
        char key[96];

        snprintf(key, sizeof(key), "%s.layer%lld.%s", prefix, (long long)(i / 3), name[i % 3]);
        if (b->c->dev->dry_run || !safetensors_find(b->c->data, key)) {
            continue;
        }
        rc = golden_host(b, &t, &host, err);
        if (rc != ERR_OK) {
            break;
        }
        got = host.data;
        if (i % 3 == 2) { /* stored [D, hw] */
            float *first = golden_floats(b, tensor_count(&t));

            golden_to_channels_first(first, host.data, t.dim[2], t.dim[1]);
            got = first;
        }
        rc = golden_compare(b->c, key, got, tensor_count(&t), err);
    }
    return rc;
}

int golden_ints(const struct golden_case *c, const char *key, int64_t *out, int max)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(c->params, key);
    const cJSON *item;
    int n = 0;

    cJSON_ArrayForEach(item, array)
    {
        if (n < max) {
            out[n++] = (int64_t)item->valuedouble;
        }
    }
    return n;
}

int golden_compare_latents(struct golden_bench *b, const char *name, const struct tensor *items,
                           int64_t n, struct err *err)
{
    const int64_t c = items[0].dim[3];
    const int64_t thw = items[0].dim[0] * items[0].dim[1] * items[0].dim[2];
    float *all = golden_floats(b, n * c * thw);

    for (int64_t i = 0; i < n; i++) {
        golden_to_channels_first(all + i * c * thw, items[i].data, c, thw);
    }
    return golden_compare(b->c, name, all, n * c * thw, err);
}

int golden_compare_on_device(struct golden_bench *b, const char *name, const struct tensor *items,
                             int64_t n, struct err *err)
{
    struct tensor *host;
    int rc = ERR_OK;

    if (b->c->dev->dry_run) {
        return ERR_OK;
    }
    host = arena_alloc(&b->arena, (size_t)n, sizeof(*host));
    CHECK_BUG(host);
    for (int64_t i = 0; i < n && rc == ERR_OK; i++) {
        rc = golden_host(b, &items[i], &host[i], err);
    }
    return rc != ERR_OK ? rc : golden_compare_latents(b, name, host, n, err);
}
