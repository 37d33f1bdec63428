#include "kernels/yuv420.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/op_test.h"

struct yuv_run {
    struct tensor out, in;
};

static void run(struct device *dev, void *ctx)
{
    const struct yuv_run *r = ctx;
    struct err err;

    EXPECT_OK(op_rgb_to_yuv420(dev, &r->out, &r->in, &err));
}

/* What a 2 x 2 picture of one colour gives: Y', Cb, Cr. */
static void expect_colour(const float rgb[3], int y, int cb, int cr)
{
    float in[12];
    uint8_t out[7] = {0, 0, 0, 0, 0, 0, 77};
    struct yuv_run r = {.out = TENSOR_OF(out, DTYPE_U8, 1, 6), .in = TENSOR_F32(in, 1, 2, 2, 3)};
    struct device dev;
    struct err err;

    for (int i = 0; i < 12; i++) {
        in[i] = rgb[i % 3];
    }
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    run(&dev, &r);
    device_close(&dev);
    for (int i = 0; i < 4; i++) {
        EXPECT_INT(out[i], y);
    }
    EXPECT_INT(out[4], cb);
    EXPECT_INT(out[5], cr);
    EXPECT_INT(out[6], 77);
}

TEST(yuv420_codes_of_bt709_limited_range)
{
    expect_colour((float[]){1, 1, 1}, 235, 128, 128);
    expect_colour((float[]){-1, -1, -1}, 16, 128, 128);
    expect_colour((float[]){0, 0, 0}, 126, 128, 128); /* 125.5 */
    expect_colour((float[]){-0.5F, -0.5F, -0.5F}, 71, 128, 128);
    expect_colour((float[]){1, -1, -1}, 63, 102, 240);
    expect_colour((float[]){-1, 1, -1}, 173, 42, 26);
    expect_colour((float[]){-1, -1, 1}, 32, 240, 118);
    expect_colour((float[]){1, 1, -1}, 219, 16, 138);
    expect_colour((float[]){-1, 1, 1}, 188, 154, 16);
    expect_colour((float[]){1, -1, 1}, 78, 214, 230);
}

TEST(yuv420_clamps_and_never_meets_nan)
{
    expect_colour((float[]){7, 1.0001F, INFINITY}, 235, 128, 128);
    expect_colour((float[]){-7, -1.0001F, -INFINITY}, 16, 128, 128);
    expect_colour((float[]){1e30F, -1e30F, -2}, 63, 102, 240);
    expect_colour((float[]){NAN, NAN, NAN}, 16, 128, 128);
    expect_colour((float[]){NAN, 1, -NAN}, 173, 42, 26);
}

static double channel(const struct yuv_run *r, int64_t frame, int64_t y, int64_t x, int64_t c)
{
    const struct tensor *in = &r->in;
    const int64_t column = x > 0 ? x : 0;
    const double v =
        (double)((const float *)in->data)[((frame * in->dim[1] + y) * in->dim[2] + column) * 3 + c];

    return fmin(1, fmax(0, 0.5 * v + 0.5));
}

/* Element e of a frame's Y' plane, before rounding. */
static double luma(const struct yuv_run *r, int64_t frame, int64_t e)
{
    const int64_t y = e / r->in.dim[2];
    const int64_t x = e % r->in.dim[2];

    return 16 + 219 * (0.2126 * channel(r, frame, y, x, 0) + 0.7152 * channel(r, frame, y, x, 1) +
                       0.0722 * channel(r, frame, y, x, 2));
}

/* Element e of a frame's Cb plane (which 2) or Cr plane (which 0). */
static double chroma(const struct yuv_run *r, int64_t frame, int64_t e, int which)
{
    static const double weight[] = {0.25, 0.5, 0.25};
    static const double k[] = {0.2126, 0.7152, 0.0722};
    const int64_t y = 2 * (e / (r->in.dim[2] / 2));
    const int64_t x = 2 * (e % (r->in.dim[2] / 2));
    double rgb[3] = {0};

    for (int tap = 0; tap < 18; tap++) { /* channel, row, column */
        const int c = tap % 3;
        const int dy = tap / 3 % 2;
        const int dx = tap / 6;

        rgb[c] += 0.5 * weight[dx] * channel(r, frame, y + dy, x + dx - 1, c);
    }
    return 128 + 224 * (rgb[which] - (k[0] * rgb[0] + k[1] * rgb[1] + k[2] * rgb[2])) /
                     (2 * (1 - k[which]));
}

/* Largest distance of an output from the exact value: at most half a code, plus f32 rounding. */
static double worst(const struct yuv_run *r)
{
    const int64_t pixels = r->in.dim[1] * r->in.dim[2];
    const uint8_t *out = r->out.data;
    double max = 0;

    for (int64_t i = 0; i < tensor_count(&r->out); i++) {
        const int64_t frame = i / (pixels * 3 / 2);
        const int64_t e = i % (pixels * 3 / 2);
        double want;

        if (e < pixels) {
            want = luma(r, frame, e);
        } else if (e < pixels + pixels / 4) {
            want = chroma(r, frame, e - pixels, 2);
        } else {
            want = chroma(r, frame, e - pixels - pixels / 4, 0);
        }
        max = fmax(max, fabs((double)out[i] - want));
    }
    return max;
}

static void check(int64_t frames, int64_t h, int64_t w)
{
    float *in = op_test_floats(frames * h * w * 3, 8);
    uint8_t *out = op_test_buffer((size_t)(frames * h * w / 2 * 3));
    struct yuv_run r = {.out = TENSOR_OF(out, DTYPE_U8, frames, h * w / 2 * 3),
                        .in = TENSOR_F32(in, frames, h, w, 3)};

    for (int64_t i = 0; i < tensor_count(&r.in); i++) {
        in[i] *= 1.2F; /* some are clamped */
    }
    op_test_freeze(in);
    op_test_run(run, &r, out);
    EXPECT(worst(&r) <= 0.5001);
    op_test_free(in);
    op_test_free(out);
}

TEST(yuv420_matches_the_formula)
{
    check(0, 2, 2);
    check(1, 0, 4);
    check(1, 2, 2);
    check(3, 2, 62);
    check(2, 30, 6);
    check(2, 34, 258);
}

/* A decoder's R'G'B' in 0..255 at a pixel: chroma left-sited, bilinear. */
static void decode(const uint8_t *yuv, int64_t h, int64_t w, int64_t y, int64_t x, double rgb[3])
{
    const double luma_code = ((double)yuv[y * w + x] - 16) / 219;
    const int64_t rows = h / 2;
    const int64_t columns = w / 2;
    const double row = fmin(fmax(((double)y - 0.5) / 2, 0), (double)(rows - 1));
    const double column = fmin((double)x / 2, (double)(columns - 1));
    double c[2] = {0};

    for (int tap = 0; tap < 8; tap++) { /* row, column, plane */
        const uint8_t *plane = yuv + h * w + (tap >> 2) * rows * columns;
        const double wy = tap & 1 ? row - floor(row) : 1 - (row - floor(row));
        const double wx = tap & 2 ? column - floor(column) : 1 - (column - floor(column));
        const int64_t at_y = (int64_t)fmin(floor(row) + (tap & 1), (double)(rows - 1));
        const int64_t at_x = (int64_t)fmin(floor(column) + (tap >> 1 & 1), (double)(columns - 1));

        c[tap >> 2] += wy * wx * ((double)plane[at_y * columns + at_x] - 128) / 224;
    }
    rgb[0] = 255 * (luma_code + 2 * (1 - 0.2126) * c[1]);
    rgb[2] = 255 * (luma_code + 2 * (1 - 0.0722) * c[0]);
    rgb[1] = (255 * luma_code - 0.2126 * rgb[0] - 0.0722 * rgb[2]) / 0.7152;
}

TEST(yuv420_round_trip_of_a_smooth_texture_is_39_db)
{
    enum {
        H = 64,
        W = 96
    };
    float *in = op_test_buffer(sizeof(*in) * H * W * 3);
    uint8_t *out = op_test_buffer(H * W * 3 / 2);
    struct yuv_run r = {.out = TENSOR_OF(out, DTYPE_U8, 1, H * W * 3 / 2),
                        .in = TENSOR_F32(in, 1, H, W, 3)};
    double squares = 0;
    double psnr;

    for (int i = 0; i < H * W * 3; i++) {
        const int pixel = i / 3;
        const int y = pixel / W;
        const int x = pixel % W;
        const int c = i % 3;

        in[i] = (float)(0.8 * sin(0.11 * x + 0.07 * y * (1 + c) + c) * cos(0.09 * y));
    }
    op_test_run(run, &r, out);
    for (int i = 0; i < H * W * 3; i += 3) {
        double rgb[3];

        decode(out, H, W, i / 3 / W, i / 3 % W, rgb);
        for (int c = 0; c < 3; c++) {
            const double d = rgb[c] - 127.5 * ((double)in[i + c] + 1);

            squares += d * d;
        }
    }
    psnr = 10 * log10(255.0 * 255.0 * H * W * 3 / squares);
    EXPECT(psnr >= 39);
    op_test_free(in);
    op_test_free(out);
}

TEST(yuv420_refuses_what_does_not_fit)
{
    float data[48] = {0};
    struct tensor in = TENSOR_F32(data, 1, 2, 4, 3);
    struct tensor out = TENSOR_OF(data + 24, DTYPE_U8, 1, 12);
    struct tensor odd_height = TENSOR_F32(data, 1, 3, 4, 3);
    struct tensor odd_width = TENSOR_F32(data, 1, 2, 5, 3);
    struct tensor grey = TENSOR_F32(data, 1, 2, 4, 1);
    struct tensor ints = TENSOR_OF(data, DTYPE_I32, 1, 2, 4, 3);
    struct tensor small = TENSOR_OF(data, DTYPE_U8, 1, 11);
    struct tensor floats = TENSOR_F32(data, 1, 12);
    struct tensor frames = TENSOR_OF(data, DTYPE_U8, 2, 12);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_rgb_to_yuv420(&dev, &out, &odd_height, &err),
                   "rgb_to_yuv420: in is F32[1, 3, 4, 3]");
    EXPECT_REFUSED(op_rgb_to_yuv420(&dev, &out, &odd_width, &err),
                   "rgb_to_yuv420: in is F32[1, 2, 5, 3]");
    EXPECT_REFUSED(op_rgb_to_yuv420(&dev, &out, &grey, &err), "rgb_to_yuv420: in is F32");
    EXPECT_REFUSED(op_rgb_to_yuv420(&dev, &out, &ints, &err), "rgb_to_yuv420: in is I32");
    EXPECT_REFUSED(op_rgb_to_yuv420(&dev, &small, &in, &err), "rgb_to_yuv420: out is U8[1, 11]");
    EXPECT_REFUSED(op_rgb_to_yuv420(&dev, &floats, &in, &err), "rgb_to_yuv420: out is F32[1, 12]");
    EXPECT_REFUSED(op_rgb_to_yuv420(&dev, &frames, &in, &err), "rgb_to_yuv420: out is U8[2, 12]");
    device_close(&dev);
}
