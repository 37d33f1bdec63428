/*
 * store.h - where jobs live: an interface that SQLite implements today, and a database server could.
 *
 * Promises of every implementation (tests/storage/store_contract.c is run through each):
 *  - A call that returned ERR_OK is durable; a call that failed changed nothing.
 *  - A running job is held by a lease (job, epoch). The epoch grows with every claim; who holds an older
 *    one is fenced: store_append, store_renew, store_end fail with ERR_FENCED and change nothing. A deleted
 *    or ended job has no valid lease, so a late completion cannot bring it back.
 *  - Events are numbered by one counter of the whole store that only grows, over restarts and crashes too;
 *    numbers are given in the order in which calls take effect. Numbers may be left out.
 *  - Names follow store_*; each call is one transaction and blocks: call it on the storage thread
 *    (store_thread.h). One thread at a time for each handle.
 *
 * Errors besides those named: ERR_IO (the database failed), ERR_NO_SPACE (disk full), ERR_NO_MEMORY.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include "base/str.h"
#include "storage/job_row.h"

struct store;

/* ---- events ---- */

enum {
    EVENT_TYPE_SIZE = 24
};

/* job may be "" for none. */
struct store_event {
    int64_t seq; /* given by the store */
    int64_t created_ms;
    char type[EVENT_TYPE_SIZE]; /* "video.block" */
    char job[JOB_ID_SIZE];
    char *data; /* JSON; owned by whoever owns the event */
};

/* Calls that take events number them in order, write the numbers to events[i].seq, and keep those of them
 * that have data; one without data only takes a number (progress is not kept). */
struct store_events {
    struct store_event *event;
    int n;
};

void store_event_done(struct store_event *event);

/* ---- creating ---- */

/* A client's promise to mean the same request by the same key. key "": none given. */
struct store_idempotency {
    char client[128];
    char route[64];
    char key[256];
};

enum store_created {
    STORE_CREATED,
    STORE_REPLAYED, /* the key is known with the same fingerprint: ret_id is its job */
    STORE_KEY_REUSED, /* the key is known with another fingerprint, or its job is gone; ret_id is "" */
};

struct store_ops;

struct store {
    const struct store_ops *ops;
};

/* Inserts row (state QUEUED) with its key. ERR_INVALID: its id is or was another job's, tags or metadata
 * are not what they should be. With another outcome than STORE_CREATED nothing is changed. */
MUST_CHECK int store_create(struct store *s, const struct job_row *row,
                            const struct store_idempotency *key, struct store_events *events,
                            enum store_created *ret, char ret_id[JOB_ID_SIZE], struct err *err);

/* Only looks: STORE_CREATED if the key is not known. */
MUST_CHECK int store_find_key(struct store *s, const struct store_idempotency *key,
                              const char *fingerprint, enum store_created *ret,
                              char ret_id[JOB_ID_SIZE], struct err *err);

/* ---- reading ---- */

/* ERR_NOT_FOUND. *ret is the caller's. */
MUST_CHECK int store_get(struct store *s, const char *id, struct job_row **ret, struct err *err);

enum {
    STORE_MAX_FILTERS = 16
};

struct store_pair {
    const char *key, *value;
};

/* Newest first, or oldest first; by id, which is in order of creation. NULL, 0 and -1: no such filter. */
struct store_query {
    const char *after; /* a position: only ids behind it; need not exist */
    bool ascending;
    int limit;          /* 0: none, only has_more */
    const char *client; /* NULL: everybody's */
    int status;         /* -1, or of the API: 0 queued, 1 in_progress, 2 completed, 3 failed */
    const char *model, *group, *user;
    int n_tags;
    const char *tags[STORE_MAX_FILTERS]; /* all of them */
    int n_metadata;
    struct store_pair metadata[STORE_MAX_FILTERS];
    int64_t created_after_ms, created_before_ms; /* exclusive */
    bool include_expired;
};

struct store_rows {
    struct job_row **row; /* owned, as are the rows */
    int n;
    bool has_more;
};

MUST_CHECK int store_list(struct store *s, const struct store_query *query, struct store_rows *ret,
                          struct err *err);

/* All jobs that are not over, oldest first: for the start. */
MUST_CHECK int store_unfinished(struct store *s, struct store_rows *ret, struct err *err);
void store_rows_done(struct store_rows *rows);

/* *ret is the caller's (free()); in order of index. */
MUST_CHECK int store_blocks(struct store *s, const char *id, struct job_block **ret, int *ret_n,
                            struct err *err);

/* Events behind `after`, of one job or (NULL) of all, at most `limit`; *ret and its events are the caller's:
 * store_event_done each, then free(). *ret_oldest: the lowest number that would still be found, whatever the
 * job (0: nothing was ever removed). */
MUST_CHECK int store_read_events(struct store *s, int64_t after, const char *job, int limit,
                                 struct store_event **ret, int *ret_n, int64_t *ret_oldest,
                                 struct err *err);

/* ---- changing what the client may change ---- */

struct store_update {
    const char *tags;     /* NULL: unchanged */
    const char *metadata; /* NULL: unchanged */
    const int *priority;  /* NULL: unchanged; only while QUEUED and never started, else ERR_BUSY */
};

/* ERR_NOT_FOUND. */
MUST_CHECK int store_set(struct store *s, const char *id, const struct store_update *update,
                         struct store_events *events, struct err *err);

/* The end of a job that nobody holds: ERR_BUSY if it is RUNNING, ERR_FENCED if it is over already. For
 * RUNNING ones use store_request_cancel and let the holder end it. */
struct store_end {
    enum job_state state; /* JOB_COMPLETED or JOB_FAILED; JOB_QUEUED (store_end only): set aside */
    const char *error_code, *error_message; /* of JOB_FAILED */
    const char *detail;                     /* NULL: unchanged */
    int64_t ended_ms, expires_ms;
    int64_t stored_bytes; /* 0: unchanged */
    bool restart;         /* of JOB_QUEUED: the holder died; counts in restarts */
};

MUST_CHECK int store_end_queued(struct store *s, const char *id, const struct store_end *end,
                                struct store_events *events, struct err *err);

/* Remembers that the job shall stop. ERR_NOT_FOUND. */
MUST_CHECK int store_request_cancel(struct store *s, const char *id, struct err *err);

/* Removes the job, its blocks and its events; a tombstone stays, so that the id is never taken again. The
 * idempotency key stays, too, and then leads to STORE_KEY_REUSED. ERR_NOT_FOUND. */
MUST_CHECK int store_delete(struct store *s, const char *id, struct store_events *events,
                            struct err *err);

/* What the worker said when it looked at the job first: the init segment is in its file. Unclaimed or
 * claimed. ERR_NOT_FOUND, ERR_FENCED (over), ERR_INVALID (blocks lie behind another init segment). */
MUST_CHECK int store_prepared(struct store *s, const char *id, const char *detail,
                              int64_t init_bytes, struct err *err);

/* ---- working ---- */

struct store_lease {
    char job[JOB_ID_SIZE];
    char worker[64];
    int64_t epoch;
    int64_t until_ms; /* held until then, if not renewed */
};

/* ERR_FENCED unless the job is QUEUED. started_ms is set to now if it is not yet. */
MUST_CHECK int store_claim(struct store *s, const char *id, const char *worker, int64_t now_ms,
                           int64_t until_ms, struct store_events *events, struct store_lease *ret,
                           struct err *err);

MUST_CHECK int store_renew(struct store *s, struct store_lease *lease, int64_t until_ms,
                           struct err *err);

/* The one commit of a block: its index must be the next one, and it begins at the byte and frame where the
 * last one (the init segment) ended; ERR_INVALID else. Bytes must be in their files, synced, before. */
struct store_append {
    const struct job_block *block; /* NULL: only what follows */
    int64_t latent_bytes;  /* of the file, after this; never less than before: ERR_INVALID */
    int64_t state_version; /* 0: unchanged */
    const char *detail;    /* NULL: unchanged */
};

MUST_CHECK int store_append(struct store *s, const struct store_lease *lease,
                            const struct store_append *append, struct store_events *events,
                            struct err *err);

/* Ends the lease: the job is over, or back in the queue. */
MUST_CHECK int store_end(struct store *s, const struct store_lease *lease,
                         const struct store_end *end, struct store_events *events, struct err *err);

/* Takes leases away: all of `worker`, and all that ran out before now (0: none of these); their jobs are
 * QUEUED again, restarts counted. *ret_n: how many. For the start, and for other nodes' dead workers. */
MUST_CHECK int store_recover(struct store *s, const char *worker, int64_t now_ms, int *ret_n,
                             struct err *err);

/* Only numbers (and keeps) events. */
MUST_CHECK int store_log(struct store *s, struct store_events *events, struct err *err);

/* ---- upkeep ---- */

struct store_totals {
    int64_t jobs, queued, running, completed, failed;
    int64_t stored_bytes;
    int64_t last_seq;
};

MUST_CHECK int store_count(struct store *s, struct store_totals *ret, struct err *err);

/* Ids of jobs whose bytes may go: over (completed or failed), and expires_ms passed, or - if max_bytes is
 * > 0 and more are stored - the ones that ended first until the rest fits. At most `limit`. */
struct store_ids {
    char (*id)[JOB_ID_SIZE]; /* owned */
    int n;
};

MUST_CHECK int store_expirable(struct store *s, int64_t now_ms, int64_t max_bytes, int limit,
                               struct store_ids *ret, struct err *err);
/* Marks a job as without bytes; it drops out of lists. ERR_NOT_FOUND, ERR_BUSY (not over). */
MUST_CHECK int store_expire(struct store *s, const char *id, int64_t now_ms, struct err *err);
/* Removes records that expired before `expired_before_ms`, tombstones and idempotency keys whose job is gone
 * and that are older than it, and events older than `events_before_ms` but for the last `keep_events`. */
MUST_CHECK int store_prune(struct store *s, int64_t expired_before_ms, int64_t events_before_ms,
                           int64_t keep_events, struct err *err);

/* Is it there and writable? */
MUST_CHECK int store_check(struct store *s, struct err *err);

/* Readable after somebody, perhaps another process, changed something: a hint, never the truth. Read by
 * store_watch_clear before looking. -1 if the store has none. */
int store_watch_fd(struct store *s);
void store_watch_clear(struct store *s);

/* Accepts NULL. */
void store_close(struct store *s);

#endif
