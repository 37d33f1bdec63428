/*
 * figures.h - what a device makes of the published models: the measurements of `sanad bench` and `make gpu-check`
 *
 * Models are synthetic (model_synthetic.h), so a device is all that is needed. What the device was measured to
 * copy and to multiply comes first; it gives each later figure its bound: all arithmetic at the measured rate of
 * a large matrix product, all bytes that must move at the measured bandwidth. Times are medians behind
 * runs that do not count. Each figure is handed on when it is known. Engine thread.
 */
#ifndef ENGINE_FIGURES_H
#define ENGINE_FIGURES_H

#include <stdio.h>

#include "base/str.h"
#include "engine/model_synthetic.h"
#include "engine/session.h"
#include "kernels/workspace.h"

/* Texts live as long as the program. */
struct figure {
    const char *key;  /* "longsana.rate" */
    const char *name; /* for people */
    const char *unit;
    double value;
    double bound; /* what the ceilings allow, in the same unit; 0: none */
    double goal;  /* on an NVIDIA H200 in bf16; 0: none */
    bool at_most; /* less is better */
};

struct figures_options {
    bool quick; /* fewer repetitions */
    bool tiny;  /* a few channels, small pictures: to try the program */
    void *ctx;
    void (*on_figure)(void *ctx, const struct figure *figure);
};

struct figures {
    struct device *dev; /* borrowed */
    struct figures_options options;
    double bandwidth; /* bytes/s, read and written; 0: not measured */
    double rate;      /* FLOP/s in the device's precision */
    double block_ms,
        decode_ms; /* figures_longsana()'s: a forward of a block, a latent frame decoded */
};

void figures_init(struct figures *f, struct device *dev, const struct figures_options *options);

/* Errors of all that measure: ERR_NO_VRAM, ERR_NO_MEMORY, ERR_DEVICE, ERR_NUMERIC. */
MUST_CHECK int figures_ceilings(struct figures *f, struct err *err);

/* LongSANA at 832x480: a session, its parts, and what a minute's session reserves. */
MUST_CHECK int figures_longsana(struct figures *f, struct err *err);

/* 81 frames at 832x480 with guidance. */
MUST_CHECK int figures_clip(struct figures *f, struct err *err);

/* Memory: the most that was taken so far. */
void figures_memory(struct figures *f);

/* ---- what they are made of ---- */

/* Milliseconds until what `issue` issues is done on the device: the median. */
typedef int (*figures_issue_fn)(void *ctx, struct err *err);
MUST_CHECK int figures_time(struct figures *f, figures_issue_fn issue, void *ctx, double *ret_ms,
                            struct err *err);

/* n_items sequences of `frames` latent frames of h x w cells, with a full prompt each. */
struct figures_forward {
    int n_items; /* 1..2 */
    int64_t frames, h, w;
    bool unrecorded; /* each operation is launched on its own, not all of them as one graph */
};
MUST_CHECK int figures_time_forward(struct figures *f, struct model *model,
                                    const struct figures_forward *shape, double *ret_ms,
                                    struct err *err);

/* `frames` latent frames of h x w cells in one call, in the middle of a video where the VAE streams. */
MUST_CHECK int figures_time_decode(struct figures *f, struct model *model, int64_t frames,
                                   int64_t h, int64_t w, double *ret_ms, struct err *err);

/* Milliseconds that the ceilings allow; 0: not measured, or not a published shape. */
double figures_forward_bound(const struct figures *f, const struct figures_forward *shape);
double figures_decode_bound(const struct figures *f, int64_t frames, int64_t h, int64_t w);

/* Hands a figure on. */
void figures_report(const struct figures *f, const struct figure *figure);

/* One JSON object. False as str_add() says it. */
bool figure_json(struct str *out, const struct figure *figure);

/* "..." with what JSON wants escaped. */
bool figures_json_text(struct str *out, const char *text);

/* The figure as a line of a table, and the line above the table. */
void figure_print(const struct figure *figure, FILE *out);
void figures_print_head(FILE *out);

#endif
