#include "kernels/yuv420.h"

#include <math.h>

#include "tests/support/cuda_test.h"

struct yuv {
    struct cuda_pair out, in;
};

static struct err err;

static void run(struct device *dev, void *ctx, int side)
{
    const struct yuv *y = ctx;

    EXPECT_OK(op_rgb_to_yuv420(dev, &y->out.on[side], &y->in.on[side], &err));
}

/* A GPU multiplies and adds in one rounding, so that a sample near a tie may fall to the other side: one
 * level, and no more than one sample in a thousand. */
static void expect_samples(const struct cuda_pair *out)
{
    const uint8_t *want = out->on[CUDA_CPU].data;
    const float *got = cuda_pair_download(out);
    const int64_t n = tensor_count(&out->on[CUDA_CPU]);
    int64_t differ = 0;

    for (int64_t i = 0; i < n; i++) {
        EXPECT(fabsf(got[i] - (float)want[i]) <= 1.0F);
        differ += got[i] != (float)want[i];
    }
    EXPECT(differ * 1000 <= n);
}

static void check(int64_t f, int64_t h, int64_t w, double scale)
{
    struct yuv y = {
        .out = cuda_pair_output(DTYPE_U8, CUDA_DIMS(f, h * w / 2 * 3)),
        .in = cuda_pair_random(DTYPE_F32, 7, scale, CUDA_DIMS(f, h, w, 3)),
    };

    cuda_test_run(run, &y);
    expect_samples(&y.out);
}

CUDA_TEST(yuv420_of_pictures)
{
    (void)act; /* pictures are F32 in both modes */
    check(1, 2, 2, 1.0);
    check(3, 6, 10, 1.0);
    check(2, 34, 46, 1.0);
    check(1, 2, 38, 1.0);
}

CUDA_TEST(yuv420_clamps)
{
    (void)act;
    check(2, 8, 6, 30.0);
}

CUDA_TEST(yuv420_of_what_is_no_number)
{
    float rgb[2 * 4 * 3];
    struct yuv y;

    (void)act;
    for (int i = 0; i < 24; i++) {
        rgb[i] = i % 5 == 0 ? NAN : i % 5 == 1 ? INFINITY : i % 5 == 2 ? -INFINITY : 0.25F;
    }
    y = (struct yuv){
        .out = cuda_pair_output(DTYPE_U8, CUDA_DIMS(1, 12)),
        .in = cuda_pair_from(DTYPE_F32, rgb, CUDA_DIMS(1, 2, 4, 3)),
    };
    cuda_test_run(run, &y);
    expect_samples(&y.out);
}
