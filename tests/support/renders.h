/*
 * renders.h - renderings of the small models for tests: what a test wants to happen, and all that came
 * out, to interrupt others like it and compare.
 *
 * Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_RENDERS_H
#define TESTS_SUPPORT_RENDERS_H

#include <pthread.h>

#include "tests/support/videos.h"
#include "worker/render.h"

#define RENDER_LONG "tiny-long" /* block-causal */
#define RENDER_CLIP "tiny-480p" /* bidirectional */

enum {
    RENDERS_FILE_MAX = 64 << 20,
    RENDERS_MAX_BLOCKS = 8,
    RENDERS_MAX_STATES = 32,
    /* Of render_options_for(): */
    RENDERS_FRAMES = 24, /* 7 latent frames: blocks of 3, 2 and 2 */
    RENDERS_BLOCKS = 3,
    RENDERS_STEPS = 3 /* of the clip */
};

/* May not be moved or copied. */
struct render_watch {
    struct str file;
    size_t end[RENDERS_MAX_BLOCKS +
               1];            /* of the file behind so many blocks; [0]: of the init segment */
    int parts, blocks, steps; /* steps: reports, work: those of pictures in the making */
    int work, denoised;
    int fail_at_part;                  /* 0: never */
    int cancel_at_step, pause_at_work; /* 0: never */
    bool slowly;                       /* each step takes more than a millisecond */
    atomic_bool cancel, pause;
    struct render_block last;
    struct str latents; /* of all blocks */
    struct str state[RENDERS_MAX_STATES];
    int states;
    int first_pictures;
    bool first_picture_late;
    double first_fraction, fraction; /* of the first and the last report */
    bool progress_fell;
    pthread_t engine;
    bool block_on_engine, step_elsewhere; /* each written by one thread */
    int64_t first_block, blocks_done;
    bool paused;
    struct render_times times;
};

void render_watch_init(struct render_watch *w);
void render_watch_done(struct render_watch *w);

/* All of them, kept in w. */
struct render_callbacks render_callbacks_of(struct render_watch *w);

/* The model with short blocks, on one thread. */
void render_bed_open(struct video_bed *b, const char *model);

/* 48x32, the model's defaults. */
struct render_options render_options_of(int frames);

/* A video of RENDERS_BLOCKS blocks on render_bed_open()'s bed. */
struct render_options render_options_for(const char *model);

/* Opens, runs and closes; the code of whichever failed. */
MUST_CHECK int render_bed_run(struct video_bed *b, const struct render_options *options,
                              struct render_watch *w, struct err *err);

/* The whole video and all that can be kept of it: a snapshot after each step, and the clean clip's. */
void render_make_whole(struct render_watch *w, struct video_bed *b,
                       const struct render_options *options);

/* w is the same init segment, and the blocks from `first` on. */
void render_expect_rest(const struct render_watch *w, const struct render_watch *whole,
                        int64_t first);

/* Opening fails, and nothing is given to the sink. */
void render_expect_refused(struct video_bed *b, const struct render_options *options, int code,
                           const char *part);

/* A JPEG in test_dir(). */
const char *render_write_picture(void);

/* Planning and rendering, with each allocation of our own failing once. */
void render_check_allocations(struct video_bed *b, const struct render_options *options);

#endif
