/*
 * Interrupted and paused renderings: together their fragments are those of the undisturbed one.
 */
#include <string.h>

#include "tests/support/renders.h"
#include "tests/support/test.h"

/* ---- going on ---- */

/* Another rendering of the same options gives the same init segment and blocks first... */
static void check_resumed(struct video_bed *b, const struct render_options *options,
                          const struct render_resume *from, const struct render_watch *whole,
                          int64_t first)
{
    struct render_options again = *options;
    struct render_watch w;
    struct err err;

    again.resume = *from;
    render_watch_init(&w);
    EXPECT_OK(render_bed_run(b, &again, &w, &err));
    render_expect_rest(&w, whole, first);
    EXPECT(!w.paused && !w.progress_fell);
    EXPECT(w.blocks == 0 || w.fraction > 0.999);
    EXPECT(first == 0 || w.blocks == 0 || w.first_fraction > 0.1); /* it goes on, not from 0 */
    render_watch_done(&w);
}

static void check_causal(const struct render_options *options)
{
    struct video_bed b;
    struct render_watch whole;

    render_bed_open(&b, RENDER_LONG);
    render_make_whole(&whole, &b, options);
    EXPECT_INT(whole.states, 0);
    EXPECT_INT(whole.last.n_latents, b.model->dir->vae.latent_channels * 2 * 4 * 6);
    for (int64_t k = 0; k <= RENDERS_BLOCKS; k++) {
        const struct render_resume from = {.blocks = k,
                                           .latents = (const float *)whole.latents.data};

        check_resumed(&b, options, &from, &whole, k);
    }
    render_watch_done(&whole);
    video_bed_close(&b);
}

TEST(render_goes_on_behind_each_block)
{
    const struct render_options options = render_options_for(RENDER_LONG);

    check_causal(&options);
}

/* From any snapshot, whichever blocks are safe; without one the clip is made once more. */
static void check_clip(const struct render_options *options)
{
    struct render_resume from = {0};
    struct video_bed b;
    struct render_watch whole;

    render_bed_open(&b, RENDER_CLIP);
    render_make_whole(&whole, &b, options);
    EXPECT_INT(whole.states, RENDERS_STEPS + 1);
    EXPECT(whole.latents.len == 0 && !whole.last.latents);
    for (from.blocks = 0; from.blocks <= RENDERS_BLOCKS; from.blocks++) {
        const bool all = from.blocks == RENDERS_BLOCKS;

        from.state = NULL;
        check_resumed(&b, options, &from, &whole, all ? RENDERS_BLOCKS : 0);
        for (int i = 0; i <= RENDERS_STEPS; i++) {
            from.state = whole.state[i].data;
            from.state_bytes = whole.state[i].len;
            check_resumed(&b, options, &from, &whole, all || i == RENDERS_STEPS ? from.blocks : 0);
        }
    }
    render_watch_done(&whole);
    video_bed_close(&b);
}

TEST(render_goes_on_from_each_snapshot)
{
    const struct render_options options = render_options_for(RENDER_CLIP);

    check_clip(&options);
}

TEST(render_goes_on_behind_an_image)
{
    struct render_options options = render_options_for(RENDER_LONG);

    options.image_path = render_write_picture();
    check_causal(&options);
    options = render_options_for(RENDER_CLIP);
    options.image_path = render_write_picture();
    check_clip(&options);
}

TEST(render_gives_no_snapshots_without_an_interval)
{
    const struct render_options options = render_options_for(RENDER_CLIP);
    struct video_bed b;
    struct render_watch whole;
    struct render_watch w;
    struct err err;

    render_bed_open(&b, RENDER_CLIP);
    render_make_whole(&whole, &b, &options);
    render_watch_init(&w);
    w.slowly = true;
    EXPECT_OK(render_bed_run(&b, &options, &w, &err));
    EXPECT_INT(w.states, 0);
    render_expect_rest(&w, &whole, 0);
    render_watch_done(&w);
    render_watch_done(&whole);
    video_bed_close(&b);
}

/* Work that was done before is not done again. */
TEST(render_never_denoises_a_clean_clip)
{
    struct render_options options = render_options_for(RENDER_CLIP);
    struct video_bed b;
    struct render_watch whole;
    struct render_watch w;
    struct err err;

    render_bed_open(&b, RENDER_CLIP);
    render_make_whole(&whole, &b, &options);
    EXPECT_INT(whole.denoised, RENDERS_STEPS);
    for (int i = 0; i <= RENDERS_STEPS; i++) {
        options.resume =
            (struct render_resume){.state = whole.state[i].data, .state_bytes = whole.state[i].len};
        render_watch_init(&w);
        EXPECT_OK(render_bed_run(&b, &options, &w, &err));
        EXPECT_INT(w.denoised, i < RENDERS_STEPS ? RENDERS_STEPS - 1 - i : 0);
        render_watch_done(&w);
    }
    render_watch_done(&whole);
    video_bed_close(&b);
}

TEST(render_refuses_a_snapshot_of_another_video)
{
    struct render_options options = render_options_for(RENDER_CLIP);
    struct video_bed b;
    struct render_watch whole;

    render_bed_open(&b, RENDER_CLIP);
    render_make_whole(&whole, &b, &options);
    for (int i = 0; i <= RENDERS_STEPS; i++) {
        struct str *state = &whole.state[i];

        options.resume =
            (struct render_resume){.state = state->data, .state_bytes = state->len - 1};
        render_expect_refused(&b, &options, ERR_FORMAT, "snapshot: ");
        options.resume.state_bytes = 10;
        render_expect_refused(&b, &options, ERR_FORMAT, "snapshot: ");
        options.resume.state_bytes = 0;
        render_expect_refused(&b, &options, ERR_FORMAT, "snapshot: ");
        options.resume.state_bytes = state->len;
        options.request.seed++;
        render_expect_refused(&b, &options, ERR_INVALID, "snapshot: made for another request");
        options.request.seed--;
        state->data[state->len / 2] ^= 4;
        render_expect_refused(&b, &options, ERR_FORMAT, "snapshot: its checksum");
    }
    render_watch_done(&whole);
    video_bed_close(&b);
}

TEST(render_refuses_a_place_that_is_none)
{
    const float some = 0;
    struct render_options options = render_options_for(RENDER_LONG);
    struct video_bed b;

    render_bed_open(&b, RENDER_LONG);
    options.resume = (struct render_resume){.blocks = RENDERS_BLOCKS + 1, .latents = &some};
    render_expect_refused(&b, &options, ERR_INVALID, "resume: 4 finished blocks of 3");
    options.resume.blocks = -1;
    render_expect_refused(&b, &options, ERR_INVALID, "resume: ");
    options.resume = (struct render_resume){.blocks = 1};
    render_expect_refused(&b, &options, ERR_INVALID, "resume: no latents");
    options.resume.state = &some;
    render_expect_refused(&b, &options, ERR_INVALID, "resume: ");
    video_bed_close(&b);
    render_bed_open(&b, RENDER_CLIP);
    options = render_options_for(RENDER_CLIP);
    options.resume = (struct render_resume){.blocks = 1, .latents = &some};
    render_expect_refused(&b, &options, ERR_INVALID, "resume: ");
    video_bed_close(&b);
}

TEST(render_can_be_cancelled_while_it_finds_its_place)
{
    struct render_options options = render_options_for(RENDER_LONG);
    struct video_bed b;
    struct render_watch whole;
    struct err err;

    render_bed_open(&b, RENDER_LONG);
    render_make_whole(&whole, &b, &options);
    options.resume =
        (struct render_resume){.blocks = 2, .latents = (const float *)whole.latents.data};
    for (int step = 1; step <= 2; step++) { /* the text, the first block's state */
        struct render_watch w;

        render_watch_init(&w);
        w.cancel_at_step = step;
        EXPECT_INT(render_bed_run(&b, &options, &w, &err), ERR_CANCELLED);
        EXPECT_INT(w.parts, 0);
        EXPECT_INT(w.steps, step);
        render_watch_done(&w);
    }
    render_watch_done(&whole);
    video_bed_close(&b);
}

/* What was safe stays safe when making it again comes to nothing. */
TEST(render_counts_the_blocks_that_were_done_before)
{
    struct render_options options = render_options_for(RENDER_CLIP);
    struct video_bed b;
    struct render_watch w;
    struct err err;

    render_bed_open(&b, RENDER_CLIP);
    options.resume.blocks = 2;
    render_watch_init(&w);
    atomic_store(&w.pause, true);
    EXPECT_OK(render_bed_run(&b, &options, &w, &err));
    EXPECT_INT(w.first_block, 0);
    EXPECT_INT(w.blocks_done, 2);
    render_watch_done(&w);
    video_bed_close(&b);
}

/* ---- pausing ---- */

/* A job as the daemon keeps it: what is safe so far. */
struct job {
    struct str file;
    struct str latents;
    struct str state;
    int64_t blocks;
};

static void add_run(struct job *job, const struct render_watch *w)
{
    const size_t skip = job->blocks > 0 ? w->end[0] : 0; /* the init segment is there already */

    EXPECT_INT(w->first_block, job->blocks);
    EXPECT(str_append(&job->file, w->file.data + skip, w->file.len - skip));
    EXPECT(str_append(&job->latents, str_get(&w->latents), w->latents.len));
    job->blocks = w->blocks_done;
    EXPECT_INT(job->blocks, w->first_block + w->blocks);
    if (w->states > 0) {
        job->state.len = 0;
        EXPECT(str_append(&job->state, w->state[w->states - 1].data, w->state[w->states - 1].len));
    }
}

/* Paused after every `work` units of work, and continued; returns how often. */
static int check_pauses(struct video_bed *b, const struct render_options *options,
                        const struct render_watch *whole, int work)
{
    struct render_options o = *options;
    struct job job = {0};
    int pauses = -1;
    bool paused = true;

    str_init(&job.file, RENDERS_FILE_MAX);
    str_init(&job.latents, RENDERS_FILE_MAX);
    str_init(&job.state, RENDERS_FILE_MAX);
    while (paused) {
        struct render_watch w;
        struct err err;

        o.resume = (struct render_resume){
            .blocks = job.blocks,
            .latents = job.latents.len > 0 ? (const float *)job.latents.data : NULL,
            .state = job.state.data,
            .state_bytes = job.state.len};
        render_watch_init(&w);
        w.pause_at_work = work;
        EXPECT_OK(render_bed_run(b, &o, &w, &err));
        if (job.blocks == 0) {
            job.file.len = 0; /* the init segment comes again */
        }
        add_run(&job, &w);
        paused = w.paused;
        EXPECT(paused == (job.blocks < RENDERS_BLOCKS));
        pauses++;
        render_watch_done(&w);
    }
    EXPECT_INT(job.file.len, whole->file.len);
    EXPECT(memcmp(job.file.data, whole->file.data, job.file.len) == 0);
    str_done(&job.file);
    str_done(&job.latents);
    str_done(&job.state);
    return pauses;
}

TEST(render_pauses_at_the_next_block)
{
    const struct render_options options = render_options_for(RENDER_LONG);
    struct video_bed b;
    struct render_watch whole;

    render_bed_open(&b, RENDER_LONG);
    render_make_whole(&whole, &b, &options);
    for (int work = 1; work <= 8; work++) { /* 4 steps and 2 or 3 pictures a block */
        EXPECT_INT(check_pauses(&b, &options, &whole, work), work <= 6 ? 2 : 1);
    }
    render_watch_done(&whole);
    video_bed_close(&b);
}

TEST(render_pauses_a_clip_at_the_next_step)
{
    const struct render_options options = render_options_for(RENDER_CLIP);
    struct video_bed b;
    struct render_watch whole;

    render_bed_open(&b, RENDER_CLIP);
    render_make_whole(&whole, &b, &options);
    EXPECT_INT(check_pauses(&b, &options, &whole, 1), RENDERS_STEPS + 2);
    for (int work = 2; work <= 10; work++) {
        EXPECT(check_pauses(&b, &options, &whole, work) <= 3);
    }
    render_watch_done(&whole);
    video_bed_close(&b);
}

TEST(render_paused_before_it_began_makes_nothing)
{
    for (int m = 0; m < 2; m++) {
        const struct render_options options = render_options_for(m ? RENDER_CLIP : RENDER_LONG);
        struct video_bed b;
        struct render_watch w;
        struct err err;

        render_bed_open(&b, m ? RENDER_CLIP : RENDER_LONG);
        render_watch_init(&w);
        atomic_store(&w.pause, true);
        EXPECT_OK(render_bed_run(&b, &options, &w, &err));
        EXPECT(w.paused);
        EXPECT_INT(w.parts, 1);
        EXPECT_INT(w.steps, 0);
        EXPECT_INT(w.blocks_done, 0);
        render_watch_done(&w);
        video_bed_close(&b);
    }
}

TEST(render_that_is_cancelled_is_not_paused)
{
    for (int m = 0; m < 2; m++) {
        const struct render_options options = render_options_for(m ? RENDER_CLIP : RENDER_LONG);
        struct video_bed b;
        struct render_watch w;
        struct err err;

        render_bed_open(&b, m ? RENDER_CLIP : RENDER_LONG);
        render_watch_init(&w);
        w.pause_at_work = 1;
        w.cancel_at_step = m ? 3 : 2; /* the same report, behind the prompts */
        EXPECT_INT(render_bed_run(&b, &options, &w, &err), ERR_CANCELLED);
        EXPECT(!w.paused);
        EXPECT_INT(w.work, 1);
        render_watch_done(&w);
        video_bed_close(&b);
    }
}

TEST(render_pauses_a_clip_at_a_block_where_nobody_takes_snapshots)
{
    const struct render_options options = render_options_for(RENDER_CLIP);
    struct render_callbacks callbacks;
    struct render *r = NULL;
    struct video_bed b;
    struct render_watch w;
    struct err err;

    render_bed_open(&b, RENDER_CLIP);
    render_watch_init(&w);
    w.pause_at_work = 1;
    callbacks = render_callbacks_of(&w);
    callbacks.on_state = NULL;
    EXPECT_OK(render_open(&r, b.model, &options, &callbacks, &err));
    EXPECT_OK(render_run(r, &err));
    EXPECT(render_paused(r));
    EXPECT_INT(render_blocks_done(r), 1);
    EXPECT_INT(w.denoised, RENDERS_STEPS);
    render_close(r);
    render_watch_done(&w);
    video_bed_close(&b);
}

/* ---- allocation failures ---- */

TEST(render_going_on_survives_every_failed_allocation)
{
    for (int m = 0; m < 2; m++) {
        struct render_options options = render_options_for(m ? RENDER_CLIP : RENDER_LONG);
        struct video_bed b;
        struct render_watch whole;

        render_bed_open(&b, m ? RENDER_CLIP : RENDER_LONG);
        render_make_whole(&whole, &b, &options);
        options.resume = (struct render_resume){.blocks = RENDERS_BLOCKS - 1};
        if (m) {
            options.resume.state = whole.state[RENDERS_STEPS].data;
            options.resume.state_bytes = whole.state[RENDERS_STEPS].len;
        } else {
            options.resume.latents = (const float *)whole.latents.data;
        }
        render_check_allocations(&b, &options);
        render_watch_done(&whole);
        video_bed_close(&b);
    }
}
