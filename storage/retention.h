/*
 * retention.h - what is removed when: finished videos after their time or when the disk's share is used
 * up (oldest first), their records a while later, old events. Storage thread.
 */
#ifndef STORAGE_RETENTION_H
#define STORAGE_RETENTION_H

#include "storage/job_files.h"
#include "storage/store.h"

struct retention_limits {
    int64_t max_bytes;   /* of all videos; 0: no limit */
    int64_t gone_ms;     /* an expired job's record stays so long: 24 h */
    int64_t events_ms;   /* events stay at least so long: 1 h ... */
    int64_t keep_events; /* ... and at least so many: 10000 */
};

/* One pass. ret: the jobs whose bytes were removed (the caller frees ret->id). First the record says so, then
 * the bytes go: a crash in between leaves bytes that the next start sweeps, never a record without bytes.
 * ret is set after a failure, too: what was done until then. */
MUST_CHECK int retention_run(struct store *store, struct job_files *files,
                             const struct retention_limits *limits, int64_t now_ms,
                             struct store_ids *ret, struct err *err);

#endif
