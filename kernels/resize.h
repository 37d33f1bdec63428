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
 * Errors: ERR_INVALID shape. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_RESIZE_H
#define KERNELS_RESIZE_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_resize_crop(struct device *dev, const struct tensor *out, const struct tensor *in,
                              struct err *err);

/* The output picture inside the scaled one. For the backends. */
struct resize_place {
    int64_t scaled_h, scaled_w;
    int64_t top, left;
};

static inline struct resize_place resize_place_of(const struct tensor *out, const struct tensor *in)
{
    const double ratio_h = (double)out->dim[1] / (double)in->dim[1];
    const double ratio_w = (double)out->dim[2] / (double)in->dim[2];
    const double ratio = ratio_h > ratio_w ? ratio_h : ratio_w;
    struct resize_place at;

    at.scaled_h = (int64_t)((double)in->dim[1] * ratio);
    at.scaled_w = (int64_t)((double)in->dim[2] * ratio);
    /* int() truncation may fall one short of the asked size; the reference would then crop to less */
    at.scaled_h = at.scaled_h < out->dim[1] ? out->dim[1] : at.scaled_h;
    at.scaled_w = at.scaled_w < out->dim[2] ? out->dim[2] : at.scaled_w;
    at.top = (at.scaled_h - out->dim[1]) / 2;
    at.left = (at.scaled_w - out->dim[2]) / 2;
    return at;
}

C_END

#endif
