/*
 * wait.h - waiting until a job changes its status, or is over, or has so many blocks, or a time has passed: for
 * ?wait=, Prefer: wait=, cancel and HLS. Embedded in the struct of whoever waits.
 *
 * Loop thread.
 */
#ifndef API_WAIT_H
#define API_WAIT_H

#include "api/link.h"
#include "jobs/job.h"

struct api;

struct wait {
    struct link link; /* of api->waits */
    struct job *job;  /* a reference; NULL: does not wait */
    struct job_watch watch;
    int64_t until_ns;
    bool until_over;      /* else: until the status is another one */
    int64_t until_blocks; /* also when so many are stored; 0: not. Set behind wait_start */
    enum job_status from;
    void (*done)(struct wait *w, struct job *job);
};

/* done is called once, at the earliest from a later callback; not after wait_stop. job is borrowed there. */
void wait_start(struct wait *w, struct api *api, struct job *job, int64_t timeout_ms,
                bool until_over, void (*done)(struct wait *w, struct job *job));

/* Also when it does not wait (zeroed, or done). */
void wait_stop(struct wait *w);

/* Ends it if its time has come. */
void wait_tick(struct wait *w, int64_t now_ns);

#endif
