/*
 * The conversation with a worker: what jobs/ asks becomes messages, and messages become calls of jobs_on_*. The
 * JSON of each is described in worker/worker.h. A worker is our own program, but it computes with files from
 * outside and may be in any state: nothing it says is believed unchecked.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/supervisor_internal.h"

#define MAX_INIT     ((size_t)1 << 20)
#define MAX_FRAGMENT ((size_t)256 << 20)
#define MAX_LATENTS  ((size_t)1 << 30)
#define MAX_STATE    ((size_t)1 << 30)

void talk_init(struct talk *t)
{
    *t = (struct talk){0};
    str_init(&t->init, MAX_INIT);
    str_init(&t->fragment, MAX_FRAGMENT);
    str_init(&t->latents, MAX_LATENTS);
    str_init(&t->state, MAX_STATE);
}

void talk_done(struct talk *t)
{
    for (int i = 0; i < t->n_prepares; i++) {
        job_unref(t->prepares[i].job);
    }
    free(t->prepares);
    job_unref(t->job);
    str_done(&t->init);
    str_done(&t->fragment);
    str_done(&t->latents);
    str_done(&t->state);
    *t = (struct talk){0};
}

/* ---- asking ---- */

static struct job_files *files_of(const struct supervisor *s)
{
    return jobs_files(s->options.jobs);
}

/* Adds the path of a job's file; false when out of memory. */
static bool add_path(const struct supervisor *s, cJSON *o, const char *name, const struct job *job,
                     enum job_file file, int64_t version)
{
    char path[JOB_PATH_SIZE];
    struct err err;

    return job_files_path(files_of(s), job->row->id, file, version, path, &err) == ERR_OK &&
           cJSON_AddStringToObject(o, name, path);
}

static bool add_resume(const struct supervisor *s, cJSON *o, const struct job *job)
{
    cJSON *r = cJSON_AddObjectToObject(o, "resume");
    const struct job_row *row = job->row;

    return r && cJSON_AddNumberToObject(r, "blocks", (double)row->blocks) &&
           (row->latent_bytes == 0 || add_path(s, r, "latents", job, JOB_LATENTS, 0)) &&
           (row->state_version == 0 || add_path(s, r, "state", job, JOB_STATE, row->state_version));
}

/* The job as the worker wants it: what was asked, to the letter (cJSON would round the seed), and the members that
 * are about this attempt. NULL when out of memory. */
static char *job_message(const struct supervisor *s, const struct job *job, bool resume)
{
    const char *spec = job->row->spec;
    cJSON *o = cJSON_CreateObject();
    const bool ok = o &&
                    (!job->spec.has_reference || add_path(s, o, "image", job, JOB_REFERENCE, 0)) &&
                    (!resume || add_resume(s, o, job));
    char *more = ok ? cJSON_PrintUnformatted(o) : NULL;
    struct str text;

    cJSON_Delete(o);
    str_init(&text, WIRE_MAX_PAYLOAD);
    if (more && str_append(&text, spec, strlen(spec) - 1)) { /* without its brace */
        str_addf(&text, "%s%s", more[1] == '}' ? "" : ",", more + 1);
    }
    cJSON_free(more);
    if (!more || text.failed || text.len == 0) {
        str_done(&text);
        return NULL;
    }
    return text.data;
}

static cJSON *finish_message(const struct supervisor *s, const struct job *job)
{
    cJSON *o = cJSON_CreateObject();

    if (o && add_path(s, o, "fragments", job, JOB_FRAGMENTS, 0) &&
        add_path(s, o, "video", job, JOB_VIDEO, 0) &&
        add_path(s, o, "thumbnail_jpeg", job, JOB_THUMBNAIL_JPEG, 0) &&
        add_path(s, o, "thumbnail_webp", job, JOB_THUMBNAIL_WEBP, 0) &&
        add_path(s, o, "spritesheet", job, JOB_SPRITESHEET, 0)) {
        return o;
    }
    cJSON_Delete(o);
    return NULL;
}

/* Takes text (NULL: it could not be made, or is too long for the wire). Without it this worker is of no use: the
 * next one is asked again, and in the end the job fails. */
static void send_text(struct supervisor *s, enum wire_type type, uint32_t seq, char *text)
{
    const size_t len = text ? strlen(text) : 0;

    if (!text || len > WIRE_MAX_PAYLOAD) {
        free(text);
        supervisor_kill(s, "a message for it could not be made");
        return;
    }
    supervisor_send(s, type, seq, text, len);
}

static bool remember_prepare(struct talk *t, struct job *job)
{
    if (t->n_prepares == t->cap_prepares) {
        const int capacity = t->cap_prepares ? 2 * t->cap_prepares : 16;
        struct talk_prepare *grown =
            realloc(t->prepares, (size_t)capacity * sizeof(struct talk_prepare));

        if (!grown) {
            return false;
        }
        t->prepares = grown;
        t->cap_prepares = capacity;
    }
    t->prepares[t->n_prepares++] = (struct talk_prepare){.seq = ++t->last_seq, .job = job_ref(job)};
    return true;
}

static void ask_prepare(void *ctx, struct job *job)
{
    struct supervisor *s = ctx;

    if (!remember_prepare(&s->talk, job)) {
        supervisor_kill(s, "out of memory for a message to it");
        return;
    }
    send_text(s, WIRE_PREPARE, s->talk.last_seq, job_message(s, job, false));
}

/* From now on everything is about this job. */
static uint32_t begin_job(struct talk *t, struct job *job)
{
    job_ref(job);
    job_unref(t->job);
    t->job = job;
    t->seq = ++t->last_seq;
    str_done(&t->fragment);
    str_init(&t->fragment, MAX_FRAGMENT);
    str_done(&t->latents);
    str_init(&t->latents, MAX_LATENTS);
    str_done(&t->state);
    str_init(&t->state, MAX_STATE);
    return t->seq;
}

static void end_job(struct supervisor *s)
{
    supervisor_stop_grace(s);
    job_unref(s->talk.job);
    s->talk.job = NULL;
    s->talk.seq = 0;
}

static void ask_start(void *ctx, struct job *job)
{
    struct supervisor *s = ctx;
    char *text = job_message(s, job, true);

    send_text(s, WIRE_START, begin_job(&s->talk, job), text);
}

static void ask_finish(void *ctx, struct job *job)
{
    struct supervisor *s = ctx;

    cJSON *o = finish_message(s, job);
    char *text = o ? cJSON_PrintUnformatted(o) : NULL;

    cJSON_Delete(o);
    send_text(s, WIRE_FINISH, begin_job(&s->talk, job), text);
}

static void ask_pause(void *ctx, struct job *job)
{
    struct supervisor *s = ctx;

    if (s->talk.job == job) {
        supervisor_send(s, WIRE_PAUSE, s->talk.seq, NULL, 0);
    }
}

static void ask_cancel(void *ctx, struct job *job)
{
    struct supervisor *s = ctx;

    if (s->talk.job == job) {
        supervisor_send(s, WIRE_CANCEL, s->talk.seq, NULL, 0);
        supervisor_start_grace(s);
    }
}

const struct jobs_device_ops talk_ops = {
    .prepare = ask_prepare,
    .start = ask_start,
    .finish = ask_finish,
    .pause = ask_pause,
    .cancel = ask_cancel,
};

/* ---- hearing: JSON ---- */

static double number(const cJSON *o, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);

    return cJSON_IsNumber(item) && isfinite(item->valuedouble) &&
                   fabs(item->valuedouble) <= 9007199254740992.0
               ? item->valuedouble
               : 0;
}

static int64_t whole(const cJSON *o, const char *name, int64_t max)
{
    const double v = number(o, name);

    return v < 0 ? 0 : v > (double)max ? max : (int64_t)v;
}

static void text(const cJSON *o, const char *name, char *to, size_t size)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);

    snprintf(to, size, "%s", cJSON_IsString(item) ? item->valuestring : "");
}

/* ---- hearing: one message each; o is its JSON ---- */

static int hear_ready(struct supervisor *s, const struct wire_frame *frame, struct err *err)
{
    struct model_facts *facts = calloc(1, sizeof(*facts));
    int rc;

    if (!facts) {
        return err_set(err, ERR_NO_MEMORY, "READY");
    }
    rc = model_facts_parse(facts, (const char *)frame->payload, frame->header.length, err);
    if (rc == ERR_OK) {
        supervisor_is_ready(s, facts);
    }
    free(facts);
    return rc;
}

/* The PREPARE that an answer belongs to, taken out of the list: a reference, or NULL. */
static struct job *take_prepare(struct talk *t, uint32_t seq)
{
    for (int i = 0; i < t->n_prepares; i++) {
        if (t->prepares[i].seq == seq) {
            struct job *job = t->prepares[i].job;

            t->n_prepares--;
            memmove(&t->prepares[i], &t->prepares[i + 1],
                    (size_t)(t->n_prepares - i) * sizeof(struct talk_prepare));
            return job;
        }
    }
    return NULL;
}

static int hear_prepared(struct supervisor *s, uint32_t seq, const cJSON *o, struct err *err)
{
    struct talk *t = &s->talk;
    struct job *job = take_prepare(t, seq);
    struct jobs_prepared p = {
        .native_width = (int)whole(o, "native_width", 1 << 16),
        .native_height = (int)whole(o, "native_height", 1 << 16),
        .blocks_total = whole(o, "blocks", 1 << 20),
        .prompt_truncated = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "prompt_truncated")),
        .init = t->init.data,
        .init_bytes = t->init.len,
    };

    if (!job || t->init.len == 0) {
        job_unref(job);
        return err_set(err, ERR_FORMAT, "PREPARED without INIT, or not asked for");
    }
    text(o, "codec", p.codec, sizeof(p.codec));
    jobs_on_prepared(s->device, job, &p);
    job_unref(job);
    str_done(&t->init);
    str_init(&t->init, MAX_INIT);
    return ERR_OK;
}

static void hear_step(struct supervisor *s, const cJSON *o)
{
    char phase[24];

    text(o, "phase", phase, sizeof(phase));
    jobs_on_step(s->device, s->talk.job, phase, whole(o, "step", 1 << 20),
                 whole(o, "steps", 1 << 20), whole(o, "block", 1 << 20), number(o, "fraction"));
}

/* The bytes of s, which is empty then; NULL with *ret_len 0 when there were none. */
static void *take_bytes(struct str *from, size_t *ret_len)
{
    void *data = from->data;

    *ret_len = from->len;
    if (from->len == 0) {
        str_done(from);
        data = NULL;
    }
    str_init(from, from->max);
    return data;
}

static int hear_block(struct supervisor *s, const cJSON *o, struct err *err)
{
    struct talk *t = &s->talk;
    struct jobs_block block = {
        .index = whole(o, "index", 1 << 20),
        .first_frame = whole(o, "first_frame", 1 << 24),
        .frames = whole(o, "frames", 1 << 24),
        .gen_s = number(o, "gen_s"),
    };

    if (t->fragment.len == 0 || block.frames == 0) {
        return err_set(err, ERR_FORMAT, "BLOCK without a fragment");
    }
    block.fragment = take_bytes(&t->fragment, &block.fragment_bytes);
    block.latents = take_bytes(&t->latents, &block.latent_bytes);
    return jobs_on_block(s->device, t->job, &block)
               ? ERR_OK
               : err_set(err, ERR_FORMAT, "BLOCK %lld comes too early", (long long)block.index);
}

static void hear_checkpoint(struct supervisor *s)
{
    size_t len;
    void *data = take_bytes(&s->talk.state, &len);

    if (data) {
        jobs_on_state(s->device, s->talk.job, data, len);
    }
}

static void hear_rendered(struct supervisor *s, const cJSON *o)
{
    const cJSON *stages = cJSON_GetObjectItemCaseSensitive(o, "stages");
    char *printed = cJSON_IsObject(stages) ? cJSON_PrintUnformatted(stages) : NULL;
    struct jobs_rendered r = {.inference_s = number(o, "inference_s"),
                              .peak_memory_mb = whole(o, "peak_memory_mb", INT64_C(1) << 40)};

    if (printed && strlen(printed) < sizeof(r.stages)) {
        memcpy(r.stages, printed, strlen(printed) + 1);
    }
    cJSON_free(printed);
    supervisor_stop_grace(s);
    jobs_on_rendered(s->device, s->talk.job, &r);
}

static int hear_finished(struct supervisor *s, const cJSON *o, struct err *err)
{
    const cJSON *sprite = cJSON_GetObjectItemCaseSensitive(o, "sprite");
    struct jobs_finished f = {
        .bytes = whole(o, "bytes", INT64_C(1) << 50),
        .sprite_cols = (int)whole(sprite, "cols", 64),
        .sprite_rows = (int)whole(sprite, "rows", 64),
        .sprite_w = (int)whole(sprite, "w", 1 << 16),
        .sprite_h = (int)whole(sprite, "h", 1 << 16),
        .sprite_interval = number(sprite, "interval"),
    };
    struct job *job = job_ref(s->talk.job);

    text(o, "sha256", f.sha256, sizeof(f.sha256));
    if (strlen(f.sha256) != JOB_SHA256_SIZE - 1 || f.bytes == 0) {
        job_unref(job);
        return err_set(err, ERR_FORMAT, "FINISHED without size and digest");
    }
    end_job(s);
    jobs_on_finished(s->device, job, &f);
    job_unref(job);
    return ERR_OK;
}

static void hear_paused(struct supervisor *s)
{
    struct job *job = job_ref(s->talk.job);

    end_job(s);
    jobs_on_paused(s->device, job);
    job_unref(job);
}

static void hear_fail(struct supervisor *s, uint32_t seq, const cJSON *o)
{
    struct job *job = take_prepare(&s->talk, seq);
    char code[40];
    char message[400];

    text(o, "code", code, sizeof(code));
    text(o, "message", message, sizeof(message));
    if (job) { /* a PREPARE, that may have failed half way */
        str_done(&s->talk.init);
        str_init(&s->talk.init, MAX_INIT);
    } else if (s->talk.seq == seq && seq != 0) {
        job = job_ref(s->talk.job);
        end_job(s);
    }
    if (job) {
        jobs_on_fail(s->device, job, code, message);
    } else if (seq == 0) { /* it could not begin */
        snprintf(s->reason, sizeof(s->reason), "%.250s", message);
        s->refused = true;
    }
    job_unref(job);
}

/* ---- hearing: frames ---- */

static int collect(struct str *to, const struct wire_frame *frame, struct err *err)
{
    return str_append(to, frame->payload, frame->header.length)
               ? ERR_OK
               : err_set(err, ERR_FORMAT, "%s: more than %zu bytes",
                         wire_type_name(frame->header.type), to->max);
}

/* Bytes that a later message is about. Not of the current job: left from one that is over. */
static int hear_bytes(struct supervisor *s, const struct wire_frame *frame, struct err *err)
{
    struct talk *t = &s->talk;

    if (frame->header.type == WIRE_INIT) {
        return collect(&t->init, frame, err);
    }
    if (frame->header.job != t->seq || t->seq == 0) {
        return ERR_OK;
    }
    switch (frame->header.type) {
    case WIRE_FRAGMENT:
        return collect(&t->fragment, frame, err);
    case WIRE_LATENTS:
        return collect(&t->latents, frame, err);
    case WIRE_STATE:
        return collect(&t->state, frame, err);
    default:
        jobs_on_preview(s->device, t->job, frame->payload, frame->header.length);
        return ERR_OK;
    }
}

static int hear_current(struct supervisor *s, uint32_t type, const cJSON *o, struct err *err)
{
    switch (type) {
    case WIRE_STEP:
        hear_step(s, o);
        return ERR_OK;
    case WIRE_BLOCK:
        return hear_block(s, o, err);
    case WIRE_CHECKPOINT:
        hear_checkpoint(s);
        return ERR_OK;
    case WIRE_PAUSED:
        hear_paused(s);
        return ERR_OK;
    case WIRE_RENDERED:
        hear_rendered(s, o);
        return ERR_OK;
    case WIRE_FINISHED:
        return hear_finished(s, o, err);
    case WIRE_STARTED:
        return ERR_OK; /* its first block is checked when it comes */
    default:
        return err_set(err, ERR_FORMAT, "%s is not for the daemon", wire_type_name(type));
    }
}

static int hear_json(struct supervisor *s, const struct wire_frame *frame, struct err *err)
{
    const struct wire_header *h = &frame->header;
    cJSON *o = cJSON_ParseWithLength((const char *)frame->payload, h->length);
    int rc = ERR_OK;

    if (!cJSON_IsObject(o)) {
        rc = err_set(err, ERR_FORMAT, "%s: not a JSON object", wire_type_name(h->type));
    } else if (h->type == WIRE_PREPARED) {
        rc = hear_prepared(s, h->job, o, err);
    } else if (h->type == WIRE_FAIL) {
        hear_fail(s, h->job, o);
    } else if (h->job == s->talk.seq && s->talk.seq != 0) {
        rc = hear_current(s, h->type, o, err);
    } /* else about a job that is over */
    cJSON_Delete(o);
    return rc;
}

int talk_frame(struct supervisor *s, const struct wire_frame *frame, struct err *err)
{
    switch (frame->header.type) {
    case WIRE_READY:
        return s->ready ? err_set(err, ERR_FORMAT, "READY twice") : hear_ready(s, frame, err);
    case WIRE_INIT:
    case WIRE_FRAGMENT:
    case WIRE_LATENTS:
    case WIRE_STATE:
    case WIRE_PREVIEW:
        return hear_bytes(s, frame, err);
    default:
        return hear_json(s, frame, err);
    }
}
