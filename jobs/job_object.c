/*
 * The video object of the API, field by field in the order of its description. It is rendered once for each
 * change, not for each request.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#include "jobs/jobs_internal.h"

/* An object being filled; the first failure (out of memory) stays. */
struct writer {
    cJSON *o;
    bool failed;
};

static void put(struct writer *w, const char *name, cJSON *item)
{
    if (!item || !cJSON_AddItemToObjectCS(w->o, name, item)) {
        cJSON_Delete(item);
        w->failed = true;
    }
}

static void put_text(struct writer *w, const char *name, const char *text)
{
    put(w, name, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

static void put_number(struct writer *w, const char *name, double value)
{
    put(w, name, cJSON_CreateNumber(value));
}

/* null unless `known`. */
static void put_known(struct writer *w, const char *name, bool known, double value)
{
    put(w, name, known ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

static void put_raw(struct writer *w, const char *name, const char *json)
{
    put(w, name, cJSON_CreateRaw(json));
}

static void put_seconds(struct writer *w, const char *name, int64_t ms)
{
    put_known(w, name, ms != 0, floor((double)ms / 1000));
}

static void put_error(struct writer *w, const struct job_row *row)
{
    struct writer e = {.o = cJSON_CreateObject()};

    if (row->state != JOB_FAILED) {
        cJSON_Delete(e.o);
        put(w, "error", cJSON_CreateNull());
        return;
    }
    put_text(&e, "code", row->error_code ? row->error_code : "generation_failed");
    put_text(&e, "message", row->error_message ? row->error_message : "");
    w->failed |= e.failed;
    put(w, "error", e.o);
}

static void put_standard(struct writer *w, const struct job *job)
{
    const struct job_row *row = job->row;
    char text[32];

    put_text(w, "id", row->id);
    put_text(w, "object", "video");
    put_text(w, "model", row->model);
    put_text(w, "status", job_status_name(job_status(job)));
    put_number(w, "progress", job->detail.progress);
    put_seconds(w, "created_at", row->created_ms);
    put_seconds(w, "completed_at", row->state == JOB_COMPLETED ? row->ended_ms : 0);
    put_seconds(w, "expires_at", row->expires_ms);
    put_text(w, "prompt", job->spec.prompt);
    snprintf(text, sizeof(text), "%lldx%lld", (long long)job->spec.width,
             (long long)job->spec.height);
    put_text(w, "size", text);
    job_spec_seconds(&job->spec, text);
    put_text(w, "seconds", text);
    put_text(w, "remixed_from_video_id", NULL);
    put_error(w, row);
}

static void put_figures(struct writer *w, const struct job *job)
{
    const struct job_detail *d = &job->detail;
    const struct job_spec *s = &job->spec;
    char native[32];
    char seed[24]; /* cJSON would round it to 15 digits */

    put_text(w, "quality", s->quality);
    put_text(w, "media_type", "video/mp4");
    put_text(w, "file_name", NULL);
    put_text(w, "url", NULL);
    put_known(w, "inference_time_s", d->inference_s > 0, d->inference_s);
    put_raw(w, "stage_durations", d->stages[0] ? d->stages : "{}");
    put_number(w, "peak_memory_mb", (double)d->peak_memory_mb);
    put_seconds(w, "started_at", job->row->started_ms);
    put_number(w, "duration_s", round((double)s->num_frames / s->fps * 1000) / 1000);
    put_number(w, "width", (double)s->width);
    put_number(w, "height", (double)s->height);
    snprintf(native, sizeof(native), "%dx%d", d->native_width, d->native_height);
    put_text(w, "native_size", d->native_width ? native : NULL);
    put_number(w, "fps", s->fps);
    put_number(w, "num_frames", (double)s->num_frames);
    put_number(w, "generated_frames", (double)s->generated_frames);
    put_number(w, "num_inference_steps", s->steps);
    put_number(w, "guidance_scale", s->guidance_scale);
    put_number(w, "flow_shift", s->flow_shift);
    put_number(w, "motion_score", s->motion_score);
    snprintf(seed, sizeof(seed), "%llu", (unsigned long long)s->seed);
    put_raw(w, "seed", seed);
    put_text(w, "negative_prompt", s->negative_prompt);
}

static void put_blocks(struct writer *w, const struct job *job)
{
    struct writer b = {.o = cJSON_CreateObject()};

    put_number(&b, "done", (double)job->row->blocks);
    put_known(&b, "total", job->detail.blocks_total > 0, (double)job->detail.blocks_total);
    put_number(&b, "frames_ready", (double)job->row->frames);
    w->failed |= b.failed;
    put(w, "blocks", b.o);
}

static cJSON *warning(const char *code, const char *param)
{
    struct writer w = {.o = cJSON_CreateObject()};

    put_text(&w, "code", code);
    put_text(&w, "param", param[0] ? param : NULL);
    if (w.failed) {
        cJSON_Delete(w.o);
        return NULL;
    }
    return w.o;
}

static void put_warnings(struct writer *w, const struct job *job)
{
    cJSON *list = cJSON_CreateArray();

    for (int i = 0; i < job->spec.n_warnings; i++) {
        const struct job_warning *v = &job->spec.warnings[i];

        w->failed |= !cJSON_AddItemToArray(list, warning(v->code, v->param));
    }
    if (job->detail.prompt_truncated) {
        w->failed |= !cJSON_AddItemToArray(list, warning("prompt_truncated", "prompt"));
    }
    put(w, "warnings", list);
}

static void put_progress(struct writer *w, const struct job *job)
{
    const struct job_row *row = job->row;
    const bool over = job_is_over(job);

    put_text(w, "phase", job->phase);
    put_blocks(w, job);
    put_known(w, "queue_position", !over && job->queue_position > 0, job->queue_position);
    put_known(w, "eta_s", !over && job->eta_s >= 0, round(job->eta_s * 10) / 10);
    put(w, "cancel_requested", cJSON_CreateBool(row->cancel_requested));
    put_number(w, "priority", row->priority);
    put_text(w, "group", row->group);
    put_raw(w, "tags", row->tags[0] ? row->tags : "[]");
    put_raw(w, "metadata", row->metadata[0] ? row->metadata : "{}");
    put_text(w, "user", row->user);
    put_text(w, "extended_from_video_id", NULL);
    put_text(w, "edited_from_video_id", NULL);
    put_number(w, "restarts", row->restarts);
    put_known(w, "size_bytes", job->detail.size_bytes > 0, (double)job->detail.size_bytes);
    put_text(w, "sha256", job->detail.sha256[0] ? job->detail.sha256 : NULL);
    put_warnings(w, job);
}

char *job_render(const struct job *job)
{
    struct writer w = {.o = cJSON_CreateObject()};
    char *text = NULL;

    if (w.o) {
        put_standard(&w, job);
        put_figures(&w, job);
        put_progress(&w, job);
        text = w.failed ? NULL : cJSON_PrintUnformatted(w.o);
    }
    cJSON_Delete(w.o);
    return text;
}

static void set_etag(struct job *job)
{
    const uint64_t h = hash_bytes(HASH_START, job->json, job->json_len);

    snprintf(job->etag, sizeof(job->etag), "\"%016llx\"", (unsigned long long)h);
}

const char *job_json(struct job *job, size_t *ret_len)
{
    if (!job->json) {
        job->json = job_render(job);
        if (!job->json) {
            return NULL;
        }
        job->json_len = strlen(job->json);
        set_etag(job);
    }
    *ret_len = job->json_len;
    return job->json;
}

const char *job_etag(struct job *job)
{
    size_t len;

    return job_json(job, &len) ? job->etag : "";
}
