/*
 * scheduler.h - whose turn is it: priority, then round-robin over clients, then age. Pure.
 *
 * Within a priority a job that was begun and set aside goes before those that were not. Round-robin: the
 * client that was served longest ago comes first; clients that were never served come in order of their
 * oldest job. Loop thread.
 */
#ifndef JOBS_SCHEDULER_H
#define JOBS_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct scheduler_job {
    const char *id; /* in order of age */
    const char *client;
    int priority;
    bool begun;
};

struct scheduler;

MUST_CHECK int scheduler_create(struct scheduler **ret, struct err *err);
void scheduler_free(struct scheduler *s);

/* Index of the one to run now, -1 if n is 0. */
int scheduler_pick(const struct scheduler *s, const struct scheduler_job *jobs, int n);

/* A job of this client was started. Out of memory: its turn is forgotten, nothing else. */
void scheduler_served(struct scheduler *s, const char *client);

/* The order in which jobs[0, n) would be started one after the other: ret_order[n] gets indices; for queue
 * positions. Does not change s. ret_order is identity on want of memory. */
void scheduler_order(const struct scheduler *s, const struct scheduler_job *jobs, int n,
                     int *ret_order);

#endif
