/*
 * videos.h - a model on a device, and what its sessions deliver, for tests of the session.
 *
 * Pictures are kept as they came; progress is watched. Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_VIDEOS_H
#define TESTS_SUPPORT_VIDEOS_H

#include "engine/session.h"

struct video_bed {
    struct device dev;
    struct model *model;
};

/* model: "tiny-long" of tests/golden, or a path. The prompt's instruction is left out, which makes
 * the text encoder's work short; tests may change model->dir->defaults further. */
void video_bed_open(struct video_bed *b, const char *model, int threads);
/* The same on the CUDA plugin's device. */
void video_bed_open_cuda(struct video_bed *b, const char *model,
                         const struct device_cuda_options *options);
void video_bed_close(struct video_bed *b);

/* A short prompt at 32x32 (64x64 for the LTX-2 model), exact size, without guidance; three solver
 * steps unless the model has a list of its own. */
struct session_request video_request(const struct video_bed *b, int64_t frames);

enum {
    VIDEO_MAX_FRAMES = 1024
};

/* One session and what came out of it. May not be moved or copied. */
struct video {
    struct session *session; /* owned */
    size_t picture_bytes;
    uint8_t *pictures; /* owned; picture i at i * picture_bytes, zeros where none came */
    int64_t next;      /* index that the next picture must have */
    int64_t delivered; /* pictures that came */
    double fraction;   /* last that was reported */
    bool out_of_order; /* a picture had another index than expected */
    bool fell;         /* a fraction was less than one before, or outside [0, 1] */
    int64_t reports;   /* calls of on_progress */
    atomic_bool cancel;
    int64_t refuse; /* this picture is answered with ERR_NO_SPACE; -1: none */
    void (*on_progress)(struct video *v, const struct session_progress *p); /* or NULL */
    void *ctx;
};

/* Fails as session_open does; v is usable with video_close in any case. */
MUST_CHECK int video_try_open(struct video *v, struct video_bed *b,
                              const struct session_request *request, struct err *err);

void video_open(struct video *v, struct video_bed *b, const struct session_request *request);

/* Opening fails with that code and a sentence with `part`, and leaves the device as it was. */
void video_refused(struct video_bed *b, const struct session_request *request, int code,
                   const char *part);

/* The next block. */
struct geometry_block video_block(struct video *v);

/* All blocks that are left. */
void video_run(struct video *v);

/* Opens and runs. */
void video_make(struct video *v, struct video_bed *b, const struct session_request *request);

void video_close(struct video *v);

/* Pictures [first, end) are the same bytes. */
bool video_same(const struct video *a, const struct video *b, int64_t first, int64_t end);

/* The first picture index of block `index` of the video; its number of frames for the block behind
 * the last. */
int64_t video_block_start(const struct video *v, int64_t index);

/* Frames of the request with its defaults. */
int64_t video_frames(const struct video *v);

#endif
