#include "kernels/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

struct shape {
    int64_t lq, lk, heads, kv_heads, head_dim;
    float scale, softcap;
    bool causal;
    int64_t window;
};

struct fixture {
    float *q, *k, *v, *o, *want;
    struct tensor tq, tk, tv, to;
    int64_t n_q;
};

static void setup(struct fixture *f, const struct shape *s)
{
    const int64_t n_kv = s->lk * s->kv_heads * s->head_dim;

    f->n_q = s->lq * s->heads * s->head_dim;
    f->q = test_alloc((size_t)f->n_q * sizeof(float) + 1);
    f->o = test_alloc((size_t)f->n_q * sizeof(float) + 1);
    f->want = test_alloc((size_t)f->n_q * sizeof(float) + 1);
    f->k = test_alloc((size_t)n_kv * sizeof(float));
    f->v = test_alloc((size_t)n_kv * sizeof(float));
    test_fill(f->q, f->n_q, 1);
    test_fill(f->k, n_kv, 2);
    test_fill(f->v, n_kv, 3);
    f->tq = TENSOR_F32(f->q, s->lq, s->heads * s->head_dim);
    f->to = TENSOR_F32(f->o, s->lq, s->heads * s->head_dim);
    f->tk = TENSOR_F32(f->k, s->lk, s->kv_heads * s->head_dim);
    f->tv = TENSOR_F32(f->v, s->lk, s->kv_heads * s->head_dim);
}

static void teardown(struct fixture *f)
{
    free(f->q);
    free(f->k);
    free(f->v);
    free(f->o);
    free(f->want);
}

static double score(const struct fixture *f, const struct shape *s, int64_t h, int64_t i, int64_t j)
{
    const int64_t g = h / (s->heads / s->kv_heads);
    const float *q = f->q + (i * s->heads + h) * s->head_dim;
    const float *k = f->k + (j * s->kv_heads + g) * s->head_dim;
    double sum = 0;

    if (s->causal && (j > i || (s->window > 0 && j <= i - s->window))) {
        return -INFINITY;
    }
    for (int64_t c = 0; c < s->head_dim; c++) {
        sum += (double)q[c] * (double)k[c];
    }
    sum *= (double)s->scale;
    return s->softcap > 0 ? (double)s->softcap * tanh(sum / (double)s->softcap) : sum;
}

/* The formula of the header, in double, one output row at a time. */
static void reference(struct fixture *f, const struct shape *s)
{
    double *p = test_alloc((size_t)s->lk * sizeof(*p));

    for (int64_t row = 0; row < s->lq * s->heads; row++) {
        const int64_t i = row / s->heads;
        const int64_t h = row % s->heads;
        const int64_t g = h / (s->heads / s->kv_heads);
        double max = -INFINITY;
        double sum = 0;

        for (int64_t j = 0; j < s->lk; j++) {
            p[j] = score(f, s, h, i, j);
            max = p[j] > max ? p[j] : max;
        }
        for (int64_t j = 0; j < s->lk; j++) {
            p[j] = exp(p[j] - max);
            sum += p[j];
        }
        for (int64_t c = 0; c < s->head_dim; c++) {
            double out = 0;

            for (int64_t j = 0; j < s->lk; j++) {
                out += p[j] * (double)f->v[(j * s->kv_heads + g) * s->head_dim + c];
            }
            f->want[row * s->head_dim + c] = (float)(out / sum);
        }
    }
    free(p);
}

static struct attention_params params_of(const struct shape *s)
{
    return (struct attention_params){.heads = s->heads,
                                     .kv_heads = s->kv_heads,
                                     .scale = s->scale,
                                     .softcap = s->softcap,
                                     .causal = s->causal,
                                     .window = s->window};
}

static void check(const struct shape *s)
{
    const struct attention_params params = params_of(s);
    struct fixture f;
    struct device dev;
    struct err err;
    float *first;

    setup(&f, s);
    reference(&f, s);
    first = test_alloc((size_t)f.n_q * sizeof(float) + 1);
    for (int threads = 1; threads <= 3; threads += 2) {
        EXPECT_OK(device_open_cpu(&dev, threads, &err));
        EXPECT_OK(op_attention(&dev, &f.to, &f.tq, &f.tk, &f.tv, &params, &err));
        EXPECT_CLOSE(f.o, f.want, f.n_q, 1e-7, 2e-6);
        if (threads == 1) {
            memcpy(first, f.o, (size_t)f.n_q * sizeof(float));
        }
        EXPECT(memcmp(first, f.o, (size_t)f.n_q * sizeof(float)) == 0);
        device_close(&dev);
    }
    /* In place, with the same bytes. */
    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    EXPECT_OK(op_attention(&dev, &f.tq, &f.tq, &f.tk, &f.tv, &params, &err));
    EXPECT(memcmp(first, f.q, (size_t)f.n_q * sizeof(float)) == 0);
    device_close(&dev);
    free(first);
    teardown(&f);
}

TEST(attention_of_two_keys_by_hand)
{
    /* Scores 0 and ln 3: weights 1/4 and 3/4. */
    float q[] = {1, 0};
    float k[] = {0, 5, 1.0986123F, 7};
    float v[] = {4, 8, 8, -8};
    float o[3] = {0, 0, 77};
    const float want[] = {7, -4};
    const struct attention_params params = {.heads = 1, .kv_heads = 1, .scale = 1};
    struct tensor to = TENSOR_F32(o, 1, 2);
    struct tensor tq = TENSOR_F32(q, 1, 2);
    struct tensor tk = TENSOR_F32(k, 2, 2);
    struct tensor tv = TENSOR_F32(v, 2, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_attention(&dev, &to, &tq, &tk, &tv, &params, &err));
    EXPECT_CLOSE(o, want, 2, 0, 1e-6);
    EXPECT(o[2] == 77);
    device_close(&dev);
}

TEST(attention_matches_the_formula_on_ragged_sizes)
{
    static const struct shape shape[] = {
        {.lq = 1, .lk = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .scale = 1},
        {.lq = 5, .lk = 300, .heads = 3, .kv_heads = 3, .head_dim = 112, .scale = 0.0944911183F},
        {.lq = 129, .lk = 513, .heads = 2, .kv_heads = 2, .head_dim = 20, .scale = 3},
        {.lq = 257, .lk = 31, .heads = 1, .kv_heads = 1, .head_dim = 7, .scale = 1},
        {.lq = 7, .lk = 1100, .heads = 1, .kv_heads = 1, .head_dim = 384, .scale = 0.0510310363F},
    };

    for (size_t i = 0; i < ARRAY_LEN(shape); i++) {
        check(&shape[i]);
    }
}

TEST(attention_shares_key_heads_and_caps_scores)
{
    const struct shape shape = {.lq = 33,
                                .lk = 33,
                                .heads = 6,
                                .kv_heads = 2,
                                .head_dim = 24,
                                .scale = 20,
                                .softcap = 5,
                                .causal = true};

    check(&shape);
}

TEST(attention_window_slides_over_tiles)
{
    static const int64_t window[] = {1, 2, 16, 200, 512, 700, 5000};

    for (size_t i = 0; i < ARRAY_LEN(window); i++) {
        const struct shape shape = {.lq = 650,
                                    .lk = 650,
                                    .heads = 2,
                                    .kv_heads = 1,
                                    .head_dim = 8,
                                    .scale = 2,
                                    .softcap = 50,
                                    .causal = true,
                                    .window = window[i]};

        check(&shape);
    }
}

TEST(attention_survives_large_scores)
{
    /* The maximum arrives in the last key tile: what went before is scaled to nothing. */
    const struct shape shape = {
        .lq = 3, .lk = 1500, .heads = 1, .kv_heads = 1, .head_dim = 2, .scale = 1};
    const struct attention_params params = params_of(&shape);
    const int64_t last = (shape.lk - 1) * shape.head_dim;
    struct fixture f;
    struct device dev;
    struct err err;

    setup(&f, &shape);
    for (int64_t i = 0; i < f.n_q; i++) {
        f.q[i] = 100;
    }
    f.k[last] = 30;
    f.k[last + 1] = 30;
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_attention(&dev, &f.to, &f.tq, &f.tk, &f.tv, &params, &err));
    for (int64_t i = 0; i < shape.lq; i++) {
        EXPECT_CLOSE(f.o + 2 * i, f.v + last, 2, 0, 1e-6);
    }
    device_close(&dev);
    teardown(&f);
}

TEST(attention_accepts_no_queries_and_computes_nothing_dry)
{
    const struct shape shape = {
        .lq = 2, .lk = 3, .heads = 2, .kv_heads = 2, .head_dim = 4, .scale = 1};
    const struct attention_params params = params_of(&shape);
    struct fixture f;
    struct device dev;
    struct err err;
    struct tensor none;

    setup(&f, &shape);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    none = tensor_slice(&f.tq, 0, 0);
    EXPECT_OK(op_attention(&dev, &none, &none, &f.tk, &f.tv, &params, &err));
    dev.dry_run = true;
    memset(f.o, 0, (size_t)f.n_q * sizeof(float));
    EXPECT_OK(op_attention(&dev, &f.to, &f.tq, &f.tk, &f.tv, &params, &err));
    for (int64_t i = 0; i < f.n_q; i++) {
        EXPECT(f.o[i] == 0);
    }
    device_close(&dev);
    teardown(&f);
}

TEST(attention_refuses_shapes_that_do_not_fit)
{
    const struct shape shape = {
        .lq = 4, .lk = 6, .heads = 4, .kv_heads = 2, .head_dim = 4, .scale = 1};
    struct attention_params params = params_of(&shape);
    struct fixture f;
    struct device dev;
    struct err err;
    struct tensor bad;

    setup(&f, &shape);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    params.kv_heads = 3;
    EXPECT_INT(op_attention(&dev, &f.to, &f.tq, &f.tk, &f.tv, &params, &err), ERR_INVALID);
    params.kv_heads = 0;
    EXPECT_INT(op_attention(&dev, &f.to, &f.tq, &f.tk, &f.tv, &params, &err), ERR_INVALID);
    params = params_of(&shape);
    params.causal = true;
    EXPECT_INT(op_attention(&dev, &f.to, &f.tq, &f.tk, &f.tv, &params, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "k is F32[6, 8]");
    params.causal = false;
    bad = tensor_slice(&f.tv, 0, 5);
    EXPECT_INT(op_attention(&dev, &f.to, &f.tq, &f.tk, &bad, &params, &err), ERR_INVALID);
    bad = tensor_slice(&f.tq, 0, 3);
    EXPECT_INT(op_attention(&dev, &f.to, &bad, &f.tk, &f.tv, &params, &err), ERR_INVALID);
    bad = tensor_slice(&f.tk, 0, 0);
    EXPECT_INT(op_attention(&dev, &f.to, &f.tq, &bad, &bad, &params, &err), ERR_INVALID);
    bad = f.tq;
    bad.dtype = DTYPE_BF16;
    EXPECT_INT(op_attention(&dev, &f.to, &bad, &f.tk, &f.tv, &params, &err), ERR_INVALID);
    EXPECT_OK(op_attention(&dev, &f.to, &f.tq, &f.tk, &f.tv, &params, &err));
    device_close(&dev);
    teardown(&f);
}
