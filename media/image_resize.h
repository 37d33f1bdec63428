/*
 * image_resize.h - Lanczos resampling of 8-bit RGB, equal to PIL's Image.resize(LANCZOS) bit for bit
 * (diffusers' VaeImageProcessor resizes reference pictures with it).
 *
 * Facts of Pillow's ImagingResample (src/libImaging/Resample.c): two passes, first along rows, then
 * along columns, each only if that size changes, the result of each rounded and clipped to 8 bits. For
 * output sample i of n from m: centre = (i + 0.5) m / n, stretch = max(1, m / n), window of 3 stretch
 * to both sides, cut at the edges; weights L((j - centre + 0.5) / stretch), L(t) = sinc(t) sinc(t / 3),
 * made to sum to 1 in double, then rounded to 1/2^22; sums in integers.
 *
 * Any thread.
 */
#ifndef MEDIA_IMAGE_RESIZE_H
#define MEDIA_IMAGE_RESIZE_H

#include "base/err.h"
#include "media/image.h"

/* ret becomes src at exactly width x height (the aspect ratio is not kept); end it by image_done. All
 * sides 1..IMAGE_MAX_SIDE. ret must not be src. Errors: ERR_INVALID, ERR_NO_MEMORY. */
MUST_CHECK int image_resize(struct image *ret, const struct image *src, int width, int height,
                            struct err *err);

#endif
