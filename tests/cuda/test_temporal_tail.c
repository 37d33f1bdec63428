#include "kernels/temporal_tail.h"

#include "tests/support/cuda_test.h"

struct tail {
    struct cuda_pair out, r, z, gate, group;
    int64_t frames;
    bool gated;
};

static struct err err;

static void run(struct device *dev, void *ctx, int side)
{
    const struct tail *t = ctx;

    EXPECT_OK(op_temporal_tail(dev, &t->out.on[side], &t->r.on[side], &t->z.on[side], t->frames,
                               t->gated ? &t->gate.on[side] : NULL,
                               t->gated ? &t->group.on[side] : NULL, &err));
}

static void check(enum dtype act, enum dtype out, int64_t frames, int64_t hw, int64_t d)
{
    struct tail t = {
        .out = cuda_pair_output(out, CUDA_DIMS(frames * hw, d)),
        .r = cuda_pair_random(act, 2, 2.0, CUDA_DIMS((frames + 1) * hw, d)),
        .z = cuda_pair_random(act, 3, 2.0, CUDA_DIMS((frames + 1) * hw, 3 * d)),
        .frames = frames,
    };

    cuda_test_run(run, &t);
    cuda_pair_expect(&t.out, out == DTYPE_BF16 ? 4e-3 : 1e-5);
}

static void check_gated(enum dtype act, int64_t frames, int64_t hw, int64_t d)
{
    static const int32_t groups[] = {1, 0, 2, 1};
    struct tail t = {
        .out = cuda_pair_inout(DTYPE_F32, 1, 2.0, CUDA_DIMS(frames * hw, d)),
        .r = cuda_pair_random(act, 2, 2.0, CUDA_DIMS((frames + 1) * hw, d)),
        .z = cuda_pair_random(act, 3, 2.0, CUDA_DIMS((frames + 1) * hw, 3 * d)),
        .gate = cuda_pair_random(DTYPE_F32, 4, 1.0, CUDA_DIMS(3, d)),
        .group = cuda_pair_i32(groups, CUDA_DIMS(frames)),
        .frames = frames,
        .gated = true,
    };

    cuda_test_run(run, &t);
    cuda_pair_expect(&t.out, 1e-5); /* the inputs are rounded before, the output is F32 */
}

CUDA_TEST(temporal_tail_without_gate)
{
    check(act, act, 1, 1, 1);
    check(act, act, 3, 2, 33);
    check(act, act, 2, 3, 44);
    check(act, act, 3, 5, 1288);
}

CUDA_TEST(temporal_tail_without_gate_into_f32)
{
    check(act, DTYPE_F32, 2, 3, 5);
    check(act, DTYPE_F32, 1, 2, 64);
}

CUDA_TEST(temporal_tail_with_gate)
{
    check_gated(act, 1, 1, 3);
    check_gated(act, 4, 3, 36);
    check_gated(act, 3, 2, 1284);
    check_gated(act, 2, 5, 331);
}

CUDA_TEST(temporal_tail_gates_only_an_f32_residual)
{
    static const int32_t groups[] = {0};
    const struct cuda_pair out = cuda_pair_output(DTYPE_BF16, CUDA_DIMS(2, 4));
    const struct cuda_pair r = cuda_pair_random(act, 2, 1.0, CUDA_DIMS(4, 4));
    const struct cuda_pair z = cuda_pair_random(act, 3, 1.0, CUDA_DIMS(4, 12));
    const struct cuda_pair gate = cuda_pair_random(DTYPE_F32, 4, 1.0, CUDA_DIMS(1, 4));
    const struct cuda_pair group = cuda_pair_i32(groups, CUDA_DIMS(1));

    EXPECT_INT(op_temporal_tail(cuda_test_device(CUDA_GPU), &out.on[CUDA_GPU], &r.on[CUDA_GPU],
                                &z.on[CUDA_GPU], 1, &gate.on[CUDA_GPU], &group.on[CUDA_GPU], &err),
               ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "out");
}
