#include "kernels/patchify.h"

#include "tests/support/cuda_test.h"

static struct err err;

struct patch {
    struct cuda_pair x, u;
    int64_t patch;
    bool split;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct patch *r = ctx;

    if (r->split) {
        EXPECT_OK(op_patchify(dev, &r->u.on[side], &r->x.on[side], r->patch, &err));
    } else {
        EXPECT_OK(op_unpatchify(dev, &r->x.on[side], &r->u.on[side], r->patch, &err));
    }
}

static void check_split(enum dtype u_type, int64_t frames, int64_t height, int64_t width,
                        int64_t channels, int64_t p)
{
    struct patch r = {.patch = p, .split = true};

    r.x = cuda_pair_random(DTYPE_F32, 1, 1, CUDA_DIMS(frames, height, width, channels));
    r.u =
        cuda_pair_output(u_type, CUDA_DIMS(frames * (height / p) * (width / p), p * p * channels));
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.u, u_type == DTYPE_BF16 ? 4e-3 : 0);
}

static void check_merge(int64_t frames, int64_t height, int64_t width, int64_t channels, int64_t p)
{
    struct patch r = {.patch = p};

    r.x = cuda_pair_output(DTYPE_F32, CUDA_DIMS(frames, height, width, channels));
    r.u = cuda_pair_random(DTYPE_F32, 1, 1,
                           CUDA_DIMS(frames * (height / p) * (width / p), p * p * channels));
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.x, 0);
}

CUDA_TEST(patchify_moves_every_number_to_its_place)
{
    check_split(act, 0, 2, 2, 3, 1);
    check_split(act, 1, 1, 1, 1, 1);
    check_split(act, 2, 3, 5, 31, 1);
    check_split(act, 3, 4, 6, 5, 2);
    check_split(act, 2, 6, 9, 3, 3);
    check_split(act, 2, 6, 8, 16, 2);
    check_split(act, 2, 3, 5, 32, 1);
    check_split(DTYPE_F32, 2, 4, 6, 16, 2);
}

CUDA_TEST(unpatchify_moves_every_number_to_its_place)
{
    (void)act;
    check_merge(0, 2, 2, 3, 1);
    check_merge(1, 1, 1, 1, 1);
    check_merge(2, 3, 5, 31, 1);
    check_merge(3, 4, 6, 5, 2);
    check_merge(2, 6, 9, 3, 3);
    check_merge(2, 6, 8, 16, 2);
    check_merge(2, 3, 5, 32, 1);
}

CUDA_TEST(patchify_refuses_the_other_types)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    float data[16];
    const struct tensor x = TENSOR_F32(data, 1, 2, 2, 2);
    const struct tensor half_x = TENSOR_OF(data, DTYPE_BF16, 1, 2, 2, 2);
    const struct tensor u = TENSOR_F32(data, 1, 8);
    const struct tensor half_u = TENSOR_OF(data, DTYPE_BF16, 1, 8);

    EXPECT_INT(op_patchify(dev, &u, &half_x, 2, &err), ERR_INVALID);
    EXPECT_INT(op_unpatchify(dev, &x, &half_u, 2, &err), ERR_INVALID);
    if (act == DTYPE_F32) {
        EXPECT_INT(op_patchify(dev, &half_u, &x, 2, &err), ERR_INVALID);
    }
}
