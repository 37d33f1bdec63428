/*
 * Opening, accepting, finding, changing. Everything that changes something is a task of the storage thread; memory
 * follows when it is done.
 */
#include "jobs/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "jobs/jobs_internal.h"

enum {
    RING_EVENTS = 8192,
    RING_BYTES = 4 << 20,
    MAX_SPEC = 4 << 20, /* two prompts of 32000 characters, escaped */
};

int64_t jobs_now(const struct jobs *j)
{
    return j->options.now_ms();
}

/* ---- opening ---- */

static int load_blocks_of(struct job *job, struct store *store, struct err *err)
{
    const int rc = store_blocks(store, job->row->id, &job->blocks, &job->n_blocks, err);

    job->cap_blocks = job->n_blocks;
    job->blocks_loaded = rc == ERR_OK;
    return rc;
}

static int load_job(struct jobs *j, struct store *store, struct job_row *row, struct err *err)
{
    struct job *job;
    struct err why;
    int rc = job_files_recover(j->options.files, row, &why);
    const bool lost = rc == ERR_FORMAT;

    if (rc != ERR_OK && !lost) {
        *err = why;
        job_row_free(row);
        return rc;
    }
    job = job_create(j, row, err);
    if (!job) {
        return err->code;
    }
    if (lost) { /* its files do not hold what the store says: it cannot go on */
        log_err("job=%s: %s; job failed", job->row->id, why.msg);
        job->lost = true;
    }
    rc = load_blocks_of(job, store, err);
    if (rc == ERR_OK) {
        jobs_table_add(j, job);
    }
    job_unref(job);
    return rc;
}

static int load_unfinished(struct jobs *j, struct store *store, struct err *err)
{
    struct store_rows rows = {0};
    int rc = store_unfinished(store, &rows, err);

    for (int i = 0; i < rows.n && rc == ERR_OK; i++) {
        struct job_row *row = rows.row[i];

        rows.row[i] = NULL;
        rc = load_job(j, store, row, err);
    }
    store_rows_done(&rows);
    return rc;
}

struct known {
    struct store *store;
    struct job_files *files;
    int rc;
    struct err *err;
};

static bool has_row(void *ctx, const char *id)
{
    struct known *k = ctx;
    struct job_row *row = NULL;
    struct err ignored;
    int rc = store_get(k->store, id, &row, k->err);

    if (rc != ERR_OK && rc != ERR_NOT_FOUND) {
        k->rc = rc;
    }
    if (rc == ERR_OK && row->expired_ms != 0) {
        rc = ERR_NOT_FOUND; /* its files were to be removed */
    } else if (rc == ERR_OK && row->state != JOB_QUEUED && row->state != JOB_RUNNING &&
               job_files_trim(k->files, id, &ignored) != ERR_OK) {
        log_warn("job=%s: %s", id, ignored.msg); /* a crash came between its end and this */
    }
    job_row_free(row);
    return rc != ERR_NOT_FOUND; /* in doubt it stays */
}

static int recover(struct jobs *j, struct store *store, struct err *err)
{
    struct known known = {.store = store, .files = j->options.files, .err = err};
    struct store_totals totals;
    int n = 0;
    int swept = 0;
    int rc = store_recover(store, j->options.worker_name, jobs_now(j), &n, err);

    if (rc == ERR_OK) {
        rc = load_unfinished(j, store, err);
    }
    if (rc == ERR_OK) {
        rc = job_files_sweep(j->options.files, has_row, &known, &swept, err);
    }
    rc = rc == ERR_OK ? known.rc : rc;
    if (rc == ERR_OK) {
        rc = store_count(store, &totals, err);
    }
    if (rc == ERR_OK) {
        events_set_last(j->events, totals.last_seq);
        log_info("jobs unfinished=%d interrupted=%d stored=%lld orphans_removed=%d",
                 j->unfinished.n, n, (long long)totals.jobs, swept);
    }
    return rc;
}

/* Jobs whose data was lost, and cancelled ones whose worker did not live to see it. */
static void end_hopeless(struct jobs *j)
{
    for (struct job *job = j->unfinished.first; job; job = job->next) {
        if (job->lost) {
            jobs_end_queued(j, job, "generation_failed", "The video's data was lost.", NULL, NULL);
        } else if (job->row->cancel_requested) {
            jobs_end_queued(j, job, "cancelled", "The video was cancelled.", NULL, NULL);
        }
    }
}

int jobs_open(struct jobs **ret, const struct jobs_options *options, struct store *store,
              struct err *err)
{
    struct jobs *j = calloc(1, sizeof(*j));
    int rc;

    if (!j) {
        return err_set(err, ERR_NO_MEMORY, "jobs");
    }
    j->options = *options;
    j->limits = options->limits;
    if (!j->options.now_ms) {
        j->options.now_ms = clock_wall_ms;
    }
    rc = events_open(&j->events, RING_EVENTS, RING_BYTES, err);
    if (rc == ERR_OK) {
        rc = scheduler_create(&j->scheduler, err);
    }
    if (rc == ERR_OK) {
        rc = recover(j, store, err);
    }
    if (rc != ERR_OK) {
        jobs_close(j);
        return rc;
    }
    jobs_recount(j);
    j->positions_changed = true;
    end_hopeless(j);
    *ret = j;
    return ERR_OK;
}

static void drop_all(struct jobs *j, struct job_list *list)
{
    while (list->first) {
        jobs_table_remove(j, list->first);
    }
}

void jobs_close(struct jobs *j)
{
    if (!j) {
        return;
    }
    for (int i = 0; i < j->n_devices; i++) {
        if (j->devices[i]->job) {
            jobs_release(j->devices[i]->job);
        }
        free(j->devices[i]);
    }
    drop_all(j, &j->unfinished);
    drop_all(j, &j->finished);
    scheduler_free(j->scheduler);
    events_close(j->events);
    free(j);
}

void jobs_configure(struct jobs *j, const struct jobs_limits *limits)
{
    j->limits = *limits;
}

/* ---- accepting ---- */

struct create_task {
    struct jobs_task t;
    struct job *new_job; /* a reference */
    struct store_idempotency key;
    char *reference_path; /* owned; or */
    void *reference_data; /* owned */
    size_t reference_bytes;
    enum jobs_outcome
        refusal; /* JOBS_OK: none; else the job is not made, unless the key knows it */
    enum store_created outcome;
    char existing[JOB_ID_SIZE];
    jobs_fn done;
    void *ctx;
};

static int store_reference(struct create_task *c, struct job_files *files, struct err *err)
{
    const char *id = c->new_job->row->id;

    if (c->reference_path) {
        return job_files_adopt(files, id, JOB_REFERENCE, c->reference_path, err);
    }
    if (c->reference_data) {
        return job_files_write(files, id, JOB_REFERENCE, 0, c->reference_data, c->reference_bytes,
                               err);
    }
    return ERR_OK;
}

static void store_the_job(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct create_task *c = CONTAINER_OF(t, struct create_task, t);
    const char *id = c->new_job->row->id;
    struct err ignored;

    if (c->refusal != JOBS_OK) {
        t->rc = store_find_key(store, &c->key, c->new_job->row->fingerprint, &c->outcome,
                               c->existing, &t->err);
        return;
    }
    t->rc = job_files_make(files, id, &t->err);
    if (t->rc == ERR_OK) {
        t->rc = store_reference(c, files, &t->err);
    }
    if (t->rc == ERR_OK) {
        t->rc = store_create(store, c->new_job->row, &c->key, &t->events, &c->outcome, c->existing,
                             &t->err);
    }
    if ((t->rc != ERR_OK || c->outcome != STORE_CREATED) &&
        job_files_remove(files, id, &ignored) != ERR_OK) {
        log_warn("job=%s: %s; the next start removes it", id, ignored.msg);
    }
}

static void accept(struct jobs *j, struct job *job)
{
    log_info("job=%s queued model=%s size=%lldx%lld frames=%lld steps=%d priority=%d", job->row->id,
             job->row->model, (long long)job->spec.width, (long long)job->spec.height,
             (long long)job->spec.num_frames, job->spec.steps, job->row->priority);
    log_debug("job=%s prompt=\"%s\"", job->row->id, job->spec.prompt);
    job->blocks_loaded = true; /* there are none */
    jobs_table_add(j, job);
    jobs_recount(j);
    j->positions_changed = true;
}

struct replay {
    jobs_fn done;
    void *ctx;
};

static void replay_found(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct replay *r = ctx;

    /* Deleted in this very moment: the key leads to nothing any more. */
    r->done(r->ctx, outcome == JOBS_OK ? JOBS_REPLAYED : JOBS_KEY_REUSED, job);
    free(r);
}

static void replay_job(struct create_task *c)
{
    struct replay *r = malloc(sizeof(*r));

    if (!r) {
        c->done(c->ctx, JOBS_INTERNAL, NULL);
        return;
    }
    *r = (struct replay){.done = c->done, .ctx = c->ctx};
    jobs_get(c->t.jobs, c->existing, replay_found, r);
}

static void job_stored(struct jobs_task *t)
{
    struct create_task *c = CONTAINER_OF(t, struct create_task, t);
    struct jobs *j = t->jobs;

    if (c->refusal == JOBS_OK) {
        jobs_list_remove(&j->creating, c->new_job);
    } else {
        t->events.n = 0;
    }
    if (t->rc != ERR_OK) {
        log_err("a job could not be accepted: %s", t->err.msg);
        c->done(c->ctx, t->rc == ERR_NO_SPACE ? JOBS_NO_SPACE : JOBS_INTERNAL, NULL);
    } else if (c->outcome == STORE_REPLAYED) {
        t->events.n = 0;
        replay_job(c);
    } else if (c->outcome == STORE_KEY_REUSED) {
        t->events.n = 0;
        c->done(c->ctx, JOBS_KEY_REUSED, NULL);
    } else if (c->refusal != JOBS_OK) {
        c->done(c->ctx, c->refusal, NULL);
    } else {
        accept(j, c->new_job);
        c->done(c->ctx, JOBS_OK, c->new_job);
        jobs_prepare(j, c->new_job);
        jobs_schedule(j);
    }
}

static void free_create(struct jobs_task *t)
{
    struct create_task *c = CONTAINER_OF(t, struct create_task, t);

    for (int i = t->events.n; i < TASK_MAX_EVENTS; i++) {
        store_event_done(&t->event[i]);
    }
    job_unref(c->new_job);
    free(c->reference_path);
    free(c->reference_data);
}

bool jobs_has_space(const struct jobs *j)
{
    int64_t space;
    struct err ignored;

    return job_files_free_space(j->options.files, &space, &ignored) != ERR_OK ||
           space >= j->limits.min_free_bytes;
}

static enum jobs_outcome may_accept(const struct jobs *j, const struct jobs_new *n)
{
    int own = 0;

    if (j->draining) {
        return JOBS_DRAINS;
    }
    if (!j->has_facts) {
        return JOBS_NOT_READY;
    }
    if (j->queued + j->creating.n >= j->limits.queue_capacity) {
        return JOBS_QUEUE_FULL;
    }
    for (const struct job *job = j->unfinished.first; job; job = job->next) {
        own += !job->run && strcmp(job->row->client, n->client) == 0 ? 1 : 0;
    }
    for (const struct job *job = j->creating.first; job; job = job->next) {
        own += strcmp(job->row->client, n->client) == 0 ? 1 : 0;
    }
    if (own >= j->limits.queue_per_client && n->client[0]) {
        return JOBS_CLIENT_FULL;
    }
    return jobs_has_space(j) ? JOBS_OK : JOBS_NO_SPACE;
}

static bool fill_row(struct job_row *row, const struct jobs_new *n, const char *spec,
                     const char *detail)
{
    snprintf(row->fingerprint, sizeof(row->fingerprint), "%s", n->fingerprint);
    row->priority = n->priority;
    return job_row_set(&row->client, n->client) && job_row_set(&row->model, n->model) &&
           job_row_set(&row->group, n->group) && job_row_set(&row->user, n->user) &&
           job_row_set(&row->tags, n->tags ? n->tags : "[]") &&
           job_row_set(&row->metadata, n->metadata ? n->metadata : "{}") &&
           job_row_set(&row->spec, spec) && job_row_set(&row->detail, detail);
}

/* NULL when out of memory or out of random numbers. */
static struct job_row *make_row(struct jobs *j, const struct jobs_new *n, struct err *err)
{
    const struct job_detail nothing = {0};
    struct job_row *row = job_row_create();
    struct str spec;
    struct str detail;
    bool ok;

    str_init(&spec, MAX_SPEC);
    str_init(&detail, 8192);
    ok = row && job_spec_to_json(&n->spec, &spec, err) == ERR_OK &&
         job_detail_to_json(&nothing, &detail) &&
         fill_row(row, n, str_get(&spec), str_get(&detail));
    if (ok) {
        row->created_ms = jobs_now(j);
        row->deadline_ms = n->cancel_after_ms > 0 ? row->created_ms + n->cancel_after_ms : 0;
        ok = video_id_next(&j->ids, row->created_ms, row->id, err) == ERR_OK;
    }
    if (!ok) {
        job_row_free(row);
        row = NULL;
    }
    str_done(&spec);
    str_done(&detail);
    return row;
}

static bool copy_reference(struct create_task *c, const struct jobs_new *n)
{
    if (n->reference_path) {
        c->reference_path = strdup(n->reference_path);
        return c->reference_path != NULL;
    }
    if (n->reference_data) {
        c->reference_data = malloc(n->reference_bytes + 1);
        c->reference_bytes = n->reference_bytes;
        if (c->reference_data) {
            memcpy(c->reference_data, n->reference_data, n->reference_bytes);
        }
        return c->reference_data != NULL;
    }
    return true;
}

/* NULL: logged. */
static struct create_task *make_create(struct jobs *j, const struct jobs_new *n)
{
    struct err err = {0};
    struct create_task *c = jobs_task_create(j, NULL, sizeof(*c));
    struct job_row *row = c ? make_row(j, n, &err) : NULL;
    char *event;

    if (!row) {
        goto failed;
    }
    c->t.run = store_the_job;
    c->t.done = job_stored;
    c->t.free = free_create;
    c->key = n->key;
    c->new_job = job_create(j, row, &err);
    if (!c->new_job || !copy_reference(c, n)) {
        goto failed;
    }
    c->new_job->queue_position = j->queued + j->creating.n + 1;
    event = jobs_event_queued(c->new_job);
    if (!event) {
        goto failed;
    }
    jobs_task_event(&c->t, "video.queued", row->id, event);
    return c;
failed:
    log_err("a job could not be accepted: %s", err.msg[0] ? err.msg : "out of memory");
    if (c) {
        jobs_task_free(&c->t);
    }
    return NULL;
}

void jobs_create(struct jobs *j, struct jobs_new *n, jobs_fn done, void *ctx)
{
    const enum jobs_outcome outcome = may_accept(j, n);
    const bool look = outcome == JOBS_OK || n->key.key[0] != '\0';
    struct create_task *c = look ? make_create(j, n) : NULL;

    job_spec_done(&n->spec);
    if (!c) {
        done(ctx, outcome == JOBS_OK ? JOBS_INTERNAL : outcome, NULL);
        return;
    }
    c->done = done;
    c->ctx = ctx;
    c->refusal = outcome;
    if (outcome == JOBS_OK) {
        jobs_list_append(&j->creating, c->new_job);
    }
    jobs_task_post(&c->t);
}

/* ---- changing ---- */

/* A change of a job that has to be read first. */
struct later {
    struct jobs *jobs;
    void (*fn)(struct later *later, const char *id);
    struct jobs_update update; /* its texts are owned */
    int priority;
    const char *code; /* static, or NULL */
    jobs_fn done;
    void *ctx;
};

static void free_later(struct later *l)
{
    free((void *)l->update.tags);
    free((void *)l->update.metadata);
    free(l);
}

static void job_is_there(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct later *l = ctx;

    if (outcome == JOBS_OK) {
        l->fn(l, job->row->id); /* in memory now */
    } else {
        l->done(l->ctx, outcome, NULL);
    }
    free_later(l);
}

/* fn again when the job is in memory; NULL: out of memory, done was called. */
static struct later *read_first(struct jobs *j, void (*fn)(struct later *later, const char *id),
                                jobs_fn done, void *ctx)
{
    struct later *l = calloc(1, sizeof(*l));

    if (!l) {
        done(ctx, JOBS_INTERNAL, NULL);
        return NULL;
    }
    *l = (struct later){.jobs = j, .fn = fn, .done = done, .ctx = ctx};
    return l;
}

struct update_task {
    struct jobs_task t;
    char id[JOB_ID_SIZE];
    char *tags, *metadata; /* owned */
    int priority;
    bool has_priority;
    jobs_fn done;
    void *ctx;
};

static void store_the_update(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct update_task *u = CONTAINER_OF(t, struct update_task, t);
    const struct store_update update = {.tags = u->tags,
                                        .metadata = u->metadata,
                                        .priority = u->has_priority ? &u->priority : NULL};

    (void)files;
    t->rc = store_set(store, u->id, &update, &t->events, &t->err);
}

static void apply_update(struct update_task *u, struct job *job)
{
    if ((u->tags && !job_row_set(&job->row->tags, u->tags)) ||
        (u->metadata && !job_row_set(&job->row->metadata, u->metadata))) {
        log_warn("job=%s: out of memory; tags are shown as they were", job->row->id);
    }
    if (u->has_priority) {
        job->row->priority = u->priority;
        u->t.jobs->positions_changed = true;
    }
    job_changed(job);
    jobs_schedule(u->t.jobs);
}

static void update_stored(struct jobs_task *t)
{
    struct update_task *u = CONTAINER_OF(t, struct update_task, t);
    enum jobs_outcome outcome = JOBS_OK;

    if (--t->job->updates == 0) {
        free(t->job->metadata_next);
        t->job->metadata_next = NULL;
    }
    if (t->rc == ERR_OK) {
        apply_update(u, t->job);
    } else if (t->rc == ERR_NOT_FOUND) {
        outcome = JOBS_NOT_FOUND;
    } else if (t->rc == ERR_BUSY) {
        outcome = JOBS_BUSY;
    } else {
        log_err("job=%s could not be changed: %s", u->id, t->err.msg);
        outcome = t->rc == ERR_NO_SPACE ? JOBS_NO_SPACE : JOBS_INTERNAL;
    }
    u->done(u->ctx, outcome, t->job);
}

static void free_update(struct jobs_task *t)
{
    struct update_task *u = CONTAINER_OF(t, struct update_task, t);

    free(u->tags);
    free(u->metadata);
}

static bool fill_update(struct update_task *u, const struct jobs_update *update)
{
    u->tags = update->tags ? strdup(update->tags) : NULL;
    u->metadata = update->metadata ? strdup(update->metadata) : NULL;
    u->has_priority = update->priority != NULL;
    u->priority = update->priority ? *update->priority : 0;
    return (!update->tags || u->tags) && (!update->metadata || u->metadata);
}

static void update_later(struct later *l, const char *id)
{
    jobs_update(l->jobs, id, &l->update, l->done, l->ctx);
}

static void read_then_update(struct jobs *j, const char *id, const struct jobs_update *update,
                             jobs_fn done, void *ctx)
{
    struct later *l = read_first(j, update_later, done, ctx);

    if (!l) {
        return;
    }
    l->update.tags = update->tags ? strdup(update->tags) : NULL;
    l->update.metadata = update->metadata ? strdup(update->metadata) : NULL;
    l->priority = update->priority ? *update->priority : 0;
    l->update.priority = update->priority ? &l->priority : NULL;
    if ((update->tags && !l->update.tags) || (update->metadata && !l->update.metadata)) {
        free_later(l);
        done(ctx, JOBS_INTERNAL, NULL);
        return;
    }
    jobs_get(j, id, job_is_there, l);
}

void jobs_update(struct jobs *j, const char *id, const struct jobs_update *update, jobs_fn done,
                 void *ctx)
{
    struct job *job = jobs_find(j, id);
    struct update_task *u;

    if (!job) {
        read_then_update(j, id, update, done, ctx);
        return;
    }
    u = jobs_task_create(j, job, sizeof(*u));
    if (!u) {
        done(ctx, JOBS_INTERNAL, job);
        return;
    }
    snprintf(u->id, sizeof(u->id), "%s", id);
    u->t.run = store_the_update;
    u->t.done = update_stored;
    u->t.free = free_update;
    u->done = done;
    u->ctx = ctx;
    if (!fill_update(u, update) ||
        (u->metadata && !job_row_set(&job->metadata_next, u->metadata))) {
        jobs_task_free(&u->t);
        done(ctx, JOBS_INTERNAL, job);
        return;
    }
    job->updates++;
    jobs_task_post(&u->t);
}

/* ---- cancelling ---- */

struct cancel_task {
    struct jobs_task t;
    jobs_fn done;
    void *ctx;
};

static void store_the_wish(struct jobs_task *t, struct store *store, struct job_files *files)
{
    (void)files;
    t->rc = store_request_cancel(store, t->job->row->id, &t->err);
}

static void wish_stored(struct jobs_task *t)
{
    struct cancel_task *c = CONTAINER_OF(t, struct cancel_task, t);

    if (t->rc != ERR_OK && t->rc != ERR_NOT_FOUND) {
        log_warn("job=%s: its cancellation could not be noted: %s", t->job->row->id, t->err.msg);
    }
    c->done(c->ctx, JOBS_OK, t->job);
}

const char *jobs_cancel_message(const char *code)
{
    return strcmp(code, "deadline_exceeded") == 0 ? "The video was not done in time."
                                                  : "The video was cancelled.";
}

static void cancel_run(struct jobs *j, struct job *job, const char *code, jobs_fn done, void *ctx)
{
    struct cancel_task *c = jobs_task_create(j, job, sizeof(*c));

    job->row->cancel_requested = true;
    job->cancel_code = code;
    log_info("job=%s cancelling code=%s", job->row->id, code);
    jobs_stop_run(job, code, jobs_cancel_message(code));
    job_changed(job);
    if (!c) {
        done(ctx, JOBS_OK, job);
        return;
    }
    c->t.run = store_the_wish;
    c->t.done = wish_stored;
    c->done = done;
    c->ctx = ctx;
    jobs_task_post(&c->t);
}

static void nobody_asks(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    (void)ctx;
    (void)outcome;
    (void)job;
}

static void cancel_later(struct later *l, const char *id)
{
    jobs_cancel(l->jobs, id, l->code, l->done, l->ctx);
}

static void read_then_cancel(struct jobs *j, const char *id, const char *code, jobs_fn done,
                             void *ctx)
{
    struct later *l = read_first(j, cancel_later, done, ctx);

    if (l) {
        l->code = code;
        jobs_get(j, id, job_is_there, l);
    }
}

void jobs_cancel(struct jobs *j, const char *id, const char *code, jobs_fn done, void *ctx)
{
    struct job *job = jobs_find(j, id);

    code = code ? code : "cancelled";
    done = done ? done : nobody_asks;
    if (!job) {
        read_then_cancel(j, id, code, done, ctx);
    } else if (job_is_over(job) || (job->run && job->run->end_code[0])) {
        done(ctx, JOBS_OK, job);
    } else if (job->run) {
        cancel_run(j, job, code, done, ctx);
    } else {
        jobs_end_queued(j, job, code, jobs_cancel_message(code), done, ctx);
    }
}

/* ---- deleting ---- */

struct delete_task {
    struct jobs_task t;
    char id[JOB_ID_SIZE];
    bool idle; /* no device has the job: its files can go at once */
    jobs_fn done;
    void *ctx;
};

static void store_the_deletion(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct delete_task *d = CONTAINER_OF(t, struct delete_task, t);
    struct err ignored;

    t->rc = store_delete(store, d->id, &t->events, &t->err);
    if (t->rc == ERR_OK && d->idle && job_files_remove(files, d->id, &ignored) != ERR_OK) {
        log_warn("job=%s: %s; the next start removes it", d->id, ignored.msg);
    }
}

static void remove_the_files(struct jobs_task *t, struct store *store, struct job_files *files)
{
    (void)store;
    t->rc = job_files_remove(files, t->job->row->id, &t->err);
    if (t->rc != ERR_OK) {
        log_warn("job=%s: %s; the next start removes it", t->job->row->id, t->err.msg);
    }
}

void jobs_remove_files(struct jobs *j, struct job *job)
{
    struct jobs_task *t = jobs_task_create(j, job, sizeof(*t));

    free(job->run);
    job->run = NULL;
    if (t) { /* else the next start removes them */
        t->run = remove_the_files;
        jobs_task_post(t);
    }
    jobs_recount(j);
    jobs_schedule(j);
    jobs_check_drained(j);
}

/* Its end could not be stored and waits for being tried again. */
static bool ends_alone(const struct job *job)
{
    return job->run && job->run->claimed && !job->device && !job->run->end_posted;
}

/* was_idle: its files are gone already. Else they go now, if its run ended while the deletion was being stored, or
 * when the device has let go. */
static void apply_deletion(struct jobs *j, struct job *job, bool was_idle)
{
    struct job_run *run = job->run;

    job->deleted = true;
    log_info("job=%s deleted", job->row->id);
    jobs_table_remove(j, job);
    if ((!run && !was_idle) || ends_alone(job)) {
        jobs_remove_files(j, job);
    } else if (run && run->started && job->device && run->rendered && !run->finishing) {
        jobs_release(job);
        jobs_remove_files(j, job);
    } else if (run && run->started && job->device && !run->finishing && !run->cancelling) {
        run->cancelling = true;
        job->device->ops.cancel(job->device->ctx, job);
    }
    jobs_recount(j);
    j->positions_changed = true;
    job_changed(job);
    jobs_schedule(j);
    jobs_check_drained(j);
}

static void deletion_stored(struct jobs_task *t)
{
    struct delete_task *d = CONTAINER_OF(t, struct delete_task, t);
    enum jobs_outcome outcome = JOBS_OK;

    if (t->rc == ERR_OK) {
        apply_deletion(t->jobs, t->job, d->idle);
    } else if (t->rc == ERR_NOT_FOUND) {
        outcome = JOBS_NOT_FOUND;
    } else {
        log_err("job=%s could not be deleted: %s", d->id, t->err.msg);
        outcome = t->rc == ERR_NO_SPACE ? JOBS_NO_SPACE : JOBS_INTERNAL;
        t->job->ending = t->job->run != NULL && t->job->run->end_posted;
    }
    d->done(d->ctx, outcome, t->job);
}

static void delete_later(struct later *l, const char *id)
{
    jobs_delete(l->jobs, id, l->done, l->ctx);
}

void jobs_delete(struct jobs *j, const char *id, jobs_fn done, void *ctx)
{
    struct job *job = jobs_find(j, id);
    struct delete_task *d;

    if (!job) {
        struct later *l = read_first(j, delete_later, done, ctx);

        if (l) {
            jobs_get(j, id, job_is_there, l);
        }
        return;
    }
    d = jobs_task_create(j, job, sizeof(*d));
    if (!d) {
        done(ctx, JOBS_INTERNAL, NULL);
        return;
    }
    snprintf(d->id, sizeof(d->id), "%s", id);
    d->idle = !job->run;
    d->t.run = store_the_deletion;
    d->t.done = deletion_stored;
    d->done = done;
    d->ctx = ctx;
    job->ending = true; /* not to be started any more */
    jobs_task_event(&d->t, "video.deleted", id, jobs_event_deleted(id));
    jobs_task_post(&d->t);
}

/* ---- time ---- */

struct retention_task {
    struct jobs_task t;
    struct retention_limits limits;
    int64_t now_ms;
    struct store_ids expired; /* owned */
};

static void store_the_retention(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct retention_task *r = CONTAINER_OF(t, struct retention_task, t);

    t->rc = retention_run(store, files, &r->limits, r->now_ms, &r->expired, &t->err);
}

static void retention_done(struct jobs_task *t)
{
    struct retention_task *r = CONTAINER_OF(t, struct retention_task, t);

    t->jobs->retention_runs = false;
    if (t->rc != ERR_OK) {
        log_warn("old videos could not be removed: %s; the next start removes what is left",
                 t->err.msg);
    }
    for (int i = 0; i < r->expired.n; i++) {
        struct job *job = jobs_find(t->jobs, r->expired.id[i]);

        log_info("job=%s expired", r->expired.id[i]);
        if (job) {
            job->row->expired_ms = r->now_ms;
            if (job->row->expires_ms == 0 ||
                job->row->expires_ms > r->now_ms) { /* for want of space */
                job->row->expires_ms = r->now_ms;
            }
            job_changed(job);
        }
    }
}

static void free_retention(struct jobs_task *t)
{
    free(CONTAINER_OF(t, struct retention_task, t)->expired.id);
}

static void start_retention(struct jobs *j, int64_t now_ms)
{
    struct retention_task *r = jobs_task_create(j, NULL, sizeof(*r));

    j->retention_ms = now_ms;
    if (!r) {
        return;
    }
    j->retention_runs = true;
    r->limits = j->limits.retention;
    r->now_ms = now_ms;
    r->t.run = store_the_retention;
    r->t.done = retention_done;
    r->t.free = free_retention;
    jobs_task_post(&r->t);
}

static void check_deadlines(struct jobs *j, int64_t now_ms)
{
    struct job *next;

    for (struct job *job = j->unfinished.first; job; job = next) {
        next = job->next;
        if (job->row->deadline_ms != 0 && now_ms >= job->row->deadline_ms && !job->ending &&
            !job->row->cancel_requested) {
            jobs_cancel(j, job->row->id, "deadline_exceeded", NULL, NULL);
        }
    }
}

static bool retention_is_due(const struct jobs *j, int64_t now_ms)
{
    const struct job *job;

    if (j->retention_runs) {
        return false;
    }
    if (now_ms - j->retention_ms >= JOBS_RETENTION_MS) {
        return true;
    }
    for (job = j->finished.first; job; job = job->next) {
        if (job->row->expires_ms != 0 && now_ms >= job->row->expires_ms && !job_is_expired(job)) {
            return now_ms - j->retention_ms >= JOBS_POSITION_MS;
        }
    }
    return false;
}

static void check_the_store(struct jobs_task *t, struct store *store, struct job_files *files)
{
    (void)files;
    t->rc = store_check(store, &t->err);
}

/* After a failure, until it works again: /readyz says which. */
static void store_checked(struct jobs_task *t)
{
    t->jobs->store_failed = t->rc != ERR_OK;
}

static void look_after_store(struct jobs *j, int64_t now_ms)
{
    struct jobs_task *t;

    if (!j->store_failed || now_ms - j->store_checked_ms < JOBS_CHECK_MS) {
        return;
    }
    j->store_checked_ms = now_ms;
    t = jobs_task_create(j, NULL, sizeof(*t));
    if (t) {
        t->run = check_the_store;
        t->done = store_checked;
        jobs_task_post(t);
    }
}

void jobs_tick(struct jobs *j)
{
    const int64_t now = jobs_now(j);

    look_after_store(j, now);

    check_deadlines(j, now);
    jobs_run_tick(j, now);
    if ((j->positions_changed || j->queued > 0) && now - j->positions_ms >= JOBS_POSITION_MS) {
        j->positions_changed = false;
        j->positions_ms = now;
        jobs_positions(j);
    }
    if (retention_is_due(j, now)) {
        start_retention(j, now);
    }
}

/* ---- the model and the queue ---- */

const struct model_facts *jobs_facts(const struct jobs *j)
{
    return j->has_facts ? &j->facts : NULL;
}

int64_t jobs_model_created(const struct jobs *j)
{
    return j->model_created_ms / 1000;
}

enum jobs_readiness jobs_readiness(const struct jobs *j)
{
    bool any = false;
    bool broken = j->n_devices > 0;

    if (j->draining) {
        return JOBS_DRAINING;
    }
    if (j->store_failed) {
        return JOBS_STORE_ERROR;
    }
    for (int i = 0; i < j->n_devices; i++) {
        any |= j->devices[i]->ready;
        broken &= j->devices[i]->broken;
    }
    return any ? JOBS_READY : broken ? JOBS_DEVICE_ERROR : JOBS_LOADING;
}

void jobs_count(const struct jobs *j, struct jobs_counts *ret)
{
    double eta = 0;

    for (const struct job *job = j->unfinished.first; job; job = job->next) {
        eta = job->eta_s < 0 ? -1 : job->eta_s > eta ? job->eta_s : eta;
        if (eta < 0) {
            break;
        }
    }
    *ret = (struct jobs_counts){.queued = j->queued,
                                .running = j->running,
                                .capacity = j->limits.queue_capacity,
                                .paused = j->queue_paused,
                                .eta_s = eta};
}

void jobs_each_running(const struct jobs *j, void (*fn)(void *ctx, struct job *job, int device),
                       void *ctx)
{
    for (int i = 0; i < j->n_devices; i++) {
        if (j->devices[i]->job) {
            fn(ctx, j->devices[i]->job, i);
        }
    }
}

void jobs_pause_queue(struct jobs *j, bool paused)
{
    if (paused != j->queue_paused) {
        log_info("queue %s", paused ? "paused" : "resumed");
    }
    j->queue_paused = paused;
    jobs_schedule(j);
}

void jobs_drain(struct jobs *j, int64_t timeout_ms, void (*drained)(void *ctx), void *ctx)
{
    j->draining = true;
    j->drained = drained;
    j->drained_ctx = ctx;
    j->drain_until_ms = jobs_now(j) + timeout_ms;
    jobs_check_drained(j);
}

struct events *jobs_events(const struct jobs *j)
{
    return j->events;
}

struct job_files *jobs_files(const struct jobs *j)
{
    return j->options.files;
}

size_t jobs_backlog(const struct jobs *j)
{
    return j->backlog;
}
