/*
 * sanad worker: the child that computes. `sanad serve` starts it with one end of a socket pair; what
 * they say is in worker/worker.h. Here is what concerns the process, so that worker_run() can be
 * tested in a thread.
 */
#include "daemon/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/log.h"
#include "daemon/cli_options.h"
#include "worker/worker.h"

enum {
    FD_MIN = 3,
    THREADS_MAX = 1024,
    NICE = 5
};

#define VRAM_MAX ((double)(INT64_C(16) << 40))

/* A terminal's Ctrl-C and a service's stop reach the whole group: the daemon decides what they mean
 * for a job in work. */
static void ignore_signals(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ};
    const struct sigaction action = {.sa_handler = SIG_IGN};

    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
        sigaction(ignored[i], &action, NULL);
    }
}

/* A daemon that died before PR_SET_PDEATHSIG has closed its end. Its process number would say less:
 * in a container it is 1 while it lives. */
static int check_socket(int fd, struct err *err)
{
    char byte;
    const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n == 0) {
        return err_set(err, ERR_CANCELLED, "--fd: the daemon is gone");
    }
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        return err_set(err, ERR_INVALID, "--fd: %d is not a socket to the daemon: %m", fd);
    }
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return err_set(err, ERR_IO, "--fd: %m");
    }
    return ERR_OK;
}

static int set_up_process(int fd, struct err *err)
{
    /* First, so that no worker outlives its daemon. The signal comes when the thread ends that started
     * this process: the daemon starts workers from its main thread. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return err_set(err, ERR_IO, "prctl: %m");
    }
    ignore_signals();
    /* The CPU device keeps every core busy for minutes; the daemon, which needs little, must still
     * answer at once. Threads inherit it. Not being allowed to is no reason to stop. */
    if (setpriority(PRIO_PROCESS, 0, NICE) != 0) {
        log_warn("worker: setpriority: %m");
    }
    return check_socket(fd, err);
}

int cmd_worker(int argc, char **argv)
{
    struct worker_options w = {0};
    int64_t log_level = LOG_LEVEL_INFO;
    int64_t fd = -1;
    bool help = false;
    struct cli_option options[] = {
        {"fd", 0, CLI_INT, &fd, FD_MIN, INT_MAX, "N", "the socket to the daemon", 0},
        {"model", 'm', CLI_TEXT, &w.model, 0, 0, "DIR", "diffusers directory of the model", 0},
        {"device", 0, CLI_TEXT, &w.device.device, 0, 0, "NAME",
         "auto, cpu, cuda or cuda:N: what computes [auto]", 0},
        {"precision", 0, CLI_TEXT, &w.device.precision, 0, 0, "bf16|f32", "on a GPU [bf16]", 0},
        {"text-encoder", 0, CLI_TEXT, &w.device.text_encoder, 0, 0, "auto|gpu|host",
         "where its weights are with a GPU [auto]", 0},
        {"deterministic", 0, CLI_FLAG, &w.device.deterministic, 0, 0, NULL,
         "on a GPU: algorithms by rule, not by measuring", 0},
        {"vram-limit", 0, CLI_BYTES, &w.device.vram_limit, 0, VRAM_MAX, "SIZE",
         "memory of the GPU that may be used; 0: all [0]", 0},
        {"algorithms", 0, CLI_TEXT, &w.device.algos, 0, 0, "FILE",
         "where measured algorithms of the GPU are kept", 0},
        {"threads", 0, CLI_INT, &w.device.threads, 0, THREADS_MAX, "N",
         "CPU threads; 0: one per core [0]", 0},
        {"checkpoint-interval-ms", 0, CLI_INT, &w.checkpoint_interval_ms, 0, INT_MAX, "N",
         "between snapshots while a clip is denoised; 0: none [0]", 0},
        {"log-level", 0, CLI_INT, &log_level, LOG_LEVEL_ERR, LOG_LEVEL_DEBUG, "N",
         "0 errors .. 3 debug [2]", 0},
        {"help", 'h', CLI_FLAG, &help, 0, 0, NULL, "print this", 0},
    };
    const char *none = NULL;
    struct err err = {0};
    bool usage = true;
    int n;
    int rc = cli_parse(options, ARRAY_LEN(options), argc, argv, &none, 0, &n, &err);

    if (rc == ERR_OK && help) {
        printf("usage: sanad worker --fd N --model DIR [OPTIONS]\n\n"
               "The daemon's child, which makes the videos; not for use by hand.\n\n");
        cli_print_options(options, ARRAY_LEN(options), stdout);
        return 0;
    }
    if (rc == ERR_OK && (fd < 0 || !w.model)) {
        rc = err_set(&err, ERR_INVALID, "--fd and --model are needed");
    }
    if (rc == ERR_OK) {
        rc = device_choice_check(&w.device, &err);
    }
    if (rc == ERR_OK) {
        log_set_level((enum log_level)log_level);
        w.fd = (int)fd;
        rc = set_up_process(w.fd, &err);
        usage = rc == ERR_INVALID;
    }
    if (rc == ERR_OK) {
        rc = worker_run(&w, &err);
    }
    if (rc == ERR_CANCELLED) { /* it would tell nobody anything new */
        log_info("worker: %s", err.msg);
    } else if (rc != ERR_OK) {
        log_err("worker: %s", err.msg);
    }
    return cli_exit_status(rc, usage);
}
