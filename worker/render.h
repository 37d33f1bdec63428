/*
 * render.h - a request in, a fragmented MP4 out: session, encoder thread, fragments.
 *
 * The engine runs on the caller's thread; pictures go through a bounded queue of reused buffers to
 * an encoder thread, so that H.264 of one picture overlaps the computation of the next. One block of
 * the session is one fragment. `sanad generate` writes the parts to a file; a worker process sends
 * them to the daemon.
 *
 * A block that was interrupted is dropped: what the sink got always ends with a whole fragment. What on_block
 * and on_state gave is a checkpoint: a rendering opened with it goes on and gives the same bytes.
 */
#ifndef WORKER_RENDER_H
#define WORKER_RENDER_H

#include "engine/session.h"
#include "media/fmp4.h"
#include "media/mp4_tags.h"

/* Where an interrupted rendering of the same options stands. */
struct render_resume {
    int64_t blocks; /* whose fragments are safe; 0: from the start */
    const float
        *latents; /* block-causal: of all these blocks, as on_block gave them; borrowed in open */
    const void *state; /* bidirectional: the last snapshot of on_state, or NULL; borrowed in open */
    size_t state_bytes;
};

struct render_options {
    struct session_request request; /* image must be NULL: see image_path */
    const char *image_path;         /* reference picture, or NULL */
    double fps;                     /* playback rate; 0: the model's */
    int crf;                        /* 0: the encoder's default */
    int encoder_threads;            /* 0: the encoder's default. The bytes depend on it. */
    struct render_resume resume;
    /* bidirectional: between snapshots while denoising, and one of the clean clip; 0: only when paused */
    int64_t state_interval_ms;
};

/* What the encoder thread reports after a fragment was given to on_part. */
struct render_block {
    int64_t index, count;
    int64_t first_picture, n_pictures;
    size_t bytes;
    const float *
        latents; /* block-causal: [n_latents] the checkpoint, borrowed during the call; else NULL */
    size_t n_latents;
    double seconds; /* since the block before it, or since the start */
};

struct render_callbacks {
    void *ctx;
    /* Encoder thread. Any code but ERR_OK ends the rendering with it. */
    int (*on_part)(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                   struct err *err);
    void (*on_block)(void *ctx, const struct render_block *block); /* encoder thread; may be NULL */
    /* Encoder thread: the first picture of the video, I420 of the settings' size, before block 0's
     * fragment; not when resumed behind it. May be NULL. */
    void (*on_first_picture)(void *ctx, const uint8_t *i420);
    /* Caller's thread: a snapshot of a bidirectional session. May be NULL. */
    void (*on_state)(void *ctx, const void *data, size_t len);
    void (*on_progress)(void *ctx, const struct session_progress *p); /* caller's; may be NULL */
    const atomic_bool *cancel;                                        /* any thread; may be NULL */
    /* Any thread; may be NULL. Stops at the next block boundary (a bidirectional denoising, where there
     * is on_state: at the next step, with a snapshot): render_run returns ERR_OK and render_paused() is
     * true. */
    const atomic_bool *pause;
};

struct render;

/* What `options` come to, without a device and without memory for the work. */
struct render_plan {
    struct session_settings settings;
    double fps;
    int64_t generated_frames; /* before the surplus is cut off */
    struct str init;          /* owned: the init segment, exactly the bytes render_run gives */
};

/* Any thread, also while another video of this model is rendered. Does not read the image. Errors: those
 * of session_resolve and fmp4_open. End ret by render_plan_done. */
MUST_CHECK int render_plan(const struct model *model, const struct render_options *options,
                           struct render_plan *ret, struct err *err);
void render_plan_done(struct render_plan *plan);

/* Checks everything, plans and reserves memory, reads the image, and when resuming computes the state
 * again (on_progress is called; *cancel works); then the init segment is given to on_part, on the
 * caller's thread. Borrows model until close. Errors: those of session_open, image_read, session_replay,
 * session_restore (a snapshot that is damaged or of another request) and fmp4_open; ERR_INVALID
 * "fps: ..." and "resume: ...". */
MUST_CHECK int render_open(struct render **ret, struct model *model,
                           const struct render_options *options,
                           const struct render_callbacks *callbacks, struct err *err);

/* Accepts NULL. */
void render_close(struct render *r);

/* Everything with defaults filled in. */
const struct session_settings *render_settings(const struct render *r);

/* Bytes reserved for this video, without the model. */
size_t render_memory(const struct render *r);

/* The first block that render_run makes: resume.blocks, or 0 when there is no snapshot of the clean clip:
 * the blocks in between are made again, with the same bytes. */
int64_t render_first_block(const struct render *r);

/* Makes the rest of the video. Errors: ERR_CANCELLED, and those of session, encoder and on_part. Once. */
MUST_CHECK int render_run(struct render *r, struct err *err);

/* Did render_run stop because of *pause? */
bool render_paused(const struct render *r);

/* Blocks whose fragments were given to on_part, those before resuming included. After render_run. */
int64_t render_blocks_done(const struct render *r);

/* Seconds of work by kind, so far; waiting for the other thread is none. Caller's thread. */
struct render_times {
    double text, image, denoise, cache, decode, encode;
};

void render_times(const struct render *r, struct render_times *ret);

#endif
