/*
 * http_internal.h - what the parts of the HTTP server share.
 *
 *   http.c          the server on its loop: running libmicrohttpd, connections, the end
 *   http_accept.c   listening sockets
 *   http_request.c  one request from its head to its end: framing, suspending
 *   http_body.c     its body
 *   http_respond.c  headers and answers
 *   http_timeout.c  whatever takes too long
 *
 * Loop thread. Nothing but http_run() calls MHD_run(), and that only from libuv's callbacks, so
 * libmicrohttpd is never entered again from inside its own callbacks.
 */
#ifndef API_HTTP_INTERNAL_H
#define API_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "api/http.h"
#include "base/str.h"

enum {
    HTTP_ID_MAX = 64,
    HTTP_HEAD_MAX = 16384,
    HTTP_TARGET_MAX = 4096, /* path and query */
    HTTP_RANDOM_BYTES = 4000,
    HTTP_HEADERS_MAX = 8192, /* what one answer may set: it must fit the connection's memory */
};

struct http_listener {
    uv_poll_t poll;
    struct http_server *server;
    struct http_listener *next;
    int fd;
};

struct http_server {
    struct http_options options;
    uv_loop_t *loop;
    struct MHD_Daemon *mhd;
    uv_poll_t mhd_poll;
    uv_poll_t hangup_poll;
    uv_idle_t again; /* active: run once more without waiting */
    uv_timer_t tick;
    int hangup_fd; /* epoll of our own: see http_conn.peer_gone */
    int n_handles; /* libuv's, still open */
    struct http_listener *listeners;
    struct http_conn *conns;
    struct http_stats stats;
    bool run_again;      /* asked for since the last run began */
    bool accept_stopped; /* at the limit, or ... */
    bool no_resources;   /* ... no descriptor or memory for another one; tried again by the tick */
    bool draining;
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
    size_t random_used;
    unsigned char random[HTTP_RANDOM_BYTES];
};

struct http_conn {
    struct http_server *server;
    struct http_conn *prev;
    struct http_conn *next;
    struct MHD_Connection *mhd;
    struct http_request *req; /* NULL between requests */
    int fd;                   /* borrowed from mhd */
    bool is_tcp;
    bool peer_gone; /* closed or half closed: whoever waits is not waited for */
    /* http_timeout.c */
    bool received_known;
    uint64_t received;      /* bytes from the peer when its last request was over */
    uint64_t idle_since_ms; /* accepted, or the last request was over */
    uint64_t head_since_ms; /* 0: no byte of the next head was seen */
};

enum http_phase {
    HTTP_PHASE_HEAD,  /* the handler has not seen it */
    HTTP_PHASE_EARLY, /* answered instead of its body being read */
    HTTP_PHASE_BODY,
    HTTP_PHASE_END, /* all of it was read */
};

enum http_body_mode {
    HTTP_BODY_SWALLOW,
    HTTP_BODY_READ,
    HTTP_BODY_STREAM,
};

struct http_request {
    struct http_conn *conn;
    void *user;
    void (*on_close)(struct http_request *req, void *ctx, bool delivered);
    void *on_close_ctx;
    enum http_phase phase;
    enum http_method method;
    bool http_1_0;
    bool bad_target, long_target;
    bool has_body;
    bool expects_continue;
    int64_t content_length; /* -1: none */
    /* the body */
    enum http_body_mode mode; /* becomes HTTP_BODY_SWALLOW when the rest is not wanted */
    bool body_refused;        /* by the sink, or over max */
    size_t body_max;
    size_t body_len;
    size_t body_capacity;
    size_t swallowed;
    char *body; /* owned; of HTTP_BODY_READ */
    void (*read_done)(struct http_request *req, const char *data, size_t len);
    void (*too_large)(struct http_request *req);
    bool (*sink)(struct http_request *req, const void *data, size_t len);
    void (*stream_done)(struct http_request *req, bool complete);
    /* the answer */
    struct str headers; /* name NUL value NUL ... */
    bool close;
    bool failed;   /* it cannot be answered: the connection is closed */
    bool answered; /* by whoever handles it */
    bool queued;   /* handed to libmicrohttpd */
    unsigned status;
    struct MHD_Response *response; /* owned until queued */
    http_stream_fn read;
    void *read_ctx;
    bool woken; /* since read was last called */
    bool suspended;
    /* http_timeout.c */
    uint64_t window_ms;
    uint64_t window_bytes;
    uint64_t sent;
    uint64_t sent_ms; /* 0: not looked yet */
    char id[HTTP_ID_MAX + 1];
    char path[];
};

/* ---- http.c ---- */

/* Runs libmicrohttpd; from libuv's callbacks only. */
void http_run(struct http_server *server);

/* libmicrohttpd has something to do: soon, and once for any number of calls. */
void http_run_soon(struct http_server *server);

/* The next characters of a request id: n of [a-z2-7] and a NUL. */
void http_random_text(struct http_server *server, char *ret, size_t n);

/* libmicrohttpd looks at the connection in its next run, even if nothing happens on it. */
void http_look_again(struct http_conn *conn);

/* The tick runs while there are connections, or something is to be tried again. */
void http_tick_start(struct http_server *server);

/* One of the n_handles is closed; the last of them frees the server. */
void http_handle_gone(struct http_server *server);

/* ---- http_accept.c ---- */

void http_listeners_poll(struct http_server *server, bool on);
void http_listeners_close(struct http_server *server);

/* ---- http_request.c ---- */

/* libmicrohttpd's callbacks. */
void *http_on_request_line(void *ctx, const char *target, struct MHD_Connection *mhd);
enum MHD_Result http_on_access(void *ctx, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *len, void **ret_req);
void http_on_completed(void *ctx, struct MHD_Connection *mhd, void **ret_req,
                       enum MHD_RequestTerminationCode why);

/* false: it shall not wait, because the peer or the server is going. */
bool http_suspend(struct http_request *req);
void http_resume(struct http_request *req);

/* ---- http_body.c ---- */

/* The rest is not wanted. */
void http_body_refuse(struct http_request *req);
/* The next piece. MHD_NO: more than is swallowed. */
enum MHD_Result http_body_take(struct http_request *req, const char *data, size_t len);
/* All was read, or nothing more will be: tells whoever asked for it, once. */
void http_body_over(struct http_request *req);

/* ---- http_respond.c ---- */

/* An error of the server's own in the API's form; message is plain text without quotes. */
void http_respond_error(struct http_request *req, int status, const char *type, const char *code,
                        const char *message);

/* Writes that error's body; returns its length. */
size_t http_error_body(char *ret, size_t max, const char *type, const char *code,
                       const char *message);

/* Gives the answer to libmicrohttpd. */
enum MHD_Result http_queue(struct http_request *req);

/* ---- http_timeout.c ---- */

enum {
    HTTP_TICK_MS = 500
};

/* Closes what took too long. */
void http_check_timeouts(struct http_server *server);

#endif
