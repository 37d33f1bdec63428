/*
 * history.h - what finished blocks hand to the next one: a sum, or the sum over a window
 *
 * Constant in the video's length (MODEL 4.2, 4.5). Unbounded: a running f32 sum, bit for bit what
 * adding all blocks in order gives. Window W: the last W blocks' own states are kept and summed
 * again, oldest first, for each block (taking an old block off a running sum would drift).
 *
 * A block is pushed when the next one starts, not when it ends: if the prompt changes in between, it
 * is pushed with the new prompt, which is what re-caching on a prompt switch comes to (MODEL 4.6).
 * Engine thread.
 */
#ifndef ENGINE_HISTORY_H
#define ENGINE_HISTORY_H

#include "engine/transformer.h"

enum {
    HISTORY_MAX_WINDOW = 64,
    HISTORY_MAX_TENSORS = 3 * (HISTORY_MAX_WINDOW + 1)
};

struct history {
    struct transformer *tf;       /* borrowed */
    int64_t window;               /* -1: all blocks */
    int64_t blocks;               /* pushed so far */
    struct transformer_state sum; /* what the next block reads */
    struct transformer_state own; /* a block's own: written by the t = 0 pass, then pushed */
    struct transformer_state ring[HISTORY_MAX_WINDOW]; /* windowed: own states of the last blocks */
};

/* Allocates from ws. hw: tokens of a frame. Errors: ERR_INVALID window. */
MUST_CHECK int history_init(struct history *h, struct transformer *tf, struct workspace *ws,
                            int64_t hw, int64_t window, struct err *err);

/* What the next block reads; NULL when it is the first. */
const struct transformer_state *history_read(const struct history *h);

/* Appends h->own. */
MUST_CHECK int history_push(struct history *h, struct err *err);

/* The tensors that hold the content after `blocks` pushes, for snapshots; returns how many. */
int history_tensors(const struct history *h, int64_t blocks,
                    const struct tensor *ret[HISTORY_MAX_TENSORS]);

#endif
