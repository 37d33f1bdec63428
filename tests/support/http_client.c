#include "tests/support/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/test.h"

enum {
    PATIENCE_S = 10,
    PIECE = 65536,
};

static int64_t deadline(void)
{
    return clock_now_ns() + (int64_t)PATIENCE_S * 1000000000;
}

int http_client_listen(int *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    EXPECT(fd >= 0);
    EXPECT(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    EXPECT(listen(fd, 512) == 0);
    EXPECT(getsockname(fd, (struct sockaddr *)&addr, &len) == 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

static void start(struct http_client *c, uv_loop_t *loop, int fd, const struct sockaddr *addr,
                  socklen_t len)
{
    *c = (struct http_client){.loop = loop, .fd = fd, .in = test_alloc(1)};
    c->in[0] = '\0';
    EXPECT(fd >= 0);
    EXPECT(connect(fd, addr, len) == 0 || errno == EINPROGRESS);
}

void http_client_open(struct http_client *c, uv_loop_t *loop, int port)
{
    const struct sockaddr_in addr = {.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                     .sin_port = htons((uint16_t)port)};

    start(c, loop, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
          (const struct sockaddr *)&addr, sizeof(addr));
}

void http_client_open_unix(struct http_client *c, uv_loop_t *loop, const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    EXPECT(strlen(path) < sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path) + 1);
    start(c, loop, socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
          (const struct sockaddr *)&addr, sizeof(addr));
}

void http_client_close(struct http_client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    free(c->in);
    *c = (struct http_client){.fd = -1};
}

void http_client_turn(struct http_client *c, bool want_input)
{
    struct pollfd wait = {.fd = c->fd, .events = POLLIN};
    ssize_t n;

    uv_run(c->loop, UV_RUN_NOWAIT);
    if (!want_input || c->closed) {
        poll(NULL, 0, 1);
        return;
    }
    if (poll(&wait, 1, 1) != 1) {
        return;
    }
    c->in = realloc(c->in, c->in_len + PIECE + 1);
    EXPECT(c->in != NULL);
    n = recv(c->fd, c->in + c->in_len, PIECE, MSG_DONTWAIT);
    if (n > 0) {
        c->in_len += (size_t)n;
    } else if (n == 0 || errno != EAGAIN) {
        c->closed = true;
    }
    c->in[c->in_len] = '\0';
}

void http_client_send(struct http_client *c, const void *data, size_t len)
{
    const int64_t end = deadline();
    size_t done = 0;

    while (done < len && clock_now_ns() < end) {
        const ssize_t n =
            send(c->fd, (const char *)data + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN || errno == EINPROGRESS) {
            uv_run(c->loop, UV_RUN_NOWAIT);
        } else {
            return;
        }
    }
}

void http_client_say(struct http_client *c, const char *text)
{
    http_client_send(c, text, strlen(text));
}

bool http_client_wait_for(struct http_client *c, const char *text)
{
    const int64_t end = deadline();

    while (!memmem(c->in, c->in_len, text, strlen(text))) {
        if (c->closed || clock_now_ns() > end) {
            return false;
        }
        http_client_turn(c, true);
    }
    return true;
}

bool http_client_wait_closed(struct http_client *c)
{
    const int64_t end = deadline();

    while (!c->closed && clock_now_ns() < end) {
        http_client_turn(c, true);
    }
    return c->closed;
}

/* Undoes chunks of a body that begins at `from`; the end in the input, or 0 when it is not all there. */
static size_t read_chunks(const struct http_client *c, size_t from, struct http_reply *ret)
{
    size_t at = from;

    ret->len = 0;
    for (;;) {
        const char *const line = c->in + at;
        const char *const eol = memmem(line, c->in_len - at, "\r\n", 2);
        size_t n;

        if (!eol) {
            return 0;
        }
        n = strtoul(line, NULL, 16);
        at = (size_t)(eol - c->in) + 2;
        if (c->in_len - at < n + 2) {
            return 0;
        }
        memcpy(ret->body + ret->len, c->in + at, n);
        ret->len += n;
        at += n + 2;
        if (n == 0) {
            return at;
        }
    }
}

/* The reply's end in the input, or 0. */
static size_t parse(const struct http_client *c, struct http_reply *ret, bool with_body)
{
    const char *const eoh = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    const char *length;
    size_t head_len;

    if (!eoh) {
        return 0;
    }
    head_len = (size_t)(eoh - c->in) + 4;
    EXPECT(head_len < sizeof(ret->head));
    memcpy(ret->head, c->in, head_len);
    ret->head[head_len] = '\0';
    ret->status = (int)strtol(ret->head + 9, NULL, 10);
    free(ret->body);
    ret->body = test_alloc(c->in_len + 1);
    ret->len = 0;
    if (!with_body || ret->status == 204 || ret->status == 304 || ret->status == 100) {
        return head_len;
    }
    if (strcasestr(ret->head, "transfer-encoding: chunked")) {
        return read_chunks(c, head_len, ret);
    }
    length = strcasestr(ret->head, "content-length: ");
    ret->len = c->in_len - head_len;
    if (length && ret->len >= strtoul(length + 16, NULL, 10)) {
        ret->len = strtoul(length + 16, NULL, 10);
    } else if (length || !c->closed) {
        return 0;
    }
    memcpy(ret->body, c->in + head_len, ret->len);
    return head_len + ret->len;
}

bool http_client_reply(struct http_client *c, struct http_reply *ret, bool with_body)
{
    const int64_t end = deadline();
    size_t used = 0;

    *ret = (struct http_reply){0};
    for (;;) {
        used = parse(c, ret, with_body);
        if (used > 0 || c->closed || clock_now_ns() > end) {
            break;
        }
        http_client_turn(c, true);
    }
    if (ret->status == 0) {
        return false;
    }
    ret->cut = used == 0;
    ret->body[ret->len] = '\0';
    memmove(c->in, c->in + used, c->in_len - used + 1);
    c->in_len -= used;
    return true;
}

void http_reply_done(struct http_reply *r)
{
    free(r->body);
    r->body = NULL;
}

bool http_client_ask(uv_loop_t *loop, int port, const char *text, struct http_reply *ret)
{
    struct http_client c;
    bool ok;

    http_client_open(&c, loop, port);
    http_client_say(&c, text);
    ok = http_client_reply(&c, ret, strncmp(text, "HEAD ", 5) != 0);
    http_client_close(&c);
    return ok;
}
