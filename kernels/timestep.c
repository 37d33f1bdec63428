#include "kernels/timestep.h"

#include <math.h>

#include "kernels/dispatch.h"

static int timestep_features_cpu(struct device *dev, const struct tensor *out,
                                 const struct tensor *t, struct err *err)
{
    const int half = TIMESTEP_FEATURES / 2;

    (void)err;
    (void)dev;
    for (int64_t u = 0; u < t->dim[0]; u++) {
        const float time = ((const float *)t->data)[u];
        float *o = (float *)out->data + u * TIMESTEP_FEATURES;

        for (int i = 0; i < half; i++) {
            const float exponent = (float)-log(10000.0) * (float)i / (float)half;
            const float frequency = (float)exp((double)exponent);
            const float angle = time * frequency;

            o[i] = (float)cos((double)angle);
            o[half + i] = (float)sin((double)angle);
        }
    }
    return ERR_OK;
}

int op_timestep_features(struct device *dev, const struct tensor *out, const struct tensor *t,
                         struct err *err)
{
    if (!TENSOR_IS(t, DTYPE_F32, -1)) {
        return device_shape_err(err, "timestep_features", "t", t);
    }
    if (!TENSOR_IS(out, DTYPE_F32, t->dim[0], TIMESTEP_FEATURES)) {
        return device_shape_err(err, "timestep_features", "out", out);
    }
    return DEVICE_CALL(dev, timestep_features, out, t, err);
}
