/*
 * timestep.cu - one row per timestep; roundings as in timestep.c.
 */
#include "kernels/timestep.h"

#include "kernels/cuda_map.cuh"

/* i counts in [U, half]. */
struct timestep_op {
    float *out;
    const float *t;

    __device__ __forceinline__ void at(int64_t i) const
    {
        const int half = TIMESTEP_FEATURES / 2;
        const int64_t u = i / half;
        const int64_t f = i % half;
        const float exponent = -9.210340371976184F * (float)f / (float)half; /* ln(10000) */
        const float frequency = (float)exp((double)exponent);
        double c, s;

        cos_sin((double)(t[u] * frequency), &c, &s);
        out[u * TIMESTEP_FEATURES + f] = (float)c;
        out[u * TIMESTEP_FEATURES + half + f] = (float)s;
    }
};

int timestep_features_cuda(struct device *dev, const struct tensor *out, const struct tensor *t,
                           struct err *err)
{
    const struct timestep_op op = {(float *)out->data, (const float *)t->data};

    return cuda_each(dev, op, t->dim[0] * (TIMESTEP_FEATURES / 2), "timestep_features", err);
}
