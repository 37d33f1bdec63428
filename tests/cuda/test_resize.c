#include "kernels/resize.h"

#include "tests/support/cuda_test.h"

struct resize {
    struct cuda_pair out, in;
};

static struct err err;

static void run(struct device *dev, void *ctx, int side)
{
    const struct resize *r = ctx;

    EXPECT_OK(op_resize_crop(dev, &r->out.on[side], &r->in.on[side], &err));
}

static void check(int64_t f, int64_t h, int64_t w, int64_t out_h, int64_t out_w, double tolerance)
{
    struct resize r = {
        .out = cuda_pair_output(DTYPE_F32, CUDA_DIMS(f, out_h, out_w, 3)),
        .in = cuda_pair_random(DTYPE_F32, 1, 1.0, CUDA_DIMS(f, h, w, 3)),
    };

    cuda_test_run(run, &r);
    cuda_pair_expect(&r.out, tolerance);
}

CUDA_TEST(resize_up_down_and_cropped)
{
    (void)act; /* pictures are F32 in both modes */
    check(1, 1, 1, 1, 1, 1e-6);
    check(2, 5, 7, 5, 7, 1e-6);
    check(1, 4, 6, 9, 11, 1e-5);
    check(2, 17, 23, 8, 10, 1e-5);
    check(1, 12, 9, 20, 30, 1e-5);
    check(1, 9, 31, 24, 8, 1e-5);
    check(1, 1, 5, 7, 3, 1e-5);
}
