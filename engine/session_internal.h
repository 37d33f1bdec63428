/*
 * session_internal.h - the session's insides, for session*.c and their tests.
 */
#ifndef ENGINE_SESSION_INTERNAL_H
#define ENGINE_SESSION_INTERNAL_H

#include "engine/denoiser.h"
#include "engine/history.h"
#include "engine/prompt.h"
#include "engine/session.h"

/* For tests that compare with recordings: their noise instead of ours, and frames before YUV. */
struct session_hooks {
    void *ctx;
    /* Fills y [n, h, w, C] of latent frames first..; step -1: initial noise, else after that step. */
    int (*noise)(void *ctx, int64_t first, int step, const struct tensor *y, struct err *err);
    int (*on_rgb)(void *ctx, const struct tensor *rgb, int64_t first_picture, struct err *err);
};

enum {
    SESSION_PROMPTS = SESSION_MAX_SWITCHES + 1,
    SESSION_SLOTS = 2,
    SESSION_AHEAD_STEPS =
        8 /* more steps than these are not issued ahead: a cancel would come late */
};

/* Pictures on their way to the host. */
struct session_batch {
    int64_t first, count; /* pictures; count 0: none */
    int64_t step, steps;  /* progress that they make true; steps 0: none */
    double work;
};

struct session {
    const struct model *model; /* borrowed */
    struct device *dev;        /* borrowed */
    struct session_callbacks callbacks;
    struct session_hooks hooks;
    struct session_settings set;
    struct sampler_schedule schedule;
    bool causal;
    bool guided; /* the negative prompt is evaluated too */
    bool recache, nvlabs_recache;
    const float *image;   /* borrowed; NULL: none */
    uint64_t fingerprint; /* of everything the frames depend on */

    int n_prompts;
    int64_t prompt_from[SESSION_PROMPTS]; /* first block with this prompt */
    struct prompt_tokens tokens[SESSION_PROMPTS];
    struct prompt_tokens negative_tokens;

    /*
     * On a GPU, a block's pictures are decoded while the next block is denoised: `overlaps`. The
     * decoder then has its own stream and workspace, latents alternate between two places, and block
     * `next` may be in the making already: `ahead`.
     */
    bool overlaps;
    bool ahead;
    struct workspace ws;
    struct workspace decoder_ws; /* used only where it overlaps */
    struct vae_stream *stream;   /* owned */

    /* In the workspaces, made by session_set_up(). */
    struct transformer_text text[SESSION_PROMPTS];
    struct transformer_text negative;
    struct tensor x[2];         /* latents: even and odd blocks', or the whole clip's in x[0] */
    struct tensor image_latent; /* [1, h, w, C] */
    struct history history[2];  /* positive and negative prompt; block-causal */
    struct tensor rgb, resized;
    struct tensor yuv[SESSION_SLOTS];
    uint8_t *host_yuv[SESSION_SLOTS]; /* owned; device_host_alloc */
    struct session_batch batch[SESSION_SLOTS];
    int slot; /* the next batch's */

    struct denoiser denoiser; /* bidirectional: lives across steps */
    size_t denoiser_mark;
    bool denoising; /* ... and is in flight */
    bool clip_done; /* bidirectional: x is clean */
    bool ready;     /* set up */
    bool busy;      /* within session_next_block() */
    bool stop;      /* session_stop() */
    bool failed;
    int64_t next; /* block to make */
    double work_done, work_total;
};

/* Workspace, texts, image: the same calls planned dry and for real. */
MUST_CHECK int session_set_up(struct session *s, struct err *err);

/* The work of one block; runs dry too. */
MUST_CHECK int session_make_block(struct session *s, struct err *err);

/* Bidirectional: reserves the solver and fills x with noise. */
MUST_CHECK int session_begin_clip(struct session *s, struct err *err);

/* Computes the state of block `block`, whose clean latents are in x, and adds it to the history. */
MUST_CHECK int session_push_block(struct session *s, int64_t block, struct err *err);

/* What restoring needs of the workspace beyond making blocks; in the dry run. */
MUST_CHECK int session_plan_restore(struct session *s, struct err *err);

/* Room for the decoder's pictures; in the workspaces. */
MUST_CHECK int session_set_up_pictures(struct session *s, struct err *err);

/* Issues the decoding of one latent frame (or the clip, where the VAE decodes whole) of the block in x, `done`
 * latent frames into it, whose first picture is number *picture; pictures leave through on_frame as they
 * arrive. session_flush: all that are still under way. */
MUST_CHECK int session_decode(struct session *s, int64_t done, int64_t *picture, struct err *err);
MUST_CHECK int session_flush(struct session *s, struct err *err);

/* Counts finished work and tells the caller. */
void session_report(struct session *s, enum session_phase phase, int64_t step, int64_t steps,
                    double work);
MUST_CHECK int session_check_cancel(const struct session *s, struct err *err);

/* What decoding works in. */
struct workspace *session_decoder_ws(struct session *s);

/* Feeds latents [n, h, w, C] of finished frames first.. to the decoder, for its caches only. */
MUST_CHECK int session_rewarm(struct session *s, const struct tensor *z, struct err *err);

/* The first `blocks` blocks in the units of work_done. */
double session_work(const struct session *s, int64_t blocks);

struct geometry_block session_block(const struct session *s, int64_t index);

/* Latents of block `index` within x. */
struct tensor session_block_latents(const struct session *s, int64_t index);

/*
 * Work of decoding one latent frame, in forwards of one latent frame: 13.55 and 5.77 TFLOP for the
 * 480p models (MODEL 9.2, 9.4). Only progress depends on it.
 */
#define SESSION_DECODE_WORK 2.35

/* Before the first block. */
void session_set_hooks(struct session *s, const struct session_hooks *hooks);

#endif
