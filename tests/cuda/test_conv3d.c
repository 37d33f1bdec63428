#include "kernels/conv3d.h"

#include <math.h>
#include <string.h>

#include "tests/support/cuda_test.h"

struct geometry {
    int64_t zero, history, t, h, w, ci, co;
    int64_t kt, kh, kw, st, ss;
    int64_t top, bottom, left, right;
    bool reflect, upsample, bias, residual, in_place, clamp;
    bool x_f32, history_f32, y_f32; /* also in the bf16 mode */
};

struct problem {
    struct geometry g;
    struct cuda_pair x, history, w, bias, residual, y;
};

static struct err err;

static int64_t out_size(int64_t have, int64_t kernel, int64_t stride)
{
    return (have - kernel) / (stride == 0 ? 1 : stride) + 1;
}

static struct conv3d_params params_of(const struct problem *pr, int side)
{
    const struct geometry *g = &pr->g;

    return (struct conv3d_params){
        .stride_t = g->st,
        .stride_s = g->ss,
        .pad_top = g->top,
        .pad_bottom = g->bottom,
        .pad_left = g->left,
        .pad_right = g->right,
        .reflect = g->reflect,
        .upsample = g->upsample,
        .zero_frames = g->zero,
        .history = g->history > 0 ? &pr->history.on[side] : NULL,
        .bias = g->bias ? &pr->bias.on[side] : NULL,
        .residual = g->residual ? &pr->residual.on[side] : NULL,
        .clamp = g->clamp,
        .clamp_min = -0.5F,
        .clamp_max = 0.5F,
    };
}

static struct problem problem_of(const struct geometry *g, enum dtype act)
{
    const enum dtype x_type = g->x_f32 ? DTYPE_F32 : act;
    const enum dtype history_type = g->history_f32 ? DTYPE_F32 : act;
    const enum dtype y_type = g->y_f32 ? DTYPE_F32 : act;
    const int64_t up = g->upsample ? 2 : 1;
    const int64_t y[] = {
        out_size(g->zero + g->history + g->t, g->kt, g->st),
        out_size(g->h * up + g->top + g->bottom, g->kh, g->ss),
        out_size(g->w * up + g->left + g->right, g->kw, g->ss),
        g->co,
    };
    struct problem pr = {.g = *g};

    pr.x = cuda_pair_random(x_type, 1, 1.0, CUDA_DIMS(g->t, g->h, g->w, g->ci));
    pr.history = cuda_pair_random(history_type, 2, 1.0, CUDA_DIMS(g->history, g->h, g->w, g->ci));
    pr.w = cuda_pair_random(act, 3, 1.0, CUDA_DIMS(g->co, g->kt, g->kh, g->kw, g->ci));
    pr.bias = cuda_pair_random(DTYPE_F32, 4, 1.0, CUDA_DIMS(g->co));
    pr.y = g->in_place ? cuda_pair_inout(y_type, 5, 1.0, 4, y) : cuda_pair_output(y_type, 4, y);
    pr.residual = g->in_place ? pr.y : cuda_pair_random(y_type, 5, 1.0, 4, y);
    return pr;
}

static void run(struct device *dev, void *ctx, int side)
{
    const struct problem *pr = ctx;
    const struct conv3d_params p = params_of(pr, side);

    EXPECT_OK(op_conv3d(dev, &pr->y.on[side], &pr->x.on[side], &pr->w.on[side], &p, &err));
}

static void check_all(const struct geometry *g, size_t n, enum dtype act)
{
    for (size_t i = 0; i < n; i++) {
        const bool rounds = act == DTYPE_BF16 && !(g[i].y_f32 && !g[i].x_f32 && !g[i].history_f32);
        struct problem pr = problem_of(&g[i], act);

        cuda_test_run(run, &pr);
        cuda_pair_expect(&pr.y, rounds ? 4e-3 : 1e-5);
    }
}

#define PAD(n) .top = (n), .bottom = (n), .left = (n), .right = (n)
#define SAME3  .kt = 3, .kh = 3, .kw = 3, .st = 1, .ss = 1, PAD(1)
#define SAME1  .kt = 1, .kh = 3, .kw = 3, .st = 1, .ss = 1, PAD(1)
#define SAME5  .kt = 1, .kh = 5, .kw = 5, .st = 1, .ss = 1, PAD(2)
#define DOWN   .kt = 1, .kh = 3, .kw = 3, .st = 1, .ss = 2, .bottom = 1, .right = 1
#define THIRD  .kt = 1, .kh = 3, .kw = 3, .st = 1, .ss = 3, .top = 2, .left = 1
#define TIME   .kt = 3, .kh = 1, .kw = 1, .ss = 1
#define POINT  .kt = 1, .kh = 1, .kw = 1, .st = 1, .ss = 1

/* Channels that come by 16 bytes, in tiles of 64 and 96 output channels. */
CUDA_TEST(conv3d_with_same_padding)
{
    static const struct geometry g[] = {
        {.t = 3, .h = 1, .w = 1, .ci = 8, .co = 1, SAME3},
        {.t = 4, .h = 6, .w = 5, .ci = 24, .co = 3, SAME3, .bias = true, .residual = true},
        {.t = 3, .h = 9, .w = 11, .ci = 40, .co = 33, SAME3, .residual = true},
        {.history = 2, .t = 1, .h = 4, .w = 3, .ci = 96, .co = 96, SAME3, .bias = true},
        {.history = 2, .t = 3, .h = 4, .w = 3, .ci = 8, .co = 8, SAME3, .clamp = true},
        {.zero = 2, .t = 1, .h = 4, .w = 3, .ci = 40, .co = 8, SAME3, .bias = true},
        {.zero = 1, .history = 1, .t = 2, .h = 4, .w = 3, .ci = 32, .co = 4, SAME3},
        {.zero = 3, .t = 1, .h = 2, .w = 3, .ci = 16, .co = 4, SAME3, .bias = true},
    };

    check_all(g, ARRAY_LEN(g), act);
}

/* Channels that come one by one. */
CUDA_TEST(conv3d_with_odd_channels)
{
    static const struct geometry g[] = {
        {.t = 3, .h = 1, .w = 1, .ci = 1, .co = 1, SAME3},
        {.t = 3, .h = 5, .w = 7, .ci = 3, .co = 5, SAME3, .bias = true},
        {.t = 3, .h = 5, .w = 3, .ci = 31, .co = 33, SAME3, .residual = true},
        {.zero = 1, .history = 1, .t = 2, .h = 4, .w = 3, .ci = 25, .co = 4, SAME3},
        {.history = 2, .t = 2, .h = 3, .w = 5, .ci = 12, .co = 96, SAME3, .bias = true},
        {.t = 2, .h = 9, .w = 11, .ci = 4, .co = 33, SAME1, .bias = true, .clamp = true},
    };

    check_all(g, ARRAY_LEN(g), act);
}

CUDA_TEST(conv3d_over_several_tiles)
{
    static const struct geometry g[] = {
        {.t = 1, .h = 3, .w = 70, .ci = 24, .co = 4, SAME1},
        {.t = 2, .h = 37, .w = 29, .ci = 2, .co = 3, SAME1, .bias = true},
        {.t = 1, .h = 2, .w = 3, .ci = 26, .co = 70, SAME1, .bias = true, .residual = true},
        {.t = 1, .h = 17, .w = 18, .ci = 8, .co = 100, SAME1, .bias = true, .residual = true},
        {.t = 2, .h = 2, .w = 20, .ci = 8, .co = 192, SAME1, .bias = true},
        {.t = 1, .h = 4, .w = 5, .ci = 600, .co = 2, SAME1},
        {.t = 1, .h = 40, .w = 20, .ci = 5, .co = 7, POINT},
    };

    check_all(g, ARRAY_LEN(g), act);
}

/* A GPU with few blocks to do takes smaller ones: 400 are enough for any. */
CUDA_TEST(conv3d_with_many_blocks)
{
    static const struct geometry g[] = {
        {.t = 200,
         .h = 1,
         .w = 17,
         .ci = 40,
         .co = 96,
         .kt = 1,
         .kh = 1,
         .kw = 3,
         .left = 1,
         .right = 1,
         .bias = true},
    };

    check_all(g, ARRAY_LEN(g), act);
}

CUDA_TEST(conv3d_strides)
{
    static const struct geometry g[] = {
        {.t = 2, .h = 6, .w = 8, .ci = 40, .co = 4, DOWN, .bias = true},
        {.t = 1, .h = 36, .w = 38, .ci = 3, .co = 4, DOWN},
        {.t = 1, .h = 36, .w = 38, .ci = 16, .co = 96, DOWN, .bias = true},
        {.t = 1, .h = 5, .w = 4, .ci = 3, .co = 2, THIRD},
        {.t = 2, .h = 5, .w = 4, .ci = 8, .co = 8, .kt = 2, .kh = 3, .kw = 2, .ss = 3, .top = 2},
        {.t = 1, .h = 5, .w = 40, .ci = 8, .co = 4, .kt = 1, .kh = 1, .kw = 1, .ss = 2, .left = 1},
    };

    check_all(g, ARRAY_LEN(g), act);
}

/* The ring of patches has another size for each; 9 x 8 is too large to share a patch. */
CUDA_TEST(conv3d_kernels_of_all_sizes)
{
    static const struct geometry g[] = {
        {.t = 3, .h = 5, .w = 18, .ci = 40, .co = 8, .kt = 2, .kh = 1, .kw = 2, .left = 1},
        {.t = 1, .h = 5, .w = 6, .ci = 72, .co = 8, .kt = 1, .kh = 3, .kw = 1, .top = 1},
        {.t = 1, .h = 18, .w = 4, .ci = 8, .co = 8, .kt = 1, .kh = 2, .kw = 2, .bottom = 1},
        {.t = 1, .h = 3, .w = 4, .ci = 24, .co = 3, SAME5},
        {.t = 2, .h = 7, .w = 8, .ci = 8, .co = 4, .kt = 2, .kh = 7, .kw = 7, PAD(3)},
        {.t = 1, .h = 9, .w = 11, .ci = 8, .co = 4, .kt = 1, .kh = 9, .kw = 8, PAD(4)},
        {.t = 1, .h = 9, .w = 11, .ci = 3, .co = 4, .kt = 1, .kh = 8, .kw = 9, PAD(4)},
    };

    check_all(g, ARRAY_LEN(g), act);
}

CUDA_TEST(conv3d_reflects)
{
    static const struct geometry g[] = {
        {.t = 3, .h = 2, .w = 2, .ci = 24, .co = 3, SAME3, .reflect = true, .bias = true},
        {.t = 3, .h = 4, .w = 5, .ci = 6, .co = 3, SAME3, .reflect = true},
        {.t = 1, .h = 3, .w = 4, .ci = 16, .co = 3, SAME5, .reflect = true},
        {.t = 1, .h = 17, .w = 31, .ci = 8, .co = 3, SAME5, .reflect = true},
        {.t = 1, .h = 5, .w = 4, .ci = 8, .co = 8, THIRD, .reflect = true},
    };

    check_all(g, ARRAY_LEN(g), act);
}

CUDA_TEST(conv3d_upsamples)
{
    static const struct geometry g[] = {
        {.t = 2, .h = 3, .w = 4, .ci = 32, .co = 5, SAME1, .upsample = true, .bias = true},
        {.t = 1, .h = 10, .w = 9, .ci = 40, .co = 16, SAME1, .upsample = true, .bias = true},
        {.t = 1, .h = 3, .w = 20, .ci = 4, .co = 5, SAME1, .upsample = true},
        {.t = 1, .h = 3, .w = 2, .ci = 8, .co = 5, SAME1, .upsample = true, .reflect = true},
        {.t = 1, .h = 4, .w = 5, .ci = 8, .co = 5, DOWN, .upsample = true},
    };

    check_all(g, ARRAY_LEN(g), act);
}

CUDA_TEST(conv3d_over_time_only_and_pointwise)
{
    static const struct geometry g[] = {
        {.history = 2, .t = 2, .h = 3, .w = 5, .ci = 72, .co = 16, TIME, .bias = true},
        {.history = 1, .t = 4, .h = 3, .w = 5, .ci = 16, .co = 8, TIME, .st = 2, .bias = true},
        {.zero = 1, .t = 5, .h = 3, .w = 5, .ci = 9, .co = 9, TIME, .st = 3, .bias = true},
        {.t = 2, .h = 3, .w = 5, .ci = 96, .co = 4, POINT, .residual = true, .clamp = true},
        {.t = 2, .h = 3, .w = 5, .ci = 8, .co = 4, POINT, .top = 1, .right = 2},
    };

    check_all(g, ARRAY_LEN(g), act);
}

/* Pictures in and out, latents, moments: F32 beside bf16 weights. */
CUDA_TEST(conv3d_mixes_types)
{
    static const struct geometry g[] = {
        {.history = 2,
         .t = 1,
         .h = 17,
         .w = 5,
         .ci = 16,
         .co = 3,
         SAME3,
         .bias = true,
         .clamp = true,
         .y_f32 = true},
        {.t = 2,
         .h = 3,
         .w = 5,
         .ci = 32,
         .co = 16,
         POINT,
         .bias = true,
         .residual = true,
         .y_f32 = true},
        {.t = 2, .h = 3, .w = 5, .ci = 8, .co = 48, SAME1, .y_f32 = true},
        {.history = 2,
         .t = 1,
         .h = 5,
         .w = 4,
         .ci = 3,
         .co = 96,
         SAME3,
         .bias = true,
         .x_f32 = true,
         .history_f32 = true},
        {.history = 2, .t = 1, .h = 5, .w = 4, .ci = 8, .co = 8, SAME3, .x_f32 = true},
        {.history = 2, .t = 1, .h = 5, .w = 4, .ci = 8, .co = 8, SAME3, .history_f32 = true},
        {.t = 2,
         .h = 3,
         .w = 5,
         .ci = 16,
         .co = 16,
         POINT,
         .bias = true,
         .x_f32 = true,
         .y_f32 = true,
         .residual = true,
         .in_place = true},
    };

    check_all(g, ARRAY_LEN(g), act);
}

CUDA_TEST(conv3d_may_add_to_its_own_output)
{
    static const struct geometry g[] = {
        {.t = 3,
         .h = 6,
         .w = 7,
         .ci = 24,
         .co = 24,
         SAME3,
         .bias = true,
         .residual = true,
         .in_place = true},
        {.t = 1,
         .h = 6,
         .w = 18,
         .ci = 3,
         .co = 35,
         SAME1,
         .bias = true,
         .residual = true,
         .in_place = true},
    };

    check_all(g, ARRAY_LEN(g), act);
}

/* An infinity must not pass for a number, and a NaN not for the bound. */
CUDA_TEST(conv3d_clamps_to_nan)
{
    static const struct geometry g = {
        .t = 1, .h = 3, .w = 20, .ci = 8, .co = 5, POINT, .clamp = true, .bias = true};
    float x[3 * 20 * 8];
    struct problem pr;
    const float *y;

    test_fill(x, ARRAY_LEN(x), 7);
    x[56] = INFINITY;   /* of pixel 7 */
    x[155] = -INFINITY; /* 19 */
    x[335] = NAN;       /* 41 */
    pr = problem_of(&g, act);
    pr.x = cuda_pair_from(act, x, CUDA_DIMS(1, 3, 20, 8));
    cuda_test_run(run, &pr);
    cuda_pair_expect(&pr.y, act == DTYPE_BF16 ? 4e-3 : 1e-5);
    y = cuda_pair_download(&pr.y);
    for (int64_t i = 0; i < 60; i++) {
        EXPECT((isnan(y[i * 5 + 4]) != 0) == (i == 7 || i == 19 || i == 41));
    }
}

/* The whole, and the same frames one at a time. */
struct cutting {
    struct geometry g;
    struct cuda_pair all, old, w, bias;
    struct cuda_pair whole, pieces, sliding;
};

static void run_cuts(struct device *dev, void *ctx, int side)
{
    const struct cutting *c = ctx;
    const struct tensor *all = &c->all.on[side];
    struct conv3d_params p = {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1};

    p.bias = &c->bias.on[side];
    EXPECT_OK(op_conv3d(dev, &c->whole.on[side], all, &c->w.on[side], &p, &err));
    for (int64_t t = 0; t < c->whole.on[side].dim[0]; t++) {
        const struct tensor history = tensor_slice(&c->old.on[side], t, 2);
        const struct tensor now = tensor_slice(all, t + 2, 1);
        const struct tensor three = tensor_slice(all, t, 3);
        const struct tensor piece = tensor_slice(&c->pieces.on[side], t, 1);
        const struct tensor slid = tensor_slice(&c->sliding.on[side], t, 1);

        p.history = &history;
        EXPECT_OK(op_conv3d(dev, &piece, &now, &c->w.on[side], &p, &err));
        p.history = NULL;
        EXPECT_OK(op_conv3d(dev, &slid, &three, &c->w.on[side], &p, &err));
    }
}

static void check_cuts(int64_t ci, int64_t co, enum dtype act, enum dtype x_type)
{
    enum {
        T = 5,
        H = 9,
        W = 19
    };
    struct cutting c = {0};
    const float *whole;
    size_t bytes;

    c.all = cuda_pair_random(x_type, 1, 1.0, CUDA_DIMS(T, H, W, ci));
    c.old = cuda_pair_random(act, 1, 1.0, CUDA_DIMS(T, H, W, ci)); /* as a cache keeps them */
    c.w = cuda_pair_random(act, 3, 1.0, CUDA_DIMS(co, 3, 3, 3, ci));
    c.bias = cuda_pair_random(DTYPE_F32, 4, 1.0, CUDA_DIMS(co));
    c.whole = cuda_pair_output(act, CUDA_DIMS(T - 2, H, W, co));
    c.pieces = cuda_pair_output(act, CUDA_DIMS(T - 2, H, W, co));
    c.sliding = cuda_pair_output(act, CUDA_DIMS(T - 2, H, W, co));
    cuda_test_run(run_cuts, &c);
    cuda_pair_expect(&c.whole, act == DTYPE_BF16 ? 4e-3 : 1e-5);
    whole = cuda_pair_download(&c.whole);
    bytes = (size_t)tensor_count(&c.whole.on[CUDA_CPU]) * sizeof(float);
    EXPECT(memcmp(whole, cuda_pair_download(&c.pieces), bytes) == 0);
    EXPECT(memcmp(whole, cuda_pair_download(&c.sliding), bytes) == 0);
}

CUDA_TEST(conv3d_gives_a_frame_the_same_bits_however_frames_are_cut)
{
    check_cuts(40, 12, act, act);
    check_cuts(5, 12, act, act);
    check_cuts(3, 6, act, DTYPE_F32);
}

CUDA_TEST(conv3d_refuses_types_that_do_not_go_together)
{
    static const struct geometry g = {
        .t = 1, .h = 2, .w = 3, .ci = 8, .co = 4, POINT, .residual = true};
    struct problem pr = problem_of(&g, act);
    struct device *dev = cuda_test_device(CUDA_GPU);
    const struct conv3d_params p = params_of(&pr, CUDA_GPU);
    const struct conv3d_params plain = {0};
    struct tensor w = pr.w.on[CUDA_GPU];
    struct tensor y = pr.y.on[CUDA_GPU];

    if (act == DTYPE_F32) {
        y.dtype = DTYPE_BF16;
        EXPECT_INT(op_conv3d(dev, &y, &pr.x.on[CUDA_GPU], &w, &plain, &err), ERR_INVALID);
        return;
    }
    y.dtype = DTYPE_F32;
    EXPECT_INT(op_conv3d(dev, &y, &pr.x.on[CUDA_GPU], &w, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "residual is BF16");
    w.dtype = DTYPE_F32;
    EXPECT_INT(op_conv3d(dev, &y, &pr.x.on[CUDA_GPU], &w, &plain, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "w is F32");
}
