#include "kernels/resize.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/op_test.h"

struct resize_run {
    struct tensor out, in;
};

static void run(struct device *dev, void *ctx)
{
    const struct resize_run *r = ctx;
    struct err err;

    EXPECT_OK(op_resize_crop(dev, &r->out, &r->in, &err));
}

/* One axis of the header's formula: position p of the crop among `size` inputs. */
static double source(int64_t p, int64_t size, int64_t asked, double ratio)
{
    int64_t scaled = (int64_t)((double)size * ratio);
    int64_t start;

    scaled = scaled > asked ? scaled : asked;
    start = (scaled - asked) / 2;
    return fmax(0, ((double)(p + start) + 0.5) * (double)size / (double)scaled - 0.5);
}

/* in at a fractional place; beyond the last row or column it goes on unchanged. */
static double sample(const struct tensor *in, int64_t frame, double y, double x, int64_t c)
{
    const float *data = (const float *)in->data + frame * in->dim[1] * in->dim[2] * 3;
    double sum = 0;

    for (int corner = 0; corner < 4; corner++) {
        const int64_t row = (int64_t)fmin(floor(y) + (corner >> 1), (double)(in->dim[1] - 1));
        const int64_t column = (int64_t)fmin(floor(x) + (corner & 1), (double)(in->dim[2] - 1));
        const double wy = corner >> 1 ? y - floor(y) : 1 - (y - floor(y));
        const double wx = corner & 1 ? x - floor(x) : 1 - (x - floor(x));

        sum += wy * wx * (double)data[(row * in->dim[2] + column) * 3 + c];
    }
    return sum;
}

static void reference(const struct resize_run *r, float *want)
{
    const struct tensor *in = &r->in;
    const struct tensor *out = &r->out;
    const double ratio =
        fmax((double)out->dim[1] / (double)in->dim[1], (double)out->dim[2] / (double)in->dim[2]);

    for (int64_t e = 0; e < tensor_count(out); e++) {
        const int64_t x = e / 3 % out->dim[2];
        const int64_t y = e / 3 / out->dim[2] % out->dim[1];
        const int64_t frame = e / 3 / out->dim[2] / out->dim[1];

        want[e] = (float)sample(in, frame, source(y, in->dim[1], out->dim[1], ratio),
                                source(x, in->dim[2], out->dim[2], ratio), e % 3);
    }
}

/* [frames, h, w] to [out_h, out_w]. */
static void check(int64_t frames, int64_t h, int64_t w, int64_t out_h, int64_t out_w)
{
    const int64_t n = frames * out_h * out_w * 3;
    float *in = op_test_floats(frames * h * w * 3, 4);
    float *out = op_test_buffer((size_t)n * sizeof(*out));
    float *want = op_test_buffer((size_t)n * sizeof(*want));
    struct resize_run r = {.out = TENSOR_F32(out, frames, out_h, out_w, 3),
                           .in = TENSOR_F32(in, frames, h, w, 3)};

    op_test_freeze(in);
    reference(&r, want);
    op_test_run(run, &r, out);
    EXPECT_CLOSE(out, want, n, 5e-5, 0); /* coordinates are f32, as in the reference */
    op_test_free(in);
    op_test_free(out);
    op_test_free(want);
}

TEST(resize_matches_the_formula_up_down_and_cropped)
{
    check(0, 3, 5, 4, 4);
    check(2, 1, 1, 3, 7);
    check(1, 31, 257, 1, 1);
    check(2, 5, 7, 9, 4);
    check(2, 31, 17, 13, 31);
    check(1, 257, 31, 100, 31);
    check(1, 48, 83, 48, 72); /* crop only */
    check(1, 62, 62, 64, 64);
}

TEST(resize_of_two_by_two_to_four_by_four_by_hand)
{
    /* Source coordinates 0 (clamped), 1/4, 3/4, 1 (and its neighbour, the edge). */
    static const float up[] = {0, 2, 6, 8};
    static const float across[] = {0, 1, 3, 4};
    float in[12];
    float out[49];
    struct resize_run r = {.out = TENSOR_F32(out, 1, 4, 4, 3), .in = TENSOR_F32(in, 1, 2, 2, 3)};
    struct device dev;
    struct err err;

    for (int i = 0; i < 12; i++) { /* 8 y + 4 x + 100 c */
        const int value = 8 * (i / 6) + 4 * (i / 3 % 2) + 100 * (i % 3);

        in[i] = (float)value;
    }
    out[48] = 77;
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    run(&dev, &r);
    for (int i = 0; i < 48; i++) {
        EXPECT(out[i] == up[i / 12] + across[i / 3 % 4] + (float)(100 * (i % 3)));
    }
    EXPECT(out[48] == 77);
    r.out = TENSOR_F32(out, 1, 2, 4, 3); /* the same, rows 1 and 2 of it */
    run(&dev, &r);
    for (int i = 0; i < 24; i++) {
        EXPECT(out[i] == up[1 + i / 12] + across[i / 3 % 4] + (float)(100 * (i % 3)));
    }
    r.out = TENSOR_F32(out, 1, 4, 2, 3); /* columns 1 and 2 */
    run(&dev, &r);
    for (int i = 0; i < 24; i++) {
        EXPECT(out[i] == up[i / 6] + across[1 + i / 3 % 2] + (float)(100 * (i % 3)));
    }
    device_close(&dev);
}

TEST(resize_to_half_averages_two_neighbours_without_antialias)
{
    float in[8 * 3];
    float out[2 * 3];
    struct resize_run r = {.out = TENSOR_F32(out, 1, 1, 2, 3), .in = TENSOR_F32(in, 1, 2, 4, 3)};
    struct device dev;
    struct err err;

    for (int i = 0; i < 24; i++) {
        const int pixel = i / 3;

        in[i] = (float)(pixel * pixel); /* 0 1 4 9 / 16 25 36 49 */
    }
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    run(&dev, &r);
    EXPECT_CLOSE(out, ((float[]){10.5F, 10.5F, 10.5F, 24.5F, 24.5F, 24.5F}), 6, 0, 0);
    device_close(&dev);
}

TEST(resize_to_the_same_size_is_the_identity)
{
    static const int64_t size[][2] = {{1, 1}, {3, 31}, {48, 83}, {7, 257}};

    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        const int64_t n = 2 * size[i][0] * size[i][1] * 3;
        float *in = op_test_floats(n, 5);
        float *out = op_test_buffer((size_t)n * sizeof(*out));
        struct resize_run r = {.out = TENSOR_F32(out, 2, size[i][0], size[i][1], 3),
                               .in = TENSOR_F32(in, 2, size[i][0], size[i][1], 3)};

        op_test_freeze(in);
        op_test_run(run, &r, out);
        EXPECT_CLOSE(out, in, n, 0, 0);
        op_test_free(in);
        op_test_free(out);
    }
}

TEST(resize_refuses_what_does_not_fit)
{
    float data[48] = {0};
    struct tensor in = TENSOR_F32(data, 1, 2, 2, 3);
    struct tensor out = TENSOR_F32(data + 24, 1, 2, 2, 3);
    struct tensor four = TENSOR_F32(data, 1, 2, 2, 4);
    struct tensor empty = TENSOR_F32(data, 1, 0, 2, 3);
    struct tensor narrow = TENSOR_F32(data, 1, 2, 0, 3);
    struct tensor two = TENSOR_F32(data, 2, 2, 2, 3);
    struct tensor flat = TENSOR_F32(data, 4, 3);
    struct tensor ints = TENSOR_OF(data, DTYPE_I32, 1, 2, 2, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_resize_crop(&dev, &out, &four, &err), "resize_crop: in is F32[1, 2, 2, 4]");
    EXPECT_REFUSED(op_resize_crop(&dev, &out, &empty, &err), "resize_crop: in is F32[1, 0, 2, 3]");
    EXPECT_REFUSED(op_resize_crop(&dev, &out, &narrow, &err), "resize_crop: in is F32[1, 2, 0, 3]");
    EXPECT_REFUSED(op_resize_crop(&dev, &out, &ints, &err), "resize_crop: in is I32");
    EXPECT_REFUSED(op_resize_crop(&dev, &out, &flat, &err), "resize_crop: in is F32[4, 3]");
    EXPECT_REFUSED(op_resize_crop(&dev, &two, &in, &err), "resize_crop: out is F32[2, 2, 2, 3]");
    EXPECT_REFUSED(op_resize_crop(&dev, &empty, &in, &err), "resize_crop: out is F32[1, 0, 2, 3]");
    EXPECT_REFUSED(op_resize_crop(&dev, &narrow, &in, &err), "resize_crop: out is F32[1, 2, 0, 3]");
    EXPECT_REFUSED(op_resize_crop(&dev, &four, &in, &err), "resize_crop: out is F32[1, 2, 2, 4]");
    EXPECT_REFUSED(op_resize_crop(&dev, &ints, &in, &err), "resize_crop: out is I32");
    device_close(&dev);
}
