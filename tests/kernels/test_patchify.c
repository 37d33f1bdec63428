#include "kernels/patchify.h"

#include <stdlib.h>

#include "tests/support/op_test.h"

struct patch_run {
    struct tensor u, x;
    int64_t patch;
    bool split;
};

static void run(struct device *dev, void *ctx)
{
    const struct patch_run *r = ctx;
    struct err err;

    if (r->split) {
        EXPECT_OK(op_patchify(dev, &r->u, &r->x, r->patch, &err));
    } else {
        EXPECT_OK(op_unpatchify(dev, &r->x, &r->u, r->patch, &err));
    }
}

/* Where element (t, row, column, c) of x lies in u, channel slowest or fastest. */
static int64_t place(const struct tensor *x, int64_t p, const int64_t at[4], bool channel_slowest)
{
    const int64_t n = (at[0] * (x->dim[1] / p) + at[1] / p) * (x->dim[2] / p) + at[2] / p;
    const int64_t i = at[1] % p;
    const int64_t j = at[2] % p;
    const int64_t channels = x->dim[3];
    const int64_t column =
        channel_slowest ? (at[3] * p + i) * p + j : (i * p + j) * channels + at[3];

    return n * p * p * channels + column;
}

/* Elements of x that are not where the formula puts them. */
static int64_t misplaced(const struct patch_run *r)
{
    const float *x = r->x.data;
    const float *u = r->u.data;
    int64_t wrong = 0;

    for (int64_t e = 0; e < tensor_count(&r->x); e++) {
        int64_t at[4];
        int64_t rest = e;

        for (int axis = 3; axis >= 0; axis--) {
            at[axis] = rest % r->x.dim[axis];
            rest /= r->x.dim[axis];
        }
        wrong += x[e] != u[place(&r->x, r->patch, at, r->split)];
    }
    return wrong;
}

static void check(int64_t frames, int64_t height, int64_t width, int64_t channels, int64_t patch)
{
    const int64_t n = frames * height * width * channels;
    const int64_t tokens = frames * (height / patch) * (width / patch);

    for (int split = 0; split < 2; split++) {
        float *in = op_test_floats(n, 1);
        float *out = op_test_buffer((size_t)n * sizeof(*out));
        struct patch_run r = {.u = TENSOR_F32(split ? out : in, tokens, patch * patch * channels),
                              .x = TENSOR_F32(split ? in : out, frames, height, width, channels),
                              .patch = patch,
                              .split = split};

        op_test_freeze(in);
        op_test_run(run, &r, out);
        EXPECT_INT(misplaced(&r), 0);
        op_test_free(in);
        op_test_free(out);
    }
}

TEST(patchify_and_unpatchify_follow_their_formulas)
{
    check(0, 2, 2, 3, 1);
    check(1, 1, 1, 1, 1);
    check(2, 3, 5, 31, 1);
    check(3, 4, 6, 5, 2);
    check(2, 6, 9, 3, 3);
    check(1, 2, 514, 1, 2);
    check(2, 60, 104, 16, 2);
}

TEST(patchify_by_hand)
{
    /* One patch of 2 x 2 pixels with two channels: 10 * pixel + channel. */
    float x[] = {0, 1, 10, 11, 20, 21, 30, 31};
    const float slowest[] = {0, 10, 20, 30, 1, 11, 21, 31};
    float u[8];
    struct tensor tx = TENSOR_F32(x, 1, 2, 2, 2);
    struct tensor tu = TENSOR_F32(u, 1, 8);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_patchify(&dev, &tu, &tx, 2, &err));
    EXPECT_CLOSE(u, slowest, 8, 0, 0);
    EXPECT_OK(op_unpatchify(&dev, &tx, &tu, 2, &err)); /* channel fastest: as it lies */
    EXPECT_CLOSE(x, slowest, 8, 0, 0);
    device_close(&dev);
}

TEST(patchify_then_the_permutation_of_channels_then_unpatchify_is_nothing)
{
    enum {
        T = 2,
        H = 4,
        W = 6,
        C = 3,
        P = 2,
        N = T * H * W * C,
        AREA = P * P,
        ROW = AREA * C
    };
    float *x = op_test_floats(N, 9);
    float *u = op_test_buffer(N * sizeof(*u));
    float *moved = op_test_buffer(N * sizeof(*moved));
    float *back = op_test_buffer(N * sizeof(*back));
    struct tensor tx = TENSOR_F32(x, T, H, W, C);
    struct tensor tu = TENSOR_F32(u, N / ROW, ROW);
    struct tensor tm = TENSOR_F32(moved, N / ROW, ROW);
    struct tensor tb = TENSOR_F32(back, T, H, W, C);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    EXPECT_OK(op_patchify(&dev, &tu, &tx, P, &err));
    for (int64_t e = 0; e < N; e++) { /* (c, ij) -> (ij, c) */
        const int64_t c = e % ROW / AREA;
        const int64_t ij = e % AREA;

        moved[e - e % ROW + ij * C + c] = u[e];
    }
    EXPECT_OK(op_unpatchify(&dev, &tb, &tm, P, &err));
    EXPECT_CLOSE(back, x, N, 0, 0);
    device_close(&dev);
    op_test_free(x);
    op_test_free(u);
    op_test_free(moved);
    op_test_free(back);
}

TEST(patchify_refuses_what_does_not_fit)
{
    float data[48] = {0};
    struct tensor x = TENSOR_F32(data, 1, 4, 6, 2);
    struct tensor u = TENSOR_F32(data, 6, 8);
    struct tensor odd = TENSOR_F32(data, 1, 3, 6, 2);
    struct tensor odd_width = TENSOR_F32(data, 1, 4, 5, 2);
    struct tensor flat = TENSOR_F32(data, 4, 6, 2);
    struct tensor few = TENSOR_F32(data, 5, 8);
    struct tensor ints = TENSOR_OF(data, DTYPE_I32, 6, 8);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_patchify(&dev, &u, &odd, 2, &err), "patchify: x is F32[1, 3, 6, 2]");
    EXPECT_REFUSED(op_patchify(&dev, &u, &odd_width, 2, &err), "patchify: x is F32[1, 4, 5, 2]");
    EXPECT_REFUSED(op_patchify(&dev, &u, &flat, 2, &err), "patchify: x is F32[4, 6, 2]");
    EXPECT_REFUSED(op_patchify(&dev, &u, &x, 0, &err), "patchify: x is");
    EXPECT_REFUSED(op_patchify(&dev, &few, &x, 2, &err), "patchify: u is F32[5, 8]");
    EXPECT_REFUSED(op_unpatchify(&dev, &odd, &u, 2, &err), "unpatchify: x is F32[1, 3, 6, 2]");
    EXPECT_REFUSED(op_unpatchify(&dev, &x, &ints, 2, &err), "unpatchify: u is I32[6, 8]");
    EXPECT_REFUSED(op_unpatchify(&dev, &x, &u, 1, &err), "unpatchify: u is F32[6, 8]");
    device_close(&dev);
}
