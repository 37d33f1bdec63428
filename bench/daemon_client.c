#include "bench/daemon_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    READY_TRIES = 10000
};

static const char *const parts[] = {"model_index.json", "scheduler",   "text_encoder",
                                    "tokenizer",        "transformer", "vae"};

/* ---- its folder ---- */

static int make_model(struct daemon_client *d, const char *model, const char *sanad_json,
                      struct err *err)
{
    char real[PATH_MAX];
    char from[PATH_MAX + 32];
    char to[128];
    FILE *f;

    snprintf(d->dir, sizeof(d->dir), "/tmp/sanad-bench-XXXXXX");
    snprintf(to, sizeof(to), "%s/model", mkdtemp(d->dir) ? d->dir : "");
    if (!realpath(model, real) || mkdir(to, 0700) != 0) {
        return err_set(err, ERR_IO, "a folder for '%s': %m", model);
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        snprintf(from, sizeof(from), "%s/%s", real, parts[i]);
        snprintf(to, sizeof(to), "%s/model/%s", d->dir, parts[i]);
        if (symlink(from, to) != 0) {
            return err_set(err, ERR_IO, "link '%s': %m", to);
        }
    }
    snprintf(to, sizeof(to), "%s/model/sanad.json", d->dir);
    f = fopen(to, "we");
    if (!f || fputs(sanad_json, f) < 0 || fclose(f) != 0) {
        return err_set(err, ERR_IO, "write '%s': %m", to);
    }
    return ERR_OK;
}

static void remove_folder(const char *dir)
{
    const pid_t pid = fork();

    if (pid == 0) {
        execlp("rm", "rm", "-rf", dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

/* ---- its process ---- */

static void exec_daemon(const char *sanad, const char *dir, int log_fd)
{
    char data[96];
    char model[96];

    snprintf(data, sizeof(data), "%s/data", dir);
    snprintf(model, sizeof(model), "%s/model", dir);
    dup2(log_fd, STDERR_FILENO);
    execl(sanad, sanad, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--model", model,
          "--log-level", "debug", (char *)NULL);
    _exit(127);
}

static int start(struct daemon_client *d, const char *sanad, struct err *err)
{
    char path[96];
    int write_fd;

    snprintf(path, sizeof(path), "%s/log", d->dir); /* a pipe would stall it when nobody reads */
    write_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    d->log_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (write_fd < 0 || d->log_fd < 0) {
        return err_set(err, ERR_IO, "open '%s': %m", path);
    }
    d->start_ns = clock_now_ns();
    d->pid = fork();
    if (d->pid == 0) {
        exec_daemon(sanad, d->dir, write_fd);
    }
    close(write_fd);
    return d->pid > 0 ? ERR_OK : err_set(err, ERR_IO, "fork: %m");
}

void daemon_client_read_log(struct daemon_client *d)
{
    for (;;) {
        const size_t room = sizeof(d->log) - 1 - d->log_len;
        const ssize_t n = read(d->log_fd, d->log + d->log_len, room);

        if (n <= 0) {
            return;
        }
        d->log_len += (size_t)n;
        d->log[d->log_len] = '\0';
        if (d->log_len > sizeof(d->log) / 2) {
            const size_t keep = sizeof(d->log) / 4;

            memmove(d->log, d->log + d->log_len - keep, keep + 1);
            d->log_len = keep;
        }
    }
}

static bool is_ready(struct daemon_client *d)
{
    char answer[1024];
    struct err err;
    const char *address;

    if (d->port == 0) {
        daemon_client_read_log(d);
        address = strstr(d->log, "listening address=127.0.0.1:");
        d->port = address ? (int)strtol(strstr(address, "127.0.0.1:") + 10, NULL, 10) : 0;
    }
    return d->port != 0 &&
           daemon_client_ask(d, "GET", "/readyz", NULL, answer, sizeof(answer), &err) == ERR_OK;
}

int daemon_client_open(struct daemon_client *d, const char *sanad, const char *model,
                       const char *sanad_json, struct err *err)
{
    int rc;

    memset(d, 0, sizeof(*d));
    d->log_fd = -1;
    rc = make_model(d, model, sanad_json, err);
    if (rc == ERR_OK) {
        rc = start(d, sanad, err);
    }
    for (int i = 0; rc == ERR_OK && !is_ready(d); i++) {
        if (i == READY_TRIES || waitpid(d->pid, NULL, WNOHANG) != 0) {
            rc = err_set(err, ERR_IO, "%s serve did not become ready", sanad);
        }
        poll(NULL, 0, 1);
    }
    d->ready_ns = clock_now_ns();
    if (rc != ERR_OK) {
        daemon_client_close(d);
    }
    return rc;
}

void daemon_client_close(struct daemon_client *d)
{
    if (d->pid > 0) {
        kill(d->pid, SIGTERM);
        poll(NULL, 0, 50);
        kill(d->pid, SIGTERM); /* at once, whatever it is doing */
        waitpid(d->pid, NULL, 0);
    }
    if (d->log_fd >= 0) {
        close(d->log_fd);
    }
    remove_folder(d->dir);
}

/* ---- asking ---- */

int daemon_client_send(const struct daemon_client *d, const char *method, const char *path,
                       const char *json)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)d->port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char request[2048];
    const int n = snprintf(request, sizeof(request),
                           "%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n%s",
                           method, path, json ? strlen(json) : 0, json ? json : "");

    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0 ||
        send(fd, request, (size_t)n, MSG_NOSIGNAL) != n) {
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

int daemon_client_ask(const struct daemon_client *d, const char *method, const char *path,
                      const char *json, char *ret, size_t size, struct err *err)
{
    const int fd = daemon_client_send(d, method, path, json);
    size_t len = 0;
    ssize_t n;

    if (fd < 0) {
        return err_set(err, ERR_IO, "%s %s: %m", method, path);
    }
    while (len + 1 < size && (n = read(fd, ret + len, size - 1 - len)) > 0) {
        len += (size_t)n;
    }
    ret[len] = '\0';
    close(fd);
    if (strncmp(ret, "HTTP/1.1 200 ", 13) != 0 && strncmp(ret, "HTTP/1.0 200 ", 13) != 0) {
        return err_set(err, ERR_INVALID, "%s %s: %.200s", method, path, ret);
    }
    return ERR_OK;
}

int daemon_client_post(const struct daemon_client *d, const char *json, char ret_id[40],
                       struct err *err)
{
    char answer[8192];
    const char *id;
    const int rc = daemon_client_ask(d, "POST", "/v1/videos", json, answer, sizeof(answer), err);

    if (rc != ERR_OK) {
        return rc;
    }
    id = strstr(answer, "\"id\":\"");
    if (!id) {
        return err_set(err, ERR_FORMAT, "POST /v1/videos: no id in the answer");
    }
    snprintf(ret_id, 40, "%.*s", (int)strcspn(id + 6, "\""), id + 6);
    return ERR_OK;
}

int64_t daemon_client_resident(pid_t pid)
{
    char path[64];
    char line[256];
    int64_t kib = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtoll(line + 6, NULL, 10);
        }
    }
    if (f) {
        fclose(f);
    }
    return kib * 1024;
}
