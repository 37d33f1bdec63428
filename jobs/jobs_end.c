/*
 * How jobs end: what is stored, then what memory makes of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "jobs/jobs_internal.h"

struct end_task {
    struct jobs_task t;
    struct store_lease lease;
    bool leased;
    struct store_end end;
    char code[32];
    char message[384];
    struct str detail; /* owned */
    int64_t latent_bytes;
    jobs_fn done;
    void *ctx;
};

/* ---- on the storage thread ---- */

static void store_the_end(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct end_task *e = CONTAINER_OF(t, struct end_task, t);
    const char *id = t->job->row->id; /* never changes */
    struct err ignored;

    if (e->end.state != JOB_QUEUED &&
        job_files_size(files, id, &e->end.stored_bytes, &ignored) == ERR_OK) {
        e->end.stored_bytes -= e->latent_bytes; /* trimmed below */
        e->end.stored_bytes = e->end.stored_bytes < 0 ? 0 : e->end.stored_bytes;
    }
    t->rc = e->leased ? store_end(store, &e->lease, &e->end, &t->events, &t->err)
                      : store_end_queued(store, id, &e->end, &t->events, &t->err);
    if (t->rc == ERR_OK && e->end.state != JOB_QUEUED &&
        job_files_trim(files, id, &ignored) != ERR_OK) {
        log_warn("job=%s: %s; the next start removes it", id, ignored.msg);
    }
}

static void free_end(struct jobs_task *t)
{
    str_done(&CONTAINER_OF(t, struct end_task, t)->detail);
}

/* ---- making it ---- */

/* The object as it will be, for the event that says so. */
static char *render_future(const struct job *job, const struct end_task *e)
{
    struct job future = *job;
    struct job_row row = *job->row;

    row.state = e->end.state;
    row.error_code = (char *)e->end.error_code;
    row.error_message = (char *)e->end.error_message;
    row.ended_ms = e->end.ended_ms;
    row.expires_ms = e->end.expires_ms;
    future.row = &row;
    future.json = NULL;
    if (e->end.state == JOB_COMPLETED) {
        future.detail.progress = 100;
    }
    job_set_phase(&future, "done");
    return job_render(&future);
}

static bool fill_detail(struct end_task *e, const struct job *job)
{
    struct job_detail detail = job->detail;

    if (e->end.state == JOB_COMPLETED) {
        detail.progress = 100;
    }
    str_init(&e->detail, 8192);
    if (!job_detail_to_json(&detail, &e->detail)) {
        return false;
    }
    e->end.detail = str_get(&e->detail);
    return true;
}

static int64_t expiry(const struct jobs *j, enum job_state state, int64_t now)
{
    const int64_t ttl = state == JOB_COMPLETED ? j->limits.ttl_ms : j->limits.partial_ttl_ms;

    return ttl > 0 ? now + ttl : 0;
}

/* NULL when out of memory. */
static struct end_task *make_end(struct jobs *j, struct job *job, enum job_state state,
                                 const char *code, const char *message)
{
    struct end_task *e = jobs_task_create(j, job, sizeof(*e));
    char *object;

    if (!e) {
        return NULL;
    }
    e->t.run = store_the_end;
    e->t.free = free_end;
    e->end.state = state;
    e->latent_bytes = job->row->latent_bytes;
    if (state == JOB_FAILED) {
        snprintf(e->code, sizeof(e->code), "%s", code);
        snprintf(e->message, sizeof(e->message), "%s", message);
        e->end.error_code = e->code;
        e->end.error_message = e->message;
    }
    if (state != JOB_QUEUED) {
        e->end.ended_ms = jobs_now(j);
        e->end.expires_ms = expiry(j, state, e->end.ended_ms);
        object = render_future(job, e);
        if (!object) {
            jobs_task_free(&e->t);
            return NULL;
        }
        jobs_task_event(&e->t, state == JOB_COMPLETED ? "video.completed" : "video.failed",
                        job->row->id, object);
    }
    if (!fill_detail(e, job)) {
        jobs_task_free(&e->t);
        return NULL;
    }
    return e;
}

/* ---- memory follows ---- */

static void log_end(const struct job *job)
{
    const struct job_row *row = job->row;

    if (row->state == JOB_COMPLETED) {
        log_info("job=%s completed frames=%lld bytes=%lld seconds=%.1f restarts=%d", row->id,
                 (long long)row->frames, (long long)job->detail.size_bytes,
                 (double)(row->ended_ms - row->created_ms) / 1000, row->restarts);
    } else if (row->state == JOB_FAILED) {
        log_info("job=%s failed code=%s blocks=%lld message=\"%s\"", row->id, row->error_code,
                 (long long)row->blocks, row->error_message);
    } else {
        log_info("job=%s set aside blocks=%lld", row->id, (long long)row->blocks);
    }
}

static void learn_speed(struct jobs *j, const struct job *job)
{
    const double s = job->detail.inference_s / (double)job->spec.generated_frames;

    if (job->row->state == JOB_COMPLETED && s > 0) {
        j->seconds_per_frame = j->seconds_per_frame > 0 ? 0.7 * j->seconds_per_frame + 0.3 * s : s;
    }
}

/* The wish to stop it came while it was on its way back to the queue. */
static void cancel_if_wanted(struct jobs *j, struct job *job)
{
    if (job->row->state == JOB_QUEUED && job->row->cancel_requested && !job->ending &&
        !job->deleted) {
        const char *code = job->cancel_code ? job->cancel_code : "cancelled";

        jobs_end_queued(j, job, code, jobs_cancel_message(code), NULL, NULL);
    }
}

static void apply_end(struct end_task *e)
{
    struct jobs *j = e->t.jobs;
    struct job *job = e->t.job;
    struct job_row *row = job->row;
    const struct store_end *end = &e->end;

    row->state = end->state;
    row->restarts += end->restart ? 1 : 0;
    row->ended_ms = end->ended_ms;
    row->expires_ms = end->expires_ms;
    job->eta_s = -1;
    job->queue_position = 0;
    free(job->run);
    job->run = NULL;
    job->ending = false;
    if (end->state == JOB_QUEUED) {
        job_set_phase(job, "paused");
    } else {
        if (!job_row_set(&row->error_code, end->error_code) ||
            !job_row_set(&row->error_message, end->error_message)) {
            log_warn("job=%s: out of memory for its error", row->id);
        }
        row->stored_bytes = end->stored_bytes;
        job->detail.progress = end->state == JOB_COMPLETED ? 100 : job->detail.progress;
        job_set_phase(job, "done");
        jobs_table_finish(j, job);
        learn_speed(j, job);
    }
    log_end(job);
    jobs_recount(j);
    j->positions_changed = true;
    job_changed(job);
    cancel_if_wanted(j, job);
    jobs_schedule(j);
    jobs_check_drained(j);
}

/* ---- a job that nobody runs ---- */

static void queued_ended(struct jobs_task *t)
{
    struct end_task *e = CONTAINER_OF(t, struct end_task, t);
    enum jobs_outcome outcome = JOBS_OK;

    if (t->rc == ERR_OK) {
        apply_end(e);
    } else if (t->rc == ERR_NOT_FOUND || t->job->deleted) {
        outcome = JOBS_NOT_FOUND;
    } else if (t->rc != ERR_FENCED) { /* fenced: it is over, which is what was wanted */
        t->job->ending = false;
        log_err("job=%s could not be ended: %s", t->job->row->id, t->err.msg);
        outcome = t->rc == ERR_NO_SPACE ? JOBS_NO_SPACE : JOBS_INTERNAL;
    }
    if (e->done) {
        e->done(e->ctx, outcome, t->job);
    }
}

void jobs_end_queued(struct jobs *j, struct job *job, const char *code, const char *message,
                     jobs_fn done, void *ctx)
{
    struct end_task *e = make_end(j, job, JOB_FAILED, code, message);

    if (!e) {
        log_err("job=%s could not be ended: out of memory", job->row->id);
        if (done) {
            done(ctx, JOBS_INTERNAL, job);
        }
        return;
    }
    job->ending = true; /* not to be started any more */
    e->t.done = queued_ended;
    e->done = done;
    e->ctx = ctx;
    jobs_task_post(&e->t);
}

/* ---- a job that was claimed ---- */

void jobs_forget_run(struct jobs *j, struct job *job)
{
    if (job->deleted) {
        jobs_remove_files(j, job);
        return;
    }
    free(job->run);
    job->run = NULL;
    jobs_recount(j);
    cancel_if_wanted(j, job);
    jobs_check_drained(j);
}

static void run_ended(struct jobs_task *t)
{
    struct end_task *e = CONTAINER_OF(t, struct end_task, t);
    struct job *job = t->job;

    if (t->rc == ERR_OK) {
        apply_end(e);
        return;
    }
    job->run->end_posted = false;
    if (t->rc == ERR_FENCED || t->rc == ERR_NOT_FOUND || job->deleted) { /* nothing to end */
        jobs_forget_run(t->jobs, job);
        return;
    }
    job->run->end_failed = true;
    log_err("job=%s: its end could not be stored: %s; trying again", job->row->id, t->err.msg);
}

void jobs_end_run(struct job *job, enum job_state state, bool restart)
{
    struct job_run *run = job->run;
    struct end_task *e = NULL;

    if (state == JOB_QUEUED && run->end_code[0]) { /* the wish to stop it came meanwhile */
        state = JOB_FAILED;
    }
    run->end_state = state;
    run->end_restart = restart;
    run->end_failed = true; /* until it is with the storage thread */
    if (!run->end_posted) {
        e = make_end(job->jobs, job, state, run->end_code, run->end_message);
    }
    if (!e) {
        return; /* the next tick tries again */
    }
    e->leased = true;
    e->lease = run->lease;
    e->end.restart = restart;
    e->t.done = run_ended;
    run->end_posted = true;
    run->end_failed = false;
    jobs_task_post(&e->t);
}
