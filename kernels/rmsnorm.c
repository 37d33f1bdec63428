#include "kernels/rmsnorm.h"

#include <math.h>

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

enum {
    ROWS_PER_TASK = 16
};

struct rmsnorm_job {
    float *y;
    const float *x;
    const float *w;
    struct rmsnorm_params params;
    int64_t rows, cols;
};

static void norm_row(const struct rmsnorm_job *job, int64_t row)
{
    const float *x = job->x + row * job->cols;
    float *y = job->y + row * job->cols;
    const double mean = vec_sum_squares(x, job->cols) / (double)job->cols;
    const float scale = (float)(1.0 / sqrt(mean + (double)job->params.eps));

    if (job->params.residual) {
        for (int64_t c = 0; c < job->cols; c++) {
            y[c] += x[c] * scale * (job->params.w_offset + job->w[c]);
        }
    } else {
        for (int64_t c = 0; c < job->cols; c++) {
            y[c] = x[c] * scale * (job->params.w_offset + job->w[c]);
        }
    }
}

static void norm_rows(void *ctx, int64_t task, int thread)
{
    const struct rmsnorm_job *job = ctx;
    const int64_t first = task * ROWS_PER_TASK;
    const int64_t end = first + ROWS_PER_TASK < job->rows ? first + ROWS_PER_TASK : job->rows;

    (void)thread;
    for (int64_t row = first; row < end; row++) {
        norm_row(job, row);
    }
}

static int rmsnorm_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                       const struct tensor *w, const struct rmsnorm_params *params, struct err *err)
{
    struct rmsnorm_job job = {.y = y->data,
                              .x = x->data,
                              .w = w->data,
                              .params = *params,
                              .rows = x->dim[0],
                              .cols = x->dim[1]};

    (void)err;
    device_parallel(dev, div_ceil(job.rows, ROWS_PER_TASK), norm_rows, &job);
    return ERR_OK;
}

int op_rmsnorm(struct device *dev, const struct tensor *y, const struct tensor *x,
               const struct tensor *w, const struct rmsnorm_params *params, struct err *err)
{
    if (!DEVICE_ACT(dev, x, -1, -1) || x->dim[1] < 1) {
        return device_shape_err(err, "rmsnorm", "x", x);
    }
    if (!TENSOR_IS(w, DTYPE_F32, x->dim[1])) {
        return device_shape_err(err, "rmsnorm", "w", w);
    }
    if (!DEVICE_ACT(dev, y, x->dim[0], x->dim[1]) || (params->residual && y->dtype != DTYPE_F32)) {
        return device_shape_err(err, "rmsnorm", "y", y);
    }
    if (!(params->eps > 0.0F)) {
        return err_set(err, ERR_INVALID, "rmsnorm: eps is %g", (double)params->eps);
    }
    return DEVICE_CALL(dev, rmsnorm, y, x, w, params, err);
}
