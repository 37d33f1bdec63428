/*
 * Jobs on devices: claiming, overtaking, what workers report, and their deaths. Each block is stored, synced and
 * committed by one task of the storage thread before anybody hears of it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "jobs/jobs_internal.h"

enum {
    MAX_WAITING = 4096, /* looked at by one scheduling */
    PROGRESS_RENDERED = 98,
    PROGRESS_MUX = 99, /* the rest is making it durable */
};

/* ---- counting ---- */

void jobs_recount(struct jobs *j)
{
    j->queued = 0;
    j->running = 0;
    for (const struct job *job = j->unfinished.first; job; job = job->next) {
        if (job->run) {
            j->running++;
        } else {
            j->queued++;
        }
    }
}

/* Whatever still runs is cut off: the next start goes on at its last block. */
static void stop_waiting(struct jobs *j)
{
    void (*drained)(void *ctx) = j->drained;

    j->drained = NULL;
    if (drained) {
        drained(j->drained_ctx);
    }
}

void jobs_check_drained(struct jobs *j)
{
    if (j->draining && j->running == 0) {
        stop_waiting(j);
    }
}

/* ---- preparing ---- */

static bool any_preparing(const struct jobs *j)
{
    for (const struct job *job = j->unfinished.first; job; job = job->next) {
        if (job->preparing) {
            return true;
        }
    }
    return false;
}

void jobs_prepare(struct jobs *j, struct job *job)
{
    if (job->prepared || job->preparing || job->ending || job->lost || job_is_over(job) ||
        (j->careful && any_preparing(j))) {
        return;
    }
    for (int i = 0; i < j->n_devices; i++) {
        struct jobs_device *d = j->devices[i];

        if (d->ready) {
            job->preparing = true;
            d->ops.prepare(d->ctx, job);
            return;
        }
    }
}

struct prepared_task {
    struct jobs_task t;
    void *init; /* owned */
    size_t init_bytes;
    struct str detail; /* owned */
};

static void store_prepared_job(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct prepared_task *p = CONTAINER_OF(t, struct prepared_task, t);
    const char *id = t->job->row->id;

    t->rc = job_files_make(files, id, &t->err);
    if (t->rc == ERR_OK) {
        t->rc = job_files_append(files, id, JOB_FRAGMENTS, 0, p->init, p->init_bytes, &t->err);
    }
    if (t->rc == ERR_OK) {
        t->rc = store_prepared(store, id, str_get(&p->detail), (int64_t)p->init_bytes, &t->err);
    }
}

static void prepared_stored(struct jobs_task *t)
{
    struct prepared_task *p = CONTAINER_OF(t, struct prepared_task, t);
    struct job *job = t->job;

    job->preparing = false;
    if (job->deleted || job->ending || job_is_over(job)) {
        return;
    }
    if (t->rc != ERR_OK) {
        log_err("job=%s could not be prepared: %s; job failed", job->row->id, t->err.msg);
        jobs_end_queued(t->jobs, job,
                        t->rc == ERR_NO_SPACE ? "insufficient_storage" : "generation_failed",
                        t->rc == ERR_NO_SPACE ? "There is no space left for this video."
                                              : "The video could not be stored.",
                        NULL, NULL);
        return;
    }
    job->prepared = true;
    job->deaths = 0;
    job->row->init_bytes = (int64_t)p->init_bytes;
    job->row->fragment_bytes = (int64_t)p->init_bytes;
    job_changed(job);
    jobs_schedule(t->jobs);
}

static void free_prepared(struct jobs_task *t)
{
    struct prepared_task *p = CONTAINER_OF(t, struct prepared_task, t);

    free(p->init);
    str_done(&p->detail);
}

static struct prepared_task *make_prepared(struct jobs *j, struct job *job,
                                           const struct jobs_prepared *from)
{
    struct prepared_task *p = jobs_task_create(j, job, sizeof(*p));

    if (!p) {
        return NULL;
    }
    p->t.run = store_prepared_job;
    p->t.done = prepared_stored;
    p->t.free = free_prepared;
    str_init(&p->detail, 8192);
    p->init = malloc(from->init_bytes);
    if (!p->init || !job_detail_to_json(&job->detail, &p->detail)) {
        jobs_task_free(&p->t);
        return NULL;
    }
    memcpy(p->init, from->init, from->init_bytes);
    p->init_bytes = from->init_bytes;
    return p;
}

void jobs_on_prepared(struct jobs_device *d, struct job *job, const struct jobs_prepared *p)
{
    struct prepared_task *task;

    if (!job->preparing || job->prepared || job->deleted || job->ending || job_is_over(job)) {
        job->preparing = false;
        return;
    }
    job->detail.native_width = p->native_width;
    job->detail.native_height = p->native_height;
    job->detail.blocks_total = p->blocks_total;
    job->detail.prompt_truncated = p->prompt_truncated;
    snprintf(job->detail.codec, sizeof(job->detail.codec), "%s", p->codec);
    task = make_prepared(d->jobs, job, p);
    if (!task) {
        job->preparing = false; /* the next tick asks again */
        return;
    }
    jobs_task_post(&task->t);
}

/* ---- claiming ---- */

struct claim_task {
    struct jobs_task t;
    struct jobs_device *device;
    struct store_lease lease;
    int64_t now_ms;
};

static void store_the_claim(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct claim_task *c = CONTAINER_OF(t, struct claim_task, t);

    (void)files;
    t->rc = store_claim(store, t->job->row->id, t->jobs->options.worker_name, c->now_ms,
                        c->now_ms + JOBS_LEASE_MS, &t->events, &c->lease, &t->err);
}

void jobs_release(struct job *job)
{
    struct jobs_device *d = job->device;

    if (!d) {
        return;
    }
    CHECK_BUG(d->job == job);
    job->device = NULL;
    d->job = NULL;
    job_unref(job);
}

static bool all_blocks_stored(const struct job *job)
{
    return job->detail.blocks_total > 0 && job->row->blocks == job->detail.blocks_total;
}

static void send_finish(struct job *job)
{
    job->run->finishing = true;
    job->detail.progress = PROGRESS_MUX;
    job_set_phase(job, "mux");
    job->device->ops.finish(job->device->ctx, job);
    job_changed(job);
}

static void tell_device(struct job *job)
{
    struct jobs_device *d = job->device;
    struct job_run *run = job->run;

    run->begun_ms = jobs_now(d->jobs);
    run->renewed_ms = run->begun_ms;
    run->first_fraction = -1;
    run->next_block = job->row->blocks;
    run->fragment_bytes = job->row->fragment_bytes;
    run->latent_bytes = job->row->latent_bytes;
    run->state_version = job->row->state_version;
    run->started = true;
    if (all_blocks_stored(job)) { /* it only lacks its end */
        run->rendered = true;
        send_finish(job);
        return;
    }
    job_set_phase(job, "starting");
    d->ops.start(d->ctx, job);
    job_changed(job);
}

static void claim_failed(struct jobs_task *t)
{
    struct job *job = t->job;

    if (t->rc != ERR_FENCED) {
        log_err("job=%s could not be claimed: %s; trying again", job->row->id, t->err.msg);
    }
    jobs_release(job);
    job->retry_ms = jobs_now(t->jobs) + JOBS_RETRY_MS; /* others first */
    jobs_forget_run(t->jobs, job);
}

static void claim_stored(struct jobs_task *t)
{
    struct claim_task *c = CONTAINER_OF(t, struct claim_task, t);
    struct job *job = t->job;

    if (t->rc != ERR_OK) {
        claim_failed(t);
        return;
    }
    job->run->claimed = true;
    job->run->lease = c->lease;
    job->row->state = JOB_RUNNING;
    job->row->epoch = c->lease.epoch;
    job->row->started_ms = job->row->started_ms ? job->row->started_ms : c->now_ms;
    log_info("job=%s running device=%d from_block=%lld", job->row->id, c->device->index,
             (long long)job->row->blocks);
    if (job->run->end_code[0]) {
        jobs_release(job);
        jobs_end_run(job, JOB_FAILED, false);
    } else if (!c->device->ready || c->t.jobs->draining) {
        jobs_release(job);
        jobs_end_run(job, JOB_QUEUED, false);
    } else {
        tell_device(job);
    }
    job_changed(job);
}

/* The object at its first start, for the event. */
static char *render_started(const struct job *job, int64_t now_ms)
{
    struct job future = *job;
    struct job_row row = *job->row;

    row.state = JOB_RUNNING;
    row.started_ms = now_ms;
    future.row = &row;
    future.json = NULL;
    future.queue_position = 0;
    job_set_phase(&future, "starting");
    return job_render(&future);
}

static bool claim(struct jobs *j, struct jobs_device *d, struct job *job)
{
    struct claim_task *c = jobs_task_create(j, job, sizeof(*c));

    job->run = calloc(1, sizeof(*job->run));
    if (!c || !job->run) {
        free(job->run);
        job->run = NULL;
        if (c) {
            jobs_task_free(&c->t);
        }
        return false;
    }
    c->device = d;
    c->now_ms = jobs_now(j);
    c->t.run = store_the_claim;
    c->t.done = claim_stored;
    if (job->row->started_ms == 0) {
        char *object = render_started(job, c->now_ms);

        if (object) {
            jobs_task_event(&c->t, "video.in_progress", job->row->id, object);
        }
    }
    job->device = d;
    job->queue_position = 0;
    d->job = job_ref(job);
    scheduler_served(j->scheduler, job->row->client);
    jobs_recount(j);
    j->positions_changed = true;
    jobs_task_post(&c->t);
    return true;
}

/* ---- scheduling ---- */

static struct job *next_job(const struct jobs *j)
{
    struct scheduler_job *entry = calloc(MAX_WAITING, sizeof(*entry));
    struct job *by_index[MAX_WAITING];
    int n = 0;
    int best;

    if (!entry) {
        return NULL;
    }
    for (struct job *job = j->unfinished.first; job && n < MAX_WAITING; job = job->next) {
        if (job->run || job->ending || job->lost || job->row->state != JOB_QUEUED ||
            jobs_now(j) < job->retry_ms) {
            continue;
        }
        entry[n] = (struct scheduler_job){.id = job->row->id,
                                          .client = job->row->client,
                                          .priority = job->row->priority,
                                          .begun = job->row->started_ms != 0};
        by_index[n++] = job;
    }
    best = scheduler_pick(j->scheduler, entry, n);
    free(entry);
    return best < 0 ? NULL : by_index[best];
}

static bool overtakes(const struct job *job, const struct jobs_device *d)
{
    const struct job_run *run = d->job ? d->job->run : NULL;

    return run && run->started && !run->pausing && !run->rendered && !run->end_code[0] &&
           job->row->priority > d->job->row->priority;
}

/* The running job of the lowest priority makes room, at its next block boundary. */
static void make_room(struct jobs *j, const struct job *job)
{
    struct jobs_device *lowest = NULL;

    for (int i = 0; i < j->n_devices; i++) {
        struct jobs_device *d = j->devices[i];

        if (d->job && d->job->run && d->job->run->pausing) {
            return; /* room is being made already */
        }
        if (overtakes(job, d) && (!lowest || d->job->row->priority < lowest->job->row->priority)) {
            lowest = d;
        }
    }
    if (lowest) {
        lowest->job->run->pausing = true;
        lowest->ops.pause(lowest->ctx, lowest->job);
    }
}

static struct jobs_device *idle_device(const struct jobs *j)
{
    for (int i = 0; i < j->n_devices; i++) {
        if (j->devices[i]->ready && !j->devices[i]->job) {
            return j->devices[i];
        }
    }
    return NULL;
}

void jobs_schedule(struct jobs *j)
{
    while (!j->queue_paused && !j->draining) {
        struct job *job = next_job(j);
        struct jobs_device *d = idle_device(j);

        if (!job) {
            return;
        }
        if (!job->prepared) {
            jobs_prepare(j, job);
            return; /* comes back when it is prepared */
        }
        if (!d) {
            make_room(j, job);
            return;
        }
        if (!claim(j, d, job)) {
            return; /* out of memory: the next tick tries again */
        }
    }
}

/* ---- stopping ---- */

void jobs_stop_run(struct job *job, const char *code, const char *message)
{
    struct job_run *run = job->run;

    if (run->end_code[0] || run->end_posted || run->finishing) {
        return; /* it is ending already; a video that only needs its index is finished */
    }
    snprintf(run->end_code, sizeof(run->end_code), "%s", code);
    snprintf(run->end_message, sizeof(run->end_message), "%s", message);
    if (!run->started || !job->device) {
        return; /* the claim is being stored, and looks at end_code when it is */
    }
    if (run->rendered) { /* the worker waits for us */
        jobs_release(job);
        jobs_end_run(job, JOB_FAILED, false);
        return;
    }
    run->cancelling = true;
    job->device->ops.cancel(job->device->ctx, job);
}

/* ---- what workers report ---- */

/* Is this about the job that the device works on, and still wanted? */
static bool is_current(const struct jobs_device *d, const struct job *job)
{
    return d->job == job && job->run && job->run->started && !job->run->end_posted;
}

static void estimate(struct jobs *j, struct job *job)
{
    const struct job_run *run = job->run;
    const double done = job->fraction - run->first_fraction;
    const double seconds = (double)(jobs_now(j) - run->begun_ms) / 1000;

    job->eta_s = done > 0.005 ? seconds / done * (1 - job->fraction) : -1;
}

static void report_progress(struct jobs *j, struct job *job)
{
    const int64_t now = jobs_now(j);

    if (now - job->run->progress_ms >= JOBS_PROGRESS_MS) {
        job->run->progress_ms = now;
        jobs_emit_passing(j, job, "video.progress", jobs_event_progress(job));
    }
}

void jobs_on_step(struct jobs_device *d, struct job *job, const char *phase, int64_t step,
                  int64_t steps, int64_t block, double fraction)
{
    const int progress = (int)(PROGRESS_RENDERED * fraction);

    if (!is_current(d, job) || job->deleted || !(fraction >= 0 && fraction <= 1)) {
        return;
    }
    job_set_phase(job, phase);
    job->step = step;
    job->steps = steps;
    job->block = block;
    job->fraction = fraction;
    if (job->run->first_fraction < 0) {
        job->run->first_fraction = fraction;
    }
    if (progress > job->detail.progress) {
        job->detail.progress = progress;
    }
    estimate(d->jobs, job);
    report_progress(d->jobs, job);
    job_changed(job);
}

/* ---- blocks ---- */

struct block_task {
    struct jobs_task t;
    struct store_lease lease;
    struct job_block block;
    void *fragment; /* owned */
    void *latents;  /* owned */
    int64_t latent_offset;
    size_t latent_bytes;
    int64_t reserve;   /* bytes to be left free on the disk, for the database's sake */
    struct str detail; /* owned */
};

static int check_space(struct job_files *files, int64_t needed, struct err *err)
{
    int64_t space;
    const int rc = job_files_free_space(files, &space, err);

    if (rc == ERR_OK && space < needed) {
        return err_set(err, ERR_NO_SPACE, "%lld MiB are free, %lld are needed",
                       (long long)space >> 20, (long long)(needed >> 20) + 1);
    }
    return rc;
}

static void store_the_block(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct block_task *b = CONTAINER_OF(t, struct block_task, t);
    const char *id = t->job->row->id;
    const struct store_append append = {
        .block = &b->block,
        .latent_bytes = b->latent_offset + (int64_t)b->latent_bytes,
        .detail = str_get(&b->detail),
    };

    t->rc = check_space(files, b->block.bytes + (int64_t)b->latent_bytes + b->reserve, &t->err);
    if (t->rc == ERR_OK) {
        t->rc = job_files_append(files, id, JOB_FRAGMENTS, b->block.offset, b->fragment,
                                 (size_t)b->block.bytes, &t->err);
    }
    if (t->rc == ERR_OK && b->latents) {
        t->rc = job_files_append(files, id, JOB_LATENTS, b->latent_offset, b->latents,
                                 b->latent_bytes, &t->err);
    }
    if (t->rc == ERR_OK) {
        t->rc = store_append(store, &b->lease, &append, &t->events, &t->err);
    }
}

static bool remember_block(struct job *job, const struct job_block *block)
{
    if (job->n_blocks == job->cap_blocks) {
        const int capacity = job->cap_blocks ? 2 * job->cap_blocks : 32;
        struct job_block *grown = realloc(job->blocks, (size_t)capacity * sizeof(*grown));

        if (!grown) {
            return false;
        }
        job->blocks = grown;
        job->cap_blocks = capacity;
    }
    job->blocks[job->n_blocks++] = *block;
    return true;
}

static void storing_failed(struct jobs_task *t)
{
    struct job *job = t->job;

    if (t->rc == ERR_FENCED || job->deleted || !job->run || job->run->end_code[0]) {
        return; /* deleted, or one of the blocks behind the one that failed */
    }
    log_err("job=%s: a block could not be stored: %s; job failed", job->row->id, t->err.msg);
    if (t->rc == ERR_NO_SPACE) {
        jobs_stop_run(job, "insufficient_storage", "There is no space left for this video.");
    } else {
        jobs_stop_run(job, "generation_failed", "The video could not be stored.");
    }
}

/* Without a device: its worker died while the last block was being stored, and the job is on its way back to the
 * queue; the next one finishes it. */
static void finish_if_complete(struct job *job)
{
    if (job->run && job->device && job->run->rendered && !job->run->finishing &&
        !job->run->end_code[0] && all_blocks_stored(job)) {
        send_finish(job);
    }
}

static void block_stored(struct jobs_task *t)
{
    struct block_task *b = CONTAINER_OF(t, struct block_task, t);
    struct job *job = t->job;
    struct job_row *row = job->row;

    t->jobs->backlog -= (size_t)b->block.bytes + b->latent_bytes;
    if (t->rc != ERR_OK) {
        storing_failed(t);
        return;
    }
    row->blocks++;
    row->frames += b->block.frames;
    row->fragment_bytes = b->block.offset + b->block.bytes;
    row->latent_bytes = b->latent_offset + (int64_t)b->latent_bytes;
    job->deaths = 0;
    if (job->blocks_loaded && !remember_block(job, &b->block)) {
        job->blocks_loaded = false; /* whoever asks loads them */
    }
    job_changed(job);
    finish_if_complete(job);
}

static void free_block(struct jobs_task *t)
{
    struct block_task *b = CONTAINER_OF(t, struct block_task, t);

    free(b->fragment);
    free(b->latents);
    str_done(&b->detail);
}

static struct block_task *make_block(struct jobs_device *d, struct job *job,
                                     const struct jobs_block *from)
{
    struct job_run *run = job->run;
    struct block_task *b = jobs_task_create(d->jobs, job, sizeof(*b));
    char *event;

    if (!b) {
        return NULL;
    }
    b->t.run = store_the_block;
    b->t.done = block_stored;
    b->t.free = free_block;
    b->lease = run->lease;
    b->block = (struct job_block){.index = from->index,
                                  .offset = run->fragment_bytes,
                                  .bytes = (int64_t)from->fragment_bytes,
                                  .first_frame = from->first_frame,
                                  .frames = from->frames,
                                  .gen_ms = llround(from->gen_s * 1000)};
    b->latent_offset = run->latent_bytes;
    b->latent_bytes = from->latent_bytes;
    b->reserve = d->jobs->limits.min_free_bytes / 2;
    str_init(&b->detail, 8192);
    event = jobs_event_block(job, &b->block, job->detail.blocks_total);
    if (!event || !job_detail_to_json(&job->detail, &b->detail)) {
        free(event);
        jobs_task_free(&b->t);
        return NULL;
    }
    jobs_task_event(&b->t, "video.block", job->row->id, event);
    return b;
}

static void drop_block(struct jobs_block *block)
{
    free(block->fragment);
    free(block->latents);
}

bool jobs_on_block(struct jobs_device *d, struct job *job, struct jobs_block *block)
{
    struct block_task *b;

    if (!is_current(d, job) || job->deleted || job->run->end_code[0] ||
        block->index < job->run->next_block) {
        drop_block(block);
        return true;
    }
    if (block->index > job->run->next_block) {
        drop_block(block);
        return false;
    }
    b = make_block(d, job, block);
    if (!b) {
        drop_block(block);
        jobs_stop_run(job, "out_of_memory", "The server ran out of memory.");
        return true;
    }
    b->fragment = block->fragment;
    b->latents = block->latents;
    job->run->next_block++;
    job->run->fragment_bytes += b->block.bytes;
    job->run->latent_bytes += (int64_t)b->latent_bytes;
    d->jobs->backlog += (size_t)b->block.bytes + b->latent_bytes;
    jobs_task_post(&b->t);
    return true;
}

/* ---- snapshots and previews ---- */

struct bytes_task {
    struct jobs_task t;
    enum job_file file;
    struct store_lease lease;
    int64_t version; /* of a snapshot */
    int64_t latent_bytes;
    void *data; /* owned */
    size_t len;
};

static void store_the_bytes(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct bytes_task *b = CONTAINER_OF(t, struct bytes_task, t);
    const char *id = t->job->row->id;
    const struct store_append append = {.latent_bytes = b->latent_bytes,
                                        .state_version = b->version};

    t->rc = job_files_write(files, id, b->file, b->version, b->data, b->len, &t->err);
    if (t->rc == ERR_OK && b->file == JOB_STATE) {
        t->rc = store_append(store, &b->lease, &append, &t->events, &t->err);
        if (t->rc == ERR_OK) { /* else the one before still counts */
            job_files_drop_states(files, id, b->version);
        }
    }
}

static void bytes_stored(struct jobs_task *t)
{
    struct bytes_task *b = CONTAINER_OF(t, struct bytes_task, t);

    t->jobs->backlog -= b->len;
    if (t->rc == ERR_OK && b->file == JOB_STATE) {
        t->job->row->state_version = b->version;
    } else if (t->rc == ERR_OK) {
        job_changed(t->job);
    } else if (t->rc != ERR_FENCED && !t->job->deleted) {
        log_warn("job=%s: a %s could not be stored: %s; the video goes on", t->job->row->id,
                 b->file == JOB_STATE ? "snapshot" : "preview", t->err.msg);
    }
}

static void free_bytes(struct jobs_task *t)
{
    free(CONTAINER_OF(t, struct bytes_task, t)->data);
}

/* Takes data. Neither a snapshot nor a preview is worth failing for. */
static void post_bytes(struct jobs_device *d, struct job *job, enum job_file file, int64_t version,
                       void *data, size_t len)
{
    struct bytes_task *b = data ? jobs_task_create(d->jobs, job, sizeof(*b)) : NULL;

    if (!b) {
        free(data);
        return;
    }
    b->t.run = store_the_bytes;
    b->t.done = bytes_stored;
    b->t.free = free_bytes;
    b->file = file;
    b->lease = job->run->lease;
    b->version = version;
    b->latent_bytes = job->run->latent_bytes;
    b->data = data;
    b->len = len;
    d->jobs->backlog += len;
    jobs_task_post(&b->t);
}

void jobs_on_state(struct jobs_device *d, struct job *job, void *data, size_t len)
{
    if (!is_current(d, job) || job->deleted || job->run->end_code[0]) {
        free(data);
        return;
    }
    post_bytes(d, job, JOB_STATE, ++job->run->state_version, data, len);
}

void jobs_on_preview(struct jobs_device *d, struct job *job, const void *jpeg, size_t len)
{
    void *copy;

    if (!is_current(d, job) || job->deleted) {
        return;
    }
    copy = malloc(len);
    if (copy) {
        memcpy(copy, jpeg, len);
    }
    post_bytes(d, job, JOB_PREVIEW, 0, copy, len);
}

/* ---- the ends of a run ---- */

void jobs_on_paused(struct jobs_device *d, struct job *job)
{
    if (!is_current(d, job)) {
        return;
    }
    jobs_release(job);
    if (job->deleted) {
        jobs_remove_files(d->jobs, job);
    } else if (job->run->end_code[0]) { /* cancelled while it was being set aside */
        jobs_end_run(job, JOB_FAILED, false);
    } else {
        jobs_end_run(job, JOB_QUEUED, false);
    }
}

void jobs_on_rendered(struct jobs_device *d, struct job *job, const struct jobs_rendered *r)
{
    if (!is_current(d, job)) {
        return;
    }
    job->detail.inference_s += r->inference_s;
    job->detail.peak_memory_mb = r->peak_memory_mb;
    job->detail.blocks_total = job->run->next_block;
    memcpy(job->detail.stages, r->stages, sizeof(job->detail.stages));
    job->run->rendered = true;
    if (job->deleted) {
        jobs_release(job);
        jobs_remove_files(d->jobs, job);
    } else if (job->run->end_code[0]) { /* cancelled in its last moment */
        jobs_release(job);
        jobs_end_run(job, JOB_FAILED, false);
    } else {
        finish_if_complete(job);
    }
}

void jobs_on_finished(struct jobs_device *d, struct job *job, const struct jobs_finished *f)
{
    if (!is_current(d, job) || !job->run->finishing) {
        return;
    }
    job->detail.size_bytes = f->bytes;
    memcpy(job->detail.sha256, f->sha256, sizeof(f->sha256));
    job->detail.sprite_cols = f->sprite_cols;
    job->detail.sprite_rows = f->sprite_rows;
    job->detail.sprite_w = f->sprite_w;
    job->detail.sprite_h = f->sprite_h;
    job->detail.sprite_interval = f->sprite_interval;
    jobs_release(job);
    if (job->deleted) {
        jobs_remove_files(d->jobs, job);
    } else {
        jobs_end_run(job, JOB_COMPLETED, false);
    }
    jobs_schedule(d->jobs);
}

/* A worker's sentence for a client: without the server's paths. */
static void clean_message(const struct job *job, const char *message, char *ret, size_t size)
{
    const char *place = strstr(message, job->row->id);
    const char *rest = place ? strchr(place, '/') : NULL;

    if (rest) { /* "/srv/videos/ID/reference: ..." */
        snprintf(ret, size, "%s", rest + 1);
    } else {
        snprintf(ret, size, "%s", message[0] ? message : "The video could not be made.");
    }
}

static const char *public_code(const char *code)
{
    static const char *const known[] = {"out_of_memory", "insufficient_storage"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(code, known[i]) == 0) {
            return known[i];
        }
    }
    return strstr(code, "memory") ? "out_of_memory" : "generation_failed";
}

static void fail_run(struct job *job, const char *code, const char *message)
{
    struct job_run *run = job->run;

    if (!run->end_code[0]) {
        snprintf(run->end_code, sizeof(run->end_code), "%s", public_code(code));
        clean_message(job, message, run->end_message, sizeof(run->end_message));
    }
    jobs_end_run(job, JOB_FAILED, false);
}

void jobs_on_fail(struct jobs_device *d, struct job *job, const char *code, const char *message)
{
    char clean[256];

    if (job->preparing && !job->run) {
        job->preparing = false;
        if (!job->ending && !job->deleted && !job_is_over(job)) {
            clean_message(job, message, clean, sizeof(clean));
            jobs_end_queued(d->jobs, job, public_code(code), clean, NULL, NULL);
        }
        return;
    }
    if (!is_current(d, job)) {
        return;
    }
    jobs_release(job);
    if (job->deleted) {
        jobs_remove_files(d->jobs, job);
    } else {
        fail_run(job, code, message);
    }
    jobs_schedule(d->jobs);
}

/* ---- the device itself ---- */

int jobs_add_device(struct jobs *j, const struct jobs_device_ops *ops, void *ctx,
                    struct jobs_device **ret, struct err *err)
{
    struct jobs_device *d;

    if (j->n_devices == JOBS_MAX_DEVICES) {
        return err_set(err, ERR_INVALID, "more than %d devices", JOBS_MAX_DEVICES);
    }
    d = calloc(1, sizeof(*d));
    if (!d) {
        return err_set(err, ERR_NO_MEMORY, "a device");
    }
    d->jobs = j;
    d->ops = *ops;
    d->ctx = ctx;
    d->index = j->n_devices;
    j->devices[j->n_devices++] = d;
    *ret = d;
    return ERR_OK;
}

void jobs_on_ready(struct jobs_device *d, const struct model_facts *facts)
{
    struct jobs *j = d->jobs;
    struct job *next;

    if (!j->has_facts) {
        j->model_created_ms = jobs_now(j);
    }
    j->facts = *facts;
    j->has_facts = true;
    d->ready = true;
    d->broken = false;
    for (struct job *job = j->unfinished.first; job; job = next) {
        next = job->next;
        jobs_prepare(j, job);
    }
    jobs_schedule(j);
}

static void died_often(const struct job *job, const char *reason, char *ret, size_t size)
{
    snprintf(ret, size, "The worker ended %d times in a row without a new block: %s.", job->deaths,
             reason);
}

/* Jobs that a worker was looking at when it died: one of them may be the reason. From now on they are looked at one
 * by one, so that it is found. Returns whether there were any. */
static bool blame_prepared(struct jobs *j, const char *reason)
{
    bool any = false;

    for (struct job *job = j->unfinished.first; job; job = job->next) {
        char message[384];

        if (!job->preparing) {
            continue;
        }
        any = true;
        job->preparing = false;
        job->deaths++;
        if (job->deaths >= j->limits.max_deaths && !job->ending) {
            died_often(job, reason, message, sizeof(message));
            jobs_end_queued(j, job, "generation_failed", message, NULL, NULL);
        }
    }
    j->careful |= any;
    return any;
}

/* The job that a worker took with it; blamed: as far as is known, it was the reason. */
static void run_died(struct jobs *j, struct job *job, const char *reason, bool blamed)
{
    struct job_run *run = job->run;

    job->deaths += blamed ? 1 : 0;
    jobs_release(job);
    if (job->deleted) {
        jobs_remove_files(j, job);
    } else if (run->end_code[0]) {
        jobs_end_run(job, JOB_FAILED, false);
    } else if (job->deaths >= j->limits.max_deaths) {
        snprintf(run->end_code, sizeof(run->end_code), "generation_failed");
        died_often(job, reason, run->end_message, sizeof(run->end_message));
        jobs_end_run(job, JOB_FAILED, false);
    } else {
        jobs_end_run(job, JOB_QUEUED, !j->draining);
    }
}

void jobs_on_down(struct jobs_device *d, const char *reason, bool gives_up)
{
    struct jobs *j = d->jobs;
    bool others;

    d->ready = false;
    d->broken = gives_up;
    others = blame_prepared(j, reason);
    if (d->job && d->job->run->started && !d->job->run->end_posted) {
        run_died(j, d->job, reason, !others);
    }
}

/* ---- time ---- */

struct renew_task {
    struct jobs_task t;
    struct store_lease lease;
    int64_t until_ms;
};

static void store_the_renewal(struct jobs_task *t, struct store *store, struct job_files *files)
{
    struct renew_task *r = CONTAINER_OF(t, struct renew_task, t);

    (void)files;
    t->rc = store_renew(store, &r->lease, r->until_ms, &t->err);
}

static void renew(struct jobs *j, struct job *job, int64_t now_ms)
{
    struct renew_task *r;

    if (!job->run->claimed || now_ms - job->run->renewed_ms < JOBS_RENEW_MS) {
        return;
    }
    r = jobs_task_create(j, job, sizeof(*r));
    if (r) {
        job->run->renewed_ms = now_ms;
        r->lease = job->run->lease;
        r->until_ms = now_ms + JOBS_LEASE_MS;
        r->t.run = store_the_renewal;
        jobs_task_post(&r->t);
    }
}

static void pause_all(struct jobs *j)
{
    for (int i = 0; i < j->n_devices; i++) {
        struct jobs_device *d = j->devices[i];

        if (d->job && d->job->run && d->job->run->started && !d->job->run->pausing &&
            !d->job->run->rendered) {
            d->job->run->pausing = true;
            d->ops.pause(d->ctx, d->job);
        }
    }
}

void jobs_run_tick(struct jobs *j, int64_t now_ms)
{
    struct job *next;

    for (struct job *job = j->unfinished.first; job; job = next) {
        next = job->next;
        if (job->run && job->run->end_failed) {
            jobs_end_run(job, job->run->end_state, job->run->end_restart);
        } else if (job->run) {
            renew(j, job, now_ms);
        } else {
            jobs_prepare(j, job);
        }
    }
    if (j->draining && now_ms >= j->drain_until_ms) {
        pause_all(j);
    }
    if (j->draining && now_ms >= j->drain_until_ms + JOBS_DRAIN_GRACE_MS) {
        stop_waiting(j);
    }
    jobs_schedule(j);
}
