#include "kernels/timestep.h"

#include <math.h>

#include "tests/support/cuda_test.h"

static struct err err;

struct timestep {
    struct cuda_pair out, t;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct timestep *r = ctx;

    EXPECT_OK(op_timestep_features(dev, &r->out.on[side], &r->t.on[side], &err));
}

CUDA_TEST(timestep_features_are_the_cpus)
{
    const float t[] = {1000, 0, 999.5F, 0.125F, 517.21875F};
    struct timestep r = {.out = cuda_pair_output(DTYPE_F32, CUDA_DIMS(5, TIMESTEP_FEATURES)),
                         .t = cuda_pair_from(DTYPE_F32, t, CUDA_DIMS(5))};
    const float *got;

    (void)act;
    cuda_test_run(run, &r);
    got = cuda_pair_download(&r.out);
    for (int64_t i = 0; i < tensor_count(&r.out.on[CUDA_CPU]); i++) {
        EXPECT(fabsf(got[i] - ((const float *)r.out.on[CUDA_CPU].data)[i]) <= 1e-6F);
    }
}

CUDA_TEST(timestep_features_of_nothing_are_nothing)
{
    struct timestep r = {.out = cuda_pair_output(DTYPE_F32, CUDA_DIMS(0, TIMESTEP_FEATURES)),
                         .t = cuda_pair_random(DTYPE_F32, 1, 1, CUDA_DIMS(0))};

    (void)act;
    cuda_test_run(run, &r);
}
