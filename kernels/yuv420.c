#include "kernels/yuv420.h"

#include <math.h>

#include "kernels/dispatch.h"

static const float KR = 0.2126F;
static const float KG = 0.7152F;
static const float KB = 0.0722F;

struct yuv_job {
    uint8_t *out;
    const float *in;
    int64_t height, width;
};

/* [-1, 1] -> [0, 1]; NaN becomes 0 (frames are checked before). */
static float unit(float v)
{
    const float u = 0.5F * v + 0.5F;

    return u > 1.0F ? 1.0F : u > 0.0F ? u : 0.0F;
}

static uint8_t quantise(float v)
{
    return (uint8_t)lrintf(v);
}

static void luma_row(const struct yuv_job *job, const float *rgb, uint8_t *y)
{
    for (int64_t x = 0; x < job->width; x++) {
        y[x] = quantise(16.0F + 219.0F * (KR * unit(rgb[3 * x]) + KG * unit(rgb[3 * x + 1]) +
                                          KB * unit(rgb[3 * x + 2])));
    }
}

/* Channel c at even column x of two rows: 1-2-1 across with the edge repeated, 1-1 down. */
static float chroma_tap(const float *row0, const float *row1, int64_t x, int64_t c)
{
    const int64_t left = x > 0 ? x - 1 : 0;
    const int64_t at[3] = {3 * left + c, 3 * x + c, 3 * (x + 1) + c};

    return (unit(row0[at[0]]) + unit(row1[at[0]]) + 2.0F * (unit(row0[at[1]]) + unit(row1[at[1]])) +
            unit(row0[at[2]]) + unit(row1[at[2]])) *
           0.125F;
}

static void chroma_row(const struct yuv_job *job, const float *row0, const float *row1, uint8_t *cb,
                       uint8_t *cr)
{
    for (int64_t x = 0; x < job->width; x += 2) {
        const float r = chroma_tap(row0, row1, x, 0);
        const float g = chroma_tap(row0, row1, x, 1);
        const float b = chroma_tap(row0, row1, x, 2);
        const float y = KR * r + KG * g + KB * b;

        cb[x / 2] = quantise(128.0F + 224.0F * (b - y) / (2.0F * (1.0F - KB)));
        cr[x / 2] = quantise(128.0F + 224.0F * (r - y) / (2.0F * (1.0F - KR)));
    }
}

/* Two rows of one frame. */
static void yuv_task(void *ctx, int64_t task, int thread)
{
    const struct yuv_job *job = ctx;
    const int64_t w = job->width;
    const int64_t pairs = job->height / 2;
    const int64_t frame = task / pairs;
    const int64_t pair = task % pairs;
    const float *row0 = job->in + (frame * job->height + 2 * pair) * w * 3;
    const float *row1 = row0 + w * 3;
    uint8_t *y = job->out + frame * job->height * w * 3 / 2;
    uint8_t *cb = y + job->height * w + pair * (w / 2);

    (void)thread;
    luma_row(job, row0, y + 2 * pair * w);
    luma_row(job, row1, y + (2 * pair + 1) * w);
    chroma_row(job, row0, row1, cb, cb + pairs * (w / 2));
}

static int rgb_to_yuv420_cpu(struct device *dev, const struct tensor *out, const struct tensor *in,
                             struct err *err)
{
    struct yuv_job job = {.out = out->data, .in = in->data};

    (void)err;
    job.height = in->dim[1];
    job.width = in->dim[2];
    device_parallel(dev, in->dim[0] * job.height / 2, yuv_task, &job);
    return ERR_OK;
}

int op_rgb_to_yuv420(struct device *dev, const struct tensor *out, const struct tensor *in,
                     struct err *err)
{
    if (!TENSOR_IS(in, DTYPE_F32, -1, -1, -1, 3) || in->dim[1] % 2 != 0 || in->dim[2] % 2 != 0) {
        return device_shape_err(err, "rgb_to_yuv420", "in", in);
    }
    if (!TENSOR_IS(out, DTYPE_U8, in->dim[0], in->dim[1] * in->dim[2] / 2 * 3)) {
        return device_shape_err(err, "rgb_to_yuv420", "out", out);
    }
    return DEVICE_CALL(dev, rgb_to_yuv420, out, in, err);
}
