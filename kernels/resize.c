#include "kernels/resize.h"

#include "kernels/dispatch.h"

struct resize_job {
    float *out;
    const float *in;
    int64_t h, w; /* of in */
    int64_t out_h, out_w;
    struct resize_place at;
};

/* Where output position p of n falls among `size` inputs: index and weight of the next one. */
static float source(int64_t p, int64_t n, int64_t size, int64_t *ret_first, int64_t *ret_second)
{
    const float scale = (float)size / (float)n;
    const float at = ((float)p + 0.5F) * scale - 0.5F;
    const float clamped = at < 0.0F ? 0.0F : at;
    const int64_t first = (int64_t)clamped;

    *ret_first = first < size - 1 ? first : size - 1;
    *ret_second = first + 1 < size ? first + 1 : size - 1;
    return clamped - (float)first;
}

/* One row of one frame. */
static void resize_task(void *ctx, int64_t task, int thread)
{
    const struct resize_job *job = ctx;
    const float *frame = job->in + task / job->out_h * job->h * job->w * 3;
    float *out = job->out + task * job->out_w * 3;
    int64_t y0;
    int64_t y1;
    const float fy = source(task % job->out_h + job->at.top, job->at.scaled_h, job->h, &y0, &y1);

    (void)thread;
    for (int64_t x = 0; x < job->out_w; x++) {
        int64_t x0;
        int64_t x1;
        const float fx = source(x + job->at.left, job->at.scaled_w, job->w, &x0, &x1);

        for (int64_t c = 0; c < 3; c++) {
            const float a = frame[(y0 * job->w + x0) * 3 + c];
            const float b = frame[(y0 * job->w + x1) * 3 + c];
            const float d = frame[(y1 * job->w + x0) * 3 + c];
            const float e = frame[(y1 * job->w + x1) * 3 + c];

            out[x * 3 + c] =
                (1.0F - fy) * ((1.0F - fx) * a + fx * b) + fy * ((1.0F - fx) * d + fx * e);
        }
    }
}

static int resize_crop_cpu(struct device *dev, const struct tensor *out, const struct tensor *in,
                           struct err *err)
{
    struct resize_job job = {.out = out->data, .in = in->data, .h = in->dim[1], .w = in->dim[2]};

    (void)err;
    job.out_h = out->dim[1];
    job.out_w = out->dim[2];
    job.at = resize_place_of(out, in);
    device_parallel(dev, out->dim[0] * job.out_h, resize_task, &job);
    return ERR_OK;
}

int op_resize_crop(struct device *dev, const struct tensor *out, const struct tensor *in,
                   struct err *err)
{
    if (!TENSOR_IS(in, DTYPE_F32, -1, -1, -1, 3) || in->dim[1] < 1 || in->dim[2] < 1) {
        return device_shape_err(err, "resize_crop", "in", in);
    }
    if (!TENSOR_IS(out, DTYPE_F32, in->dim[0], -1, -1, 3) || out->dim[1] < 1 || out->dim[2] < 1) {
        return device_shape_err(err, "resize_crop", "out", out);
    }
    return DEVICE_CALL(dev, resize_crop, out, in, err);
}
