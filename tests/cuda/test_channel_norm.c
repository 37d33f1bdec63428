#include "kernels/channel_norm.h"

#include <math.h>

#include "tests/support/cuda_test.h"

struct norm {
    struct cuda_pair y, x, gamma;
    enum channel_norm_kind kind;
    float eps;
    bool has_gamma, silu;
};

static struct err err;

static void run(struct device *dev, void *ctx, int side)
{
    const struct norm *n = ctx;
    const struct channel_norm_params p = {
        .kind = n->kind,
        .eps = n->eps,
        .gamma = n->has_gamma ? &n->gamma.on[side] : NULL,
        .silu = n->silu,
    };

    EXPECT_OK(op_channel_norm(dev, &n->y.on[side], &n->x.on[side], &p, &err));
}

static double tolerance(enum dtype act)
{
    return act == DTYPE_BF16 ? 4e-3 : 1e-5;
}

static void check_wan(enum dtype act, int64_t pixels, int64_t c)
{
    struct norm n = {
        .y = cuda_pair_output(act, CUDA_DIMS(pixels, c)),
        .x = cuda_pair_random(act, 1, 3.0, CUDA_DIMS(pixels, c)),
        .gamma = cuda_pair_random(DTYPE_F32, 2, 2.0, CUDA_DIMS(c)),
        .kind = CHANNEL_NORM_L2,
        .eps = 1e-12F,
        .has_gamma = true,
        .silu = true,
    };

    cuda_test_run(run, &n);
    cuda_pair_expect(&n.y, tolerance(act));
}

static void check_ltx2(enum dtype act, int64_t pixels, int64_t c)
{
    struct norm n = {
        .y = cuda_pair_output(act, CUDA_DIMS(1, pixels, c)),
        .x = cuda_pair_random(act, 1, 1e-3, CUDA_DIMS(1, pixels, c)),
        .kind = CHANNEL_NORM_MEAN_SQUARE,
        .eps = 1e-8F,
    };

    cuda_test_run(run, &n);
    cuda_pair_expect(&n.y, tolerance(act));
}

/* Groups of 1, 2, .. 32 lanes, three and four packs, packed and not, and what no group holds. */
CUDA_TEST(channel_norm_of_every_width)
{
    static const int64_t widths[] = {1, 3, 4, 8, 13, 33, 40, 96, 97, 128};

    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        check_wan(act, 37, widths[i]);
    }
}

CUDA_TEST(channel_norm_of_wide_pixels)
{
    check_wan(act, 9, 192);
    check_wan(act, 5, 384);
    check_wan(act, 3, 129);
    check_wan(act, 3, 1032);
    check_ltx2(act, 5, 512);
    check_ltx2(act, 3, 1024);
}

CUDA_TEST(channel_norm_over_several_blocks)
{
    check_wan(act, 1100, 24);
    check_ltx2(act, 300, 96);
}

CUDA_TEST(channel_norm_of_small_numbers)
{
    check_ltx2(act, 20, 16);
    check_ltx2(act, 20, 7);
}

/* A pixel of zeros has a norm under the floor; NaN stays where it is. */
CUDA_TEST(channel_norm_of_zeros_and_nan)
{
    float values[5 * 8] = {0};
    struct norm n;

    for (int i = 0; i < 8; i++) {
        values[8 + i] = 1e-14F * (float)i;
        values[16 + i] = (float)i - 3.5F;
        values[24 + i] = i == 2 ? NAN : 1.0F;
        values[32 + i] = 1.0F;
    }
    n = (struct norm){
        .y = cuda_pair_output(act, CUDA_DIMS(5, 8)),
        .x = cuda_pair_from(act, values, CUDA_DIMS(5, 8)),
        .kind = CHANNEL_NORM_L2,
        .eps = 1e-12F,
    };
    cuda_test_run(run, &n);
    cuda_pair_expect(&n.y, tolerance(act));
}

CUDA_TEST(channel_norm_in_place)
{
    static const int64_t widths[] = {5, 96, 160};

    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        const struct cuda_pair x = cuda_pair_inout(act, 1, 1.0, CUDA_DIMS(21, widths[i]));
        struct norm n = {
            .y = x,
            .x = x,
            .gamma = cuda_pair_random(DTYPE_F32, 2, 2.0, CUDA_DIMS(widths[i])),
            .kind = CHANNEL_NORM_L2,
            .eps = 1e-12F,
            .has_gamma = true,
        };

        cuda_test_run(run, &n);
        cuda_pair_expect(&n.y, tolerance(act));
    }
}

CUDA_TEST(channel_norm_takes_one_type)
{
    const struct cuda_pair y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(2, 4));
    const struct cuda_pair x = cuda_pair_random(DTYPE_BF16, 1, 1.0, CUDA_DIMS(2, 4));
    const struct channel_norm_params p = {.kind = CHANNEL_NORM_L2, .eps = 1e-12F};

    EXPECT_INT(
        op_channel_norm(cuda_test_device(CUDA_GPU), &y.on[CUDA_GPU], &x.on[CUDA_GPU], &p, &err),
        ERR_INVALID);
    EXPECT_CONTAINS(err.msg, act == DTYPE_BF16 ? "channel_norm: y" : "channel_norm: x");
}
