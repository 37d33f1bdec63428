#include "kernels/channel_norm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

static void reference(float *y, const float *x, int64_t rows, int64_t c,
                      const struct channel_norm_params *p)
{
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0;

        for (int64_t i = 0; i < c; i++) {
            squares += (double)x[r * c + i] * (double)x[r * c + i];
        }
        for (int64_t i = 0; i < c; i++) {
            const double g = p->gamma ? (double)((const float *)p->gamma->data)[i] : 1.0;
            double v = (double)x[r * c + i] * g;

            if (p->kind == CHANNEL_NORM_L2) {
                v *= sqrt((double)c) / fmax(sqrt(squares), (double)p->eps);
            } else {
                v /= sqrt(squares / (double)c + (double)p->eps);
            }
            y[r * c + i] = (float)(p->silu ? v / (1.0 + exp(-v)) : v);
        }
    }
}

static void check(int64_t rows, int64_t c, const struct channel_norm_params *p)
{
    const int64_t n = rows * c;
    float *x = test_alloc((size_t)n * sizeof(*x));
    float *y = test_alloc((size_t)(n + 1) * sizeof(*y));
    float *want = test_alloc((size_t)n * sizeof(*want));
    float *first = test_alloc((size_t)n * sizeof(*first));
    struct tensor tx = TENSOR_F32(x, rows, 1, 1, c);
    struct tensor ty = TENSOR_F32(y, rows, c);
    struct device dev;
    struct err err;

    test_fill(x, n, 11);
    reference(want, x, rows, c, p);
    for (int threads = 1; threads <= 3; threads++) {
        EXPECT_OK(device_open_cpu(&dev, threads, &err));
        y[n] = 77.0F;
        EXPECT_OK(op_channel_norm(&dev, &ty, &tx, p, &err));
        EXPECT_CLOSE(y, want, n, 0, 1e-6);
        EXPECT(y[n] == 77.0F);
        if (threads == 1) {
            memcpy(first, y, (size_t)n * sizeof(*y));
        }
        EXPECT(memcmp(first, y, (size_t)n * sizeof(*y)) == 0);
        device_close(&dev);
    }
    EXPECT_OK(device_open_cpu(&dev, 2, &err)); /* in place */
    EXPECT_OK(op_channel_norm(&dev, &tx, &tx, p, &err));
    EXPECT(memcmp(first, x, (size_t)n * sizeof(*y)) == 0);
    device_close(&dev);
    free(first);
    free(want);
    free(y);
    free(x);
}

TEST(channel_norm_matches_the_formula)
{
    static const int64_t shape[][2] = {{1, 1}, {3, 8}, {7, 31}, {5000, 16}, {2, 1024}};

    for (size_t i = 0; i < ARRAY_LEN(shape); i++) {
        float *g = test_alloc((size_t)shape[i][1] * sizeof(*g));
        struct tensor gamma = TENSOR_F32(g, shape[i][1]);
        struct channel_norm_params p = {.kind = CHANNEL_NORM_L2, .eps = 1e-12F, .gamma = &gamma};

        test_fill(g, shape[i][1], 12);
        check(shape[i][0], shape[i][1], &p);
        p.silu = true;
        check(shape[i][0], shape[i][1], &p);
        p = (struct channel_norm_params){.kind = CHANNEL_NORM_MEAN_SQUARE, .eps = 1e-8F};
        check(shape[i][0], shape[i][1], &p);
        p.silu = true;
        p.eps = 0.25F; /* large enough to see where it stands */
        check(shape[i][0], shape[i][1], &p);
        free(g);
    }
}

TEST(channel_norm_computes_small_numbers_by_hand)
{
    float x[] = {3, 4, 0, 0, 0, 0, 0, 0};
    float g[] = {1, 10, 1, 1};
    const float l2[] = {1.2F, 16, 0, 0, 0, 0, 0, 0};     /* /5 * sqrt(4) * gamma; zeros stay */
    const float mean[] = {1.2F, 1.6F, 0, 0, 0, 0, 0, 0}; /* / sqrt(25 / 4) */
    struct tensor gamma = TENSOR_F32(g, 4);
    float y[8];
    struct tensor tx = TENSOR_F32(x, 2, 4);
    struct tensor ty = TENSOR_F32(y, 2, 4);
    struct channel_norm_params p = {.kind = CHANNEL_NORM_L2, .eps = 1e-12F, .gamma = &gamma};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_channel_norm(&dev, &ty, &tx, &p, &err));
    EXPECT_CLOSE(y, l2, 8, 0, 1e-7);
    p.kind = CHANNEL_NORM_MEAN_SQUARE;
    p.gamma = NULL;
    EXPECT_OK(op_channel_norm(&dev, &ty, &tx, &p, &err));
    EXPECT_CLOSE(y, mean, 8, 0, 1e-7);
    x[1] = NAN; /* shows in its own pixel, and only there */
    EXPECT_OK(op_channel_norm(&dev, &ty, &tx, &p, &err));
    EXPECT(isnan(y[1]) && y[5] == 0);
    device_close(&dev);
}

TEST(channel_norm_refuses_what_does_not_fit)
{
    float data[12] = {0};
    struct tensor x = TENSOR_F32(data, 2, 4);
    struct tensor y = TENSOR_F32(data, 3, 4);
    struct tensor gamma = TENSOR_F32(data, 3);
    struct channel_norm_params p = {.eps = 1e-12F};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_INT(op_channel_norm(&dev, &y, &x, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "y is F32[3, 4]");
    p.gamma = &gamma;
    EXPECT_INT(op_channel_norm(&dev, &x, &x, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "gamma is F32[3]");
    x.dtype = DTYPE_BF16;
    EXPECT_INT(op_channel_norm(&dev, &y, &x, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "x is BF16");
    device_close(&dev);
}
