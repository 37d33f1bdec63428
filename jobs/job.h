/*
 * job.h - one video on its way, as the daemon has it in memory: the stored row, the parsed request, and what
 * changes too often to be stored. api/ reads it; only jobs/ writes.
 *
 * Reference counted, because a viewer or an answer in work may outlive its deletion. Loop thread.
 */
#ifndef JOBS_JOB_H
#define JOBS_JOB_H

#include "jobs/job_spec.h"
#include "storage/job_row.h"

struct jobs;
struct jobs_device;
struct job;

/* What came of the request; stored as the row's detail. */
struct job_detail {
    int progress; /* 0..100, never falling */
    int native_width, native_height;
    int64_t blocks_total; /* 0: not known yet */
    bool prompt_truncated;
    char codec[32];     /* "avc1.64001e"; "": not known yet */
    double inference_s; /* 0: not known yet */
    int64_t peak_memory_mb;
    char stages[256];   /* JSON object of seconds by stage, or "" */
    int64_t size_bytes; /* of the finished file */
    char sha256[JOB_SHA256_SIZE];
    int sprite_cols, sprite_rows, sprite_w, sprite_h; /* 0: no sprite sheet */
    double sprite_interval;
};

enum job_status { /* as the API has it */
    STATUS_QUEUED,
    STATUS_IN_PROGRESS,
    STATUS_COMPLETED,
    STATUS_FAILED,
};

const char *job_status_name(enum job_status status);

/* Called whenever anything about the job may have changed: progress, a block, an end, deletion. A hint:
 * look at the job. May be removed from within. */
struct job_watch {
    void (*changed)(struct job_watch *watch, struct job *job);
    struct job_watch *prev, *next; /* of the job */
};

struct job {
    int refs;
    struct job_row *row;      /* owned; what is durable */
    struct job_spec spec;     /* owned */
    struct job_detail detail; /* durable but for progress, which may be ahead */
    bool deleted;             /* durable, too */
    char phase[24];           /* "queued", "text_encode", "denoise", ..., "paused", "mux", "done" */
    int64_t step, steps, block;
    double fraction;    /* of the rendering, by its worker */
    double eta_s;       /* < 0: unknown */
    int queue_position; /* from 1; 0: not waiting */
    int n_blocks, cap_blocks;
    struct job_block *
        blocks; /* owned [n_blocks]; durable. Loaded if the job is not over; else see jobs_load_blocks */
    bool blocks_loaded;

    /* of jobs/ */
    struct jobs *jobs;
    struct jobs_device *device; /* while running */
    struct job_run *run;        /* owned while it is claimed */
    struct job_watch *watches;
    char *json; /* owned: the rendered object, or NULL */
    size_t json_len;
    char etag[24]; /* of json, with quotes */
    bool ending;   /* its end is being stored */
    bool preparing, prepared;
    bool lost;               /* its files are damaged */
    char *metadata_next;     /* owned: as it will be when what is under way is stored, or NULL */
    int updates;             /* under way */
    int deaths;              /* of workers since the last new block */
    int64_t retry_ms;        /* not to be claimed before */
    const char *cancel_code; /* static; what its cancellation is called */
    struct job *hash_next;
    struct job *prev, *next; /* unfinished ones by age, or finished ones by last use */
};

struct job *job_ref(struct job *job);
void job_unref(struct job *job);

/* What a change of the metadata is merged into: with the changes before it that are being stored. */
const char *job_metadata(const struct job *job);

enum job_status job_status(const struct job *job);
bool job_is_over(const struct job *job);
/* Its bytes are gone. */
bool job_is_expired(const struct job *job);

void job_watch_add(struct job *job, struct job_watch *watch);
void job_watch_remove(struct job *job, struct job_watch *watch); /* safe when it is not added */

/* The video object (API.md 3.2), cached until something changes; NULL when out of memory. Borrowed. */
const char *job_json(struct job *job, size_t *ret_len);
/* "\"...\"": changes with the object. */
const char *job_etag(struct job *job);

#endif
