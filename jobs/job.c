#include "jobs/job.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/jobs_internal.h"

enum {
    MAX_DETAIL = 8192
};

const char *job_status_name(enum job_status status)
{
    static const char *const names[] = {"queued", "in_progress", "completed", "failed"};

    return names[status];
}

/* ---- life ---- */

struct job *job_create(struct jobs *j, struct job_row *row, struct err *err)
{
    struct job *job = calloc(1, sizeof(*job));

    if (!job) {
        job_row_free(row);
        err_set(err, ERR_NO_MEMORY, "a job");
        return NULL;
    }
    job->refs = 1;
    job->jobs = j;
    job->row = row;
    job->eta_s = -1;
    if (job_spec_from_json(&job->spec, row->spec, err) != ERR_OK) {
        err_prefix(err, "job %s", row->id);
        job_unref(job);
        return NULL;
    }
    job_detail_from_json(&job->detail, row->detail);
    job->prepared = row->init_bytes > 0;
    job_set_phase(job, job_is_over(job) ? "done" : row->started_ms != 0 ? "paused" : "queued");
    return job;
}

struct job *job_ref(struct job *job)
{
    job->refs++;
    return job;
}

void job_unref(struct job *job)
{
    if (!job || --job->refs > 0) {
        return;
    }
    CHECK_BUG(!job->watches);
    job_spec_done(&job->spec);
    job_row_free(job->row);
    free(job->blocks);
    free(job->run);
    free(job->json);
    free(job->metadata_next);
    free(job);
}

enum job_status job_status(const struct job *job)
{
    switch (job->row->state) {
    case JOB_QUEUED:
        return job->row->started_ms != 0 ? STATUS_IN_PROGRESS : STATUS_QUEUED;
    case JOB_RUNNING:
        return STATUS_IN_PROGRESS;
    case JOB_COMPLETED:
        return STATUS_COMPLETED;
    case JOB_FAILED:
        break;
    }
    return STATUS_FAILED;
}

const char *job_metadata(const struct job *job)
{
    return job->metadata_next ? job->metadata_next : job->row->metadata;
}

bool job_is_over(const struct job *job)
{
    return job->row->state == JOB_COMPLETED || job->row->state == JOB_FAILED;
}

bool job_is_expired(const struct job *job)
{
    return job->row->expired_ms != 0;
}

void job_set_phase(struct job *job, const char *phase)
{
    snprintf(job->phase, sizeof(job->phase), "%s", phase);
}

/* ---- watches ---- */

void job_watch_add(struct job *job, struct job_watch *watch)
{
    watch->prev = NULL;
    watch->next = job->watches;
    if (job->watches) {
        job->watches->prev = watch;
    }
    job->watches = watch;
}

void job_watch_remove(struct job *job, struct job_watch *watch)
{
    if (watch->prev) {
        watch->prev->next = watch->next;
    } else if (job->watches == watch) {
        job->watches = watch->next;
    } else {
        return;
    }
    if (watch->next) {
        watch->next->prev = watch->prev;
    }
    watch->prev = NULL;
    watch->next = NULL;
}

void job_changed(struct job *job)
{
    struct job_watch *next;

    free(job->json);
    job->json = NULL;
    job_ref(job); /* a watch may let go of the last reference */
    for (struct job_watch *w = job->watches; w; w = next) {
        next = w->next;
        w->changed(w, job);
    }
    job_unref(job);
}

/* ---- the detail ---- */

bool job_detail_to_json(const struct job_detail *d, struct str *out)
{
    cJSON *o = cJSON_CreateObject();
    char *text;
    bool ok = cJSON_AddNumberToObject(o, "progress", d->progress) &&
              cJSON_AddNumberToObject(o, "native_width", d->native_width) &&
              cJSON_AddNumberToObject(o, "native_height", d->native_height) &&
              cJSON_AddNumberToObject(o, "blocks_total", (double)d->blocks_total) &&
              cJSON_AddBoolToObject(o, "prompt_truncated", d->prompt_truncated) &&
              cJSON_AddStringToObject(o, "codec", d->codec) &&
              cJSON_AddNumberToObject(o, "inference_s", d->inference_s) &&
              cJSON_AddNumberToObject(o, "peak_memory_mb", (double)d->peak_memory_mb) &&
              cJSON_AddStringToObject(o, "stages", d->stages) &&
              cJSON_AddNumberToObject(o, "size_bytes", (double)d->size_bytes) &&
              cJSON_AddStringToObject(o, "sha256", d->sha256) &&
              cJSON_AddNumberToObject(o, "sprite_cols", d->sprite_cols) &&
              cJSON_AddNumberToObject(o, "sprite_rows", d->sprite_rows) &&
              cJSON_AddNumberToObject(o, "sprite_w", d->sprite_w) &&
              cJSON_AddNumberToObject(o, "sprite_h", d->sprite_h) &&
              cJSON_AddNumberToObject(o, "sprite_interval", d->sprite_interval);

    text = ok ? cJSON_PrintUnformatted(o) : NULL;
    ok = text && str_add(out, text);
    cJSON_free(text);
    cJSON_Delete(o);
    return ok;
}

static double number_of(const cJSON *o, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void text_of(const cJSON *o, const char *name, char *to, size_t size)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);

    snprintf(to, size, "%s", cJSON_IsString(item) ? item->valuestring : "");
}

/* We wrote it; what is missing is not known (an older version wrote it). */
void job_detail_from_json(struct job_detail *ret, const char *json)
{
    cJSON *o = cJSON_ParseWithLength(json, strnlen(json, MAX_DETAIL));

    *ret = (struct job_detail){
        .progress = (int)number_of(o, "progress"),
        .native_width = (int)number_of(o, "native_width"),
        .native_height = (int)number_of(o, "native_height"),
        .blocks_total = (int64_t)number_of(o, "blocks_total"),
        .prompt_truncated = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "prompt_truncated")),
        .inference_s = number_of(o, "inference_s"),
        .peak_memory_mb = (int64_t)number_of(o, "peak_memory_mb"),
        .size_bytes = (int64_t)number_of(o, "size_bytes"),
        .sprite_cols = (int)number_of(o, "sprite_cols"),
        .sprite_rows = (int)number_of(o, "sprite_rows"),
        .sprite_w = (int)number_of(o, "sprite_w"),
        .sprite_h = (int)number_of(o, "sprite_h"),
        .sprite_interval = number_of(o, "sprite_interval"),
    };
    text_of(o, "codec", ret->codec, sizeof(ret->codec));
    text_of(o, "stages", ret->stages, sizeof(ret->stages));
    text_of(o, "sha256", ret->sha256, sizeof(ret->sha256));
    cJSON_Delete(o);
}
