/*
 * render_internal.h - the rendering's insides, between worker/render*.c only.
 */
#ifndef WORKER_RENDER_INTERNAL_H
#define WORKER_RENDER_INTERNAL_H

#include <pthread.h>

#include "base/queue.h"
#include "worker/render.h"

enum {
    RENDER_BUFFERS =
        16, /* pictures in flight between the threads: one decoder call's worth, twice */
    RENDER_TAGS = 3
};

/* What a file says of itself. */
struct render_head {
    char *prompt;  /* owned */
    char *comment; /* owned: the settings as JSON */
    struct mp4_tag tags[RENDER_TAGS];
};

/* Accept zeroed heads. */
MUST_CHECK int render_head_init(struct render_head *h, const char *prompt,
                                const struct session_settings *set, const struct model *model,
                                struct err *err);
void render_head_done(struct render_head *h);

/* How a video of these settings is written from its first block on; borrows the head's tags.
 * Errors: ERR_INVALID "fps: ...". */
MUST_CHECK int render_fmp4_options(struct fmp4_options *ret, const struct render_options *options,
                                   const struct session_settings *set,
                                   const struct render_head *head, struct err *err);

/* What goes through the queue; end_block has no picture. */
struct picture {
    bool end_block;
    struct geometry_block block;
    float *latents; /* owned; of the block, or NULL */
    size_t n_latents;
    uint8_t i420[];
};

struct render {
    struct session *session; /* owned */
    struct render_callbacks callbacks;
    struct fmp4 *writer; /* owned; encoder thread while it runs */
    float *image;        /* owned */
    struct render_head head;
    bool causal;
    int64_t state_interval_ms;
    int64_t resumed_blocks; /* that were safe before */
    int64_t first_block;

    struct queue *filled;                     /* to the encoder thread */
    struct queue *empty;                      /* back */
    struct picture *pictures[RENDER_BUFFERS]; /* owned */
    size_t picture_bytes;

    /* Engine thread. */
    bool paused;
    bool clean_saved; /* a snapshot of the clean clip was given, or we come from one */
    int state_rc;     /* a snapshot failed */
    struct err state_err;
    int64_t state_ns; /* of the last snapshot */
    int64_t since_ns; /* of the work in progress */
    int64_t spent_ns[SESSION_DECODE + 1];

    /* Encoder thread; after its end, the engine's. */
    pthread_t encoder;
    bool in_block;
    size_t part_bytes;
    int64_t blocks_done;
    int64_t block_ns; /* of the last block's end */
    int encoder_rc;
    struct err encoder_err;
    atomic_llong encode_ns; /* any thread */
};

/* The session's callbacks, and the sink; ctx is the render. */
int render_on_frame(void *ctx, const uint8_t *i420, int64_t index, struct err *err);
void render_on_progress(void *ctx, const struct session_progress *p);
int render_on_part(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                   struct err *err);

#endif
