#include "kernels/temporal_tail.h"

#include "base/size.h"
#include "kernels/dispatch.h"

enum {
    ROWS_PER_TASK = 32
};

struct tail_job {
    float *out;
    const float *r;
    const float *z;
    const float *gate;
    const int32_t *group;
    int64_t rows, dim;
    int64_t hw; /* rows of one frame */
};

static void tail_row(const struct tail_job *job, int64_t m)
{
    const int64_t d = job->dim;
    const bool last = m + job->hw >= job->rows;
    const float *r = job->r + (m + job->hw) * d;
    const float *before = job->z + m * 3 * d;
    const float *here = job->z + (m + job->hw) * 3 * d + d;
    const float *after = last ? NULL : job->z + (m + 2 * job->hw) * 3 * d + 2 * d;
    const float *gate = job->gate ? job->gate + job->group[m / job->hw] * d : NULL;
    float *out = job->out + m * d;

    for (int64_t i = 0; i < d; i++) {
        const float f = r[i] + before[i] + here[i] + (after ? after[i] : 0.0F);

        out[i] = gate ? out[i] + gate[i] * f : f;
    }
}

static void tail_task(void *ctx, int64_t task, int thread)
{
    const struct tail_job *job = ctx;
    int64_t end = (task + 1) * ROWS_PER_TASK;

    (void)thread;
    end = end < job->rows ? end : job->rows;
    for (int64_t m = task * ROWS_PER_TASK; m < end; m++) {
        tail_row(job, m);
    }
}

static int temporal_tail_cpu(struct device *dev, const struct tensor *out, const struct tensor *r,
                             const struct tensor *z, int64_t frames, const struct tensor *gate,
                             const struct tensor *group, struct err *err)
{
    struct tail_job job = {.out = out->data, .r = r->data, .z = z->data};

    (void)err;
    job.gate = gate ? gate->data : NULL;
    job.group = group ? group->data : NULL;
    job.rows = out->dim[0];
    job.dim = out->dim[1];
    job.hw = job.rows / frames;
    device_parallel(dev, div_ceil(job.rows, ROWS_PER_TASK), tail_task, &job);
    return ERR_OK;
}

int op_temporal_tail(struct device *dev, const struct tensor *out, const struct tensor *r,
                     const struct tensor *z, int64_t frames, const struct tensor *gate,
                     const struct tensor *group, struct err *err)
{
    const int64_t rows = out->dim[0];
    const int64_t dim = out->dim[1];

    if (!DEVICE_ACT(dev, out, -1, -1) || frames < 1 || rows % frames != 0) {
        return device_shape_err(err, "temporal_tail", "out", out);
    }
    if (!DEVICE_ACT(dev, r, rows / frames * (frames + 1), dim)) {
        return device_shape_err(err, "temporal_tail", "r", r);
    }
    if (!TENSOR_IS(z, r->dtype, r->dim[0], 3 * dim)) {
        return device_shape_err(err, "temporal_tail", "z", z);
    }
    if (out->dtype != DTYPE_F32 && (gate || out->dtype != r->dtype)) {
        return device_shape_err(err, "temporal_tail", "out", out);
    }
    if (gate &&
        (!TENSOR_IS(gate, DTYPE_F32, -1, dim) || !group || !TENSOR_IS(group, DTYPE_I32, frames))) {
        return device_shape_err(err, "temporal_tail", "gate", gate);
    }
    return DEVICE_CALL(dev, temporal_tail, out, r, z, frames, gate, group, err);
}
