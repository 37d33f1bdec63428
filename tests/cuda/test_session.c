/*
 * Whole videos on the plugin's device: the CPU's pictures, the same bytes each time, and all that can go
 * wrong or be interrupted while the next block is already being made.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session_internal.h"
#include "kernels/elementwise.h"
#include "tests/support/originals.h"
#include "tests/support/test.h"

static const struct device_cuda_options F32 = {
    .f32 = true, .frugal = DEVICE_FRUGAL_NO, .deterministic = true};
static const struct device_cuda_options BF16 = {.frugal = DEVICE_FRUGAL_NO, .deterministic = true};

/* Two denoising steps, blocks of one latent frame. */
static void small(struct video_bed *b, struct session_request *r, int64_t frames)
{
    b->model->dir->defaults.block_latent_frames = 1;
    b->model->dir->defaults.renoise[1] = 727;
    b->model->dir->defaults.n_renoise = 2;
    *r = video_request(b, frames);
}

/* Mean absolute difference of two videos' bytes, in levels. */
static double difference(const struct video *a, const struct video *b)
{
    const size_t n = (size_t)a->delivered * a->picture_bytes;
    double sum = 0;

    EXPECT_INT(a->delivered, b->delivered);
    for (size_t i = 0; i < n; i++) {
        sum += fabs((double)a->pictures[i] - (double)b->pictures[i]);
    }
    return sum / (double)n;
}

static void check_model(const char *model, const struct device_cuda_options *options,
                        int64_t frames, double limit)
{
    struct session_request r;
    struct video_bed cpu;
    struct video_bed gpu;
    struct video a;
    struct video b;
    double distance;

    video_bed_open(&cpu, model, 1);
    video_bed_open_cuda(&gpu, model, options);
    if (cpu.model->dir->family == FAMILY_LONGSANA) {
        small(&cpu, &r, frames);
        small(&gpu, &r, frames);
    } else {
        r = video_request(&cpu, frames);
    }
    video_make(&a, &cpu, &r);
    video_make(&b, &gpu, &r);
    EXPECT(!b.out_of_order && !b.fell);
    EXPECT_INT(b.delivered, frames);
    distance = difference(&a, &b);
    if (!(distance <= limit)) {
        test_fail(__FILE__, __LINE__, "%s: %.3f levels off, at most %.3f", model, distance, limit);
    }
    video_close(&a);
    video_close(&b);
    video_bed_close(&cpu);
    video_bed_close(&gpu);
}

TEST(session_makes_the_cpus_pictures_block_by_block)
{
    check_model("tiny-long", &F32, 9, 0.05);
    check_model("tiny-long", &BF16, 9, 4);
}

TEST(session_makes_the_cpus_pictures_of_a_clip)
{
    check_model("tiny-480p", &F32, 5, 0.05);
    check_model("tiny-720p", &F32, 9, 0.05);
}

/* The next block is made while a block's pictures leave; snapshots are taken in the middle of that. */
TEST(session_continues_with_the_same_bytes)
{
    struct session_request r;
    struct video_bed b;
    struct original o;

    video_bed_open_cuda(&b, "tiny-long", &BF16);
    small(&b, &r, 9);
    original_make(&o, &b, &r);
    EXPECT_INT(o.blocks, 3);
    EXPECT(o.video.session->overlaps);
    original_check_replay(&o, 2);
    original_check_restore(&o, 1, session_block(o.video.session, 0).first);
    original_check_restore(&o, 2, session_block(o.video.session, 1).first);
    original_done(&o);
    video_bed_close(&b);
}

TEST(session_continues_a_guided_clip_with_the_same_bytes)
{
    struct session_request r;
    struct video_bed b;
    struct original o;

    video_bed_open_cuda(&b, "tiny-480p", &BF16);
    r = video_request(&b, 5);
    r.guidance_scale = 3;
    original_make(&o, &b, &r);
    original_check_step(&o, 1);
    original_done(&o);
    video_bed_close(&b);
}

struct told {
    double fraction[8]; /* of each solver step; 0: not told */
    struct str snapshot;
};

static void note_step(struct video *v, const struct session_progress *p)
{
    struct told *t = v->ctx;

    if (p->phase == SESSION_DENOISE) {
        t->fraction[p->step] = p->fraction;
        if (p->step == 1) {
            original_save(v->session, &t->snapshot);
        }
    }
}

/* A step that was done when the snapshot was taken does not count again. */
TEST(session_that_continues_a_clip_tells_the_same_progress)
{
    struct session_request r;
    struct video_bed b;
    struct video v[2];
    struct told told[2] = {0};
    struct err err;

    video_bed_open_cuda(&b, "tiny-480p", &BF16);
    r = video_request(&b, 5);
    r.steps = 4;
    for (int i = 0; i < 2; i++) {
        video_open(&v[i], &b, &r);
        v[i].ctx = &told[i];
        v[i].on_progress = note_step;
        if (i == 1) {
            EXPECT_OK(session_restore(v[1].session, told[0].snapshot.data, told[0].snapshot.len,
                                      NULL, 0, &err));
        }
        video_run(&v[i]);
    }
    EXPECT(told[1].fraction[1] == 0);
    for (int i = 2; i <= 4; i++) {
        EXPECT(told[0].fraction[i] > 0);
        EXPECT(told[1].fraction[i] == 0 || fabs(told[1].fraction[i] - told[0].fraction[i]) < 1e-9);
    }
    EXPECT(told[1].fraction[4] > 0);
    str_done(&told[0].snapshot);
    video_close(&v[0]);
    video_close(&v[1]);
    video_bed_close(&b);
}

/* A solver with more steps than are issued ahead: each block waits for the one before. */
TEST(session_with_many_steps_does_not_overlap)
{
    struct session_request r;
    struct video_bed cpu;
    struct video_bed gpu;
    struct video a;
    struct video b;

    video_bed_open(&cpu, "tiny-long", 1);
    video_bed_open_cuda(&gpu, "tiny-long", &F32);
    small(&cpu, &r, 9);
    small(&gpu, &r, 9);
    cpu.model->dir->defaults.sampler = gpu.model->dir->defaults.sampler = SAMPLER_EULER;
    r.steps = SESSION_AHEAD_STEPS + 1;
    video_make(&a, &cpu, &r);
    video_make(&b, &gpu, &r);
    EXPECT(!b.session->overlaps);
    EXPECT(difference(&a, &b) <= 0.05);
    video_close(&a);
    video_close(&b);
    video_bed_close(&cpu);
    video_bed_close(&gpu);
}

static int bad_noise(void *ctx, int64_t first, int step, const struct tensor *y, struct err *err)
{
    struct video_bed *b = ctx;

    (void)step;
    return op_fill(&b->dev, y, first >= 1 ? NAN : 0.5F, err);
}

TEST(session_says_where_numbers_went_wrong)
{
    struct session_request r;
    struct geometry_block block;
    struct video_bed b;
    struct video v;
    struct err err = {0};
    int rc = ERR_OK;

    video_bed_open_cuda(&b, "tiny-long", &BF16);
    small(&b, &r, 9);
    video_open(&v, &b, &r);
    session_set_hooks(v.session, &(const struct session_hooks){.ctx = &b, .noise = bad_noise});
    while (rc == ERR_OK && !session_finished(v.session)) {
        rc = session_next_block(v.session, &block, &err);
    }
    EXPECT_INT(rc, ERR_NUMERIC);
    EXPECT_CONTAINS(err.msg, "the transformer in block 2, step 1 of 2");
    video_close(&v);
    video_bed_close(&b);
}

/* What a session leaves unsaid, because it ended otherwise, is not the next one's. */
TEST(session_does_not_hear_of_another_ones_numbers)
{
    struct session_request r;
    struct geometry_block block;
    struct video_bed b;
    struct video v;
    struct err err = {0};

    video_bed_open_cuda(&b, "tiny-long", &BF16);
    small(&b, &r, 9);
    video_open(&v, &b, &r);
    session_set_hooks(v.session, &(const struct session_hooks){.ctx = &b, .noise = bad_noise});
    v.refuse = 0; /* block 2 is in the making by then */
    EXPECT_INT(session_next_block(v.session, &block, &err), ERR_NO_SPACE);
    video_close(&v);
    video_make(&v, &b, &r);
    EXPECT_INT(v.delivered, 9);
    video_close(&v);
    video_bed_close(&b);
}

TEST(session_stops_when_it_is_cancelled)
{
    struct session_request r;
    struct geometry_block block;
    struct video_bed b;
    struct video v;
    struct err err = {0};

    video_bed_open_cuda(&b, "tiny-long", &BF16);
    small(&b, &r, 9);
    video_open(&v, &b, &r);
    EXPECT_OK(session_next_block(v.session, &block, &err));
    atomic_store(&v.cancel, true);
    EXPECT_INT(session_next_block(v.session, &block, &err), ERR_CANCELLED);
    video_close(&v);
    video_make(&v, &b, &r); /* the device is as good as before */
    EXPECT_INT(v.delivered, 9);
    video_close(&v);
    video_bed_close(&b);
}

/* The text encoder's matrices stay on the host: the same numbers, less device memory. */
TEST(session_on_a_frugal_device_makes_the_same_pictures)
{
    struct device_cuda_options frugal = BF16;
    struct device_memory held[2];
    struct session_request r;
    struct video_bed b[2];
    struct video v[2];

    frugal.frugal = DEVICE_FRUGAL_YES;
    for (int i = 0; i < 2; i++) {
        video_bed_open_cuda(&b[i], "tiny-long", i ? &frugal : &BF16);
        small(&b[i], &r, 9);
        device_memory(&b[i].dev, &held[i]);
        video_make(&v[i], &b[i], &r);
    }
    EXPECT(video_same(&v[0], &v[1], 0, 9));
    EXPECT(held[1].used < held[0].used);
    for (int i = 0; i < 2; i++) {
        video_close(&v[i]);
        video_bed_close(&b[i]);
    }
}

/* A minute needs what five seconds need. */
TEST(session_memory_does_not_grow_with_the_video)
{
    struct session_request r;
    struct video_bed b;
    struct video v;
    size_t bytes[2];

    video_bed_open_cuda(&b, "tiny-long", &BF16);
    for (int i = 0; i < 2; i++) {
        small(&b, &r, i ? 961 : 81);
        video_open(&v, &b, &r);
        bytes[i] = session_memory(v.session);
        video_close(&v);
    }
    EXPECT_INT(bytes[1], bytes[0]);
    video_bed_close(&b);
}

/* Enough for one block after the other, not for two at once. */
TEST(session_that_cannot_overlap_makes_the_same_pictures)
{
    struct session_request r;
    struct video_bed b;
    struct video v[2];

    video_bed_open_cuda(&b, "tiny-long", &BF16);
    small(&b, &r, 9);
    video_make(&v[0], &b, &r);
    EXPECT(v[0].session->overlaps);
    r.memory_limit = session_memory(v[0].session) - 1;
    video_make(&v[1], &b, &r);
    EXPECT(!v[1].session->overlaps);
    EXPECT(session_memory(v[1].session) < session_memory(v[0].session));
    EXPECT(video_same(&v[0], &v[1], 0, 9));
    video_close(&v[0]);
    video_close(&v[1]);
    video_bed_close(&b);
}

TEST(session_over_the_limit_is_refused_with_the_bytes_it_needs)
{
    struct session_request r;
    struct video_bed b;

    video_bed_open_cuda(&b, "tiny-long", &BF16);
    small(&b, &r, 9);
    r.memory_limit = 1 << 16;
    video_refused(&b, &r, ERR_NO_VRAM, "MiB of working memory");
    video_bed_close(&b);
}
