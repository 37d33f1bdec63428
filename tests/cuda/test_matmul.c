#include "kernels/matmul.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/cuda_test.h"

enum {
    BIAS = 1,
    RESIDUAL = 2,
    GATE = 4,      /* one row of them */
    GATE_ROWS = 8, /* three, by groups of rows */
    GATES = 3,
    BATCH = 10 /* cases at a time */
};

/* What is of the activation type. */
enum {
    X = 1,
    W = 2,
    Y = 4
};

struct one {
    int64_t m, n, k;
    int types;
    enum matmul_act act;
    int parts;
};

struct run {
    struct cuda_pair y, x, w, bias, gate, group;
    const struct one *one;
};

static struct err err;

static int64_t rows_per_group(const struct one *c)
{
    return c->m % 4 == 0 && c->m > 0 ? 4 : 1;
}

static void run(struct device *dev, void *ctx, int side)
{
    const struct run *r = ctx;
    const int parts = r->one->parts;
    const bool gated = (parts & (GATE | GATE_ROWS)) != 0;
    const struct matmul_epilogue ep = {.bias = parts & BIAS ? &r->bias.on[side] : NULL,
                                       .act = r->one->act,
                                       .residual = (parts & RESIDUAL) != 0,
                                       .gate = gated ? &r->gate.on[side] : NULL,
                                       .group = gated ? &r->group.on[side] : NULL,
                                       .rows_per_group = rows_per_group(r->one)};

    EXPECT_OK(op_matmul(dev, &r->y.on[side], &r->x.on[side], &r->w.on[side], &ep, &err));
}

/* Products of bf16 are exact in f32, so only what is stored is rounded; and in cuBLASLt the bias of a
 * bf16 y, and gated weights. */
static double tolerance(const struct one *c, enum dtype act)
{
    const bool rounded = (c->types & Y) || (c->parts & GATE && c->types & X);

    return act == DTYPE_BF16 && rounded ? 4e-3 : 1e-5;
}

static void make_gate(struct run *r)
{
    const struct one *c = r->one;
    const int64_t groups = c->m / rows_per_group(c);
    const int rows = c->parts & GATE_ROWS ? GATES : 1;
    int32_t *group = test_alloc((size_t)groups * sizeof(*group) + 1);

    for (int64_t i = 0; i < groups; i++) {
        group[i] = (int32_t)((2 * i + 1) % rows);
    }
    r->gate = cuda_pair_random(DTYPE_F32, 4, 1, CUDA_DIMS(rows, c->n));
    r->group = cuda_pair_i32(group, CUDA_DIMS(groups));
    free(group);
}

static void check(const struct one *c, enum dtype act)
{
    const enum dtype y_type = c->types & Y ? act : DTYPE_F32;
    struct run r = {.one = c};

    r.x = cuda_pair_random(c->types & X ? act : DTYPE_F32, 1, 1, CUDA_DIMS(c->m, c->k));
    r.w = cuda_pair_random(c->types & W ? act : DTYPE_F32, 2, 1, CUDA_DIMS(c->n, c->k));
    if (c->parts & BIAS) {
        r.bias = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(c->n));
    }
    if (c->parts & (GATE | GATE_ROWS)) {
        make_gate(&r);
    }
    r.y = c->parts & RESIDUAL ? cuda_pair_inout(y_type, 5, 1, CUDA_DIMS(c->m, c->n))
                              : cuda_pair_output(y_type, CUDA_DIMS(c->m, c->n));
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.y, tolerance(c, act));
}

static const struct one *batch;
static int batch_size;

static void check_batch(enum dtype act)
{
    for (int i = 0; i < batch_size; i++) {
        check(&batch[i], act);
    }
}

static void check_all(const struct one *cases, int n)
{
    for (int i = 0; i < n; i += BATCH) {
        batch = cases + i;
        batch_size = n - i < BATCH ? n - i : BATCH;
        cuda_test_both(check_batch);
    }
}

TEST(matmul_of_all_types)
{
    static const int64_t size[][3] = {{5, 40, 24}, {40, 24, 40}, {37, 9, 13}};
    struct one cases[3 * 8];

    for (int i = 0; i < 3 * 8; i++) {
        const int64_t *d = size[i / 8];

        cases[i] = (struct one){.m = d[0], .n = d[1], .k = d[2], .types = i % 8, .parts = BIAS};
    }
    check_all(cases, 3 * 8);
}

TEST(matmul_with_every_epilogue)
{
    static const int parts[] = {0,
                                BIAS,
                                RESIDUAL,
                                RESIDUAL | BIAS,
                                RESIDUAL | GATE,
                                RESIDUAL | GATE | BIAS,
                                RESIDUAL | GATE_ROWS,
                                RESIDUAL | GATE_ROWS | BIAS};
    static const struct one kinds[] = {{12, 31, 33, .types = W},
                                       {36, 33, 20, .types = W},
                                       {40, 24, 64, .types = X | W},
                                       {20, 40, 72, .types = X | W | Y}};
    struct one cases[3 * ARRAY_LEN(parts) * ARRAY_LEN(kinds)];
    int n = 0;

    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        for (size_t part = 0; part < ARRAY_LEN(parts); part++) {
            for (int act = 0; act < 3; act++) {
                cases[n] = kinds[kind];
                cases[n].act = (enum matmul_act)act;
                cases[n++].parts = parts[part];
            }
        }
    }
    check_all(cases, n);
}

TEST(matmul_of_odd_sizes)
{
    struct one cases[48];
    uint32_t x = 1;

    for (int i = 0; i < 48; i++) {
        int64_t d[3];

        for (int j = 0; j < 3; j++) {
            x = x * 1664525 + 1013904223;
            d[j] = x >> 8;
        }
        cases[i] = (struct one){.m = 1 + d[0] % 70,
                                .n = 1 + d[1] % 130,
                                .k = 1 + d[2] % 100,
                                .types = i % 3 == 0 ? W : X | W | (i % 2 ? Y : 0),
                                .parts = i % 4 == 0 ? RESIDUAL | GATE_ROWS : BIAS};
    }
    check_all(cases, 48);
}

TEST(matmul_of_several_tiles_each_way)
{
    static const struct one cases[] = {
        {270, 260, 104, .types = X | W},
        {260, 270, 70, .types = X | W | Y, .parts = BIAS},
        {140, 150, 50, .types = W, .parts = RESIDUAL | BIAS},
        {33, 300, 17, .types = 0},
        {21, 70, 264, .types = W, .parts = BIAS}, /* rows 8, 8, 5 */
        {32, 33, 7, .types = W, .parts = BIAS},
        {1, 70, 520, .types = W, .act = MATMUL_SILU, .parts = BIAS},
        {2176 + 5, 136, 8, .types = X | W | Y}, /* more rows of tiles than are walked together */
    };

    check_all(cases, ARRAY_LEN(cases));
}

TEST(matmul_of_edges_of_its_pieces)
{
    static const int64_t k[] = {1, 8, 16, 24, 32, 40, 64, 96, 97, 128};
    struct one cases[2 * ARRAY_LEN(k)];

    for (size_t i = 0; i < ARRAY_LEN(k); i++) {
        cases[2 * i] = (struct one){.m = 128, .n = 8, .k = k[i], .types = X | W};
        cases[2 * i + 1] = (struct one){.m = 33, .n = 129, .k = k[i], .types = W};
    }
    check_all(cases, ARRAY_LEN(cases));
}

TEST(matmul_of_no_rows_or_columns)
{
    static const struct one cases[] = {{0, 5, 3, .types = X | W},
                                       {3, 0, 8, .types = X | W | Y},
                                       {0, 8, 8, .types = W},
                                       {40, 0, 8, .types = 0}};

    check_all(cases, ARRAY_LEN(cases));
}

/* Rows longer than the CPU's scratch allows: all ones, so the sum is known. */
static void check_long_rows(enum dtype act)
{
    enum {
        K = 131072 + 8
    };
    struct device *dev = cuda_test_device(CUDA_GPU);
    float *ones = test_alloc(K * sizeof(*ones));
    struct cuda_pair x;
    struct cuda_pair y;

    for (int i = 0; i < K; i++) {
        ones[i] = 1;
    }
    x = cuda_pair_from(act, ones, CUDA_DIMS(1, K));
    y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(1, 1));
    free(ones);
    EXPECT_INT(op_matmul(cuda_test_device(CUDA_CPU), &y.on[CUDA_CPU], &x.on[CUDA_CPU],
                         &x.on[CUDA_CPU], NULL, &err),
               ERR_INVALID);
    EXPECT_OK(op_matmul(dev, &y.on[CUDA_GPU], &x.on[CUDA_GPU], &x.on[CUDA_GPU], NULL, &err));
    EXPECT(cuda_pair_download(&y)[0] == (float)K);
}

TEST(matmul_of_rows_longer_than_on_the_cpu)
{
    cuda_test_both(check_long_rows);
}

static void check_nan(enum dtype act)
{
    enum {
        M = 40,
        N = 16,
        K = 16
    };
    float x[M * K];
    const float *y;
    struct run r = {.one = &(const struct one){.m = M, .n = N, .k = K}};

    test_fill(x, ARRAY_LEN(x), 1);
    x[3 * K + 2] = NAN;
    r.x = cuda_pair_from(act, x, CUDA_DIMS(M, K));
    r.w = cuda_pair_random(act, 2, 1, CUDA_DIMS(N, K));
    r.y = cuda_pair_output(act, CUDA_DIMS(M, N));
    cuda_test_run(run, &r);
    y = cuda_pair_download(&r.y);
    for (int i = 0; i < M * N; i++) {
        EXPECT(!isnan(y[i]) == (i / N != 3));
    }
}

TEST(matmul_lets_nan_through)
{
    cuda_test_both(check_nan);
}

static void check_refusals(enum dtype act)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    const struct tensor x = TENSOR_OF(NULL, act, 4, 8);
    const struct tensor y = TENSOR_OF(NULL, act, 4, 16);
    const struct tensor half = TENSOR_OF(NULL, DTYPE_F16, 16, 8);
    const struct tensor w = TENSOR_OF(NULL, act, 16, 8);
    const struct tensor bf16 = TENSOR_OF(NULL, DTYPE_BF16, 4, 8);

    EXPECT_INT(op_matmul(dev, &y, &x, &half, NULL, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "matmul: w is F16[16, 8]");
    EXPECT_INT(op_matmul(dev, &x, &x, &w, NULL, &err), ERR_INVALID);
    if (act == DTYPE_F32) {
        EXPECT_INT(op_matmul(dev, &y, &bf16, &w, NULL, &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "matmul: x is BF16[4, 8]");
    }
}

TEST(matmul_refuses_types_that_the_gpu_does_not_have)
{
    cuda_test_both(check_refusals);
}
