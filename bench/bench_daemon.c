/*
 * The daemon's figures: how soon it is ready, how small it is, how many requests it answers while a video is made,
 * how fast an event reaches a thousand clients, and a finished block its viewer.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "bench/daemon_client.h"

enum {
    STARTS = 5,
    IDLE_MS = 4000, /* the daemon gives pages back after 3 s */
    CLIENTS = 1000,
    MAX_EVENTS = 512,
    MAX_BLOCKS = 256,
};

static const char small_model[] =
    "{\"id\": \"tiny\", \"sizes\": [], \"size\": \"64x64\", \"block_latent_frames\": 4}";

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* p in 0..1; sorts. */
static double percentile(double *v, int n, double p)
{
    int i = (int)(p * n);

    qsort(v, (size_t)n, sizeof(*v), by_value);
    i = i >= n ? n - 1 : i;
    return n > 0 ? v[i] : 0;
}

/* ---- start and idle ---- */

int bench_daemon_start(const struct bench_paths *paths, double *ret_ms, double *ret_idle_bytes,
                       struct err *err)
{
    struct daemon_client *d = malloc(sizeof(*d));
    double ms[STARTS] = {0};
    int rc = ERR_OK;

    if (!d) {
        return err_set(err, ERR_NO_MEMORY, "a client");
    }
    for (int i = 0; i < STARTS && rc == ERR_OK; i++) {
        rc = daemon_client_open(d, paths->sanad, paths->model, small_model, err);
        if (rc != ERR_OK) {
            break;
        }
        ms[i] = 1e3 * clock_seconds(d->ready_ns - d->start_ns);
        if (i == STARTS - 1) {
            poll(NULL, 0, IDLE_MS);
            *ret_idle_bytes = (double)daemon_client_resident(d->pid);
        }
        daemon_client_close(d);
    }
    *ret_ms = rc == ERR_OK ? percentile(ms, STARTS, 0.5) : 0;
    free(d);
    return rc;
}

/* ---- requests while a job generates ---- */

static double milliseconds(const char *text)
{
    char *unit;
    const double v = strtod(text, &unit);

    return strncmp(unit, "us", 2) == 0 ? v / 1000 : strncmp(unit, "ms", 2) == 0 ? v : v * 1000;
}

static int run_wrk(const struct daemon_client *d, const char *id, char *ret, size_t size,
                   struct err *err)
{
    char url[160];
    int fds[2];
    size_t len = 0;
    ssize_t n;
    int status;
    pid_t pid;

    snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1/videos/%s", d->port, id);
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return err_set(err, ERR_IO, "pipe: %m");
    }
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execlp("wrk", "wrk", "-t1", "-c32", "-d5s", "--latency", url, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    while (len + 1 < size && (n = read(fds[0], ret + len, size - 1 - len)) > 0) {
        len += (size_t)n;
    }
    ret[len] = '\0';
    close(fds[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        return err_set(err, ERR_IO, "wrk (Debian package wrk) failed, wait status %d", status);
    }
    return ERR_OK;
}

static int read_wrk(const char *said, double *ret_rate, double *ret_p99_ms, struct err *err)
{
    const char *rate = strstr(said, "Requests/sec:");
    const char *p99 = strstr(said, "99%");

    if (!rate || !p99 || strstr(said, "Non-2xx")) {
        return err_set(err, ERR_FORMAT, "wrk said: %s", said);
    }
    *ret_rate = strtod(rate + strlen("Requests/sec:"), NULL);
    *ret_p99_ms = milliseconds(p99 + 3);
    return ERR_OK;
}

int bench_daemon_requests(const struct bench_paths *paths, double *ret_rate, double *ret_p99_ms,
                          struct err *err)
{
    struct daemon_client *d = malloc(sizeof(*d));
    char answer[8192];
    char path[80];
    char id[40];
    int rc;

    if (!d) {
        return err_set(err, ERR_NO_MEMORY, "a client");
    }
    rc = daemon_client_open(d, paths->sanad, paths->model, small_model, err);
    if (rc != ERR_OK) {
        free(d);
        return rc;
    }
    rc = daemon_client_post(d, "{\"prompt\":\"a ship\",\"seconds\":60,\"size\":\"128x128\"}", id,
                            err);
    if (rc == ERR_OK) {
        rc = run_wrk(d, id, answer, sizeof(answer), err);
    }
    if (rc == ERR_OK) {
        rc = read_wrk(answer, ret_rate, ret_p99_ms, err);
    }
    if (rc == ERR_OK) {
        snprintf(path, sizeof(path), "/v1/videos/%s", id);
        rc = daemon_client_ask(d, "GET", path, NULL, answer, sizeof(answer), err);
    }
    if (rc == ERR_OK && !strstr(answer, "\"status\":\"in_progress\"")) {
        rc = err_set(err, ERR_INVALID, "the video was finished before the requests were");
    }
    daemon_client_close(d);
    free(d);
    return rc;
}

/* ---- fan-out ---- */

struct arrival {
    int64_t seq;
    int64_t first_ns, last_ns;
    int n;
};

struct fanout {
    int epoll;
    int fd[CLIENTS];
    char line[CLIENTS][24]; /* the beginning of the line being received */
    unsigned char at[CLIENTS];
    struct arrival arrival[MAX_EVENTS];
    int n;
};

static void arrived(struct fanout *f, int64_t seq, int64_t now_ns)
{
    int i = f->n - 1;

    while (i >= 0 && f->arrival[i].seq != seq) {
        i--;
    }
    if (i < 0 && f->n < MAX_EVENTS) {
        i = f->n++;
        f->arrival[i] = (struct arrival){.seq = seq, .first_ns = now_ns};
    }
    if (i >= 0) {
        f->arrival[i].last_ns = now_ns;
        f->arrival[i].n++;
    }
}

/* Lines "id: N" of one client, in any pieces. */
static void scan(struct fanout *f, int client, const char *data, ssize_t n, int64_t now_ns)
{
    char *line = f->line[client];

    for (ssize_t i = 0; i < n; i++) {
        if (data[i] == '\n') {
            line[f->at[client]] = '\0';
            if (strncmp(line, "id: ", 4) == 0) {
                arrived(f, strtoll(line + 4, NULL, 10), now_ns);
            }
            f->at[client] = 0;
        } else if (f->at[client] + 1U < sizeof(f->line[0])) {
            line[f->at[client]++] = data[i];
        }
    }
}

static void receive(struct fanout *f, int64_t until_ns)
{
    static char buffer[1 << 16];
    struct epoll_event events[256];

    while (clock_now_ns() < until_ns) {
        const int n = epoll_wait(f->epoll, events, (int)ARRAY_LEN(events), 50);

        for (int i = 0; i < n; i++) {
            const int client = (int)events[i].data.u32;
            const ssize_t got = recv(f->fd[client], buffer, sizeof(buffer), MSG_DONTWAIT);

            if (got > 0) {
                scan(f, client, buffer, got, clock_now_ns());
            } else if (got == 0) {
                epoll_ctl(f->epoll, EPOLL_CTL_DEL, f->fd[client], NULL);
            }
        }
    }
}

static int connect_all(struct fanout *f, const struct daemon_client *d, struct err *err)
{
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < CLIENTS; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};

        f->fd[i] = daemon_client_send(d, "GET", "/v1/events", NULL);
        if (f->fd[i] < 0) {
            return err_set(err, ERR_IO, "client %d of %d: %m", i, CLIENTS);
        }
        epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->fd[i], &e);
    }
    receive(f, clock_now_ns() + 500000000); /* everybody's greeting */
    f->n = 0;
    return ERR_OK;
}

static int judge(struct fanout *f, double *ret_p99_ms, struct err *err)
{
    double ms[MAX_EVENTS];
    int n = 0;

    for (int i = 0; i < f->n; i++) {
        if (f->arrival[i].n == CLIENTS) {
            ms[n++] = 1e3 * clock_seconds(f->arrival[i].last_ns - f->arrival[i].first_ns);
        }
    }
    if (n < 10 || n < f->n - 2) { /* the last ones may still be on their way */
        return err_set(err, ERR_INVALID, "%d of %d events reached all %d clients", n, f->n,
                       CLIENTS);
    }
    *ret_p99_ms = percentile(ms, n, 0.99);
    return ERR_OK;
}

int bench_daemon_fanout(const struct bench_paths *paths, double *ret_p99_ms, struct err *err)
{
    struct rlimit files = {.rlim_cur = 4096, .rlim_max = 4096};
    struct daemon_client *d = malloc(sizeof(*d));
    struct fanout *f = calloc(1, sizeof(*f));
    char id[40];
    int rc;

    if (!d || !f) {
        free(f);
        free(d);
        return err_set(err, ERR_NO_MEMORY, "%d clients", CLIENTS);
    }
    setrlimit(RLIMIT_NOFILE, &files);
    rc = daemon_client_open(d, paths->sanad, paths->model, small_model, err);
    if (rc == ERR_OK) {
        rc = connect_all(f, d, err);
        if (rc == ERR_OK) {
            rc = daemon_client_post(d, "{\"prompt\":\"a ship\",\"seconds\":40,\"size\":\"96x96\"}",
                                    id, err);
        }
        if (rc == ERR_OK) {
            receive(f, clock_now_ns() + 6 * INT64_C(1000000000));
            rc = judge(f, ret_p99_ms, err);
        }
        for (int i = 0; i < CLIENTS; i++) {
            if (f->fd[i] > 0) {
                close(f->fd[i]);
            }
        }
        close(f->epoll);
        daemon_client_close(d);
    }
    free(f);
    free(d);
    return rc;
}

/* ---- from a block's completion to its first byte ---- */

struct boxes {
    size_t skip; /* of the body of the current box */
    uint8_t header[8];
    int have;
    int64_t moof_ns[MAX_BLOCKS];
    int n;
};

/* When each fragment began to arrive. */
static void scan_boxes(struct boxes *b, const uint8_t *data, size_t n, int64_t now_ns)
{
    for (size_t i = 0; i < n;) {
        if (b->skip > 0) {
            const size_t step = b->skip < n - i ? b->skip : n - i;

            b->skip -= step;
            i += step;
            continue;
        }
        b->header[b->have++] = data[i++];
        if (b->have == 8) {
            const size_t size = (size_t)b->header[0] << 24 | (size_t)b->header[1] << 16 |
                                (size_t)b->header[2] << 8 | b->header[3];

            if (memcmp(b->header + 4, "moof", 4) == 0 && b->n < MAX_BLOCKS) {
                b->moof_ns[b->n++] = now_ns;
            }
            b->skip = size >= 8 ? size - 8 : 0;
            b->have = 0;
        }
    }
}

/* Reads the stream to its end; the head of the answer is cut off. */
static void watch_stream(struct daemon_client *d, int fd, struct boxes *b)
{
    static uint8_t buffer[1 << 16];
    bool head = true;
    ssize_t n;

    while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
        const int64_t now_ns = clock_now_ns();
        const uint8_t *body = buffer;

        if (head) {
            const uint8_t *end = memmem(buffer, (size_t)n, "\r\n\r\n", 4);

            if (!end) {
                continue;
            }
            body = end + 4;
            head = false;
        }
        scan_boxes(b, body, (size_t)(buffer + n - body), now_ns);
        daemon_client_read_log(d);
    }
}

/* The worker's own word, at debug level: "block=3 made monotonic_ns=123". */
static void read_made(const struct daemon_client *d, int64_t made_ns[MAX_BLOCKS])
{
    static const char before[] = " block=";
    static const char between[] = " made monotonic_ns=";

    for (const char *p = strstr(d->log, before); p; p = strstr(p, before)) {
        char *end;
        const long long index = strtoll(p + strlen(before), &end, 10);

        if (strncmp(end, between, strlen(between)) == 0 && index >= 0 && index < MAX_BLOCKS) {
            made_ns[index] = strtoll(end + strlen(between), NULL, 10);
        }
        p = end;
    }
}

static int judge_blocks(const struct daemon_client *d, const struct boxes *b, double *ret_p50_ms,
                        struct err *err)
{
    int64_t made_ns[MAX_BLOCKS] = {0};
    double ms[MAX_BLOCKS];
    int n = 0;

    read_made(d, made_ns);
    for (int i = 0; i < b->n; i++) {
        if (made_ns[i] > 0) {
            ms[n++] = 1e3 * clock_seconds(b->moof_ns[i] - made_ns[i]);
        }
    }
    if (n < 10) {
        return err_set(err, ERR_INVALID, "%d blocks could be timed", n);
    }
    *ret_p50_ms = percentile(ms, n, 0.5);
    return ERR_OK;
}

int bench_daemon_block(const struct bench_paths *paths, double *ret_p50_ms, struct err *err)
{
    struct daemon_client *d = malloc(sizeof(*d));
    struct boxes *b = calloc(1, sizeof(*b));
    char path[80];
    char id[40];
    int fd = -1;
    int rc;

    if (!d || !b) {
        free(b);
        free(d);
        return err_set(err, ERR_NO_MEMORY, "a client");
    }
    rc = daemon_client_open(d, paths->sanad, paths->model, small_model, err);
    if (rc == ERR_OK) {
        rc = daemon_client_post(d, "{\"prompt\":\"a ship\",\"seconds\":30}", id, err);
        if (rc == ERR_OK) {
            snprintf(path, sizeof(path), "/v1/videos/%s/stream", id);
            fd = daemon_client_send(d, "GET", path, NULL);
            rc = fd >= 0 ? ERR_OK : err_set(err, ERR_IO, "GET %s: %m", path);
        }
        if (rc == ERR_OK) {
            watch_stream(d, fd, b);
            close(fd);
            daemon_client_read_log(d);
            rc = judge_blocks(d, b, ret_p50_ms, err);
        }
        daemon_client_close(d);
    }
    free(b);
    free(d);
    return rc;
}
