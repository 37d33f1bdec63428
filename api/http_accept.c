/*
 * Accepting is our own: several listening sockets, their options, a limit that leaves further clients
 * in the backlog. libmicrohttpd gets connections.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_internal.h"
#include "base/log.h"

enum {
    ACCEPTS_AT_ONCE = 64,
    KEEPALIVE_IDLE_S = 60,
    KEEPALIVE_INTERVAL_S = 15,
    KEEPALIVE_PROBES = 4,
};

/* A setting that a kernel or a kind of socket lacks is no reason not to serve. */
static void set_option(int fd, int level, int name, int value)
{
    if (setsockopt(fd, level, name, &value, sizeof(value))) {
        log_debug("http: socket option %d of level %d: %m", name, level);
    }
}

/*
 * On the listening socket, because Linux hands all of these down to TCP connections. Without
 * SO_SNDBUF one reader that does not read pins 4 MB of the kernel's memory. Keep-alive probes and
 * the user timeout notice a host that vanished without a word.
 */
static void set_tcp_options(int fd, const struct http_options *options)
{
    set_option(fd, SOL_SOCKET, SO_SNDBUF, options->send_buffer);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    if (options->write_timeout_s > 0) {
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (options->write_timeout_s + 5) * 1000);
    }
}

/* false: no more for now. */
static bool accept_one(struct http_listener *listener)
{
    struct http_server *server = listener->server;
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    const int fd =
        accept4(listener->fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        if (addr.ss_family == AF_UNIX) {
            set_option(fd, SOL_SOCKET, SO_SNDBUF, server->options.send_buffer);
        }
        MHD_add_connection(server->mhd, fd, (struct sockaddr *)&addr, len); /* owns fd */
        return true;
    }
    if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) {
        return errno != EAGAIN;
    }
    /* No descriptor, no memory, or worse. The socket stays readable: without a pause this would be a
     * busy loop. */
    log_warn("http: accept: %m, trying again");
    server->no_resources = true;
    http_listeners_poll(server, false);
    http_tick_start(server);
    return false;
}

static void on_acceptable(uv_poll_t *handle, int status, int events)
{
    struct http_listener *listener = handle->data;
    struct http_server *server = listener->server;

    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        if (server->stats.connections >= server->options.max_connections) {
            http_listeners_poll(server, false);
            break;
        }
        if (!accept_one(listener)) {
            break;
        }
    }
    http_run(server);
}

void http_listeners_poll(struct http_server *server, bool on)
{
    for (struct http_listener *l = server->listeners; l; l = l->next) {
        if (on) {
            uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
        } else {
            uv_poll_stop(&l->poll);
        }
    }
    server->accept_stopped = !on;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct http_listener *listener = handle->data;
    struct http_server *server = listener->server;

    free(listener);
    http_handle_gone(server);
}

void http_listeners_close(struct http_server *server)
{
    while (server->listeners) {
        struct http_listener *l = server->listeners;

        server->listeners = l->next;
        uv_close((uv_handle_t *)&l->poll, on_listener_closed);
        close(l->fd); /* libuv has let go of it */
    }
}

int http_server_listen(struct http_server *server, int fd, struct err *err)
{
    struct http_listener *listener = calloc(1, sizeof(*listener));
    int rc;

    if (!listener) {
        close(fd);
        return err_set(err, ERR_NO_MEMORY, "listening socket");
    }
    rc = uv_poll_init(server->loop, &listener->poll, fd);
    if (rc) {
        free(listener);
        close(fd);
        return err_set(err, ERR_IO, "listening socket: %s", uv_strerror(rc));
    }
    set_tcp_options(fd, &server->options);
    listener->poll.data = listener;
    listener->server = server;
    listener->fd = fd;
    server->n_handles++;
    listener->next = server->listeners;
    server->listeners = listener;
    if (!server->accept_stopped) {
        uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    }
    return ERR_OK;
}
