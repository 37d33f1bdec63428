#include "kernels/space_time.h"

#include "tests/support/cuda_test.h"

/* A grid of t x h x w cells of st x sh x sw pixels with c channels; `add` has ca. */
struct cells {
    int64_t t, h, w, c, ca;
    struct space_time_params p;
};

struct folding {
    struct cuda_pair y, x, add;
    struct space_time_params p;
    bool has_add;
};

static struct err err;

static struct space_time_params params_of(const struct folding *s, int side)
{
    struct space_time_params p = s->p;

    p.add = s->has_add ? &s->add.on[side] : NULL;
    return p;
}

static void run_split(struct device *dev, void *ctx, int side)
{
    const struct folding *s = ctx;
    const struct space_time_params p = params_of(s, side);

    EXPECT_OK(op_space_time_split(dev, &s->y.on[side], &s->x.on[side], &p, &err));
}

static void run_merge(struct device *dev, void *ctx, int side)
{
    const struct folding *s = ctx;
    const struct space_time_params p = params_of(s, side);

    EXPECT_OK(op_space_time_merge(dev, &s->y.on[side], &s->x.on[side], &p, &err));
}

static void run_interleave(struct device *dev, void *ctx, int side)
{
    const struct folding *s = ctx;

    EXPECT_OK(op_frame_interleave(dev, &s->y.on[side], &s->x.on[side], &err));
}

/* Copies are exact where nothing is added and no type changes. */
static double tolerance(const struct folding *s)
{
    return s->y.on[CUDA_GPU].dtype == DTYPE_BF16 ? 4e-3 : 1e-6;
}

static void check_split(const struct cells *g, enum dtype from, enum dtype to)
{
    const int64_t cell = g->p.st * g->p.sh * g->p.sw;
    struct folding s = {
        .x = cuda_pair_random(from, 1, 2.0, CUDA_DIMS(g->t, g->h, g->w, g->c * cell)),
        .y = cuda_pair_output(
            to, CUDA_DIMS(g->t * g->p.st - g->p.drop_frames, g->h * g->p.sh, g->w * g->p.sw, g->c)),
        .p = g->p,
        .has_add = g->ca > 0,
    };

    if (s.has_add) {
        s.add = cuda_pair_random(from, 2, 2.0, CUDA_DIMS(g->t, g->h, g->w, g->ca * cell));
    }
    cuda_test_run(run_split, &s);
    cuda_pair_expect(&s.y, s.has_add || from != to ? tolerance(&s) : 0);
}

CUDA_TEST(space_time_split)
{
    static const struct cells cases[] = {
        {1, 1, 1, 1, 0, {.st = 1, .sh = 1, .sw = 1}},
        {2, 3, 4, 3, 0, {.st = 1, .sh = 4, .sw = 4, .columns_first = true}},
        {2, 3, 2, 3, 0, {.st = 1, .sh = 2, .sw = 4, .columns_first = true}},
        {3, 2, 3, 8, 2, {.st = 2, .sh = 2, .sw = 2, .drop_frames = 1}},
        {2, 2, 5, 4, 4, {.st = 2, .sh = 1, .sw = 1, .drop_frames = 1}},
        {1, 2, 2, 5, 1, {.st = 2, .sh = 3, .sw = 2, .drop_frames = 1}},
        {2, 5, 7, 34, 17, {.st = 1, .sh = 2, .sw = 2}},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_split(&cases[i], act, act);
        check_split(&cases[i], act, DTYPE_F32);
    }
    check_split(&cases[3], DTYPE_F32, act);
}

static void check_merge(const struct cells *g, enum dtype from, enum dtype to)
{
    const struct space_time_params *p = &g->p;
    const int64_t cell = p->st * p->sh * p->sw;
    struct folding s = {
        .x = cuda_pair_random(from, 1, 2.0,
                              CUDA_DIMS(g->t * p->st, g->h * p->sh, g->w * p->sw, g->c)),
        .y = cuda_pair_output(to, CUDA_DIMS(g->t, g->h, g->w, g->c * cell)),
        .p = *p,
        .has_add = g->ca > 0,
    };

    if (s.has_add) {
        s.add = cuda_pair_random(
            from, 2, 2.0,
            CUDA_DIMS(g->t * p->st - p->lead_frames, g->h * p->sh, g->w * p->sw, g->ca));
    }
    cuda_test_run(run_merge, &s);
    cuda_pair_expect(&s.y, s.has_add || from != to ? tolerance(&s) : 0);
}

CUDA_TEST(space_time_merge)
{
    static const struct cells cases[] = {
        {1, 1, 1, 1, 0, {.st = 1, .sh = 1, .sw = 1}},
        {2, 3, 4, 3, 0, {.st = 1, .sh = 4, .sw = 4, .columns_first = true}},
        {2, 3, 2, 3, 0, {.st = 1, .sh = 2, .sw = 4, .columns_first = true}},
        {3, 2, 3, 2, 8, {.st = 2, .sh = 2, .sw = 2, .lead_frames = 1}},
        {2, 2, 3, 4, 4, {.st = 2, .sh = 1, .sw = 1, .lead_frames = 1}},
        {1, 2, 2, 5, 5, {.st = 2, .sh = 3, .sw = 2, .lead_frames = 1}},
        {2, 5, 7, 17, 34, {.st = 1, .sh = 2, .sw = 2}},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_merge(&cases[i], act, act);
        check_merge(&cases[i], DTYPE_F32, act);
    }
    check_merge(&cases[3], act, DTYPE_F32);
}

static void check_interleave(enum dtype act, int64_t t, int64_t h, int64_t w, int64_t c)
{
    struct folding s = {
        .x = cuda_pair_random(act, 1, 1.0, CUDA_DIMS(t, h, w, 2 * c)),
        .y = cuda_pair_output(act, CUDA_DIMS(2 * t, h, w, c)),
    };

    cuda_test_run(run_interleave, &s);
    cuda_pair_expect(&s.y, 0);
}

CUDA_TEST(frame_interleave)
{
    check_interleave(act, 1, 1, 1, 1);
    check_interleave(act, 2, 3, 5, 3);
    check_interleave(act, 1, 2, 3, 4);
    check_interleave(act, 3, 5, 7, 48);
    check_interleave(act, 2, 9, 11, 6);
}
