/*
 * supervisor_internal.h - between supervisor.c (the process, the socket) and worker_talk.c (what is said).
 */
#ifndef DAEMON_SUPERVISOR_INTERNAL_H
#define DAEMON_SUPERVISOR_INTERNAL_H

#include "daemon/supervisor.h"
#include "worker/wire.h"

/* Something that was asked of the worker and is not answered. */
struct talk_prepare {
    uint32_t seq;
    struct job *job; /* a reference */
};

/* What was said, what is being said. Made anew for each worker. */
struct talk {
    uint32_t last_seq;
    uint32_t seq;    /* of the job that is made or finished; 0: none */
    struct job *job; /* a reference */
    int n_prepares, cap_prepares;
    struct talk_prepare *prepares; /* owned [n], in order of seq */
    struct str init, fragment, latents, state;
};

struct supervisor {
    struct supervisor_options options;
    struct supervisor_limits limits;
    struct jobs_device *device;

    /* The process. */
    uv_process_t process;
    uv_pipe_t pipe;
    uv_timer_t restart, grace, heartbeat, resume;
    int open_handles; /* that close together */
    bool running;     /* the process is there */
    bool connected;   /* the pipe is open */
    bool dying;       /* it was killed, or the pipe is at its end */
    bool ready;
    bool reading;
    bool spawn_failed; /* the handle of a process that never was is being closed */
    char reason[256];  /* why we killed it, or why it could not begin; "": neither */
    int64_t exit_status;
    int exit_signal;
    int failures; /* starts in a row without READY */
    int refusals; /* of these, ends of its own accord: it was not killed */
    bool refused; /* it said why it cannot begin: the next one would say the same */
    bool ever_ready;
    int64_t delay_ms; /* before the next start */
    uint64_t ready_at_ms, heard_at_ms;
    struct wire_decoder decoder;
    struct talk talk;

    /* The end. */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* ---- supervisor.c ---- */

/* Takes payload (malloc, may be NULL). A worker that cannot be written to is killed. */
void supervisor_send(struct supervisor *s, enum wire_type type, uint32_t seq, char *payload,
                     size_t len);
/* The worker is not to be believed, or not to be waited for. */
void supervisor_kill(struct supervisor *s, const char *reason);
void supervisor_start_grace(struct supervisor *s);
void supervisor_stop_grace(struct supervisor *s);
void supervisor_is_ready(struct supervisor *s, const struct model_facts *facts);

/* ---- worker_talk.c ---- */

void talk_init(struct talk *t);
void talk_done(struct talk *t);
/* What jobs/ asks for; ctx is the supervisor. */
extern const struct jobs_device_ops talk_ops;
/* A frame has come. Errors: ERR_FORMAT: it makes no sense. */
MUST_CHECK int talk_frame(struct supervisor *s, const struct wire_frame *frame, struct err *err);

#endif
