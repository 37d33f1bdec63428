/*
 * api.h - the HTTP contract: routes to resources. One file for each resource: videos, content, events, queue,
 * models, health.
 *
 * Loop thread.
 */
#ifndef API_API_H
#define API_API_H

#include "api/http.h"
#include "jobs/jobs.h"

/* May be changed at any time (api_configure). */
struct api_limits {
    size_t json_body;      /* 24 MiB */
    size_t multipart_body; /* 64 MiB */
    int64_t upload;        /* 20 MiB: one picture */
    double max_seconds;
    int64_t max_frames;
    int max_readers;         /* SSE and stream readers together; more get 429 rate_limit_exceeded */
    char allowed_hosts[512]; /* besides this machine's names: see guard.h */
};

struct api_options {
    struct jobs *jobs; /* borrowed */
    struct api_limits limits;
    int64_t (*now_ms)(void); /* wall clock; NULL: the real one */
};

struct api;

MUST_CHECK int api_open(struct api **ret, const struct api_options *options, struct err *err);
/* All requests must be over (http_server_close was done). Accepts NULL. */
void api_close(struct api *api);
void api_configure(struct api *api, const struct api_limits *limits);

/* The http_handler_fn; ctx is the api. */
void api_handle(void *ctx, struct http_request *req);

/* A few times a second: keep-alive comments and boxes, ends of long polls. */
void api_tick(struct api *api);

/* New events were published: wakes their readers. For jobs_options.events_published. */
void api_events_published(void *api);

/* New POSTs get 503 draining; /readyz says so. Event streams stay open (a 503 or an end would be taken for
 * final). */
void api_drain(struct api *api);

#endif
