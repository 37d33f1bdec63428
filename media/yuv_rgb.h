/*
 * yuv_rgb.h - planar Y'CbCr of a still picture to RGB, with the chroma upsampling that readers of
 * JPEG and WebP expect (swscale repeats chroma lines here, 22 in mean square error against it).
 *
 * Chroma samples lie between the luma samples they belong to. Where chroma has half the resolution,
 * a sample is 3/4 of the nearer and 1/4 of the farther one, in both directions (libjpeg's "fancy
 * upsampling", libwebp's likewise); where it has a quarter, it is repeated. BT.601, full range (JFIF
 * 1.02) or limited (RFC 6386 9.2). Rounding follows libjpeg: with the same planes the result is the
 * same as its. Any thread.
 */
#ifndef MEDIA_YUV_RGB_H
#define MEDIA_YUV_RGB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct yuv_picture {
    int width;
    int height;
    const uint8_t
        *plane[3];     /* Y [height, width]; Cb and Cr [ceil(height / 2^shift_y), ceil(...)] */
    ptrdiff_t line[3]; /* bytes from one row to the next */
    int shift_x;       /* chroma has width / 2^shift_x columns; 0, 1 or 2 */
    int shift_y;       /* 0 or 1 */
    bool full_range;
};

/* rgb: out, [height, width, 3]. Errors: ERR_NO_MEMORY. */
MUST_CHECK int yuv_rgb_convert(uint8_t *rgb, const struct yuv_picture *p, struct err *err);

#endif
