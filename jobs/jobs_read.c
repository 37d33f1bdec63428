/*
 * Reading what is not in memory: one job, its blocks, a page of a list, events of the past.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "jobs/jobs_internal.h"

/* ---- one job ---- */

struct get_task {
    struct jobs_task t;
    char id[JOB_ID_SIZE];
    struct job_row *row; /* owned */
    jobs_fn done;
    void *ctx;
};

static void read_the_job(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct get_task *g = CONTAINER_OF(t, struct get_task, t);

    (void)files;
    t->rc = store_get(store, g->id, &g->row, &t->err);
}

/* The job of a row that was just read; one that is in memory counts for more. A reference, or NULL. */
static struct job *adopt_row(struct jobs *j, struct job_row *row, bool keep)
{
    struct job *job = jobs_find(j, row->id);
    struct err err;

    if (job) {
        job_row_free(row);
        return job_ref(job);
    }
    job = job_create(j, row, &err);
    if (!job) {
        log_err("%s", err.msg);
    } else if (keep && job_is_over(job)) {
        jobs_table_add(j, job);
    }
    return job;
}

static void job_read(struct jobs_task *t)
{
    struct get_task *g = CONTAINER_OF(t, struct get_task, t);
    struct job *job = NULL;

    if (t->rc == ERR_OK) {
        job = adopt_row(t->jobs, g->row, true);
        g->row = NULL;
        g->done(g->ctx, job ? JOBS_OK : JOBS_INTERNAL, job);
        job_unref(job);
    } else if (t->rc == ERR_NOT_FOUND) {
        g->done(g->ctx, JOBS_NOT_FOUND, NULL);
    } else {
        log_err("job=%s could not be read: %s", g->id, t->err.msg);
        g->done(g->ctx, JOBS_INTERNAL, NULL);
    }
}

static void free_get(struct jobs_task *t)
{
    job_row_free(CONTAINER_OF(t, struct get_task, t)->row);
}

void jobs_get(struct jobs *j, const char *id, jobs_fn done, void *ctx)
{
    struct job *job = jobs_find(j, id);
    struct get_task *g;

    if (job) {
        job_ref(job);
        done(ctx, JOBS_OK, job);
        job_unref(job);
        return;
    }
    g = jobs_task_create(j, NULL, sizeof(*g));
    if (!g) {
        done(ctx, JOBS_INTERNAL, NULL);
        return;
    }
    snprintf(g->id, sizeof(g->id), "%s", id);
    g->t.run = read_the_job;
    g->t.done = job_read;
    g->t.free = free_get;
    g->done = done;
    g->ctx = ctx;
    jobs_task_post(&g->t);
}

/* ---- blocks ---- */

struct blocks_task {
    struct jobs_task t;
    struct job_block *blocks; /* owned */
    int n;
    jobs_fn done;
    void *ctx;
};

static void read_the_blocks(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct blocks_task *b = CONTAINER_OF(t, struct blocks_task, t);

    (void)files;
    t->rc = store_blocks(store, t->job->row->id, &b->blocks, &b->n, &t->err);
}

static void blocks_read(struct jobs_task *t)
{
    struct blocks_task *b = CONTAINER_OF(t, struct blocks_task, t);
    struct job *job = t->job;

    if (t->rc != ERR_OK) {
        log_err("job=%s: its blocks could not be read: %s", job->row->id, t->err.msg);
    } else if (!job->blocks_loaded) {
        free(job->blocks);
        job->blocks = b->blocks;
        job->n_blocks = b->n;
        job->cap_blocks = b->n;
        job->blocks_loaded = true;
        b->blocks = NULL;
    }
    b->done(b->ctx, t->rc == ERR_OK ? JOBS_OK : JOBS_INTERNAL, job);
}

static void free_blocks(struct jobs_task *t)
{
    free(CONTAINER_OF(t, struct blocks_task, t)->blocks);
}

void jobs_load_blocks(struct jobs *j, struct job *job, jobs_fn done, void *ctx)
{
    struct blocks_task *b;

    if (job->blocks_loaded) {
        done(ctx, JOBS_OK, job);
        return;
    }
    b = jobs_task_create(j, job, sizeof(*b));
    if (!b) {
        done(ctx, JOBS_INTERNAL, job);
        return;
    }
    b->t.run = read_the_blocks;
    b->t.done = blocks_read;
    b->t.free = free_blocks;
    b->done = done;
    b->ctx = ctx;
    jobs_task_post(&b->t);
}

/* ---- a page ---- */

struct list_task {
    struct jobs_task t;
    struct store_query query; /* its texts are owned */
    struct store_rows rows;   /* owned */
    void (*done)(void *ctx, const struct jobs_page *page);
    void *ctx;
};

static void read_the_page(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct list_task *l = CONTAINER_OF(t, struct list_task, t);

    (void)files;
    t->rc = store_list(store, &l->query, &l->rows, &t->err);
}

static void page_read(struct jobs_task *t)
{
    struct list_task *l = CONTAINER_OF(t, struct list_task, t);
    struct jobs_page page = {.has_more = l->rows.has_more};

    if (t->rc == ERR_OK) {
        page.job = calloc((size_t)l->rows.n + 1, sizeof(struct job *));
    }
    if (!page.job) {
        log_err("jobs could not be listed: %s", t->rc == ERR_OK ? "out of memory" : t->err.msg);
        l->done(l->ctx, NULL);
        return;
    }
    for (int i = 0; i < l->rows.n; i++) {
        struct job *job = adopt_row(t->jobs, l->rows.row[i], false);

        l->rows.row[i] = NULL;
        if (job) {
            page.job[page.n++] = job;
        }
    }
    l->done(l->ctx, &page);
    for (int i = 0; i < page.n; i++) {
        job_unref(page.job[i]);
    }
    free(page.job);
}

static void free_list(struct jobs_task *t)
{
    struct list_task *l = CONTAINER_OF(t, struct list_task, t);
    struct store_query *q = &l->query;

    free((void *)q->after);
    free((void *)q->client);
    free((void *)q->model);
    free((void *)q->group);
    free((void *)q->user);
    for (int i = 0; i < q->n_tags; i++) {
        free((void *)q->tags[i]);
    }
    for (int i = 0; i < q->n_metadata; i++) {
        free((void *)q->metadata[i].key);
        free((void *)q->metadata[i].value);
    }
    store_rows_done(&l->rows);
}

/* False when out of memory; NULL stays NULL. */
static bool own(const char **text)
{
    const char *from = *text;

    *text = from ? strdup(from) : NULL;
    return *text || !from;
}

static bool own_query(struct store_query *q)
{
    bool ok = own(&q->after);

    ok = own(&q->client) && ok;
    ok = own(&q->model) && ok;
    ok = own(&q->group) && ok;
    ok = own(&q->user) && ok;
    for (int i = 0; i < q->n_tags; i++) {
        ok = own(&q->tags[i]) && ok;
    }
    for (int i = 0; i < q->n_metadata; i++) {
        ok = own(&q->metadata[i].key) && ok;
        ok = own(&q->metadata[i].value) && ok;
    }
    return ok;
}

void jobs_list(struct jobs *j, const struct store_query *query,
               void (*done)(void *ctx, const struct jobs_page *page), void *ctx)
{
    struct list_task *l = jobs_task_create(j, NULL, sizeof(*l));

    if (!l) {
        done(ctx, NULL);
        return;
    }
    l->query = *query;
    l->t.run = read_the_page;
    l->t.done = page_read;
    l->t.free = free_list;
    l->done = done;
    l->ctx = ctx;
    if (!own_query(&l->query)) {
        jobs_task_free(&l->t);
        done(ctx, NULL);
        return;
    }
    jobs_task_post(&l->t);
}

/* ---- events ---- */

struct events_task {
    struct jobs_task t;
    int64_t after;
    char id[JOB_ID_SIZE];
    int limit;
    struct store_event *found; /* owned [n], with their data */
    int n;
    int64_t oldest;
    void (*done)(void *ctx, struct event **event, int n, int64_t oldest);
    void *ctx;
};

static void read_the_events(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct events_task *e = CONTAINER_OF(t, struct events_task, t);

    (void)files;
    t->rc = store_read_events(store, e->after, e->id[0] ? e->id : NULL, e->limit, &e->found, &e->n,
                              &e->oldest, &t->err);
}

static void events_read(struct jobs_task *t)
{
    struct events_task *e = CONTAINER_OF(t, struct events_task, t);
    struct event **event = NULL;
    int n = 0;

    if (t->rc == ERR_OK) {
        event = calloc((size_t)e->n + 1, sizeof(struct event *));
    }
    while (event && n < e->n && (event[n] = event_format(&e->found[n])) != NULL) {
        n++;
    }
    if (!event || n < e->n) {
        log_err("events could not be read: %s", t->rc == ERR_OK ? "out of memory" : t->err.msg);
        for (int i = 0; i < n; i++) {
            event_unref(event[i]);
        }
        e->done(e->ctx, NULL, 0, 0);
    } else {
        e->done(e->ctx, event, n, e->oldest);
    }
    free(event);
}

static void free_events(struct jobs_task *t)
{
    struct events_task *e = CONTAINER_OF(t, struct events_task, t);

    for (int i = 0; i < e->n; i++) {
        store_event_done(&e->found[i]);
    }
    free(e->found);
}

void jobs_read_events(struct jobs *j, int64_t after, const char *id, int limit,
                      void (*done)(void *ctx, struct event **event, int n, int64_t oldest),
                      void *ctx)
{
    struct events_task *e = jobs_task_create(j, NULL, sizeof(*e));

    if (!e) {
        done(ctx, NULL, 0, 0);
        return;
    }
    e->after = after;
    snprintf(e->id, sizeof(e->id), "%s", id ? id : "");
    e->limit = limit;
    e->t.run = read_the_events;
    e->t.done = events_read;
    e->t.free = free_events;
    e->done = done;
    e->ctx = ctx;
    jobs_task_post(&e->t);
}
