#include "daemon/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 512,
    HOST_SIZE = 256,
    FLAGS = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
};

static int refused(const char *address, struct err *err)
{
    return err_set(err, errno == EADDRINUSE ? ERR_BUSY : ERR_IO, "listen on '%s': %m", address);
}

/* ---- unix sockets ---- */

/* A file that is left from a daemon that was killed; one that answers is in use. */
static bool is_stale(const struct sockaddr_un *where)
{
    struct stat st;
    int fd;
    bool stale;

    if (lstat(where->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return false;
    }
    fd = socket(AF_UNIX, FLAGS, 0);
    stale = fd >= 0 && connect(fd, (const struct sockaddr *)where, sizeof(*where)) != 0 &&
            errno == ECONNREFUSED;
    if (fd >= 0) {
        close(fd);
    }
    return stale;
}

static int open_unix(const char *address, const char *path, int *ret_fd, struct err *err)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(where.sun_path)) {
        return err_set(err, ERR_INVALID, "listen: the path of '%s' is longer than %zu bytes",
                       address, sizeof(where.sun_path) - 1);
    }
    memcpy(where.sun_path, path, strlen(path) + 1);
    if (is_stale(&where)) {
        unlink(path);
    }
    fd = socket(AF_UNIX, FLAGS, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&where, sizeof(where)) != 0 ||
        listen(fd, BACKLOG) != 0) {
        const int rc = refused(address, err);

        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    *ret_fd = fd;
    return ERR_OK;
}

/* ---- TCP ---- */

static int split(const char *address, char host[HOST_SIZE], const char **ret_port, struct err *err)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    if (!colon || len == 0 || len >= HOST_SIZE || colon[1] == '\0') {
        return err_set(err, ERR_INVALID, "listen: '%s' is not HOST:PORT, [IPV6]:PORT or unix:/PATH",
                       address);
    }
    if (address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    memcpy(host, address, len);
    host[len] = '\0';
    *ret_port = colon + 1;
    return ERR_OK;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)a;

        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static void name_of(int fd, char ret[LISTENER_NAME])
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof(a);
    char host[NI_MAXHOST] = "?";
    char port[NI_MAXSERV] = "?";

    if (getsockname(fd, (struct sockaddr *)&a, &len) == 0) {
        getnameinfo((const struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    snprintf(ret, LISTENER_NAME, a.ss_family == AF_INET6 ? "[%.200s]:%s" : "%.200s:%s", host, port);
}

static int open_tcp(const struct addrinfo *a, const char *address, int *ret_fd, struct err *err)
{
    const int on = 1;
    const int fd = socket(a->ai_family, FLAGS, 0);

    if (fd < 0) {
        return refused(address, err);
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        const int rc = refused(address, err);

        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return ERR_OK;
}

/* *ret: freeaddrinfo. */
static int resolve(const char *address, struct addrinfo **ret, struct err *err)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    char host[HOST_SIZE];
    const char *port = NULL;
    int rc = split(address, host, &port, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = getaddrinfo(host, port, &hints, ret);
    return rc == 0 ? ERR_OK
                   : err_set(err, ERR_INVALID, "listen: '%s': %s", address, gai_strerror(rc));
}

static const char *unix_path(const char *address)
{
    return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

int listener_is_local(const char *address, bool *ret, struct err *err)
{
    struct addrinfo *found = NULL;
    int rc = ERR_OK;

    *ret = unix_path(address) != NULL;
    if (!*ret) {
        rc = resolve(address, &found, err);
    }
    if (found) {
        *ret = is_loopback(found->ai_addr);
        freeaddrinfo(found);
    }
    return rc;
}

int listener_open(const char *address, int *ret_fd, char ret_name[LISTENER_NAME], struct err *err)
{
    struct addrinfo *found = NULL;
    int rc;

    if (unix_path(address)) {
        snprintf(ret_name, LISTENER_NAME, "%s", address);
        return open_unix(address, unix_path(address), ret_fd, err);
    }
    rc = resolve(address, &found, err);
    if (rc == ERR_OK) {
        rc = open_tcp(found, address, ret_fd, err);
        freeaddrinfo(found);
    }
    if (rc == ERR_OK) {
        name_of(*ret_fd, ret_name);
    }
    return rc;
}

void listener_forget(const char *name)
{
    if (unix_path(name)) {
        unlink(unix_path(name));
    }
}
