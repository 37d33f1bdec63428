#include "kernels/adaln.h"

#include "tests/support/cuda_test.h"

static struct err err;

struct modulation {
    struct cuda_pair out, table, temb;
};

static void run_modulation(struct device *dev, void *ctx, int side)
{
    const struct modulation *m = ctx;

    EXPECT_OK(op_modulation(dev, &m->out.on[side], &m->table.on[side], &m->temb.on[side], &err));
}

static void check_modulation(int64_t parts, int64_t n_u, int64_t dim, bool same_for_all)
{
    struct modulation m = {
        .out = cuda_pair_output(DTYPE_F32, CUDA_DIMS(parts, n_u, dim)),
        .table = cuda_pair_random(DTYPE_F32, 1, 1, CUDA_DIMS(parts, dim)),
        .temb = cuda_pair_random(DTYPE_F32, 2, 1, CUDA_DIMS(n_u, same_for_all ? dim : parts * dim)),
    };

    cuda_test_run(run_modulation, &m);
    cuda_pair_expect(&m.out, 1e-7);
}

CUDA_TEST(adaln_modulation_matches)
{
    (void)act;
    for (int same = 0; same < 2; same++) {
        check_modulation(6, 1, 48, same);
        check_modulation(6, 3, 31, same);
        check_modulation(2, 5, 260, same);
        check_modulation(1, 1, 1, same);
        check_modulation(6, 0, 8, same);
    }
}

struct adaln {
    struct cuda_pair y, x, shift, scale, group;
    int64_t rows_per_group, frames, dim;
    int64_t skip; /* elements in front that are not taken: 1 makes x and y unaligned */
};

static struct tensor view(const struct adaln *a, const struct cuda_pair *pair, int side)
{
    const int64_t rows = a->frames * a->rows_per_group;
    const struct tensor flat = TENSOR_RESHAPE(&pair->on[side], tensor_count(&pair->on[side]));
    const struct tensor taken = tensor_slice(&flat, a->skip, rows * a->dim);

    return TENSOR_RESHAPE(&taken, rows, a->dim);
}

static void run(struct device *dev, void *ctx, int side)
{
    const struct adaln *a = ctx;
    const struct tensor x = view(a, &a->x, side);
    const struct tensor y = view(a, &a->y, side);
    const struct adaln_params params = {.shift = &a->shift.on[side],
                                        .scale = &a->scale.on[side],
                                        .group = &a->group.on[side],
                                        .rows_per_group = a->rows_per_group,
                                        .eps = 1e-6F};

    EXPECT_OK(op_adaln(dev, &y, &x, &params, &err));
}

enum {
    MAX_FRAMES = 8
};

/* Frames of `per` rows whose timesteps alternate among three. */
static void check(enum dtype y_type, int64_t frames, int64_t per, int64_t dim, bool in_place,
                  int64_t skip)
{
    const int64_t n = frames * per * dim + skip;
    struct adaln a = {.rows_per_group = per, .frames = frames, .dim = dim, .skip = skip};
    int32_t group[MAX_FRAMES];

    EXPECT(frames <= MAX_FRAMES);
    for (int32_t i = 0; i < frames; i++) {
        group[i] = (2 * i + 1) % 3;
    }
    a.x = in_place ? cuda_pair_inout(DTYPE_F32, 1, 3, CUDA_DIMS(n))
                   : cuda_pair_random(DTYPE_F32, 1, 3, CUDA_DIMS(n));
    a.y = in_place ? a.x : cuda_pair_output(y_type, CUDA_DIMS(n));
    a.shift = cuda_pair_random(DTYPE_F32, 2, 1, CUDA_DIMS(3, dim));
    a.scale = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(3, dim));
    a.group = cuda_pair_i32(group, CUDA_DIMS(frames));
    cuda_test_run(run, &a);
    cuda_pair_expect(&a.y, y_type == DTYPE_BF16 ? 4e-3 : 1e-6);
}

/* Whole and ragged blocks of four rows; columns in packs of four or not, in one warp and more. */
CUDA_TEST(adaln_matches)
{
    check(act, 0, 1, 5, false, 0);
    check(act, 1, 1, 1, false, 0);
    check(act, 3, 1, 31, false, 0);
    check(act, 2, 17, 257, false, 0);
    check(act, 5, 7, 24, false, 0);
    check(act, 3, 4, 384, false, 0);
    check(act, 1, 5, 388, false, 0);
    check(act, 8, 2, 12, false, 0);
}

CUDA_TEST(adaln_matches_at_real_width)
{
    check(act, 2, 6, 2240, false, 0);
    check(act, 1, 3, 2241, false, 0);
}

CUDA_TEST(adaln_matches_up_to_the_widest_row)
{
    check(act, 1, 2, 6144, false, 0);
    check(act, 1, 1, 6143, false, 0);
}

CUDA_TEST(adaln_matches_in_place)
{
    (void)act;
    check(DTYPE_F32, 3, 5, 64, true, 0);
    check(DTYPE_F32, 3, 5, 33, true, 0);
}

CUDA_TEST(adaln_of_f32_may_be_f32_in_either_mode)
{
    (void)act;
    check(DTYPE_F32, 2, 3, 48, false, 0);
}

CUDA_TEST(adaln_matches_at_any_address)
{
    check(act, 2, 3, 33, false, 1);
    check(act, 2, 3, 36, false, 2);
}

CUDA_TEST(adaln_of_a_constant_row_is_the_shift)
{
    const int32_t group[] = {2};
    float x[2 * 40];
    struct adaln a = {.rows_per_group = 2, .frames = 1, .dim = 40};

    for (int i = 0; i < 80; i++) {
        x[i] = i < 40 ? 10 : -3;
    }
    a.x = cuda_pair_from(DTYPE_F32, x, CUDA_DIMS(2, 40));
    a.y = cuda_pair_output(act, CUDA_DIMS(2, 40));
    a.shift = cuda_pair_random(DTYPE_F32, 2, 1, CUDA_DIMS(3, 40));
    a.scale = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(3, 40));
    a.group = cuda_pair_i32(group, CUDA_DIMS(1));
    cuda_test_run(run, &a);
    cuda_pair_expect(&a.y, act == DTYPE_BF16 ? 4e-3 : 1e-6);
}

CUDA_TEST(adaln_keeps_accuracy_where_the_mean_is_far_from_the_spread)
{
    enum {
        N = 6 * 640
    };
    const int32_t group[] = {0, 1};
    float x[N];
    struct adaln a = {.rows_per_group = 3, .frames = 2, .dim = 640};

    test_fill(x, N, 7);
    for (int i = 0; i < N; i++) {
        x[i] += -20;
    }
    a.x = cuda_pair_from(DTYPE_F32, x, CUDA_DIMS(6, 640));
    a.y = cuda_pair_output(act, CUDA_DIMS(6, 640));
    a.shift = cuda_pair_random(DTYPE_F32, 2, 1, CUDA_DIMS(3, 640));
    a.scale = cuda_pair_random(DTYPE_F32, 3, 1, CUDA_DIMS(3, 640));
    a.group = cuda_pair_i32(group, CUDA_DIMS(2));
    cuda_test_run(run, &a);
    cuda_pair_expect(&a.y, act == DTYPE_BF16 ? 4e-3 : 1e-5);
}

CUDA_TEST(adaln_refuses_rows_too_wide_and_the_other_types)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    const int32_t group[] = {0};
    const struct cuda_pair wide = cuda_pair_random(DTYPE_F32, 1, 1, CUDA_DIMS(1, 6145));
    const struct cuda_pair groups = cuda_pair_i32(group, CUDA_DIMS(1));
    const struct tensor *x = &wide.on[CUDA_GPU];
    struct tensor half = *x;
    const struct adaln_params params = {
        .shift = x, .scale = x, .group = &groups.on[CUDA_GPU], .rows_per_group = 1, .eps = 1};

    EXPECT_INT(op_adaln(dev, x, x, &params, &err), ERR_UNSUPPORTED);
    EXPECT_CONTAINS(err.msg, "adaln: 6145 columns; on a GPU at most 6144");
    half.dtype = DTYPE_BF16;
    EXPECT_INT(op_adaln(dev, x, &half, &params, &err), ERR_INVALID);
    if (act == DTYPE_F32) {
        EXPECT_INT(op_adaln(dev, &half, x, &params, &err), ERR_INVALID);
    }
}
