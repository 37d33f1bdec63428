/*
 * conv3d.h - convolution over time, height and width, channels last
 *
 *   y[t,i,j,o] = sum_{a,b,c,k} w[o,a,b,c,k] * X[t*st + a, i*ss + b, j*ss + c, k]
 *                + bias[o] + residual[t,i,j,o], then clamped (infinity becomes NaN: it must
 *                not pass for a number)
 *
 *   y  [To, Ho, Wo, Co]      act  out; may be residual, must not overlap anything else
 *   x  [T, H, W, Ci]         act  in
 *   w  [Co, kt, kh, kw, Ci]  act  in; cross-correlation, no kernel flip
 *
 * history is act as well, bias f32, residual of y's type. act: with w in f32 all are; with w in bf16 each
 * of x, history and y may be f32 or bf16, and what of x or history is f32 is rounded as it is read, so
 * that a history kept in bf16 changes nothing.
 *
 * X is, in time: zero_frames frames of zeros (not stored, their taps are skipped), then `history`,
 * then x; there is no other temporal padding, so To = (zero_frames + Th + T - kt) / st + 1 and what
 * causal, replicated or streamed means is the caller's business. In space: each frame, doubled by
 * nearest neighbour where `upsample`, then padded by the four amounts with zeros or by reflection
 * (index -1 is 1, index n is n - 2).
 *
 * A frame of y depends on the frames it sees and on the frame's shape alone, down to the last bit:
 * how many frames a call has, and which of them are history, makes no difference.
 *
 * CPU: y is cut into tiles of one frame. The tile's input, padding included, is gathered once per
 * frame of the kernel; then each tap is one sgemm on a shifted view of it.
 * GPU: implicit GEMM on the same layouts, by tiles of one frame; the order of the sums is that of one tap
 * and 32 channels after the other.
 * Errors: ERR_INVALID shape, dtype or params; on a GPU ERR_UNSUPPORTED for frames of 2^30 rows or columns
 * and strides over 1024 in space. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_CONV3D_H
#define KERNELS_CONV3D_H

#include "kernels/device.h"

C_BEGIN

/* Zeroed is stride 1, no padding, nothing added. */
struct conv3d_params {
    int64_t stride_t; /* 0 is 1 */
    int64_t stride_s; /* height and width; 0 is 1 */
    int64_t pad_top, pad_bottom, pad_left, pad_right;
    bool reflect;
    bool upsample;
    int64_t zero_frames;
    const struct tensor *history;  /* [Th, H, W, Ci] */
    const struct tensor *bias;     /* [Co] */
    const struct tensor *residual; /* as y */
    bool clamp;
    float clamp_min, clamp_max;
};

MUST_CHECK int op_conv3d(struct device *dev, const struct tensor *y, const struct tensor *x,
                         const struct tensor *w, const struct conv3d_params *params,
                         struct err *err);

C_END

#endif
