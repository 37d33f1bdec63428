#include "kernels/rmsnorm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

static const struct rmsnorm_params plain = {.eps = 1e-5F};

static void reference(float *y, const float *x, const float *w, int64_t rows, int64_t cols,
                      const struct rmsnorm_params *p)
{
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0;

        for (int64_t c = 0; c < cols; c++) {
            squares += (double)x[r * cols + c] * (double)x[r * cols + c];
        }
        for (int64_t c = 0; c < cols; c++) {
            const double scale = 1.0 / sqrt(squares / (double)cols + (double)p->eps);
            const double add = p->residual ? (double)y[r * cols + c] : 0.0;

            y[r * cols + c] =
                (float)(add + (double)x[r * cols + c] * scale * (double)(p->w_offset + w[c]));
        }
    }
}

static void check(int64_t rows, int64_t cols, const struct rmsnorm_params *p)
{
    const int64_t n = rows * cols;
    float *x = test_alloc((size_t)n * sizeof(*x) + 1);
    float *y = test_alloc((size_t)n * sizeof(*y) + 1);
    float *want = test_alloc((size_t)n * sizeof(*want) + 1);
    float *first = test_alloc((size_t)n * sizeof(*first) + 1);
    float *w = test_alloc((size_t)cols * sizeof(*w));
    struct tensor tx = TENSOR_F32(x, rows, cols);
    struct tensor ty = TENSOR_F32(y, rows, cols);
    struct tensor tw = TENSOR_F32(w, cols);
    struct device dev;
    struct err err;

    test_fill(x, n, 5);
    test_fill(w, cols, 6);
    test_fill(want, n, 7);
    reference(want, x, w, rows, cols, p);
    for (int threads = 1; threads <= 3; threads += 2) {
        EXPECT_OK(device_open_cpu(&dev, threads, &err));
        test_fill(y, n, 7);
        EXPECT_OK(op_rmsnorm(&dev, &ty, &tx, &tw, p, &err));
        EXPECT_CLOSE(y, want, n, 0, 5e-7);
        if (threads == 1) {
            memcpy(first, y, (size_t)n * sizeof(*y));
        }
        EXPECT(memcmp(first, y, (size_t)n * sizeof(*y)) == 0);
        device_close(&dev);
    }
    if (!p->residual) { /* in place, with the same bytes */
        EXPECT_OK(device_open_cpu(&dev, 2, &err));
        EXPECT_OK(op_rmsnorm(&dev, &tx, &tx, &tw, p, &err));
        EXPECT(memcmp(first, x, (size_t)n * sizeof(*y)) == 0);
        device_close(&dev);
    }
    free(x);
    free(y);
    free(want);
    free(first);
    free(w);
}

TEST(rmsnorm_of_three_and_four_by_hand)
{
    /* mean of squares 12.5; eps 12.5 makes the root 5. */
    float x[] = {3, 4};
    float w[] = {10, -1};
    float y[] = {100, 100, 77};
    const float want[] = {6, -0.8F};
    const float want_gemma[] = {106.6F, 100};
    struct rmsnorm_params p = {.eps = 12.5F};
    struct tensor tx = TENSOR_F32(x, 1, 2);
    struct tensor ty = TENSOR_F32(y, 1, 2);
    struct tensor tw = TENSOR_F32(w, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_rmsnorm(&dev, &ty, &tx, &tw, &p, &err));
    EXPECT_CLOSE(y, want, 2, 0, 1e-6);
    y[0] = 100;
    y[1] = 100;
    p.w_offset = 1;
    p.residual = true;
    EXPECT_OK(op_rmsnorm(&dev, &ty, &tx, &tw, &p, &err));
    EXPECT_CLOSE(y, want_gemma, 2, 0, 1e-6);
    EXPECT(y[2] == 77);
    device_close(&dev);
}

TEST(rmsnorm_matches_the_formula)
{
    static const int64_t shape[][2] = {{0, 5}, {1, 1}, {3, 31}, {17, 257}, {33, 2304}};
    const struct rmsnorm_params gemma = {.eps = 1e-6F, .w_offset = 1};
    const struct rmsnorm_params residual = {.eps = 1e-6F, .w_offset = 1, .residual = true};

    for (size_t i = 0; i < ARRAY_LEN(shape); i++) {
        check(shape[i][0], shape[i][1], &plain);
        check(shape[i][0], shape[i][1], &gemma);
        check(shape[i][0], shape[i][1], &residual);
    }
}

TEST(rmsnorm_refuses_what_does_not_fit)
{
    float data[12] = {0};
    struct tensor x = TENSOR_F32(data, 3, 4);
    struct tensor w = TENSOR_F32(data, 4);
    struct tensor bad_w = TENSOR_F32(data, 3);
    struct tensor bad_y = TENSOR_F32(data, 4, 3);
    const struct rmsnorm_params no_eps = {0};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_INT(op_rmsnorm(&dev, &x, &x, &bad_w, &plain, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "w is F32[3]");
    EXPECT_INT(op_rmsnorm(&dev, &bad_y, &x, &w, &plain, &err), ERR_INVALID);
    EXPECT_INT(op_rmsnorm(&dev, &x, &w, &w, &plain, &err), ERR_INVALID);
    EXPECT_INT(op_rmsnorm(&dev, &x, &x, &w, &no_eps, &err), ERR_INVALID);
    device_close(&dev);
}
