/*
 * gpu_check.h - the parts of `make gpu-check` that need the engine, without the daemon and its libraries.
 *
 * Every part opens the GPU for itself and appends what it finds to a file of JSON lines at once, so that one that
 * dies takes nothing along. One thread.
 */
#ifndef BENCH_GPU_GPU_CHECK_H
#define BENCH_GPU_GPU_CHECK_H

#include "engine/figures.h"

struct gpu_check {
    const char *part; /* its name, in each line */
    FILE *json;       /* owned; NULL: not wanted */
    const char *dir;  /* where `dump` writes */
    bool quick, tiny;
    int failed; /* checks that did not hold */
};

/* Opens GPU 0. deterministic: what must give the same bits twice. */
MUST_CHECK int gpu_check_open(struct device *dev, bool f32, bool deterministic, struct err *err);

/* A figure: printed, and appended. */
void gpu_check_figure(void *ctx, const struct figure *figure);

/* A figure that must hold: at least or at most `limit`. */
void gpu_check_limit(struct gpu_check *c, const struct figure *figure, double limit);

/* What went wrong, where the part goes on: printed, appended, and counted as failed. */
void gpu_check_note(struct gpu_check *c, const struct err *err);

/* A model's options, with c->tiny. */
struct model_synthetic_options gpu_check_model(const struct gpu_check *c, enum model_family family);

/* The parts. Errors: those of the engine; a check that fails is not an error. */
MUST_CHECK int gpu_check_facts(struct gpu_check *c, struct err *err);
MUST_CHECK int gpu_check_figures(struct gpu_check *c, struct err *err);
MUST_CHECK int gpu_check_precision(struct gpu_check *c, struct err *err);
MUST_CHECK int gpu_check_same(struct gpu_check *c, struct err *err);
MUST_CHECK int gpu_check_dump(struct gpu_check *c, struct err *err);

#endif
