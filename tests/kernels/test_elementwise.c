#include "kernels/elementwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/op_test.h"

/* Around the operations' blocks and chunks. */
static const int64_t counts[] = {0, 1, 31, 255, 256, 257, 32768, 70001};

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
    struct tensor y;
    struct tensor x[4];
    int terms;
    float coef[4]; /* coef[0] is also fill's value and guide's scale */
};

static void run(struct device *dev, void *ctx)
{
    const struct run *r = ctx;
    const struct tensor *const x[] = {&r->x[0], &r->x[1], &r->x[2], &r->x[3]};
    struct err err;

    switch (r->what) {
    case FILL:
        EXPECT_OK(op_fill(dev, &r->y, r->coef[0], &err));
        break;
    case COPY:
        EXPECT_OK(op_copy(dev, &r->y, x[0], &err));
        break;
    case CAST:
        EXPECT_OK(op_cast(dev, &r->y, x[0], &err));
        break;
    case SILU:
        EXPECT_OK(op_silu(dev, &r->y, x[0], &err));
        break;
    case COMBINE:
        EXPECT_OK(op_linear_combine(dev, &r->y, r->terms, r->coef, x, &err));
        break;
    case GUIDE:
        EXPECT_OK(op_guide(dev, &r->y, x[0], x[1], r->coef[0], &err));
        break;
    case ADD:
        EXPECT_OK(op_add(dev, &r->y, x[0], x[1], &err));
        break;
    }
}

static double formula(const struct run *r, const double x[4])
{
    double sum = 0;

    switch (r->what) {
    case FILL:
        return (double)r->coef[0];
    case COPY:
    case CAST:
        return x[0];
    case SILU:
        return x[0] / (1 + exp(-x[0]));
    case GUIDE:
        return x[0] + (double)r->coef[0] * (x[1] - x[0]);
    case ADD:
        return x[0] + x[1];
    case COMBINE:
        break;
    }
    for (int t = 0; t < r->terms; t++) {
        sum += (double)r->coef[t] * x[t];
    }
    return sum;
}

static void reference(const struct run *r, float *want)
{
    for (int64_t i = 0; i < tensor_count(&r->y); i++) {
        double x[4];

        for (int t = 0; t < 4; t++) {
            x[t] = (double)((const float *)r->x[t].data)[i];
        }
        want[i] = (float)formula(r, x);
    }
}

/* `r` of n elements, with y apart from the inputs (alias -1) or on input number `alias`. */
static void check(struct run r, int64_t n, int alias)
{
    float *x[4];
    float *y;
    float *want = op_test_buffer((size_t)n * sizeof(*want));

    for (int t = 0; t < 4; t++) {
        x[t] = op_test_floats(n, (uint64_t)t + 1);
        r.x[t] = TENSOR_F32(x[t], n);
        if (t != alias) {
            op_test_freeze(x[t]);
        }
    }
    y = alias < 0 ? op_test_buffer((size_t)n * sizeof(*y)) : x[alias];
    r.y = TENSOR_F32(y, n);
    reference(&r, want);
    op_test_run(run, &r, y);
    EXPECT_CLOSE(y, want, n, 0, 4e-7);
    for (int t = 0; t < 4; t++) {
        op_test_free(x[t]);
    }
    if (alias < 0) {
        op_test_free(y);
    }
    op_test_free(want);
}

static void check_all(const struct run *r, int max_alias)
{
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (int alias = -1; alias <= max_alias; alias++) {
            check(*r, counts[i], alias);
        }
    }
}

TEST(elementwise_fill_copy_cast_and_silu_match)
{
    check_all(&(struct run){.what = FILL, .coef = {-1.5F}}, -1);
    check_all(&(struct run){.what = COPY}, 0);
    check_all(&(struct run){.what = CAST}, 0);
    check_all(&(struct run){.what = SILU}, 0);
}

TEST(elementwise_linear_combine_matches_in_place_of_any_term)
{
    for (int terms = 1; terms <= LINEAR_COMBINE_MAX; terms++) {
        check_all(&(struct run){.what = COMBINE, .terms = terms, .coef = {0.5F, -1.25F, 3, 0.125F}},
                  terms - 1);
    }
}

TEST(elementwise_guide_and_add_match_in_place)
{
    check_all(&(struct run){.what = GUIDE, .coef = {4.5F}}, 1);
    check_all(&(struct run){.what = ADD}, 1);
}

TEST(elementwise_by_hand)
{
    float a[] = {1, 2, -3};
    float b[] = {10, 0, 5};
    float y[] = {9, 9, 9, 77};
    const float coef[] = {2, -1, 0.5F};
    struct tensor ta = TENSOR_F32(a, 3);
    struct tensor tb = TENSOR_F32(b, 3);
    struct tensor ty = TENSOR_F32(y, 3);
    const struct tensor *const terms[] = {&ta, &tb, &tb};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_linear_combine(&dev, &ty, 3, coef, terms, &err));
    EXPECT_CLOSE(y, ((float[]){-3, 4, -8.5F}), 3, 0, 0);
    EXPECT_OK(op_guide(&dev, &ty, &ta, &tb, 3, &err));
    EXPECT_CLOSE(y, ((float[]){28, -4, 21}), 3, 0, 0);
    EXPECT_OK(op_add(&dev, &ty, &ta, &tb, &err));
    EXPECT_CLOSE(y, ((float[]){11, 2, 2}), 3, 0, 0);
    EXPECT(y[3] == 77);
    device_close(&dev);
}

TEST(elementwise_sums_only_the_terms_there_are)
{
    /* A term that is not there must not turn infinity into NaN (0 * infinity). */
    float x[] = {INFINITY, -INFINITY, NAN, 2};
    float y[4];
    const float coef[] = {-2};
    struct tensor tx = TENSOR_F32(x, 4);
    struct tensor ty = TENSOR_F32(y, 4);
    const struct tensor *const terms[] = {&tx};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_linear_combine(&dev, &ty, 1, coef, terms, &err));
    EXPECT(y[0] == -INFINITY && y[1] == INFINITY && isnan(y[2]) && y[3] == -4);
    EXPECT_OK(op_add(&dev, &ty, &tx, &tx, &err));
    EXPECT(y[0] == INFINITY && y[1] == -INFINITY && isnan(y[2]) && y[3] == 4);
    device_close(&dev);
}

TEST(elementwise_copy_takes_any_type_and_shape_of_one_count)
{
    int64_t x[] = {1, -2, 3, -4, 5, -6};
    int64_t y[7] = {0, 0, 0, 0, 0, 0, 77};
    struct tensor tx = TENSOR_OF(x, DTYPE_I64, 2, 3);
    struct tensor ty = TENSOR_OF(y, DTYPE_I64, 3, 2, 1);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_copy(&dev, &ty, &tx, &err));
    EXPECT(memcmp(x, y, sizeof(x)) == 0);
    EXPECT(y[6] == 77);
    EXPECT_OK(op_copy(&dev, &tx, &tx, &err));
    EXPECT(x[5] == -6);
    device_close(&dev);
}

/* op_check_finite of n numbers, one of which, at `at`, is `value`. */
static int finite_with(struct device *dev, int64_t n, int64_t at, float value)
{
    float *x = op_test_floats(n, 2);
    struct tensor tx = TENSOR_F32(x, n);
    struct err err;
    int rc;

    if (at >= 0) {
        x[at] = value;
    }
    op_test_freeze(x);
    rc = op_check_finite(dev, &tx, "block 3", &err);
    if (rc != ERR_OK) {
        EXPECT_STR(err.msg, "block 3 produced NaN or infinity");
    }
    op_test_free(x);
    return rc;
}

TEST(elementwise_check_finite_finds_one_in_any_place)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int64_t at[] = {0, 1, 32767, 32768, 70000};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 3, &err));
    EXPECT_INT(finite_with(&dev, 0, -1, 0), ERR_OK);
    EXPECT_INT(finite_with(&dev, 70001, -1, 0), ERR_OK);
    EXPECT_INT(finite_with(&dev, 70001, 5, 3.4028235e38F), ERR_OK); /* the largest there is */
    EXPECT_INT(finite_with(&dev, 70001, 5, -3.4028235e38F), ERR_OK);
    EXPECT_INT(finite_with(&dev, 70001, 5, 1e-45F), ERR_OK);
    EXPECT_INT(finite_with(&dev, 1, 0, NAN), ERR_NUMERIC);
    for (size_t i = 0; i < ARRAY_LEN(bad) * ARRAY_LEN(at); i++) {
        EXPECT_INT(finite_with(&dev, 70001, at[i / 3], bad[i % 3]), ERR_NUMERIC);
    }
    dev.dry_run = true;
    EXPECT_INT(finite_with(&dev, 1, 0, NAN), ERR_OK);
    device_close(&dev);
}

TEST(elementwise_refuses_what_does_not_fit)
{
    float data[4] = {0};
    const float coef[] = {1, 1, 1, 1, 1};
    struct tensor y = TENSOR_F32(data, 4);
    struct tensor short_x = TENSOR_F32(data, 3);
    struct tensor ints = TENSOR_OF(data, DTYPE_I32, 4);
    const struct tensor *const terms[] = {&y, &short_x, &y, &y, &y};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_fill(&dev, &ints, 0, &err), "fill: y is I32[4]");
    EXPECT_REFUSED(op_copy(&dev, &y, &short_x, &err), "copy: y is F32[4]");
    EXPECT_REFUSED(op_copy(&dev, &ints, &y, &err), "copy: y is I32[4]");
    EXPECT_REFUSED(op_cast(&dev, &ints, &y, &err), "cast: y is I32[4]");
    EXPECT_REFUSED(op_cast(&dev, &y, &ints, &err), "cast: x is I32[4]");
    EXPECT_REFUSED(op_cast(&dev, &y, &short_x, &err), "cast: x is F32[3]");
    EXPECT_REFUSED(op_silu(&dev, &ints, &ints, &err), "silu: y is I32[4]");
    EXPECT_REFUSED(op_silu(&dev, &y, &ints, &err), "silu: x is I32[4]");
    EXPECT_REFUSED(op_silu(&dev, &y, &short_x, &err), "silu: x is F32[3]");
    EXPECT_REFUSED(op_linear_combine(&dev, &y, 0, coef, terms, &err), "linear_combine: 0 terms");
    EXPECT_REFUSED(op_linear_combine(&dev, &y, 5, coef, terms, &err), "linear_combine: 5 terms");
    EXPECT_REFUSED(op_linear_combine(&dev, &y, 2, coef, terms, &err),
                   "linear_combine: x is F32[3]");
    EXPECT_REFUSED(op_linear_combine(&dev, &ints, 1, coef, terms, &err),
                   "linear_combine: y is I32[4]");
    EXPECT_REFUSED(op_guide(&dev, &ints, &y, &y, 1, &err), "guide: y is I32[4]");
    EXPECT_REFUSED(op_guide(&dev, &y, &short_x, &y, 1, &err), "guide: u is F32[3]");
    EXPECT_REFUSED(op_guide(&dev, &y, &y, &ints, 1, &err), "guide: c is I32[4]");
    EXPECT_REFUSED(op_add(&dev, &ints, &y, &y, &err), "add: y is I32[4]");
    EXPECT_REFUSED(op_add(&dev, &y, &short_x, &y, &err), "add: a is F32[3]");
    EXPECT_REFUSED(op_add(&dev, &y, &y, &short_x, &err), "add: b is F32[3]");
    EXPECT_REFUSED(op_check_finite(&dev, &ints, "x", &err), "check_finite: x is I32[4]");
    device_close(&dev);
}
