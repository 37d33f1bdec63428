/*
 * progress.h - what `sanad generate` says while it works: a bar on a terminal, lines otherwise, JSON
 * events with --json (one object per line, on standard output).
 *
 * progress_step() on the engine's thread, progress_block() on the encoder's; each writes whole lines.
 */
#ifndef DAEMON_PROGRESS_H
#define DAEMON_PROGRESS_H

#include <stdatomic.h>

#include "worker/render.h"

enum progress_style {
    PROGRESS_BAR,
    PROGRESS_LINES,
    PROGRESS_JSON,
};

struct progress {
    enum progress_style style;
    int64_t start_ns;
    int64_t last_ns;          /* of the bar or line drawn last */
    enum session_phase phase; /* of that */
    atomic_int_fast64_t pictures_done;
    int64_t pictures;
};

/* Chooses the style: JSON if asked, else a bar if stderr is a terminal. Starts the clock. */
void progress_init(struct progress *p, bool json);

/* Settings are known; work begins. */
void progress_start(struct progress *p, const struct session_settings *set, const char *model_id,
                    const char *device, size_t memory_bytes, const char *path);

void progress_step(struct progress *p, const struct session_progress *step);
void progress_block(struct progress *p, const struct render_block *block);

/* The end: code ERR_OK, or what went wrong (`message`). */
void progress_done(struct progress *p, const char *path, int64_t bytes);
void progress_failed(struct progress *p, const struct err *err);

#endif
