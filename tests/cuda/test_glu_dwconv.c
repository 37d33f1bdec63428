#include "kernels/glu_dwconv.h"

#include "tests/support/cuda_test.h"

struct glu {
    struct cuda_pair p, u, weight, bias;
};

static struct err err;

static void run(struct device *dev, void *ctx, int side)
{
    const struct glu *g = ctx;

    EXPECT_OK(op_glu_dwconv(dev, &g->p.on[side], &g->u.on[side], &g->weight.on[side],
                            &g->bias.on[side], &err));
}

static void check(enum dtype act, int64_t f, int64_t h, int64_t w, int64_t m)
{
    struct glu g = {
        .p = cuda_pair_output(act, CUDA_DIMS(f, h, w, m)),
        .u = cuda_pair_random(act, 1, 4.0, CUDA_DIMS(f, h, w, 2 * m)),
        .weight = cuda_pair_random(DTYPE_F32, 2, 1.0, CUDA_DIMS(9, 2 * m)),
        .bias = cuda_pair_random(DTYPE_F32, 3, 1.0, CUDA_DIMS(2 * m)),
    };

    cuda_test_run(run, &g);
    cuda_pair_expect(&g.p, act == DTYPE_BF16 ? 4e-3 : 1e-5);
}

/* A strip is 4 columns, a block 4 strips, a group 32 or 64 channels; rows go in threes. */
CUDA_TEST(glu_dwconv_at_every_remainder)
{
    check(act, 1, 1, 1, 1);
    check(act, 2, 1, 5, 2);
    check(act, 1, 2, 3, 33);
    check(act, 3, 3, 4, 66);
    check(act, 1, 4, 9, 65);
    check(act, 2, 5, 17, 6);
    check(act, 1, 7, 2, 64);
}

CUDA_TEST(glu_dwconv_over_several_blocks)
{
    check(act, 3, 6, 23, 130);
}

/* Far from zero SiLU is 0 or x, and nothing overflows. */
CUDA_TEST(glu_dwconv_of_large_numbers)
{
    struct glu g = {
        .p = cuda_pair_output(act, CUDA_DIMS(1, 3, 3, 4)),
        .u = cuda_pair_random(act, 1, 300.0, CUDA_DIMS(1, 3, 3, 8)),
        .weight = cuda_pair_random(DTYPE_F32, 2, 1.0, CUDA_DIMS(9, 8)),
        .bias = cuda_pair_random(DTYPE_F32, 3, 1.0, CUDA_DIMS(8)),
    };

    cuda_test_run(run, &g);
    cuda_pair_expect(&g.p, act == DTYPE_BF16 ? 4e-3 : 1e-5);
}

CUDA_TEST(glu_dwconv_takes_one_type)
{
    struct glu g = {
        .p = cuda_pair_output(act, CUDA_DIMS(1, 2, 2, 2)),
        .u = cuda_pair_random(act == DTYPE_BF16 ? DTYPE_F32 : DTYPE_BF16, 1, 1.0,
                              CUDA_DIMS(1, 2, 2, 4)),
        .weight = cuda_pair_random(DTYPE_F32, 2, 1.0, CUDA_DIMS(9, 4)),
        .bias = cuda_pair_random(DTYPE_F32, 3, 1.0, CUDA_DIMS(4)),
    };

    EXPECT_INT(op_glu_dwconv(cuda_test_device(CUDA_GPU), &g.p.on[CUDA_GPU], &g.u.on[CUDA_GPU],
                             &g.weight.on[CUDA_GPU], &g.bias.on[CUDA_GPU], &err),
               ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "u");
}
