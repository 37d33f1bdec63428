#include "kernels/channel_norm.h"

#include <math.h>

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

enum {
    TASK_FLOATS = 1 << 15
};

struct channel_norm_job {
    const struct channel_norm_params *p;
    const float *gamma;
    float *y;
    const float *x;
    int64_t n_pixels, channels, pixels_per_task;
};

/* What the pixel is multiplied by. NaN stays NaN. */
static float factor_of(const struct channel_norm_job *job, const float *x)
{
    const double c = (double)job->channels;
    const double squares = vec_sum_squares(x, job->channels);
    const double eps = (double)job->p->eps;
    double norm;

    if (job->p->kind == CHANNEL_NORM_MEAN_SQUARE) {
        return (float)(1.0 / sqrt(squares / c + eps));
    }
    norm = sqrt(squares);
    return (float)(sqrt(c) / (norm < eps ? eps : norm));
}

static void run_pixels(void *ctx, int64_t task, int thread)
{
    const struct channel_norm_job *job = ctx;
    const int64_t first = task * job->pixels_per_task;
    const int64_t last = first + job->pixels_per_task;

    (void)thread;
    for (int64_t i = first; i < last && i < job->n_pixels; i++) {
        const float *x = job->x + i * job->channels;
        float *y = job->y + i * job->channels;
        const float factor = factor_of(job, x);

        if (job->gamma) {
            for (int64_t c = 0; c < job->channels; c++) {
                y[c] = x[c] * factor * job->gamma[c];
            }
        } else {
            for (int64_t c = 0; c < job->channels; c++) {
                y[c] = x[c] * factor;
            }
        }
        if (job->p->silu) {
            vec_silu(y, y, job->channels);
        }
    }
}

static int channel_norm_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                            const struct channel_norm_params *p, struct err *err)
{
    struct channel_norm_job job = {.p = p, .y = y->data, .x = x->data};

    (void)err;
    job.gamma = p->gamma ? p->gamma->data : NULL;
    job.channels = x->dim[x->rank - 1];
    job.n_pixels = tensor_count(x) / job.channels;
    job.pixels_per_task = div_ceil(TASK_FLOATS, job.channels);
    device_parallel(dev, div_ceil(job.n_pixels, job.pixels_per_task), run_pixels, &job);
    return ERR_OK;
}

int op_channel_norm(struct device *dev, const struct tensor *y, const struct tensor *x,
                    const struct channel_norm_params *params, struct err *err)
{
    if ((x->dtype != DTYPE_F32 && x->dtype != dev->act) || x->rank < 1 || x->dim[x->rank - 1] < 1) {
        return device_shape_err(err, "channel_norm", "x", x);
    }
    if (y->dtype != x->dtype || y->rank < 1 || y->dim[y->rank - 1] != x->dim[x->rank - 1] ||
        tensor_count(y) != tensor_count(x)) {
        return device_shape_err(err, "channel_norm", "y", y);
    }
    if (params->gamma && !TENSOR_IS(params->gamma, DTYPE_F32, x->dim[x->rank - 1])) {
        return device_shape_err(err, "channel_norm", "gamma", params->gamma);
    }
    return DEVICE_CALL(dev, channel_norm, y, x, params, err);
}
