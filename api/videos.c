/*
 * One video: retrieve, update, cancel, delete (API.md 3.8). Creating is in create.c; lists are in list.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/body.h"
#include "api/create_request.h"
#include "api/header.h"
#include "api/json.h"
#include "api/pending.h"
#include "api/router.h"
#include "api/wait.h"

enum {
    CANCEL_WAIT_MS = 2000
};

static void set_object_headers(struct http_request *req, struct job *job)
{
    http_set_header(req, "ETag", job_etag(job));
    http_set_header(req, "Cache-Control", "no-store");
    if (!job_is_over(job)) {
        http_set_headerf(req, "openai-poll-after-ms", "%d", api_poll_after_ms(job));
    }
}

void videos_respond(struct http_request *req, int status, struct job *job)
{
    size_t len;
    const char *json;

    if (job->deleted) {
        api_refuse_unknown_video(req, job->row->id);
        return;
    }
    json = job_json(job, &len);
    if (!json) {
        api_refuse_no_memory(req);
        return;
    }
    set_object_headers(req, job);
    http_respond(req, status, "application/json", json, len);
}

/* ---- retrieve ---- */

static void respond_or_304(struct http_request *req, struct job *job)
{
    size_t len;
    const char *list = http_header(req, "If-None-Match");

    /* Rendered before its tag is asked for. */
    if (list && !job->deleted && job_json(job, &len) && header_etag_matches(list, job_etag(job))) {
        set_object_headers(req, job);
        http_respond(req, 304, NULL, NULL, 0);
        return;
    }
    videos_respond(req, 200, job);
}

/* ?wait=, else Prefer: wait=, in seconds. False, after answering: it is no such number. */
static bool read_wait(struct http_request *req, int *ret_s)
{
    const char *query = http_query(req, "wait");
    const int prefer = header_prefer_wait(http_header(req, "Prefer"));
    int64_t value = 0;

    if (query && query[0] != '\0' && (!header_number(query, &value) || value > API_MAX_WAIT_S)) {
        api_refuse(req, API_INVALID_VALUE, "wait",
                   "Invalid value: '%s'. wait is a number of seconds from 0 to %d.", query,
                   (int)API_MAX_WAIT_S);
        return false;
    }
    if (query && query[0] != '\0') {
        *ret_s = (int)value;
    } else {
        *ret_s = prefer < 0 ? 0 : (prefer < API_MAX_WAIT_S ? prefer : API_MAX_WAIT_S);
    }
    return true;
}

/* A request that waits for a job. */
struct waiting {
    struct pending p;
    struct wait wait;
    char id[JOB_ID_SIZE];
};

static void waiting_over(struct pending *p, bool delivered)
{
    (void)delivered;
    wait_stop(&CONTAINER_OF(p, struct waiting, p)->wait);
}

static void waiting_free(struct pending *p)
{
    free(CONTAINER_OF(p, struct waiting, p));
}

/* NULL after answering. */
static struct waiting *waiting_create(struct api *api, struct http_request *req, const char *id)
{
    struct waiting *w = calloc(1, sizeof(*w));

    if (!w) {
        api_refuse_no_memory(req);
        return NULL;
    }
    snprintf(w->id, sizeof(w->id), "%s", id);
    pending_init(&w->p, api, req, waiting_over, waiting_free);
    return w;
}

static void retrieve_waited(struct wait *wait, struct job *job)
{
    respond_or_304(CONTAINER_OF(wait, struct waiting, wait)->p.req, job);
}

static void retrieve_now(struct api *api, struct http_request *req, struct job *job)
{
    (void)api;
    respond_or_304(req, job);
}

static void retrieve_later(struct api *api, struct http_request *req, struct job *job)
{
    struct waiting *w;
    int seconds;

    if (!read_wait(req, &seconds)) {
        return;
    }
    if (seconds == 0 || job_is_over(job)) {
        respond_or_304(req, job);
        return;
    }
    w = waiting_create(api, req, job->row->id);
    if (w) {
        wait_start(&w->wait, api, job, (int64_t)seconds * 1000, false, retrieve_waited);
    }
}

void videos_retrieve(struct api *api, struct http_request *req, const char *id)
{
    int seconds;

    if (read_wait(req, &seconds)) {
        api_with_job(api, req, id, seconds == 0 ? retrieve_now : retrieve_later);
    }
}

/* ---- update ---- */

struct update {
    struct pending p;
    struct body body;
    char id[ROUTER_ID_SIZE];
    int priority;
    char *tags;     /* owned; NULL: unchanged */
    char *metadata; /* likewise */
};

static void update_free(struct pending *p)
{
    struct update *u = CONTAINER_OF(p, struct update, p);

    body_done(&u->body);
    free(u->tags);
    free(u->metadata);
    free(u);
}

static void refuse_storing(struct http_request *req, enum jobs_outcome outcome, const char *message)
{
    api_refuse(req, outcome == JOBS_NO_SPACE ? API_INSUFFICIENT_STORAGE : API_INTERNAL_ERROR, "",
               "%s", message);
}

static void updated(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct update *u = ctx;

    if (!u->p.req) {
        pending_unref(&u->p);
        return;
    }
    switch (outcome) {
    case JOBS_OK:
        videos_respond(u->p.req, 200, job);
        break;
    case JOBS_NOT_FOUND:
        api_refuse_unknown_video(u->p.req, u->id);
        break;
    case JOBS_BUSY:
        api_refuse(u->p.req, API_INVALID_VALUE, "priority",
                   "Only the priority of a video that waits in the queue can be changed.");
        break;
    default:
        refuse_storing(u->p.req, outcome, "The change could not be stored.");
        break;
    }
    pending_unref(&u->p);
}

static bool check_names(struct update *u, struct api_error *e)
{
    static const char *const known[] = {"priority", "tags", "metadata"};
    const cJSON *item;

    if (u->body.fields.n_files > 0) {
        return api_fail(e, API_UNKNOWN_PARAMETER, u->body.fields.files[0].name,
                        "A file is not taken here.");
    }
    cJSON_ArrayForEach(item, u->body.fields.root)
    {
        bool found = header_prefer_lenient(http_header(u->p.req, "Prefer"));

        for (size_t i = 0; i < ARRAY_LEN(known); i++) {
            found = found || strcmp(item->string, known[i]) == 0;
        }
        if (!found) {
            return api_fail(e, API_UNKNOWN_PARAMETER, item->string, "Unknown parameter: '%s'.",
                            item->string);
        }
    }
    return true;
}

/* One member of the request replaces, adds or (null) deletes one of what is stored. */
static bool merge_member(cJSON *stored, const cJSON *member)
{
    cJSON *copy;

    cJSON_DeleteItemFromObjectCaseSensitive(stored, member->string);
    if (cJSON_IsNull(member)) {
        return true;
    }
    copy = cJSON_Duplicate(member, true);
    if (!copy || !cJSON_AddItemToObject(stored, member->string, copy)) {
        cJSON_Delete(copy);
        return false;
    }
    return true;
}

/* The object itself, or the one that a form has as text; owned is then to be deleted. NULL: neither. */
static const cJSON *as_object(const cJSON *value, cJSON **ret_owned)
{
    const char *text = json_to_text(value);
    struct err err;

    if (text && json_parse(ret_owned, text, strlen(text), FIELDS_MAX_DEPTH, &err) == ERR_OK) {
        value = *ret_owned;
    }
    return cJSON_IsObject(value) ? value : NULL;
}

static bool merge_into(cJSON *stored, const cJSON *changes)
{
    const cJSON *member;

    cJSON_ArrayForEach(member, changes)
    {
        if (!merge_member(stored, member)) {
            return false;
        }
    }
    return true;
}

static bool merge_metadata(struct update *u, const struct job *job, const cJSON *value,
                           struct api_error *e)
{
    const char *stored_text = job_metadata(job);
    const char *old = stored_text[0] != '\0' ? stored_text : "{}";
    cJSON *owned = NULL;
    cJSON *stored = NULL;
    const cJSON *changes = as_object(value, &owned);
    struct err err;
    bool ok;

    if (!changes) {
        ok = create_request_metadata(value, &u->metadata, e); /* says what is wrong */
    } else if (json_parse(&stored, old, strlen(old), FIELDS_MAX_DEPTH, &err) ||
               !merge_into(stored, changes)) {
        ok = api_fail(e, API_INTERNAL_ERROR, "metadata", "The metadata could not be merged.");
    } else {
        ok = create_request_metadata(stored, &u->metadata, e);
    }
    cJSON_Delete(owned);
    cJSON_Delete(stored);
    return ok;
}

/* NULL: the request does not change it. */
static const cJSON *given(const struct update *u, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(u->body.fields.root, name);

    return cJSON_IsNull(value) ? NULL : value;
}

static void update_with_job(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct update *u = ctx;
    struct jobs_update change = {0};
    const cJSON *priority = given(u, "priority");
    const cJSON *tags = given(u, "tags");
    const cJSON *metadata = given(u, "metadata");
    struct api_error e;

    if (!u->p.req || outcome != JOBS_OK) {
        updated(u, outcome, job);
        return;
    }
    if ((priority && !create_request_priority(priority, &u->priority, &e)) ||
        (tags && !create_request_tags(tags, &u->tags, &e)) ||
        (metadata && !merge_metadata(u, job, metadata, &e))) {
        api_respond_error(u->p.req, &e);
        pending_unref(&u->p);
        return;
    }
    change.priority = priority && u->priority != job->row->priority ? &u->priority : NULL;
    change.tags = u->tags;
    change.metadata = u->metadata;
    if (!change.priority && !change.tags && !change.metadata) {
        updated(u, JOBS_OK, job);
        return;
    }
    jobs_update(u->p.api->jobs, u->id, &change, updated, u);
}

static void update_with_body(struct body *b, const struct api_error *error)
{
    struct update *u = CONTAINER_OF(b, struct update, body);
    struct api_error e;

    if (error) {
        api_respond_error(u->p.req, error);
    } else if (!check_names(u, &e)) {
        api_respond_error(u->p.req, &e);
    } else {
        pending_ref(&u->p);
        jobs_get(u->p.api->jobs, u->id, update_with_job, u);
    }
}

void videos_update(struct api *api, struct http_request *req, const char *id)
{
    struct update *u = calloc(1, sizeof(*u));

    if (!u) {
        api_refuse_no_memory(req);
        return;
    }
    snprintf(u->id, sizeof(u->id), "%s", id);
    pending_init(&u->p, api, req, NULL, update_free);
    body_read(&u->body, api, req, update_with_body);
}

/* ---- cancel ---- */

static void cancel_waited(struct wait *wait, struct job *job)
{
    struct http_request *req = CONTAINER_OF(wait, struct waiting, wait)->p.req;

    videos_respond(req, job_is_over(job) ? 200 : 202, job);
}

static void cancelled(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct waiting *w = ctx;

    if (!w->p.req) {
        /* nobody to answer */
    } else if (outcome == JOBS_OK && (job_is_over(job) || job->deleted)) {
        videos_respond(w->p.req, 200, job);
    } else if (outcome == JOBS_OK) {
        wait_start(&w->wait, w->p.api, job, CANCEL_WAIT_MS, true, cancel_waited);
    } else if (outcome == JOBS_NOT_FOUND) {
        api_refuse_unknown_video(w->p.req, w->id);
    } else {
        refuse_storing(w->p.req, outcome, "The cancellation could not be stored.");
    }
    pending_unref(&w->p);
}

void videos_cancel(struct api *api, struct http_request *req, const char *id)
{
    struct waiting *w = waiting_create(api, req, id);

    if (w) {
        pending_ref(&w->p);
        jobs_cancel(api->jobs, w->id, NULL, cancelled, w);
    }
}

/* ---- delete ---- */

static void deleted(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct waiting *w = ctx;
    char text[160];
    int len;

    (void)job;
    if (!w->p.req) {
        /* nobody to answer */
    } else if (outcome == JOBS_OK) {
        len = snprintf(text, sizeof(text),
                       "{\"id\":\"%s\",\"object\":\"video.deleted\",\"deleted\":true}", w->id);
        api_respond_json(w->p.req, 200, text, (size_t)len);
    } else if (outcome == JOBS_NOT_FOUND) {
        api_refuse_unknown_video(w->p.req, w->id);
    } else {
        refuse_storing(w->p.req, outcome, "The deletion could not be stored.");
    }
    pending_unref(&w->p);
}

void videos_delete(struct api *api, struct http_request *req, const char *id)
{
    struct waiting *w = waiting_create(api, req, id);

    if (w) {
        pending_ref(&w->p);
        jobs_delete(api->jobs, w->id, deleted, w);
    }
}
