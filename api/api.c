#include "api/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/guard.h"
#include "api/pending.h"
#include "api/router.h"
#include "api/wait.h"
#include "base/clock.h"

enum {
    READER_RETRY_MS = 5000,
    RECENT_AT_START = 100
};

/* What was created just before this start, for clients that repeat now. */
static void fill_recent(void *ctx, const struct jobs_page *page)
{
    struct api *api = ctx;

    for (int i = page ? page->n - 1 : -1; i >= 0; i--) { /* newest first in the page */
        const struct job_row *row = page->job[i]->row;
        const int64_t age_ms = api_now_ms(api) - row->created_ms;
        const int64_t number = recent_add(&api->recent, row->client, row->fingerprint,
                                          clock_now_ns() - age_ms * 1000000);

        recent_created(&api->recent, number, row->id);
    }
}

int api_open(struct api **ret, const struct api_options *options, struct err *err)
{
    struct store_query query = {.limit = RECENT_AT_START, .status = -1};
    struct api *api = calloc(1, sizeof(*api));

    if (!api) {
        return err_set(err, ERR_NO_MEMORY, "state of the HTTP API");
    }
    api->options = *options;
    if (!api->options.now_ms) {
        api->options.now_ms = clock_wall_ms;
    }
    api->limits = options->limits;
    api->jobs = options->jobs;
    link_init(&api->waits);
    link_init(&api->streams);
    link_init(&api->events);
    link_init(&api->creating);
    query.created_after_ms = api_now_ms(api) - RECENT_SECONDS * INT64_C(1000);
    jobs_list(api->jobs, &query, fill_recent, api);
    *ret = api;
    return ERR_OK;
}

void api_close(struct api *api)
{
    free(api);
}

void api_configure(struct api *api, const struct api_limits *limits)
{
    api->limits = *limits;
}

int64_t api_now_ms(const struct api *api)
{
    return api->options.now_ms();
}

/* false: it was refused. */
static bool check_sender(const struct api *api, struct http_request *req)
{
    const enum http_method method = http_method(req);
    const bool reads = method == HTTP_GET || method == HTTP_HEAD;

    if (!guard_host(http_header(req, "Host"), api->limits.allowed_hosts)) {
        api_refuse(req, API_ORIGIN_NOT_ALLOWED, "Host",
                   "This server is not called by that name; http.allowed_hosts can add it.");
        return false;
    }
    if (!reads && !guard_origin(http_header(req, "Origin"), api->limits.allowed_hosts)) {
        api_refuse(
            req, API_ORIGIN_NOT_ALLOWED, "Origin",
            "Pages of that origin may not change anything here; http.allowed_hosts can allow it.");
        return false;
    }
    return true;
}

void api_handle(void *ctx, struct http_request *req)
{
    struct api *api = ctx;
    struct router_match match;

    if (!check_sender(api, req)) {
        return;
    }
    switch (router_find(http_method(req), http_path(req), &match)) {
    case ROUTER_FOUND:
        match.route->handler(api, req, match.id);
        break;
    case ROUTER_WRONG_METHOD:
        http_set_header(req, "Allow", match.allow);
        api_refuse(req, API_METHOD_NOT_ALLOWED, "", "This path takes %s only.", match.allow);
        break;
    case ROUTER_BAD_VIDEO:
        api_refuse_unknown_video(req, match.id);
        break;
    case ROUTER_BAD_MODEL:
        api_refuse(req, API_MODEL_NOT_FOUND, "model", "There is no such model.");
        break;
    case ROUTER_UNKNOWN_URL:
        api_refuse(req, API_UNKNOWN_URL, "", "There is nothing at this path. See /v1/videos.");
        break;
    }
}

void api_tick(struct api *api)
{
    const int64_t now_ns = clock_now_ns();

    for (struct link *l = api->waits.next, *next; l != &api->waits; l = next) {
        next = l->next;
        wait_tick(CONTAINER_OF(l, struct wait, link), now_ns);
    }
    stream_tick(api, now_ns);
    events_tick(api, now_ns);
}

void api_events_published(void *api)
{
    events_wake(api);
}

void api_drain(struct api *api)
{
    api->draining = true;
}

/* ---- answers ---- */

void api_refuse(struct http_request *req, enum api_code code, const char *param, const char *format,
                ...)
{
    struct api_error e;
    char message[sizeof(e.message)];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    api_fail(&e, code, param, "%s", message);
    api_respond_error(req, &e);
}

void api_refuse_unknown_video(struct http_request *req, const char *id)
{
    api_refuse(req, API_VIDEO_NOT_FOUND, "video_id", "There is no video '%s'.", id);
}

void api_refuse_no_memory(struct http_request *req)
{
    api_refuse(req, API_INTERNAL_ERROR, "", "The server is out of memory.");
}

void api_respond_json(struct http_request *req, int status, const char *json, size_t len)
{
    http_set_header(req, "Cache-Control", "no-store");
    http_respond(req, status, "application/json", json, len);
}

void api_respond_tree(struct http_request *req, int status, cJSON *tree, bool ok)
{
    char *text = tree && ok ? cJSON_PrintUnformatted(tree) : NULL;

    if (text) {
        api_respond_json(req, status, text, strlen(text));
    } else {
        api_refuse_no_memory(req);
    }
    cJSON_free(text);
    cJSON_Delete(tree);
}

/* ---- jobs ---- */

struct find {
    struct pending p;
    void (*fn)(struct api *api, struct http_request *req, struct job *job);
    char id[ROUTER_ID_SIZE];
};

static void find_free(struct pending *p)
{
    free(CONTAINER_OF(p, struct find, p));
}

static void found(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct find *f = ctx;
    struct api *api = f->p.api;

    if (f->p.req && outcome == JOBS_OK) {
        f->fn(api, pending_release(&f->p), job);
    } else if (f->p.req && outcome == JOBS_NOT_FOUND) {
        api_refuse_unknown_video(f->p.req, f->id);
    } else if (f->p.req) {
        api_refuse(f->p.req, API_INTERNAL_ERROR, "", "The video could not be read.");
    }
    pending_unref(&f->p);
}

void api_with_job(struct api *api, struct http_request *req, const char *id,
                  void (*fn)(struct api *api, struct http_request *req, struct job *job))
{
    struct job *job = jobs_find(api->jobs, id);
    struct find *f;

    if (job) {
        fn(api, req, job);
        return;
    }
    f = calloc(1, sizeof(*f));
    if (!f) {
        api_refuse_no_memory(req);
        return;
    }
    f->fn = fn;
    snprintf(f->id, sizeof(f->id), "%s", id);
    pending_init(&f->p, api, req, NULL, find_free);
    pending_ref(&f->p);
    jobs_get(api->jobs, f->id, found, f);
}

static int clamp_ms(double ms, int low, int high)
{
    if (!(ms > low)) {
        return low;
    }
    return ms < high ? (int)ms : high;
}

int api_poll_after_ms(const struct job *job)
{
    return job->eta_s < 0 ? 1000 : clamp_ms(job->eta_s * 1000 / 10, 250, 2000);
}

int api_retry_after_ms(const struct job *job)
{
    return job->eta_s < 0 ? 2000 : clamp_ms(job->eta_s * 1000, 1000, 60000);
}

/* ---- arguments ---- */

bool api_query_flag(struct http_request *req, const char *name, bool *ret)
{
    const char *value = http_query(req, name);

    *ret = value && (strcmp(value, "true") == 0 || strcmp(value, "1") == 0);
    if (!value || *ret || value[0] == '\0' || strcmp(value, "false") == 0 ||
        strcmp(value, "0") == 0) {
        return true;
    }
    api_refuse(req, API_INVALID_VALUE, name, "Invalid value: '%s'. %s must be true or false.",
               value, name);
    return false;
}

bool api_reader_allowed(struct api *api, struct http_request *req)
{
    struct api_error e;

    if (api->n_readers < api->limits.max_readers) {
        return true;
    }
    api_fail(&e, API_RATE_LIMIT_EXCEEDED, "", "All %d places for readers of streams are taken.",
             api->limits.max_readers);
    e.retry_after_ms = READER_RETRY_MS;
    api_respond_error(req, &e);
    return false;
}
