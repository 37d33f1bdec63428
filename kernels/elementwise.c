#include "kernels/elementwise.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

enum {
    CHUNK = 1 << 15, /* elements per task */
    BLOCK = 256      /* elements summed in a buffer, because y may be any of the terms */
};

struct elementwise_job {
    float *y;
    const float *x[LINEAR_COMBINE_MAX];
    float coef[LINEAR_COMBINE_MAX];
    int terms;
    int64_t n;
    atomic_bool bad;
};

/* Bounds of one task's chunk. */
static int64_t chunk_first(int64_t task)
{
    return task * CHUNK;
}

static int64_t chunk_end(const struct elementwise_job *job, int64_t task)
{
    return job->n - task * CHUNK < CHUNK ? job->n : (task + 1) * CHUNK;
}

static void run(struct device *dev, struct elementwise_job *job, thread_pool_fn fn)
{
    device_parallel(dev, div_ceil(job->n, CHUNK), fn, job);
}

static int check_pair(const char *op, const struct tensor *y, const char *arg,
                      const struct tensor *x, struct err *err)
{
    if (y->dtype != DTYPE_F32) {
        return device_shape_err(err, op, "y", y);
    }
    if (x->dtype != DTYPE_F32 || tensor_count(x) != tensor_count(y)) {
        return device_shape_err(err, op, arg, x);
    }
    return ERR_OK;
}

/* Likewise, of types that activations may have. */
static int check_act_pair(const struct device *dev, const char *op, const struct tensor *y,
                          const struct tensor *x, struct err *err)
{
    if (!device_is_act(dev, y)) {
        return device_shape_err(err, op, "y", y);
    }
    if (!device_is_act(dev, x) || tensor_count(x) != tensor_count(y)) {
        return device_shape_err(err, op, "x", x);
    }
    return ERR_OK;
}

static int fill_cpu(struct device *dev, const struct tensor *y, float value, struct err *err)
{
    float *p = y->data;

    (void)err;
    (void)dev;
    for (int64_t i = 0; i < tensor_count(y); i++) {
        p[i] = value;
    }
    return ERR_OK;
}

int op_fill(struct device *dev, const struct tensor *y, float value, struct err *err)
{
    if (!device_is_act(dev, y)) {
        return device_shape_err(err, "fill", "y", y);
    }
    return DEVICE_CALL(dev, fill, y, value, err);
}

static int copy_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                    struct err *err)
{
    (void)err;
    (void)dev;
    if (y->data != x->data) {
        memcpy(y->data, x->data, tensor_bytes(x));
    }
    return ERR_OK;
}

int op_copy(struct device *dev, const struct tensor *y, const struct tensor *x, struct err *err)
{
    if (y->dtype != x->dtype || tensor_count(y) != tensor_count(x)) {
        return device_shape_err(err, "copy", "y", y);
    }
    return DEVICE_CALL(dev, copy, y, x, err);
}

static int cast_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                    struct err *err)
{
    return copy_cpu(dev, y, x, err);
}

int op_cast(struct device *dev, const struct tensor *y, const struct tensor *x, struct err *err)
{
    const int rc = check_act_pair(dev, "cast", y, x, err);

    return rc != ERR_OK ? rc : DEVICE_CALL(dev, cast, y, x, err);
}

static void silu_task(void *ctx, int64_t task, int thread)
{
    struct elementwise_job *job = ctx;
    const int64_t first = chunk_first(task);

    (void)thread;
    vec_silu(job->y + first, job->x[0] + first, chunk_end(job, task) - first);
}

static int silu_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                    struct err *err)
{
    struct elementwise_job job = {.y = y->data, .x = {x->data}, .n = tensor_count(y)};

    (void)err;
    run(dev, &job, silu_task);
    return ERR_OK;
}

int op_silu(struct device *dev, const struct tensor *y, const struct tensor *x, struct err *err)
{
    int rc = check_act_pair(dev, "silu", y, x, err);

    if (rc == ERR_OK && y->dtype == DTYPE_F32 && x->dtype != DTYPE_F32) {
        rc = device_shape_err(err, "silu", "y", y);
    }
    return rc != ERR_OK ? rc : DEVICE_CALL(dev, silu, y, x, err);
}

static void combine_block(const struct elementwise_job *job, int64_t first, int64_t n)
{
    float sum[BLOCK];

    for (int64_t i = 0; i < n; i++) {
        sum[i] = job->coef[0] * job->x[0][first + i];
    }
    for (int t = 1; t < job->terms; t++) {
        const float *x = job->x[t] + first;

        for (int64_t i = 0; i < n; i++) {
            sum[i] += job->coef[t] * x[i];
        }
    }
    memcpy(job->y + first, sum, (size_t)n * sizeof(*sum));
}

static void linear_combine_task(void *ctx, int64_t task, int thread)
{
    const struct elementwise_job *job = ctx;
    const int64_t end = chunk_end(job, task);

    (void)thread;
    for (int64_t i = chunk_first(task); i < end; i += BLOCK) {
        combine_block(job, i, end - i < BLOCK ? end - i : BLOCK);
    }
}

static int linear_combine_cpu(struct device *dev, const struct tensor *y, int n, const float *coef,
                              const struct tensor *const *x, struct err *err)
{
    struct elementwise_job job = {.y = y->data, .terms = n, .n = tensor_count(y)};

    (void)err;
    for (int i = 0; i < n; i++) {
        job.coef[i] = coef[i];
        job.x[i] = x[i]->data;
    }
    run(dev, &job, linear_combine_task);
    return ERR_OK;
}

int op_linear_combine(struct device *dev, const struct tensor *y, int n, const float *coef,
                      const struct tensor *const *x, struct err *err)
{
    if (n < 1 || n > LINEAR_COMBINE_MAX) {
        return err_set(err, ERR_INVALID, "linear_combine: %d terms", n);
    }
    for (int i = 0; i < n; i++) {
        const int rc = check_pair("linear_combine", y, "x", x[i], err);

        if (rc != ERR_OK) {
            return rc;
        }
    }
    return DEVICE_CALL(dev, linear_combine, y, n, coef, x, err);
}

static void guide_task(void *ctx, int64_t task, int thread)
{
    struct elementwise_job *job = ctx;
    const int64_t end = chunk_end(job, task);

    (void)thread;
    for (int64_t i = chunk_first(task); i < end; i++) {
        const float u = job->x[0][i];

        job->y[i] = u + job->coef[0] * (job->x[1][i] - u);
    }
}

static int guide_cpu(struct device *dev, const struct tensor *y, const struct tensor *u,
                     const struct tensor *c, float scale, struct err *err)
{
    struct elementwise_job job = {
        .y = y->data, .x = {u->data, c->data}, .coef = {scale}, .n = tensor_count(y)};

    (void)err;
    run(dev, &job, guide_task);
    return ERR_OK;
}

int op_guide(struct device *dev, const struct tensor *y, const struct tensor *u,
             const struct tensor *c, float scale, struct err *err)
{
    int rc = check_pair("guide", y, "u", u, err);

    if (rc == ERR_OK) {
        rc = check_pair("guide", y, "c", c, err);
    }
    return rc != ERR_OK ? rc : DEVICE_CALL(dev, guide, y, u, c, scale, err);
}

int op_add(struct device *dev, const struct tensor *y, const struct tensor *a,
           const struct tensor *b, struct err *err)
{
    static const float ones[2] = {1.0F, 1.0F};
    const struct tensor *const terms[2] = {a, b};
    int rc = check_pair("add", y, "a", a, err);

    if (rc == ERR_OK) {
        rc = check_pair("add", y, "b", b, err);
    }
    return rc != ERR_OK ? rc : DEVICE_CALL(dev, linear_combine, y, 2, ones, terms, err);
}

static void check_finite_task(void *ctx, int64_t task, int thread)
{
    struct elementwise_job *job = ctx;
    const int64_t end = chunk_end(job, task);
    bool bad = false;

    (void)thread;
    for (int64_t i = chunk_first(task); i < end; i++) {
        bad |= !(fabsf(job->x[0][i]) <= 3.4028235e38F);
    }
    if (bad) {
        atomic_store(&job->bad, true);
    }
}

static int check_finite_cpu(struct device *dev, const struct tensor *x, const char *stage,
                            struct err *err)
{
    struct elementwise_job job = {.x = {x->data}, .n = tensor_count(x)};

    run(dev, &job, check_finite_task);
    if (atomic_load(&job.bad)) {
        return err_set(err, ERR_NUMERIC, "%s produced NaN or infinity", stage);
    }
    return ERR_OK;
}

int op_check_finite(struct device *dev, const struct tensor *x, const char *stage, struct err *err)
{
    if (!device_is_act(dev, x)) {
        return device_shape_err(err, "check_finite", "x", x);
    }
    return DEVICE_CALL(dev, check_finite, x, stage, err);
}
