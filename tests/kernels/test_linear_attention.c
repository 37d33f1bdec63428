#include "kernels/linear_attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/op_test.h"

static const float EPS = 1e-15F;

/* Tables of a grid that starts at a place; free with rope_done. */
static struct rope3d rope_make(const int64_t grid[3], const int64_t start[3], int64_t d)
{
    const int64_t pairs[] = {rope3d_t_pairs(d), rope3d_hw_pairs(d), rope3d_hw_pairs(d)};
    struct rope3d rope = {.frames = grid[0], .height = grid[1], .width = grid[2]};
    struct tensor *const table[] = {&rope.t, &rope.h, &rope.w};

    for (int a = 0; a < 3; a++) {
        float *p = op_test_buffer((size_t)(grid[a] * pairs[a] * 2) * sizeof(*p));

        rope3d_fill(p, start[a], grid[a], pairs[a]);
        op_test_freeze(p);
        *table[a] = TENSOR_F32(p, grid[a], pairs[a], 2);
    }
    return rope;
}

static void rope_done(struct rope3d *rope)
{
    op_test_free(rope->t.data);
    op_test_free(rope->h.data);
    op_test_free(rope->w.data);
}

/* Everything of one attention over n tokens. */
struct attention {
    int64_t n, heads, d;
    int64_t grid[3], start[3];
    struct rope3d rope;
    struct tensor q, k, v, o;
    struct tensor wq, wk, rq, rk; /* norm weights, and 1 / rms of the rows */
    struct tensor state;          /* s and k_sum in one buffer, because both are results */
    struct tensor s, k_sum;
};

static struct tensor floats(int64_t rows, int64_t cols, uint64_t seed)
{
    return TENSOR_F32(op_test_floats(rows * cols, seed), rows, cols);
}

static struct attention attention_make(const int64_t grid[3], int64_t t0, int64_t heads, int64_t d)
{
    const int64_t n = grid[0] * grid[1] * grid[2];
    const int64_t width = heads * d;
    struct attention a = {.n = n, .heads = heads, .d = d, .start = {t0, 0, 0}};
    float *state;

    memcpy(a.grid, grid, sizeof(a.grid));
    a.rope = rope_make(a.grid, a.start, d);
    a.q = floats(n, width, 1);
    a.k = floats(n, width, 2);
    a.v = floats(n, width, 3);
    a.o = floats(n, width, 4);
    a.wq = TENSOR_F32(op_test_floats(width, 5), width);
    a.wk = TENSOR_F32(op_test_floats(width, 6), width);
    a.rq = TENSOR_F32(op_test_floats(n, 7), n);
    a.rk = TENSOR_F32(op_test_floats(n, 8), n);
    state = op_test_floats(width * (d + 1), 9);
    memset(state, 0, (size_t)(width * (d + 1)) * sizeof(*state));
    a.state = TENSOR_F32(state, width * (d + 1));
    a.s = TENSOR_F32(state, heads, d, d);
    a.k_sum = TENSOR_F32(state + width * d, heads, d);
    return a;
}

static void attention_done(struct attention *a)
{
    rope_done(&a->rope);
    op_test_free(a->q.data);
    op_test_free(a->k.data);
    op_test_free(a->v.data);
    op_test_free(a->o.data);
    op_test_free(a->wq.data);
    op_test_free(a->wk.data);
    op_test_free(a->rq.data);
    op_test_free(a->rk.data);
    op_test_free(a->state.data);
}

static void run_rstd(struct device *dev, struct attention *a)
{
    struct err err;

    EXPECT_OK(op_rms_rstd(dev, &a->rq, &a->q, 1e-5F, &err));
    EXPECT_OK(op_rms_rstd(dev, &a->rk, &a->k, 1e-5F, &err));
}

static void run_state(struct device *dev, void *ctx)
{
    struct attention *a = ctx;
    const struct linear_attention_qk kn = {.rstd = &a->rk, .weight = &a->wk, .rope = &a->rope};
    struct err err;

    run_rstd(dev, a);
    EXPECT_OK(op_linear_attention_state(dev, &a->s, &a->k_sum, &a->k, &a->v, &kn, &err));
}

static void run_out(struct device *dev, void *ctx)
{
    const struct attention *a = ctx;
    const struct linear_attention_qk qn = {.rstd = &a->rq, .weight = &a->wq, .rope = &a->rope};
    struct err err;

    EXPECT_OK(op_linear_attention_out(dev, &a->o, &a->q, &a->s, &a->k_sum, EPS, &qn, &err));
}

static void run_out_in_place(struct device *dev, void *ctx)
{
    struct attention a = *(struct attention *)ctx;

    a.o = a.q;
    run_out(dev, &a);
}

/* Everything once. */
static void run_all(struct attention *a)
{
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    run_state(&dev, a);
    run_out(&dev, a);
    device_close(&dev);
}

/* relu(rms(x)) of one head of one token, in double. */
static void rectified(const struct attention *a, const struct tensor *x,
                      const struct tensor *weight, const int64_t at[2], double *out)
{
    const int64_t width = a->heads * a->d;
    const float *row = (const float *)x->data + at[0] * width;
    const float *w = weight->data;
    double squares = 0;

    for (int64_t i = 0; i < width; i++) {
        squares += (double)row[i] * (double)row[i];
    }
    for (int64_t c = at[1] * a->d; c < (at[1] + 1) * a->d; c++) {
        const double r = (double)row[c] / sqrt(squares / (double)width + 1e-5) * (double)w[c];

        out[c - at[1] * a->d] = fmax(r, 0);
    }
}

/* RoPE in place: pair by pair, each with its own angle. */
static void rotate(const struct attention *a, int64_t token, double *x)
{
    const int64_t place[] = {token / (a->grid[1] * a->grid[2]), token / a->grid[2] % a->grid[1],
                             token % a->grid[2]};
    const int64_t hw = 2 * (a->d / 6);
    const int64_t dims[] = {a->d - 2 * hw, hw, hw};
    double *pair = x;

    for (int axis = 0; axis < 3; axis++) {
        for (int64_t j = 0; j < dims[axis] / 2; j++, pair += 2) {
            const double position = (double)(a->start[axis] + place[axis]);
            const double angle = position * pow(10000, -2 * (double)j / (double)dims[axis]);
            const double re = pair[0];

            pair[0] = re * cos(angle) - pair[1] * sin(angle);
            pair[1] = re * sin(angle) + pair[1] * cos(angle);
        }
    }
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* plain[heads, n, d] and its rotation. */
static void prepare(const struct attention *a, const struct tensor *x, const struct tensor *weight,
                    double *plain, double *rotated)
{
    for (int64_t i = 0; i < a->heads * a->n; i++) {
        const int64_t at[] = {i % a->n, i / a->n};

        rectified(a, x, weight, at, plain + i * a->d);
        memcpy(rotated + i * a->d, plain + i * a->d, (size_t)a->d * sizeof(*plain));
        rotate(a, at[0], rotated + i * a->d);
    }
}

/* The quadratic form: no state, every query meets every key. */
static void reference(const struct attention *a, float *want)
{
    const int64_t d = a->d;
    const size_t bytes = (size_t)(a->n * a->heads * d) * sizeof(double);
    double *q = test_alloc(bytes);
    double *q_rot = test_alloc(bytes);
    double *k = test_alloc(bytes);
    double *k_rot = test_alloc(bytes);

    prepare(a, &a->q, &a->wq, q, q_rot);
    prepare(a, &a->k, &a->wk, k, k_rot);
    for (int64_t i = 0; i < a->heads * a->n; i++) {
        const int64_t head = i / a->n;
        const int64_t first = head * a->n; /* of the head's tokens */
        const float *v = (const float *)a->v.data + head * d;
        double sum[256] = {0};
        double den = (double)EPS;

        for (int64_t m = 0; m < a->n; m++) {
            const double weight = dot(q_rot + i * d, k_rot + (first + m) * d, d);

            den += dot(q + i * d, k + (first + m) * d, d);
            for (int64_t c = 0; c < d; c++) {
                sum[c] += weight * (double)v[m * a->heads * d + c];
            }
        }
        for (int64_t c = 0; c < d; c++) {
            want[((i % a->n) * a->heads + head) * d + c] = (float)(sum[c] / den);
        }
    }
    free(q);
    free(q_rot);
    free(k);
    free(k_rot);
}

static void check(const int64_t grid[3], int64_t t0, int64_t heads, int64_t d)
{
    struct attention a = attention_make(grid, t0, heads, d);
    const int64_t n = tensor_count(&a.o);
    float *want = op_test_buffer((size_t)n * sizeof(*want));
    float *o = a.o.data;
    float *q = a.q.data;

    op_test_freeze(a.k.data);
    op_test_freeze(a.v.data);
    op_test_freeze(a.wq.data);
    op_test_freeze(a.wk.data);
    reference(&a, want);
    op_test_run(run_state, &a, a.state.data);
    op_test_freeze(a.state.data);
    op_test_run(run_out, &a, o);
    EXPECT_CLOSE(o, want, n, 0, 4e-6);
    op_test_run(run_out_in_place, &a, q);
    EXPECT(memcmp(q, o, tensor_bytes(&a.o)) == 0);
    op_test_free(want);
    attention_done(&a);
}

TEST(linear_attention_is_the_quadratic_form)
{
    check((int64_t[]){1, 1, 1}, 0, 1, 2);
    check((int64_t[]){1, 1, 31}, 0, 1, 6);
    check((int64_t[]){2, 3, 5}, 0, 3, 12);
    check((int64_t[]){3, 2, 4}, 777, 2, 20); /* a block far from the start */
    check((int64_t[]){3, 10, 9}, 5, 2, 12);  /* two tiles of tokens */
    check((int64_t[]){1, 5, 7}, 0, 1, 112);
    check((int64_t[]){257, 1, 1}, 0, 1, 8);
    check((int64_t[]){0, 3, 5}, 0, 2, 12);
}

TEST(linear_attention_of_one_token_is_its_value)
{
    /* (q~ . k~) = (q' . k') at one place, so o = v, whatever the angles. */
    struct attention a = attention_make((int64_t[]){1, 1, 1}, 12345, 2, 24);

    for (int64_t c = 0; c < 48; c++) { /* something positive on both sides */
        ((float *)a.wq.data)[c] = 1;
        ((float *)a.wk.data)[c] = 1;
        ((float *)a.k.data)[c] = 1 + fabsf(((float *)a.k.data)[c]);
    }
    run_all(&a);
    EXPECT_CLOSE((float *)a.o.data, (float *)a.v.data, 48, 1e-6, 0);
    attention_done(&a);
}

TEST(linear_attention_state_by_hand)
{
    /* One head of two channels: one pair in time. Token 1 is turned by one radian. rstd and weights
     * are given, so k' = relu(k * rstd * weight) = (2, 1), (0, 3). */
    float k[] = {1, 2, -1, 3};
    float v[] = {10, 0, 0, 100};
    float rstd[] = {1, 2};
    float weight[] = {2, 0.5F};
    float s[] = {1000, 0, 0, 0, 77};
    float k_sum[] = {0, 500, 77};
    const float want_s[] = {1020, 10, 300 * -0.84147098F, 300 * 0.54030231F};
    const int64_t grid[] = {2, 1, 1};
    const int64_t start[] = {0, 0, 0};
    struct rope3d rope = rope_make(grid, start, 2);
    struct tensor tk = TENSOR_F32(k, 2, 2);
    struct tensor tv = TENSOR_F32(v, 2, 2);
    struct tensor tr = TENSOR_F32(rstd, 2);
    struct tensor tw = TENSOR_F32(weight, 2);
    struct tensor ts = TENSOR_F32(s, 1, 2, 2);
    struct tensor tz = TENSOR_F32(k_sum, 1, 2);
    const struct linear_attention_qk kn = {.rstd = &tr, .weight = &tw, .rope = &rope};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_linear_attention_state(&dev, &ts, &tz, &tk, &tv, &kn, &err));
    EXPECT_CLOSE(s, want_s, 4, 1e-4, 0);
    EXPECT(k_sum[0] == 2 && k_sum[1] == 504); /* not rotated; added to what was there */
    EXPECT(s[4] == 77 && k_sum[2] == 77);
    device_close(&dev);
    rope_done(&rope);
}

/* Frames [first, first + frames) of `whole` as a sequence of their own, into the same state. */
static void add_frames(const struct attention *whole, struct attention *into, int64_t first,
                       int64_t frames)
{
    const int64_t per_frame = whole->grid[1] * whole->grid[2];
    struct attention part = *whole;

    part.grid[0] = frames;
    part.start[0] += first;
    part.rope = rope_make(part.grid, part.start, part.d);
    part.q = tensor_slice(&whole->q, first * per_frame, frames * per_frame);
    part.k = tensor_slice(&whole->k, first * per_frame, frames * per_frame);
    part.v = tensor_slice(&whole->v, first * per_frame, frames * per_frame);
    part.o = tensor_slice(&whole->o, first * per_frame, frames * per_frame);
    part.rq = tensor_slice(&whole->rq, first * per_frame, frames * per_frame);
    part.rk = tensor_slice(&whole->rk, first * per_frame, frames * per_frame);
    part.s = into->s;
    part.k_sum = into->k_sum;
    run_all(&part);
    rope_done(&part.rope);
}

TEST(linear_attention_state_of_the_parts_is_the_state_of_the_whole)
{
    const int64_t grid[] = {7, 9, 11};
    struct attention whole = attention_make(grid, 3, 2, 24);
    struct attention parts = attention_make(grid, 3, 2, 24);

    run_all(&whole);
    add_frames(&whole, &parts, 0, 3);
    add_frames(&whole, &parts, 3, 1);
    add_frames(&whole, &parts, 4, 3);
    EXPECT_CLOSE((float *)parts.s.data, (float *)whole.s.data, tensor_count(&whole.s), 0, 1e-6);
    EXPECT_CLOSE((float *)parts.k_sum.data, (float *)whole.k_sum.data, tensor_count(&whole.k_sum),
                 0, 1e-6);
    attention_done(&whole);
    attention_done(&parts);
}

/* q~ . k~ / q' . k' of one query at q_at and one key at k_at. */
static float rotated_product(const int64_t q_at[3], const int64_t k_at[3])
{
    const int64_t one[] = {1, 1, 1};
    struct attention a = attention_make(one, 0, 1, 24);
    struct device dev;
    struct err err;
    float o;

    for (int i = 0; i < 24; i++) {
        ((float *)a.wq.data)[i] = 1;
        ((float *)a.wk.data)[i] = 1;
        ((float *)a.q.data)[i] = fabsf(((float *)a.q.data)[i]);
        ((float *)a.k.data)[i] = fabsf(((float *)a.k.data)[i]);
        ((float *)a.v.data)[i] = 1;
    }
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    rope_done(&a.rope);
    a.rope = rope_make(one, k_at, 24);
    run_state(&dev, &a);
    rope_done(&a.rope);
    a.rope = rope_make(one, q_at, 24);
    run_out(&dev, &a);
    device_close(&dev);
    o = ((float *)a.o.data)[0];
    attention_done(&a);
    return o;
}

TEST(linear_attention_depends_only_on_differences_of_place)
{
    static const int64_t shift[][3] = {{1, 0, 0}, {0, 5, 0}, {0, 0, 31}, {900, 20, 40}};
    const float here = rotated_product((int64_t[]){2, 3, 4}, (int64_t[]){7, 1, 9});

    EXPECT(fabsf(here - rotated_product((int64_t[]){2, 3, 4}, (int64_t[]){7, 1, 8})) > 1e-4F);
    EXPECT(fabsf(here - rotated_product((int64_t[]){2, 3, 4}, (int64_t[]){7, 2, 9})) > 1e-4F);
    EXPECT(fabsf(here - rotated_product((int64_t[]){2, 3, 4}, (int64_t[]){6, 1, 9})) > 1e-4F);
    for (size_t i = 0; i < ARRAY_LEN(shift); i++) {
        const int64_t *by = shift[i];
        const float there = rotated_product((int64_t[]){2 + by[0], 3 + by[1], 4 + by[2]},
                                            (int64_t[]){7 + by[0], 1 + by[1], 9 + by[2]});

        EXPECT(fabsf(here - there) <= 2e-6F);
    }
}

TEST(linear_attention_denominator_is_never_negative)
{
    /* S of ones and no rotation: o = sum(q') / (k_sum . q' + eps) has the denominator's sign. */
    const int64_t grid[] = {1, 8, 32};
    struct attention a = attention_make(grid, 0, 2, 24);
    const float *o = a.o.data;
    int64_t wrong = 0;
    struct device dev;
    struct err err;

    run_all(&a);
    for (int64_t i = 0; i < tensor_count(&a.k_sum); i++) {
        wrong += !(((float *)a.k_sum.data)[i] >= 0);
    }
    rope_done(&a.rope);
    a.rope = rope_make(grid, a.start, 24);
    for (int axis = 0; axis < 3; axis++) {
        struct tensor *t = axis == 0 ? &a.rope.t : axis == 1 ? &a.rope.h : &a.rope.w;
        const int64_t n = tensor_count(t);

        op_test_free(t->data);
        t->data = op_test_floats(n, 0);
        for (int64_t i = 0; i < n; i++) {
            ((float *)t->data)[i] = i % 2 == 0 ? 1 : 0;
        }
    }
    for (int64_t i = 0; i < tensor_count(&a.s); i++) {
        ((float *)a.s.data)[i] = 1;
    }
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    run_out(&dev, &a);
    device_close(&dev);
    for (int64_t i = 0; i < tensor_count(&a.o); i++) {
        wrong += !(o[i] >= 0) || !isfinite(o[i]);
    }
    EXPECT_INT(wrong, 0);
    attention_done(&a);
}

TEST(linear_attention_of_nothing_positive_is_zero)
{
    struct attention a = attention_make((int64_t[]){1, 2, 3}, 0, 1, 12);

    for (int64_t i = 0; i < tensor_count(&a.k); i++) {
        ((float *)a.k.data)[i] = -1 - fabsf(((float *)a.k.data)[i]);
        ((float *)a.q.data)[i] = -1 - fabsf(((float *)a.q.data)[i]);
    }
    for (int64_t i = 0; i < 12; i++) {
        ((float *)a.wq.data)[i] = 1;
        ((float *)a.wk.data)[i] = 1;
    }
    run_all(&a);
    for (int64_t i = 0; i < tensor_count(&a.o); i++) {
        EXPECT(((float *)a.o.data)[i] == 0); /* 0 / eps, not 0 / 0 */
    }
    attention_done(&a);
}

/* Of how many of o's elements `expected` is wrong about being not finite, when x[at] is `value`. */
static int64_t surprises_with(char which, int64_t at, float value, bool (*expected)(int64_t))
{
    const int64_t grid[] = {2, 3, 5};
    struct attention a = attention_make(grid, 0, 2, 12);
    float *x = which == 'v' ? a.v.data : which == 'k' ? a.k.data : a.q.data;
    int64_t wrong = 0;

    x[at] = value;
    run_all(&a);
    for (int64_t i = 0; i < tensor_count(&a.o); i++) {
        wrong += isfinite(((float *)a.o.data)[i]) == expected(i);
    }
    attention_done(&a);
    return wrong;
}

static bool channel_five(int64_t i)
{
    return i % 24 == 5;
}

static bool everything(int64_t i)
{
    return i >= 0;
}

static bool head_zero(int64_t i)
{
    return i % 24 < 12;
}

static bool token_four(int64_t i)
{
    return i / 24 == 4;
}

TEST(linear_attention_lets_nan_and_infinity_through)
{
    const int64_t at = 4 * 24 + 5; /* token 4, head 0, channel 5 */

    EXPECT_INT(surprises_with('v', at, NAN, channel_five), 0); /* of every token */
    EXPECT_INT(surprises_with('v', at, INFINITY, channel_five), 0);
    EXPECT_INT(surprises_with('k', at, NAN, everything), 0); /* its row's rms is NaN */
    EXPECT_INT(surprises_with('q', at, NAN, token_four), 0);
    EXPECT_INT(surprises_with('k', at, INFINITY, head_zero), 0); /* the rms makes it 0 * infinity */
    EXPECT_INT(surprises_with('k', at, -INFINITY, head_zero), 0);
}

struct rstd_run {
    struct tensor rstd, x;
    float eps;
};

static void run_rms(struct device *dev, void *ctx)
{
    const struct rstd_run *r = ctx;
    struct err err;

    EXPECT_OK(op_rms_rstd(dev, &r->rstd, &r->x, r->eps, &err));
}

static void check_rstd(int64_t rows, int64_t dim)
{
    float *x = op_test_floats(rows * dim, 3);
    float *rstd = op_test_buffer((size_t)rows * sizeof(*rstd));
    float *want = op_test_buffer((size_t)rows * sizeof(*want));
    struct rstd_run r = {
        .rstd = TENSOR_F32(rstd, rows), .x = TENSOR_F32(x, rows, dim), .eps = 1e-5F};

    op_test_freeze(x);
    for (int64_t m = 0; m < rows; m++) {
        double squares = 0;

        for (int64_t c = 0; c < dim; c++) {
            squares += (double)x[m * dim + c] * (double)x[m * dim + c];
        }
        want[m] = (float)(1 / sqrt(squares / (double)dim + (double)1e-5F));
    }
    op_test_run(run_rms, &r, rstd);
    EXPECT_CLOSE(rstd, want, rows, 0, 1e-7);
    op_test_free(x);
    op_test_free(rstd);
    op_test_free(want);
}

TEST(linear_attention_rms_rstd_matches_the_formula)
{
    float x[] = {3, 4, 0, 0};
    float rstd[] = {9, 9, 77};
    struct rstd_run r = {.rstd = TENSOR_F32(rstd, 2), .x = TENSOR_F32(x, 2, 2), .eps = 12.5F};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    run_rms(&dev, &r);
    EXPECT_CLOSE(rstd, ((float[]){0.2F, 0.28284271F}), 2, 0, 2e-7);
    EXPECT(rstd[2] == 77);
    device_close(&dev);
    check_rstd(0, 3);
    check_rstd(1, 1);
    check_rstd(31, 257);
    check_rstd(257, 31);
    check_rstd(3, 2240);
}

TEST(linear_attention_rms_rstd_refuses_what_does_not_fit)
{
    float data[12] = {0};
    struct tensor x = TENSOR_F32(data, 4, 3);
    struct tensor flat = TENSOR_F32(data, 12);
    struct tensor none = TENSOR_F32(data, 4, 0);
    struct tensor rstd = TENSOR_F32(data, 4);
    struct tensor bad = TENSOR_F32(data, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_rms_rstd(&dev, &rstd, &flat, 1, &err), "rms_rstd: x is F32[12]");
    EXPECT_REFUSED(op_rms_rstd(&dev, &rstd, &none, 1, &err), "rms_rstd: x is F32[4, 0]");
    EXPECT_REFUSED(op_rms_rstd(&dev, &bad, &x, 1, &err), "rms_rstd: rstd is F32[3]");
    device_close(&dev);
}

/* The sentences of both operations on a changed `a`. */
static void expect_refused(const struct attention *a, const char *state, const char *out)
{
    const struct linear_attention_qk kn = {.rstd = &a->rk, .weight = &a->wk, .rope = &a->rope};
    const struct linear_attention_qk qn = {.rstd = &a->rq, .weight = &a->wq, .rope = &a->rope};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    if (state) {
        EXPECT_REFUSED(op_linear_attention_state(&dev, &a->s, &a->k_sum, &a->k, &a->v, &kn, &err),
                       state);
        EXPECT_CONTAINS(err.msg, "linear_attention_state: ");
    }
    if (out) {
        EXPECT_REFUSED(
            op_linear_attention_out(&dev, &a->o, &a->q, &a->s, &a->k_sum, EPS, &qn, &err), out);
        EXPECT_CONTAINS(err.msg, "linear_attention_out: ");
    }
    device_close(&dev);
}

TEST(linear_attention_refuses_what_does_not_fit)
{
    const struct attention good = attention_make((int64_t[]){1, 2, 3}, 0, 2, 12);
    struct attention a = good;

    a.s.dim[2] = 11;
    expect_refused(&a, "s is F32[2, 12, 11]", "s is F32[2, 12, 11]");
    a.s = TENSOR_F32(good.s.data, 2, 5, 5); /* odd */
    expect_refused(&a, "s is F32[2, 5, 5]", "s is F32[2, 5, 5]");
    a.s = TENSOR_F32(good.s.data, 0, 5000, 5000); /* more than the scratch takes */
    expect_refused(&a, "s is F32[0, 5000, 5000]", "s is F32[0, 5000, 5000]");
    a = good;
    a.k_sum.dim[0] = 3;
    expect_refused(&a, "k_sum is F32[3, 12]", "k_sum is F32[3, 12]");
    a = good;
    a.k.dim[1] = 12;
    a.q.dim[1] = 12;
    expect_refused(&a, "k is F32[6, 12]", "q is F32[6, 12]");
    a = good;
    a.v.dim[0] = 5;
    a.o.dim[0] = 5;
    expect_refused(&a, "v is F32[5, 24]", "o is F32[5, 24]");
    a = good;
    a.rk.dim[0] = 5;
    a.rq.dim[0] = 5;
    expect_refused(&a, "rstd is F32[5]", "rstd is F32[5]");
    a = good;
    a.wk.dim[0] = 12;
    a.wq.dim[0] = 12;
    expect_refused(&a, "weight is F32[12]", "weight is F32[12]");
    a = good;
    a.rope.frames = 2;
    expect_refused(&a, "rope is", "rope is");
    a = good;
    a.rope.w.dim[1] = 3;
    expect_refused(&a, "rope is", "rope is");
    a = good;
    a.rope.t.dim[1] = 1;
    expect_refused(&a, "rope is F32[1, 1, 2]", "rope is F32[1, 1, 2]");
    a = good;
    attention_done(&a);
}
