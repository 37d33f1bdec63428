#include "kernels/adaln.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/op_test.h"

struct modulation_run {
    struct tensor out, table, temb;
};

static void run_modulation(struct device *dev, void *ctx)
{
    const struct modulation_run *r = ctx;
    struct err err;

    EXPECT_OK(op_modulation(dev, &r->out, &r->table, &r->temb, &err));
}

/* own: each part has its own piece of temb, else all share one. */
static void check_modulation(int64_t parts, int64_t n_u, int64_t dim, bool own)
{
    const int64_t n = parts * n_u * dim;
    const int64_t stride = own ? parts * dim : dim;
    float *table = op_test_floats(parts * dim, 1);
    float *temb = op_test_floats(n_u * stride, 2);
    float *out = op_test_buffer((size_t)n * sizeof(*out));
    struct modulation_run r = {.out = TENSOR_F32(out, parts, n_u, dim),
                               .table = TENSOR_F32(table, parts, dim),
                               .temb = TENSOR_F32(temb, n_u, stride)};
    int64_t wrong = 0;

    op_test_freeze(table);
    op_test_freeze(temb);
    op_test_run(run_modulation, &r, out);
    for (int64_t e = 0; e < n; e++) {
        const int64_t i = e % dim;
        const int64_t u = e / dim % n_u;
        const int64_t p = e / dim / n_u;

        wrong += out[e] != table[p * dim + i] + temb[u * stride + (own ? p * dim : 0) + i];
    }
    EXPECT_INT(wrong, 0);
    op_test_free(table);
    op_test_free(temb);
    op_test_free(out);
}

TEST(adaln_modulation_adds_table_and_timestep)
{
    check_modulation(6, 2, 31, true);
    check_modulation(2, 3, 31, false);
    check_modulation(1, 1, 1, true);
    check_modulation(6, 1, 257, true);
    check_modulation(6, 0, 5, true);
}

TEST(adaln_modulation_refuses_what_does_not_fit)
{
    float data[24] = {0};
    struct tensor out = TENSOR_F32(data, 2, 3, 4);
    struct tensor flat = TENSOR_F32(data, 6, 4);
    struct tensor table = TENSOR_F32(data, 2, 4);
    struct tensor bad_table = TENSOR_F32(data, 4, 2);
    struct tensor temb = TENSOR_F32(data, 3, 8);
    struct tensor bad_temb = TENSOR_F32(data, 3, 6);
    struct tensor few = TENSOR_F32(data, 2, 4);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_modulation(&dev, &flat, &table, &temb, &err), "modulation: out is F32[6, 4]");
    EXPECT_REFUSED(op_modulation(&dev, &out, &bad_table, &temb, &err),
                   "modulation: table is F32[4, 2]");
    EXPECT_REFUSED(op_modulation(&dev, &out, &table, &bad_temb, &err),
                   "modulation: temb is F32[3, 6]");
    EXPECT_REFUSED(op_modulation(&dev, &out, &table, &few, &err), "modulation: temb is F32[2, 4]");
    device_close(&dev);
}

struct adaln_run {
    struct tensor y, x, shift, scale, group;
    struct adaln_params params;
};

static void run(struct device *dev, void *ctx)
{
    const struct adaln_run *r = ctx;
    struct err err;

    EXPECT_OK(op_adaln(dev, &r->y, &r->x, &r->params, &err));
}

static void reference(const struct adaln_run *r, float *want)
{
    const int64_t dim = r->x.dim[1];
    const float *shift = r->shift.data;
    const float *scale = r->scale.data;

    for (int64_t m = 0; m < r->x.dim[0]; m++) {
        const float *x = (const float *)r->x.data + m * dim;
        const int64_t g = ((const int32_t *)r->group.data)[m / r->params.rows_per_group];
        double mean = 0;
        double var = 0;

        for (int64_t i = 0; i < dim; i++) {
            mean += (double)x[i] / (double)dim;
        }
        for (int64_t i = 0; i < dim; i++) {
            var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)dim;
        }
        for (int64_t i = 0; i < dim; i++) {
            const double norm = ((double)x[i] - mean) / sqrt(var + (double)r->params.eps);

            want[m * dim + i] =
                (float)(norm * (1 + (double)scale[g * dim + i]) + (double)shift[g * dim + i]);
        }
    }
}

/* x = offset + random numbers; frames of `per` rows, of which the timesteps alternate. */
static void check(int64_t frames, int64_t per, int64_t dim, float offset, bool in_place)
{
    const int64_t n = frames * per * dim;
    float *x = op_test_floats(n, 3);
    float *shift = op_test_floats(3 * dim, 4);
    float *scale = op_test_floats(3 * dim, 5);
    int32_t *group = op_test_buffer((size_t)frames * sizeof(*group));
    float *want = op_test_buffer((size_t)n * sizeof(*want));
    float *y = in_place ? x : op_test_buffer((size_t)n * sizeof(*y));
    struct adaln_run r = {.y = TENSOR_F32(y, frames * per, dim),
                          .x = TENSOR_F32(x, frames * per, dim),
                          .shift = TENSOR_F32(shift, 3, dim),
                          .scale = TENSOR_F32(scale, 3, dim),
                          .group = TENSOR_OF(group, DTYPE_I32, frames)};

    r.params = (struct adaln_params){.shift = &r.shift,
                                     .scale = &r.scale,
                                     .group = &r.group,
                                     .rows_per_group = per,
                                     .eps = 1e-6F};
    for (int64_t i = 0; i < n; i++) {
        x[i] += offset;
    }
    for (int64_t i = 0; i < frames; i++) {
        group[i] = (int32_t)((2 * i + 1) % 3);
    }
    op_test_freeze(shift);
    op_test_freeze(scale);
    op_test_freeze(group);
    if (!in_place) {
        op_test_freeze(x);
    }
    reference(&r, want);
    op_test_run(run, &r, y);
    EXPECT_CLOSE(y, want, n, 1e-6 * fabs((double)offset), 1e-6); /* x - mean cancels in f32 */
    op_test_free(x);
    op_test_free(shift);
    op_test_free(scale);
    op_test_free(group);
    op_test_free(want);
    if (!in_place) {
        op_test_free(y);
    }
}

TEST(adaln_matches_the_formula)
{
    for (int in_place = 0; in_place < 2; in_place++) {
        check(0, 1, 5, 0, in_place);
        check(1, 1, 1, 0, in_place);
        check(3, 1, 31, 0, in_place);
        check(2, 17, 257, 0, in_place);
        check(5, 7, 24, 3, in_place);
        check(1, 3, 2240, 0, in_place);
        check(2, 3, 64, -100, in_place); /* the mean is far from the spread */
    }
}

TEST(adaln_by_hand)
{
    /* mean 3, variance 8 / 3 + eps 4 / 3 = 4: (-1, 0, 1); then the second timestep's scale, shift. */
    float x[] = {1, 3, 5, 10, 10, 10};
    float y[7] = {9, 9, 9, 9, 9, 9, 77};
    float shift[] = {50, 50, 50, 1, 2, 3};
    float scale[] = {50, 50, 50, 1, 7, -3};
    int32_t group[] = {1};
    const float want[] = {-1, 2, 1, 1, 2, 3}; /* a constant row becomes the shift */
    struct tensor ty = TENSOR_F32(y, 2, 3);
    struct tensor tx = TENSOR_F32(x, 2, 3);
    struct tensor ts = TENSOR_F32(shift, 2, 3);
    struct tensor tc = TENSOR_F32(scale, 2, 3);
    struct tensor tg = TENSOR_OF(group, DTYPE_I32, 1);
    const struct adaln_params p = {
        .shift = &ts, .scale = &tc, .group = &tg, .rows_per_group = 2, .eps = 4.0F / 3};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_adaln(&dev, &ty, &tx, &p, &err));
    EXPECT_CLOSE(y, want, 6, 0, 1e-6);
    EXPECT(y[6] == 77);
    device_close(&dev);
}

TEST(adaln_refuses_what_does_not_fit)
{
    float data[12] = {0};
    int32_t groups[4] = {0};
    struct tensor x = TENSOR_F32(data, 4, 3);
    struct tensor flat = TENSOR_F32(data, 12);
    struct tensor none = TENSOR_F32(data, 4, 0);
    struct tensor u = TENSOR_F32(data, 2, 3);
    struct tensor bad_u = TENSOR_F32(data, 3, 2);
    struct tensor g = TENSOR_OF(groups, DTYPE_I32, 2);
    struct tensor bad_g = TENSOR_OF(groups, DTYPE_I32, 4);
    struct tensor one_g = TENSOR_OF(groups, DTYPE_I32, 1);
    struct adaln_params p = {.shift = &u, .scale = &u, .group = &g, .rows_per_group = 2, .eps = 1};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_adaln(&dev, &flat, &flat, &p, &err), "adaln: x is F32[12]");
    EXPECT_REFUSED(op_adaln(&dev, &none, &none, &p, &err), "adaln: x is F32[4, 0]");
    EXPECT_REFUSED(op_adaln(&dev, &u, &x, &p, &err), "adaln: y is F32[2, 3]");
    p.shift = &bad_u;
    EXPECT_REFUSED(op_adaln(&dev, &x, &x, &p, &err), "adaln: shift is F32[3, 2]");
    p.shift = &u;
    p.scale = &x;
    EXPECT_REFUSED(op_adaln(&dev, &x, &x, &p, &err), "adaln: scale is F32[4, 3]");
    p.scale = &u;
    p.group = &bad_g;
    EXPECT_REFUSED(op_adaln(&dev, &x, &x, &p, &err), "adaln: group is I32[4]");
    p.group = &g;
    p.rows_per_group = 0;
    EXPECT_REFUSED(op_adaln(&dev, &x, &x, &p, &err), "adaln: group is I32[2]");
    p.group = &one_g;
    p.rows_per_group = 3; /* does not divide the rows */
    EXPECT_REFUSED(op_adaln(&dev, &x, &x, &p, &err), "adaln: group is I32[1]");
    device_close(&dev);
}
