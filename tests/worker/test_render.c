#include "worker/render.h"

#include <pthread.h>
#include <string.h>

#include "tests/support/renders.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

static int render_video(const char *model, const struct render_options *options,
                        struct render_watch *w, struct err *err)
{
    struct video_bed b;
    int rc;

    video_bed_open(&b, model, 2);
    rc = render_bed_run(&b, options, w, err);
    video_bed_close(&b);
    return rc;
}

TEST(render_gives_init_and_one_fragment_per_block)
{
    const struct render_options options = render_options_of(90);
    struct render_watch w;
    struct err err;

    render_watch_init(&w);
    EXPECT_OK(render_video(RENDER_LONG, &options, &w, &err));
    EXPECT_INT(w.parts, 3); /* 24 latent frames: blocks of 14 and 10 */
    EXPECT_INT(w.blocks, 2);
    EXPECT_INT(w.last.index, 1);
    EXPECT_INT(w.last.first_picture + w.last.n_pictures, 90);
    EXPECT(w.last.bytes > 100);
    EXPECT(!w.block_on_engine && !w.step_elsewhere && !w.progress_fell);
    EXPECT(w.fraction > 0.99 && w.fraction <= 1.0);
    render_watch_done(&w);
}

TEST(render_puts_prompt_and_settings_into_the_file)
{
    const struct render_options options = render_options_of(5);
    struct render_watch w;
    struct err err;

    render_watch_init(&w);
    EXPECT_OK(render_video(RENDER_LONG, &options, &w, &err));
    EXPECT(memmem(w.file.data, w.file.len, "a ship \"at\" sea", 15));
    EXPECT(memmem(w.file.data, w.file.len, "\"seed\":3,", 9));
    EXPECT(memmem(w.file.data, w.file.len, "sanad " SANAD_VERSION, 7));
    render_watch_done(&w);
}

TEST(render_twice_gives_the_same_bytes)
{
    const struct render_options options = render_options_of(50);
    struct render_watch a;
    struct render_watch b;
    struct err err;

    render_watch_init(&a);
    render_watch_init(&b);
    EXPECT_OK(render_video(RENDER_LONG, &options, &a, &err));
    EXPECT_OK(render_video(RENDER_LONG, &options, &b, &err));
    EXPECT_INT(a.file.len, b.file.len);
    EXPECT(memcmp(a.file.data, b.file.data, a.file.len) == 0);
    render_watch_done(&a);
    render_watch_done(&b);
}

TEST(render_passes_the_sinks_error_on)
{
    struct render_options options = render_options_of(200);
    struct render_watch w;
    struct err err;

    for (int part = 1; part <= 3; part++) {
        render_watch_init(&w);
        w.fail_at_part = part;
        EXPECT_INT(render_video(RENDER_LONG, &options, &w, &err), ERR_NO_SPACE);
        EXPECT_STR(err.msg, "the disk of the test is full");
        EXPECT_INT(w.parts, part);
        EXPECT_INT(w.blocks, part > 1 ? part - 2 : 0);
        render_watch_done(&w);
    }
}

TEST(render_cancelled_keeps_whole_fragments)
{
    const struct render_options options = render_options_of(300);
    struct render_watch w;
    struct err err;

    render_watch_init(&w);
    w.cancel_at_step = 25; /* in the second block: 1 text, 4 steps and 14 pictures before it */
    EXPECT_INT(render_video(RENDER_LONG, &options, &w, &err), ERR_CANCELLED);
    EXPECT_INT(w.parts, 2);
    EXPECT_INT(w.blocks, 1);
    EXPECT_INT(w.steps, 25);
    render_watch_done(&w);
}

TEST(render_names_a_missing_image)
{
    struct render_options options = render_options_of(9);
    struct render_watch w;
    struct err err;

    render_watch_init(&w);
    options.image_path = "tests/no-such-picture.png";
    EXPECT_INT(render_video(RENDER_LONG, &options, &w, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "no-such-picture.png");
    EXPECT_INT(w.parts, 0);
    render_watch_done(&w);
}

TEST(render_counts_seconds_of_each_kind)
{
    struct render_options options = render_options_for(RENDER_CLIP);
    struct video_bed b;
    struct render_watch w;

    options.image_path = render_write_picture();
    render_bed_open(&b, RENDER_CLIP);
    render_make_whole(&w, &b, &options);
    EXPECT(w.times.text > 0 && w.times.image > 0 && w.times.denoise > 0);
    EXPECT(w.times.decode > 0 && w.times.encode > 0 && w.times.cache == 0);
    EXPECT(w.last.seconds > 0);
    render_watch_done(&w);
    video_bed_close(&b);
}

/* ---- planning ---- */

TEST(render_plan_has_the_very_init_segment)
{
    static const double rates[] = {0, 24, 29.97};

    for (int m = 0; m < 2; m++) {
        struct render_options options = render_options_for(m ? RENDER_CLIP : RENDER_LONG);
        struct video_bed b;

        render_bed_open(&b, m ? RENDER_CLIP : RENDER_LONG);
        options.image_path = m ? render_write_picture() : NULL;
        for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
            struct render_plan plan;
            struct render_watch w;
            struct err err;

            options.fps = rates[i];
            EXPECT_OK(render_plan(b.model, &options, &plan, &err));
            EXPECT(plan.fps == (i == 0 ? 16 : rates[i]));
            EXPECT_INT(plan.generated_frames, 25);
            EXPECT_INT(plan.settings.frames, RENDERS_FRAMES);
            EXPECT_INT(plan.settings.blocks, RENDERS_BLOCKS);
            EXPECT(plan.settings.image == (m == 1));
            render_watch_init(&w);
            EXPECT_OK(render_bed_run(&b, &options, &w, &err));
            EXPECT_INT(plan.init.len, w.end[0]);
            EXPECT(memcmp(plan.init.data, w.file.data, w.end[0]) == 0);
            render_watch_done(&w);
            render_plan_done(&plan);
        }
        video_bed_close(&b);
    }
}

TEST(render_plays_at_the_rate_that_was_asked)
{
    struct render_options options = render_options_of(24);
    struct video_check check;
    struct render_watch w;
    struct err err;

    options.fps = 12;
    render_watch_init(&w);
    EXPECT_OK(render_video(RENDER_LONG, &options, &w, &err));
    video_check_decode(&check, (const uint8_t *)w.file.data, w.file.len, 0);
    EXPECT_INT(check.n_frames, 24);
    EXPECT(check.duration > 1.999 && check.duration < 2.001);
    render_watch_done(&w);
}

TEST(render_plan_refuses_what_open_refuses)
{
    static const double rates[] = {-1, 0.5, 241, 1e300, -0.0 / 0.0};
    struct render_options options = render_options_of(9);
    struct render_plan plan;
    struct video_bed b;
    struct err err;

    video_bed_open(&b, RENDER_LONG, 1);
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        options.fps = rates[i];
        render_expect_refused(&b, &options, ERR_INVALID, "fps: ");
        EXPECT_INT(render_plan(b.model, &options, &plan, &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "fps: ");
    }
    options.fps = 0;
    options.request.frames = -1;
    EXPECT_INT(render_plan(b.model, &options, &plan, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "frames: ");
    options.request.frames = 9;
    options.crf = 52;
    EXPECT_INT(render_plan(b.model, &options, &plan, &err), ERR_INVALID);
    video_bed_close(&b);
}

struct planner {
    const struct model *model;
    struct render_options options;
    struct str want;
    atomic_bool stop;
    int done;
    bool failed;
};

static void *plan_on_and_on(void *ctx)
{
    struct planner *p = ctx;

    do {
        struct render_plan plan;
        struct err err;
        const bool ok = render_plan(p->model, &p->options, &plan, &err) == ERR_OK;

        p->failed = p->failed || !ok || plan.init.len != p->want.len ||
                    memcmp(plan.init.data, p->want.data, p->want.len) != 0;
        if (ok) {
            render_plan_done(&plan);
        }
        p->done++;
    } while (!atomic_load(&p->stop));
    return NULL;
}

TEST(render_plan_runs_beside_a_rendering)
{
    const struct render_options own = render_options_for(RENDER_LONG);
    struct planner p = {.options = render_options_of(90)};
    struct render_plan quiet;
    struct video_bed b;
    struct render_watch whole;
    struct render_watch w;
    pthread_t thread;
    struct err err;

    render_bed_open(&b, RENDER_LONG);
    render_make_whole(&whole, &b, &own);
    EXPECT_OK(render_plan(b.model, &p.options, &quiet, &err));
    p.model = b.model;
    p.want = quiet.init;
    EXPECT(pthread_create(&thread, NULL, plan_on_and_on, &p) == 0);
    render_watch_init(&w);
    EXPECT_OK(render_bed_run(&b, &own, &w, &err));
    atomic_store(&p.stop, true);
    pthread_join(thread, NULL);
    EXPECT(p.done > 0 && !p.failed);
    render_expect_rest(&w, &whole, 0);
    render_watch_done(&w);
    render_watch_done(&whole);
    render_plan_done(&quiet);
    video_bed_close(&b);
}

/* ---- allocation failures ---- */

/* Every allocation of our own fails once: in a short video, and in the rest of one. */
TEST(render_survives_every_failed_allocation)
{
    struct render_options options = render_options_of(1);
    struct video_bed b;

    video_bed_open(&b, RENDER_LONG, 1);
    render_check_allocations(&b, &options);
    video_bed_close(&b);
}
