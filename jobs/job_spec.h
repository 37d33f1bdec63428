/*
 * job_spec.h - what a client asked for, resolved: every default filled in, so that it means the same
 * whatever happens to the server's settings later. Immutable once the job exists. Also as JSON, which is how
 * it is stored and how it travels to the worker (a superset of worker.h's "job").
 *
 * Owns its strings. Any thread, one at a time.
 */
#ifndef JOBS_JOB_SPEC_H
#define JOBS_JOB_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    SPEC_MAX_WARNINGS = 32
};

/* Something that was accepted, but not quite as it was meant. */
struct job_warning {
    char code[32];  /* "ignored_parameter", "prompt_truncated", "upscaled", "priority_clamped" */
    char param[64]; /* "" for none */
};

struct job_spec {
    char *prompt;             /* trimmed */
    char *negative_prompt;    /* NULL: none */
    int64_t width, height;    /* of the output */
    int64_t num_frames;       /* of the output */
    int64_t generated_frames; /* the next length the model can make */
    double fps;
    uint64_t seed;
    int steps;
    double guidance_scale;
    double flow_shift;
    int motion_score;
    int crf;            /* 0: the encoder's default */
    bool has_reference; /* the picture is the job's JOB_REFERENCE file */
    char quality[16];   /* echoed; "standard" */
    int n_warnings;
    struct job_warning warnings[SPEC_MAX_WARNINGS];
};

/* Frees the strings; accepts zeroed. */
void job_spec_done(struct job_spec *spec);

/* Keeps the first SPEC_MAX_WARNINGS; no doubles. */
void job_spec_warn(struct job_spec *spec, const char *code, const char *param);

/* Appends one JSON object. Errors: ERR_NO_MEMORY. */
MUST_CHECK int job_spec_to_json(const struct job_spec *spec, struct str *out, struct err *err);

/* Errors: ERR_FORMAT (names the member), ERR_NO_MEMORY. */
MUST_CHECK int job_spec_from_json(struct job_spec *ret, const char *json, struct err *err);

/* Seconds as the API writes them: "4", "5.063". */
void job_spec_seconds(const struct job_spec *spec, char ret[24]);

#endif
