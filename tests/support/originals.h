/*
 * originals.h - a video made in one go, and all that can be kept of it on the way, to interrupt
 * others like it and compare.
 *
 * Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_ORIGINALS_H
#define TESTS_SUPPORT_ORIGINALS_H

#include "base/str.h"
#include "tests/support/videos.h"

enum {
    ORIGINAL_MAX_SAVES = 16,
    SNAPSHOT_MAX = 64 << 20 /* bytes */
};

struct original {
    struct video_bed *bed;          /* borrowed */
    struct session_request request; /* what it points to is borrowed */
    struct video video;
    float *latents; /* owned; of all latent frames */
    int64_t blocks;
    struct str saved[ORIGINAL_MAX_SAVES]; /* after each block */
    int steps;
    struct str stepped[ORIGINAL_MAX_SAVES]; /* after each solver step, if it is a clip */
};

void original_make(struct original *o, struct video_bed *b, const struct session_request *request);
void original_done(struct original *o);

/* A snapshot of the session; `to` is initialised. */
void original_save(struct session *s, struct str *to);

/* A new session, put back behind `done` blocks or solver steps in one of the ways, makes the rest:
 * the same pictures, and on the way the same snapshot. */
void original_check_replay(const struct original *o, int64_t done);
void original_check_step(const struct original *o, int done);

/* given: latent frames before the last block that come with the snapshot. */
void original_check_restore(const struct original *o, int64_t done, int64_t given);

#endif
