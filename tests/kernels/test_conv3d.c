#include "kernels/conv3d.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

enum {
    GUARD = 16
};

static const float guard_value = 12345.0F;

struct geometry {
    int64_t zero, history, t, h, w, ci, co;
    int64_t kt, kh, kw, st, ss;
    int64_t top, bottom, left, right;
    bool reflect, upsample, bias, residual, clamp;
};

/* A case's numbers, on the heap. */
struct problem {
    struct geometry g;
    struct conv3d_params p;
    struct tensor x, history, w, bias, residual, y; /* x.data begins at history.data */
    float *want;
};

static float *filled(int64_t n, uint64_t seed)
{
    float *data = test_alloc((size_t)(n + GUARD) * sizeof(float));

    test_fill(data, n, seed);
    for (int i = 0; i < GUARD; i++) {
        data[n + i] = guard_value;
    }
    return data;
}

static int64_t out_size(int64_t have, int64_t kernel, int64_t stride)
{
    return (have - kernel) / stride + 1;
}

/* X[f, u, v, k] of conv3d.h, straight from its words. */
static double input_at(const struct problem *pr, int64_t f, int64_t u, int64_t v, int64_t k)
{
    const struct geometry *g = &pr->g;
    const int64_t up = g->upsample ? 2 : 1;
    const int64_t h = g->h * up;
    const int64_t w = g->w * up;

    f -= g->zero;
    u -= g->top;
    v -= g->left;
    if (g->reflect) {
        u = u < 0 ? -u : u >= h ? 2 * h - 2 - u : u;
        v = v < 0 ? -v : v >= w ? 2 * w - 2 - v : v;
    }
    if (f < 0 || u < 0 || v < 0 || u >= h || v >= w) {
        return 0;
    }
    return (
        double)((const float *)pr->history.data)[((f * g->h + u / up) * g->w + v / up) * g->ci + k];
}

static double output_at(const struct problem *pr, int64_t t, int64_t i, int64_t j, int64_t o)
{
    const struct geometry *g = &pr->g;
    const float *w = (const float *)pr->w.data + o * g->kt * g->kh * g->kw * g->ci;
    double sum = g->bias ? (double)((const float *)pr->bias.data)[o] : 0;

    for (int64_t tap = 0; tap < g->kt * g->kh * g->kw; tap++) {
        const int64_t a = tap / (g->kh * g->kw);
        const int64_t b = tap / g->kw % g->kh;
        const int64_t c = tap % g->kw;

        for (int64_t k = 0; k < g->ci; k++) {
            sum += (double)w[tap * g->ci + k] *
                   input_at(pr, t * g->st + a, i * g->ss + b, j * g->ss + c, k);
        }
    }
    return sum;
}

static void reference(struct problem *pr)
{
    const int64_t co = pr->y.dim[3];
    const int64_t wo = pr->y.dim[2];
    const int64_t ho = pr->y.dim[1];

    CHECK_BUG(co > 0 && wo > 0 && ho > 0);
    for (int64_t n = 0; n < tensor_count(&pr->y); n++) {
        double sum = output_at(pr, n / (co * wo * ho), n / (co * wo) % ho, n / co % wo, n % co);

        if (pr->g.residual) {
            sum += (double)((const float *)pr->residual.data)[n];
        }
        if (pr->g.clamp) {
            sum = sum < -0.5 ? -0.5 : sum > 0.5 ? 0.5 : sum;
        }
        pr->want[n] = (float)sum;
    }
}

static void problem_init(struct problem *pr, const struct geometry *g)
{
    const int64_t up = g->upsample ? 2 : 1;
    const int64_t to = out_size(g->zero + g->history + g->t, g->kt, g->st);
    const int64_t ho = out_size(g->h * up + g->top + g->bottom, g->kh, g->ss);
    const int64_t wo = out_size(g->w * up + g->left + g->right, g->kw, g->ss);
    const int64_t frame = g->h * g->w * g->ci;
    float *frames = filled((g->history + g->t) * frame, 1);

    *pr = (struct problem){.g = *g};
    pr->history = TENSOR_F32(frames, g->history, g->h, g->w, g->ci);
    pr->x = TENSOR_F32(frames + g->history * frame, g->t, g->h, g->w, g->ci);
    pr->w = TENSOR_F32(filled(g->co * g->kt * g->kh * g->kw * g->ci, 2), g->co, g->kt, g->kh, g->kw,
                       g->ci);
    pr->bias = TENSOR_F32(filled(g->co, 3), g->co);
    pr->y = TENSOR_F32(filled(to * ho * wo * g->co, 4), to, ho, wo, g->co);
    pr->residual = TENSOR_F32(filled(to * ho * wo * g->co, 5), to, ho, wo, g->co);
    pr->want = filled(to * ho * wo * g->co, 6);
    pr->p = (struct conv3d_params){
        .stride_t = g->st,
        .stride_s = g->ss,
        .pad_top = g->top,
        .pad_bottom = g->bottom,
        .pad_left = g->left,
        .pad_right = g->right,
        .reflect = g->reflect,
        .upsample = g->upsample,
        .zero_frames = g->zero,
        .history = g->history > 0 ? &pr->history : NULL,
        .bias = g->bias ? &pr->bias : NULL,
        .residual = g->residual ? &pr->residual : NULL,
        .clamp = g->clamp,
        .clamp_min = -0.5F,
        .clamp_max = 0.5F,
    };
}

static void problem_done(struct problem *pr)
{
    free(pr->history.data);
    free(pr->w.data);
    free(pr->bias.data);
    free(pr->residual.data);
    free(pr->y.data);
    free(pr->want);
}

static void run(struct problem *pr, int threads)
{
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, threads, &err));
    EXPECT_OK(op_conv3d(&dev, &pr->y, &pr->x, &pr->w, &pr->p, &err));
    device_close(&dev);
}

static void check(const struct geometry *g)
{
    struct problem pr;
    float *first;
    int64_t n;

    problem_init(&pr, g);
    n = tensor_count(&pr.y);
    reference(&pr);
    first = test_alloc((size_t)(n + GUARD) * sizeof(float));
    for (int threads = 1; threads <= 3; threads++) {
        test_fill(pr.y.data, n, 4);
        run(&pr, threads);
        EXPECT_CLOSE(pr.y.data, pr.want, n, 0, 2e-6);
        EXPECT(((float *)pr.y.data)[n] == guard_value);
        if (threads == 1) {
            memcpy(first, pr.y.data, (size_t)n * sizeof(float));
        }
        EXPECT(memcmp(first, pr.y.data, (size_t)n * sizeof(float)) == 0);
    }
    free(first);
    problem_done(&pr);
}

static void check_all(const struct geometry *g, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        check(&g[i]);
    }
}

/* Kernels. 3 x 3 x 3, and 3 x 3 and 5 x 5 within a frame, keep the frame's size; DOWN is the Wan
 * encoder's downsampler, padded right and below; THIRD has a stride of 3. Few and many channels
 * take different ways through the code. */
#define PAD(n) .top = (n), .bottom = (n), .left = (n), .right = (n)
#define SAME3  .kt = 3, .kh = 3, .kw = 3, .st = 1, .ss = 1, PAD(1)
#define SAME1  .kt = 1, .kh = 3, .kw = 3, .st = 1, .ss = 1, PAD(1)
#define SAME5  .kt = 1, .kh = 5, .kw = 5, .st = 1, .ss = 1, PAD(2)
#define DOWN   .kt = 1, .kh = 3, .kw = 3, .st = 1, .ss = 2, .bottom = 1, .right = 1
#define THIRD  .kt = 1, .kh = 3, .kw = 3, .st = 1, .ss = 3, .top = 2, .left = 1
#define TIME   .kt = 3, .kh = 1, .kw = 1, .ss = 1
#define POINT  .kt = 1, .kh = 1, .kw = 1, .st = 1, .ss = 1

TEST(conv3d_matches_the_naive_loop_with_same_padding)
{
    static const struct geometry g[] = {
        {.t = 3, .h = 1, .w = 1, .ci = 1, .co = 1, SAME3},
        {.t = 3, .h = 5, .w = 7, .ci = 3, .co = 5, SAME3, .bias = true},
        {.t = 4, .h = 6, .w = 5, .ci = 24, .co = 3, SAME3, .bias = true, .residual = true},
        {.t = 3, .h = 9, .w = 11, .ci = 31, .co = 33, SAME3, .residual = true},
        {.history = 2, .t = 1, .h = 4, .w = 3, .ci = 32, .co = 8, SAME3, .bias = true},
        {.history = 2, .t = 3, .h = 4, .w = 3, .ci = 8, .co = 8, SAME3, .clamp = true},
        {.zero = 2, .t = 1, .h = 4, .w = 3, .ci = 40, .co = 8, SAME3, .bias = true},
        {.zero = 1, .history = 1, .t = 2, .h = 4, .w = 3, .ci = 25, .co = 4, SAME3},
        {.zero = 3, .t = 1, .h = 2, .w = 3, .ci = 25, .co = 4, SAME3, .bias = true},
    };

    check_all(g, ARRAY_LEN(g));
}

TEST(conv3d_matches_the_naive_loop_over_several_tiles)
{
    static const struct geometry g[] = {
        {.t = 1, .h = 3, .w = 300, .ci = 24, .co = 4, SAME1},
        {.t = 2, .h = 37, .w = 29, .ci = 2, .co = 3, SAME1, .bias = true},
        {.t = 1, .h = 2, .w = 3, .ci = 26, .co = 1100, SAME1, .bias = true, .residual = true},
        {.t = 1, .h = 4, .w = 33, .ci = 1500, .co = 2, SAME1},
        {.t = 1, .h = 40, .w = 60, .ci = 5, .co = 7, POINT},
    };

    check_all(g, ARRAY_LEN(g));
}

TEST(conv3d_strides)
{
    static const struct geometry g[] = {
        {.t = 2, .h = 6, .w = 8, .ci = 30, .co = 4, DOWN, .bias = true},
        {.t = 1, .h = 34, .w = 38, .ci = 3, .co = 4, DOWN},
        {.t = 1, .h = 5, .w = 4, .ci = 3, .co = 2, THIRD},
    };

    check_all(g, ARRAY_LEN(g));
}

TEST(conv3d_reflects)
{
    static const struct geometry g[] = {
        {.t = 3, .h = 2, .w = 2, .ci = 27, .co = 3, SAME3, .reflect = true, .bias = true},
        {.t = 3, .h = 4, .w = 5, .ci = 6, .co = 3, SAME3, .reflect = true},
        {.t = 1, .h = 3, .w = 4, .ci = 25, .co = 3, SAME5, .reflect = true},
    };

    check_all(g, ARRAY_LEN(g));
}

TEST(conv3d_upsamples)
{
    static const struct geometry g[] = {
        {.t = 2, .h = 3, .w = 4, .ci = 32, .co = 5, SAME1, .upsample = true, .bias = true},
        {.t = 1, .h = 3, .w = 70, .ci = 4, .co = 5, SAME1, .upsample = true},
        {.t = 1, .h = 3, .w = 2, .ci = 4, .co = 5, SAME1, .upsample = true, .reflect = true},
    };

    check_all(g, ARRAY_LEN(g));
}

TEST(conv3d_works_over_time_only_and_pointwise)
{
    static const struct geometry g[] = {
        {.history = 2, .t = 2, .h = 3, .w = 5, .ci = 9, .co = 18, TIME, .st = 1, .bias = true},
        {.history = 1, .t = 4, .h = 3, .w = 5, .ci = 9, .co = 9, TIME, .st = 2, .bias = true},
        {.t = 2, .h = 3, .w = 5, .ci = 9, .co = 4, POINT, .residual = true, .clamp = true},
        {.t = 2, .h = 3, .w = 5, .ci = 9, .co = 4, POINT, .top = 1, .right = 2},
    };

    check_all(g, ARRAY_LEN(g));
}

TEST(conv3d_computes_small_numbers_by_hand)
{
    float x[] = {1, 2, 3, 4, 5, 6};                /* [1, 2, 3, 1] */
    float w[] = {0, 0, 0, 0, 1, 10, 0, 100, 1000}; /* centre, right, below, below right */
    float bias[] = {0.5F};
    const float want[] = {5421.5F, 6532.5F, 603.5F, 54.5F, 65.5F, 6.5F};
    float y[6];
    struct tensor tx = TENSOR_F32(x, 1, 2, 3, 1);
    struct tensor tw = TENSOR_F32(w, 1, 1, 3, 3, 1);
    struct tensor tb = TENSOR_F32(bias, 1);
    struct tensor ty = TENSOR_F32(y, 1, 2, 3, 1);
    struct conv3d_params p = {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1};
    struct device dev;
    struct err err;

    p.bias = &tb;
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_conv3d(&dev, &ty, &tx, &tw, &p, &err));
    EXPECT_CLOSE(y, want, 6, 0, 0);
    device_close(&dev);
}

/* The same frames, cut into history and x in every way, one or many at a time. */
TEST(conv3d_gives_a_frame_the_same_bytes_however_frames_are_cut)
{
    static const struct geometry g = {
        .history = 2, .t = 5, .h = 13, .w = 17, .ci = 32, .co = 12, SAME3, .bias = true};
    struct problem whole;
    const int64_t frame_out = g.h * g.w * g.co;
    float *piece = test_alloc((size_t)frame_out * sizeof(float));

    problem_init(&whole, &g);
    run(&whole, 2);
    for (int64_t t = 0; t < g.t; t++) {
        const struct tensor all = TENSOR_F32(whole.history.data, g.history + g.t, g.h, g.w, g.ci);
        struct problem one = whole;

        one.history = tensor_slice(&all, t, 2);
        one.p.history = &one.history;
        one.x = tensor_slice(&all, t + 2, 1);
        one.y = TENSOR_F32(piece, 1, g.h, g.w, g.co);
        run(&one, 1);
        EXPECT(memcmp(piece, (float *)whole.y.data + t * frame_out,
                      (size_t)frame_out * sizeof(float)) == 0);
        one.p.history = NULL;
        one.x = tensor_slice(&all, t, 3);
        run(&one, 3);
        EXPECT(memcmp(piece, (float *)whole.y.data + t * frame_out,
                      (size_t)frame_out * sizeof(float)) == 0);
    }
    free(piece);
    problem_done(&whole);
}

TEST(conv3d_may_add_to_its_own_output)
{
    static const struct geometry g = {
        .t = 3, .h = 6, .w = 7, .ci = 28, .co = 28, SAME3, .bias = true, .residual = true};
    struct problem pr;

    problem_init(&pr, &g);
    run(&pr, 2);
    memcpy(pr.want, pr.y.data, tensor_bytes(&pr.y));
    memcpy(pr.y.data, pr.residual.data, tensor_bytes(&pr.y));
    pr.p.residual = &pr.y;
    run(&pr, 2);
    EXPECT(memcmp(pr.want, pr.y.data, tensor_bytes(&pr.y)) == 0);
    problem_done(&pr);
}

TEST(conv3d_computes_nothing_in_a_dry_run)
{
    static const struct geometry g = {.t = 3, .h = 6, .w = 7, .ci = 3, .co = 2, SAME3};
    struct problem pr;
    struct device dev;
    struct err err;

    problem_init(&pr, &g);
    memcpy(pr.want, pr.y.data, tensor_bytes(&pr.y));
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    dev.dry_run = true;
    EXPECT_OK(op_conv3d(&dev, &pr.y, &pr.x, &pr.w, &pr.p, &err));
    EXPECT(memcmp(pr.want, pr.y.data, tensor_bytes(&pr.y)) == 0);
    device_close(&dev);
    problem_done(&pr);
}

TEST(conv3d_refuses_what_does_not_fit)
{
    static const struct geometry g = {
        .history = 2, .t = 3, .h = 6, .w = 7, .ci = 3, .co = 2, SAME3, .bias = true};
    struct problem pr;
    struct problem bad;
    struct device dev;
    struct err err;

    problem_init(&pr, &g);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
#define REFUSED(what)                                                                              \
    do {                                                                                           \
        EXPECT_INT(op_conv3d(&dev, &bad.y, &bad.x, &bad.w, &bad.p, &err), ERR_INVALID);            \
        EXPECT_CONTAINS(err.msg, what);                                                            \
        bad = pr;                                                                                  \
    } while (0)
    bad = pr;
    bad.y.dim[0] = 2;
    REFUSED("y is F32[2, 6, 7, 2]");
    bad.w.dim[4] = 4;
    REFUSED("w is F32");
    bad.x.rank = 3;
    REFUSED("x is F32[3, 6, 7]");
    bad.x.dtype = DTYPE_BF16;
    REFUSED("x is BF16");
    bad.history.dim[1] = 5;
    bad.p.history = &bad.history;
    REFUSED("history is");
    bad.bias.dim[0] = 3;
    bad.p.bias = &bad.bias;
    REFUSED("bias is F32[3]");
    bad.p.residual = &bad.x;
    REFUSED("residual is");
    bad.p.pad_top = -1;
    REFUSED("negative");
    bad.p.reflect = true;
    bad.p.pad_right = 7;
    REFUSED("cannot be reflected");
    bad.p.stride_s = -1;
    REFUSED("negative");
    device_close(&dev);
    problem_done(&pr);
}
