/*
 * recent.h - the newest videos that were created without an Idempotency-Key: for libraries that repeat a POST
 * whose connection broke (API.md 3.3, the SDK-retry guard). Whether the answer arrived cannot be known here: a
 * proxy may have taken it. But a library that got a 200 does not repeat, so one that says that it repeats did not.
 *
 * Bounded; in memory, filled from the store at the start. Loop thread.
 */
#ifndef API_RECENT_H
#define API_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "api/header.h"
#include "storage/job_row.h"

enum {
    RECENT_MAX = 1024,
    RECENT_SECONDS = 120,
};

struct recent {
    int64_t number; /* from 1; 0: empty */
    int64_t at_ns;
    char client[HEADER_CLIENT_SIZE];
    char fingerprint[JOB_SHA256_SIZE];
    char id[JOB_ID_SIZE]; /* "": is being created */
};

struct recent_table {
    int64_t last;
    struct recent entry[RECENT_MAX];
};

/* Returns its number, for the functions below; they do nothing when it has been pushed out. */
int64_t recent_add(struct recent_table *t, const char *client, const char *fingerprint,
                   int64_t now_ns);
void recent_created(struct recent_table *t, int64_t number, const char *id);
void recent_drop(struct recent_table *t, int64_t number);

/* The newest of this client with this fingerprint that is not too old; NULL: none. */
const struct recent *recent_find(const struct recent_table *t, const char *client,
                                 const char *fingerprint, int64_t now_ns);

#endif
