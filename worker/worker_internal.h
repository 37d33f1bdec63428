/*
 * worker_internal.h - the parts of worker.c: what messages say, and what FINISH does.
 *
 * JSON comes from the daemon, which took its values from clients: types and ranges are checked here
 * again, and errors name the member. Members that are not known are left alone.
 */
#ifndef WORKER_WORKER_INTERNAL_H
#define WORKER_WORKER_INTERNAL_H

#include "engine/json_read.h"
#include "worker/render.h"

enum {
    WORKER_MAX_VALUES = 10000, /* of one JSON message */
    WORKER_FINISHED_MAX = 512
};

/* PREPARE's and START's payload. End it by worker_job_done. */
struct worker_job {
    cJSON *root; /* owned; options point into it */
    struct render_options options;
    const char *latents_path; /* of resume; NULL: not given */
    const char *state_path;
    float *latents; /* owned; what options.resume points to */
    char *state;    /* owned; likewise */
};

/* Accepts a failed or zeroed job. */
void worker_job_done(struct worker_job *job);

/* Values are checked for their type and for what the fields of render_options can hold; whether the
 * model can do it is for render_plan and render_open to say. Any thread. Errors: ERR_FORMAT,
 * ERR_NO_MEMORY. */
MUST_CHECK int worker_job_parse(struct worker_job *ret, const char *json, size_t len,
                                struct err *err);

/* Reads the files of the resume point that this model uses: latents if it is block-causal, else the
 * snapshot. Errors: ERR_INVALID (more blocks than the video has), ERR_FORMAT (a file that is too
 * short), ERR_NOT_FOUND, ERR_IO, ERR_NO_MEMORY. */
MUST_CHECK int worker_job_load(struct worker_job *job, const struct model *model, struct err *err);

/* What PREPARED says; NULL when out of memory. codec: of plan->init. */
cJSON *worker_prepared(const struct render_plan *plan, const struct model *model,
                       const char *codec);

/* FINISH: the download file and the previews, durable. ret_json is what FINISHED says.
 * Errors: ERR_FORMAT (names the member), and those of mp4_remux, sha256_file and video_previews. */
MUST_CHECK int worker_finish(const char *json, size_t len, char ret_json[WORKER_FINISHED_MAX],
                             struct err *err);

#endif
