/*
 * A task for the storage thread: what it does there, what it does to memory when it is done, and the events
 * that come of it. Memory changes first, then the events are published: who looks at both sees them agree.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "jobs/jobs_internal.h"

static struct jobs_task *of(struct store_task *task)
{
    return CONTAINER_OF(task, struct jobs_task, task);
}

static void run_task(struct store_task *task, struct store *store, struct job_files *files)
{
    struct jobs_task *t = of(task);

    t->run(t, store, files);
}

static void publish_all(struct jobs_task *t)
{
    bool any = false;

    for (int i = 0; i < t->events.n; i++) {
        if (t->event[i].seq > 0) {
            jobs_publish(t->jobs, &t->event[i]);
            any = true;
        }
    }
    if (any) {
        jobs_published(t->jobs);
    }
}

static void finish_task(struct store_task *task)
{
    struct jobs_task *t = of(task);

    if (t->rc == ERR_IO ||
        t->rc == ERR_FORMAT) { /* perhaps the store: it is checked until it works */
        t->jobs->store_failed = true;
    }
    if (t->done) {
        t->done(t);
    }
    if (t->rc == ERR_OK) {
        publish_all(t);
    }
    jobs_task_free(t);
}

void *jobs_task_create(struct jobs *j, struct job *job, size_t size)
{
    struct jobs_task *t = calloc(1, size);

    if (!t) {
        return NULL;
    }
    t->jobs = j;
    t->job = job ? job_ref(job) : NULL;
    t->task.run = run_task;
    t->task.done = finish_task;
    t->events.event = t->event;
    return t;
}

void jobs_task_free(struct jobs_task *t)
{
    if (t->free) {
        t->free(t);
    }
    for (int i = 0; i < t->events.n; i++) {
        store_event_done(&t->event[i]);
    }
    job_unref(t->job);
    free(t);
}

void jobs_task_event(struct jobs_task *t, const char *type, const char *job, char *data)
{
    struct store_event *e = &t->event[t->events.n];

    CHECK_BUG(t->events.n < TASK_MAX_EVENTS);
    t->events.n++;
    e->created_ms = jobs_now(t->jobs);
    e->data = data;
    snprintf(e->type, sizeof(e->type), "%s", type);
    snprintf(e->job, sizeof(e->job), "%s", job);
}

void jobs_task_post(struct jobs_task *t)
{
    store_thread_post(t->jobs->options.storage, &t->task);
}

/* ---- events that are not kept ---- */

struct passing {
    struct jobs_task t;
    char *data; /* owned; kept from the store, which then only gives a number */
};

static void take_number(struct jobs_task *t, struct store *store, struct job_files *files)
{
    (void)files;
    t->rc = store_log(store, &t->events, &t->err);
}

static void give_data(struct jobs_task *t)
{
    struct passing *p = CONTAINER_OF(t, struct passing, t);

    t->event[0].data = p->data;
    p->data = NULL;
}

static void free_passing(struct jobs_task *t)
{
    free(CONTAINER_OF(t, struct passing, t)->data);
}

void jobs_emit_passing(struct jobs *j, struct job *job, const char *type, char *data)
{
    const bool late = job->ending || job->deleted; /* it would come behind the job's last event */
    struct passing *p = data && !late ? jobs_task_create(j, job, sizeof(*p)) : NULL;

    if (!p) { /* progress is a courtesy: the next one tells the same */
        free(data);
        return;
    }
    p->data = data;
    p->t.run = take_number;
    p->t.done = give_data;
    p->t.free = free_passing;
    jobs_task_event(&p->t, type, job->row->id, NULL);
    jobs_task_post(&p->t);
}
