/*
 * POST /v1/videos and /v1/videos/stream (API.md 3.3): the body becomes a job that is stored before the
 * answer goes out; a request that means one that was made already gets that one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/api_internal.h"
#include "api/body.h"
#include "api/create_request.h"
#include "api/header.h"
#include "api/json.h"
#include "api/pending.h"
#include "api/wait.h"
#include "base/clock.h"
#include "base/log.h"

struct create {
    struct pending p;
    struct body body;
    struct link link; /* of api->creating, while its key is in progress */
    struct wait wait;
    struct create_request request;
    struct jobs_new new_job;
    bool stream;    /* answers with the video itself: has a reader's place */
    int64_t recent; /* number in api->recent; 0: none */
    char client[HEADER_CLIENT_SIZE];
};

static void give_place_back(struct create *c)
{
    if (c->stream) {
        c->stream = false;
        c->p.api->n_readers--;
    }
}

static void create_over(struct pending *p, bool delivered)
{
    struct create *c = CONTAINER_OF(p, struct create, p);

    (void)delivered;
    wait_stop(&c->wait);
}

static void create_free(struct pending *p)
{
    struct create *c = CONTAINER_OF(p, struct create, p);

    give_place_back(c);
    link_remove(&c->link);
    create_request_done(&c->request);
    body_done(&c->body);
    free(c);
}

static void refuse(struct create *c, const struct api_error *e)
{
    link_remove(&c->link);
    api_respond_error(c->p.req, e);
}

/* ---- the answer ---- */

static void created_waited(struct wait *wait, struct job *job)
{
    videos_respond(CONTAINER_OF(wait, struct create, wait)->p.req, 200, job);
}

static void respond_created(struct create *c, struct job *job)
{
    struct http_request *req = c->p.req;
    int wait_s = header_prefer_wait(http_header(req, "Prefer"));

    http_set_headerf(req, "Location", "/v1/videos/%s", job->row->id);
    create_request_done(&c->request); /* it may wait long: nothing big is kept meanwhile */
    body_done(&c->body);
    if (c->stream) {
        struct api *api = c->p.api;

        give_place_back(c); /* for stream_open to take */
        stream_open(api, pending_release(&c->p), job, 0);
    } else if (wait_s > 0 && !job_is_over(job)) {
        wait_s = wait_s < API_MAX_WAIT_S ? wait_s : API_MAX_WAIT_S;
        wait_start(&c->wait, c->p.api, job, (int64_t)wait_s * 1000, true, created_waited);
    } else {
        videos_respond(req, 200, job);
    }
}

/* When a place in the queue may be free: it moves by one in about so long. */
static int queue_retry_ms(const struct api *api)
{
    struct jobs_counts counts;
    double ms;

    jobs_count(api->jobs, &counts);
    if (counts.eta_s < 0) {
        return 5000;
    }
    ms = counts.eta_s * 1000 /
         (counts.queued + counts.running > 0 ? counts.queued + counts.running : 1);
    return ms < 1000 ? 1000 : (ms > 60000 ? 60000 : (int)ms);
}

static void outcome_error(const struct api *api, enum jobs_outcome outcome, struct api_error *e)
{
    struct jobs_counts counts;

    jobs_count(api->jobs, &counts);
    switch (outcome) {
    case JOBS_KEY_REUSED:
        api_fail(e, API_IDEMPOTENCY_KEY_REUSED, "Idempotency-Key",
                 "This Idempotency-Key was used for another request.");
        break;
    case JOBS_QUEUE_FULL:
        api_fail(e, API_QUEUE_FULL, "", "The queue is full: %d videos wait.", counts.queued);
        e->retry_after_ms = queue_retry_ms(api);
        break;
    case JOBS_CLIENT_FULL:
        api_fail(e, API_TOO_MANY_JOBS_FOR_KEY, "", "Too many videos of this key wait already.");
        e->retry_after_ms = queue_retry_ms(api);
        break;
    case JOBS_NO_SPACE:
        api_fail(e, API_INSUFFICIENT_STORAGE, "", "The server has no space left for a video.");
        break;
    case JOBS_NOT_READY:
        api_fail(e, API_MODEL_LOADING, "", "The model is being loaded.");
        e->retry_after_ms = 1000;
        break;
    case JOBS_DRAINS:
        api_fail(e, API_DRAINING, "", "The server is shutting down.");
        break;
    default:
        api_fail(e, API_INTERNAL_ERROR, "", "The video could not be stored.");
        break;
    }
}

static void created(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct create *c = ctx;
    struct api_error e;

    link_remove(&c->link);
    if (outcome == JOBS_OK) {
        recent_created(&c->p.api->recent, c->recent, job->row->id);
        if (c->request.reference == REFERENCE_FILE) { /* it is the job's now */
            c->body.fields.files[c->request.reference_file].path[0] = '\0';
        }
    } else {
        recent_drop(&c->p.api->recent, c->recent);
    }
    if (c->p.req && (outcome == JOBS_OK || outcome == JOBS_REPLAYED)) {
        if (outcome == JOBS_REPLAYED) {
            http_set_header(c->p.req, "Idempotent-Replayed", "true");
        }
        respond_created(c, job);
    } else if (c->p.req) {
        outcome_error(c->p.api, outcome, &e);
        api_respond_error(c->p.req, &e);
    }
    pending_unref(&c->p);
}

/* ---- storing ---- */

static void store(struct create *c)
{
    struct api *api = c->p.api;
    struct create_request *r = &c->request;
    struct jobs_new *n = &c->new_job;

    if (n->key.key[0] == '\0') {
        c->recent = recent_add(&api->recent, c->client, r->fingerprint, clock_now_ns());
    }
    n->spec = r->spec;
    r->spec = (struct job_spec){0};
    n->client = c->client;
    n->model = r->model;
    n->group = r->group;
    n->user = r->user;
    n->tags = r->tags;
    n->metadata = r->metadata;
    n->fingerprint = r->fingerprint;
    n->priority = r->priority;
    n->cancel_after_ms = r->cancel_after_ms;
    if (r->reference == REFERENCE_FILE) {
        n->reference_path = c->body.fields.files[r->reference_file].path;
    } else if (r->reference == REFERENCE_BYTES) {
        n->reference_data = r->reference_data;
        n->reference_bytes = r->reference_bytes;
    }
    pending_ref(&c->p);
    jobs_create(api->jobs, n, created, c);
}

/* ---- repeated requests of a library (no Idempotency-Key) ---- */

static void repeated(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct create *c = ctx;

    if (c->p.req && outcome == JOBS_OK) {
        respond_created(c, job);
    } else if (c->p.req) {
        store(c); /* it was deleted meanwhile: make another one */
    }
    pending_unref(&c->p);
}

/* Is it the repetition of a request that was taken, whose answer did not arrive? Then it is answered. */
static bool answer_repeated(struct create *c)
{
    const char *header = http_header(c->p.req, "X-Stainless-Retry-Count");
    const struct recent *r;
    struct api_error e;
    int64_t count;

    if (c->new_job.key.key[0] != '\0' || !header_number(header, &count) || count < 1) {
        return false;
    }
    r = recent_find(&c->p.api->recent, c->client, c->request.fingerprint, clock_now_ns());
    if (!r) {
        return false;
    }
    if (r->id[0] == '\0') {
        api_fail(&e, API_IDEMPOTENCY_IN_PROGRESS, "", "The same request is being worked on.");
        e.retry_after_ms = 1000;
        refuse(c, &e);
        return true;
    }
    pending_ref(&c->p);
    jobs_get(c->p.api->jobs, r->id, repeated, c);
    return true;
}

/* ---- from the body to a request ---- */

static bool random_seed(uint64_t *ret, struct api_error *e)
{
    uint64_t value;

    if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value)) {
        log_err("api: no random numbers: %m; a request is refused");
        return api_fail(e, API_INTERNAL_ERROR, "seed", "The server has no random numbers.");
    }
    *ret = value & (uint64_t)JSON_MAX_SAFE;
    return true;
}

static bool check_ready(const struct api *api, struct api_error *e)
{
    if (api->draining) {
        outcome_error(api, JOBS_DRAINS, e);
        return false;
    }
    if (!jobs_facts(api->jobs)) {
        outcome_error(api, JOBS_NOT_READY, e);
        return false;
    }
    return true;
}

static bool parse(struct create *c, struct api_error *e)
{
    const struct api *api = c->p.api;
    const struct create_limits limits = {
        .max_seconds = api->limits.max_seconds,
        .max_frames = api->limits.max_frames,
        .lenient = header_prefer_lenient(http_header(c->p.req, "Prefer")),
        .may_prioritise = true, /* without keys everybody may */
    };
    uint64_t seed = 0;

    return check_ready(api, e) && random_seed(&seed, e) &&
           create_request_parse(&c->request, &c->body.fields, jobs_facts(api->jobs), &limits,
                                http_header(c->p.req, "Cancel-After"), seed, e);
}

static void with_body(struct body *b, const struct api_error *error)
{
    struct create *c = CONTAINER_OF(b, struct create, body);
    struct api_error e;

    if (error) {
        refuse(c, error);
    } else if (!parse(c, &e)) {
        refuse(c, &e);
    } else if (!answer_repeated(c)) {
        store(c);
    }
}

/* ---- the head ---- */

static bool key_in_progress(const struct api *api, const struct store_idempotency *key)
{
    for (const struct link *l = api->creating.next; l != &api->creating; l = l->next) {
        const struct create *c = CONTAINER_OF(l, struct create, link);
        const struct store_idempotency *other = &c->new_job.key;

        if (strcmp(other->key, key->key) == 0 && strcmp(other->client, key->client) == 0 &&
            strcmp(other->route, key->route) == 0) {
            return true;
        }
    }
    return false;
}

static bool read_key(struct create *c, struct api_error *e)
{
    struct store_idempotency *key = &c->new_job.key;
    const char *value = http_header(c->p.req, "Idempotency-Key");

    if (!value) {
        return true;
    }
    if (!header_key_valid(value)) {
        return api_fail(e, API_INVALID_VALUE, "Idempotency-Key",
                        "An Idempotency-Key has 1 to %d printable ASCII characters.",
                        (int)HEADER_KEY_MAX);
    }
    snprintf(key->client, sizeof(key->client), "%s", c->client);
    snprintf(key->route, sizeof(key->route), "%s", c->stream ? "/v1/videos/stream" : "/v1/videos");
    snprintf(key->key, sizeof(key->key), "%s", value);
    if (key_in_progress(c->p.api, key)) {
        api_fail(e, API_IDEMPOTENCY_IN_PROGRESS, "Idempotency-Key",
                 "The first request with this Idempotency-Key is being worked on.");
        e->retry_after_ms = 1000;
        return false;
    }
    link_add(&c->p.api->creating, &c->link);
    return true;
}

static bool read_head(struct create *c, struct api_error *e)
{
    const struct http_request *req = c->p.req;

    if (!check_ready(c->p.api, e)) {
        return false;
    }
    if (!header_client(http_header(req, "Authorization"), http_header(req, "X-API-Key"),
                       c->client)) {
        return api_fail(e, API_INTERNAL_ERROR, "", "The server is out of memory.");
    }
    return read_key(c, e);
}

static void start(struct api *api, struct http_request *req, bool stream)
{
    struct create *c = calloc(1, sizeof(*c));
    struct api_error e;

    if (!c) {
        api_refuse_no_memory(req);
        return;
    }
    c->stream = stream;
    api->n_readers += stream ? 1 : 0;
    pending_init(&c->p, api, req, create_over, create_free);
    if (read_head(c, &e)) {
        body_read(&c->body, api, req, with_body);
    } else {
        refuse(c, &e);
    }
}

void videos_create(struct api *api, struct http_request *req, const char *id)
{
    (void)id;
    start(api, req, false);
}

void videos_create_stream(struct api *api, struct http_request *req, const char *id)
{
    (void)id;
    if (api_reader_allowed(api, req)) {
        start(api, req, true);
    }
}
