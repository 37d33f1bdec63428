/*
 * Two passes over u: activate in place, then convolve. A task of the second pass is one row of a
 * frame and a slice of channels (value and gate alike), so its three input rows stay in cache.
 */
#include "kernels/glu_dwconv.h"

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/vec_math.h"

enum {
    SLICE = 128
};

struct glu_job {
    float *p;
    const float *u;
    const float *weight;
    const float *bias;
    int64_t height, width, hidden;
    int64_t slices;
};

/* c[0..n) = bias + the nine taps at (y, x) of channels first..first+n-1 (of 2M). */
static void conv_pixel(const struct glu_job *job, const float *frame, int64_t y, int64_t x,
                       int64_t first, int64_t n, float *c)
{
    const int64_t channels = 2 * job->hidden;

    for (int64_t i = 0; i < n; i++) {
        c[i] = job->bias[first + i];
    }
    for (int64_t dy = -1; dy <= 1; dy++) {
        if (y + dy < 0 || y + dy >= job->height) {
            continue;
        }
        for (int64_t dx = -1; dx <= 1; dx++) {
            const int64_t pixel = (y + dy) * job->width + x + dx;
            const float *w = job->weight + ((dy + 1) * 3 + dx + 1) * channels + first;
            const float *in;

            if (x + dx < 0 || x + dx >= job->width) {
                continue;
            }
            in = frame + pixel * channels + first;
            for (int64_t i = 0; i < n; i++) {
                c[i] += w[i] * in[i];
            }
        }
    }
}

static void glu_task(void *ctx, int64_t task, int thread)
{
    const struct glu_job *job = ctx;
    const int64_t first = task % job->slices * SLICE;
    const int64_t n = job->hidden - first < SLICE ? job->hidden - first : SLICE;
    const int64_t row = task / job->slices;
    const int64_t y = row % job->height;
    const float *frame = job->u + (row - y) * job->width * 2 * job->hidden;
    float value[SLICE];
    float gate[SLICE];

    (void)thread;
    for (int64_t x = 0; x < job->width; x++) {
        float *p = job->p + (row * job->width + x) * job->hidden + first;

        conv_pixel(job, frame, y, x, first, n, value);
        conv_pixel(job, frame, y, x, job->hidden + first, n, gate);
        for (int64_t i = 0; i < n; i++) {
            p[i] = value[i] * vec_silu1(gate[i]);
        }
    }
}

static int glu_dwconv_cpu(struct device *dev, const struct tensor *p, const struct tensor *u,
                          const struct tensor *weight, const struct tensor *bias, struct err *err)
{
    struct glu_job job = {.p = p->data, .u = u->data, .weight = weight->data, .bias = bias->data};
    const int rc = op_silu(dev, u, u, err);

    if (rc != ERR_OK) {
        return rc;
    }
    job.height = u->dim[1];
    job.width = u->dim[2];
    job.hidden = p->dim[3];
    job.slices = div_ceil(job.hidden, SLICE);
    device_parallel(dev, u->dim[0] * job.height * job.slices, glu_task, &job);
    return ERR_OK;
}

int op_glu_dwconv(struct device *dev, const struct tensor *p, const struct tensor *u,
                  const struct tensor *weight, const struct tensor *bias, struct err *err)
{
    if (!DEVICE_ACT(dev, p, -1, -1, -1, -1) || p->dim[3] < 1) {
        return device_shape_err(err, "glu_dwconv", "p", p);
    }
    if (!TENSOR_IS(u, p->dtype, p->dim[0], p->dim[1], p->dim[2], 2 * p->dim[3])) {
        return device_shape_err(err, "glu_dwconv", "u", u);
    }
    if (!TENSOR_IS(weight, DTYPE_F32, 9, u->dim[3])) {
        return device_shape_err(err, "glu_dwconv", "weight", weight);
    }
    if (!TENSOR_IS(bias, DTYPE_F32, u->dim[3])) {
        return device_shape_err(err, "glu_dwconv", "bias", bias);
    }
    return DEVICE_CALL(dev, glu_dwconv, p, u, weight, bias, err);
}
