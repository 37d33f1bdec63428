/*
 * Bodies: kept in memory, given to a sink, or swallowed.
 */
#include <stdlib.h>
#include <string.h>

#include "api/http_internal.h"

void http_read_body(struct http_request *req, size_t max,
                    void (*done)(struct http_request *req, const char *data, size_t len),
                    void (*too_large)(struct http_request *req))
{
    req->mode = HTTP_BODY_READ;
    req->body_max = max;
    req->read_done = done;
    req->too_large = too_large;
}

void http_stream_body(struct http_request *req, size_t max,
                      bool (*sink)(struct http_request *req, const void *data, size_t len),
                      void (*done)(struct http_request *req, bool complete))
{
    req->mode = HTTP_BODY_STREAM;
    req->body_max = max;
    req->sink = sink;
    req->stream_done = done;
}

static void free_body(struct http_request *req)
{
    free(req->body);
    req->body = NULL;
}

void http_body_refuse(struct http_request *req)
{
    const bool tell = req->mode == HTTP_BODY_READ;

    req->mode = HTTP_BODY_SWALLOW;
    req->body_refused = true;
    free_body(req);
    if (tell && !req->answered) {
        req->too_large(req);
    }
}

/* Room for more bytes and the NUL. */
static bool reserve_body(struct http_request *req, size_t more)
{
    const size_t need = req->body_len + more + 1;
    size_t capacity = req->body_capacity;
    char *body;

    if (need <= capacity) {
        return true;
    }
    if (req->content_length > 0 && capacity == 0) {
        capacity = (size_t)req->content_length + 1; /* within max: the head was looked at before */
    } else {
        capacity = capacity * 2 > need ? capacity * 2 : need;
    }
    body = realloc(req->body, capacity);
    if (!body) {
        return false;
    }
    req->body = body;
    req->body_capacity = capacity;
    return true;
}

static void out_of_memory(struct http_request *req)
{
    req->mode = HTTP_BODY_SWALLOW;
    free_body(req);
    if (!req->answered) {
        http_respond_error(req, 500, "server_error", "internal_error", "Out of memory.");
    }
}

static void keep_body(struct http_request *req, const char *data, size_t len)
{
    if (!reserve_body(req, len)) {
        out_of_memory(req);
        return;
    }
    memcpy(req->body + req->body_len, data, len);
    req->body_len += len;
}

enum MHD_Result http_body_take(struct http_request *req, const char *data, size_t len)
{
    req->window_bytes += len;
    if (req->mode != HTTP_BODY_SWALLOW && len > req->body_max - req->body_len) {
        http_body_refuse(req);
    }
    if (req->mode == HTTP_BODY_READ && !req->answered) {
        keep_body(req, data, len);
    } else if (req->mode == HTTP_BODY_STREAM && !req->answered) {
        req->body_len += len;
        if (!req->sink(req, data, len)) {
            http_body_refuse(req);
        }
    } else {
        req->swallowed += len;
    }
    return req->swallowed > req->conn->server->options.max_swallow ? MHD_NO : MHD_YES;
}

void http_body_over(struct http_request *req)
{
    if (req->phase == HTTP_PHASE_END) {
        return;
    }
    req->phase = HTTP_PHASE_END;
    if (req->mode == HTTP_BODY_READ && !req->answered) {
        if (reserve_body(req, 0)) {
            req->body[req->body_len] = '\0';
            req->read_done(req, req->body, req->body_len);
        } else {
            out_of_memory(req);
        }
    } else if (req->stream_done) {
        req->stream_done(req, !req->body_refused);
    }
    free_body(req);
}
