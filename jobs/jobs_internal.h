/*
 * jobs_internal.h - the insides of jobs/, for its own files and tests.
 */
#ifndef JOBS_JOBS_INTERNAL_H
#define JOBS_JOBS_INTERNAL_H

#include "jobs/jobs.h"
#include "jobs/scheduler.h"
#include "jobs/video_id.h"

enum {
    JOBS_HASH = 4096, /* buckets; a power of two */
    JOBS_KEEP = 512,  /* finished jobs in memory */
    JOBS_MAX_DEVICES = 16,
    JOBS_LEASE_MS = 60000,
    JOBS_RENEW_MS = 20000,
    JOBS_PROGRESS_MS = 250,  /* between progress events of a job */
    JOBS_POSITION_MS = 1000, /* between events of queue positions */
    JOBS_RETENTION_MS = 60000,
    JOBS_CHECK_MS = 1000,       /* of a store that failed */
    JOBS_RETRY_MS = 1000,       /* of a claim that failed */
    JOBS_DRAIN_GRACE_MS = 5000, /* for a device to set its job aside */
};

/* A job on a device, from its claim to its end. Several storage tasks may be under way for it. */
struct job_run {
    struct store_lease lease;
    bool claimed;           /* the lease is ours */
    bool started;           /* the device was told */
    bool pausing;           /* the device was asked to set it aside */
    bool cancelling;        /* ... or to stop */
    bool rendered;          /* the device made all blocks */
    bool finishing;         /* FINISH was sent */
    bool released;          /* the device has nothing to do with it any more */
    int64_t next_block;     /* the one expected from the worker */
    int64_t fragment_bytes; /* of the files, when all that was posted is stored */
    int64_t latent_bytes;
    int64_t state_version;
    double first_fraction; /* where this run began, for the estimate */
    int64_t begun_ms;
    int64_t progress_ms; /* of the last progress event */
    int64_t renewed_ms;
    char end_code[32]; /* why it is being stopped; "": it is not */
    char end_message[384];
    bool end_posted; /* its end is with the storage thread ... */
    bool end_failed; /* ... or was, and has to be tried again */
    enum job_state end_state;
    bool end_restart;
};

struct jobs_device {
    struct jobs *jobs;
    struct jobs_device_ops ops;
    void *ctx;
    int index;
    bool ready, broken;
    struct job *job; /* claimed for it; a reference */
};

struct job_list {
    struct job *first, *last;
    int n;
};

struct jobs {
    struct jobs_options options;
    struct jobs_limits limits;
    struct model_facts facts;
    bool has_facts;
    int64_t model_created_ms;
    struct events *events;
    struct scheduler *scheduler;
    struct video_id_generator ids;
    struct job *hash[JOBS_HASH];
    struct job_list unfinished; /* by age */
    struct job_list finished;   /* by last use */
    int n_devices;
    struct jobs_device *devices[JOBS_MAX_DEVICES]; /* owned */
    struct job_list creating;                      /* whose insertion is under way */
    int queued, running; /* of `unfinished`: waiting, and claimed for a device */
    bool queue_paused, draining;
    bool careful; /* a worker died while it prepared jobs: one at a time from now on */
    void (*drained)(void *ctx);
    void *drained_ctx;
    int64_t drain_until_ms;
    bool store_failed;
    int64_t store_checked_ms;
    bool positions_changed;
    int64_t positions_ms, retention_ms;
    bool retention_runs;
    size_t backlog;
    double seconds_per_frame; /* moving average of finished jobs; 0: none yet */
};

int64_t jobs_now(const struct jobs *j);

/* ---- job.c: the object ---- */

/* NULL when out of memory. Takes row, also on failure. */
struct job *job_create(struct jobs *j, struct job_row *row, struct err *err);
/* The object as JSON, not cached; free() it. */
char *job_render(const struct job *job);
/* Something about it changed: forgets the cached object and tells the watches. */
void job_changed(struct job *job);
void job_set_phase(struct job *job, const char *phase);
bool job_detail_to_json(const struct job_detail *detail, struct str *out);
void job_detail_from_json(struct job_detail *ret, const char *json);

/* ---- jobs_table.c ---- */

void jobs_table_add(struct jobs *j, struct job *job);
void jobs_table_remove(struct jobs *j, struct job *job);
/* It is over: from one list to the other. */
void jobs_table_finish(struct jobs *j, struct job *job);

void jobs_list_append(struct job_list *list, struct job *job);
void jobs_list_remove(struct job_list *list, struct job *job);

/* ---- jobs_task.c: work for the storage thread ---- */

enum {
    TASK_MAX_EVENTS = 3
};

/* Base of all tasks: the job it is about (a reference), what came of it, and the events that it numbers. */
struct jobs_task {
    struct store_task task;
    struct jobs *jobs;
    struct job *job; /* a reference; may be NULL */
    struct err err;
    int rc;
    struct store_event event[TASK_MAX_EVENTS];
    struct store_events events;
    void (*run)(struct jobs_task *t, struct store *store, struct job_files *files);
    void (*done)(struct jobs_task *t); /* after its events were published; may be NULL */
    void (*free)(struct jobs_task *t); /* what the task owns; may be NULL */
};

/* size of the whole struct, which begins with a struct jobs_task; zeroed. NULL when out of memory. */
void *jobs_task_create(struct jobs *j, struct job *job, size_t size);
/* Gives the task an event; data (malloc) is taken; NULL data: only a number, ... */
void jobs_task_event(struct jobs_task *t, const char *type, const char *job, char *data);
void jobs_task_post(struct jobs_task *t);
/* Not posted after all. */
void jobs_task_free(struct jobs_task *t);
/* An event that is not kept: it goes through the storage thread for its number. */
void jobs_emit_passing(struct jobs *j, struct job *job, const char *type, char *data);

/* ---- jobs_run.c: jobs on devices ---- */

void jobs_recount(struct jobs *j);
/* Starts what can be started, overtakes what must be. */
void jobs_schedule(struct jobs *j);
void jobs_run_tick(struct jobs *j, int64_t now_ms);
/* Asks for a job's init segment and settings if a device is there. */
void jobs_prepare(struct jobs *j, struct job *job);
/* Stops a running job; in the end it is FAILED with code. */
void jobs_stop_run(struct job *job, const char *code, const char *message);
/* The device has let go of the job, if one had it. */
void jobs_release(struct job *job);
void jobs_check_drained(struct jobs *j);
/* There is no run after all, or not any more: the job was taken away meanwhile. */
void jobs_forget_run(struct jobs *j, struct job *job);
/* A deleted job whose device has let go: its files go, too. */
void jobs_remove_files(struct jobs *j, struct job *job);

/* ---- jobs_end.c: ends of jobs ---- */

/* A job that nobody runs ends as FAILED; done may be NULL. */
void jobs_end_queued(struct jobs *j, struct job *job, const char *code, const char *message,
                     jobs_fn done, void *ctx);
/* What a job says that was cancelled for this reason. */
const char *jobs_cancel_message(const char *code);
/* A claimed job that its device has let go of ends, or goes back to the queue (JOB_QUEUED). FAILED takes
 * code and message from the run. Tried again until it is stored. */
void jobs_end_run(struct job *job, enum job_state state, bool restart);

/* ---- jobs_events.c ---- */

/* {"id":..,"status":..} and so on; malloc'd, NULL when out of memory. */
char *jobs_event_queued(const struct job *job);
char *jobs_event_progress(const struct job *job);
char *jobs_event_block(const struct job *job, const struct job_block *block, int64_t total);
char *jobs_event_deleted(const char *id);
void jobs_publish(struct jobs *j, const struct store_event *event);
void jobs_published(struct jobs *j);
/* Queue positions and estimates anew; events for those that changed. */
void jobs_positions(struct jobs *j);

#endif
