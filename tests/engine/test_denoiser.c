#include "engine/denoiser.h"

#include <stdlib.h>
#include <string.h>

#include "engine/model_dir.h"
#include "kernels/elementwise.h"
#include "tests/support/test.h"

enum {
    T = 3,
    H = 4,
    W = 4, /* latent cells: 2 x 2 tokens a frame */
    STEPS = 3,
    BEFORE = 2, /* frames of the block before */
    POSITIVE = 0,
    NEGATIVE = 1
};

/* The tiny LongSANA's transformer, two prompts, and what a block before left with each. */
struct bed {
    struct device dev;
    struct model_dir *dir;
    struct transformer *tf;
    struct workspace ws;
    int64_t channels;
    struct transformer_text text[2];
    struct transformer_state state[2];
    struct tensor x, want;
    struct denoiser denoiser;
    /* what a test asks for */
    float guidance; /* above 1: with the negative prompt */
    bool with_history, keep_first;
    struct sampler_schedule schedule;
};

static void fill(struct bed *b, const struct tensor *t, uint64_t seed)
{
    if (!b->dev.dry_run) {
        test_fill(t->data, tensor_count(t), seed);
    }
}

static void make_prompt(struct bed *b, int which)
{
    struct tensor embeds;
    struct tensor before;
    struct err err;

    EXPECT_OK(
        WORKSPACE_F32(&b->ws, &embeds, &err, 4 + which, b->dir->transformer.caption_channels));
    fill(b, &embeds, 10 + (uint64_t)which);
    EXPECT_OK(transformer_encode_text(b->tf, &b->ws, &embeds, &b->text[which], &err));
    EXPECT_OK(transformer_state_alloc(b->tf, &b->ws, (int64_t)H * W / 4, &b->state[which], &err));
    EXPECT_OK(WORKSPACE_F32(&b->ws, &before, &err, BEFORE, H, W, b->channels));
    fill(b, &before, 20); /* the same latents, seen with either prompt */
    EXPECT_OK(denoiser_save_state(b->tf, &b->ws, &before, &b->text[which], NULL, &b->state[which],
                                  0, &err));
}

static struct denoiser_input input_of(struct bed *b)
{
    const bool guided = b->guidance > 1;

    return (struct denoiser_input){
        .text = {&b->text[POSITIVE], guided ? &b->text[NEGATIVE] : NULL},
        .history = {b->with_history ? &b->state[POSITIVE] : NULL,
                    b->with_history && guided ? &b->state[NEGATIVE] : NULL},
        .guidance_scale = b->guidance,
        .first_frame = b->with_history ? BEFORE : 0,
        .keep_first = b->keep_first,
    };
}

/* One velocity by hand: one prompt, one call. */
static void velocity(struct bed *b, int which, const struct tensor *v, float t)
{
    const struct denoiser_input in = input_of(b);
    const struct transformer_item item = {
        .x = &b->want, .v = v, .text = in.text[which], .history = in.history[which]};
    const float times[T] = {b->keep_first ? 0 : t, t, t};
    const struct transformer_call call = {
        .n_items = 1, .items = &item, .timesteps = times, .first_frame = in.first_frame};
    struct err err;

    EXPECT_OK(transformer_forward(b->tf, &b->ws, &call, &err));
}

/* Euler's step on b->want, written out. */
static void step_by_hand(struct bed *b, int k)
{
    const size_t mark = workspace_mark(&b->ws);
    const int64_t n = tensor_count(&b->want);
    const int64_t kept = b->keep_first ? n / T : 0;
    struct tensor v[2];
    struct err err;
    float *x = b->want.data;

    for (int i = 0; i < 2; i++) {
        EXPECT_OK(WORKSPACE_F32(&b->ws, &v[i], &err, T, H, W, b->channels));
        if (i == POSITIVE || b->guidance > 1) {
            velocity(b, i, &v[i], b->schedule.timestep[k]);
        }
    }
    for (int64_t i = kept; i < n && !b->dev.dry_run; i++) {
        const double c = (double)((float *)v[POSITIVE].data)[i];
        const double u = b->guidance > 1 ? (double)((float *)v[NEGATIVE].data)[i] : c;
        const double guided = b->guidance > 1 ? u + (double)b->guidance * (c - u) : c;

        x[i] = (float)((double)x[i] + (b->schedule.sigma[k + 1] - b->schedule.sigma[k]) * guided);
    }
    workspace_rewind(&b->ws, mark);
}

static void run_once(struct bed *b)
{
    struct denoiser_input in;
    struct err err;

    make_prompt(b, POSITIVE);
    make_prompt(b, NEGATIVE);
    EXPECT_OK(WORKSPACE_F32(&b->ws, &b->x, &err, T, H, W, b->channels));
    EXPECT_OK(WORKSPACE_F32(&b->ws, &b->want, &err, T, H, W, b->channels));
    fill(b, &b->x, 30);
    EXPECT_OK(op_copy(&b->dev, &b->want, &b->x, &err));
    in = input_of(b);
    EXPECT_OK(denoiser_init(&b->denoiser, b->tf, &b->ws, &in, &b->schedule, &b->x, &err));
    for (int k = 0; k < STEPS; k++) {
        EXPECT(!denoiser_finished(&b->denoiser));
        EXPECT_OK(denoiser_step(&b->denoiser, &err));
        step_by_hand(b, k);
    }
    EXPECT(denoiser_finished(&b->denoiser));
}

static void bed_open(struct bed *b)
{
    const struct sampler_options options = {.kind = SAMPLER_EULER, .steps = STEPS, .flow_shift = 8};
    struct err err;

    *b = (struct bed){.guidance = 1};
    EXPECT_OK(device_open_cpu(&b->dev, 1, &err));
    EXPECT_OK(model_dir_open(&b->dir, "tests/golden/tiny-long", &err));
    EXPECT_OK(
        transformer_open(&b->tf, &b->dir->transformer, b->dir->transformer_weights, &b->dev, &err));
    EXPECT_OK(sampler_schedule_init(&b->schedule, &options, &err));
    b->channels = b->dir->transformer.in_channels;
    workspace_init(&b->ws, &b->dev);
}

static void bed_close(struct bed *b)
{
    workspace_done(&b->ws);
    transformer_close(b->tf);
    model_dir_close(b->dir);
    device_close(&b->dev);
}

/* The denoiser's x is what the steps by hand give; and the kept frame is untouched. */
static void check(float guidance, bool with_history, bool keep_first)
{
    struct bed b;
    struct err err;
    float *start;

    bed_open(&b);
    b.guidance = guidance;
    b.with_history = with_history;
    b.keep_first = keep_first;
    b.dev.dry_run = true;
    run_once(&b);
    b.dev.dry_run = false;
    EXPECT_OK(workspace_commit(&b.ws, 0, &err));
    run_once(&b);
    EXPECT_CLOSE((float *)b.x.data, (float *)b.want.data, tensor_count(&b.x), 0, 1e-5);
    start = test_alloc(tensor_bytes(&b.x));
    test_fill(start, tensor_count(&b.x), 30);
    EXPECT((memcmp(start, b.x.data, tensor_bytes(&b.x) / T) == 0) == keep_first);
    free(start);
    bed_close(&b);
}

TEST(denoiser_steps_are_those_of_its_parts)
{
    check(1, false, false);
    check(1, true, false);
}

/* Each prompt with its own text and what its own earlier blocks left. */
TEST(denoiser_guidance_keeps_the_prompts_apart)
{
    check(4, false, false);
    check(4, true, false);
}

TEST(denoiser_keeps_the_first_frame)
{
    check(1, false, true);
    check(4, true, true);
}

TEST(denoiser_refuses_lengths_it_cannot_do)
{
    static const int64_t bad[][2] = {{1, true}, {4097, false}, {4097, true}};
    struct bed b;

    bed_open(&b);
    b.dev.dry_run = true;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct denoiser_input in = {.keep_first = bad[i][1] != 0};
        struct err err = {0};

        EXPECT_OK(WORKSPACE_F32(&b.ws, &b.x, &err, bad[i][0], H, W, b.channels));
        EXPECT_INT(denoiser_init(&b.denoiser, b.tf, &b.ws, &in, &b.schedule, &b.x, &err),
                   ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "frames: ");
    }
    b.dev.dry_run = false;
    bed_close(&b);
}
