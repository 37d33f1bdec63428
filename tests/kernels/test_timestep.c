#include "kernels/timestep.h"

#include <math.h>

#include "tests/support/op_test.h"

struct timestep_run {
    struct tensor out, t;
};

static void run(struct device *dev, void *ctx)
{
    const struct timestep_run *r = ctx;
    struct err err;

    EXPECT_OK(op_timestep_features(dev, &r->out, &r->t, &err));
}

/* Largest difference from the formula in double, over one row. */
static double worst(const float *out, double t)
{
    double max = 0;

    for (int i = 0; i < 128; i++) {
        const double angle = t * exp(-log(10000.0) * i / 128);

        max = fmax(max, fabs((double)out[i] - cos(angle)));
        max = fmax(max, fabs((double)out[128 + i] - sin(angle)));
    }
    return max;
}

TEST(timestep_features_are_cosines_then_sines)
{
    enum {
        N = 6
    };
    static const float times[N] = {0, 1, 0.5F, 31, 999.875F, 1000};
    float *t = op_test_buffer(sizeof(times));
    float *out = op_test_buffer(sizeof(*out) * N * TIMESTEP_FEATURES);
    struct timestep_run r = {.out = TENSOR_F32(out, N, 256), .t = TENSOR_F32(t, N)};

    for (int u = 0; u < N; u++) {
        t[u] = times[u];
    }
    op_test_freeze(t);
    op_test_run(run, &r, out);
    for (int i = 0; i < 128; i++) {
        EXPECT(out[i] == 1 && out[128 + i] == 0); /* t = 0 */
    }
    for (int u = 1; u < N; u++) { /* the f32 angle moves them by its own rounding */
        const float *row = out + (size_t)u * TIMESTEP_FEATURES;

        EXPECT(worst(row, (double)t[u]) <= 1e-7 + 6e-8 * (double)t[u]);
        EXPECT_CLOSE(row, &(float){(float)cos((double)t[u])}, 1, 6e-8, 0); /* f_0 = 1 */
        EXPECT(fabs((double)row[64] - cos((double)t[u] / 100)) <= 2e-6);   /* f_64 = 1/100 */
        EXPECT(fabs((double)row[128 + 64] - sin((double)t[u] / 100)) <= 2e-6);
    }
    op_test_free(out);
    op_test_free(t);
}

TEST(timestep_rounds_exponent_frequency_and_angle_to_f32)
{
    /* As the reference: all three roundings made here one by one, in the reference's order. */
    float t = 987.6543F;
    float out[TIMESTEP_FEATURES];
    struct timestep_run r = {.out = TENSOR_F32(out, 1, 256), .t = TENSOR_F32(&t, 1)};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    run(&dev, &r);
    for (int i = 0; i < 128; i++) {
        const float product = (float)-9.210340371976184 * (float)i;
        const float exponent = product / 128;
        const float frequency = (float)exp((double)exponent);
        const float angle = t * frequency;

        EXPECT(fabs((double)out[i] - cos((double)angle)) <= 6e-8);
        EXPECT(fabs((double)out[128 + i] - sin((double)angle)) <= 6e-8);
    }
    device_close(&dev);
}

TEST(timestep_of_none_and_of_what_does_not_fit)
{
    float data[512] = {0};
    struct tensor one = TENSOR_F32(data, 1);
    struct tensor none = TENSOR_F32(data, 0);
    struct tensor square = TENSOR_F32(data, 1, 1);
    struct tensor ints = TENSOR_OF(data, DTYPE_I32, 1);
    struct tensor out = TENSOR_F32(data, 1, 256);
    struct tensor out0 = TENSOR_F32(data, 0, 256);
    struct tensor half = TENSOR_F32(data, 1, 128);
    struct tensor two = TENSOR_F32(data, 2, 256);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_timestep_features(&dev, &out0, &none, &err));
    EXPECT_REFUSED(op_timestep_features(&dev, &out, &square, &err),
                   "timestep_features: t is F32[1, 1]");
    EXPECT_REFUSED(op_timestep_features(&dev, &out, &ints, &err), "timestep_features: t is I32[1]");
    EXPECT_REFUSED(op_timestep_features(&dev, &half, &one, &err),
                   "timestep_features: out is F32[1, 128]");
    EXPECT_REFUSED(op_timestep_features(&dev, &two, &one, &err),
                   "timestep_features: out is F32[2, 256]");
    dev.dry_run = true; /* checks shapes, too */
    EXPECT_REFUSED(op_timestep_features(&dev, &two, &one, &err), "out is F32[2, 256]");
    device_close(&dev);
}
