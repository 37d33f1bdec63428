/*
 * Answers: made when the handler gives them, queued when libmicrohttpd asks for them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/http_internal.h"
#include "base/log.h"

enum {
    READ_BLOCK = 16384, /* of a stream to an HTTP/1.0 client; chunks are made in place */
    HEADER_VALUE_MAX = 2048,
};

/* ---- headers ---- */

void http_set_header(struct http_request *req, const char *name, const char *value)
{
    if (name[0] == '\0' || strpbrk(name, "\r\n: \t") || strpbrk(value, "\r\n\t")) {
        log_warn("http: header '%.40s' with a forbidden character is left out", name);
        return;
    }
    if (!str_append(&req->headers, name, strlen(name) + 1) ||
        !str_append(&req->headers, value, strlen(value) + 1)) {
        log_err("http: request=%s no room for header %s, connection closed", req->id, name);
        req->failed = true;
    }
}

void http_set_headerf(struct http_request *req, const char *name, const char *format, ...)
{
    char value[HEADER_VALUE_MAX];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(value)) {
        log_err("http: request=%s header %s is too long, connection closed", req->id, name);
        req->failed = true;
        return;
    }
    http_set_header(req, name, value);
}

void http_set_close(struct http_request *req)
{
    req->close = true;
}

static bool add_headers(const struct http_request *req, struct MHD_Response *response,
                        const char *content_type)
{
    const char *const end = str_get(&req->headers) + req->headers.len;
    bool ok = MHD_add_response_header(response, "x-request-id", req->id) &&
              MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");

    if (content_type) {
        ok = ok && MHD_add_response_header(response, "Content-Type", content_type);
    }
    for (const char *name = str_get(&req->headers); ok && name < end;) {
        const char *const value = name + strlen(name) + 1;

        ok = MHD_add_response_header(response, name, value);
        name = value + strlen(value) + 1;
    }
    return ok;
}

/* ---- queueing ---- */

enum MHD_Result http_queue(struct http_request *req)
{
    struct MHD_Response *response = req->response;
    enum MHD_Result ret = MHD_YES;

    if (req->queued) {
        return MHD_YES;
    }
    if (req->close || req->conn->server->draining) {
        ret = MHD_add_response_header(response, "Connection", "close");
    }
    req->queued = true;
    if (ret == MHD_YES) {
        ret = MHD_queue_response(req->conn->mhd, req->status, response);
    }
    MHD_destroy_response(response); /* libmicrohttpd has its own reference */
    return ret;
}

/* Takes the response, which is NULL when there was no memory. */
static void answer(struct http_request *req, int status, const char *content_type,
                   struct MHD_Response *response)
{
    req->answered = true;
    req->status = (unsigned)status;
    req->response = response;
    if (!response || !add_headers(req, response, content_type)) {
        log_err("http: request=%s no memory for an answer, connection closed", req->id);
        req->failed = true;
    }
    http_resume(req);
}

/* Answering twice is a bug, but none that has to end the process. */
static bool is_answered(const struct http_request *req)
{
    if (req->answered) {
        log_err("http: request=%s path=%s is answered twice", req->id, req->path);
    }
    return req->answered;
}

void http_respond(struct http_request *req, int status, const char *content_type, const void *data,
                  size_t len)
{
    static char none[] = "";
    struct MHD_Response *response;

    if (is_answered(req)) {
        return;
    }
    if (len == 0) {
        response = MHD_create_response_from_buffer(0, none, MHD_RESPMEM_PERSISTENT);
        if (response &&
            status == MHD_HTTP_NOT_MODIFIED) { /* 0 is not the length of what it stands for */
            MHD_set_response_options(response, MHD_RF_INSANITY_HEADER_CONTENT_LENGTH, MHD_RO_END);
        }
    } else {
        /* It does not change what it copies. */
        response =
            MHD_create_response_from_buffer(len, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY);
    }
    answer(req, status, content_type, response);
}

size_t http_error_body(char *ret, size_t max, const char *type, const char *code,
                       const char *message)
{
    const int n = snprintf(
        ret, max, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
        message, type, code);

    CHECK_BUG(n > 0 && (size_t)n < max);
    return (size_t)n;
}

void http_respond_error(struct http_request *req, int status, const char *type, const char *code,
                        const char *message)
{
    char body[512];
    const size_t len = http_error_body(body, sizeof(body), type, code, message);

    http_set_header(req, "Cache-Control", "no-store");
    http_respond(req, status, "application/json", body, len);
}

void http_respond_file(struct http_request *req, int status, const char *content_type, int fd,
                       int64_t offset, int64_t len)
{
    struct MHD_Response *response = NULL;
    struct stat st;

    if (is_answered(req)) {
        close(fd);
        return;
    }
    if (offset < 0 || len < 0 || fstat(fd, &st) || offset > st.st_size ||
        len > st.st_size - offset) {
        log_err("http: request=%s the file is shorter than what is to be sent", req->id);
        close(fd);
        http_respond_error(req, 500, "server_error", "internal_error", "Internal error.");
        return;
    }
    response = MHD_create_response_from_fd_at_offset64((uint64_t)len, fd, (uint64_t)offset);
    if (!response) {
        close(fd);
    }
    answer(req, status, content_type, response);
}

/* ---- streams ---- */

/*
 * Returning 0 without being suspended would make libmicrohttpd ask again for ever, at 100 % CPU.
 * A peer that has half closed gets what there is, but is not waited for: it looks like one that is
 * gone.
 */
static ssize_t read_stream(void *ctx, uint64_t pos, char *buf, size_t max)
{
    struct http_request *req = ctx;
    ssize_t n = HTTP_STREAM_ABORT;

    (void)pos;
    req->woken = false;
    if (!req->conn->server->closing) {
        n = req->read(req->read_ctx, buf, max);
    }
    if (n > 0) {
        CHECK_BUG((size_t)n <= max);
        return n;
    }
    if (n == HTTP_STREAM_WAIT && http_suspend(req)) {
        if (req->woken) {
            http_resume(req);
        }
        return 0;
    }
    if (n == HTTP_STREAM_END && !req->http_1_0) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    http_look_again(req->conn);
    return n == HTTP_STREAM_END ? MHD_CONTENT_READER_END_OF_STREAM
                                : MHD_CONTENT_READER_END_WITH_ERROR;
}

void http_respond_stream(struct http_request *req, int status, const char *content_type,
                         http_stream_fn read, void *ctx)
{
    struct MHD_Response *response;

    if (is_answered(req)) {
        return;
    }
    req->read = read;
    req->read_ctx = ctx;
    response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, req->http_1_0 ? READ_BLOCK : 1,
                                                 read_stream, req, NULL);
    if (response && req->method == HTTP_HEAD) {
        /* 0.9.75 sends the last chunk to HEAD too, where it would begin the next answer. */
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    }
    answer(req, status, content_type, response);
}

void http_wake(struct http_request *req)
{
    req->woken = true;
    if (req->queued) {
        http_resume(req);
    }
}
