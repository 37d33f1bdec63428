/*
 * sqlite_internal.h - what the files of the SQLite store share: the store, its transactions, and the
 * operations by file. They are store.h's, in the same order; see there.
 *
 * A change is always: sqlite_change_begin, the work, sqlite_change_end. That one gives the events their
 * numbers, commits, or takes everything back.
 */
#ifndef STORAGE_SQLITE_INTERNAL_H
#define STORAGE_SQLITE_INTERNAL_H

#include <sys/types.h>

#include "storage/sql.h"
#include "storage/store_ops.h"

/*
 * Event numbers next_seq .. event_limit are reserved for this handle: in the file (meta) event_limit
 * says that no number above was ever given. As long as the file's event_limit is the handle's own,
 * nobody else has reserved since, so all numbers that others gave are below; else the rest of the
 * reservation is void. That keeps numbers in the order of the changes, whoever makes them, without a
 * write for each number.
 */
struct sqlite_store {
    struct store base;
    struct sql_db db;
    int64_t next_seq;
    int64_t event_limit;
    int64_t next_seq_before; /* both as they were when the transaction began */
    int64_t event_limit_before;
    int watch_fd;
    dev_t device; /* which file this is */
    ino_t inode;
};

static inline struct sqlite_store *sqlite_store_of(struct store *s)
{
    return CONTAINER_OF(s, struct sqlite_store, base);
}

/* Must be followed by sqlite_change_end even if it failed: that returns rc. */
MUST_CHECK int sqlite_change_begin(struct sqlite_store *s, struct err *err);
/* rc: of the work. events: may be NULL. */
MUST_CHECK int sqlite_change_end(struct sqlite_store *s, int rc, struct store_events *events,
                                 struct err *err);

/* ERR_NOT_FOUND with a sentence. */
int sqlite_no_job(const char *id, struct err *err);
/* The state of a job: ERR_NOT_FOUND. */
MUST_CHECK int sqlite_job_state(struct sqlite_store *s, const char *id, enum job_state *ret,
                                struct err *err);

/* ---- sqlite_events.c ---- */

/* Takes the next numbers, and keeps events with data. In a change. */
MUST_CHECK int sqlite_events_keep(struct sqlite_store *s, const struct store_events *events,
                                  struct err *err);
/* Makes the rest of the reservation void, so that no number from before the start is given again. */
MUST_CHECK int sqlite_events_open(struct sqlite_store *s, struct err *err);

/* The last number that was given, by anybody as far as it was kept. */
MUST_CHECK int sqlite_events_last(struct sqlite_store *s, int64_t *ret, struct err *err);

int sqlite_log(struct store *base, struct store_events *events, struct err *err);
int sqlite_read_events(struct store *base, int64_t after, const char *job, int limit,
                       struct store_event **ret, int *ret_n, int64_t *ret_oldest, struct err *err);
int sqlite_prune(struct store *base, int64_t expired_before_ms, int64_t events_before_ms,
                 int64_t keep_events, struct err *err);

/* ---- sqlite_query.c ---- */

int sqlite_get(struct store *base, const char *id, struct job_row **ret, struct err *err);
int sqlite_list(struct store *base, const struct store_query *query, struct store_rows *ret,
                struct err *err);
int sqlite_unfinished(struct store *base, struct store_rows *ret, struct err *err);
int sqlite_blocks(struct store *base, const char *id, struct job_block **ret, int *ret_n,
                  struct err *err);
int sqlite_count(struct store *base, struct store_totals *ret, struct err *err);
int sqlite_expirable(struct store *base, int64_t now_ms, int64_t max_bytes, int limit,
                     struct store_ids *ret, struct err *err);

/* ---- sqlite_change.c ---- */

int sqlite_find_key(struct store *base, const struct store_idempotency *key,
                    const char *fingerprint, enum store_created *ret, char ret_id[JOB_ID_SIZE],
                    struct err *err);
int sqlite_create(struct store *base, const struct job_row *row,
                  const struct store_idempotency *key, struct store_events *events,
                  enum store_created *ret, char ret_id[JOB_ID_SIZE], struct err *err);
int sqlite_set(struct store *base, const char *id, const struct store_update *update,
               struct store_events *events, struct err *err);
int sqlite_end_queued(struct store *base, const char *id, const struct store_end *end,
                      struct store_events *events, struct err *err);
int sqlite_request_cancel(struct store *base, const char *id, struct err *err);
int sqlite_delete(struct store *base, const char *id, struct store_events *events, struct err *err);
int sqlite_prepared(struct store *base, const char *id, const char *detail, int64_t init_bytes,
                    struct err *err);
int sqlite_expire(struct store *base, const char *id, int64_t now_ms, struct err *err);

/* ---- sqlite_lease.c ---- */

int sqlite_claim(struct store *base, const char *id, const char *worker, int64_t now_ms,
                 int64_t until_ms, struct store_events *events, struct store_lease *ret,
                 struct err *err);
int sqlite_renew(struct store *base, struct store_lease *lease, int64_t until_ms, struct err *err);
int sqlite_append(struct store *base, const struct store_lease *lease,
                  const struct store_append *append, struct store_events *events, struct err *err);
int sqlite_end(struct store *base, const struct store_lease *lease, const struct store_end *end,
               struct store_events *events, struct err *err);
int sqlite_recover(struct store *base, const char *worker, int64_t now_ms, int *ret_n,
                   struct err *err);
/* The update that both ends are, of a job whose right to end was checked. In a change. */
MUST_CHECK int sqlite_end_job(struct sqlite_store *s, const char *id, const struct store_end *end,
                              struct err *err);

#endif
