/*
 * supervisor.h - one worker process and the conversation with it: started, listened to, restarted.
 *
 * The worker is this binary again (`sanad worker`), joined by a socket pair. It inherits the descriptor that
 * locks the data directory, so that no other daemon can start there before it is gone. When it dies, jobs/ is
 * told, and a new one is started: at once the first time, then with growing delays. A worker that lets a
 * cancelled job run on beyond the grace time, does not answer pings, or says what cannot be understood is killed.
 *
 * Loop thread.
 */
#ifndef DAEMON_SUPERVISOR_H
#define DAEMON_SUPERVISOR_H

#include <uv.h>

#include "jobs/jobs.h"
#include "worker/device_choice.h"

struct supervisor_options {
    uv_loop_t *loop; /* borrowed, as is all else */
    struct jobs *jobs;
    const char *command; /* the worker's program; NULL: this binary */
    const char *model;   /* directory */
    struct device_choice device;
    int64_t checkpoint_interval_ms;
    int lock_fd; /* handed down; -1: none */
    /* The first worker never became ready, several times over: there is no point in going on. */
    void (*hopeless)(void *ctx, const char *reason);
    void *ctx;
};

/* May change at any time. */
struct supervisor_limits {
    int64_t cancel_grace_ms;
    int64_t restart_delay_ms, restart_delay_max_ms;
};

struct supervisor;

/* Starts the first worker. Errors: ERR_IO (it cannot be started), ERR_NO_MEMORY. */
MUST_CHECK int supervisor_open(struct supervisor **ret, const struct supervisor_options *options,
                               const struct supervisor_limits *limits, struct err *err);
void supervisor_configure(struct supervisor *s, const struct supervisor_limits *limits);

/* Ends the worker: asked first, killed after grace_ms. done(ctx) when it is gone and s is freed; jobs/ is told
 * of the end (jobs_on_down). */
void supervisor_close(struct supervisor *s, int64_t grace_ms, void (*done)(void *ctx), void *ctx);

#endif
