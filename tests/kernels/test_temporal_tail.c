#include "kernels/temporal_tail.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "tests/support/op_test.h"

struct tail_run {
    struct tensor out, r, z, gate, group, w;
    int64_t frames;
    bool gated;
};

static void run(struct device *dev, void *ctx)
{
    const struct tail_run *t = ctx;
    struct err err;

    EXPECT_OK(op_temporal_tail(dev, &t->out, &t->r, &t->z, t->frames, t->gated ? &t->gate : NULL,
                               t->gated ? &t->group : NULL, &err));
}

/* Adds f_t of the header, read off r and z, to (or instead of) what is in want. */
static void reference(const struct tail_run *t, float *want)
{
    const int64_t dim = t->out.dim[1];
    const int64_t hw = t->out.dim[0] / t->frames;
    const float *r = t->r.data;
    const float *z = t->z.data;

    for (int64_t e = 0; e < tensor_count(&t->out); e++) {
        const int64_t i = e % dim;
        const int64_t m = e / dim;
        const int64_t frame = m / hw;
        const int64_t pixel = m % hw;
        const int64_t before = frame * hw + pixel; /* frame 0 of r is frame -1 of out */
        const int64_t here = (frame + 1) * hw + pixel;
        const int64_t after = (frame + 2) * hw + pixel;
        double f = (double)r[here * dim + i] + (double)z[before * 3 * dim + i] +
                   (double)z[here * 3 * dim + dim + i];

        if (frame + 1 < t->frames) {
            f += (double)z[after * 3 * dim + 2 * dim + i];
        }
        if (t->gated) {
            const int64_t g = ((const int32_t *)t->group.data)[frame];

            f = (double)want[e] + (double)((const float *)t->gate.data)[g * dim + i] * f;
        }
        want[e] = (float)f;
    }
}

static void check(int64_t frames, int64_t hw, int64_t dim, bool gated)
{
    const int64_t n = frames * hw * dim;
    float *r = op_test_floats((frames + 1) * hw * dim, 1);
    float *z = op_test_floats((frames + 1) * hw * 3 * dim, 2);
    float *gate = op_test_floats(2 * dim, 3);
    int32_t *group = op_test_buffer((size_t)frames * sizeof(*group));
    float *out = op_test_floats(n, 4);
    float *want = op_test_floats(n, 4);
    struct tail_run t = {.out = TENSOR_F32(out, frames * hw, dim),
                         .r = TENSOR_F32(r, (frames + 1) * hw, dim),
                         .z = TENSOR_F32(z, (frames + 1) * hw, 3 * dim),
                         .gate = TENSOR_F32(gate, 2, dim),
                         .group = TENSOR_OF(group, DTYPE_I32, frames),
                         .frames = frames,
                         .gated = gated};

    for (int64_t i = 0; i < frames; i++) {
        group[i] = (int32_t)((i + 1) % 2);
    }
    op_test_freeze(r);
    op_test_freeze(z);
    op_test_freeze(gate);
    op_test_freeze(group);
    reference(&t, want);
    op_test_run(run, &t, out);
    EXPECT_CLOSE(out, want, n, 0, 3e-7);
    op_test_free(r);
    op_test_free(z);
    op_test_free(gate);
    op_test_free(group);
    op_test_free(out);
    op_test_free(want);
}

TEST(temporal_tail_matches_the_formula)
{
    for (int gated = 0; gated < 2; gated++) {
        check(1, 0, 4, gated);
        check(1, 1, 1, gated);
        check(1, 31, 5, gated);
        check(2, 3, 31, gated);
        check(5, 37, 13, gated);
        check(3, 5, 257, gated);
    }
}

/* y_t = x_t + sum_k W_k x_{t + k - 1} of one pixel and channel; zero right of the last frame. */
static double convolve(const struct tail_run *t, int64_t frame, int64_t pixel, int64_t o)
{
    const int64_t dim = t->r.dim[1];
    const int64_t hw = t->out.dim[0] / t->frames;
    const float *r = t->r.data;
    const float *w = t->w.data; /* [3, out, in] */
    double sum = (double)r[((frame + 1) * hw + pixel) * dim + o];

    for (int64_t k = 0; k < 3; k++) {
        const float *x = r + ((frame + k) * hw + pixel) * dim;

        for (int64_t i = 0; i < dim && frame + k <= t->frames; i++) {
            sum += (double)w[(k * dim + o) * dim + i] * (double)x[i];
        }
    }
    return sum;
}

static void run_convolution(struct device *dev, void *ctx)
{
    const struct tail_run *t = ctx;
    struct err err;

    EXPECT_OK(op_matmul(dev, &t->z, &t->r, &t->w, NULL, &err));
    run(dev, ctx);
}

/* first_block: nothing is before. */
static void check_convolution(int64_t frames, int64_t hw, int64_t dim, bool first_block)
{
    const int64_t rows = (frames + 1) * hw;
    const int64_t n = frames * hw * dim;
    float *r = op_test_floats(rows * dim, 1);
    float *w = op_test_floats(3 * dim * dim, 2);
    float *z = op_test_buffer((size_t)(rows * 3 * dim) * sizeof(*z));
    float *out = op_test_buffer((size_t)n * sizeof(*out));
    float *want = op_test_buffer((size_t)n * sizeof(*want));
    struct tail_run t = {.out = TENSOR_F32(out, frames * hw, dim),
                         .r = TENSOR_F32(r, rows, dim),
                         .z = TENSOR_F32(z, rows, 3 * dim),
                         .w = TENSOR_F32(w, 3 * dim, dim),
                         .frames = frames};

    if (first_block) {
        memset(r, 0, (size_t)(hw * dim) * sizeof(*r));
    }
    op_test_freeze(r);
    op_test_freeze(w);
    for (int64_t e = 0; e < n; e++) {
        want[e] = (float)convolve(&t, e / dim / hw, e / dim % hw, e % dim);
    }
    op_test_run(run_convolution, &t, out);
    EXPECT_CLOSE(out, want, n, 0, 1e-6);
    op_test_free(r);
    op_test_free(w);
    op_test_free(z);
    op_test_free(out);
    op_test_free(want);
}

TEST(temporal_tail_after_a_matmul_is_a_convolution_over_time)
{
    check_convolution(4, 6, 19, true);
    check_convolution(4, 6, 19, false);
    check_convolution(1, 5, 7, true);
    check_convolution(1, 5, 7, false);
    check_convolution(11, 1, 3, false);
}

TEST(temporal_tail_refuses_what_does_not_fit)
{
    float data[128] = {0};
    int32_t ids[3] = {0};
    struct tensor out = TENSOR_F32(data, 4, 3); /* 2 frames of 2 */
    struct tensor flat = TENSOR_F32(data, 12);
    struct tensor r = TENSOR_F32(data, 6, 3);
    struct tensor bad_r = TENSOR_F32(data, 5, 3);
    struct tensor z = TENSOR_F32(data, 6, 9);
    struct tensor bad_z = TENSOR_F32(data, 4, 9);
    struct tensor gate = TENSOR_F32(data, 1, 3);
    struct tensor bad_gate = TENSOR_F32(data, 1, 4);
    struct tensor group = TENSOR_OF(ids, DTYPE_I32, 2);
    struct tensor bad_group = TENSOR_OF(ids, DTYPE_I32, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_temporal_tail(&dev, &flat, &r, &z, 2, NULL, NULL, &err),
                   "temporal_tail: out is F32[12]");
    EXPECT_REFUSED(op_temporal_tail(&dev, &out, &r, &z, 3, NULL, NULL, &err),
                   "temporal_tail: out is F32[4, 3]");
    EXPECT_REFUSED(op_temporal_tail(&dev, &out, &r, &z, 0, NULL, NULL, &err),
                   "temporal_tail: out is F32[4, 3]");
    EXPECT_REFUSED(op_temporal_tail(&dev, &out, &bad_r, &z, 2, NULL, NULL, &err),
                   "temporal_tail: r is F32[5, 3]");
    EXPECT_REFUSED(op_temporal_tail(&dev, &out, &r, &bad_z, 2, NULL, NULL, &err),
                   "temporal_tail: z is F32[4, 9]");
    EXPECT_REFUSED(op_temporal_tail(&dev, &out, &r, &z, 2, &bad_gate, &group, &err),
                   "temporal_tail: gate is F32[1, 4]");
    EXPECT_REFUSED(op_temporal_tail(&dev, &out, &r, &z, 2, &gate, NULL, &err),
                   "temporal_tail: gate is F32[1, 3]");
    EXPECT_REFUSED(op_temporal_tail(&dev, &out, &r, &z, 2, &gate, &bad_group, &err),
                   "temporal_tail: gate is F32[1, 3]");
    device_close(&dev);
}
