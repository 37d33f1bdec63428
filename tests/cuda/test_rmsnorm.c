#include "kernels/rmsnorm.h"

#include "tests/support/cuda_test.h"

static struct err err;

struct rmsnorm {
    struct cuda_pair y, x, w;
    struct rmsnorm_params params;
};

static const struct rmsnorm_params plain = {.eps = 1e-5F};
static const struct rmsnorm_params gemma = {.eps = 1e-6F, .w_offset = 1};
static const struct rmsnorm_params residual = {.eps = 1e-6F, .w_offset = 1, .residual = true};

static void run(struct device *dev, void *ctx, int side)
{
    const struct rmsnorm *r = ctx;

    EXPECT_OK(op_rmsnorm(dev, &r->y.on[side], &r->x.on[side], &r->w.on[side], &r->params, &err));
}

static void check(enum dtype y_type, enum dtype x_type, const struct rmsnorm_params *params,
                  int64_t rows, int64_t cols)
{
    struct rmsnorm r = {.params = *params};

    r.x = cuda_pair_random(x_type, 1, 3, CUDA_DIMS(rows, cols));
    r.y = params->residual ? cuda_pair_inout(y_type, 2, 3, CUDA_DIMS(rows, cols))
                           : cuda_pair_output(y_type, CUDA_DIMS(rows, cols));
    r.w = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(cols));
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.y, y_type == DTYPE_BF16 ? 4e-3 : 1e-6);
}

/* Whole and ragged blocks of four rows; columns in packs of four or not, in one warp and more. */
static void check_shapes(enum dtype y_type, enum dtype x_type, const struct rmsnorm_params *params)
{
    check(y_type, x_type, params, 0, 5);
    check(y_type, x_type, params, 1, 1);
    check(y_type, x_type, params, 5, 31);
    check(y_type, x_type, params, 4, 384);
    check(y_type, x_type, params, 9, 388);
    check(y_type, x_type, params, 3, 1001);
}

CUDA_TEST(rmsnorm_of_act_matches)
{
    check_shapes(act, act, &plain);
}

CUDA_TEST(rmsnorm_of_f32_to_act_matches)
{
    check_shapes(act, DTYPE_F32, &gemma);
}

CUDA_TEST(rmsnorm_of_f32_matches)
{
    (void)act;
    check_shapes(DTYPE_F32, DTYPE_F32, &gemma);
}

CUDA_TEST(rmsnorm_of_act_to_f32_matches)
{
    check_shapes(DTYPE_F32, act, &plain);
}

CUDA_TEST(rmsnorm_adds_to_the_residual)
{
    check_shapes(DTYPE_F32, act, &residual);
}

CUDA_TEST(rmsnorm_matches_at_real_widths)
{
    check(act, act, &plain, 5, 2240);
    check(act, DTYPE_F32, &gemma, 5, 2304);
    check(DTYPE_F32, act, &residual, 5, 2304);
    check(act, act, &plain, 1, 6144);
}

CUDA_TEST(rmsnorm_matches_in_place)
{
    struct rmsnorm r = {.params = plain};

    r.x = cuda_pair_inout(act, 1, 3, CUDA_DIMS(6, 100));
    r.y = r.x;
    r.w = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(100));
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.y, act == DTYPE_BF16 ? 4e-3 : 1e-6);
}

CUDA_TEST(rmsnorm_of_zeros_is_zero)
{
    const float zeros[2 * 36] = {0};
    struct rmsnorm r = {.params = plain};

    r.x = cuda_pair_from(act, zeros, CUDA_DIMS(2, 36));
    r.y = cuda_pair_output(act, CUDA_DIMS(2, 36));
    r.w = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(36));
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.y, 0);
}

CUDA_TEST(rmsnorm_refuses_rows_too_wide_and_the_other_types)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    const struct cuda_pair wide = cuda_pair_random(DTYPE_F32, 1, 1, CUDA_DIMS(1, 6145));
    const struct cuda_pair pair = cuda_pair_random(DTYPE_F32, 1, 1, CUDA_DIMS(1, 8));
    const struct tensor *x = &wide.on[CUDA_GPU];
    const struct tensor wide_w = TENSOR_RESHAPE(x, 6145);
    const struct tensor *f32 = &pair.on[CUDA_GPU];
    const struct tensor w = TENSOR_RESHAPE(f32, 8);
    struct tensor half = *f32;

    EXPECT_INT(op_rmsnorm(dev, x, x, &wide_w, &plain, &err), ERR_UNSUPPORTED);
    EXPECT_CONTAINS(err.msg, "rmsnorm: 6145 columns; on a GPU at most 6144");
    half.dtype = DTYPE_BF16;
    EXPECT_INT(op_rmsnorm(dev, &half, f32, &w, &residual, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "rmsnorm: y is BF16[1, 8]");
    if (act == DTYPE_F32) {
        EXPECT_INT(op_rmsnorm(dev, f32, &half, &w, &plain, &err), ERR_INVALID);
        EXPECT_INT(op_rmsnorm(dev, &half, f32, &w, &plain, &err), ERR_INVALID);
    }
    half.dtype = DTYPE_F16;
    EXPECT_INT(op_rmsnorm(dev, f32, &half, &w, &plain, &err), ERR_INVALID);
}
