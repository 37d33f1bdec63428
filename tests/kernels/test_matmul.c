#include "kernels/matmul.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/op_test.h"

struct shape {
    int64_t m, k, n;
    enum dtype w; /* how the weights are stored */
};

enum {
    BIAS = 1,
    RESIDUAL = 2,
    GATE = 4
};

enum {
    GATES = 3
};

struct run {
    struct tensor y, x, w, bias, gate, group;
    struct matmul_epilogue ep;
    const float *w_values; /* w as f32 */
};

static void run(struct device *dev, void *ctx)
{
    const struct run *r = ctx;
    struct err err;

    EXPECT_OK(op_matmul(dev, &r->y, &r->x, &r->w, &r->ep, &err));
}

static double activation(double v, enum matmul_act act)
{
    switch (act) {
    case MATMUL_NONE:
        break;
    case MATMUL_GELU_TANH:
        return 0.5 * v * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
    case MATMUL_SILU:
        return v / (1 + exp(-v));
    }
    return v;
}

/* The formula of the header; want holds what y holds. */
static void reference(const struct run *r, float *want)
{
    const int64_t k = r->x.dim[1];
    const int64_t n = r->w.dim[0];

    for (int64_t e = 0; e < tensor_count(&r->y); e++) {
        const float *x = (const float *)r->x.data + e / n * k;
        const float *w = r->w_values + e % n * k;
        double sum = r->ep.bias ? (double)((const float *)r->bias.data)[e % n] : 0;

        for (int64_t i = 0; i < k; i++) {
            sum += (double)x[i] * (double)w[i];
        }
        sum = activation(sum, r->ep.act);
        if (r->ep.gate) {
            const int64_t g = ((const int32_t *)r->group.data)[e / n / r->ep.rows_per_group];

            sum *= (double)((const float *)r->gate.data)[g * n + e % n];
        }
        want[e] = (float)(sum + (r->ep.residual ? (double)want[e] : 0));
    }
}

/* Random binary16 numbers of size 2^-5..2, as bits and as the floats they are. */
static uint16_t *make_f16(float *values, int64_t n)
{
    uint16_t *half = op_test_buffer((size_t)n * sizeof(*half));

    for (int64_t i = 0; i < n; i++) {
        const unsigned bits = (unsigned)(i * 2654435761U >> 7);
        const unsigned exponent = 10 + (bits >> 10) % 6;
        const unsigned fraction = bits & 1023;

        half[i] = (uint16_t)((bits >> 16 & 1) << 15 | exponent << 10 | fraction);
        values[i] =
            (float)ldexp((1024 + (double)fraction) * (bits >> 16 & 1 ? -1 : 1), (int)exponent - 25);
    }
    return half;
}

/* The weights in their own type, at an odd address if halves: mapped files give no better. */
static char *make_weights(const struct shape *s, float *values, struct tensor *ret)
{
    const int64_t n = s->n * s->k;
    const size_t bytes = (size_t)n * dtype_size(s->w);
    const size_t shift = s->w == DTYPE_F32 ? 0 : 1;
    char *memory = op_test_buffer(bytes + shift);
    uint16_t *half = NULL;

    if (s->w == DTYPE_F32) {
        memcpy(memory, values, bytes);
    } else {
        half = s->w == DTYPE_BF16 ? op_test_bf16(values, n) : make_f16(values, n);
        memcpy(memory + shift, half, bytes);
        op_test_free(half);
    }
    *ret = TENSOR_OF(memory + shift, s->w, s->n, s->k);
    return memory;
}

static void check(struct shape s, enum matmul_act act, int parts)
{
    const int64_t n = s.m * s.n;
    const int64_t per = s.m % 4 == 0 ? 4 : 1;
    const int64_t groups = s.m / per;
    float *x = op_test_floats(s.m * s.k, 1);
    float *values = op_test_floats(s.n * s.k, 2);
    float *bias = op_test_floats(s.n, 3);
    float *gate = op_test_floats(GATES * s.n, 4);
    int32_t *group = op_test_buffer((size_t)groups * sizeof(*group));
    float *y = parts & RESIDUAL ? op_test_floats(n, 5) : op_test_buffer((size_t)n * sizeof(*y));
    float *want = op_test_floats(n, 5);
    struct run r = {.y = TENSOR_F32(y, s.m, s.n),
                    .x = TENSOR_F32(x, s.m, s.k),
                    .bias = TENSOR_F32(bias, s.n),
                    .gate = TENSOR_F32(gate, GATES, s.n),
                    .group = TENSOR_OF(group, DTYPE_I32, groups),
                    .w_values = values};
    char *w = make_weights(&s, values, &r.w);

    for (int64_t i = 0; i < groups; i++) {
        group[i] = (int32_t)((2 * i + 1) % GATES);
    }
    r.ep = (struct matmul_epilogue){.bias = parts & BIAS ? &r.bias : NULL,
                                    .act = act,
                                    .residual = parts & RESIDUAL,
                                    .gate = parts & GATE ? &r.gate : NULL,
                                    .group = parts & GATE ? &r.group : NULL,
                                    .rows_per_group = per};
    op_test_freeze(x);
    op_test_freeze(w);
    op_test_freeze(bias);
    op_test_freeze(gate);
    op_test_freeze(group);
    reference(&r, want);
    op_test_run(run, &r, y);
    /* f32 sums of k products: round-off grows with the root of k. */
    EXPECT_CLOSE(y, want, n, 0, 3e-7 * (1 + 0.3 * sqrt((double)s.k)));
    op_test_free(x);
    op_test_free(w);
    op_test_free(values);
    op_test_free(bias);
    op_test_free(gate);
    op_test_free(group);
    op_test_free(y);
    op_test_free(want);
}

TEST(matmul_matches_the_formula_for_all_weight_types)
{
    static const int64_t size[][3] = {{0, 5, 3},    {3, 5, 0},    {1, 1, 1},     {31, 1, 257},
                                      {257, 31, 1}, {1, 257, 31}, {70, 257, 65}, {600, 70, 300}};

    for (size_t i = 0; i < 3 * ARRAY_LEN(size); i++) {
        const int64_t *d = size[i / 3];

        check((struct shape){d[0], d[1], d[2], (enum dtype)(i % 3)}, MATMUL_NONE, 0);
    }
}

TEST(matmul_matches_the_formula_with_every_epilogue)
{
    static const int parts[] = {
        0, BIAS, RESIDUAL, RESIDUAL | BIAS, RESIDUAL | GATE, RESIDUAL | GATE | BIAS};

    for (int i = 0; i < 3 * (int)ARRAY_LEN(parts); i++) {
        const enum matmul_act act = (enum matmul_act)(i % 3);

        check((struct shape){12, 31, 33, DTYPE_F32}, act, parts[i / 3]);
        check((struct shape){7, 40, 257, DTYPE_BF16}, act, parts[i / 3]);
        check((struct shape){600, 30, 70, DTYPE_F16}, act, parts[i / 3]);
    }
}

TEST(matmul_of_several_tiles_each_way)
{
    check((struct shape){600, 300, 70, DTYPE_F32}, MATMUL_NONE, BIAS);
    check((struct shape){1100, 40, 600, DTYPE_F32}, MATMUL_SILU, BIAS); /* edges of 512 and 256 */
    check((struct shape){516, 64, 1030, DTYPE_BF16}, MATMUL_NONE, RESIDUAL | GATE);
}

TEST(matmul_of_the_longest_rows_stays_in_its_scratch)
{
    /* The widened weights fill half of the scratch, the tile of a residual comes behind them. */
    enum {
        K_MAX = 131072
    };

    check((struct shape){3, K_MAX, 20, DTYPE_BF16}, MATMUL_NONE, RESIDUAL);
    check((struct shape){1, 130561, 17, DTYPE_F16}, MATMUL_NONE, RESIDUAL | BIAS);
}

TEST(matmul_by_hand)
{
    float x[] = {1, 2, 3, 4};
    float w[] = {1, 0, 0, 1, 10, -1};
    float bias[] = {100, 200, 300};
    float gate[] = {1, 1, 1, 0.5F, 2, -1};
    int32_t group[] = {1, 0};
    float y[] = {9, 9, 9, 9, 9, 9, 77};
    const float plain[] = {1, 2, 8, 3, 4, 26};
    const float gated[] = {1 + 50.5F, 2 + 404, 8 - 308, 3 + 103, 4 + 204, 26 + 326};
    struct tensor tx = TENSOR_F32(x, 2, 2);
    struct tensor tw = TENSOR_F32(w, 3, 2);
    struct tensor ty = TENSOR_F32(y, 2, 3);
    struct tensor tb = TENSOR_F32(bias, 3);
    struct tensor tg = TENSOR_F32(gate, 2, 3);
    struct tensor ti = TENSOR_OF(group, DTYPE_I32, 2);
    const struct matmul_epilogue ep = {
        .bias = &tb, .residual = true, .gate = &tg, .group = &ti, .rows_per_group = 1};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_matmul(&dev, &ty, &tx, &tw, NULL, &err));
    EXPECT_CLOSE(y, plain, 6, 0, 0);
    EXPECT_OK(op_matmul(&dev, &ty, &tx, &tw, &ep, &err));
    EXPECT_CLOSE(y, gated, 6, 0, 0);
    EXPECT(y[6] == 77);
    device_close(&dev);
}

TEST(matmul_lets_nan_through)
{
    float x[] = {1, 2, NAN, 4, 5, 6};
    float w[] = {0, 0, 1, 1};
    float y[6];
    struct tensor tx = TENSOR_F32(x, 3, 2);
    struct tensor tw = TENSOR_F32(w, 2, 2);
    struct tensor ty = TENSOR_F32(y, 3, 2);
    const struct matmul_epilogue ep = {.act = MATMUL_SILU};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_matmul(&dev, &ty, &tx, &tw, &ep, &err));
    EXPECT(isnan(y[2]) && isnan(y[3])); /* also where the weight is 0 */
    EXPECT(isfinite(y[0]) && isfinite(y[1]) && isfinite(y[4]) && isfinite(y[5]));
    device_close(&dev);
}

TEST(matmul_refuses_operands_that_do_not_fit)
{
    float data[64] = {0};
    struct tensor x = TENSOR_F32(data, 4, 3);
    struct tensor w = TENSOR_F32(data, 5, 3);
    struct tensor y = TENSOR_F32(data, 4, 5);
    struct tensor flat = TENSOR_F32(data, 12);
    struct tensor empty = TENSOR_F32(data, 4, 0);
    struct tensor wide = TENSOR_F32(data, 0, 131073);
    struct tensor half = TENSOR_OF(data, DTYPE_BF16, 4, 3);
    struct tensor bad_w = TENSOR_F32(data, 5, 4);
    struct tensor ints = TENSOR_OF(data, DTYPE_I32, 5, 3);
    struct tensor bad_y = TENSOR_F32(data, 5, 4);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_matmul(&dev, &y, &flat, &w, NULL, &err), "matmul: x is F32[12]");
    EXPECT_REFUSED(op_matmul(&dev, &y, &empty, &w, NULL, &err), "matmul: x is F32[4, 0]");
    EXPECT_REFUSED(op_matmul(&dev, &y, &wide, &w, NULL, &err), "matmul: x is F32[0, 131073]");
    EXPECT_REFUSED(op_matmul(&dev, &y, &half, &w, NULL, &err), "matmul: x is BF16[4, 3]");
    EXPECT_REFUSED(op_matmul(&dev, &y, &x, &bad_w, NULL, &err), "matmul: w is F32[5, 4]");
    EXPECT_REFUSED(op_matmul(&dev, &y, &x, &ints, NULL, &err), "matmul: w is I32[5, 3]");
    EXPECT_REFUSED(op_matmul(&dev, &bad_y, &x, &w, NULL, &err), "matmul: y is F32[5, 4]");
    dev.dry_run = true;
    EXPECT_REFUSED(op_matmul(&dev, &bad_y, &x, &w, NULL, &err), "matmul: y is F32[5, 4]");
    device_close(&dev);
}

/* The sentence for an epilogue on y [4, 5]; empty if it is accepted. */
static const char *refusal(const struct matmul_epilogue *ep)
{
    static struct err err;
    float data[32] = {0};
    float out[20];
    struct tensor x = TENSOR_F32(data, 4, 3);
    struct tensor w = TENSOR_F32(data, 5, 3);
    struct tensor y = TENSOR_F32(out, 4, 5);
    struct device dev;
    int rc;

    memset(out, 0, sizeof(out));
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    err.msg[0] = '\0';
    rc = op_matmul(&dev, &y, &x, &w, ep, &err);
    device_close(&dev);
    EXPECT_INT(rc, err.msg[0] ? ERR_INVALID : ERR_OK);
    return err.msg;
}

TEST(matmul_refuses_epilogues_that_do_not_fit)
{
    float data[32] = {0};
    int32_t ids[4] = {0};
    struct tensor bias = TENSOR_F32(data, 5);
    struct tensor bad_bias = TENSOR_F32(data, 4);
    struct tensor gate = TENSOR_F32(data, 2, 5);
    struct tensor bad_gate = TENSOR_F32(data, 5, 2);
    struct tensor group = TENSOR_OF(ids, DTYPE_I32, 2);
    struct tensor bad_group = TENSOR_OF(ids, DTYPE_I32, 4);
    struct tensor one_group = TENSOR_OF(ids, DTYPE_I32, 1);
    const struct matmul_epilogue good = {
        .bias = &bias, .residual = true, .gate = &gate, .group = &group, .rows_per_group = 2};
    struct matmul_epilogue ep = good;

    EXPECT_STR(refusal(&ep), "");
    ep.bias = &bad_bias;
    EXPECT_STR(refusal(&ep), "matmul: bias is F32[4]");
    ep = good;
    ep.gate = &bad_gate;
    EXPECT_STR(refusal(&ep), "matmul: gate is F32[5, 2]");
    ep = good;
    ep.residual = false;
    EXPECT_STR(refusal(&ep), "matmul: gate is F32[2, 5]");
    ep = good;
    ep.group = NULL;
    EXPECT_STR(refusal(&ep), "matmul: gate without fitting groups");
    ep.group = &bad_group;
    EXPECT_STR(refusal(&ep), "matmul: gate without fitting groups");
    ep = good;
    ep.group = &one_group;
    ep.rows_per_group = 3; /* does not divide the rows */
    EXPECT_STR(refusal(&ep), "matmul: gate without fitting groups");
    ep.group = &group;
    ep.rows_per_group = 0;
    EXPECT_STR(refusal(&ep), "matmul: gate without fitting groups");
}
