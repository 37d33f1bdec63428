/*
 * embed.h - y[i,:] = scale * table[ids[i],:], rows of a table by number
 *
 *   y      [n, cols]     f32                 out
 *   table  [rows, cols]  f32, bf16 or f16    in; may be mapped, unaligned. GPU: no f16
 *   ids    [n]           i32                 in; each in [0, rows): the caller has checked them,
 *                                            where they still were on the host
 *   scale  Gemma: sqrt(cols), MODEL 2.4
 *
 * Errors: ERR_INVALID shape or dtype. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_EMBED_H
#define KERNELS_EMBED_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_embed(struct device *dev, const struct tensor *y, const struct tensor *table,
                        const struct tensor *ids, float scale, struct err *err);

C_END

#endif
