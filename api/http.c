#include "api/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_internal.h"
#include "base/log.h"

enum {
    /* For a head (at most HTTP_HEAD_MAX of it), its decoded arguments, and the answer's head. */
    CONNECTION_MEMORY = 48 << 10,
    HANGUPS_AT_ONCE = 64,
};

void http_options_init(struct http_options *options)
{
    *options = (struct http_options){
        .max_connections = 1024,
        .max_connections_per_ip = 64,
        .idle_timeout_s = 65,
        .head_timeout_s = 10,
        .body_window_s = 20,
        .body_min_rate = 1024,
        .send_buffer = 131072,
        .write_timeout_s = 60,
        .max_swallow = (size_t)64 << 20,
    };
}

/* ---- running libmicrohttpd ---- */

/*
 * libmicrohttpd has work left when it says timeout 0, and after every resume, of which it knows
 * nothing before it runs (0.9.75 drops its wake-up descriptor without an own thread). An idle handle
 * and not a timer of 0 ms asks for the next round, because libuv would run such timers for ever
 * without looking at the sockets. It never says anything between 0 and "none": all time limits are
 * our own (http_timeout.c).
 */
void http_run(struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;

    server->run_again = false;
    MHD_run(server->mhd);
    if (server->run_again || (MHD_get_timeout(server->mhd, &ms) == MHD_YES && ms == 0)) {
        http_run_soon(server);
    } else {
        uv_idle_stop(&server->again);
    }
    if (server->accept_stopped && !server->no_resources &&
        server->stats.connections < server->options.max_connections) {
        http_listeners_poll(server, true);
    }
}

static void on_again(uv_idle_t *handle)
{
    http_run(handle->data);
}

void http_run_soon(struct http_server *server)
{
    server->run_again = true;
    if (!server->closing) {
        uv_idle_start(&server->again, on_again);
    }
}

/*
 * 0.9.75 forgets a connection whose stream it has just ended after a resume: closed, but not in its
 * epoll and in no list of things to do, its descriptor stays open. Connections with a time limit of
 * their own are looked at in every run.
 */
void http_look_again(struct http_conn *conn)
{
    MHD_set_connection_option(conn->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 1U);
    http_run_soon(conn->server);
}

static void on_mhd_event(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    http_run(handle->data);
}

/*
 * A suspended connection is in nobody's epoll, and nobody would notice that its peer is gone. So
 * every connection is in this one too, for that event alone. It may come before the request is
 * suspended, hence the flag.
 */
static void on_hangup(uv_poll_t *handle, int status, int events)
{
    struct http_server *server = handle->data;
    struct epoll_event event[HANGUPS_AT_ONCE];
    int n;

    (void)status;
    (void)events;
    do {
        n = epoll_wait(server->hangup_fd, event, HANGUPS_AT_ONCE, 0);
        for (int i = 0; i < n; i++) {
            struct http_conn *conn = event[i].data.ptr;

            conn->peer_gone = true;
            if (conn->req) {
                http_resume(conn->req);
            }
        }
    } while (n == HANGUPS_AT_ONCE);
}

static void on_tick(uv_timer_t *handle)
{
    struct http_server *server = handle->data;

    http_check_timeouts(server);
    if (server->no_resources) {
        server->no_resources = false;
        http_run_soon(server);
    }
    if (!server->conns && !server->no_resources) {
        uv_timer_stop(handle);
    }
}

void http_tick_start(struct http_server *server)
{
    if (!server->closing && !uv_is_active((const uv_handle_t *)&server->tick)) {
        uv_timer_start(&server->tick, on_tick, HTTP_TICK_MS, HTTP_TICK_MS);
    }
}

/* ---- connections ---- */

static void conn_open(struct http_server *server, struct MHD_Connection *mhd, void **ret_conn)
{
    const int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    struct http_conn *conn = calloc(1, sizeof(*conn));
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET};
    int domain = 0;
    socklen_t len = sizeof(domain);

    event.data.ptr = conn;
    if (!conn || epoll_ctl(server->hangup_fd, EPOLL_CTL_ADD, fd, &event)) {
        log_warn("http: connection refused, no memory");
        free(conn);
        shutdown(fd, SHUT_RDWR); /* without a conn no request gets anywhere */
        return;
    }
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
    conn->server = server;
    conn->mhd = mhd;
    conn->fd = fd;
    conn->is_tcp = domain == AF_INET || domain == AF_INET6;
    conn->received_known = true; /* nothing */
    conn->idle_since_ms = uv_now(server->loop);
    conn->next = server->conns;
    if (conn->next) {
        conn->next->prev = conn;
    }
    server->conns = conn;
    server->stats.connections++;
    http_tick_start(server);
    *ret_conn = conn;
}

static void conn_close(struct http_server *server, struct http_conn *conn)
{
    epoll_ctl(server->hangup_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        server->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    server->stats.connections--;
    free(conn);
}

static void on_connection(void *ctx, struct MHD_Connection *mhd, void **ret_conn,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *ret_conn = NULL;
        conn_open(ctx, mhd, ret_conn);
    } else if (*ret_conn) {
        conn_close(ctx, *ret_conn);
        *ret_conn = NULL;
    }
}

/* ---- open and close ---- */

/* The last of them frees the server. */
void http_handle_gone(struct http_server *server)
{
    if (--server->n_handles > 0) {
        return;
    }
    if (server->closed) {
        server->closed(server->closed_ctx);
    }
    free(server);
}

static void on_handle_closed(uv_handle_t *handle)
{
    http_handle_gone(handle->data);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *ctx, const char *format,
                                                         va_list args)
{
    char line[256];

    (void)ctx;
    if (strstr(format, "error generating")) {
        return; /* that is how a stream is ended whose peer is gone */
    }
    vsnprintf(line, sizeof(line), format, args);
    line[strcspn(line, "\r\n")] = '\0';
    log_debug("http: libmicrohttpd: %s", line);
}

__attribute__((noreturn)) static void on_panic(void *ctx, const char *file, unsigned line,
                                               const char *reason)
{
    (void)ctx;
    err_bug(file, (int)line, reason ? reason : "libmicrohttpd panics");
}

static int random_fill(struct http_server *server)
{
    size_t have = 0;

    while (have < sizeof(server->random)) {
        const ssize_t n = getrandom(server->random + have, sizeof(server->random) - have, 0);

        if (n < 0 && errno != EINTR) {
            return -1;
        }
        have += n > 0 ? (size_t)n : 0;
    }
    server->random_used = 0;
    return 0;
}

void http_random_text(struct http_server *server, char *ret, size_t n)
{
    static const char digit[] = "abcdefghijklmnopqrstuvwxyz234567";

    if (server->random_used + n > sizeof(server->random)) {
        CHECK_BUG(random_fill(server) == 0); /* it worked at open; the kernel promises the rest */
    }
    for (size_t i = 0; i < n; i++) {
        ret[i] = digit[server->random[server->random_used++] % 32];
    }
    ret[n] = '\0';
}

static int start_daemon(struct http_server *server, struct err *err)
{
    const struct http_options *options = &server->options;

    MHD_set_panic_func(on_panic, NULL);
    /* SIGPIPE_HANDLED_BY_APP lets it use sendfile. */
    server->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, http_on_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->max_connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)options->max_connections_per_ip,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_NOTIFY_COMPLETED,
        http_on_completed, server, MHD_OPTION_URI_LOG_CALLBACK, http_on_request_line, server,
        MHD_OPTION_END);
    if (!server->mhd) {
        return err_set(err, ERR_IO, "libmicrohttpd does not start: %m");
    }
    return ERR_OK;
}

static void handle_opened(struct http_server *server, uv_handle_t *handle)
{
    handle->data = server;
    server->n_handles++;
}

static int open_handles(struct http_server *server, struct err *err)
{
    const int mhd_fd = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int rc = uv_poll_init(server->loop, &server->mhd_poll, mhd_fd);

    if (rc) {
        return err_set(err, ERR_IO, "libmicrohttpd's epoll: %s", uv_strerror(rc));
    }
    handle_opened(server, (uv_handle_t *)&server->mhd_poll);
    rc = uv_poll_init(server->loop, &server->hangup_poll, server->hangup_fd);
    if (rc) {
        return err_set(err, ERR_IO, "hangup epoll: %s", uv_strerror(rc));
    }
    handle_opened(server, (uv_handle_t *)&server->hangup_poll);
    uv_idle_init(server->loop, &server->again);
    handle_opened(server, (uv_handle_t *)&server->again);
    uv_timer_init(server->loop, &server->tick);
    handle_opened(server, (uv_handle_t *)&server->tick);
    uv_unref((uv_handle_t *)&server->tick);
    uv_poll_start(&server->mhd_poll, UV_READABLE, on_mhd_event);
    uv_poll_start(&server->hangup_poll, UV_READABLE, on_hangup);
    return ERR_OK;
}

/* libuv lets go of the descriptors first; then they are closed. Frees server, maybe later. */
static void end(struct http_server *server)
{
    uv_handle_t *const handle[] = {
        (uv_handle_t *)&server->mhd_poll,
        (uv_handle_t *)&server->hangup_poll,
        (uv_handle_t *)&server->again,
        (uv_handle_t *)&server->tick,
    };

    for (size_t i = 0; i < ARRAY_LEN(handle); i++) {
        if (handle[i]->data) {
            uv_close(handle[i], on_handle_closed);
        }
    }
    if (server->mhd) {
        MHD_stop_daemon(server->mhd);
    }
    if (server->hangup_fd >= 0) {
        close(server->hangup_fd);
    }
    if (server->n_handles == 0) {
        free(server);
    }
}

int http_server_open(struct http_server **ret, uv_loop_t *loop, const struct http_options *options,
                     struct err *err)
{
    struct http_server *server = NULL;
    int rc;

    if (!options->handler || options->max_connections < 1) {
        return err_set(err, ERR_INVALID, "http server: no handler or no connections");
    }
    server = calloc(1, sizeof(*server));
    if (!server) {
        return err_set(err, ERR_NO_MEMORY, "http server");
    }
    server->options = *options;
    server->loop = loop;
    server->hangup_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->hangup_fd < 0 || random_fill(server)) {
        rc = err_set(err, ERR_IO, "http server: %m");
        goto out;
    }
    rc = start_daemon(server, err);
    if (rc) {
        goto out;
    }
    rc = open_handles(server, err);
    if (rc) {
        goto out;
    }
    http_run(server);
    *ret = server;
    server = NULL;
out:
    if (server) {
        server->closing = true;
        end(server);
    }
    return rc;
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
    http_listeners_close(server);
    for (struct http_conn *conn = server->conns; conn; conn = conn->next) {
        if (!conn->req) {
            shutdown(conn->fd, SHUT_RD); /* seen as the peer's end, after what already came */
        }
    }
}

/*
 * MHD_stop_daemon() aborts the process when a connection is suspended. So all are resumed, and while
 * closing nothing is suspended again: a waiting stream or request ends when it is run.
 */
void http_server_close(struct http_server *server, void (*done)(void *ctx), void *ctx)
{
    if (!server) {
        return;
    }
    server->closed = done;
    server->closed_ctx = ctx;
    server->closing = true;
    http_listeners_close(server);
    for (struct http_conn *conn = server->conns; conn; conn = conn->next) {
        if (conn->req) {
            http_resume(conn->req);
        }
    }
    MHD_run(server->mhd);
    end(server);
}

void http_server_stats(const struct http_server *server, struct http_stats *ret)
{
    *ret = server->stats;
}
