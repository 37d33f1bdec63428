/*
 * A thread per chroma pair: 2 x 2 pixels, and for chroma the column to the left. 13.5 bytes a pixel: 40
 * frames of 832 x 480 are 216 MB, floor 50 us, target 70 us.
 */
#include "kernels/yuv420.h"

#include <math.h>

#include "kernels/cuda_map.cuh"

static constexpr float KR = 0.2126F;
static constexpr float KG = 0.7152F;
static constexpr float KB = 0.0722F;

struct rgb {
    float r, g, b;
};

/* [-1, 1] -> [0, 1]; NaN becomes 0 (frames are checked before). */
static __device__ __forceinline__ float unit(float v)
{
    const float u = 0.5F * v + 0.5F;

    return u > 1.0F ? 1.0F : u > 0.0F ? u : 0.0F;
}

static __device__ __forceinline__ struct rgb read_unit(const float *p)
{
    struct rgb c;

    c.r = unit(p[0]);
    c.g = unit(p[1]);
    c.b = unit(p[2]);
    return c;
}

static __device__ __forceinline__ float luma_of(const struct rgb &c)
{
    return KR * c.r + KG * c.g + KB * c.b;
}

static __device__ __forceinline__ uint8_t quantise(float v)
{
    return (uint8_t)lrintf(v);
}

/* Columns left, here, right of two rows: 1-2-1 across, 1-1 down. */
static __device__ __forceinline__ float chroma_tap(float l0, float l1, float h0, float h1, float r0,
                                                   float r1)
{
    return (l0 + l1 + 2.0F * (h0 + h1) + r0 + r1) * 0.125F;
}

/* Element i: a chroma pair of all frames. */
struct yuv_op {
    uint8_t *out;
    const float *in;
    int64_t height, width;

    __device__ void at(int64_t i) const
    {
        const int64_t pairs = width / 2;
        const int64_t row = i / pairs; /* of pairs of rows of all frames */
        const int64_t x = (i - row * pairs) * 2;
        const int64_t frame = row / (height / 2);
        const int64_t pair = row - frame * (height / 2);
        const float *row0 = in + row * 2 * width * 3;
        const float *row1 = row0 + width * 3;
        const int64_t left = x > 0 ? x - 1 : 0;
        const struct rgb l0 = read_unit(row0 + left * 3);
        const struct rgb l1 = read_unit(row1 + left * 3);
        const struct rgb h0 = read_unit(row0 + x * 3);
        const struct rgb h1 = read_unit(row1 + x * 3);
        const struct rgb r0 = read_unit(row0 + x * 3 + 3);
        const struct rgb r1 = read_unit(row1 + x * 3 + 3);
        const float r = chroma_tap(l0.r, l1.r, h0.r, h1.r, r0.r, r1.r);
        const float g = chroma_tap(l0.g, l1.g, h0.g, h1.g, r0.g, r1.g);
        const float b = chroma_tap(l0.b, l1.b, h0.b, h1.b, r0.b, r1.b);
        const float y = KR * r + KG * g + KB * b;
        uint8_t *luma = out + frame * height / 2 * width * 3;
        uint8_t *cb = luma + height * width + pair * pairs + x / 2;
        uint8_t *cr = cb + height / 2 * pairs;

        luma += pair * 2 * width + x;
        luma[0] = quantise(16.0F + 219.0F * luma_of(h0));
        luma[1] = quantise(16.0F + 219.0F * luma_of(r0));
        luma[width] = quantise(16.0F + 219.0F * luma_of(h1));
        luma[width + 1] = quantise(16.0F + 219.0F * luma_of(r1));
        *cb = quantise(128.0F + 224.0F * (b - y) / (2.0F * (1.0F - KB)));
        *cr = quantise(128.0F + 224.0F * (r - y) / (2.0F * (1.0F - KR)));
    }
};

int rgb_to_yuv420_cuda(struct device *dev, const struct tensor *out, const struct tensor *in,
                       struct err *err)
{
    const struct yuv_op op = {(uint8_t *)out->data, (const float *)in->data, in->dim[1],
                              in->dim[2]};

    return cuda_each(dev, op, in->dim[0] * (in->dim[1] / 2) * (in->dim[2] / 2), "rgb_to_yuv420",
                     err);
}
