#include "kernels/linear_attention.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/cuda_test.h"

static const float EPS = 1e-15F;

/* Tables as pairs, and the views of both sides. */
struct rope_pair {
    struct cuda_pair t, h, w;
    struct rope3d on[2];
};

static struct cuda_pair table_make(int64_t first, int64_t n, int64_t pairs)
{
    float *p = test_alloc((size_t)(n * pairs * 2) * sizeof(*p) + 1);
    struct cuda_pair pair;

    rope3d_fill(p, first, n, pairs);
    pair = cuda_pair_from(DTYPE_F32, p, CUDA_DIMS(n, pairs, 2));
    free(p);
    return pair;
}

static struct rope_pair rope_make(const int64_t grid[3], int64_t t0, int64_t d)
{
    struct rope_pair r = {.t = table_make(t0, grid[0], rope3d_t_pairs(d)),
                          .h = table_make(0, grid[1], rope3d_hw_pairs(d)),
                          .w = table_make(0, grid[2], rope3d_hw_pairs(d))};

    for (int side = 0; side < 2; side++) {
        r.on[side] = (struct rope3d){.frames = grid[0],
                                     .height = grid[1],
                                     .width = grid[2],
                                     .t = r.t.on[side],
                                     .h = r.h.on[side],
                                     .w = r.w.on[side]};
    }
    return r;
}

struct linear {
    struct rope_pair rope;
    struct cuda_pair x, v;         /* x: k or q */
    struct cuda_pair weight, rstd; /* rstd: given */
    struct cuda_pair s, k_sum, o;
    int64_t heads, d, frame; /* frame: tokens in one */
    float eps;
};

/* A state of things that happen: k_sum is a sum of numbers that are not negative. */
static struct linear linear_make(enum dtype act, const int64_t grid[3], int64_t heads, int64_t d)
{
    const int64_t n = grid[0] * grid[1] * grid[2];
    struct linear l = {.heads = heads, .d = d, .frame = grid[1] * grid[2], .eps = EPS};
    float *rstd = test_alloc((size_t)n * sizeof(*rstd) + 1);

    test_fill(rstd, n, 4);
    for (int64_t i = 0; i < n; i++) {
        rstd[i] = 1.5F + rstd[i];
    }
    l.rope = rope_make(grid, 5, d);
    l.x = cuda_pair_random(act, 1, 3, CUDA_DIMS(n, heads * d));
    l.v = cuda_pair_random(act, 2, 1, CUDA_DIMS(n, heads * d));
    l.weight = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(heads * d));
    l.rstd = cuda_pair_from(DTYPE_F32, rstd, CUDA_DIMS(n));
    free(rstd);
    return l;
}

static void run_state(struct device *dev, void *ctx, int side)
{
    const struct linear *l = ctx;
    const struct linear_attention_qk kn = {
        .rstd = &l->rstd.on[side], .weight = &l->weight.on[side], .rope = &l->rope.on[side]};
    struct err err;

    EXPECT_OK(op_linear_attention_state(dev, &l->s.on[side], &l->k_sum.on[side], &l->x.on[side],
                                        &l->v.on[side], &kn, &err));
}

/* k~ rounded to bf16 costs 1.7e-3 in S; k_sum is F32 either way. */
static void check_state(enum dtype act, int64_t t, int64_t h, int64_t w, int64_t heads, int64_t d)
{
    struct linear l = linear_make(act, (int64_t[]){t, h, w}, heads, d);

    l.s = cuda_pair_inout(DTYPE_F32, 7, 1, CUDA_DIMS(heads, d, d));
    l.k_sum = cuda_pair_inout(DTYPE_F32, 8, 1, CUDA_DIMS(heads, d));
    cuda_test_run(run_state, &l);
    cuda_pair_expect(&l.s, act == DTYPE_BF16 ? 2e-3 : 1e-5);
    cuda_pair_expect(&l.k_sum, 1e-5);
}

CUDA_TEST(linear_attention_state_of_small_heads)
{
    check_state(act, 1, 1, 1, 1, 16);
    check_state(act, 2, 5, 7, 2, 32);
    check_state(act, 3, 3, 7, 1, 48);
    check_state(act, 2, 4, 8, 1, 64);
}

CUDA_TEST(linear_attention_state_of_large_heads)
{
    check_state(act, 5, 1, 13, 1, 80);
    check_state(act, 1, 33, 2, 1, 96);
    check_state(act, 2, 7, 11, 2, 112);
    check_state(act, 1, 1, 130, 1, 128);
}

CUDA_TEST(linear_attention_state_of_odd_head_sizes)
{
    check_state(act, 1, 1, 1, 1, 2);
    check_state(act, 2, 3, 5, 3, 12);
    check_state(act, 1, 5, 7, 2, 20);
    check_state(act, 3, 1, 33, 1, 100);
    check_state(act, 1, 2, 3, 1, 144);
    check_state(act, 0, 2, 3, 1, 16);
}

/* Many heads, so that a block goes over many tiles. */
CUDA_TEST(linear_attention_state_of_long_ranges)
{
    check_state(act, 3, 11, 13, 150, 16);
    check_state(act, 3, 11, 13, 131, 12);
}

/* Frames [first, end) of what l has. */
static void run_frames(struct device *dev, const struct linear *l, int side, int64_t first,
                       int64_t end)
{
    const int64_t at = first * l->frame;
    const int64_t n = (end - first) * l->frame;
    const struct tensor x = tensor_slice(&l->x.on[side], at, n);
    const struct tensor v = tensor_slice(&l->v.on[side], at, n);
    const struct tensor rstd = tensor_slice(&l->rstd.on[side], at, n);
    struct rope3d rope = l->rope.on[side];
    const struct linear_attention_qk kn = {
        .rstd = &rstd, .weight = &l->weight.on[side], .rope = &rope};
    struct err err;

    rope.frames = end - first;
    rope.t = tensor_slice(&rope.t, first, end - first);
    EXPECT_OK(
        op_linear_attention_state(dev, &l->s.on[side], &l->k_sum.on[side], &x, &v, &kn, &err));
}

/* The CPU sees all five frames at once, the GPU first two of them. */
static void run_parts(struct device *dev, void *ctx, int side)
{
    const int64_t cut = side == CUDA_CPU ? 0 : 2;

    run_frames(dev, ctx, side, 0, cut);
    run_frames(dev, ctx, side, cut, 5);
}

CUDA_TEST(linear_attention_state_of_the_parts_is_the_state_of_the_whole)
{
    struct linear l = linear_make(act, (int64_t[]){5, 3, 9}, 2, 112);

    l.s = cuda_pair_inout(DTYPE_F32, 7, 1, CUDA_DIMS(2, 112, 112));
    l.k_sum = cuda_pair_inout(DTYPE_F32, 8, 1, CUDA_DIMS(2, 112));
    cuda_test_run(run_parts, &l);
    cuda_pair_expect(&l.s, act == DTYPE_BF16 ? 2e-3 : 1e-5);
    cuda_pair_expect(&l.k_sum, 1e-5);
}

/* ---- output ---- */

static void run_out(struct device *dev, void *ctx, int side)
{
    const struct linear *l = ctx;
    const struct linear_attention_qk qn = {
        .rstd = &l->rstd.on[side], .weight = &l->weight.on[side], .rope = &l->rope.on[side]};
    struct err err;

    EXPECT_OK(op_linear_attention_out(dev, &l->o.on[side], &l->x.on[side], &l->s.on[side],
                                      &l->k_sum.on[side], l->eps, &qn, &err));
}

static void state_given(struct linear *l)
{
    const int64_t n = l->heads * l->d;
    float *k_sum = test_alloc((size_t)n * sizeof(*k_sum));

    test_fill(k_sum, n, 8);
    for (int64_t i = 0; i < n; i++) {
        k_sum[i] = 100 * (1.5F + k_sum[i]);
    }
    l->s = cuda_pair_random(DTYPE_F32, 7, 30, CUDA_DIMS(l->heads, l->d, l->d));
    l->k_sum = cuda_pair_from(DTYPE_F32, k_sum, CUDA_DIMS(l->heads, l->d));
    free(k_sum);
}

static void check_out(enum dtype act, int64_t t, int64_t h, int64_t w, int64_t heads, int64_t d)
{
    const double tolerance = act == DTYPE_BF16 ? 4e-3 : 1e-5;
    struct linear l = linear_make(act, (int64_t[]){t, h, w}, heads, d);

    state_given(&l);
    l.o = cuda_pair_output(act, CUDA_DIMS(t * h * w, heads * d));
    cuda_test_run(run_out, &l);
    cuda_pair_expect(&l.o, tolerance);
    l.x = cuda_pair_inout(act, 1, 3, CUDA_DIMS(t * h * w, heads * d));
    l.o = l.x;
    cuda_test_run(run_out, &l);
    cuda_pair_expect(&l.o, tolerance);
}

CUDA_TEST(linear_attention_out_of_small_heads)
{
    check_out(act, 1, 1, 1, 1, 16);
    check_out(act, 2, 5, 7, 2, 32);
    check_out(act, 3, 3, 7, 1, 48);
    check_out(act, 2, 4, 8, 1, 64);
}

CUDA_TEST(linear_attention_out_of_large_heads)
{
    check_out(act, 5, 1, 13, 1, 80);
    check_out(act, 1, 33, 2, 1, 96);
    check_out(act, 2, 7, 11, 2, 112);
    check_out(act, 1, 1, 130, 1, 128);
    check_out(act, 1, 5, 8, 1, 256);
}

CUDA_TEST(linear_attention_out_of_odd_head_sizes)
{
    check_out(act, 1, 1, 1, 1, 2);
    check_out(act, 2, 3, 5, 3, 12);
    check_out(act, 1, 5, 7, 2, 20);
    check_out(act, 3, 1, 33, 1, 100);
    check_out(act, 0, 2, 3, 1, 16);
}

CUDA_TEST(linear_attention_out_of_long_ranges)
{
    check_out(act, 3, 11, 13, 150, 16);
}

/* Where q~ is a bf16, S loses nothing: what is left is the rounding of o, 1.66e-3. With S in one bf16
 * it would be 2.3e-3. */
CUDA_TEST(linear_attention_out_keeps_all_of_s)
{
    const int64_t n = 64;
    struct linear l = linear_make(act, (int64_t[]){1, 1, n}, 2, 112);
    float ones[224];
    float identity[64 * 20 * 2];

    for (size_t i = 0; i < ARRAY_LEN(ones); i++) {
        ones[i] = 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(identity); i++) {
        identity[i] = i % 2 == 0 ? 1 : 0;
    }
    l.weight = cuda_pair_from(DTYPE_F32, ones, CUDA_DIMS(224));
    l.rstd = cuda_pair_from(DTYPE_F32, ones, CUDA_DIMS(n));
    l.rope.t = cuda_pair_from(DTYPE_F32, identity, CUDA_DIMS(1, 20, 2));
    l.rope.w = cuda_pair_from(DTYPE_F32, identity, CUDA_DIMS(n, 18, 2));
    for (int side = 0; side < 2; side++) {
        l.rope.on[side].t = l.rope.t.on[side];
        l.rope.on[side].w = l.rope.w.on[side];
    }
    state_given(&l);
    l.o = cuda_pair_output(act, CUDA_DIMS(n, 224));
    cuda_test_run(run_out, &l);
    cuda_pair_expect(&l.o, act == DTYPE_BF16 ? 1.8e-3 : 1e-6);
}

/* 0 / eps, not 0 / 0. */
CUDA_TEST(linear_attention_of_nothing_positive_is_zero)
{
    struct linear l = linear_make(act, (int64_t[]){1, 2, 3}, 2, 112);
    float minus[224];
    float plus[6 * 224];

    for (size_t i = 0; i < ARRAY_LEN(plus); i++) {
        plus[i] = 1;
        minus[i % ARRAY_LEN(minus)] = -1;
    }
    l.weight = cuda_pair_from(DTYPE_F32, minus, CUDA_DIMS(224));
    l.x = cuda_pair_from(act, plus, CUDA_DIMS(6, 224));
    state_given(&l);
    l.o = cuda_pair_output(act, CUDA_DIMS(6, 224));
    cuda_test_run(run_out, &l);
    cuda_pair_expect(&l.o, 0);
}

/* ---- both ---- */

struct chain {
    struct linear k, q; /* q.s and q.k_sum are k's */
};

static void run_chain(struct device *dev, void *ctx, int side)
{
    struct chain *c = ctx;
    struct err err;

    EXPECT_OK(op_rms_rstd(dev, &c->k.rstd.on[side], &c->k.x.on[side], 1e-5F, &err));
    EXPECT_OK(op_rms_rstd(dev, &c->q.rstd.on[side], &c->q.x.on[side], 1e-5F, &err));
    run_state(dev, &c->k, side);
    run_out(dev, &c->q, side);
}

/* Two heads. bad: channel of token 4 that is NaN in k, v or q; -1: none */
static void check_chain(enum dtype act, int64_t d, char which, int64_t bad)
{
    const int64_t grid[] = {3, 5, 7};
    const int64_t n = 105;
    struct chain c = {.k = linear_make(act, grid, 2, d), .q = linear_make(act, grid, 2, d)};
    struct cuda_pair *const x = which == 'v' ? &c.k.v : which == 'k' ? &c.k.x : &c.q.x;
    float *values = test_alloc((size_t)(n * 2 * d) * sizeof(*values));

    c.k.rstd = cuda_pair_output(DTYPE_F32, CUDA_DIMS(n));
    c.q.rstd = cuda_pair_output(DTYPE_F32, CUDA_DIMS(n));
    c.q.x = cuda_pair_random(act, 11, 2, CUDA_DIMS(n, 2 * d));
    test_fill(values, n * 2 * d, 12);
    if (bad >= 0) {
        values[8 * d + bad] = NAN; /* token 4 of two heads */
    }
    *x = cuda_pair_from(act, values, CUDA_DIMS(n, 2 * d));
    free(values);
    c.k.s = cuda_pair_inout(DTYPE_F32, 7, 1, CUDA_DIMS(2, d, d));
    c.k.k_sum = cuda_pair_inout(DTYPE_F32, 8, 0, CUDA_DIMS(2, d));
    c.q.s = c.k.s;
    c.q.k_sum = c.k.k_sum;
    c.q.o = cuda_pair_output(act, CUDA_DIMS(n, 2 * d));
    cuda_test_run(run_chain, &c);
    cuda_pair_expect(&c.q.rstd, 1e-6);
    cuda_pair_expect(&c.q.o, act == DTYPE_BF16 ? 4e-3 : 1e-5);
}

CUDA_TEST(linear_attention_from_rms_to_output)
{
    check_chain(act, 112, 'q', -1);
    check_chain(act, 24, 'k', -1);
}

CUDA_TEST(linear_attention_lets_nan_through)
{
    check_chain(act, 32, 'v', 5);
    check_chain(act, 32, 'q', 40);
}

CUDA_TEST(linear_attention_lets_nan_through_odd_heads)
{
    check_chain(act, 12, 'v', 13);
    check_chain(act, 12, 'q', 3);
}

/* F32 tensors on a device of either type. */
CUDA_TEST(linear_attention_of_f32_tensors)
{
    (void)act;
    check_chain(DTYPE_F32, 32, 'q', -1);
}

/* ---- 1 / rms ---- */

static void run_rstd(struct device *dev, void *ctx, int side)
{
    const struct linear *l = ctx;
    struct err err;

    EXPECT_OK(op_rms_rstd(dev, &l->rstd.on[side], &l->x.on[side], 1e-5F, &err));
}

CUDA_TEST(linear_attention_rms_rstd)
{
    static const int64_t shape[][2] = {{0, 3}, {1, 1}, {31, 257}, {257, 31}, {3, 2240}, {9, 264}};

    for (size_t i = 0; i < ARRAY_LEN(shape); i++) {
        const int64_t rows = shape[i][0];
        struct linear l = {.x = cuda_pair_random(act, 1, 1, CUDA_DIMS(rows, shape[i][1])),
                           .rstd = cuda_pair_output(DTYPE_F32, CUDA_DIMS(rows))};

        cuda_test_run(run_rstd, &l);
        cuda_pair_expect(&l.rstd, 1e-6);
    }
}
