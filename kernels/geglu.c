#include "kernels/geglu.h"

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

enum {
    PER_TASK = 16384
};

struct geglu_job {
    float *y;
    const float *gate;
    const float *up;
    int64_t n;
};

static void multiply(void *ctx, int64_t task, int thread)
{
    const struct geglu_job *job = ctx;
    const int64_t first = task * PER_TASK;
    const int64_t end = first + PER_TASK < job->n ? first + PER_TASK : job->n;

    (void)thread;
    for (int64_t i = first; i < end; i++) {
        job->y[i] = vec_gelu_tanh1(job->gate[i]) * job->up[i];
    }
}

static int geglu_cpu(struct device *dev, const struct tensor *y, const struct tensor *gate,
                     const struct tensor *up, struct err *err)
{
    struct geglu_job job = {.y = y->data, .gate = gate->data, .up = up->data, .n = tensor_count(y)};

    (void)err;
    device_parallel(dev, div_ceil(job.n, PER_TASK), multiply, &job);
    return ERR_OK;
}

int op_geglu(struct device *dev, const struct tensor *y, const struct tensor *gate,
             const struct tensor *up, struct err *err)
{
    if (!DEVICE_ACT(dev, gate, -1, -1)) {
        return device_shape_err(err, "geglu", "gate", gate);
    }
    if (!tensor_same_shape(up, gate)) {
        return device_shape_err(err, "geglu", "up", up);
    }
    if (!tensor_same_shape(y, gate)) {
        return device_shape_err(err, "geglu", "y", y);
    }
    return DEVICE_CALL(dev, geglu, y, gate, up, err);
}
