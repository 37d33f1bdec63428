/*
 * One request: framing that is refused, the way to its answer, waiting.
 *
 * libmicrohttpd calls http_on_access() once with the head, then for each piece of the body, then once
 * at the end, and again after every resume as long as no response was queued. A response queued at
 * the first call closes the connection, so that is done only where the body is not read.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "api/http_internal.h"

static struct http_conn *find_conn(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

void *http_on_request_line(void *ctx, const char *target, struct MHD_Connection *mhd)
{
    struct http_server *server = ctx;
    struct http_conn *conn = find_conn(mhd);
    const char *text = target ? target : "";
    const size_t len = strcspn(text, "?");
    struct http_request *req = conn ? calloc(1, sizeof(*req) + len + 1) : NULL;

    if (!req) {
        return NULL;
    }
    memcpy(req->path, text, len); /* now, because libmicrohttpd decodes it in place */
    for (const char *p = text; *p != '\0'; p++) {
        req->bad_target |= (unsigned char)*p <= ' ' || *p == 0x7f;
    }
    req->long_target = strlen(text) > HTTP_TARGET_MAX;
    req->conn = conn;
    req->content_length = -1;
    str_init(&req->headers, HTTP_HEADERS_MAX);
    conn->req = req;
    if (conn->head_since_ms == 0) {
        conn->head_since_ms = uv_now(server->loop);
    }
    server->stats.requests++;
    return req;
}

/* ---- waiting ---- */

bool http_suspend(struct http_request *req)
{
    struct http_server *server = req->conn->server;

    if (req->conn->peer_gone || server->closing) {
        return false;
    }
    MHD_suspend_connection(req->conn->mhd);
    req->suspended = true;
    server->stats.suspended++;
    return true;
}

void http_resume(struct http_request *req)
{
    struct http_server *server = req->conn->server;

    if (!req->suspended) {
        return;
    }
    req->suspended = false;
    server->stats.suspended--;
    MHD_resume_connection(req->conn->mhd);
    http_run_soon(server);
}

/* ---- the head ---- */

struct head {
    struct http_request *req;
    const char *next; /* where the next field has to begin */
    const char *id;
    const char *transfer;
    const char *length;
    int n_transfers;
    int n_hosts;
    bool odd; /* not a sequence of "name: value CR LF" */
    int n_lengths;
};

static bool is_token(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)name[i];

        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c)) {
            return false;
        }
    }
    return len > 0;
}

static bool is_name(const char *name, size_t len, const char *wanted)
{
    return strlen(wanted) == len && strncasecmp(name, wanted, len) == 0;
}

/*
 * libmicrohttpd takes bare LF for CR LF, joins continuation lines into the name, and lets NUL through.
 * It cuts its strings out of the head as it came, with a NUL for each byte of a line's end. So the
 * fields of a proper head follow each other without a gap; those of any other do not.
 */
static enum MHD_Result scan_field(void *ctx, enum MHD_ValueKind kind, const char *name,
                                  size_t name_len, const char *value, size_t value_len)
{
    struct head *head = ctx;

    (void)kind;
    if (name != head->next || !value || !is_token(name, name_len) ||
        memchr(value, '\r', value_len)) {
        head->odd = true;
        return MHD_NO;
    }
    head->next = value + value_len + 2;
    if (is_name(name, name_len, "Host")) {
        head->n_hosts++;
    } else if (is_name(name, name_len, "Expect")) {
        head->req->expects_continue =
            !head->req->http_1_0 && strcasecmp(value, "100-continue") == 0;
    } else if (is_name(name, name_len, "X-Request-ID")) {
        head->id = value;
    } else if (is_name(name, name_len, "Transfer-Encoding")) {
        head->n_transfers++;
        head->transfer = value;
    } else if (is_name(name, name_len, "Content-Length")) {
        head->n_lengths++;
        head->length = value;
    }
    return MHD_YES;
}

/* NULL, or why such a request is refused: proxies in front might understand it differently. */
static const char *find_fault(const struct head *head)
{
    if (head->odd) {
        return "Malformed request head.";
    }
    if (head->req->bad_target) {
        return "Malformed request target.";
    }
    if (head->n_hosts != 1 && !(head->req->http_1_0 && head->n_hosts == 0)) {
        return "Exactly one Host header is required.";
    }
    if (head->n_lengths > 1) {
        return "Several Content-Length headers.";
    }
    if (head->transfer && head->length) {
        return "Both Content-Length and Transfer-Encoding.";
    }
    if (head->transfer && (head->req->http_1_0 || head->n_transfers > 1)) {
        return "Transfer-Encoding is given twice, or with HTTP/1.0.";
    }
    return NULL;
}

static void set_id(struct http_request *req, const char *wish)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t len = wish ? strspn(wish, allowed) : 0;

    if (len > 0 && len <= HTTP_ID_MAX && wish[len] == '\0') {
        memcpy(req->id, wish, len + 1);
        return;
    }
    memcpy(req->id, "req_", 4);
    http_random_text(req->conn->server, req->id + 4, 20);
}

static enum http_method find_method(const char *method)
{
    static const char *const name[] = {
        [HTTP_GET] = "GET",         [HTTP_HEAD] = "HEAD",   [HTTP_POST] = "POST",
        [HTTP_PUT] = "PUT",         [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE",
        [HTTP_OPTIONS] = "OPTIONS",
    };

    for (int i = 0; i < HTTP_OTHER; i++) {
        if (strcmp(method, name[i]) == 0) {
            return (enum http_method)i;
        }
    }
    return HTTP_OTHER;
}

/* false: it was answered. */
static bool read_head(struct http_request *req, const char *method, const char *version)
{
    struct head head = {.req = req, .next = version + strlen(version) + 2};
    struct MHD_Connection *mhd = req->conn->mhd;
    const size_t head_len =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    const char *fault;

    req->method = find_method(method);
    req->http_1_0 = strcmp(version, "HTTP/1.0") == 0;
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, scan_field, &head);
    head.odd |= head.next + 2 != method + head_len;
    set_id(req, head.id);
    fault = find_fault(&head);
    if (head_len > HTTP_HEAD_MAX) {
        http_respond_error(req, 431, "invalid_request_error", "headers_too_large",
                           "The head of the request is longer than 16 KiB.");
    } else if (fault) {
        http_respond_error(req, 400, "invalid_request_error", "invalid_value", fault);
    } else if (req->long_target) {
        http_respond_error(req, 414, "invalid_request_error", "uri_too_long",
                           "The request target is longer than 4096 bytes.");
    } else if (head.transfer && strcasecmp(head.transfer, "chunked") != 0) {
        http_respond_error(req, 501, "server_error", "unsupported_transfer_encoding",
                           "The only Transfer-Encoding is chunked.");
    }
    if (head.length) {
        req->content_length = strtoll(head.length, NULL, 10); /* libmicrohttpd checked its form */
    }
    req->has_body = head.transfer || req->content_length > 0;
    return !req->answered;
}

/* ---- from the head to the answer ---- */

static enum MHD_Result answer_or_wait(struct http_request *req)
{
    if (req->failed) {
        return MHD_NO;
    }
    if (req->answered) {
        return http_queue(req);
    }
    return http_suspend(req) ? MHD_YES : MHD_NO;
}

static enum MHD_Result answer_early(struct http_request *req)
{
    http_body_over(req);
    req->phase = HTTP_PHASE_EARLY;
    return answer_or_wait(req);
}

/*
 * A body that nobody wants is read all the same and answered behind it: most clients lose an answer
 * that comes while they are sending. Except when the client asks first (Expect), or when it is more
 * than would be read.
 */
static enum MHD_Result begin(struct http_request *req, const char *method, const char *version)
{
    const struct http_server *server = req->conn->server;

    req->conn->head_since_ms = 0;
    req->phase = HTTP_PHASE_BODY;
    req->window_ms = uv_now(server->loop);
    if (!read_head(req, method, version)) {
        http_set_close(req);
        return answer_early(req);
    }
    if (!req->has_body) {
        return MHD_YES; /* the handler is called at the end, which is now: the connection stays */
    }
    server->options.handler(server->options.ctx, req);
    if (req->mode != HTTP_BODY_SWALLOW && req->content_length >= 0 &&
        (uint64_t)req->content_length > req->body_max) {
        http_body_refuse(req);
    }
    if ((req->answered || req->mode == HTTP_BODY_SWALLOW) &&
        (req->expects_continue || (req->content_length >= 0 &&
                                   (uint64_t)req->content_length > server->options.max_swallow))) {
        return answer_early(req);
    }
    return MHD_YES;
}

enum MHD_Result http_on_access(void *ctx, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *len, void **ret_req)
{
    struct http_server *server = ctx;
    struct http_request *req = *ret_req;
    const size_t n = *len;

    (void)mhd;
    (void)url;
    if (!req || server->closing) {
        return MHD_NO;
    }
    if (req->phase == HTTP_PHASE_HEAD) {
        return begin(req, method, version);
    }
    if (n > 0) {
        *len = 0;
        return http_body_take(req, data, n);
    }
    if (req->phase == HTTP_PHASE_BODY) {
        if (!req->has_body) {
            server->options.handler(server->options.ctx, req);
        }
        http_body_over(req);
    }
    return answer_or_wait(req);
}

void http_on_completed(void *ctx, struct MHD_Connection *mhd, void **ret_req,
                       enum MHD_RequestTerminationCode why)
{
    struct http_server *server = ctx;
    struct http_request *req = *ret_req;
    struct http_conn *conn;

    (void)mhd;
    if (!req) {
        return;
    }
    *ret_req = NULL;
    conn = req->conn;
    conn->req = NULL;
    conn->head_since_ms = 0;
    conn->received_known = false;
    conn->idle_since_ms = uv_now(server->loop);
    server->stats.requests--;
    if (req->on_close) {
        req->on_close(req, req->on_close_ctx, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    }
    if (req->response && !req->queued) {
        MHD_destroy_response(req->response);
    }
    str_done(&req->headers);
    free(req->body);
    free(req);
    if (server->draining) {
        shutdown(conn->fd, SHUT_RD);
    }
}

/* ---- what the handler asks ---- */

enum http_method http_method(const struct http_request *req)
{
    return req->method;
}

const char *http_path(const struct http_request *req)
{
    return req->path;
}

const char *http_header(const struct http_request *req, const char *name)
{
    return MHD_lookup_connection_value(req->conn->mhd, MHD_HEADER_KIND, name);
}

struct query {
    const char *wanted; /* or ... */
    const char *found;
    void (*fn)(void *ctx, const char *name, const char *value); /* ... each */
    void *ctx;
};

static enum MHD_Result scan_query(void *ctx, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct query *query = ctx;

    (void)kind;
    if (query->fn) {
        query->fn(query->ctx, name, value ? value : "");
    } else if (strcmp(name, query->wanted) == 0) {
        query->found = value ? value : "";
        return MHD_NO;
    }
    return MHD_YES;
}

const char *http_query(const struct http_request *req, const char *name)
{
    struct query query = {.wanted = name};

    MHD_get_connection_values(req->conn->mhd, MHD_GET_ARGUMENT_KIND, scan_query, &query);
    return query.found;
}

void http_each_query(const struct http_request *req,
                     void (*fn)(void *ctx, const char *name, const char *value), void *ctx)
{
    struct query query = {.fn = fn, .ctx = ctx};

    MHD_get_connection_values(req->conn->mhd, MHD_GET_ARGUMENT_KIND, scan_query, &query);
}

const char *http_request_id(const struct http_request *req)
{
    return req->id;
}

int64_t http_content_length(const struct http_request *req)
{
    return req->content_length;
}

void http_set_user(struct http_request *req, void *user)
{
    req->user = user;
}

void *http_user(const struct http_request *req)
{
    return req->user;
}

void http_on_close(struct http_request *req,
                   void (*fn)(struct http_request *req, void *ctx, bool delivered), void *ctx)
{
    req->on_close = fn;
    req->on_close_ctx = ctx;
}
