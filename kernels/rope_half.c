#include "kernels/rope_half.h"

#include <math.h>

#include "kernels/convert.h"
#include "kernels/dispatch.h"

static int rope_half_table_cpu(struct device *dev, const struct tensor *table, float theta,
                               bool bf16, struct err *err)
{
    const int64_t half = table->dim[2];

    (void)dev;
    (void)err;
    for (int64_t j = 0; j < half; j++) {
        const float exponent = (float)(2 * j) / (float)(2 * half);
        float frequency = 1.0F / (float)pow((double)theta, (double)exponent);

        if (bf16) {
            convert_round_bf16(&frequency, 1);
        }
        for (int64_t s = 0; s < table->dim[0]; s++) {
            const float angle = (float)s * frequency;
            float *row = (float *)table->data + s * 2 * half;

            row[j] = (float)cos((double)angle);
            row[half + j] = (float)sin((double)angle);
        }
    }
    return ERR_OK;
}

int op_rope_half_table(struct device *dev, const struct tensor *table, float theta, bool bf16,
                       struct err *err)
{
    if (!TENSOR_IS(table, DTYPE_F32, -1, 2, -1)) {
        return device_shape_err(err, "rope_half_table", "table", table);
    }
    if (!(theta > 0.0F)) {
        return err_set(err, ERR_INVALID, "rope_half_table: theta is %g", (double)theta);
    }
    return DEVICE_CALL(dev, rope_half_table, table, theta, bf16, err);
}

struct rope_half_job {
    float *x;
    const float *table;
    int64_t width, half;
};

static void rotate_row(void *ctx, int64_t s, int thread)
{
    const struct rope_half_job *job = ctx;
    const float *cosine = job->table + s * 2 * job->half;
    const float *sine = cosine + job->half;

    (void)thread;
    for (int64_t head = 0; head < job->width; head += 2 * job->half) {
        float *u = job->x + s * job->width + head;
        float *w = u + job->half;

        for (int64_t j = 0; j < job->half; j++) {
            const float a = u[j];
            const float b = w[j];

            u[j] = a * cosine[j] - b * sine[j];
            w[j] = b * cosine[j] + a * sine[j];
        }
    }
}

static int rope_half_cpu(struct device *dev, const struct tensor *x, const struct tensor *table,
                         struct err *err)
{
    struct rope_half_job job = {
        .x = x->data, .table = table->data, .width = x->dim[1], .half = table->dim[2]};

    (void)err;
    device_parallel(dev, x->dim[0], rotate_row, &job);
    return ERR_OK;
}

int op_rope_half(struct device *dev, const struct tensor *x, const struct tensor *table,
                 struct err *err)
{
    if (!DEVICE_ACT(dev, x, -1, -1)) {
        return device_shape_err(err, "rope_half", "x", x);
    }
    if (!TENSOR_IS(table, DTYPE_F32, x->dim[0], 2, -1) || table->dim[2] < 1 ||
        x->dim[1] % (2 * table->dim[2]) != 0) {
        return device_shape_err(err, "rope_half", "table", table);
    }
    return DEVICE_CALL(dev, rope_half, x, table, err);
}
