#include "kernels/geglu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

static double gelu_tanh(double x)
{
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

TEST(geglu_of_known_values)
{
    /* gelu_tanh(1) = 0.841192, gelu_tanh(-1) = -0.158808 (any table of the function). */
    float gate[] = {1, -1, 0, 100, -100};
    float up[] = {2, 2, 5, 0.5F, 3};
    float y[] = {9, 9, 9, 9, 9, 77};
    const float want[] = {1.682384F, -0.317616F, 0, 50, 0};
    struct tensor tg = TENSOR_F32(gate, 1, 5);
    struct tensor tu = TENSOR_F32(up, 1, 5);
    struct tensor ty = TENSOR_F32(y, 1, 5);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_geglu(&dev, &ty, &tg, &tu, &err));
    EXPECT_CLOSE(y, want, 5, 2e-6, 0);
    EXPECT(y[5] == 77);
    device_close(&dev);
}

TEST(geglu_matches_the_formula_also_in_place)
{
    enum {
        ROWS = 37,
        COLS = 1001,
        N = ROWS * COLS
    };
    float *gate = test_alloc(N * sizeof(*gate));
    float *up = test_alloc(N * sizeof(*up));
    float *want = test_alloc(N * sizeof(*want));
    struct tensor tg = TENSOR_F32(gate, ROWS, COLS);
    struct tensor tu = TENSOR_F32(up, ROWS, COLS);
    struct device dev;
    struct err err;

    for (int in_gate = 0; in_gate < 2; in_gate++) {
        EXPECT_OK(device_open_cpu(&dev, 1 + in_gate * 2, &err));
        test_fill(gate, N, 1);
        test_fill(up, N, 2);
        for (int64_t i = 0; i < N; i++) {
            gate[i] *= 6;
            want[i] = (float)(gelu_tanh((double)gate[i]) * (double)up[i]);
        }
        EXPECT_OK(op_geglu(&dev, in_gate ? &tg : &tu, &tg, &tu, &err));
        EXPECT_CLOSE(in_gate ? gate : up, want, N, 0, 3e-7);
        device_close(&dev);
    }
    free(gate);
    free(up);
    free(want);
}

TEST(geglu_refuses_different_shapes)
{
    float data[12] = {0};
    struct tensor a = TENSOR_F32(data, 3, 4);
    struct tensor b = TENSOR_F32(data, 4, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_INT(op_geglu(&dev, &a, &a, &b, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "up is F32[4, 3]");
    EXPECT_INT(op_geglu(&dev, &b, &a, &a, &err), ERR_INVALID);
    device_close(&dev);
}
