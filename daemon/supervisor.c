/*
 * The worker's process and its socket. See worker_talk.c for what is said on it.
 */
#include "daemon/supervisor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/supervisor_internal.h"

enum {
    WORKER_FD = 3, /* in the worker: the socket, and behind it the lock */
    READ_SIZE = 256 << 10,
    HEARTBEAT_MS = 5000,
    SILENCE_MS = 60000, /* a worker that answers no ping for so long is stuck */
    HOPELESS = 3,       /* refusals of the very first worker */
    BROKEN = 5,         /* failures in a row after which the device counts as broken */
    STEADY_MS = 10000,  /* a worker that lived so long is restarted at once */
    RESUME_MS = 20,
    EXIT_MS = 1000, /* from closing the socket to the end of the process */
    MAX_ARGS = 28,
};

#define MAX_BACKLOG ((size_t)128 << 20)

static void start_worker(struct supervisor *s);

/* ---- its end ---- */

static void describe_end(const struct supervisor *s, char *ret, size_t size)
{
    if (s->reason[0]) {
        snprintf(ret, size, "%s", s->reason);
    } else if (s->exit_signal != 0) {
        snprintf(ret, size, "killed by signal %d (%s)", s->exit_signal, strsignal(s->exit_signal));
    } else {
        snprintf(ret, size, "exit status %" PRId64, s->exit_status);
    }
}

static void timer_closed(uv_handle_t *handle)
{
    struct supervisor *s = handle->data;

    if (--s->open_handles == 0) {
        void (*closed)(void *ctx) = s->closed;
        void *ctx = s->closed_ctx;

        free(s);
        closed(ctx);
    }
}

static void finish_closing(struct supervisor *s)
{
    uv_timer_t *timers[] = {&s->restart, &s->grace, &s->heartbeat, &s->resume};

    s->open_handles = (int)ARRAY_LEN(timers);
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        uv_close((uv_handle_t *)timers[i], timer_closed);
    }
}

static void on_restart(uv_timer_t *timer)
{
    start_worker(timer->data);
}

/* 0, then the delay, doubling; a worker that lived a while starts the count anew. */
static void schedule_restart(struct supervisor *s)
{
    const uint64_t lived = s->ready ? uv_now(s->options.loop) - s->ready_at_ms : 0;

    if (lived >= STEADY_MS) {
        s->delay_ms = 0;
    }
    uv_timer_start(&s->restart, on_restart, (uint64_t)s->delay_ms, 0);
    s->delay_ms = s->delay_ms == 0 ? s->limits.restart_delay_ms : 2 * s->delay_ms;
    if (s->delay_ms > s->limits.restart_delay_max_ms) {
        s->delay_ms = s->limits.restart_delay_max_ms;
    }
}

/* The process is reaped and the socket at its end: everything it said has been heard. */
static void worker_is_gone(struct supervisor *s)
{
    char reason[300];

    describe_end(s, reason, sizeof(reason));
    uv_timer_stop(&s->grace);
    uv_timer_stop(&s->heartbeat);
    uv_timer_stop(&s->resume);
    s->failures = s->ready ? 0 : s->failures + 1;
    s->refusals += !s->ready && s->exit_signal == 0 ? 1 : 0;
    if (s->closing || (s->refused && !s->ever_ready)) {
        log_info("worker ended: %s", reason);
    } else {
        log_warn("worker ended: %s; starting another", reason);
    }
    jobs_on_down(s->device, reason, s->failures >= BROKEN);
    talk_done(&s->talk);
    wire_decoder_done(&s->decoder);
    if (s->closing) {
        finish_closing(s);
    } else if (!s->ever_ready && (s->refused || s->refusals >= HOPELESS)) {
        s->options.hopeless(s->options.ctx, reason);
    } else {
        schedule_restart(s);
    }
}

static void check_gone(struct supervisor *s)
{
    if (!s->running && !s->connected && s->open_handles == 0) {
        worker_is_gone(s);
    }
}

static void forget_process(uv_handle_t *handle)
{
    struct supervisor *s = handle->data;

    s->open_handles--;
    check_gone(s);
}

static void close_pipe(struct supervisor *s)
{
    if (s->connected) {
        s->connected = false;
        s->open_handles++;
        uv_close((uv_handle_t *)&s->pipe, forget_process);
    }
}

static void on_exit_of_worker(uv_process_t *process, int64_t status, int term_signal)
{
    struct supervisor *s = process->data;

    s->running = false;
    s->exit_status = status;
    s->exit_signal = term_signal;
    s->open_handles++;
    uv_close((uv_handle_t *)process, forget_process);
    if (!s->reading) { /* nobody would see the end of the socket */
        close_pipe(s);
    }
}

void supervisor_kill(struct supervisor *s, const char *reason)
{
    if (s->running && !s->dying) {
        s->dying = true;
        snprintf(s->reason, sizeof(s->reason), "%s", reason);
        uv_process_kill(&s->process, SIGKILL);
    }
}

/* ---- listening ---- */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char buffer[READ_SIZE]; /* one worker is read at a time, and at once */

    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(buffer, sizeof(buffer));
}

static int hear(struct supervisor *s, const uint8_t *data, size_t len, struct err *err)
{
    s->heard_at_ms = uv_now(s->options.loop); /* whatever it says, it lives */
    while (len > 0) {
        struct wire_frame frame;
        bool complete = false;
        size_t used = 0;
        int rc = wire_decode(&s->decoder, data, len, &used, &frame, &complete, err);

        if (rc == ERR_OK && complete && frame.header.type != WIRE_PONG) {
            rc = talk_frame(s, &frame, err);
        }
        if (rc != ERR_OK) {
            return rc;
        }
        data += used;
        len -= used;
    }
    return ERR_OK;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void on_resume(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;

    if (jobs_backlog(s->options.jobs) > MAX_BACKLOG && s->running) {
        uv_timer_start(timer, on_resume, RESUME_MS, 0);
    } else if (s->connected) {
        s->reading = true;
        s->heard_at_ms = uv_now(s->options.loop); /* its PONG waits behind the rest */
        uv_read_start((uv_stream_t *)&s->pipe, give_buffer, on_read);
    }
}

/* The disk is slower than the worker: it has to wait, and waits in its send(). */
static void pause_reading(struct supervisor *s)
{
    s->reading = false;
    uv_read_stop((uv_stream_t *)&s->pipe);
    uv_timer_start(&s->resume, on_resume, RESUME_MS, 0);
}

static void on_still_there(uv_timer_t *timer)
{
    supervisor_kill(timer->data, "it closed its socket");
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct supervisor *s = stream->data;
    struct err err;

    if (n < 0) { /* as a rule it has just ended, and how is told in a moment */
        close_pipe(s);
        uv_timer_start(&s->resume, on_still_there, EXIT_MS, 0);
        return;
    }
    if (s->dying) { /* what a killed worker said before its end is not believed */
        return;
    }
    if (hear(s, (const uint8_t *)buf->base, (size_t)n, &err) != ERR_OK) {
        log_err("worker: %s; killing it", err.msg);
        supervisor_kill(s, "it could not be understood");
    } else if (jobs_backlog(s->options.jobs) > MAX_BACKLOG) {
        pause_reading(s);
    }
}

/* ---- speaking ---- */

struct message {
    uv_write_t write;
    uint8_t header[WIRE_HEADER];
    char *payload; /* owned */
};

static void sent(uv_write_t *write, int status)
{
    struct message *m = CONTAINER_OF(write, struct message, write);

    (void)status; /* a broken socket is seen by reading */
    free(m->payload);
    free(m);
}

void supervisor_send(struct supervisor *s, enum wire_type type, uint32_t seq, char *payload,
                     size_t len)
{
    const struct wire_header header = {.type = type, .length = (uint32_t)len, .job = seq};
    struct message *m = s->connected && !s->dying ? calloc(1, sizeof(*m)) : NULL;
    uv_buf_t bufs[2];

    if (!m) {
        free(payload);
        if (s->connected) {
            supervisor_kill(s, "out of memory for a message to it");
        }
        return;
    }
    m->payload = payload;
    wire_encode_header(m->header, &header);
    bufs[0] = uv_buf_init((char *)m->header, WIRE_HEADER);
    bufs[1] = uv_buf_init(payload, (unsigned)len);
    if (uv_write(&m->write, (uv_stream_t *)&s->pipe, bufs, len > 0 ? 2 : 1, sent) != 0) {
        free(m->payload);
        free(m);
        supervisor_kill(s, "it could not be written to");
    }
}

static void on_heartbeat(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;

    if (s->reading && uv_now(s->options.loop) - s->heard_at_ms > SILENCE_MS) {
        log_err("worker answers no ping since %d s; killing it", SILENCE_MS / 1000);
        supervisor_kill(s, "it did not answer");
        return;
    }
    supervisor_send(s, WIRE_PING, 0, NULL, 0);
}

static void on_grace(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;

    log_warn("worker did not let go of a cancelled job within %" PRId64 " ms; killing it",
             s->limits.cancel_grace_ms);
    supervisor_kill(s, "it did not stop when it was cancelled");
}

void supervisor_start_grace(struct supervisor *s)
{
    if (s->closing) { /* the timer runs for the end */
        return;
    }
    uv_timer_start(&s->grace, on_grace, (uint64_t)s->limits.cancel_grace_ms, 0);
}

void supervisor_stop_grace(struct supervisor *s)
{
    if (!s->closing) {
        uv_timer_stop(&s->grace);
    }
}

void supervisor_is_ready(struct supervisor *s, const struct model_facts *facts)
{
    log_info("worker ready pid=%d model=%s device=\"%s\"", s->process.pid, facts->id,
             facts->device);
    s->ready = true;
    s->ever_ready = true;
    s->failures = 0;
    s->ready_at_ms = uv_now(s->options.loop);
    s->heard_at_ms = s->ready_at_ms;
    uv_timer_start(&s->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    jobs_on_ready(s->device, facts);
}

/* ---- starting ---- */

/* The worker's command line: pointers into itself and to what the options borrow. */
struct command_line {
    char number[5][24];
    char *args[MAX_ARGS];
    int n;
};

static void add(struct command_line *c, const char *name, const char *value)
{
    if (value) {
        CHECK_BUG(c->n + 2 < MAX_ARGS);
        c->args[c->n++] = (char *)name;
        c->args[c->n++] = (char *)value;
    }
}

static const char *number(char text[24], int64_t n)
{
    snprintf(text, 24, "%" PRId64, n);
    return text;
}

static void make_command_line(struct command_line *c, const struct supervisor_options *o)
{
    *c = (struct command_line){.n = 0};
    add(c, "sanad", "worker");
    if (o->device.deterministic) {
        c->args[c->n++] = "--deterministic";
    }
    add(c, "--fd", number(c->number[0], WORKER_FD));
    add(c, "--model", o->model);
    add(c, "--device", o->device.device);
    add(c, "--precision", o->device.precision);
    add(c, "--text-encoder", o->device.text_encoder);
    add(c, "--vram-limit", number(c->number[1], o->device.vram_limit));
    add(c, "--algorithms", o->device.algos);
    add(c, "--threads", number(c->number[2], o->device.threads));
    add(c, "--checkpoint-interval-ms", number(c->number[3], o->checkpoint_interval_ms));
    add(c, "--log-level", number(c->number[4], (int)log_get_level()));
}

static int spawn(struct supervisor *s, int fd, struct err *err)
{
    const char *command = s->options.command ? s->options.command : "/proc/self/exe";
    struct command_line line;
    uv_stdio_container_t stdio[5] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = fd},
        {.flags = UV_INHERIT_FD, .data.fd = s->options.lock_fd},
    };
    const uv_process_options_t options = {
        .exit_cb = on_exit_of_worker,
        .file = command,
        .args = line.args,
        .stdio = stdio,
        .stdio_count = s->options.lock_fd >= 0 ? 5 : 4,
    };
    int rc;

    make_command_line(&line, &s->options);
    s->process.data = s;
    s->spawn_failed = true; /* unless: from here on there is a handle to be closed */
    rc = uv_spawn(s->options.loop, &s->process, &options);
    if (rc != 0) {
        return err_set(err, ERR_IO, "a worker could not be started from '%s': %s", command,
                       uv_strerror(rc));
    }
    s->spawn_failed = false;
    return ERR_OK;
}

static void connect_pipe(struct supervisor *s, int fd)
{
    uv_pipe_init(s->options.loop, &s->pipe, 0);
    s->pipe.data = s;
    uv_pipe_open(&s->pipe, fd);
    s->connected = true;
    s->reading = true;
    uv_read_start((uv_stream_t *)&s->pipe, give_buffer, on_read);
}

static int try_start(struct supervisor *s, struct err *err)
{
    int pair[2];
    int rc;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return err_set(err, ERR_IO, "a socket for the worker: %m");
    }
    rc = spawn(s, pair[1], err);
    close(pair[1]);
    if (rc != ERR_OK) {
        close(pair[0]);
        return rc;
    }
    s->running = true;
    s->dying = false;
    s->ready = false;
    s->reason[0] = '\0';
    wire_decoder_init(&s->decoder);
    talk_init(&s->talk);
    connect_pipe(s, pair[0]);
    return ERR_OK;
}

static void try_again_later(struct supervisor *s)
{
    if (s->closing) {
        finish_closing(s);
    } else if (!s->ever_ready && s->refusals >= HOPELESS) {
        s->options.hopeless(s->options.ctx, s->reason);
    } else {
        schedule_restart(s);
    }
}

static void spawn_forgotten(uv_handle_t *handle)
{
    struct supervisor *s = handle->data;

    s->spawn_failed = false;
    try_again_later(s);
}

static void start_worker(struct supervisor *s)
{
    struct err err;

    if (try_start(s, &err) != ERR_OK) {
        log_err("%s; trying again", err.msg);
        s->failures++;
        s->refusals++;
        snprintf(s->reason, sizeof(s->reason), "%.250s", err.msg);
        jobs_on_down(s->device, err.msg, s->failures >= BROKEN);
        if (s->spawn_failed) {
            uv_close((uv_handle_t *)&s->process, spawn_forgotten);
        } else {
            try_again_later(s);
        }
    }
}

int supervisor_open(struct supervisor **ret, const struct supervisor_options *options,
                    const struct supervisor_limits *limits, struct err *err)
{
    struct supervisor *s = calloc(1, sizeof(*s));
    uv_timer_t *timers[4];
    int rc;

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "the worker's supervisor");
    }
    s->options = *options;
    s->limits = *limits;
    rc = jobs_add_device(options->jobs, &talk_ops, s, &s->device, err);
    if (rc != ERR_OK) {
        free(s);
        return rc;
    }
    timers[0] = &s->restart;
    timers[1] = &s->grace;
    timers[2] = &s->heartbeat;
    timers[3] = &s->resume;
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        uv_timer_init(options->loop, timers[i]);
        timers[i]->data = s;
    }
    *ret = s;
    start_worker(s);
    return ERR_OK;
}

void supervisor_configure(struct supervisor *s, const struct supervisor_limits *limits)
{
    s->limits = *limits;
}

/* ---- closing ---- */

static void on_patience_over(uv_timer_t *timer)
{
    supervisor_kill(timer->data, "it did not end when it was asked to");
}

void supervisor_close(struct supervisor *s, int64_t grace_ms, void (*done)(void *ctx), void *ctx)
{
    s->closing = true;
    s->closed = done;
    s->closed_ctx = ctx;
    uv_timer_stop(&s->restart);
    if (s->running) {
        supervisor_send(s, WIRE_SHUTDOWN, 0, NULL, 0);
        uv_timer_start(&s->grace, on_patience_over, (uint64_t)grace_ms, 0);
    } else if (!s->connected && s->open_handles == 0 && !s->spawn_failed) {
        finish_closing(s);
    } /* else it is on its way: check_gone, or spawn_forgotten */
}
