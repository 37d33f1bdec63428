/*
 * yuv420.h - RGB in [-1, 1] to planar 8-bit Y'CbCr 4:2:0, BT.709, limited range
 *
 *   out  [F, 3 * H * W / 2]  u8   out; per frame Y [H, W], Cb [H/2, W/2], Cr [H/2, W/2]
 *   in   [F, H, W, 3]        f32  in; clamped to [-1, 1]; H and W even
 *
 *   Y' = 16 + 219 (0.2126 R + 0.7152 G + 0.0722 B),  C = 128 + 224 (..),  rounded to nearest;
 *   chroma is left-sited as the file's header declares: weights 1-2-1 across, 1-1 down.
 *
 * From float without an 8-bit RGB in between (ITU-R BT.709-6; measured against swscale in
 * docs/architecture.md). Here rather than in media/, because a GPU converts before frames leave
 * it: 1.5 bytes a pixel instead of 12. A GPU may round a tie to
 * the other side. Errors: ERR_INVALID shape. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_YUV420_H
#define KERNELS_YUV420_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_rgb_to_yuv420(struct device *dev, const struct tensor *out,
                                const struct tensor *in, struct err *err);

C_END

#endif
