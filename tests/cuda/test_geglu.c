#include "kernels/geglu.h"

#include "tests/support/cuda_test.h"

static struct err err;

struct geglu {
    struct cuda_pair y, gate, up;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct geglu *g = ctx;

    EXPECT_OK(op_geglu(dev, &g->y.on[side], &g->gate.on[side], &g->up.on[side], &err));
}

/* alias: 0 y is apart, 1 it is gate, 2 it is up. */
static void check(enum dtype act, int64_t rows, int64_t cols, int alias)
{
    struct geglu g;

    g.gate = alias == 1 ? cuda_pair_inout(act, 1, 5, CUDA_DIMS(rows, cols))
                        : cuda_pair_random(act, 1, 5, CUDA_DIMS(rows, cols));
    g.up = alias == 2 ? cuda_pair_inout(act, 2, 1, CUDA_DIMS(rows, cols))
                      : cuda_pair_random(act, 2, 1, CUDA_DIMS(rows, cols));
    if (alias == 0) {
        g.y = cuda_pair_output(act, CUDA_DIMS(rows, cols));
    } else {
        g.y = alias == 1 ? g.gate : g.up;
    }
    cuda_test_run(run, &g);
    cuda_pair_expect(&g.y, act == DTYPE_BF16 ? 4e-3 : 1e-6);
}

CUDA_TEST(geglu_matches)
{
    for (int alias = 0; alias < 3; alias++) {
        check(act, 0, 5, alias);
        check(act, 1, 1, alias);
        check(act, 3, 33, alias);
        check(act, 5, 512, alias);
    }
}

CUDA_TEST(geglu_of_large_numbers_does_not_overflow)
{
    const float gate[] = {-1e10F, -100, -10, 10, 100, 1e10F};
    const float up[] = {2, 2, 2, 2, 2, 2};
    struct geglu g;

    g.gate = cuda_pair_from(act, gate, CUDA_DIMS(1, 6));
    g.up = cuda_pair_from(act, up, CUDA_DIMS(1, 6));
    g.y = cuda_pair_output(act, CUDA_DIMS(1, 6));
    cuda_test_run(run, &g);
    cuda_pair_expect(&g.y, act == DTYPE_BF16 ? 4e-3 : 1e-6);
}

CUDA_TEST(geglu_refuses_mixed_types)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    float data[8];
    const struct tensor f32 = TENSOR_F32(data, 2, 4);
    const struct tensor bf16 = TENSOR_OF(data, DTYPE_BF16, 2, 4);

    (void)act;
    EXPECT_INT(op_geglu(dev, &f32, &bf16, &bf16, &err), ERR_INVALID);
    EXPECT_INT(op_geglu(dev, &f32, &f32, &bf16, &err), ERR_INVALID);
    EXPECT_INT(op_geglu(dev, &bf16, &f32, &f32, &err), ERR_INVALID);
}
