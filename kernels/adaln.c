#include "kernels/adaln.h"

#include <math.h>

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

enum {
    ROWS_PER_TASK = 16
};

static int modulation_cpu(struct device *dev, const struct tensor *out, const struct tensor *table,
                          const struct tensor *temb, struct err *err)
{
    const int64_t parts = out->dim[0];
    const int64_t n_u = out->dim[1];
    const int64_t dim = out->dim[2];
    const int64_t stride = temb->dim[1];
    const int64_t part = stride == dim ? 0 : dim;

    (void)err;
    (void)dev;
    for (int64_t p = 0; p < parts; p++) {
        for (int64_t u = 0; u < n_u; u++) {
            float *o = (float *)out->data + (p * n_u + u) * dim;
            const float *t = (const float *)table->data + p * dim;
            const float *e = (const float *)temb->data + u * stride + p * part;

            for (int64_t i = 0; i < dim; i++) {
                o[i] = t[i] + e[i];
            }
        }
    }
    return ERR_OK;
}

int op_modulation(struct device *dev, const struct tensor *out, const struct tensor *table,
                  const struct tensor *temb, struct err *err)
{
    if (!TENSOR_IS(out, DTYPE_F32, -1, -1, -1)) {
        return device_shape_err(err, "modulation", "out", out);
    }
    if (!TENSOR_IS(table, DTYPE_F32, out->dim[0], out->dim[2])) {
        return device_shape_err(err, "modulation", "table", table);
    }
    if (!TENSOR_IS(temb, DTYPE_F32, out->dim[1], out->dim[0] * out->dim[2]) &&
        !TENSOR_IS(temb, DTYPE_F32, out->dim[1], out->dim[2])) {
        return device_shape_err(err, "modulation", "temb", temb);
    }
    return DEVICE_CALL(dev, modulation, out, table, temb, err);
}

struct adaln_job {
    float *y;
    const float *x;
    const struct adaln_params *p;
    int64_t rows, dim;
};

static void adaln_row(const struct adaln_job *job, int64_t m)
{
    const int32_t *group = job->p->group->data;
    const int64_t g = group[m / job->p->rows_per_group];
    const float *shift = (const float *)job->p->shift->data + g * job->dim;
    const float *scale = (const float *)job->p->scale->data + g * job->dim;
    const float *x = job->x + m * job->dim;
    float *y = job->y + m * job->dim;
    const float mean = (float)(vec_sum(x, job->dim) / (double)job->dim);
    double squares = 0;
    float rstd;

    for (int64_t i = 0; i < job->dim; i++) {
        const double d = (double)x[i] - (double)mean;

        squares += d * d;
    }
    rstd = (float)(1.0 / sqrt(squares / (double)job->dim + (double)job->p->eps));
    for (int64_t i = 0; i < job->dim; i++) {
        y[i] = (x[i] - mean) * rstd * (1.0F + scale[i]) + shift[i];
    }
}

static void adaln_task(void *ctx, int64_t task, int thread)
{
    const struct adaln_job *job = ctx;
    const int64_t end =
        (task + 1) * ROWS_PER_TASK < job->rows ? (task + 1) * ROWS_PER_TASK : job->rows;

    (void)thread;
    for (int64_t m = task * ROWS_PER_TASK; m < end; m++) {
        adaln_row(job, m);
    }
}

static int adaln_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                     const struct adaln_params *params, struct err *err)
{
    struct adaln_job job = {
        .y = y->data, .x = x->data, .p = params, .rows = x->dim[0], .dim = x->dim[1]};

    (void)err;
    device_parallel(dev, div_ceil(job.rows, ROWS_PER_TASK), adaln_task, &job);
    return ERR_OK;
}

int op_adaln(struct device *dev, const struct tensor *y, const struct tensor *x,
             const struct adaln_params *params, struct err *err)
{
    const int64_t dim = x->dim[1];

    if (!TENSOR_IS(x, DTYPE_F32, -1, -1) || dim < 1) {
        return device_shape_err(err, "adaln", "x", x);
    }
    if (!DEVICE_ACT(dev, y, x->dim[0], dim)) {
        return device_shape_err(err, "adaln", "y", y);
    }
    if (!TENSOR_IS(params->shift, DTYPE_F32, -1, dim)) {
        return device_shape_err(err, "adaln", "shift", params->shift);
    }
    if (!tensor_same_shape(params->scale, params->shift)) {
        return device_shape_err(err, "adaln", "scale", params->scale);
    }
    if (params->rows_per_group <= 0 || x->dim[0] % params->rows_per_group != 0 ||
        !TENSOR_IS(params->group, DTYPE_I32, x->dim[0] / params->rows_per_group)) {
        return device_shape_err(err, "adaln", "group", params->group);
    }
    return DEVICE_CALL(dev, adaln, y, x, params, err);
}
