/*
 * Time limits: heads and bodies that come too slowly, connections without a request, readers that do
 * not read.
 *
 * libmicrohttpd's own timeout closes without an answer, counts a trickle of bytes as life, and would
 * look at the clock for every request. So it is off, and a coarse tick looks at every connection.
 */
#include <assert.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "api/http_internal.h"
#include "base/log.h"

static bool over(uint64_t now_ms, uint64_t since_ms, int limit_s)
{
    return now_ms - since_ms >= (uint64_t)limit_s * 1000;
}

/* libmicrohttpd sees that the connection ended, and closes it. */
static void end_conn(struct http_conn *conn)
{
    shutdown(conn->fd, SHUT_RDWR);
    http_look_again(conn);
}

/* An answer in the midst of a request: libmicrohttpd takes none there, so it goes out past it. */
static void send_408(struct http_conn *conn)
{
    char id[] = "req_aaaaaaaaaaaaaaaaaaaa";
    const bool has_id = conn->req && conn->req->id[0] != '\0';
    char body[256];
    char text[768];
    const size_t len = http_error_body(body, sizeof(body), "invalid_request_error",
                                       "request_timeout", "The request was not received in time.");
    int n;

    http_random_text(conn->server, id + 4, sizeof(id) - 5);
    n = snprintf(text, sizeof(text),
                 "HTTP/1.1 408 Request Timeout\r\n"
                 "Connection: close\r\n"
                 "Cache-Control: no-store\r\n"
                 "Content-Type: application/json\r\n"
                 "Content-Length: %zu\r\n"
                 "X-Content-Type-Options: nosniff\r\n"
                 "x-request-id: %s\r\n"
                 "\r\n%s",
                 len, has_id ? conn->req->id : id, body);
    CHECK_BUG(n > 0 && (size_t)n < sizeof(text));
    if (send(conn->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        log_debug("http: 408 not sent: %m");
    }
    end_conn(conn);
}

/* The kernel's struct tcp_info goes on where libc's ends; linux/tcp.h does not go with libuv's headers. */
struct tcp_counts {
    struct tcp_info info;
    uint64_t pacing_rate;
    uint64_t max_pacing_rate;
    uint64_t bytes_acked;
    uint64_t bytes_received;
};

static_assert(sizeof(struct tcp_info) == 104, "tcp_counts: libc knows more than it did");

/* false where the kernel does not count: unix sockets, whose peers are local. */
static bool get_counts(const struct http_conn *conn, struct tcp_counts *ret)
{
    socklen_t len = sizeof(*ret);

    return conn->is_tcp && getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, ret, &len) == 0 &&
           len == sizeof(*ret);
}

/*
 * Between two requests. libmicrohttpd says nothing before the request line is complete, so the
 * kernel is asked whether a byte came. Bytes that came together with the request before, or on a
 * unix socket, do not count; then the idle timeout is what ends it.
 */
static void check_idle(struct http_conn *conn, uint64_t now_ms)
{
    const struct http_options *options = &conn->server->options;
    struct tcp_counts counts;

    if (conn->head_since_ms == 0 && get_counts(conn, &counts)) {
        if (!conn->received_known) {
            conn->received = counts.bytes_received;
            conn->received_known = true;
        } else if (counts.bytes_received != conn->received) {
            conn->head_since_ms = now_ms;
        }
    }
    if (conn->head_since_ms != 0) {
        if (over(now_ms, conn->head_since_ms, options->head_timeout_s)) {
            send_408(conn);
        }
    } else if (over(now_ms, conn->idle_since_ms, options->idle_timeout_s)) {
        end_conn(conn);
    }
}

/* Window after window, so that a fast beginning does not pay for a stall. */
static void check_body(struct http_request *req, uint64_t now_ms)
{
    const struct http_options *options = &req->conn->server->options;
    const uint64_t elapsed_ms = now_ms - req->window_ms;

    if (!over(now_ms, req->window_ms, options->body_window_s)) {
        return;
    }
    if (req->window_bytes * 1000 < (uint64_t)options->body_min_rate * elapsed_ms) {
        send_408(req->conn);
        return;
    }
    req->window_ms = now_ms;
    req->window_bytes = 0;
}

/* Changes whenever the peer takes something. */
static uint64_t get_sent(const struct http_conn *conn)
{
    struct tcp_counts counts;
    int pending = 0;

    if (get_counts(conn, &counts)) {
        return counts.bytes_acked;
    }
    return ioctl(conn->fd, SIOCOUTQ, &pending) ? 0 : (uint64_t)pending;
}

/* There is something to send and the peer does not take it. */
static void check_write(struct http_request *req, uint64_t now_ms)
{
    const struct http_options *options = &req->conn->server->options;
    const struct linger discard = {.l_onoff = 1, .l_linger = 0};
    const uint64_t sent = get_sent(req->conn);

    if (req->sent_ms == 0 || sent != req->sent) {
        req->sent = sent;
        req->sent_ms = now_ms;
    } else if (options->write_timeout_s > 0 &&
               over(now_ms, req->sent_ms, options->write_timeout_s)) {
        log_debug("http: request=%s its reader does not read, cut", req->id);
        /* Else the kernel would go on keeping what nobody takes. */
        setsockopt(req->conn->fd, SOL_SOCKET, SO_LINGER, &discard, sizeof(discard));
        end_conn(req->conn);
    }
}

void http_check_timeouts(struct http_server *server)
{
    const uint64_t now_ms = uv_now(server->loop);

    for (struct http_conn *conn = server->conns; conn; conn = conn->next) {
        struct http_request *req = conn->req;

        if (!req || req->phase == HTTP_PHASE_HEAD) {
            check_idle(conn, now_ms);
        } else if (req->suspended) {
            req->sent_ms = 0; /* the one who answers is slow, not the peer */
        } else if (req->queued) {
            check_write(req, now_ms);
        } else if (req->phase == HTTP_PHASE_BODY) {
            check_body(req, now_ms);
        }
    }
}
