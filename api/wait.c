#include "api/wait.h"

#include "api/api_internal.h"
#include "base/clock.h"

void wait_stop(struct wait *w)
{
    struct job *job = w->job;

    if (!job) {
        return;
    }
    w->job = NULL;
    job_watch_remove(job, &w->watch);
    link_remove(&w->link);
    job_unref(job);
}

static void finish(struct wait *w)
{
    struct job *job = job_ref(w->job);

    wait_stop(w);
    w->done(w, job);
    job_unref(job);
}

static void changed(struct job_watch *watch, struct job *job)
{
    struct wait *w = CONTAINER_OF(watch, struct wait, watch);

    if (job->deleted || job_is_over(job) || (!w->until_over && job_status(job) != w->from) ||
        (w->until_blocks > 0 && job->row->blocks >= w->until_blocks)) {
        finish(w);
    }
}

void wait_start(struct wait *w, struct api *api, struct job *job, int64_t timeout_ms,
                bool until_over, void (*done)(struct wait *w, struct job *job))
{
    *w = (struct wait){
        .job = job_ref(job),
        .watch.changed = changed,
        .until_ns = clock_now_ns() + timeout_ms * 1000000,
        .until_over = until_over,
        .from = job_status(job),
        .done = done,
    };
    job_watch_add(job, &w->watch);
    link_add(&api->waits, &w->link);
}

void wait_tick(struct wait *w, int64_t now_ns)
{
    if (now_ns >= w->until_ns) {
        finish(w);
    }
}
