#include "kernels/rope_half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

TEST(rope_half_table_has_the_frequencies)
{
    /* head_dim 4, theta 100: frequencies 1 and 1/10. */
    float table[3 * 4 + 1] = {0};
    const float want[] = {1,          1,          0,           0,          0.5403023F, 0.9950042F,
                          0.8414710F, 0.0998334F, -0.4161468F, 0.9800666F, 0.9092974F, 0.1986693F};
    struct tensor t = TENSOR_F32(table, 3, 2, 2);
    struct device dev;
    struct err err;

    table[12] = 77;
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_rope_half_table(&dev, &t, 100, false, &err));
    EXPECT_CLOSE(table, want, 12, 1e-7, 0);
    EXPECT(table[12] == 77);
    device_close(&dev);
}

TEST(rope_half_table_rounds_frequencies_when_asked)
{
    /* 1/10 is 0x3dcccccd; the nearest bf16 is 0x3dcd0000, 0.10009765625. */
    float table[8];
    struct tensor t = TENSOR_F32(table, 2, 2, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_rope_half_table(&dev, &t, 100, true, &err));
    EXPECT(table[4] == (float)cos(1.0) && table[5] == (float)cos(0.10009765625));
    EXPECT(table[6] == (float)sin(1.0) && table[7] == (float)sin(0.10009765625));
    device_close(&dev);
}

TEST(rope_half_rotates_halves_of_each_head)
{
    /* A quarter turn in the first pair, none in the second: [u0 u1 w0 w1] -> [-w0 u1 u0 w1]. */
    float table[] = {0, 1, 1, 0};
    float x[] = {1, 2, 3, 4, 5, 6, 7, 8, 77};
    const float want[] = {-3, 2, 1, 4, -7, 6, 5, 8};
    struct tensor t = TENSOR_F32(table, 1, 2, 2);
    struct tensor tx = TENSOR_F32(x, 1, 8);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_rope_half(&dev, &tx, &t, &err));
    EXPECT_CLOSE(x, want, 8, 0, 0);
    EXPECT(x[8] == 77);
    device_close(&dev);
}

/* (R_m k) . (R_n q) depends only on m - n: MODEL 13.2, invariant 13. */
TEST(rope_half_products_depend_on_the_distance)
{
    enum {
        S = 40,
        D = 24
    };
    float *table = test_alloc(sizeof(*table) * S * D);
    float *q = test_alloc(sizeof(*q) * S * D);
    float *k = test_alloc(sizeof(*k) * S * D);
    struct tensor t = TENSOR_F32(table, S, 2, D / 2);
    struct tensor tq = TENSOR_F32(q, S, D);
    struct tensor tk = TENSOR_F32(k, S, D);
    struct device dev;
    struct err err;

    test_fill(q, D, 1);
    test_fill(k, D, 2);
    for (int s = 1; s < S; s++) {
        memcpy(q + (ptrdiff_t)s * D, q, D * sizeof(*q));
        memcpy(k + (ptrdiff_t)s * D, k, D * sizeof(*k));
    }
    EXPECT_OK(device_open_cpu(&dev, 3, &err));
    EXPECT_OK(op_rope_half_table(&dev, &t, 10000, false, &err));
    EXPECT_OK(op_rope_half(&dev, &tq, &t, &err));
    EXPECT_OK(op_rope_half(&dev, &tk, &t, &err));
    for (int m = 0; m + 7 < S; m++) {
        double near = 0;
        double far = 0;

        for (int c = 0; c < D; c++) {
            near += (double)k[c] * (double)q[7 * D + c];
            far += (double)k[m * D + c] * (double)q[(m + 7) * D + c];
        }
        EXPECT(fabs(near - far) < 1e-5);
    }
    device_close(&dev);
    free(table);
    free(q);
    free(k);
}

TEST(rope_half_refuses_what_does_not_fit)
{
    float data[24] = {0};
    struct tensor table = TENSOR_F32(data, 2, 2, 3);
    struct tensor x = TENSOR_F32(data, 2, 12);
    struct tensor narrow = TENSOR_F32(data, 2, 10);
    struct tensor longer = TENSOR_F32(data, 3, 6);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_rope_half(&dev, &x, &table, &err));
    EXPECT_INT(op_rope_half(&dev, &narrow, &table, &err), ERR_INVALID);
    EXPECT_INT(op_rope_half(&dev, &longer, &table, &err), ERR_INVALID);
    EXPECT_INT(op_rope_half(&dev, &table, &table, &err), ERR_INVALID);
    EXPECT_INT(op_rope_half_table(&dev, &x, 100, false, &err), ERR_INVALID);
    EXPECT_INT(op_rope_half_table(&dev, &table, 0, false, &err), ERR_INVALID);
    device_close(&dev);
}
