#include "kernels/attention.h"

#include "tests/support/cuda_test.h"

struct shape {
    int64_t lq, lk, heads, kv_heads, d;
    double scale;
    float softcap;
    bool causal;
    int64_t window;
};

struct attention {
    struct attention_params params;
    struct cuda_pair q, k, v, o;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct attention *a = ctx;
    struct err err;

    EXPECT_OK(op_attention(dev, &a->o.on[side], &a->q.on[side], &a->k.on[side], &a->v.on[side],
                           &a->params, &err));
}

static void run_in_place(struct device *dev, void *ctx, int side)
{
    const struct attention *a = ctx;
    struct err err;

    EXPECT_OK(op_attention(dev, &a->q.on[side], &a->q.on[side], &a->k.on[side], &a->v.on[side],
                           &a->params, &err));
}

static void check(enum dtype act, const struct shape *s, bool in_place)
{
    const double tolerance = act == DTYPE_BF16 ? 4e-3 : 1e-5;
    struct attention a = {.params = {.heads = s->heads,
                                     .kv_heads = s->kv_heads,
                                     .scale = (float)s->scale,
                                     .softcap = s->softcap,
                                     .causal = s->causal,
                                     .window = s->window}};

    a.k = cuda_pair_random(act, 2, 1, CUDA_DIMS(s->lk, s->kv_heads * s->d));
    a.v = cuda_pair_random(act, 3, 1, CUDA_DIMS(s->lk, s->kv_heads * s->d));
    if (in_place) {
        a.q = cuda_pair_inout(act, 1, 1, CUDA_DIMS(s->lq, s->heads * s->d));
        cuda_test_run(run_in_place, &a);
        cuda_pair_expect(&a.q, tolerance);
    } else {
        a.q = cuda_pair_random(act, 1, 1, CUDA_DIMS(s->lq, s->heads * s->d));
        a.o = cuda_pair_output(act, CUDA_DIMS(s->lq, s->heads * s->d));
        cuda_test_run(run, &a);
        cuda_pair_expect(&a.o, tolerance);
    }
}

#define CHECK_ALL(act, shapes, in_place)                                                           \
    for (size_t i_ = 0; i_ < ARRAY_LEN(shapes); i_++) {                                            \
        check((act), &(shapes)[i_], (in_place));                                                   \
    }

/* One size in shared memory each, whole and padded; tiles that are full, ragged, or a single row. */
CUDA_TEST(attention_of_every_head_size)
{
    static const struct shape shapes[] = {
        {.lq = 3, .lk = 7, .heads = 2, .kv_heads = 2, .d = 8, .scale = 1},
        {.lq = 129, .lk = 65, .heads = 1, .kv_heads = 1, .d = 64, .scale = 0.5},
        {.lq = 1, .lk = 1, .heads = 3, .kv_heads = 3, .d = 72, .scale = 1},
        {.lq = 33, .lk = 96, .heads = 1, .kv_heads = 1, .d = 128, .scale = 0.2},
        {.lq = 65, .lk = 67, .heads = 2, .kv_heads = 2, .d = 200, .scale = 0.1},
        {.lq = 7, .lk = 128, .heads = 1, .kv_heads = 1, .d = 256, .scale = 0.0625},
        {.lq = 49, .lk = 71, .heads = 1, .kv_heads = 1, .d = 384, .scale = 0.0510310363},
        {.lq = 97, .lk = 32, .heads = 1, .kv_heads = 1, .d = 264, .scale = 1},
        {.lq = 35, .lk = 33, .heads = 1, .kv_heads = 1, .d = 512, .scale = 0.05},
    };

    CHECK_ALL(act, shapes, false);
}

CUDA_TEST(attention_to_a_text)
{
    static const struct shape shapes[] = {
        {.lq = 131, .lk = 300, .heads = 1, .kv_heads = 1, .d = 112, .scale = 0.0944911183},
        {.lq = 5, .lk = 333, .heads = 3, .kv_heads = 3, .d = 112, .scale = 1},
        {.lq = 31, .lk = 1, .heads = 2, .kv_heads = 2, .d = 112, .scale = 1},
        {.lq = 2, .lk = 7, .heads = 20, .kv_heads = 20, .d = 112, .scale = 0.1},
    };

    CHECK_ALL(act, shapes, false);
}

CUDA_TEST(attention_of_odd_head_sizes)
{
    static const struct shape shapes[] = {
        {.lq = 1, .lk = 1, .heads = 1, .kv_heads = 1, .d = 1, .scale = 1},
        {.lq = 9, .lk = 33, .heads = 3, .kv_heads = 1, .d = 7, .scale = 2},
        {.lq = 17, .lk = 40, .heads = 2, .kv_heads = 2, .d = 33, .scale = 0.3},
        {.lq = 8, .lk = 64, .heads = 1, .kv_heads = 1, .d = 131, .scale = 0.1},
        {.lq = 3, .lk = 35, .heads = 1, .kv_heads = 1, .d = 509, .scale = 0.05},
    };

    CHECK_ALL(act, shapes, false);
}

/* Gemma: key heads shared, scores capped, a window that begins within a tile, at its edge, and beyond. */
CUDA_TEST(attention_shares_heads_caps_and_slides)
{
    static const struct shape shapes[] = {
        {131, 131, 4, 2, 24, 8, 5, true, 0},       {131, 131, 2, 1, 24, 8, 5, true, 1},
        {131, 131, 2, 1, 24, 8, 50, true, 16},     {200, 200, 2, 2, 8, 2, 0, true, 64},
        {131, 131, 1, 1, 8, 2, 0, true, 65},       {131, 131, 1, 1, 8, 2, 0, true, 5000},
        {67, 67, 2, 1, 256, 0.0625, 50, true, 33}, {70, 70, 3, 1, 20, 4, 5, true, 40},
        {45, 45, 1, 1, 384, 0.1, 0, true, 3},      {9, 70, 6, 3, 16, 3, 2, false, 0},
    };

    CHECK_ALL(act, shapes, false);
}

CUDA_TEST(attention_in_place)
{
    static const struct shape shapes[] = {
        {.lq = 130, .lk = 70, .heads = 2, .kv_heads = 2, .d = 112, .scale = 0.1},
        {.lq = 70, .lk = 70, .heads = 4, .kv_heads = 2, .d = 64, .scale = 1, .causal = true},
        {.lq = 50, .lk = 50, .heads = 1, .kv_heads = 1, .d = 384, .scale = 0.05},
        {.lq = 19, .lk = 40, .heads = 2, .kv_heads = 2, .d = 13, .scale = 0.5},
    };

    CHECK_ALL(act, shapes, true);
}

/* The greatest score comes last: what went before is scaled to nothing. */
CUDA_TEST(attention_survives_large_scores)
{
    static const struct shape shapes[] = {
        {.lq = 20, .lk = 150, .heads = 1, .kv_heads = 1, .d = 16, .scale = 300},
        {.lq = 20, .lk = 150, .heads = 1, .kv_heads = 1, .d = 5, .scale = 3000},
    };

    CHECK_ALL(act, shapes, false);
}

/* F32 tensors on a device of either type. */
CUDA_TEST(attention_of_f32_tensors)
{
    static const struct shape shape = {
        .lq = 9, .lk = 37, .heads = 2, .kv_heads = 2, .d = 24, .scale = 1};

    (void)act;
    check(DTYPE_F32, &shape, false);
}

CUDA_TEST(attention_of_no_query_writes_nothing)
{
    static const struct shape shape = {
        .lq = 0, .lk = 3, .heads = 1, .kv_heads = 1, .d = 16, .scale = 1};

    check(act, &shape, false);
}

static void expect_mixed_refused(struct device *dev, void *ctx, int side)
{
    const struct attention *a = ctx;
    struct err err;

    if (side == CUDA_GPU) {
        EXPECT_INT(op_attention(dev, &a->o.on[side], &a->q.on[side], &a->k.on[side], &a->v.on[side],
                                &a->params, &err),
                   ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "attention: k is F32[3, 16]");
    }
}

CUDA_TEST(attention_refuses_mixed_types)
{
    struct attention a = {.params = {.heads = 1, .kv_heads = 1, .scale = 1}};

    if (act == DTYPE_BF16) {
        a.q = cuda_pair_random(act, 1, 1, CUDA_DIMS(5, 16));
        a.k = cuda_pair_random(DTYPE_F32, 2, 1, CUDA_DIMS(3, 16));
        a.v = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(3, 16));
        a.o = cuda_pair_random(act, 4, 1, CUDA_DIMS(5, 16));
        cuda_test_run(expect_mixed_refused, &a);
    }
}

static void expect_too_wide(struct device *dev, void *ctx, int side)
{
    const struct attention *a = ctx;
    struct err err;

    if (side == CUDA_GPU && !dev->dry_run) {
        EXPECT_INT(op_attention(dev, &a->q.on[side], &a->q.on[side], &a->q.on[side], &a->q.on[side],
                                &a->params, &err),
                   ERR_UNSUPPORTED);
        EXPECT_CONTAINS(err.msg, "heads of 513 channels");
    }
}

CUDA_TEST(attention_says_which_heads_are_too_wide)
{
    struct attention a = {.params = {.heads = 1, .kv_heads = 1, .scale = 1}};

    a.q = cuda_pair_random(act, 1, 1, CUDA_DIMS(2, 513));
    cuda_test_run(expect_too_wide, &a);
}
