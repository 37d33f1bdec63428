/*
 * model_facts.h - what the daemon knows of the model: the worker's READY message, parsed and checked.
 *
 * Plain data; any thread.
 */
#ifndef JOBS_MODEL_FACTS_H
#define JOBS_MODEL_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    FACTS_MAX_ALIASES = 16,
    FACTS_MAX_SIZES = 128,
    FACTS_ID = 65,
    FACTS_DEFAULT_SECONDS = 4, /* of a video whose length nobody says, whatever the model */
};

struct model_size {
    int width, height;
};

struct model_facts {
    char id[FACTS_ID];
    int n_aliases;
    char aliases[FACTS_MAX_ALIASES][FACTS_ID];
    char family[FACTS_ID];
    char device[128]; /* "CPU, 2 threads" */
    bool causal;      /* block-causal: streams while it denoises */
    bool image;       /* takes a reference picture */
    bool any_size;    /* no table of sizes: what is asked is generated */
    int n_sizes;
    struct model_size sizes[FACTS_MAX_SIZES];
    int size_multiple;
    int default_width, default_height;
    int min_side, max_side;
    int64_t max_pixels;
    double fps;
    int frame_multiple, frame_offset; /* lengths it can make: multiple * n + offset */
    int64_t default_frames, max_frames;
    int64_t block_frames;
    int default_steps, min_steps, max_steps;
    double guidance_scale, flow_shift;
    int motion_score;
    int max_prompt_tokens;
    int64_t weights_bytes;
};

/* Errors: ERR_FORMAT (names the member). */
MUST_CHECK int model_facts_parse(struct model_facts *ret, const char *json, size_t len,
                                 struct err *err);

/* Is `name` the model's id, one of its aliases, or one that every sanad answers to (sora-2, sora-2-pro, also
 * with a date behind: sora-2-2025-10-06)? */
bool model_facts_is_called(const struct model_facts *facts, const char *name);

/* The size at which width x height would be generated: the nearest aspect ratio of the table. */
struct model_size model_facts_native(const struct model_facts *facts, int width, int height);

/* The shortest length the model can make that holds `frames`. */
int64_t model_facts_generated(const struct model_facts *facts, int64_t frames);

#endif
