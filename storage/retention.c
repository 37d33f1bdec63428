#include "storage/retention.h"

#include <stdlib.h>

enum {
    MAX_REMOVED = 256 /* in one pass: it holds up all else that the thread has to do */
};

int retention_run(struct store *store, struct job_files *files,
                  const struct retention_limits *limits, int64_t now_ms, struct store_ids *ret,
                  struct err *err)
{
    struct store_ids ids = {0};
    int n = 0;
    int rc = store_expirable(store, now_ms, limits->max_bytes, MAX_REMOVED, &ids, err);

    while (rc == ERR_OK && n < ids.n) {
        rc = store_expire(store, ids.id[n], now_ms, err);
        if (rc == ERR_OK) {
            rc = job_files_remove(files, ids.id[n], err);
            n++;
        }
    }
    if (rc == ERR_OK) {
        rc = store_prune(store, now_ms - limits->gone_ms, now_ms - limits->events_ms,
                         limits->keep_events, err);
    }
    ids.n = n;
    *ret = ids;
    return rc;
}
