#include "kernels/channel_affine.h"

#include "kernels/dispatch.h"

/* Latents are small: no use for threads. */
static int channel_affine_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                              const struct tensor *scale, const struct tensor *shift,
                              struct err *err)
{
    const int64_t channels = scale->dim[0];
    const int64_t n = tensor_count(x);
    const float *a = scale->data;
    const float *b = shift->data;
    const float *from = x->data;
    float *to = y->data;

    (void)err;
    (void)dev;
    for (int64_t i = 0; i < n; i += channels) {
        for (int64_t c = 0; c < channels; c++) {
            to[i + c] = from[i + c] * a[c] + b[c];
        }
    }
    return ERR_OK;
}

int op_channel_affine(struct device *dev, const struct tensor *y, const struct tensor *x,
                      const struct tensor *scale, const struct tensor *shift, struct err *err)
{
    if (!device_is_act(dev, x) || x->rank < 1 || x->dim[x->rank - 1] < 1) {
        return device_shape_err(err, "channel_affine", "x", x);
    }
    if (!device_is_act(dev, y) || !tensor_is(y, y->dtype, x->rank, x->dim)) {
        return device_shape_err(err, "channel_affine", "y", y);
    }
    if (!TENSOR_IS(scale, DTYPE_F32, x->dim[x->rank - 1])) {
        return device_shape_err(err, "channel_affine", "scale", scale);
    }
    if (!TENSOR_IS(shift, DTYPE_F32, x->dim[x->rank - 1])) {
        return device_shape_err(err, "channel_affine", "shift", shift);
    }
    return DEVICE_CALL(dev, channel_affine, y, x, scale, shift, err);
}
