/*
 * history.h - what finished blocks hand to the next one: a sum, or the sum over a window
 *
 * Constant in the video's length (MODEL 4.2-4.6). Unbounded: a running f32 sum, bit for bit what
 * adding all blocks in order gives. Window W: the last W blocks' own states are kept and summed
 * again, oldest first, for each block (taking an old block off a running sum would drift).
 *
 * With `revisable` the last block can be taken back and replaced, for a prompt switch that
 * re-caches it; that costs one more state. Engine thread.
 */
#ifndef ENGINE_HISTORY_H
#define ENGINE_HISTORY_H

#include "engine/transformer.h"

enum { HISTORY_MAX_WINDOW = 64, HISTORY_MAX_STATES = HISTORY_MAX_WINDOW + 3 };

struct history {
    struct transformer *tf; /* borrowed */
    int64_t window;         /* -1: all blocks */
    bool revisable;
    int64_t blocks; /* pushed so far */
    struct transformer_state sum;    /* what the next block reads */
    struct transformer_state before; /* revisable: what the last block read */
    struct transformer_state own;    /* the last block's own; write here, then history_push() */
    struct transformer_state ring[HISTORY_MAX_WINDOW + 1]; /* windowed: own states of blocks */
};

MUST_CHECK int history_init(struct history *h, struct transformer *tf, struct workspace *ws,
                            int64_t hw, int64_t window, bool revisable, struct err *err);

/* What the next block reads; NULL when it is the first. */
const struct transformer_state *history_read(const struct history *h);

/* What the last block read; NULL when that was the first. Needs revisable and blocks > 0. */
const struct transformer_state *history_before(const struct history *h);

/* Appends h->own. */
MUST_CHECK int history_push(struct history *h, struct err *err);

/* Puts h->own in the last block's place. Needs revisable and blocks > 0. */
MUST_CHECK int history_replace(struct history *h, struct err *err);

/* All tensors with content, for snapshots; returns how many (at most 3 * HISTORY_MAX_STATES). */
int history_tensors(const struct history *h, const struct tensor **ret);

#endif
