/*
 * job_row.h - a job as it is stored: what scheduling, listing and recovery need as fields, the rest as
 * JSON that storage/ does not look into.
 *
 * Strings are owned by the row, never NULL unless stated. Plain data; any thread, one at a time.
 */
#ifndef STORAGE_JOB_ROW_H
#define STORAGE_JOB_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    JOB_ID_SIZE = 72, /* "video_" + 26 characters; with room for foreign ones; with the NUL */
    JOB_SHA256_SIZE = 65,
};

/* Where the job is. A job that was set aside or interrupted is QUEUED with started_ms set. */
enum job_state {
    JOB_QUEUED,
    JOB_RUNNING, /* somebody holds its lease */
    JOB_COMPLETED,
    JOB_FAILED, /* also cancelled: see error_code */
};

struct job_row {
    char id[JOB_ID_SIZE];
    char *client;   /* whose it is, and whose turn it is: see jobs/; "" for nobody in particular */
    char *model;    /* canonical id */
    char *group;    /* NULL: none */
    char *user;     /* NULL: none */
    char *tags;     /* JSON array of strings */
    char *metadata; /* JSON object of strings */
    char *spec;     /* JSON: what was asked, resolved; never changes */
    char *detail;   /* JSON: what came of it; changes with it */
    char fingerprint[JOB_SHA256_SIZE]; /* of the canonical request */

    enum job_state state;
    bool cancel_requested;
    int priority;
    int64_t created_ms; /* Unix time in ms, as are all here; 0: not (yet) */
    int64_t started_ms;
    int64_t ended_ms;
    int64_t expires_ms;  /* of a completed job; 0: never */
    int64_t expired_ms;  /* its bytes were removed then */
    int64_t deadline_ms; /* 0: none */
    char *error_code;    /* NULL unless FAILED */
    char *error_message;

    int64_t epoch;          /* grows with every claim */
    int restarts;           /* claims that ended without an end */
    int64_t blocks;         /* stored */
    int64_t frames;         /* in these */
    int64_t init_bytes;     /* of fragments.mp4: init segment; 0: not there yet */
    int64_t fragment_bytes; /* of fragments.mp4: all that counts, init segment included */
    int64_t latent_bytes;   /* of latents: all that counts */
    int64_t state_version;  /* of the snapshot that counts; 0: none */
    int64_t stored_bytes;   /* all files of the job, as last recorded */
};

/* [A-Za-z0-9_-]{1,64}: what an id may be, here and as a folder's name. */
bool job_id_valid(const char *id);

/* Zeroed but for empty strings: ready to be filled. NULL when out of memory. */
struct job_row *job_row_create(void);
void job_row_free(struct job_row *row);
struct job_row *job_row_copy(const struct job_row *row);

/* Replaces *field by a copy of text (NULL allowed). False when out of memory: unchanged. */
bool job_row_set(char **field, const char *text);

/* One fragment. */
struct job_block {
    int64_t index;
    int64_t offset; /* in fragments.mp4 */
    int64_t bytes;
    int64_t first_frame;
    int64_t frames;
    int64_t gen_ms; /* how long it took */
};

#endif
