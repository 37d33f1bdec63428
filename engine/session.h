/*
 * session.h - one video being made: a request in, blocks of frames out
 *
 *   session_open(&s, model, &request, &callbacks, &err);   checks, plans, reserves memory
 *   while (!session_finished(s)) {
 *       session_next_block(s, &block, &err);               frames arrive through on_frame
 *   }
 *   session_close(s);
 *
 * The same request on the same device and build gives the same frames, also when the session was
 * interrupted and continued: noise is a function of the seed and the place in the video, and what
 * earlier blocks leave behind is either restored from a snapshot or computed again from their latents.
 *
 * Block-causal models (LongSANA) denoise block by block; bidirectional ones denoise the whole clip
 * before the first block and then decode it piece by piece. Memory does not depend on the length of
 * a block-causal video. Engine thread, except *cancel.
 */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include <stdatomic.h>

#include "base/str.h"
#include "engine/geometry.h"
#include "engine/model.h"
#include "engine/sampler.h"

enum {
    SESSION_MAX_SWITCHES = 64
};

/* From block `block` (counted from 0, at least 1) on the prompt is `text`. Block-causal models only. */
struct session_switch {
    int64_t block;
    const char *text;
};

/* What is asked. Zeroed fields marked (0: default) take the model's default. Borrowed during
 * session_open only, but for image. */
struct session_request {
    const char *prompt;          /* UTF-8, NUL-terminated; required */
    const char *negative_prompt; /* NULL: "" */
    int n_switches;
    const struct session_switch *switches; /* rising blocks */
    int64_t width, height;                 /* (0: default) both or neither */
    int64_t frames;                        /* (0: default) */
    uint64_t seed;
    int steps;             /* (0: default); LongLive: 0 or as many as its list has */
    bool has_guidance;     /* guidance_scale is given; else the model's */
    double guidance_scale; /* 0..20; above 1 the negative prompt is evaluated too */
    double flow_shift;     /* (0: default) */
    bool has_motion_score;
    int motion_score; /* 0..100; 0: no suffix */
    bool exact_size;  /* no bucket: generate the asked size */
    const float
        *image; /* [gen_height, gen_width, 3] in [-1, 1], the first frame; NULL: none. Borrowed
                               until the first block is done. Its size: session_plan_size() */
    size_t memory_limit; /* bytes of working memory; 0: none */
    bool keep_old_cache; /* a prompt switch does not re-cache the block before it (MODEL 4.6) */
    bool nvlabs_recache; /* re-caching block 0 starts from its old state, as NVlabs' code does */
};

/* What will be done: the request with all defaults filled in. */
struct session_settings {
    struct geometry_size size;
    int64_t frames;
    double fps;
    uint64_t seed;
    struct sampler_options sampler;
    double guidance_scale;
    int motion_score;
    int64_t block_latent_frames;
    int64_t blocks;
    bool image;
    bool prompt_truncated; /* longer than the encoder's tokens */
};

enum session_phase {
    SESSION_TEXT,    /* prompts are encoded */
    SESSION_IMAGE,   /* the reference image is encoded */
    SESSION_DENOISE, /* solver steps */
    SESSION_CACHE,   /* a finished block's state is computed */
    SESSION_DECODE,  /* latent frames become pictures */
};

struct session_progress {
    enum session_phase phase;
    int64_t step, steps;   /* of the phase; step is done */
    int64_t block, blocks; /* block being worked on */
    double fraction;       /* of the whole job, in [0, 1], never falling */
};

struct session_callbacks {
    void *ctx;
    /* One picture, I420 as kernels/yuv420.h describes, width x height of the settings; borrowed
     * during the call. Any code but ERR_OK ends the block with it. */
    int (*on_frame)(void *ctx, const uint8_t *i420, int64_t index, struct err *err);
    /* After each unit of work; may be NULL. session_save() may be called from here. */
    void (*on_progress)(void *ctx, const struct session_progress *progress);
    /* Checked between steps; set from any thread; may be NULL. */
    const atomic_bool *cancel;
};

struct session;

/* Size at which `request` will be generated (and its image must come). Errors: ERR_INVALID "size". */
MUST_CHECK int session_plan_size(const struct model *model, const struct session_request *request,
                                 struct geometry_size *ret, struct err *err);

/* The request with all defaults filled in, checked as session_open checks it, but for memory and the
 * image (request->image counts as given when it is not NULL). Needs no device: any thread, also while a
 * session of this model runs. Errors: ERR_INVALID names the field and its range; ERR_NO_MEMORY. */
MUST_CHECK int session_resolve(const struct model *model, const struct session_request *request,
                               struct session_settings *ret, struct err *err);

/* Errors: ERR_INVALID names the field and its range; ERR_NO_VRAM the bytes needed; ERR_NO_MEMORY. */
MUST_CHECK int session_open(struct session **ret, struct model *model,
                            const struct session_request *request,
                            const struct session_callbacks *callbacks, struct err *err);

/* Accepts NULL. */
void session_close(struct session *s);

const struct session_settings *session_settings(const struct session *s);

/* Like setting *cancel, but for this session only and for good: what runs ends before the next unit of
 * work with ERR_CANCELLED. Engine thread, from a callback. */
void session_stop(struct session *s);

/* Device bytes reserved for this session, without the model. */
size_t session_memory(const struct session *s);

/* Makes the next block. Errors: ERR_CANCELLED, ERR_NUMERIC (names the stage), ERR_DEVICE, or what
 * on_frame returned. After an error the session can only be closed. */
MUST_CHECK int session_next_block(struct session *s, struct geometry_block *ret, struct err *err);

bool session_finished(const struct session *s);

/* Blocks finished so far. */
int64_t session_blocks_done(const struct session *s);

/* The checkpoint of the block just done: its clean latents [count, h, w, C], f32, for out[count *
 * session_latent_frame_size()] (count: of the geometry_block). Until the next call of next_block. */
int64_t session_latent_frame_size(const struct session *s);
MUST_CHECK int session_latents(struct session *s, float *out, struct err *err);

/* Continues behind `blocks` blocks that are done, from the latents of all of them [sum of counts, h,
 * w, C]: computes the carried state and the decoder's caches again. Before the first block;
 * block-causal models. Errors: ERR_INVALID, ERR_UNSUPPORTED. */
MUST_CHECK int session_replay(struct session *s, const float *latents, int64_t blocks,
                              struct err *err);

/*
 * A snapshot: between blocks the carried state, within a bidirectional clip's denoising (from
 * on_progress) the solver's. The decoder's caches are not in it; they are made again from latents. A
 * bidirectional snapshot holds all latents itself; a block-causal one only the last block's, so
 * session_restore takes latents [n, h, w, C] of the finished frames before the last block: the
 * last session_memory_frames() of them, or all if there are fewer.
 * It knows the request and the model's configuration and sizes, not the weights themselves.
 * Errors: ERR_BUSY within a block, ERR_FORMAT (damaged), ERR_INVALID (of another request or model).
 */
MUST_CHECK int session_save(struct session *s, struct str *out, struct err *err);
MUST_CHECK int session_restore(struct session *s, const void *data, size_t size,
                               const float *latents, int64_t n_latent_frames, struct err *err);

/* After session_restore of a bidirectional clip that is clean (session_blocks_done() is not 0): `block`
 * is made next, whichever was next when the snapshot was taken. 0..blocks. Errors: ERR_INVALID,
 * ERR_UNSUPPORTED (block-causal, or still denoising). */
MUST_CHECK int session_seek(struct session *s, int64_t block, struct err *err);

/* How many latent frames the decoder looks back. */
int64_t session_memory_frames(const struct session *s);

#endif
