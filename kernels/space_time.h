/*
 * space_time.h - channels into frames and pixels, and back
 *
 * A cell of (st, sh, sw) = frames x rows x columns of a tensor with C channels holds st sh sw C
 * numbers; coarse tensors keep them in one pixel, as channel
 *   q(c, a, b, d) = ((c * st + a) * sh + b) * sw + d      or, with columns_first,
 *   q(c, a, b, d) = ((c * st + a) * sw + d) * sh + b
 *
 * op_space_time_split: coarse to fine, with f = t * st + a - drop_frames (f < 0 is dropped)
 *   y    [T*st - drop, H*sh, W*sw, C]  act  out
 *   x    [T, H, W, C * st*sh*sw]       act  in
 *   add  [T, H, W, Ca * st*sh*sw]      act  in, of x's type, optional; C % Ca == 0
 *   y[f, i*sh + b, j*sw + d, c] = x[t,i,j, q(c,a,b,d)] + add[t,i,j, q(c mod Ca, a,b,d)]
 *
 * op_space_time_merge: fine to coarse
 *   y    [T, H, W, Cy]                              act  out
 *   x    [T*st, H*sh, W*sw, Cy / (st*sh*sw)]        act  in
 *   add  [T*st - lead_frames, H*sh, W*sw, Ca]       act  in, of x's type, optional; the first
 *        frame of `add` stands for the lead_frames missing before it
 *   y[t,i,j, q] = X[q] + (mean of the g = Ca*st*sh*sw / Cy consecutive Add[q*g .. q*g + g-1])
 *   where X and Add are the cell's numbers in the order q above
 *
 * op_frame_interleave: two halves of the channels become two frames
 *   y    [2*T, H, W, C]   act  out, of x's type
 *   x    [T, H, W, 2*C]   act  in
 *   y[2*t + s, i, j, c] = x[t, i, j, s*C + c]
 *
 * Of split and merge, y may be f32 where x is not, and the other way round. No aliasing. Used for LTX-2's
 * patches (columns_first), its up- and downsamplers with their residuals
 * [diffusers autoencoder_kl_ltx2.py; MODEL 7.1], and Wan's time_conv [MODEL 6.2].
 * Errors: ERR_INVALID shape. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_SPACE_TIME_H
#define KERNELS_SPACE_TIME_H

#include "kernels/device.h"

C_BEGIN

struct space_time_params {
    int64_t st, sh, sw;
    bool columns_first;
    int64_t drop_frames;      /* split */
    int64_t lead_frames;      /* merge, of `add` */
    const struct tensor *add; /* a residual in the other layout; NULL: none */
};

MUST_CHECK int op_space_time_split(struct device *dev, const struct tensor *y,
                                   const struct tensor *x, const struct space_time_params *params,
                                   struct err *err);
MUST_CHECK int op_space_time_merge(struct device *dev, const struct tensor *y,
                                   const struct tensor *x, const struct space_time_params *params,
                                   struct err *err);
MUST_CHECK int op_frame_interleave(struct device *dev, const struct tensor *y,
                                   const struct tensor *x, struct err *err);

C_END

#endif
