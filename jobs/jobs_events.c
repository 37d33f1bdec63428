/*
 * What events say, and the queue's positions and estimates that some of them are about.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "jobs/jobs_internal.h"

enum {
    MAX_POSITIONS = 512 /* further back nobody is told a position: ordering is quadratic */
};

/* Small objects without text from outside: ids are [A-Za-z0-9_-]. */
static char *format(const char *form, ...) PRINTF_LIKE(1, 2);

static char *format(const char *form, ...)
{
    char buffer[512];
    va_list args;

    va_start(args, form);
    vsnprintf(buffer, sizeof(buffer), form, args);
    va_end(args);
    return strdup(buffer);
}

/* "3.1", or null. */
static const char *eta_text(const struct job *job, char ret[24])
{
    if (job->eta_s < 0) {
        return "null";
    }
    snprintf(ret, 24, "%.1f", job->eta_s);
    return ret;
}

char *jobs_event_queued(const struct job *job)
{
    char eta[24];
    char position[16] = "null";

    if (job->queue_position > 0) {
        snprintf(position, sizeof(position), "%d", job->queue_position);
    }
    return format("{\"id\":\"%s\",\"status\":\"%s\",\"queue_position\":%s,\"eta_s\":%s}",
                  job->row->id, job_status_name(job_status(job)), position, eta_text(job, eta));
}

char *jobs_event_progress(const struct job *job)
{
    char eta[24];

    return format("{\"id\":\"%s\",\"progress\":%d,\"phase\":\"%s\",\"step\":%lld,\"steps\":%lld,"
                  "\"block\":%lld,\"eta_s\":%s}",
                  job->row->id, job->detail.progress, job->phase, (long long)job->step,
                  (long long)job->steps, (long long)job->block, eta_text(job, eta));
}

char *jobs_event_block(const struct job *job, const struct job_block *block, int64_t total)
{
    const double fps = job->spec.fps;

    return format(
        "{\"id\":\"%s\",\"index\":%lld,\"total\":%lld,\"start_s\":%.3f,\"duration_s\":%.3f,"
        "\"frames\":%lld,\"bytes\":%lld,\"uri\":\"/v1/videos/%s/hls/seg-%05lld.m4s\","
        "\"gen_s\":%.3f}",
        job->row->id, (long long)block->index, (long long)total, (double)block->first_frame / fps,
        (double)block->frames / fps, (long long)block->frames, (long long)block->bytes,
        job->row->id, (long long)block->index, (double)block->gen_ms / 1000);
}

char *jobs_event_deleted(const char *id)
{
    return format("{\"id\":\"%s\"}", id);
}

void jobs_publish(struct jobs *j, const struct store_event *event)
{
    events_publish(j->events, event);
}

void jobs_published(struct jobs *j)
{
    if (j->options.events_published) {
        j->options.events_published(j->options.ctx);
    }
}

/* ---- positions ---- */

struct waiting {
    struct scheduler_job entry[MAX_POSITIONS];
    struct job *job[MAX_POSITIONS];
    int order[MAX_POSITIONS];
    int n;
};

static void collect(const struct jobs *j, struct waiting *w)
{
    for (struct job *job = j->unfinished.first; job && w->n < MAX_POSITIONS; job = job->next) {
        if (job->run || job->ending || job->row->state != JOB_QUEUED) {
            continue;
        }
        w->entry[w->n] = (struct scheduler_job){.id = job->row->id,
                                                .client = job->row->client,
                                                .priority = job->row->priority,
                                                .begun = job->row->started_ms != 0};
        w->job[w->n++] = job;
    }
}

static double running_eta(const struct jobs *j)
{
    double eta = 0;

    for (int i = 0; i < j->n_devices; i++) {
        const struct job *job = j->devices[i]->job;

        if (job && job->eta_s < 0) {
            return -1;
        }
        eta += job ? job->eta_s : 0;
    }
    return eta / (j->n_devices > 0 ? j->n_devices : 1);
}

static void set_position(struct jobs *j, struct job *job, int position, double eta)
{
    if (fabs(job->eta_s - eta) >= 1 || job->queue_position != position) {
        job->eta_s = eta;
        job_changed(job);
    }
    if (job->queue_position == position) {
        return;
    }
    job->queue_position = position;
    job_changed(job);
    jobs_emit_passing(j, job, "video.queued", jobs_event_queued(job));
}

void jobs_positions(struct jobs *j)
{
    struct waiting *w = calloc(1, sizeof(*w));
    double eta = running_eta(j);

    if (!w) {
        return; /* positions stay as they were for a second more */
    }
    collect(j, w);
    scheduler_order(j->scheduler, w->entry, w->n, w->order);
    for (int k = 0; k < w->n; k++) {
        struct job *job = w->job[w->order[k]];

        eta = eta >= 0 && j->seconds_per_frame > 0
                  ? eta + j->seconds_per_frame * (double)job->spec.generated_frames
                  : -1;
        set_position(j, job, k + 1, eta);
    }
    free(w);
}
