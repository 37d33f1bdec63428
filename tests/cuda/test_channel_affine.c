#include "kernels/channel_affine.h"

#include "tests/support/cuda_test.h"

static struct err err;

struct affine {
    struct cuda_pair y, x, scale, shift;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct affine *a = ctx;

    EXPECT_OK(op_channel_affine(dev, &a->y.on[side], &a->x.on[side], &a->scale.on[side],
                                &a->shift.on[side], &err));
}

static void check(enum dtype y_type, enum dtype x_type, int64_t rows, int64_t channels,
                  bool in_place)
{
    struct affine a;

    a.x = in_place ? cuda_pair_inout(x_type, 1, 2, CUDA_DIMS(2, rows, channels))
                   : cuda_pair_random(x_type, 1, 2, CUDA_DIMS(2, rows, channels));
    a.y = in_place ? a.x : cuda_pair_output(y_type, CUDA_DIMS(2, rows, channels));
    a.scale = cuda_pair_random(DTYPE_F32, 2, 1, CUDA_DIMS(channels));
    a.shift = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(channels));
    cuda_test_run(run, &a);
    cuda_pair_expect(&a.y, y_type == DTYPE_BF16 ? 4e-3 : 1e-6);
}

/* Channels that packs of four divide, and others. */
static void check_shapes(enum dtype y_type, enum dtype x_type, bool in_place)
{
    check(y_type, x_type, 0, 3, in_place);
    check(y_type, x_type, 1, 1, in_place);
    check(y_type, x_type, 7, 33, in_place);
    check(y_type, x_type, 50, 16, in_place);
    check(y_type, x_type, 9, 130, in_place);
}

CUDA_TEST(channel_affine_matches)
{
    check_shapes(act, act, false);
}

CUDA_TEST(channel_affine_matches_in_place)
{
    check_shapes(act, act, true);
}

CUDA_TEST(channel_affine_of_f32_to_act_matches)
{
    check_shapes(act, DTYPE_F32, false);
}

CUDA_TEST(channel_affine_of_act_to_f32_matches)
{
    check_shapes(DTYPE_F32, act, false);
}

CUDA_TEST(channel_affine_refuses_the_other_types)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    float data[8];
    const struct tensor c = TENSOR_F32(data, 4);
    const struct tensor f32 = TENSOR_F32(data, 2, 4);
    const struct tensor f16 = TENSOR_OF(data, DTYPE_F16, 2, 4);

    (void)act;
    EXPECT_INT(op_channel_affine(dev, &f16, &f32, &c, &c, &err), ERR_INVALID);
    EXPECT_INT(op_channel_affine(dev, &f32, &f16, &c, &c, &err), ERR_INVALID);
}
