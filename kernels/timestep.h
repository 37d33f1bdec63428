/*
 * timestep.h - sinusoidal features of the diffusion timestep
 *
 *   out[u, i] = cos(t_u f_i),  out[u, 128 + i] = sin(t_u f_i),  f_i = exp(-ln(10000) i / 128)
 *
 *   out  [U, 256]  f32  out
 *   t    [U]       f32  in; scheduler units, 0..1000
 *
 * The exponent, f and the angle are each rounded to f32 as in the reference: at t = 1000 that
 * moves the angle by up to 6e-5. Cosine first (MODEL 3.2). Errors: ERR_INVALID shape. Engine
 * thread. Async on a GPU.
 */
#ifndef KERNELS_TIMESTEP_H
#define KERNELS_TIMESTEP_H

#include "kernels/device.h"

C_BEGIN

enum {
    TIMESTEP_FEATURES = 256
};

MUST_CHECK int op_timestep_features(struct device *dev, const struct tensor *out,
                                    const struct tensor *t, struct err *err);

C_END

#endif
