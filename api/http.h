/*
 * http.h - an HTTP/1.1 server on a libuv loop: libmicrohttpd, with what it does not do by itself.
 *
 * libmicrohttpd (0.9.75) is driven by its epoll descriptor and timeouts inside the loop. Around it:
 * own accepting, waking after a resume, noticing peers that are gone while suspended, swallowing a
 * body that is too large so that its 413 arrives, requests that smuggling is made of refused, and an
 * orderly end. Each remedy stands in http.c with its reason.
 *
 * A request's life, all on the loop thread:
 *
 *   handler(ctx, req)           the head is there. It answers, or asks for the body, or keeps req for
 *                               later (an answer that needs storage or a worker).
 *   body sink, then body_done   if it asked
 *   http_respond_*              once, from within any of these or at any later time
 *   on_close                    the request is over: delivered, aborted, or the peer is gone
 *
 * req is valid until on_close was called (http_on_close). Whoever keeps it for later must forget it
 * there. After on_close no function here may be called with it.
 *
 * Every answer carries x-request-id and X-Content-Type-Options: nosniff. HEAD is answered as GET without
 * the body (to a stream's HEAD the connection is closed, its length being unknown). What is answered
 * without the handler: ambiguous framing and malformed heads (400, 501), requests that come too
 * slowly (408); by libmicrohttpd, as HTML: a head over 16 KiB (414, 431) and other versions (505).
 *
 * Without memory for an answer the connection is closed. The process must ignore SIGPIPE.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"

struct http_server;
struct http_request;

typedef void (*http_handler_fn)(void *ctx, struct http_request *req);

struct http_options {
    http_handler_fn handler;
    void *ctx;
    int max_connections;        /* further ones wait in the backlog */
    int max_connections_per_ip; /* further ones are closed at once; 0: no limit; unix sockets are exempt */
    int idle_timeout_s;         /* keep-alive; 65: longer than the clients' own */
    int head_timeout_s;         /* a request's first byte to the end of its head: 10; else 408 */
    int body_window_s;          /* in every window of so many seconds a body must come at ... */
    int body_min_rate;          /* ... at least so many bytes/s on average; else 408 */
    int send_buffer;            /* SO_SNDBUF: bounds what a stalled reader pins in the kernel */
    int write_timeout_s;        /* who takes nothing of an answer for so long is cut; 0: never */
    size_t max_swallow;         /* of a refused body so much is read, then it is closed */
};

/* Sensible values for all but handler and ctx. */
void http_options_init(struct http_options *options);

MUST_CHECK int http_server_open(struct http_server **ret, uv_loop_t *loop,
                                const struct http_options *options, struct err *err);

/* Accepts on a bound and listening stream socket from now on; several may be given. Owns fd, also on
 * failure. */
MUST_CHECK int http_server_listen(struct http_server *server, int fd, struct err *err);

/* No new connections; idle ones are closed; answers from now on carry Connection: close. */
void http_server_drain(struct http_server *server);

/* Ends whatever is left (streams are cut) and closes; done(ctx) when nothing refers to the loop any more
 * and server is freed. Not from inside a handler. */
void http_server_close(struct http_server *server, void (*done)(void *ctx), void *ctx);

struct http_stats {
    int connections;
    int requests;  /* open now */
    int suspended; /* of these, waiting for something */
};

void http_server_stats(const struct http_server *server, struct http_stats *ret);

/* ---- the request ---- */

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_OTHER,
};

enum http_method http_method(const struct http_request *req);

/* The path as sent, without the query; still percent-encoded. */
const char *http_path(const struct http_request *req);

/* A header, case-insensitive; NULL if absent. Of several, the first. */
const char *http_header(const struct http_request *req, const char *name);

/* A query argument, decoded; NULL if absent, "" if without value. Of several, the first. */
const char *http_query(const struct http_request *req, const char *name);

/* Every query argument in order, also repeated ones; value is never NULL. */
void http_each_query(const struct http_request *req,
                     void (*fn)(void *ctx, const char *name, const char *value), void *ctx);

/* "req_..." , or the client's X-Request-ID if it has the allowed form [A-Za-z0-9._-]{1,64}. */
const char *http_request_id(const struct http_request *req);

/* Request bodies' announced length, or -1 (chunked, or none). */
int64_t http_content_length(const struct http_request *req);

/* A place for whoever answers. */
void http_set_user(struct http_request *req, void *user);
void *http_user(const struct http_request *req);

/* Called once when the request is over: delivered (the whole answer was given to the kernel) or not. */
void http_on_close(struct http_request *req,
                   void (*fn)(struct http_request *req, void *ctx, bool delivered), void *ctx);

/* ---- the body: from the handler only, and not after an answer ---- */

/* The whole body in memory, NUL-terminated; data is borrowed during done. Longer than max: the rest is
 * swallowed and too_large(req) is called instead, which answers. */
void http_read_body(struct http_request *req, size_t max,
                    void (*done)(struct http_request *req, const char *data, size_t len),
                    void (*too_large)(struct http_request *req));

/* Piece by piece. After sink returned false, or over max, the rest is swallowed; done is called at the
 * end in any case, complete saying whether everything was within max. */
void http_stream_body(struct http_request *req, size_t max,
                      bool (*sink)(struct http_request *req, const void *data, size_t len),
                      void (*done)(struct http_request *req, bool complete));

/* ---- the answer ---- */

/* Before responding; values are copied; name and value must be free of CR and LF (else the header is
 * left out and logged). */
void http_set_header(struct http_request *req, const char *name, const char *value);
void http_set_headerf(struct http_request *req, const char *name, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* The connection is closed behind the answer. */
void http_set_close(struct http_request *req);

/* A body that is copied; content_type may be NULL (no body: 204, 304). Answering twice is logged, the
 * second is dropped. */
void http_respond(struct http_request *req, int status, const char *content_type, const void *data,
                  size_t len);

/* A piece of a file; owns fd. */
void http_respond_file(struct http_request *req, int status, const char *content_type, int fd,
                       int64_t offset, int64_t len);

enum {
    HTTP_STREAM_WAIT = 0,   /* nothing yet: read is called again after http_wake() */
    HTTP_STREAM_END = -1,   /* all was sent */
    HTTP_STREAM_ABORT = -2, /* the connection is closed without the final chunk, so that it shows */
};

/* Bytes written to buf (at most max), or one of the above. May be called at any time on the loop. */
typedef ssize_t (*http_stream_fn)(void *ctx, char *buf, size_t max);

/* Chunked, as long as read gives; ctx must live until on_close. Pieces go out at once (TCP_NODELAY). */
void http_respond_stream(struct http_request *req, int status, const char *content_type,
                         http_stream_fn read, void *ctx);

/* There is more to read, or the end has come. Cheap when nobody waits. Any number of times. */
void http_wake(struct http_request *req);

#endif
