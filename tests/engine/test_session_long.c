/*
 * Interrupted videos that are longer than the decoder's memory: its caches come from a steady
 * restart some way back, and are the very same.
 */
#include "engine/session_internal.h"
#include "tests/support/originals.h"
#include "tests/support/test.h"

enum {
    MEMORY = 38 /* latent frames that the Wan decoder looks back */
};

/* One of the two models that stream, in blocks of so many latent frames, denoised in one step. */
static void make(struct original *o, struct video_bed *b, const char *model, int64_t per_block,
                 int64_t frames)
{
    struct session_request r;

    video_bed_open(b, model, 2);
    b->model->dir->defaults.block_latent_frames = per_block;
    b->model->dir->defaults.n_renoise = 1;
    r = video_request(b, frames);
    r.steps = b->model->dir->family == FAMILY_LONGSANA ? 0 : 1;
    original_make(o, b, &r);
    EXPECT_INT(session_memory_frames(o->video.session), MEMORY);
}

static void done(struct original *o, struct video_bed *b)
{
    original_done(o);
    video_bed_close(b);
}

TEST(session_long_video_continues_in_steady_state)
{
    struct original o;
    struct video_bed b;

    make(&o, &b, "tiny-long", 3, 173); /* 44 latent frames: 5, then threes */
    EXPECT_INT(session_block(o.video.session, 12).first, 38);
    original_check_replay(&o, 13);
    original_check_restore(&o, 13, 35); /* no more are needed */
    done(&o, &b);
}

TEST(session_long_block_is_all_that_the_decoder_remembers)
{
    struct original o;
    struct video_bed b;

    make(&o, &b, "tiny-long", 20, 233); /* 59 latent frames: 39, 20 */
    EXPECT_INT(session_block(o.video.session, 0).count, 39);
    original_check_restore(&o, 1, 0);
    done(&o, &b);
}

TEST(session_long_clip_continues_between_blocks)
{
    struct original o;
    struct video_bed b;

    make(&o, &b, "tiny-480p", 4, 177); /* 45 latent frames: 5, then fours */
    original_check_restore(&o, 10, 0);
    done(&o, &b);
}
