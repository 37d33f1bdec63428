/*
 * render.h - a request in, a fragmented MP4 out: session, encoder thread, fragments.
 *
 * The engine runs on the caller's thread; pictures go through a bounded queue of reused buffers to
 * an encoder thread, so that H.264 of one picture overlaps the computation of the next. One block of
 * the session is one fragment. `sanad generate` writes the parts to a file; a worker process sends
 * them to the daemon.
 *
 * A block that was interrupted is dropped: what the sink got always ends with a whole fragment.
 */
#ifndef WORKER_RENDER_H
#define WORKER_RENDER_H

#include "engine/session.h"
#include "media/fmp4.h"
#include "media/mp4_tags.h"

struct render_options {
    struct session_request request; /* image must be NULL: see image_path */
    const char *image_path;         /* reference picture, or NULL */
    int crf;                        /* 0: the encoder's default */
    int encoder_threads;            /* 0: the encoder's default. The bytes depend on it. */
};

/* What the encoder thread reports after a fragment was given to on_part. */
struct render_block {
    int64_t index, count;
    int64_t first_picture, n_pictures;
    size_t bytes;
};

struct render_callbacks {
    void *ctx;
    /* Encoder thread. Any code but ERR_OK ends the rendering with it. */
    int (*on_part)(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                   struct err *err);
    void (*on_block)(void *ctx, const struct render_block *block); /* encoder thread; may be NULL */
    void (*on_progress)(void *ctx, const struct session_progress *p); /* caller's; may be NULL */
    const atomic_bool *cancel;                                        /* any thread; may be NULL */
};

struct render;

/* Checks everything, plans and reserves memory, reads the image. Borrows model until close.
 * Errors: those of session_open, image_read and fmp4_open. */
MUST_CHECK int render_open(struct render **ret, struct model *model,
                           const struct render_options *options,
                           const struct render_callbacks *callbacks, struct err *err);

/* Accepts NULL. */
void render_close(struct render *r);

/* Everything with defaults filled in. */
const struct session_settings *render_settings(const struct render *r);

/* Bytes reserved for this video, without the model. */
size_t render_memory(const struct render *r);

/* Makes the whole video. Errors: ERR_CANCELLED, and those of session, encoder and on_part. Once. */
MUST_CHECK int render_run(struct render *r, struct err *err);

/* Blocks whose fragments were given to on_part. After render_run. */
int64_t render_blocks_done(const struct render *r);

#endif
