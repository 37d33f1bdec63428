/*
 * A pixel belongs to a group of 1..32 lanes that keep it in registers, three or four packs of 16 bytes a lane:
 * x is read once, y written once. The group is the smallest that holds the pixel (96 channels in bf16: 4
 * lanes of 3 packs), so that nearly all lanes work. A block does PIXELS neighbouring pixels per group, each
 * loaded while the one before it is worked on; gamma is read once for them all. Pixels of more than 128
 * packs: a warp reads them twice.
 *
 * Wan's last level, 4 x 480 x 832 pixels of 96 channels in bf16: 613 MB, floor 143 us, target 183 us
 * (special functions 85 us).
 */
#include "kernels/channel_norm.h"

#include <math.h>

#include "kernels/cuda_kernel.cuh"

enum {
    THREADS = 128,
    PIXELS = 8 /* of a group, one after the other */
};

struct norm_shape {
    int64_t pixels;
    int channels;
    int lanes; /* of a group, a power of two */
    bool mean_square, silu;
    float eps;
};

/* What the pixel is multiplied by. NaN stays NaN. */
static __device__ __forceinline__ float factor_of(const struct norm_shape &s, float squares)
{
    const float c = (float)s.channels;
    const float norm = sqrtf(squares);

    return s.mean_square ? 1.0F / sqrtf(squares / c + s.eps)
                         : sqrtf(c) / (norm < s.eps ? s.eps : norm);
}

/* In bf16 with the hardware's division (2 ulp): the exact one would take longer than the bytes. */
template <typename T> static __device__ __forceinline__ float activate(float x)
{
#ifdef __CUDA_ARCH__
    if (sizeof(T) == 2) {
        return __fdividef(x, 1.0F + __expf(-x));
    }
#endif
    return silu(x);
}

template <typename T>
static __device__ __forceinline__ T finish(const struct norm_shape &s, float x, float factor,
                                           float gamma)
{
    const float y = x * factor * gamma;

    return from_float<T>(s.silu ? activate<T>(y) : y);
}

template <typename T, int V, int PACKS>
static __device__ __forceinline__ void load_pixel(struct pack<T, V> *to, const T *x, int64_t pixel,
                                                  int lane, const struct norm_shape &s)
{
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int c = (k * s.lanes + lane) * V;

        if (c < s.channels && pixel < s.pixels) {
            to[k] = load_pack<V>(x + pixel * s.channels + c);
        } else {
#pragma unroll
            for (int i = 0; i < V; i++) {
                to[k].v[i] = from_float<T>(0.0F);
            }
        }
    }
}

/* The group's sum of squares; all lanes of the warp come here. */
template <typename T, int V, int PACKS>
static __device__ __forceinline__ float group_squares(const struct pack<T, V> *x, int lanes)
{
    float squares = 0.0F;

#pragma unroll
    for (int k = 0; k < PACKS; k++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            squares += to_float(x[k].v[i]) * to_float(x[k].v[i]);
        }
    }
    for (int step = lanes / 2; step > 0; step /= 2) {
        squares += __shfl_xor_sync(0xffffffffU, squares, step);
    }
    return squares;
}

/* y may be x: a lane writes only what it alone has read. The next pixel is on its way meanwhile. */
template <typename T, int V, int PACKS>
__global__ void __launch_bounds__(THREADS, PACKS == 3 ? 5 : 3)
    channel_norm_kernel(T *y, const T *x, const float *gamma, struct norm_shape s)
{
    const int lane = (int)threadIdx.x % s.lanes;
    const int groups = THREADS / s.lanes;
    const int64_t first = (int64_t)blockIdx.x * groups * PIXELS + threadIdx.x / s.lanes;
    struct pack<T, V> in[PACKS];
    struct pack<T, V> next[PACKS];
    float g[PACKS][V];

#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int c = (k * s.lanes + lane) * V;

#pragma unroll
        for (int i = 0; i < V; i++) {
            g[k][i] = gamma && c < s.channels ? gamma[c + i] : 1.0F;
        }
    }
    load_pixel<T, V, PACKS>(next, x, first, lane, s);
    for (int p = 0; p < PIXELS; p++) {
        const int64_t pixel = first + p * groups;
        float factor;

#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            in[k] = next[k];
        }
        load_pixel<T, V, PACKS>(next, x, p + 1 < PIXELS ? pixel + groups : s.pixels, lane, s);
        factor = factor_of(s, group_squares<T, V, PACKS>(in, s.lanes));
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            const int c = (k * s.lanes + lane) * V;

#pragma unroll
            for (int i = 0; i < V; i++) {
                in[k].v[i] = finish<T>(s, to_float(in[k].v[i]), factor, g[k][i]);
            }
            if (c < s.channels && pixel < s.pixels) {
                store_pack<V>(y + pixel * s.channels + c, in[k]);
            }
        }
    }
}

/* Any number of channels: a warp per pixel, which reads it twice. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    channel_norm_wide_kernel(T *y, const T *x, const float *gamma, struct norm_shape s)
{
    const int64_t pixel = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    const int64_t at = pixel * s.channels;
    float squares = 0.0F;
    float factor;

    if (pixel >= s.pixels) {
        return; /* the whole warp */
    }
    for (int c = lane; c < s.channels; c += 32) {
        squares += to_float(x[at + c]) * to_float(x[at + c]);
    }
    factor = factor_of(s, warp_sum(squares));
    for (int c = lane; c < s.channels; c += 32) {
        y[at + c] = finish<T>(s, to_float(x[at + c]), factor, gamma ? gamma[c] : 1.0F);
    }
}

template <typename T, int V, int PACKS>
static void launch(struct device *dev, T *y, const T *x, const float *gamma,
                   const struct norm_shape &s)
{
    const int64_t blocks = div_ceil(s.pixels, (int64_t)THREADS / s.lanes * PIXELS);

    CUDA_LAUNCH((channel_norm_kernel<T, V, PACKS>), dim3((unsigned)blocks), dim3(THREADS), 0,
                cuda_stream(dev), y, x, gamma, s);
}

/* The smallest group whose lanes hold a pixel in four packs each, or three where that is enough. */
template <typename T, int V>
static void launch_packs(struct device *dev, T *y, const T *x, const float *gamma,
                         struct norm_shape s)
{
    const int64_t packs = div_ceil(s.channels, V);

    s.lanes = 1;
    while (s.lanes * 4 < packs && s.lanes < 32) {
        s.lanes *= 2;
    }
    if (s.lanes * 4 < packs) {
        const int64_t blocks = div_ceil(s.pixels, THREADS / 32);

        CUDA_LAUNCH(channel_norm_wide_kernel<T>, dim3((unsigned)blocks), dim3(THREADS), 0,
                    cuda_stream(dev), y, x, gamma, s);
    } else if (s.lanes * 3 < packs) {
        launch<T, V, 4>(dev, y, x, gamma, s);
    } else {
        launch<T, V, 3>(dev, y, x, gamma, s);
    }
}

template <typename T, int V>
static void launch_any(struct device *dev, const struct tensor *y, const struct tensor *x,
                       const struct tensor *gamma, const struct norm_shape &s)
{
    const bool packs = s.channels % V == 0 && ((uintptr_t)x->data | (uintptr_t)y->data) % 16 == 0;
    const float *g = gamma ? (const float *)gamma->data : (const float *)NULL;

    if (packs) {
        launch_packs<T, V>(dev, (T *)y->data, (const T *)x->data, g, s);
    } else {
        launch_packs<T, 1>(dev, (T *)y->data, (const T *)x->data, g, s);
    }
}

int channel_norm_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                      const struct channel_norm_params *params, struct err *err)
{
    struct norm_shape s;

    s.channels = (int)x->dim[x->rank - 1];
    s.pixels = tensor_count(x) / s.channels;
    s.lanes = 0;
    s.mean_square = params->kind == CHANNEL_NORM_MEAN_SQUARE;
    s.silu = params->silu;
    s.eps = params->eps;
    if (s.pixels == 0) {
        return ERR_OK;
    }
    if (x->dtype == DTYPE_BF16) {
        launch_any<struct bf16, 8>(dev, y, x, params->gamma, s);
    } else {
        launch_any<float, 4>(dev, y, x, params->gamma, s);
    }
    return cuda_launched(dev, "channel_norm", err);
}
