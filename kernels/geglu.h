/*
 * geglu.h - y = gelu_tanh(gate) * up, the gated product of Gemma's feed-forward
 *
 *   y     [rows, cols]  act  out; may be gate or up
 *   gate  [rows, cols]  act  in
 *   up    [rows, cols]  act  in; all three of one type
 *
 * gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). MODEL 2.4.
 * Errors: ERR_INVALID shape or dtype. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_GEGLU_H
#define KERNELS_GEGLU_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_geglu(struct device *dev, const struct tensor *y, const struct tensor *gate,
                        const struct tensor *up, struct err *err);

C_END

#endif
