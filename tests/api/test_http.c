#include "api/http.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/http_client.h"
#include "tests/support/test.h"

enum {
    MAX_KEPT = 2048
};

/* What the handler below does is said by the path. */
struct app {
    uv_loop_t loop;
    struct http_server *server;
    int port;
    struct http_request *kept[MAX_KEPT]; /* deferred or streaming */
    int n_kept;
    int n_handled;
    int n_closed;
    int n_delivered;
    int n_reads;  /* of the stream */
    int to_send;  /* bytes that the stream has */
    bool ended;   /* the stream's end has come */
    bool aborted; /* or that */
    bool wake_inside;
    int n_sunk;
    bool is_done;
    char seen[1024];
};

static struct app app;

static void forget(struct http_request *req, void *ctx, bool delivered)
{
    struct app *a = ctx;

    a->n_closed++;
    a->n_delivered += delivered;
    for (int i = 0; i < a->n_kept; i++) {
        if (a->kept[i] == req) {
            a->kept[i] = a->kept[--a->n_kept];
            return;
        }
    }
}

static void keep(struct http_request *req)
{
    EXPECT(app.n_kept < MAX_KEPT);
    app.kept[app.n_kept++] = req;
}

static void respond_text(struct http_request *req, int status, const char *text)
{
    http_respond(req, status, "text/plain", text, strlen(text));
}

static void echo(struct http_request *req, const char *data, size_t len)
{
    EXPECT(data[len] == '\0');
    http_respond(req, 200, "text/plain", data, len);
}

static void too_large(struct http_request *req)
{
    respond_text(req, 413, "too large");
}

static bool sink(struct http_request *req, const void *data, size_t len)
{
    (void)req;
    app.n_sunk += (int)len;
    return !memchr(data, '!', len);
}

static void sunk(struct http_request *req, bool complete)
{
    app.is_done = true;
    respond_text(req, complete ? 200 : 422, complete ? "complete" : "incomplete");
}

static ssize_t read_stream(void *ctx, char *buf, size_t max)
{
    struct app *a = ctx;
    size_t n = (size_t)a->to_send;

    a->n_reads++;
    if (n > 0) {
        n = n < max ? n : max;
        memset(buf, 'x', n);
        a->to_send -= (int)n;
        return (ssize_t)n;
    }
    if (a->wake_inside) {
        a->wake_inside = false;
        a->to_send = 5;
        http_wake(a->kept[0]);
    }
    if (a->aborted) {
        return HTTP_STREAM_ABORT;
    }
    return a->ended ? HTTP_STREAM_END : HTTP_STREAM_WAIT;
}

static ssize_t read_forever(void *ctx, char *buf, size_t max)
{
    ((struct app *)ctx)->n_reads++;
    memset(buf, 'y', max);
    return (ssize_t)max;
}

static void note(void *ctx, const char *name, const char *value)
{
    char *seen = ctx;
    const size_t n = strlen(seen);

    snprintf(seen + n, sizeof(app.seen) - n, "%s=%s;", name, value);
}

static void respond_file(struct http_request *req)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/file", test_dir());
    fd = open(path, O_RDONLY | O_CLOEXEC);
    EXPECT(fd >= 0);
    http_set_header(req, "Content-Range", "bytes 100000-399999/500000");
    http_respond_file(req, 206, "video/mp4", fd, 100000,
                      strcmp(http_path(req), "/file") == 0 ? 300000 : 500000);
}

static bool handle_body(struct http_request *req, const char *path)
{
    if (strcmp(path, "/echo") == 0) {
        http_read_body(req, 1000, echo, too_large);
    } else if (strcmp(path, "/upload") == 0) {
        http_read_body(req, (size_t)8 << 20, echo, too_large);
    } else if (strcmp(path, "/sink") == 0) {
        http_stream_body(req, 3000000, sink, sunk);
    } else if (strcmp(path, "/no") == 0) {
        respond_text(req, 401, "no");
    } else {
        return false;
    }
    return true;
}

static void handle(void *ctx, struct http_request *req)
{
    const char *const path = http_path(req);

    app.n_handled++;
    http_on_close(req, forget, ctx);
    snprintf(app.seen, sizeof(app.seen), "%s|", path);
    http_each_query(req, note, app.seen);
    if (handle_body(req, path)) {
        return;
    }
    if (strcmp(path, "/defer") == 0) {
        keep(req);
    } else if (strcmp(path, "/stream") == 0) {
        keep(req);
        http_respond_stream(req, 200, "text/event-stream", read_stream, ctx);
    } else if (strcmp(path, "/forever") == 0) {
        keep(req);
        http_respond_stream(req, 200, "video/mp4", read_forever, ctx);
    } else if (strncmp(path, "/file", 5) == 0) {
        respond_file(req);
    } else if (strcmp(path, "/304") == 0) {
        http_respond(req, 304, NULL, NULL, 0);
    } else {
        if (strcmp(path, "/injected") == 0) {
            http_set_header(req, "X-Bad", "a\r\nInjected: yes");
        }
        http_set_headerf(req, "X-Number", "%d", 42);
        http_respond(req, 200, "application/json", "{\"ok\":true}", 11);
    }
}

static void start(const struct http_options *wishes)
{
    struct http_options options;
    struct err err = {0};

    signal(SIGPIPE, SIG_IGN);
    memset(&app, 0, sizeof(app));
    EXPECT(uv_loop_init(&app.loop) == 0);
    http_options_init(&options);
    if (wishes) {
        options = *wishes;
    }
    options.handler = handle;
    options.ctx = &app;
    EXPECT_OK(http_server_open(&app.server, &app.loop, &options, &err));
    EXPECT_OK(http_server_listen(app.server, http_client_listen(&app.port), &err));
}

static void closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void stop(void)
{
    bool done = false;

    http_server_close(app.server, closed, &done);
    EXPECT_INT(app.n_kept, 0);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    EXPECT(done);
    EXPECT_INT(uv_loop_close(&app.loop), 0);
    EXPECT_INT(app.n_closed, app.n_handled);
}

/* Turns the loop until *value is wanted. */
static void turn_until(const int *value, int wanted)
{
    for (int i = 0; i < 10000 && *value != wanted; i++) {
        uv_run(&app.loop, UV_RUN_NOWAIT);
        poll(NULL, 0, 1);
    }
    EXPECT_INT(*value, wanted);
}

static void turn(int n)
{
    for (int i = 0; i < n; i++) {
        uv_run(&app.loop, UV_RUN_NOWAIT);
    }
}

static struct http_stats stats(void)
{
    struct http_stats ret;

    http_server_stats(app.server, &ret);
    return ret;
}

static void expect_ask(const char *text, int status, const char *body)
{
    struct http_reply reply;

    if (!http_client_ask(&app.loop, app.port, text, &reply)) {
        test_fail(__FILE__, __LINE__, "no reply to %s", text);
    }
    EXPECT_INT(reply.status, status);
    EXPECT_CONTAINS(reply.body, body);
    EXPECT_CONTAINS(reply.head, "x-request-id: ");
    EXPECT_CONTAINS(reply.head, "X-Content-Type-Options: nosniff\r\n");
    http_reply_done(&reply);
}

static void expect_reply(struct http_client *c, int status, const char *body)
{
    struct http_reply reply;

    EXPECT(http_client_reply(c, &reply, true));
    EXPECT(!reply.cut);
    EXPECT_INT(reply.status, status);
    EXPECT_CONTAINS(reply.body, body);
    http_reply_done(&reply);
}

/* ---- plain requests ---- */

TEST(get_answers_with_the_promised_headers_and_keeps_the_connection)
{
    struct http_client c;
    struct http_reply reply;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    for (int i = 0; i < 3; i++) {
        http_client_say(&c, "GET /injected HTTP/1.1\r\nHost: x\r\n\r\n");
        EXPECT(http_client_reply(&c, &reply, true));
        EXPECT_INT(reply.status, 200);
        EXPECT_STR(reply.body, "{\"ok\":true}");
        EXPECT_CONTAINS(reply.head, "x-request-id: req_");
        EXPECT_CONTAINS(reply.head, "X-Content-Type-Options: nosniff\r\n");
        EXPECT_CONTAINS(reply.head, "Content-Type: application/json\r\n");
        EXPECT_CONTAINS(reply.head, "X-Number: 42\r\n");
        EXPECT_CONTAINS(reply.head, "Date: ");
        EXPECT(!strstr(reply.head, "Injected"));
        http_reply_done(&reply);
    }
    EXPECT_INT(app.n_delivered, 3);
    http_client_close(&c);
    stop();
}

TEST(pipelined_requests_are_answered_in_order)
{
    struct http_client c;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
                        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "2\r\ntw\r\n1\r\no\r\n0\r\n\r\n"
                        "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_reply(&c, 200, "one");
    expect_reply(&c, 200, "two");
    expect_reply(&c, 200, "ok");
    http_client_close(&c);
    stop();
}

TEST(head_has_the_length_and_no_body)
{
    struct http_client c;
    struct http_reply reply;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT(http_client_reply(&c, &reply, false));
    EXPECT_INT(reply.status, 200);
    EXPECT_CONTAINS(reply.head, "Content-Length: 11\r\n");
    http_reply_done(&reply);
    http_client_say(&c, "GET /304 HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT(http_client_reply(&c, &reply, true));
    EXPECT_INT(reply.status, 304);
    http_reply_done(&reply);
    http_client_say(&c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_reply(&c, 200, "ok"); /* nothing was left over */
    http_client_say(&c, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT(http_client_reply(&c, &reply, false));
    EXPECT_INT(reply.status, 200);
    http_reply_done(&reply);
    EXPECT(http_client_wait_closed(&c));
    EXPECT_INT(c.in_len, 0); /* no chunk either */
    EXPECT_INT(app.n_reads, 0);
    http_client_close(&c);
    stop();
}

TEST(request_ids_are_fresh_or_the_clients)
{
    struct http_reply reply;
    char text[256];

    start(NULL);
    EXPECT(http_client_ask(&app.loop, app.port,
                           "GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: My.id_7-\r\n\r\n", &reply));
    EXPECT_CONTAINS(reply.head, "x-request-id: My.id_7-\r\n");
    http_reply_done(&reply);
    snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: %065d\r\n\r\n", 1);
    EXPECT(http_client_ask(&app.loop, app.port, text, &reply));
    EXPECT_CONTAINS(reply.head, "x-request-id: req_");
    http_reply_done(&reply);
    EXPECT(http_client_ask(&app.loop, app.port,
                           "GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: a b\r\n\r\n", &reply));
    EXPECT_CONTAINS(reply.head, "x-request-id: req_");
    EXPECT_INT(strspn(strstr(reply.head, "req_") + 4, "abcdefghijklmnopqrstuvwxyz234567"), 20);
    http_reply_done(&reply);
    stop();
}

TEST(the_path_is_raw_and_the_query_is_decoded)
{
    start(NULL);
    expect_ask("GET /a%2Fb%20c?x=1+2%26&flag&x=3&e= HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok");
    EXPECT_STR(app.seen, "/a%2Fb%20c|x=1 2&;flag=;x=3;e=;");
    expect_ask("GET /v?a=%00b&%00=c&d=%zz&e=%&=&&f=%C3%28 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok");
    EXPECT_CONTAINS(app.seen, "a=;");
    expect_ask("GET /%00%zz% HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok");
    EXPECT_STR(app.seen, "/%00%zz%|");
    stop();
}

TEST(http_1_0_is_closed_behind_the_answer)
{
    struct http_client c;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "GET /hello HTTP/1.0\r\n\r\n");
    expect_reply(&c, 200, "ok");
    EXPECT(http_client_wait_closed(&c));
    http_client_close(&c);
    stop();
}

static void write_file(void)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof(path), "%s/file", test_dir());
    f = fopen(path, "w");
    EXPECT(f != NULL);
    for (int i = 0; i < 50000; i++) {
        fprintf(f, "%09d\n", i);
    }
    EXPECT(fclose(f) == 0);
}

TEST(a_piece_of_a_file_is_sent)
{
    struct http_reply reply;

    write_file();
    start(NULL);
    EXPECT(http_client_ask(&app.loop, app.port, "GET /file HTTP/1.1\r\nHost: x\r\n\r\n", &reply));
    EXPECT_INT(reply.status, 206);
    EXPECT_INT(reply.len, 300000);
    EXPECT(strncmp(reply.body, "000010000\n", 10) == 0);
    EXPECT_STR(reply.body + 300000 - 10, "000039999\n");
    http_reply_done(&reply);
    EXPECT(http_client_ask(&app.loop, app.port, "HEAD /file HTTP/1.1\r\nHost: x\r\n\r\n", &reply));
    EXPECT_CONTAINS(reply.head, "Content-Length: 300000\r\n");
    http_reply_done(&reply);
    expect_ask("GET /file-too-short HTTP/1.1\r\nHost: x\r\n\r\n", 500, "internal_error");
    stop();
}

/* ---- what smuggling is made of ---- */

static void expect_refused(const char *text, int status, const char *code)
{
    struct http_client c;
    const int handled = app.n_handled;

    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, text);
    expect_reply(&c, status, code);
    EXPECT(http_client_wait_closed(&c));
    EXPECT_INT(app.n_handled, handled);
    http_client_close(&c);
}

TEST(ambiguous_framing_is_refused)
{
    start(NULL);
    expect_refused("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   400, "\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"invalid_val");
    expect_refused("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n"
                   "\r\nabcde",
                   400, "invalid_value");
    expect_refused("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                   501, "\"type\":\"server_error\",\"param\":null,\"code\":\"unsupported_transfer");
    expect_refused("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked \r\n\r\n", 501,
                   "unsupported_transfer_encoding");
    expect_refused("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                   "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
                   400, "invalid_value");
    expect_refused("POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
                   "invalid_value");
    expect_refused("GET / HTTP/1.1\r\n\r\n", 400, "Host");
    expect_refused("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "Host");
    expect_refused(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"
        "abc",
        400, "invalid_value");
    stop();
}

TEST(malformed_heads_are_refused)
{
    start(NULL);
    /* Bare LF after the request line, a field, and the head. */
    expect_refused("GET / HTTP/1.1\nHost: x\r\n\r\n", 400, "invalid_value");
    expect_refused("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, "invalid_value");
    expect_refused("GET / HTTP/1.1\r\nA: b\r\nHost: x\n\r\n", 400, "invalid_value");
    expect_refused("GET / HTTP/1.1\r\nHost: x\r\n\n", 400, "invalid_value");
    /* Lines that go on, with what they hide. */
    expect_refused("POST / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, "invalid_value");
    expect_refused("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", 400,
                   "invalid_value");
    expect_refused("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400,
                   "invalid_value");
    expect_refused("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400, "invalid_value");
    expect_refused("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_value");
    expect_refused("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_value");
    expect_ask("GET / HTTP/1.1\r\nA:\r\nHost:x\r\nB:  c\r\n\r\n", 200, "ok");
    stop();
}

TEST(a_nul_in_a_header_is_refused)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n";
    struct http_client c;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_send(&c, text, sizeof(text) - 1);
    expect_reply(&c, 400, "invalid_value");
    http_client_close(&c);
    stop();
}

/* ---- bodies ---- */

TEST(a_body_that_is_too_large_is_swallowed_and_then_refused)
{
    enum {
        LEN = 5 << 20
    };
    char *const data = test_alloc(LEN);
    struct http_client c;
    char head[128];

    memset(data, 'a', LEN);
    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    for (int i = 0; i < 2; i++) { /* announced */
        snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
                 LEN);
        http_client_say(&c, head);
        turn(10); /* an answer now would be lost by most clients */
        http_client_turn(&c, true);
        EXPECT_INT(c.in_len, 0);
        http_client_send(&c, data, LEN);
        expect_reply(&c, 413, "too large");
    }
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    snprintf(head, sizeof(head), "%x\r\n", LEN);
    http_client_say(&c, head);
    http_client_send(&c, data, LEN);
    http_client_say(&c, "\r\n0\r\n\r\n");
    expect_reply(&c, 413, "too large");
    snprintf(head, sizeof(head), "POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", LEN);
    http_client_say(&c, head);
    http_client_send(&c, data, LEN);
    expect_reply(&c, 401, "no"); /* answered before the body */
    snprintf(head, sizeof(head), "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
             LEN);
    http_client_say(&c, head);
    http_client_send(&c, data, LEN);
    expect_reply(&c, 200, "aaaaaaaa");
    http_client_close(&c);
    free(data);
    stop();
}

TEST(no_more_than_max_swallow_is_read)
{
    struct http_options options;
    struct http_client c;
    char *const data = test_alloc(1 << 20);

    memset(data, 'a', 1 << 20);
    http_options_init(&options);
    options.max_swallow = 100000;
    start(&options);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    expect_reply(&c, 413, "too large"); /* at once */
    EXPECT(http_client_wait_closed(&c));
    http_client_close(&c);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "100000\r\n");
    http_client_send(&c, data, 1 << 20);
    EXPECT(http_client_wait_closed(&c));
    EXPECT_INT(app.n_closed, 2);
    EXPECT_INT(app.n_delivered, 1);
    http_client_close(&c);
    free(data);
    stop();
}

TEST(who_expects_100_continue_is_told_at_once)
{
    struct http_client c;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n"
                        "Expect: 100-continue\r\n\r\n");
    expect_reply(&c, 413, "too large");
    EXPECT(http_client_wait_closed(&c));
    http_client_close(&c);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                        "Expect: 100-continue\r\n\r\n");
    EXPECT(http_client_wait_for(&c, "100 Continue\r\n\r\n"));
    http_client_say(&c, "hello");
    EXPECT(http_client_wait_for(&c, "hello"));
    http_client_close(&c);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "POST /defer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                        "Expect: 100-continue\r\n\r\n");
    turn_until(&app.n_kept, 1);
    turn(20);
    respond_text(app.kept[0], 403, "later");
    expect_reply(&c, 403, "later"); /* and no 100 before */
    http_client_close(&c);
    stop();
}

TEST(a_body_is_streamed_to_its_sink)
{
    struct http_client c;
    char *const data = test_alloc(2000000);

    memset(data, 'a', 2000000);
    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
    http_client_send(&c, data, 2000000);
    expect_reply(&c, 200, "complete");
    EXPECT_INT(app.n_sunk, 2000000);
    data[1000] = '!'; /* the sink wants no more */
    app.n_sunk = 0;
    http_client_say(&c, "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
    http_client_send(&c, data, 2000000);
    expect_reply(&c, 422, "incomplete");
    EXPECT(app.n_sunk < 2000000);
    app.n_sunk = 0;
    http_client_say(&c, "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
    http_client_send(&c, data, 2000000);
    http_client_send(&c, data, 2000000);
    expect_reply(&c, 422, "incomplete");
    EXPECT_INT(app.n_sunk, 0); /* over max from the beginning */
    http_client_say(&c, "PUT /sink HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_reply(&c, 200, "complete"); /* none at all */
    http_client_close(&c);
    free(data);
    stop();
}

TEST(an_upload_that_breaks_off_is_reported)
{
    struct http_client c;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\nabc");
    turn_until(&app.n_sunk, 3);
    http_client_close(&c);
    turn_until(&app.n_closed, 1);
    EXPECT_INT(app.n_delivered, 0);
    EXPECT(!app.is_done);
    stop();
}

/* ---- deferred answers and streams ---- */

TEST(a_deferred_answer_goes_out_without_any_other_event)
{
    struct http_client c;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    for (int i = 0; i < 3; i++) {
        http_client_say(&c, i == 1
                                ? "POST /defer HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                                : "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n");
        turn_until(&app.n_kept, 1);
        turn(20);
        EXPECT_INT(stats().suspended, 1);
        EXPECT(uv_backend_timeout(&app.loop) != 0); /* it does not spin */
        respond_text(app.kept[0], 200, "later");
        expect_reply(&c, 200, "later");
        EXPECT_INT(stats().suspended, 0);
    }
    turn_until(&app.n_delivered, 3);
    http_client_close(&c);
    stop();
}

TEST(a_stream_waits_without_spinning_and_is_woken)
{
    struct http_client c;
    int reads;

    start(NULL);
    app.to_send = 10;
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT(http_client_wait_for(&c, "\r\nA\r\nxxxxxxxxxx\r\n"));
    turn(20);
    reads = app.n_reads;
    EXPECT_INT(reads, 2);
    EXPECT_INT(stats().suspended, 1);
    turn(100);
    EXPECT_INT(app.n_reads, reads);
    EXPECT(uv_backend_timeout(&app.loop) != 0);
    app.to_send = 7;
    http_wake(app.kept[0]);
    http_wake(app.kept[0]);
    EXPECT(http_client_wait_for(&c, "\r\n7\r\nxxxxxxx\r\n"));
    app.wake_inside = true; /* woken while it is about to wait */
    http_wake(app.kept[0]);
    EXPECT(http_client_wait_for(&c, "\r\n5\r\nxxxxx\r\n"));
    app.ended = true;
    http_wake(app.kept[0]);
    EXPECT(http_client_wait_for(&c, "\r\n0\r\n\r\n"));
    turn_until(&app.n_delivered, 1);
    http_client_say(&c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"); /* the connection lives on */
    EXPECT(http_client_wait_for(&c, "{\"ok\":true}"));
    http_client_close(&c);
    stop();
}

TEST(an_aborted_stream_has_no_last_chunk)
{
    struct http_client c;
    struct http_reply reply;

    start(NULL);
    app.to_send = 10;
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT(http_client_wait_for(&c, "xxxxxxxxxx\r\n"));
    app.aborted = true;
    http_wake(app.kept[0]);
    EXPECT(http_client_wait_closed(&c));
    EXPECT(http_client_reply(&c, &reply, true));
    EXPECT(reply.cut);
    http_reply_done(&reply);
    EXPECT_INT(app.n_closed, 1);
    EXPECT_INT(app.n_delivered, 0);
    http_client_close(&c);
    stop();
}

TEST(http_1_0_streams_end_with_the_connection)
{
    struct http_client c;
    struct http_reply reply;

    start(NULL);
    app.to_send = 50000;
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "GET /stream HTTP/1.0\r\n\r\n");
    turn_until(&app.to_send, 0);
    turn(10);
    app.ended = true;
    http_wake(app.kept[0]);
    EXPECT(http_client_reply(&c, &reply, true));
    EXPECT(!strcasestr(reply.head, "chunked"));
    EXPECT_INT(reply.len, 50000);
    http_reply_done(&reply);
    turn_until(&app.n_delivered, 1);
    http_client_close(&c);
    stop();
}

TEST(a_peer_that_is_gone_while_suspended_is_noticed)
{
    const struct linger reset = {.l_onoff = 1};

    start(NULL);
    for (int how = 0; how < 8; how++) {
        struct http_client c;

        http_client_open(&c, &app.loop, app.port);
        http_client_say(&c, how % 2 ? "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n"
                                    : "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        if (how < 6) {
            turn_until(&app.n_kept, 1);
            turn(20);
            EXPECT_INT(stats().suspended, 1);
        } /* else it is gone before the request is read */
        if (how < 2) {
            setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        } else if (how < 4) {
            shutdown(c.fd, SHUT_WR);
            turn_until(&app.n_kept, 0);
        }
        http_client_close(&c);
        turn_until(&app.n_closed, how + 1);
        EXPECT_INT(app.n_kept, 0);
        EXPECT_INT(stats().suspended, 0);
    }
    EXPECT_INT(app.n_delivered, 0);
    stop();
}

TEST(the_connection_of_an_ended_stream_is_not_forgotten)
{
    struct http_client older; /* libmicrohttpd looks at the oldest one anyway */

    start(NULL);
    http_client_open(&older, &app.loop, app.port);
    http_client_say(&older, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_reply(&older, 200, "ok");
    for (int how = 0; how < 3; how++) {
        struct http_client c;

        app.aborted = false;
        app.ended = false;
        http_client_open(&c, &app.loop, app.port);
        http_client_say(&c, how == 2 ? "GET /stream HTTP/1.0\r\n\r\n"
                                     : "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        turn_until(&app.n_kept, 1);
        turn(20);
        EXPECT_INT(stats().suspended, 1);
        app.aborted = how == 1;
        app.ended = how == 2;
        if (how > 0) {
            http_wake(app.kept[0]);
            EXPECT(http_client_wait_closed(&c));
        }
        http_client_close(&c);
        turn_until(&app.n_kept, 0);
        turn(20);
        EXPECT_INT(stats().connections, 1);
    }
    http_client_close(&older);
    stop();
}

TEST(who_half_closes_still_gets_a_plain_answer)
{
    struct http_client c;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    expect_reply(&c, 200, "ok");
    http_client_close(&c);
    stop();
}

static void on_timer(uv_timer_t *timer)
{
    (*(int *)timer->data)++;
}

TEST(a_busy_stream_starves_nobody)
{
    struct http_client busy;
    uv_timer_t timer;
    int n = 0;

    start(NULL);
    uv_timer_init(&app.loop, &timer);
    timer.data = &n;
    http_client_open(&busy, &app.loop, app.port);
    http_client_say(&busy, "GET /forever HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&app.n_kept, 1);
    for (int i = 0; i < 20; i++) {
        const int before = app.n_reads;

        http_client_turn(&busy, true);
        busy.in_len = 0;
        EXPECT(app.n_reads - before <
               8); /* one turn of the loop is a few pieces, not all there is */
    }
    expect_ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok");
    uv_timer_start(&timer, on_timer, 1, 0);
    while (n == 0) {
        http_client_turn(&busy, true);
        busy.in_len = 0;
    }
    uv_close((uv_handle_t *)&timer, NULL);
    http_client_close(&busy);
    turn_until(&app.n_kept, 0);
    stop();
}

/* Serves a unix socket too; its path is returned. */
static const char *listen_unix(void)
{
    static struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct err err = {0};

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", test_dir());
    unlink(addr.sun_path);
    EXPECT(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 8) == 0);
    EXPECT_OK(http_server_listen(app.server, fd, &err));
    return addr.sun_path;
}

TEST(a_unix_socket_is_served)
{
    struct http_client c;

    start(NULL);
    http_client_open_unix(&c, &app.loop, listen_unix());
    http_client_say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nunix");
    expect_reply(&c, 200, "unix");
    http_client_close(&c);
    stop();
}

/* The unix socket shows that it is our doing: there the kernel has no time limit of its own. */
TEST(a_stalled_reader_is_cut_and_a_waiting_one_is_not)
{
    struct http_options options;
    struct http_client tcp;
    struct http_client local;
    struct http_client waiting;

    http_options_init(&options);
    options.write_timeout_s = 1;
    start(&options);
    http_client_open(&waiting, &app.loop, app.port);
    http_client_say(&waiting, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&app.n_kept, 1);
    http_client_open(&tcp, &app.loop, app.port);
    http_client_say(&tcp, "GET /forever HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&app.n_kept, 2);
    http_client_open_unix(&local, &app.loop, listen_unix());
    http_client_say(&local, "GET /forever HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&app.n_kept, 3);
    turn_until(&app.n_kept, 1);
    EXPECT_INT(app.n_delivered, 0);
    http_client_close(&tcp);
    http_client_close(&local);
    turn(20);
    EXPECT_INT(app.n_kept, 1);
    app.ended = true;
    http_wake(app.kept[0]);
    EXPECT(http_client_wait_for(&waiting, "0\r\n\r\n"));
    http_client_close(&waiting);
    stop();
}

static int send_buffer_of_accepted(void)
{
    struct sockaddr_in addr = {0};
    socklen_t len;
    int size = 0;

    for (int fd = 0; fd < 1024; fd++) {
        int port;

        len = sizeof(addr);
        if (getsockname(fd, (struct sockaddr *)&addr, &len) || addr.sin_family != AF_INET) {
            continue;
        }
        port = ntohs(addr.sin_port);
        len = sizeof(addr);
        if (port != app.port || getpeername(fd, (struct sockaddr *)&addr, &len)) {
            continue;
        }
        len = sizeof(size);
        EXPECT(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == 0);
    }
    return size;
}

TEST(the_kernels_send_buffer_is_bounded)
{
    struct http_options options;
    struct http_client c;
    struct http_stats now;

    http_options_init(&options);
    options.send_buffer = 50000;
    start(&options);
    http_client_open(&c, &app.loop, app.port);
    do {
        turn(1);
        now = stats();
    } while (now.connections == 0);
    EXPECT_INT(send_buffer_of_accepted(), 100000); /* Linux doubles it */
    http_client_close(&c);
    stop();
}

TEST(a_thousand_streams_are_woken)
{
    enum {
        N = 1000
    };
    struct http_options options;
    struct http_client *const c = test_alloc(sizeof(*c) * N);

    http_options_init(&options);
    options.max_connections_per_ip = 0;
    start(&options);
    for (int i = 0; i < N; i++) {
        http_client_open(&c[i], &app.loop, app.port);
        http_client_say(&c[i], "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        turn(1);
    }
    turn_until(&app.n_kept, N);
    turn(20);
    EXPECT_INT(stats().suspended, N);
    app.ended = true;
    for (int i = 0; i < N; i++) {
        http_wake(app.kept[i]);
    }
    turn_until(&app.n_delivered, N);
    for (int i = 0; i < N; i++) {
        EXPECT(http_client_wait_for(&c[i], "0\r\n\r\n"));
        http_client_close(&c[i]);
    }
    free(c);
    stop();
}

/* ---- limits of time and number ---- */

TEST(slow_heads_and_bodies_get_a_408)
{
    struct http_options options;
    struct http_client line;
    struct http_client head;
    struct http_client body;
    struct http_client next;

    http_options_init(&options);
    options.head_timeout_s = 1;
    options.body_window_s = 1;
    options.body_min_rate = 1000;
    start(&options);
    http_client_open(&line, &app.loop, app.port);
    http_client_say(&line, "GET /hel");
    http_client_open(&head, &app.loop, app.port);
    http_client_say(&head, "GET /hello HTTP/1.1\r\nHost: x\r\nA: ");
    http_client_open(&body, &app.loop, app.port);
    http_client_say(&body, "POST /echo HTTP/1.1\r\nHost: x\r\nX-Request-ID: slow\r\n"
                           "Content-Length: 100\r\n\r\nabc");
    http_client_open(&next, &app.loop, app.port);
    http_client_say(&next, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_reply(&next, 200, "ok");
    EXPECT(http_client_wait_for(&body, "x-request-id: slow\r\n"));
    expect_reply(&body, 408, "\"code\":\"request_timeout\"");
    expect_reply(&head, 408, "request_timeout");
    expect_reply(&line, 408, "request_timeout");
    EXPECT(http_client_wait_closed(&line) && http_client_wait_closed(&head) &&
           http_client_wait_closed(&body));
    http_client_say(&next, "GET"); /* the next one on a connection that was good */
    expect_reply(&next, 408, "request_timeout");
    turn_until(&app.n_closed, 2);
    EXPECT_INT(app.n_delivered, 1);
    http_client_close(&line);
    http_client_close(&head);
    http_client_close(&body);
    http_client_close(&next);
    stop();
}

TEST(idle_connections_are_closed_and_waiting_ones_are_not)
{
    struct http_options options;
    struct http_client fresh;
    struct http_client used;
    struct http_client waiting;

    http_options_init(&options);
    options.idle_timeout_s = 1;
    options.write_timeout_s = 1;
    start(&options);
    http_client_open(&waiting, &app.loop, app.port);
    http_client_say(&waiting, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&app.n_kept, 1);
    http_client_open(&fresh, &app.loop, app.port);
    http_client_open(&used, &app.loop, app.port);
    http_client_say(&used, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_reply(&used, 200, "ok");
    EXPECT(http_client_wait_closed(&fresh));
    EXPECT(http_client_wait_closed(&used));
    EXPECT_INT(used.in_len, 0);
    EXPECT_INT(app.n_kept, 1);
    app.to_send = 1;
    http_wake(app.kept[0]);
    EXPECT(http_client_wait_for(&waiting, "1\r\nx\r\n"));
    http_client_close(&fresh);
    http_client_close(&used);
    http_client_close(&waiting);
    turn_until(&app.n_kept, 0);
    stop();
}

TEST(connections_over_the_limit_wait_and_those_of_one_peer_are_closed)
{
    struct http_options options;
    struct http_client c[4];

    http_options_init(&options);
    options.max_connections = 2;
    start(&options);
    for (int i = 0; i < 3; i++) {
        http_client_open(&c[i], &app.loop, app.port);
        http_client_say(&c[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    expect_reply(&c[0], 200, "ok");
    expect_reply(&c[1], 200, "ok");
    for (int i = 0; i < 50; i++) {
        http_client_turn(&c[2], true);
    }
    EXPECT_INT(c[2].in_len, 0);
    EXPECT_INT(stats().connections, 2);
    http_client_close(&c[0]);
    expect_reply(&c[2], 200, "ok");
    http_client_close(&c[1]);
    http_client_close(&c[2]);
    stop();

    http_options_init(&options);
    options.max_connections_per_ip = 3;
    start(&options);
    for (int i = 0; i < 4; i++) {
        http_client_open(&c[i], &app.loop, app.port);
        turn(5);
    }
    EXPECT(http_client_wait_closed(&c[3]));
    http_client_close(&c[0]);
    turn(20);
    expect_ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok");
    for (int i = 1; i < 4; i++) {
        http_client_close(&c[i]);
    }
    stop();
}

TEST(without_descriptors_clients_wait)
{
    struct http_client c;
    struct rlimit limit;
    struct rlimit low;
    struct pollfd loop = {.events = POLLIN};
    int next;

    start(NULL);
    http_client_open(&c, &app.loop, app.port);
    http_client_say(&c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    next = dup(0);
    EXPECT(next >= 0);
    close(next);
    low = limit;
    low.rlim_cur = (rlim_t)next;
    EXPECT(setrlimit(RLIMIT_NOFILE, &low) == 0);
    turn(5);
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT_INT(stats().connections, 0);
    loop.fd = uv_backend_fd(&app.loop);
    EXPECT(uv_backend_timeout(&app.loop) != 0 && poll(&loop, 1, 0) == 0); /* it does not spin */
    expect_reply(&c, 200, "ok");
    http_client_close(&c);
    stop();
}

/* ---- the end ---- */

TEST(draining_finishes_what_is_there)
{
    struct http_client idle;
    struct http_client deferred;
    struct http_client stream;
    struct http_client late;
    struct http_reply reply;

    start(NULL);
    http_client_open(&idle, &app.loop, app.port);
    http_client_say(&idle, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_reply(&idle, 200, "ok");
    http_client_open(&deferred, &app.loop, app.port);
    http_client_say(&deferred, "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&app.n_kept, 1);
    http_client_open(&stream, &app.loop, app.port);
    http_client_say(&stream, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&app.n_kept, 2);
    http_server_drain(app.server);
    EXPECT(http_client_wait_closed(&idle));
    http_client_open(&late, &app.loop, app.port);
    EXPECT(http_client_wait_closed(&late));
    EXPECT_INT(app.n_kept, 2);
    respond_text(app.kept[0], 200, "later");
    EXPECT(http_client_reply(&deferred, &reply, true));
    EXPECT_CONTAINS(reply.head, "Connection: close\r\n");
    EXPECT_STR(reply.body, "later");
    http_reply_done(&reply);
    EXPECT(http_client_wait_closed(&deferred));
    app.to_send = 3;
    app.ended = true;
    http_wake(app.kept[0]);
    expect_reply(&stream, 200, "xxx");
    EXPECT(http_client_wait_closed(&stream));
    EXPECT_INT(app.n_delivered, 3);
    EXPECT_INT(stats().connections, 0);
    http_client_close(&idle);
    http_client_close(&deferred);
    http_client_close(&stream);
    http_client_close(&late);
    stop();
}

TEST(closing_with_suspended_requests_ends_them)
{
    struct http_client c[5];
    static const char *const text[] = {
        "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
        "GET /forever HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /he",
    };

    start(NULL);
    for (int i = 0; i < 5; i++) {
        http_client_open(&c[i], &app.loop, app.port);
        http_client_say(&c[i], text[i]);
        turn(5);
    }
    turn_until(&app.n_kept, 3);
    turn(20);
    EXPECT_INT(stats().suspended, 2);
    stop();
    EXPECT_INT(app.n_closed, 4);
    EXPECT_INT(app.n_delivered, 0);
    for (int i = 0; i < 5; i++) {
        http_client_close(&c[i]);
    }
}

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    EXPECT(dir != NULL);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

TEST(nothing_is_left_of_many_requests)
{
    struct http_client c;
    struct http_stats now;
    int fds;

    start(NULL);
    expect_ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok");
    turn(20);
    fds = count_fds();
    http_client_open(&c, &app.loop, app.port);
    for (int i = 0; i < 1000; i++) {
        http_client_say(&c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        expect_reply(&c, 200, "ok");
    }
    http_client_close(&c);
    for (int i = 0; i < 200; i++) {
        http_client_open(&c, &app.loop, app.port);
        http_client_say(&c, i % 2 ? "GET /defer HTTP/1.1\r\nHost: x\r\n\r\n"
                                  : "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        turn_until(&app.n_kept, 1);
        http_client_close(&c);
        turn_until(&app.n_kept, 0);
    }
    turn(20);
    now = stats();
    EXPECT_INT(now.connections, 0);
    EXPECT_INT(now.requests, 0);
    EXPECT_INT(now.suspended, 0);
    EXPECT_INT(count_fds(), fds);
    EXPECT_INT(app.n_closed, app.n_handled);
    stop();
}

TEST(without_memory_a_connection_is_lost_and_not_the_server)
{
    static const char *const text[] = {
        "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        "GET /stream HTTP/1.0\r\n\r\n",
    };

    start(NULL);
    app.ended = true;
    for (int i = 0; i < 3; i++) {
        bool failed = true;

        for (long n = 1; failed; n++) {
            struct http_client c;

            http_client_open(&c, &app.loop, app.port);
            alloc_fail_at(n);
            http_client_say(&c, text[i]);
            turn(20);
            failed = alloc_fail_stop();
            EXPECT(n < 100);
            EXPECT(http_client_wait_for(&c, failed ? "" : "200 OK"));
            http_client_close(&c);
            turn(20);
        }
    }
    EXPECT_INT(app.n_kept, 0);
    turn(20);
    EXPECT_INT(stats().connections, 0);
    stop();
}

TEST(opening_fails_cleanly_without_memory)
{
    struct http_options options;
    struct http_server *server = NULL;
    struct err err = {0};
    uv_loop_t loop;
    bool done = false;

    EXPECT(uv_loop_init(&loop) == 0);
    http_options_init(&options);
    EXPECT_INT(http_server_open(&server, &loop, &options, &err), ERR_INVALID);
    options.handler = handle;
    for (long n = 1;; n++) {
        int port = 0;
        const int fd = http_client_listen(&port);
        int rc;

        alloc_fail_at(n);
        rc = http_server_open(&server, &loop, &options, &err);
        if (rc == ERR_OK) {
            rc = http_server_listen(server, fd, &err);
            http_server_close(server, closed, &done);
        } else {
            close(fd);
        }
        uv_run(&loop, UV_RUN_DEFAULT);
        if (!alloc_fail_stop()) {
            EXPECT_INT(rc, ERR_OK);
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT(done);
    EXPECT_INT(uv_loop_close(&loop), 0);
    http_server_close(NULL, NULL, NULL);
}
