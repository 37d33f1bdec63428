#include "kernels/noise.h"

#include <math.h>

#include "tests/support/cuda_test.h"

static struct err err;

struct noise {
    struct cuda_pair y;
    uint64_t seed, stream;
    int64_t first;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct noise *n = ctx;

    EXPECT_OK(op_noise(dev, &n->y.on[side], n->seed, n->stream, n->first, &err));
}

static void check(uint64_t seed, uint64_t stream, int64_t first, int64_t n)
{
    struct noise r = {.y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(n)),
                      .seed = seed,
                      .stream = stream,
                      .first = first};
    const float *got;

    cuda_test_run(run, &r);
    got = cuda_pair_download(&r.y);
    for (int64_t i = 0; i < n; i++) {
        EXPECT(fabsf(got[i] - noise_normal(seed, stream, first + i)) <= 1e-5F);
    }
}

CUDA_TEST(noise_is_the_cpus_from_any_index)
{
    (void)act;
    for (int64_t first = 0; first < 5; first++) {
        check(42, 7, first, 1);
        check(42, 7, first, 2);
        check(42, 7, first, 9);
    }
    check(42, 7, 3, 0);
    check(1, 0, 1, 5000);
}

CUDA_TEST(noise_uses_all_bits_of_seed_stream_and_index)
{
    (void)act;
    check(0xfedcba9876543210, 0x8123456789abcdef, 0x123456789abcdef1, 11);
    check(0, 0, INT64_MAX - 11, 11);
}
