#include "kernels/elementwise.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/cuda_test.h"

/* Around the packs of four and the blocks of 1024. */
static const int64_t counts[] = {0, 1, 3, 4, 1023, 1024, 1025, 5003};

static struct err err;

enum operation {
    FILL,
    COPY,
    CAST,
    SILU,
    COMBINE,
    GUIDE,
    ADD
};

struct run {
    enum operation what;
    struct cuda_pair y;
    struct cuda_pair x[4];
    int64_t skip; /* elements in front that are not taken: 1 makes the tensors unaligned */
    int terms;
    float coef[4]; /* coef[0] is also fill's value and guide's scale */
};

static struct tensor view(const struct run *r, const struct cuda_pair *pair, int side)
{
    const struct tensor *t = &pair->on[side];

    return tensor_slice(t, r->skip, t->dim[0] - r->skip);
}

static void run(struct device *dev, void *ctx, int side)
{
    const struct run *r = ctx;
    const struct tensor y = view(r, &r->y, side);
    struct tensor x[4] = {y, y, y, y};
    const struct tensor *const terms[] = {&x[0], &x[1], &x[2], &x[3]};

    for (int t = 0; t < r->terms; t++) {
        x[t] = view(r, &r->x[t], side);
    }
    switch (r->what) {
    case FILL:
        EXPECT_OK(op_fill(dev, &y, r->coef[0], &err));
        break;
    case COPY:
        EXPECT_OK(op_copy(dev, &y, &x[0], &err));
        break;
    case CAST:
        EXPECT_OK(op_cast(dev, &y, &x[0], &err));
        break;
    case SILU:
        EXPECT_OK(op_silu(dev, &y, &x[0], &err));
        break;
    case COMBINE:
        EXPECT_OK(op_linear_combine(dev, &y, r->terms, r->coef, terms, &err));
        break;
    case GUIDE:
        EXPECT_OK(op_guide(dev, &y, &x[0], &x[1], r->coef[0], &err));
        break;
    case ADD:
        EXPECT_OK(op_add(dev, &y, &x[0], &x[1], &err));
        break;
    }
}

/* `r` with n elements of the types, aligned and not; alias: y is that input, -1 none. */
static void check_one(struct run r, enum dtype y_type, enum dtype x_type, int64_t n, int alias,
                      double tolerance)
{
    for (int t = 0; t < r.terms; t++) {
        r.x[t] = t == alias ? cuda_pair_inout(x_type, (uint64_t)t + 1, 9, CUDA_DIMS(n + r.skip))
                            : cuda_pair_random(x_type, (uint64_t)t + 1, 9, CUDA_DIMS(n + r.skip));
    }
    r.y = alias < 0 ? cuda_pair_output(y_type, CUDA_DIMS(n + r.skip)) : r.x[alias];
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.y, tolerance);
}

static void check(const struct run *r, enum dtype y_type, enum dtype x_type, int alias,
                  double tolerance)
{
    struct run moved = *r;

    moved.skip = 1;
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        check_one(*r, y_type, x_type, counts[i], alias, tolerance);
    }
    check_one(moved, y_type, x_type, 1030, alias, tolerance);
}

static double bf16_or(enum dtype dtype, double tolerance)
{
    return dtype == DTYPE_BF16 ? 4e-3 : tolerance;
}

CUDA_TEST(elementwise_fill_writes_the_value)
{
    check(&(struct run){.what = FILL, .coef = {-1.2345F}}, act, DTYPE_F32, -1, bf16_or(act, 0));
}

CUDA_TEST(elementwise_fill_of_f32_is_exact_in_either_mode)
{
    (void)act;
    check(&(struct run){.what = FILL, .coef = {-1.2345F}}, DTYPE_F32, DTYPE_F32, -1, 0);
}

CUDA_TEST(elementwise_copy_moves_bytes)
{
    check(&(struct run){.what = COPY, .terms = 1}, act, act, -1, 0);
}

CUDA_TEST(elementwise_copy_to_itself_is_nothing)
{
    check(&(struct run){.what = COPY, .terms = 1}, act, act, 0, 0);
}

CUDA_TEST(elementwise_copy_takes_integers)
{
    const int32_t values[] = {1, -2, 2147483647, -2147483647 - 1, 5};
    struct run r = {.what = COPY, .terms = 1};
    int32_t got[5] = {0};

    (void)act;
    r.x[0] = cuda_pair_i32(values, CUDA_DIMS(5));
    r.y = cuda_pair_output(DTYPE_I32, CUDA_DIMS(5));
    cuda_test_run(run, &r);
    EXPECT_OK(device_download(cuda_test_device(CUDA_GPU), got, &r.y.on[CUDA_GPU], &err));
    for (int i = 0; i < 5; i++) {
        EXPECT_INT(got[i], values[i]);
    }
}

CUDA_TEST(elementwise_cast_rounds_to_act)
{
    check(&(struct run){.what = CAST, .terms = 1}, act, DTYPE_F32, -1, bf16_or(act, 0));
}

CUDA_TEST(elementwise_cast_from_act_is_exact)
{
    check(&(struct run){.what = CAST, .terms = 1}, DTYPE_F32, act, -1, 0);
}

CUDA_TEST(elementwise_cast_keeps_what_is_special)
{
    /* The last two: halfway between two bf16, to the even one. */
    const float values[] = {INFINITY,      -INFINITY,   NAN,        -0.0F,
                            3.3895314e38F, 1.00390625F, 1.01171875F};
    const float want[] = {0, 0, 0, -0.0F, 3.3895314e38F, 1.0F, 1.015625F};
    struct run r = {.what = CAST, .terms = 1};
    const float *got;

    r.x[0] = cuda_pair_from(DTYPE_F32, values, CUDA_DIMS(7));
    r.y = cuda_pair_output(act, CUDA_DIMS(7));
    cuda_test_run(run, &r);
    got = cuda_pair_download(&r.y);
    EXPECT(got[0] == INFINITY && got[1] == -INFINITY && isnan(got[2]) && signbit(got[3]));
    for (int i = 3; i < 7; i++) {
        EXPECT(got[i] == (act == DTYPE_BF16 ? want[i] : values[i]));
    }
}

CUDA_TEST(elementwise_silu_matches)
{
    check(&(struct run){.what = SILU, .terms = 1}, act, act, -1, bf16_or(act, 1e-6));
}

CUDA_TEST(elementwise_silu_matches_in_place)
{
    check(&(struct run){.what = SILU, .terms = 1}, act, act, 0, bf16_or(act, 1e-6));
}

CUDA_TEST(elementwise_silu_of_f32_may_be_act_or_f32)
{
    const struct run r = {.what = SILU, .terms = 1};

    check_one(r, act, DTYPE_F32, 1030, -1, bf16_or(act, 1e-6));
    check_one(r, DTYPE_F32, DTYPE_F32, 1030, -1, 1e-6);
}

CUDA_TEST(elementwise_silu_of_large_numbers_does_not_overflow)
{
    const float values[] = {-100, -88.8F, 88.8F, 100, -1e30F, 1e30F};
    struct run r = {.what = SILU, .terms = 1};

    (void)act;
    r.x[0] = cuda_pair_from(DTYPE_F32, values, CUDA_DIMS(6));
    r.y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(6));
    cuda_test_run(run, &r);
    cuda_pair_expect(&r.y, 1e-6);
}

CUDA_TEST(elementwise_linear_combine_matches)
{
    (void)act;
    for (int terms = 1; terms <= LINEAR_COMBINE_MAX; terms++) {
        const struct run r = {.what = COMBINE, .terms = terms, .coef = {0.5F, -1.25F, 3, 0.125F}};

        check_one(r, DTYPE_F32, DTYPE_F32, 1027, -1, 1e-6);
    }
    check(&(struct run){.what = COMBINE, .terms = 4, .coef = {0.5F, -1.25F, 3, 0.125F}}, DTYPE_F32,
          DTYPE_F32, -1, 1e-6);
}

CUDA_TEST(elementwise_linear_combine_matches_in_place_of_any_term)
{
    (void)act;
    for (int alias = 0; alias < LINEAR_COMBINE_MAX; alias++) {
        const struct run r = {.what = COMBINE, .terms = 4, .coef = {0.5F, -1.25F, 3, 0.125F}};

        check_one(r, DTYPE_F32, DTYPE_F32, 1027, alias, 1e-6);
    }
}

CUDA_TEST(elementwise_sums_only_the_terms_there_are)
{
    /* A term that is not there must not turn infinity into NaN (0 * infinity). */
    const float values[] = {INFINITY, -INFINITY, NAN, 2};
    struct run r = {.what = COMBINE, .terms = 1, .coef = {-2}};
    const float *got;

    (void)act;
    r.x[0] = cuda_pair_from(DTYPE_F32, values, CUDA_DIMS(4));
    r.y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(4));
    cuda_test_run(run, &r);
    got = cuda_pair_download(&r.y);
    EXPECT(got[0] == -INFINITY && got[1] == INFINITY && isnan(got[2]) && got[3] == -4);
}

CUDA_TEST(elementwise_guide_and_add_match)
{
    const struct run guide = {.what = GUIDE, .terms = 2, .coef = {4.5F}};
    const struct run add = {.what = ADD, .terms = 2};

    (void)act;
    check(&guide, DTYPE_F32, DTYPE_F32, -1, 1e-6);
    check(&add, DTYPE_F32, DTYPE_F32, -1, 1e-6);
}

CUDA_TEST(elementwise_guide_and_add_match_in_place)
{
    (void)act;
    for (int alias = 0; alias < 2; alias++) {
        check_one((struct run){.what = GUIDE, .terms = 2, .coef = {4.5F}}, DTYPE_F32, DTYPE_F32,
                  1027, alias, 1e-6);
        check_one((struct run){.what = ADD, .terms = 2}, DTYPE_F32, DTYPE_F32, 1027, alias, 1e-6);
    }
}

/* What the next download says after a check of n numbers of which one, at `at`, is `value`. */
static int finite_with(enum dtype dtype, int64_t n, int64_t at, float value, const char *stage)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    float *x = test_alloc((size_t)n * sizeof(*x));
    char host[4];
    struct cuda_pair pair;
    struct tensor first;
    int rc;

    test_fill(x, n, 5);
    if (at >= 0) {
        x[at] = value;
    }
    pair = cuda_pair_from(dtype, x, CUDA_DIMS(n));
    free(x);
    EXPECT_OK(op_check_finite(dev, &pair.on[CUDA_GPU], stage, &err));
    first = tensor_slice(&pair.on[CUDA_GPU], 0, 1);
    err.msg[0] = '\0';
    rc = device_download(dev, host, &first, &err);
    return rc;
}

CUDA_TEST(elementwise_check_finite_is_told_by_the_next_download)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int64_t at[] = {0, 1, 1023, 1024, 2048};

    EXPECT_INT(finite_with(act, 2049, -1, 0, "block 1"), ERR_OK);
    EXPECT_INT(finite_with(act, 2049, 5, 3.3895314e38F, "block 2"), ERR_OK); /* the largest bf16 */
    EXPECT_INT(finite_with(act, 2049, 5, 1e-40F, "block 2"), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        EXPECT_INT(finite_with(act, 2049, at[i], bad[i % 3], "block 3"), ERR_NUMERIC);
        EXPECT_STR(err.msg, "block 3 produced NaN or infinity");
    }
    EXPECT_INT(finite_with(act, 1, 0, NAN, "block 4"), ERR_NUMERIC);
    EXPECT_INT(finite_with(act, 1, -1, 0, "block 5"), ERR_OK); /* said once */
    EXPECT_INT(finite_with(DTYPE_F32, 100, 99, NAN, "block 6"), ERR_NUMERIC);
}

CUDA_TEST(elementwise_check_finite_names_the_first_stage)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    const float values[] = {1, NAN};
    const struct cuda_pair pair = cuda_pair_from(act, values, CUDA_DIMS(2));
    const struct tensor good = tensor_slice(&pair.on[CUDA_GPU], 0, 1);

    EXPECT_OK(op_check_finite(dev, &good, "good", &err));
    EXPECT_OK(op_check_finite(dev, &pair.on[CUDA_GPU], "first", &err));
    EXPECT_OK(op_check_finite(dev, &pair.on[CUDA_GPU], "second", &err));
    EXPECT_OK(device_mark(dev, DEVICE_MARK_LATENTS, &err));
    EXPECT_INT(device_wait(dev, DEVICE_MARK_LATENTS, &err), ERR_NUMERIC);
    EXPECT_STR(err.msg, "first produced NaN or infinity");
    dev->dry_run = true;
    EXPECT_OK(op_check_finite(dev, &pair.on[CUDA_GPU], "dry", &err));
    dev->dry_run = false;
    EXPECT_OK(device_mark(dev, DEVICE_MARK_LATENTS, &err));
    EXPECT_OK(device_wait(dev, DEVICE_MARK_LATENTS, &err));
}

CUDA_TEST(elementwise_refuses_the_other_types)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    float data[4];
    const struct tensor f32 = TENSOR_F32(data, 4);
    const struct tensor bf16 = TENSOR_OF(data, DTYPE_BF16, 4);
    const struct tensor f16 = TENSOR_OF(data, DTYPE_F16, 4);
    const struct tensor *const terms[] = {&bf16};
    const float one = 1;

    EXPECT_INT(op_fill(dev, &f16, 0, &err), ERR_INVALID);
    EXPECT_INT(op_cast(dev, &f16, &f32, &err), ERR_INVALID);
    EXPECT_INT(op_cast(dev, &f32, &f16, &err), ERR_INVALID);
    EXPECT_INT(op_silu(dev, &f32, &bf16, &err), ERR_INVALID);
    EXPECT_INT(op_check_finite(dev, &f16, "x", &err), ERR_INVALID);
    EXPECT_INT(op_linear_combine(dev, &f32, 1, &one, terms, &err), ERR_INVALID);
    EXPECT_INT(op_add(dev, &bf16, &bf16, &bf16, &err), ERR_INVALID);
    EXPECT_INT(op_guide(dev, &f32, &f32, &bf16, 1, &err), ERR_INVALID);
    if (act == DTYPE_F32) {
        EXPECT_INT(op_fill(dev, &bf16, 0, &err), ERR_INVALID);
        EXPECT_INT(op_cast(dev, &bf16, &f32, &err), ERR_INVALID);
    }
}
