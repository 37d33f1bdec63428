#include "kernels/space_time.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

/* A grid of t x h x w cells of st x sh x sw pixels with c channels; `add` has ca. */
struct cells {
    int64_t t, h, w, c, ca, st, sh, sw;
    bool columns_first;
    int64_t frames; /* dropped or leading */
};

static const struct cells cases[] = {
    {1, 1, 1, 1, 0, 1, 1, 1, false, 0}, {2, 3, 4, 3, 0, 1, 4, 4, true, 0},
    {2, 3, 2, 3, 0, 1, 2, 4, true, 0},  {3, 2, 3, 8, 2, 2, 2, 2, false, 1},
    {3, 2, 3, 8, 8, 2, 2, 2, false, 0}, {2, 2, 5, 4, 4, 2, 1, 1, false, 1},
    {2, 3, 5, 6, 3, 1, 2, 2, false, 0}, {1, 2, 2, 5, 1, 2, 3, 2, false, 1},
};

static int64_t q_of(const struct cells *g, int64_t c, int64_t a, int64_t b, int64_t d)
{
    return g->columns_first ? ((c * g->st + a) * g->sw + d) * g->sh + b
                            : ((c * g->st + a) * g->sh + b) * g->sw + d;
}

static struct tensor filled(uint64_t seed, int64_t t, int64_t h, int64_t w, int64_t c)
{
    float *data = test_alloc((size_t)(t * h * w * c) * sizeof(float) + 1);

    test_fill(data, t * h * w * c, seed);
    return TENSOR_F32(data, t, h, w, c);
}

static float *at(const struct tensor *x, int64_t t, int64_t i, int64_t j, int64_t c)
{
    return (float *)x->data + ((t * x->dim[1] + i) * x->dim[2] + j) * x->dim[3] + c;
}

/* Every element of the fine tensor y against the header's formula. */
static void expect_split(const struct cells *g, const struct tensor *y, const struct tensor *x,
                         const struct tensor *add)
{
    for (int64_t n = 0; n < tensor_count(y); n++) {
        const int64_t c = n % g->c;
        const int64_t j = n / g->c % y->dim[2];
        const int64_t i = n / g->c / y->dim[2] % y->dim[1];
        const int64_t f = n / g->c / y->dim[2] / y->dim[1] + g->frames;
        const int64_t a = f % g->st;
        const int64_t b = i % g->sh;
        const int64_t d = j % g->sw;
        float want = *at(x, f / g->st, i / g->sh, j / g->sw, q_of(g, c, a, b, d));

        if (add) {
            want += *at(add, f / g->st, i / g->sh, j / g->sw, q_of(g, c % g->ca, a, b, d));
        }
        EXPECT(((const float *)y->data)[n] == want);
    }
}

static void check_split(const struct cells *g, int threads)
{
    const int64_t cell = g->st * g->sh * g->sw;
    struct tensor x = filled(1, g->t, g->h, g->w, g->c * cell);
    struct tensor add = filled(2, g->t, g->h, g->w, g->ca * cell);
    struct tensor y = filled(3, g->t * g->st - g->frames, g->h * g->sh, g->w * g->sw, g->c);
    const struct space_time_params p = {
        .st = g->st,
        .sh = g->sh,
        .sw = g->sw,
        .columns_first = g->columns_first,
        .drop_frames = g->frames,
        .add = g->ca > 0 ? &add : NULL,
    };
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, threads, &err));
    EXPECT_OK(op_space_time_split(&dev, &y, &x, &p, &err));
    expect_split(g, &y, &x, p.add);
    device_close(&dev);
    free(x.data);
    free(add.data);
    free(y.data);
}

TEST(space_time_split_follows_its_formula)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int threads = 1; threads <= 3; threads++) {
            check_split(&cases[i], threads);
        }
    }
}

/* The cell's number q of a fine tensor whose first frame stands for `lead` more before it. */
static double fine_number(const struct cells *g, const struct tensor *x, int64_t channels,
                          int64_t lead, const int64_t at_cell[3], int64_t q)
{
    const int64_t cell = g->st * g->sh * g->sw;

    for (int64_t k = 0; k < channels * cell; k++) {
        const int64_t c = k / cell;
        const int64_t a = k % cell / (g->sh * g->sw);
        const int64_t b = k / g->sw % g->sh;
        const int64_t d = k % g->sw;
        const int64_t f = at_cell[0] * g->st + a - lead;

        if (q_of(g, c, a, b, d) == q) {
            return (double)*at(x, f < 0 ? 0 : f, at_cell[1] * g->sh + b, at_cell[2] * g->sw + d, c);
        }
    }
    test_fail(__FILE__, __LINE__, "a cell has no number %lld", (long long)q);
}

static void reference_merge(const struct cells *g, struct tensor *y, const struct tensor *x,
                            const struct tensor *add)
{
    const int64_t group = g->ca / g->c; /* of add's numbers */

    for (int64_t n = 0; n < tensor_count(y); n++) {
        const int64_t q = n % y->dim[3];
        const int64_t pixel = n / y->dim[3];
        const int64_t cell[3] = {pixel / (g->h * g->w), pixel / g->w % g->h, pixel % g->w};
        double sum = 0;

        for (int64_t k = 0; k < group; k++) {
            sum += fine_number(g, add, g->ca, g->frames, cell, q * group + k);
        }
        ((float *)y->data)[n] =
            (float)(fine_number(g, x, g->c, 0, cell, q) + (group > 0 ? sum / (double)group : 0));
    }
}

static void check_merge(const struct cells *g, int threads)
{
    const int64_t fine_h = g->h * g->sh;
    const int64_t fine_w = g->w * g->sw;
    const int64_t coarse_c = g->c * g->st * g->sh * g->sw;
    struct tensor x = filled(1, g->t * g->st, fine_h, fine_w, g->c);
    struct tensor add = filled(2, g->t * g->st - g->frames, fine_h, fine_w, g->ca);
    struct tensor y = filled(3, g->t, g->h, g->w, coarse_c);
    struct tensor want = filled(4, g->t, g->h, g->w, coarse_c);
    const struct space_time_params p = {
        .st = g->st,
        .sh = g->sh,
        .sw = g->sw,
        .columns_first = g->columns_first,
        .lead_frames = g->frames,
        .add = g->ca > 0 ? &add : NULL,
    };
    struct device dev;
    struct err err;

    reference_merge(g, &want, &x, &add);
    EXPECT_OK(device_open_cpu(&dev, threads, &err));
    EXPECT_OK(op_space_time_merge(&dev, &y, &x, &p, &err));
    EXPECT_CLOSE(y.data, want.data, tensor_count(&y), 0, 2e-7);
    device_close(&dev);
    free(x.data);
    free(add.data);
    free(y.data);
    free(want.data);
}

TEST(space_time_merge_follows_its_formula)
{
    static const struct cells merges[] = {
        {1, 1, 1, 1, 0, 1, 1, 1, false, 0}, {2, 3, 4, 3, 0, 1, 4, 4, true, 0},
        {2, 3, 2, 3, 0, 1, 2, 4, true, 0},  {3, 2, 3, 2, 8, 2, 2, 2, false, 1},
        {2, 2, 3, 4, 4, 2, 1, 1, false, 1}, {2, 3, 5, 2, 6, 1, 2, 2, false, 0},
        {1, 2, 2, 5, 5, 2, 3, 2, false, 1},
    };

    for (size_t i = 0; i < ARRAY_LEN(merges); i++) {
        for (int threads = 1; threads <= 3; threads++) {
            check_merge(&merges[i], threads);
        }
    }
}

/* MODEL 7.2: one channel of 2 x 2 pixels to a patch; the column offset is the slower one. */
TEST(space_time_patches_have_columns_first)
{
    float x[] = {0, 1, 10, 11}; /* row 0: 0 1, row 1: 10 11 */
    const float want[] = {0, 10, 1, 11};
    float y[4];
    struct tensor tx = TENSOR_F32(x, 1, 2, 2, 1);
    struct tensor ty = TENSOR_F32(y, 1, 1, 1, 4);
    const struct space_time_params p = {.st = 1, .sh = 2, .sw = 2, .columns_first = true};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_space_time_merge(&dev, &ty, &tx, &p, &err));
    EXPECT_CLOSE(y, want, 4, 0, 0);
    device_close(&dev);
}

TEST(frame_interleave_takes_even_frames_from_the_first_half)
{
    float x[] = {1, 2, 3, 4, 5, 6, 7, 8}; /* [2, 1, 1, 4]: two frames of two halves */
    const float want[] = {1, 2, 3, 4, 5, 6, 7, 8};
    float wide[] = {1, 2, 3, 4, 5, 6, 7, 8}; /* [1, 1, 2, 4]: two pixels */
    const float want_wide[] = {1, 2, 5, 6, 3, 4, 7, 8};
    float y[8];
    struct tensor tx = TENSOR_F32(x, 2, 1, 1, 4);
    struct tensor ty = TENSOR_F32(y, 4, 1, 1, 2);
    struct tensor tw = TENSOR_F32(wide, 1, 1, 2, 4);
    struct tensor tyw = TENSOR_F32(y, 2, 1, 2, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    EXPECT_OK(op_frame_interleave(&dev, &ty, &tx, &err));
    EXPECT_CLOSE(y, want, 8, 0, 0);
    EXPECT_OK(op_frame_interleave(&dev, &tyw, &tw, &err));
    EXPECT_CLOSE(y, want_wide, 8, 0, 0);
    device_close(&dev);
}

TEST(frame_interleave_covers_large_frames)
{
    struct tensor x = filled(1, 2, 19, 31, 6);
    struct tensor y = filled(2, 4, 19, 31, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 3, &err));
    EXPECT_OK(op_frame_interleave(&dev, &y, &x, &err));
    for (int64_t n = 0; n < tensor_count(&y); n++) {
        const int64_t pixel = n / 3 % (19L * 31);
        const int64_t f = n / (19L * 31 * 3);

        EXPECT(((const float *)y.data)[n] ==
               *at(&x, f / 2, pixel / 31, pixel % 31, f % 2 * 3 + n % 3));
    }
    device_close(&dev);
    free(x.data);
    free(y.data);
}

TEST(space_time_refuses_what_does_not_fit)
{
    float data[512] = {0};
    struct tensor coarse = TENSOR_F32(data, 2, 2, 2, 16);
    struct tensor fine = TENSOR_F32(data, 4, 4, 4, 2);
    struct tensor odd = TENSOR_F32(data, 2, 2, 2, 12);
    struct space_time_params p = {.st = 2, .sh = 2, .sw = 2};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    p.drop_frames = 1;
    EXPECT_INT(op_space_time_split(&dev, &fine, &coarse, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "x is F32[2, 2, 2, 16]");
    p.drop_frames = 2;
    EXPECT_INT(op_space_time_split(&dev, &fine, &coarse, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "bad parameters");
    p.drop_frames = 0;
    p.add = &odd;
    EXPECT_INT(op_space_time_split(&dev, &fine, &coarse, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "add is F32[2, 2, 2, 12]");
    p.add = NULL;
    EXPECT_INT(op_space_time_merge(&dev, &odd, &fine, &p, &err), ERR_INVALID);
    p.add = &coarse;
    EXPECT_INT(op_space_time_merge(&dev, &coarse, &fine, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "add is");
    p.add = NULL;
    p.lead_frames = -1;
    EXPECT_INT(op_space_time_merge(&dev, &coarse, &fine, &p, &err), ERR_INVALID);
    EXPECT_INT(op_frame_interleave(&dev, &fine, &coarse, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "y is");
    device_close(&dev);
}
