/*
 * A thread per output pixel. At most 24 bytes read and 12 written per pixel, most of the reads from L1:
 * 1280 x 704 from 832 x 480 is 26 MB per frame, floor 6 us, target 10 us.
 */
#include "kernels/resize.h"

#include "kernels/cuda_map.cuh"

/* Where an output position falls between two inputs. */
struct resize_source {
    int64_t first, second;
    float weight; /* of the second */
};

/* Rounded like on the CPU: never contracted to one multiply-add. */
static __device__ __forceinline__ float product(float a, float b)
{
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

static __device__ __forceinline__ struct resize_source source_of(int64_t p, int64_t n, int64_t size)
{
    const float at = product((float)p + 0.5F, (float)size / (float)n) - 0.5F;
    const float clamped = at < 0.0F ? 0.0F : at;
    const int64_t first = (int64_t)clamped;
    struct resize_source s;

    s.first = first < size - 1 ? first : size - 1;
    s.second = first + 1 < size ? first + 1 : size - 1;
    s.weight = clamped - (float)first;
    return s;
}

/* Element i: an output pixel of all frames. */
struct resize_op {
    float *out;
    const float *in;
    int64_t h, w; /* of in */
    int64_t out_h, out_w;
    struct resize_place place;

    __device__ void at(int64_t i) const
    {
        const int64_t row = i / out_w;
        const int64_t f = row / out_h;
        const struct resize_source y = source_of(row - f * out_h + place.top, place.scaled_h, h);
        const struct resize_source x = source_of(i - row * out_w + place.left, place.scaled_w, w);
        const float *upper = in + (f * h + y.first) * w * 3;
        const float *lower = in + (f * h + y.second) * w * 3;

#pragma unroll
        for (int c = 0; c < 3; c++) {
            const float above =
                (1.0F - x.weight) * upper[x.first * 3 + c] + x.weight * upper[x.second * 3 + c];
            const float below =
                (1.0F - x.weight) * lower[x.first * 3 + c] + x.weight * lower[x.second * 3 + c];

            out[i * 3 + c] = (1.0F - y.weight) * above + y.weight * below;
        }
    }
};

int resize_crop_cuda(struct device *dev, const struct tensor *out, const struct tensor *in,
                     struct err *err)
{
    const struct resize_op op = {
        (float *)out->data, (const float *)in->data, in->dim[1], in->dim[2], out->dim[1],
        out->dim[2],        resize_place_of(out, in)};

    return cuda_each(dev, op, out->dim[0] * out->dim[1] * out->dim[2], "resize_crop", err);
}
