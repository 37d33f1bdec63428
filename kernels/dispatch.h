/*
 * dispatch.h - the one place where an operation's backend is chosen. For kernels/NAME.c.
 */
#ifndef KERNELS_DISPATCH_H
#define KERNELS_DISPATCH_H

#include "kernels/cuda_api.h"

/* DEVICE_CALL(dev, op, ..., err): op_cpu(dev, ..., err) or the plugin's op(dev, ..., err). */
#define DEVICE_CALL(dev, op, ...)                                                                  \
    ((dev)->dry_run               ? ERR_OK                                                         \
     : (dev)->kind == DEVICE_CUDA ? (dev)->cuda->ops.op((dev), __VA_ARGS__)                        \
                                  : op##_cpu((dev), __VA_ARGS__))

/* Is t of a type that activations may have on this device? F32, or dev->act. */
static inline bool device_is_act(const struct device *dev, const struct tensor *t)
{
    return t->dtype == DTYPE_F32 || t->dtype == dev->act;
}

/* ... and of the shape? */
#define DEVICE_ACT(dev, t, ...)                                                                    \
    (device_is_act((dev), (t)) && TENSOR_IS((t), (t)->dtype, __VA_ARGS__))

#endif
