/*
 * daemon_client.h - a daemon to be measured: started on a free port in a temporary folder, asked over plain
 * sockets, ended.
 */
#ifndef BENCH_DAEMON_CLIENT_H
#define BENCH_DAEMON_CLIENT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct daemon_client {
    pid_t pid;
    int port;
    int log_fd;        /* its standard error, non-blocking */
    char dir[64];      /* data, and the model: links and defaults */
    char log[1 << 16]; /* the end of what it said */
    size_t log_len;
    int64_t start_ns, ready_ns; /* before fork; after the first 200 of /readyz */
};

/* sanad_json: the model's defaults (sanad.json). Waits until it is ready. */
MUST_CHECK int daemon_client_open(struct daemon_client *d, const char *sanad, const char *model,
                                  const char *sanad_json, struct err *err);
void daemon_client_close(struct daemon_client *d);

/* Reads what it has said since; the newest 64 KiB are kept. */
void daemon_client_read_log(struct daemon_client *d);

/* A connection with the request sent: method and path, body as JSON or NULL. HTTP/1.0: the answer ends with the
 * connection. -1 on failure. */
int daemon_client_send(const struct daemon_client *d, const char *method, const char *path,
                       const char *json);

/* The whole answer, cut to size. Errors: ERR_IO, and ERR_INVALID for any status but 200. */
MUST_CHECK int daemon_client_ask(const struct daemon_client *d, const char *method,
                                 const char *path, const char *json, char *ret, size_t size,
                                 struct err *err);

/* Posts a video; ret_id of 40 bytes. */
MUST_CHECK int daemon_client_post(const struct daemon_client *d, const char *json, char ret_id[40],
                                  struct err *err);

/* VmRSS of a process in bytes; 0 if it cannot be told. */
int64_t daemon_client_resident(pid_t pid);

#endif
