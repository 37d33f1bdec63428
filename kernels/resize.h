/*
 * resize.h - frames from the generated size to the asked size: bilinear, then centre crop
 *
 *   r = max(out_h / h, out_w / w);  (h', w') = (int(h r), int(w r));  crop starts (h' - out_h) / 2
 *   bilinear as torch's interpolate(align_corners=False, antialias=False): source coordinate
 *   max(0, (dst + 0.5) * in / out - 0.5)
 *
 *   out  [F, out_h, out_w, 3]  f32  out; must not overlap in
 *   in   [F, h, w, 3]          f32  in
 *
 * Source: [diffusers video_processor / image_processor resize_and_crop_tensor], MODEL 1.4.
 * Errors: ERR_INVALID shape. Engine thread.
 */
#ifndef KERNELS_RESIZE_H
#define KERNELS_RESIZE_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_resize_crop(struct device *dev, const struct tensor *out, const struct tensor *in,
                              struct err *err);

C_END

#endif
