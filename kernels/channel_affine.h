/*
 * channel_affine.h - y[..., c] = x[..., c] * scale[c] + shift[c]
 *
 *   y             [..., C]  act  out; may be x where it is of x's type
 *   x             [..., C]  act  in; of y's type or the other one
 *   scale, shift  [C]       f32  in
 *
 * The VAEs' latents to and from the normalised space that the transformer works in.
 * Errors: ERR_INVALID shape. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_CHANNEL_AFFINE_H
#define KERNELS_CHANNEL_AFFINE_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_channel_affine(struct device *dev, const struct tensor *y, const struct tensor *x,
                                 const struct tensor *scale, const struct tensor *shift,
                                 struct err *err);

C_END

#endif
