/*
 * jobs.h - all videos of this daemon: accepting, scheduling, their lives and ends. The heart; it knows neither
 * HTTP nor processes nor SQLite: it stands between api/, the storage thread and the devices.
 *
 * Memory holds every job that is not over and some that are; the rest is read when asked for. What counts is
 * durable first and visible second: calls that change something answer through a callback, on the loop, when it
 * is stored. Callbacks may come before the call returns.
 *
 * Loop thread.
 */
#ifndef JOBS_JOBS_H
#define JOBS_JOBS_H

#include "jobs/events.h"
#include "jobs/job.h"
#include "jobs/model_facts.h"
#include "storage/retention.h"
#include "storage/store_thread.h"

/* May be changed at any time (jobs_configure). */
struct jobs_limits {
    int queue_capacity; /* jobs that wait */
    int queue_per_client;
    int max_deaths;         /* of workers in a row, without a new block, before the job fails */
    int64_t ttl_ms;         /* a finished video stays so long; 0: for ever */
    int64_t partial_ttl_ms; /* the blocks of a failed one */
    int64_t min_free_bytes;
    struct retention_limits retention;
};

struct jobs_options {
    struct store_thread *storage; /* borrowed */
    struct job_files *files;      /* borrowed: paths and reading */
    struct jobs_limits limits;
    const char *worker_name;             /* of leases: "HOST:PID" or so */
    void (*events_published)(void *ctx); /* after new events; may be NULL */
    void *ctx;
    int64_t (*now_ms)(void); /* wall clock; NULL: the real one */
};

/* Loads what is not over: *store and files are used directly, before the storage thread gets work. Recovers what
 * a crash left (leases, files). */
MUST_CHECK int jobs_open(struct jobs **ret, const struct jobs_options *options, struct store *store,
                         struct err *err);
/* The storage thread must have run everything. Accepts NULL. */
void jobs_close(struct jobs *j);
void jobs_configure(struct jobs *j, const struct jobs_limits *limits);

/* To be called a few times a second: deadlines, coalesced events, upkeep, retries. */
void jobs_tick(struct jobs *j);

/* ---- the model and the queue ---- */

/* NULL before the first worker was ready. */
const struct model_facts *jobs_facts(const struct jobs *j);
int64_t jobs_model_created(const struct jobs *j); /* Unix seconds of the first READY */

enum jobs_readiness {
    JOBS_READY,
    JOBS_LOADING,
    JOBS_DEVICE_ERROR, /* workers keep dying */
    JOBS_STORE_ERROR,
    JOBS_DRAINING,
};

enum jobs_readiness jobs_readiness(const struct jobs *j);

struct jobs_counts {
    int queued, running, capacity;
    bool paused;
    double eta_s; /* < 0: unknown */
};

void jobs_count(const struct jobs *j, struct jobs_counts *ret);
/* fn for each running job. */
void jobs_each_running(const struct jobs *j, void (*fn)(void *ctx, struct job *job, int device),
                       void *ctx);
/* Nothing new is started while paused. */
void jobs_pause_queue(struct jobs *j, bool paused);

/* No more jobs are accepted or started; drained(ctx) when none runs. After timeout_ms the running ones are set
 * aside at their last block. */
void jobs_drain(struct jobs *j, int64_t timeout_ms, void (*drained)(void *ctx), void *ctx);

/* Is more than limits.min_free_bytes free? */
bool jobs_has_space(const struct jobs *j);

struct events *jobs_events(const struct jobs *j);
struct job_files *jobs_files(const struct jobs *j);

/* ---- accepting ---- */

struct jobs_new {
    struct job_spec spec; /* given away: moved out, also on failure */
    const char *client, *model;
    const char *group, *user; /* NULL: none */
    const char *tags, *metadata;
    const char *fingerprint;
    int priority;
    int64_t cancel_after_ms;      /* 0: none */
    struct store_idempotency key; /* key.key "": none */
    const char *reference_path;   /* a spooled file to adopt, or NULL */
    const void *reference_data;   /* or bytes; copied */
    size_t reference_bytes;
};

enum jobs_outcome {
    JOBS_OK,
    JOBS_REPLAYED, /* create: the key's job */
    JOBS_KEY_REUSED,
    JOBS_QUEUE_FULL,
    JOBS_CLIENT_FULL,
    JOBS_NO_SPACE,
    JOBS_NOT_READY, /* no model yet */
    JOBS_DRAINS,
    JOBS_NOT_FOUND,
    JOBS_BUSY,     /* update: not queued any more */
    JOBS_INTERNAL, /* logged */
};

/* job is borrowed; NULL unless JOBS_OK or JOBS_REPLAYED (or the current job with JOBS_BUSY). */
typedef void (*jobs_fn)(void *ctx, enum jobs_outcome outcome, struct job *job);

void jobs_create(struct jobs *j, struct jobs_new *new_job, jobs_fn done, void *ctx);

/* ---- finding ---- */

/* If it is in memory. Borrowed. */
struct job *jobs_find(struct jobs *j, const char *id);
/* Also from the store. JOBS_OK or JOBS_NOT_FOUND. */
void jobs_get(struct jobs *j, const char *id, jobs_fn done, void *ctx);
/* Fills job->blocks; JOBS_OK. Holds the job meanwhile. */
void jobs_load_blocks(struct jobs *j, struct job *job, jobs_fn done, void *ctx);

struct jobs_page {
    int n;
    struct job **job; /* borrowed during the call */
    bool has_more;
};

/* query is copied. page is NULL on failure. */
void jobs_list(struct jobs *j, const struct store_query *query,
               void (*done)(void *ctx, const struct jobs_page *page), void *ctx);

/* Events behind `after` from the store, oldest first, formatted; n < limit: there are no more. oldest: see
 * store_read_events. event is NULL on failure; else each is the callee's to unref, the array is not. */
void jobs_read_events(struct jobs *j, int64_t after, const char *id, int limit,
                      void (*done)(void *ctx, struct event **event, int n, int64_t oldest),
                      void *ctx);

/* ---- changing ---- */

struct jobs_update {
    const char *tags, *metadata; /* NULL: unchanged */
    const int *priority;
};

void jobs_update(struct jobs *j, const char *id, const struct jobs_update *update, jobs_fn done,
                 void *ctx);
/* Done when the wish is stored; a queued job is over then, a running one shortly after (watch it). code: NULL
 * for "cancelled", else "deadline_exceeded" or so. */
void jobs_cancel(struct jobs *j, const char *id, const char *code, jobs_fn done, void *ctx);
/* Done when it cannot come back. */
void jobs_delete(struct jobs *j, const char *id, jobs_fn done, void *ctx);

/* ---- devices (daemon/supervisor) ---- */

/* What jobs/ asks of a device. None blocks; what comes of it is told by jobs_on_*. Only for a device that is
 * ready; prepare also while it is busy. */
struct jobs_device_ops {
    void (*prepare)(void *ctx, struct job *job);
    void (*start)(void *ctx, struct job *job);  /* from job->row->blocks and its files on */
    void (*finish)(void *ctx, struct job *job); /* all blocks are stored */
    void (*pause)(void *ctx, struct job *job);
    void (*cancel)(
        void *ctx,
        struct job
            *job); /* jobs_on_fail must follow within the grace time, or the device goes down */
};

MUST_CHECK int jobs_add_device(struct jobs *j, const struct jobs_device_ops *ops, void *ctx,
                               struct jobs_device **ret, struct err *err);

void jobs_on_ready(struct jobs_device *d, const struct model_facts *facts);
/* The worker is gone; `reason` for people: "killed by signal 11". loading: it will be started again soon. */
void jobs_on_down(struct jobs_device *d, const char *reason, bool gives_up);

/* What PREPARED says. */
struct jobs_prepared {
    int native_width, native_height;
    int64_t blocks_total;
    bool prompt_truncated;
    char codec[32];
    const void *init; /* borrowed; copied */
    size_t init_bytes;
};

void jobs_on_prepared(struct jobs_device *d, struct job *job, const struct jobs_prepared *p);
void jobs_on_step(struct jobs_device *d, struct job *job, const char *phase, int64_t step,
                  int64_t steps, int64_t block, double fraction);
void jobs_on_preview(struct jobs_device *d, struct job *job, const void *jpeg, size_t len);

struct jobs_block {
    int64_t index, first_frame, frames;
    double gen_s;
    void *fragment; /* given away (free) */
    size_t fragment_bytes;
    void *latents; /* given away; may be NULL */
    size_t latent_bytes;
};

/* Blocks that are stored already are ignored; one out of order is the worker's fault: false, kill it. */
bool jobs_on_block(struct jobs_device *d, struct job *job, struct jobs_block *block);
/* A snapshot; data is given away. */
void jobs_on_state(struct jobs_device *d, struct job *job, void *data, size_t len);
void jobs_on_paused(struct jobs_device *d, struct job *job);

struct jobs_rendered {
    double inference_s;
    int64_t peak_memory_mb;
    char stages[256];
};

void jobs_on_rendered(struct jobs_device *d, struct job *job, const struct jobs_rendered *r);

struct jobs_finished {
    int64_t bytes;
    char sha256[JOB_SHA256_SIZE];
    int sprite_cols, sprite_rows, sprite_w, sprite_h;
    double sprite_interval;
};

void jobs_on_finished(struct jobs_device *d, struct job *job, const struct jobs_finished *f);
/* The job is over on this worker, which is free again. code as err_code_name gives it. */
void jobs_on_fail(struct jobs_device *d, struct job *job, const char *code, const char *message);

/* Bytes given to jobs_on_block and _state that are not stored yet: stop reading from workers while it is
 * large. */
size_t jobs_backlog(const struct jobs *j);

#endif
