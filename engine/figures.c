#include "engine/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/noise.h"

enum {
    WARM_UPS = 2, /* the first run finds algorithms, the second records */
    RUNS = 7,
    RUNS_QUICK = 3,
    BATCH = 8, /* short operations are timed together */
    SIDE_LARGEST = 8192,
    SIDE_LEAST = 1024,
    SIDE_TINY = 64
};

#define COPY_LARGEST ((int64_t)1 << 30)
#define COPY_TINY    ((int64_t)1 << 16)

void figures_init(struct figures *f, struct device *dev, const struct figures_options *options)
{
    *f = (struct figures){.dev = dev, .options = *options};
}

/* ---- telling ---- */

void figures_report(const struct figures *f, const struct figure *figure)
{
    struct figure told = *figure;

    if (f->options.tiny || f->dev->act != DTYPE_BF16) {
        told.goal = 0;
    }
    f->options.on_figure(f->options.ctx, &told);
}

bool figures_json_text(struct str *out, const char *text)
{
    bool ok = str_add(out, "\"");

    for (; *text && ok; text++) {
        if ((unsigned char)*text < 0x20) {
            ok = str_addf(out, "\\u%04x", (unsigned)*text);
        } else {
            ok = str_addf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
        }
    }
    return ok && str_add(out, "\"");
}

/* JSON has no other numbers. */
static bool add_number(struct str *out, const char *key, double value)
{
    return isfinite(value) ? str_addf(out, ",\"%s\":%.6g", key, value)
                           : str_addf(out, ",\"%s\":null", key);
}

bool figure_json(struct str *out, const struct figure *figure)
{
    bool ok = str_addf(out, "{\"key\":\"%s\",\"name\":", figure->key) &&
              figures_json_text(out, figure->name) && str_add(out, ",\"unit\":") &&
              figures_json_text(out, figure->unit) && add_number(out, "value", figure->value);

    if (ok && figure->bound > 0) {
        ok = add_number(out, "bound", figure->bound);
    }
    if (ok && figure->goal > 0) {
        ok = add_number(out, "goal_h200", figure->goal) &&
             str_addf(out, ",\"goal_is\":\"at %s\"", figure->at_most ? "most" : "least");
    }
    return ok && str_add(out, "}");
}

void figures_print_head(FILE *out)
{
    fprintf(out, "%-46s %10s %-11s %10s %7s  %s\n", "", "measured", "", "bound", "reached",
            "goal (H200)");
}

void figure_print(const struct figure *figure, FILE *out)
{
    char bound[16] = "";
    char reached[16] = "";
    char goal[24] = "";

    if (figure->bound > 0 && figure->value > 0) {
        const double share =
            figure->at_most ? figure->bound / figure->value : figure->value / figure->bound;

        snprintf(bound, sizeof(bound), "%.4g", figure->bound);
        snprintf(reached, sizeof(reached), "%.0f %%", 100 * share);
    }
    if (figure->goal > 0) {
        snprintf(goal, sizeof(goal), "%s %.4g", figure->at_most ? "<=" : ">=", figure->goal);
    }
    fprintf(out, "%-46s %10.*g %-11s %10s %7s  %s\n", figure->name,
            strcmp(figure->unit, "cosine") == 0 ? 6 : 4, figure->value, figure->unit, bound,
            reached, goal);
    fflush(out);
}

/* ---- time ---- */

static int compare_times(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static int time_once(struct figures *f, figures_issue_fn issue, void *ctx, double *ret_ms,
                     struct err *err)
{
    const int64_t start = clock_now_ns();
    int rc = issue(ctx, err);

    if (rc == ERR_OK) {
        rc = device_mark(f->dev, DEVICE_MARK_STEP_A, err);
    }
    if (rc == ERR_OK) {
        rc = device_wait(f->dev, DEVICE_MARK_STEP_A, err);
    }
    *ret_ms = 1e3 * clock_seconds(clock_now_ns() - start);
    return rc;
}

int figures_time(struct figures *f, figures_issue_fn issue, void *ctx, double *ret_ms,
                 struct err *err)
{
    const int runs = f->options.tiny ? 1 : f->options.quick ? RUNS_QUICK : RUNS;
    const int warm_ups = f->options.tiny ? 1 : WARM_UPS;
    double ms[RUNS];
    int rc = ERR_OK;

    for (int i = 0; i < warm_ups && rc == ERR_OK; i++) {
        rc = time_once(f, issue, ctx, &ms[0], err);
    }
    for (int i = 0; i < runs && rc == ERR_OK; i++) {
        rc = time_once(f, issue, ctx, &ms[i], err);
    }
    if (rc == ERR_OK) {
        qsort(ms, (size_t)runs, sizeof(ms[0]), compare_times);
        *ret_ms = ms[runs / 2];
    }
    return rc;
}

/* ---- ceilings ---- */

struct ceiling {
    struct figures *f;
    struct tensor y, x, w;
};

static int copy_batch(void *ctx, struct err *err)
{
    struct ceiling *c = ctx;
    int rc = ERR_OK;

    for (int i = 0; i < BATCH && rc == ERR_OK; i++) {
        rc = op_copy(c->f->dev, &c->y, &c->x, err);
    }
    return rc;
}

static int multiply_batch(void *ctx, struct err *err)
{
    const struct matmul_epilogue plain = {0};
    struct ceiling *c = ctx;
    int rc = ERR_OK;

    for (int i = 0; i < BATCH && rc == ERR_OK; i++) {
        rc = op_matmul(c->f->dev, &c->y, &c->x, &c->w, &plain, err);
    }
    return rc;
}

static size_t free_bytes(const struct figures *f)
{
    struct device_memory memory;

    device_memory(f->dev, &memory);
    return memory.free;
}

static int copy_bandwidth(struct figures *f, struct err *err)
{
    struct ceiling c = {.f = f};
    int64_t bytes = f->options.tiny ? COPY_TINY : COPY_LARGEST;
    void *memory;
    double ms = 0;
    int rc;

    while (!f->options.tiny && (size_t)bytes > free_bytes(f) / 4 && bytes > COPY_TINY) {
        bytes /= 2;
    }
    rc = device_alloc(f->dev, (size_t)bytes * 2, &memory, err);
    if (rc != ERR_OK) {
        return rc;
    }
    c.x = TENSOR_F32(memory, bytes / 4);
    c.y = TENSOR_F32((char *)memory + bytes, bytes / 4);
    rc = op_noise(f->dev, &c.x, 1, 0, 0, err);
    if (rc == ERR_OK) {
        rc = figures_time(f, copy_batch, &c, &ms, err);
    }
    device_free(f->dev, memory);
    if (rc == ERR_OK) {
        f->bandwidth = 2.0 * (double)bytes * BATCH / (ms * 1e-3);
        figures_report(f, &(struct figure){.key = "ceiling.copy",
                                           .name = "copying, read and written",
                                           .unit = "GB/s",
                                           .value = f->bandwidth / 1e9});
    }
    return rc;
}

/* Random numbers: zeros are faster. */
static int fill_factors(struct figures *f, struct ceiling *c, const struct tensor *noise,
                        struct err *err)
{
    int rc = op_noise(f->dev, noise, 2, 0, 0, err);

    if (rc == ERR_OK) {
        rc = op_cast(f->dev, &c->x, noise, err);
    }
    if (rc == ERR_OK) {
        rc = op_noise(f->dev, noise, 3, 0, 0, err);
    }
    return rc == ERR_OK ? op_cast(f->dev, &c->w, noise, err) : rc;
}

static int product_rate(struct figures *f, struct err *err)
{
    const enum dtype act = f->dev->act;
    int64_t side = f->options.tiny ? SIDE_TINY : SIDE_LARGEST;
    struct ceiling c = {.f = f};
    struct tensor noise;
    char *memory;
    void *base;
    double ms = 0;
    size_t bytes;
    int rc;

    while (side > SIDE_LEAST && (size_t)(side * side) * 16 > free_bytes(f) / 2) {
        side /= 2;
    }
    bytes = (size_t)(side * side) * dtype_size(act);
    rc = device_alloc(f->dev, 3 * bytes + (size_t)(side * side) * sizeof(float), &base, err);
    if (rc != ERR_OK) {
        return rc;
    }
    memory = base;
    c.x = TENSOR_OF(memory, act, side, side);
    c.w = TENSOR_OF(memory + bytes, act, side, side);
    c.y = TENSOR_OF(memory + 2 * bytes, act, side, side);
    noise = TENSOR_F32(memory + 3 * bytes, side, side);
    rc = fill_factors(f, &c, &noise, err);
    if (rc == ERR_OK) {
        rc = figures_time(f, multiply_batch, &c, &ms, err);
    }
    device_free(f->dev, base);
    if (rc == ERR_OK) {
        f->rate = 2.0 * (double)side * (double)side * (double)side * BATCH / (ms * 1e-3);
        figures_report(f, &(struct figure){.key = "ceiling.product",
                                           .name = "a large matrix product",
                                           .unit = "TFLOP/s",
                                           .value = f->rate / 1e12});
    }
    return rc;
}

int figures_ceilings(struct figures *f, struct err *err)
{
    const int rc = copy_bandwidth(f, err);

    return rc == ERR_OK ? product_rate(f, err) : rc;
}

/* ---- bounds ---- */

/*
 * The published transformer, 20 layers, D = 2240, M = 6720. Matrix products per token and layer: q, k, v 3 D^2;
 * both outputs, cross q 3 D^2; temporal convolution 3 D^2; feed-forward 3 M D; two FLOP each. Between them 27
 * passes over [tokens, D], cut down to what cannot be fused.
 */
double figures_forward_bound(const struct figures *f, const struct figures_forward *shape)
{
    const double d = 2240;
    const double m = 6720;
    const int64_t rows = shape->n_items * shape->frames * (shape->h / 2) * (shape->w / 2);
    const double tokens = (double)rows;
    const double flop = 2 * d * (9 * d + 3 * m);
    const double bytes = 27 * d * (double)dtype_size(f->dev->act);

    if (f->options.tiny || f->rate <= 0 || f->bandwidth <= 0) {
        return 0;
    }
    return 1e3 * 20 * tokens * (flop / f->rate + bytes / f->bandwidth);
}

/* The published Wan decoder: 13.55 TFLOP and 8 GB (bf16) for a latent frame of 60 x 104 cells. */
double figures_decode_bound(const struct figures *f, int64_t frames, int64_t h, int64_t w)
{
    const double cells = (double)(frames * h * w) / (60.0 * 104.0);
    const double bytes = 4e9 * (double)dtype_size(f->dev->act);

    if (f->options.tiny || f->rate <= 0 || f->bandwidth <= 0) {
        return 0;
    }
    return 1e3 * cells * (13.55e12 / f->rate + bytes / f->bandwidth);
}

/* ---- memory ---- */

void figures_memory(struct figures *f)
{
    struct device_memory memory;

    device_memory(f->dev, &memory);
    figures_report(f, &(struct figure){.key = "memory.peak",
                                       .name = "device memory, the most that was taken",
                                       .unit = "GB",
                                       .value = (double)memory.peak / 1e9,
                                       .goal = 18,
                                       .at_most = true});
}
