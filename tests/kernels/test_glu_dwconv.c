#include "kernels/glu_dwconv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/op_test.h"

struct glu_run {
    struct tensor p, u, weight, bias;
    const float *input; /* u is undefined after a run: each starts from this */
};

static void run(struct device *dev, void *ctx)
{
    const struct glu_run *g = ctx;
    struct err err;

    memcpy(g->u.data, g->input, tensor_bytes(&g->u));
    EXPECT_OK(op_glu_dwconv(dev, &g->p, &g->u, &g->weight, &g->bias, &err));
    if (dev->dry_run) {
        EXPECT(memcmp(g->u.data, g->input, tensor_bytes(&g->u)) == 0);
    }
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

/* c of the header at one place: frame, y, x, channel of 2M. */
static double convolve(const struct glu_run *g, const int64_t at[3], int64_t channel)
{
    const int64_t *dim = g->u.dim;
    double sum = (double)((const float *)g->bias.data)[channel];

    for (int64_t tap = 0; tap < 9; tap++) {
        const int64_t y = at[1] + tap / 3 - 1;
        const int64_t x = at[2] + tap % 3 - 1;

        if (y >= 0 && y < dim[1] && x >= 0 && x < dim[2]) {
            const int64_t e = ((at[0] * dim[1] + y) * dim[2] + x) * dim[3] + channel;

            sum += (double)((const float *)g->weight.data)[tap * dim[3] + channel] *
                   silu((double)g->input[e]);
        }
    }
    return sum;
}

static void reference(const struct glu_run *g, float *want)
{
    const int64_t *dim = g->p.dim;

    for (int64_t e = 0; e < tensor_count(&g->p); e++) {
        const int64_t pixel = e / dim[3];
        const int64_t at[] = {pixel / dim[2] / dim[1], pixel / dim[2] % dim[1], pixel % dim[2]};

        want[e] = (float)(convolve(g, at, e % dim[3]) * silu(convolve(g, at, dim[3] + e % dim[3])));
    }
}

static void check(int64_t frames, int64_t height, int64_t width, int64_t hidden)
{
    const int64_t n = frames * height * width * hidden;
    float *input = op_test_floats(2 * n, 1);
    float *u = op_test_buffer((size_t)(2 * n) * sizeof(*u));
    float *weight = op_test_floats(18 * hidden, 2);
    float *bias = op_test_floats(2 * hidden, 3);
    float *p = op_test_buffer((size_t)n * sizeof(*p));
    float *want = op_test_buffer((size_t)n * sizeof(*want));
    struct glu_run g = {.p = TENSOR_F32(p, frames, height, width, hidden),
                        .u = TENSOR_F32(u, frames, height, width, 2 * hidden),
                        .weight = TENSOR_F32(weight, 9, 2 * hidden),
                        .bias = TENSOR_F32(bias, 2 * hidden),
                        .input = input};

    for (int64_t i = 0; i < 2 * n; i++) {
        input[i] *= 5;
    }
    op_test_freeze(input);
    op_test_freeze(weight);
    op_test_freeze(bias);
    reference(&g, want);
    op_test_run(run, &g, p);
    EXPECT_CLOSE(p, want, n, 0, 1e-6);
    op_test_free(input);
    op_test_free(u);
    op_test_free(weight);
    op_test_free(bias);
    op_test_free(p);
    op_test_free(want);
}

TEST(glu_dwconv_matches_the_formula)
{
    check(0, 2, 2, 3);
    check(1, 1, 1, 1);
    check(2, 1, 31, 2);
    check(1, 31, 1, 3);
    check(3, 2, 2, 127);
    check(2, 3, 5, 128);
    check(1, 4, 3, 257); /* three slices of channels */
    check(2, 7, 6, 31);
}

TEST(glu_dwconv_pads_each_frame_with_zero)
{
    /* All weights 1, so the value is the sum of the neighbours' silu(u): no silu(bias) comes in from
     * outside, and nothing from the frame before or after. Gate: constant c, silu(c) = 1. */
    enum {
        N = 2 * 3 * 3
    };
    static const int neighbours[] = {4, 6, 4, 6, 9, 6, 4, 6, 4};
    float u[2 * N];
    float weight[18];
    float bias[] = {0, 1.2784645F};
    float p[N];
    struct tensor tp = TENSOR_F32(p, 2, 3, 3, 1);
    struct tensor tu = TENSOR_F32(u, 2, 3, 3, 2);
    struct tensor tw = TENSOR_F32(weight, 9, 2);
    struct tensor tb = TENSOR_F32(bias, 2);
    struct device dev;
    struct err err;

    for (size_t i = 0; i < N; i++) {
        u[2 * i] = i < N / 2 ? 1 : 100; /* the frames differ */
        u[2 * i + 1] = 3;
        weight[2 * (i % 9)] = 1;
        weight[2 * (i % 9) + 1] = 0;
    }
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_glu_dwconv(&dev, &tp, &tu, &tw, &tb, &err));
    for (int i = 0; i < N; i++) {
        const double want = neighbours[i % 9] * (i < N / 2 ? silu(1) : 100);

        EXPECT(fabs((double)p[i] - want) <= 1e-6 * want);
    }
    device_close(&dev);
}

TEST(glu_dwconv_takes_taps_row_by_row)
{
    /* One bright pixel in the middle: each place sees it through the opposite tap. */
    float u[18] = {0};
    float weight[18] = {0};
    float bias[] = {0, 1.2784645F}; /* silu(c) = 1 */
    float p[9];
    struct tensor tp = TENSOR_F32(p, 1, 3, 3, 1);
    struct tensor tu = TENSOR_F32(u, 1, 3, 3, 2);
    struct tensor tw = TENSOR_F32(weight, 9, 2);
    struct tensor tb = TENSOR_F32(bias, 2);
    struct device dev;
    struct err err;

    u[8] = 100; /* value channel of pixel 4 */
    for (int tap = 0; tap < 9; tap++) {
        weight[(size_t)tap * 2] = (float)(tap + 1);
    }
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_glu_dwconv(&dev, &tp, &tu, &tw, &tb, &err));
    EXPECT_CLOSE(p, ((float[]){900, 800, 700, 600, 500, 400, 300, 200, 100}), 9, 0, 1e-6);
    device_close(&dev);
}

TEST(glu_dwconv_refuses_what_does_not_fit)
{
    float data[64] = {0};
    struct tensor p = TENSOR_F32(data, 1, 2, 2, 3);
    struct tensor none = TENSOR_F32(data, 1, 2, 2, 0);
    struct tensor flat = TENSOR_F32(data, 4, 3);
    struct tensor u = TENSOR_F32(data, 1, 2, 2, 6);
    struct tensor weight = TENSOR_F32(data, 9, 6);
    struct tensor bad_weight = TENSOR_F32(data, 6, 9);
    struct tensor bias = TENSOR_F32(data, 6);
    struct tensor bad_bias = TENSOR_F32(data, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_glu_dwconv(&dev, &flat, &u, &weight, &bias, &err),
                   "glu_dwconv: p is F32[4, 3]");
    EXPECT_REFUSED(op_glu_dwconv(&dev, &none, &u, &weight, &bias, &err),
                   "glu_dwconv: p is F32[1, 2, 2, 0]");
    EXPECT_REFUSED(op_glu_dwconv(&dev, &p, &p, &weight, &bias, &err),
                   "glu_dwconv: u is F32[1, 2, 2, 3]");
    EXPECT_REFUSED(op_glu_dwconv(&dev, &p, &u, &bad_weight, &bias, &err),
                   "glu_dwconv: weight is F32[6, 9]");
    EXPECT_REFUSED(op_glu_dwconv(&dev, &p, &u, &weight, &bad_bias, &err),
                   "glu_dwconv: bias is F32[3]");
    device_close(&dev);
}
