/*
 * api_internal.h - what the resources share: the state of the API, small answers, finding jobs.
 *
 *   router.c   which handler; pending.c, wait.c  requests that wait; body.c  bodies as fields
 *   videos.c   one video; list.c, cancel_many.c  many; create.c; content.c  files; stream.c  as it is made
 *   hls.c      the same for players of HLS; events.c  server-sent events; queue.c, models.c, health.c
 *   header.c, range.c, recent.c, hls_playlist.c  pure parts
 *
 * Loop thread.
 */
#ifndef API_API_INTERNAL_H
#define API_API_INTERNAL_H

#include <cjson/cJSON.h>

#include "api/api.h"
#include "api/api_error.h"
#include "api/link.h"
#include "api/recent.h"

struct api {
    struct api_options options;
    struct api_limits limits;
    struct jobs *jobs; /* borrowed */
    bool draining;
    int n_readers;        /* streams and event_readers */
    struct link waits;    /* struct wait */
    struct link streams;  /* struct stream */
    struct link events;   /* struct event_reader */
    struct link creating; /* struct create, those with an Idempotency-Key */
    struct recent_table recent;
};

enum {
    API_KEEP_ALIVE_S = 15,
    API_MAX_WAIT_S = 60,
};

int64_t api_now_ms(const struct api *api);

/* ---- answers ---- */

void api_refuse(struct http_request *req, enum api_code code, const char *param, const char *format,
                ...) PRINTF_LIKE(4, 5);
void api_refuse_unknown_video(struct http_request *req, const char *id);
void api_refuse_no_memory(struct http_request *req);
/* JSON with Cache-Control: no-store. */
void api_respond_json(struct http_request *req, int status, const char *json, size_t len);
/* Likewise; takes tree. NULL, or !ok: out of memory. */
void api_respond_tree(struct http_request *req, int status, cJSON *tree, bool ok);

/* ---- jobs ---- */

/* fn gets the job, borrowed, or the request is answered 404. Now, if the job is in memory. */
void api_with_job(struct api *api, struct http_request *req, const char *id,
                  void (*fn)(struct api *api, struct http_request *req, struct job *job));

/* Poll again after: what openai-poll-after-ms says. */
int api_poll_after_ms(const struct job *job);
/* Retry-After of what is not there before the job is over. */
int api_retry_after_ms(const struct job *job);

/* ---- arguments ---- */

/* ?name=true|false|1|0; absent or empty: false. False, after answering: it is something else. */
bool api_query_flag(struct http_request *req, const char *name, bool *ret);

/* ---- readers: streams and event streams ---- */

/* False, after answering 429: there are too many. */
bool api_reader_allowed(struct api *api, struct http_request *req);

/* ---- the handlers, as the router calls them: id is "" where the pattern has none ---- */

void videos_create(struct api *api, struct http_request *req, const char *id);
void videos_create_stream(struct api *api, struct http_request *req, const char *id);
void videos_list(struct api *api, struct http_request *req, const char *id);
void videos_retrieve(struct api *api, struct http_request *req, const char *id);
void videos_update(struct api *api, struct http_request *req, const char *id);
void videos_delete(struct api *api, struct http_request *req, const char *id);
void videos_cancel(struct api *api, struct http_request *req, const char *id);
void videos_cancel_many(struct api *api, struct http_request *req, const char *id);
void content_get(struct api *api, struct http_request *req, const char *id);
void stream_get(struct api *api, struct http_request *req, const char *id);
void hls_index(struct api *api, struct http_request *req, const char *id);
void hls_master(struct api *api, struct http_request *req, const char *id);
void hls_init(struct api *api, struct http_request *req, const char *id);
void hls_segment(struct api *api, struct http_request *req, const char *id);
void events_of_video(struct api *api, struct http_request *req, const char *id);
void events_of_all(struct api *api, struct http_request *req, const char *id);
void queue_get(struct api *api, struct http_request *req, const char *id);
void queue_pause(struct api *api, struct http_request *req, const char *id);
void queue_resume(struct api *api, struct http_request *req, const char *id);
void models_list(struct api *api, struct http_request *req, const char *id);
void models_retrieve(struct api *api, struct http_request *req, const char *id);
void health_live(struct api *api, struct http_request *req, const char *id);
void health_ready(struct api *api, struct http_request *req, const char *id);
void health_version(struct api *api, struct http_request *req, const char *id);

/* ---- videos.c ---- */

/* The video object with its headers. A deleted one: 404. */
void videos_respond(struct http_request *req, int status, struct job *job);

/* ---- content.c ---- */

/* X-Video-Id and the like, and Content-Disposition with this ending of the file's name. */
void content_headers(struct http_request *req, const struct job *job, const char *ending);

/* ---- stream.c ---- */

/* Answers with the fragmented file as it grows. from: the first block. The request is nobody's (no pending). */
void stream_open(struct api *api, struct http_request *req, struct job *job, int64_t from);
/* Likewise, as the query says (from_segment). */
void stream_of(struct api *api, struct http_request *req, struct job *job);
/* 422: why there is no video. */
void stream_refuse_failed(struct http_request *req, const struct job *job);
void stream_tick(struct api *api, int64_t now_ns);

/* ---- events.c ---- */

void events_tick(struct api *api, int64_t now_ns);
void events_wake(struct api *api);

#endif
