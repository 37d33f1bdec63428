/*
 * store_ops.h - for those who implement store.h: the same functions, behind its checks of arguments.
 *
 * What store.c promises to the implementation: ids are valid (job_id_valid) or, where a job is looked up,
 * at least strings; events have a type and are at most STORE_MAX_EVENTS; enumerations and counts are in
 * range; strings that must be there are.
 */
#ifndef STORAGE_STORE_OPS_H
#define STORAGE_STORE_OPS_H

#include "storage/store.h"

enum {
    STORE_MAX_EVENTS = 64
};

struct store_ops {
    int (*create)(struct store *s, const struct job_row *row, const struct store_idempotency *key,
                  struct store_events *events, enum store_created *ret, char ret_id[JOB_ID_SIZE],
                  struct err *err);
    int (*find_key)(struct store *s, const struct store_idempotency *key, const char *fingerprint,
                    enum store_created *ret, char ret_id[JOB_ID_SIZE], struct err *err);
    int (*get)(struct store *s, const char *id, struct job_row **ret, struct err *err);
    int (*list)(struct store *s, const struct store_query *query, struct store_rows *ret,
                struct err *err);
    int (*unfinished)(struct store *s, struct store_rows *ret, struct err *err);
    int (*blocks)(struct store *s, const char *id, struct job_block **ret, int *ret_n,
                  struct err *err);
    int (*read_events)(struct store *s, int64_t after, const char *job, int limit,
                       struct store_event **ret, int *ret_n, int64_t *ret_oldest, struct err *err);
    int (*set)(struct store *s, const char *id, const struct store_update *update,
               struct store_events *events, struct err *err);
    int (*end_queued)(struct store *s, const char *id, const struct store_end *end,
                      struct store_events *events, struct err *err);
    int (*request_cancel)(struct store *s, const char *id, struct err *err);
    int (*remove)(struct store *s, const char *id, struct store_events *events, struct err *err);
    int (*prepared)(struct store *s, const char *id, const char *detail, int64_t init_bytes,
                    struct err *err);
    int (*claim)(struct store *s, const char *id, const char *worker, int64_t now_ms,
                 int64_t until_ms, struct store_events *events, struct store_lease *ret,
                 struct err *err);
    int (*renew)(struct store *s, struct store_lease *lease, int64_t until_ms, struct err *err);
    int (*append)(struct store *s, const struct store_lease *lease,
                  const struct store_append *append, struct store_events *events, struct err *err);
    int (*end)(struct store *s, const struct store_lease *lease, const struct store_end *end,
               struct store_events *events, struct err *err);
    int (*recover)(struct store *s, const char *worker, int64_t now_ms, int *ret_n,
                   struct err *err);
    int (*log)(struct store *s, struct store_events *events, struct err *err);
    int (*count)(struct store *s, struct store_totals *ret, struct err *err);
    int (*expirable)(struct store *s, int64_t now_ms, int64_t max_bytes, int limit,
                     struct store_ids *ret, struct err *err);
    int (*expire)(struct store *s, const char *id, int64_t now_ms, struct err *err);
    int (*prune)(struct store *s, int64_t expired_before_ms, int64_t events_before_ms,
                 int64_t keep_events, struct err *err);
    int (*check)(struct store *s, struct err *err);
    int (*watch_fd)(struct store *s);
    void (*watch_clear)(struct store *s);
    void (*close)(struct store *s);
};

#endif
