/*
 * conv3d_gpu.cuh - what the two CUDA convolutions share: conv3d_mma.cu, weights in bf16, and conv3d_f32.cu.
 *
 * Within a frame indices are 32 bits wide, from frame to frame 64: conv3d.cu refuses what is larger.
 */
#ifndef KERNELS_CONV3D_GPU_CUH
#define KERNELS_CONV3D_GPU_CUH

#include "kernels/cuda_kernel.cuh"

/* The arguments of op_conv3d() as kernels want them, by value. */
struct conv3d_gpu {
    const void *x, *history, *w, *residual;
    void *y;
    const float *bias;
    bool x_f32, history_f32; /* else bf16 */
    bool reflect, clamp;
    bool packed; /* y and residual can be reached in fours */
    int up;      /* 1: each pixel stands for two by two */
    int h, w_in, ci;
    int padded_h, padded_w, pad_top, pad_left;
    int ho, wo, co;
    int kt, kh, kw;
    int stride_s;
    int64_t stride_t, n_zero, n_history, frames; /* frames: of y */
    float clamp_min, clamp_max;
};

int conv3d_mma_cuda(struct device *dev, const struct conv3d_gpu *conv, bool y_f32, struct err *err);
int conv3d_f32_cuda(struct device *dev, const struct conv3d_gpu *conv, struct err *err);

/* A grid of so many blocks. */
static inline int conv3d_grid(int64_t blocks, unsigned *ret, struct err *err)
{
    if (blocks > INT32_MAX) {
        return err_set(err, ERR_UNSUPPORTED, "conv3d: too many frames for the GPU");
    }
    *ret = (unsigned)blocks;
    return ERR_OK;
}

/* A stored frame of inputs. */
struct conv3d_frame {
    const void *at;
    bool f32;
};

/* Frame f of X, which is not one of zeros. */
static __device__ __forceinline__ struct conv3d_frame conv3d_frame_at(const struct conv3d_gpu &c,
                                                                      int64_t f)
{
    const int64_t elements = (int64_t)c.h * c.w_in * c.ci;
    const bool old = f - c.n_zero < c.n_history;
    const int64_t index = f - c.n_zero - (old ? 0 : c.n_history);
    struct conv3d_frame frame;

    frame.f32 = old ? c.history_f32 : c.x_f32;
    frame.at = (const char *)(old ? c.history : c.x) + index * elements * (frame.f32 ? 4 : 2);
    return frame;
}

/* Taps over time before this one see zeros only. */
static __device__ __forceinline__ int conv3d_first_tap(const struct conv3d_gpu &c, int64_t t)
{
    const int64_t zeros = c.n_zero - t * c.stride_t;

    return zeros < 0 ? 0 : zeros < c.kt ? (int)zeros : c.kt;
}

/* The stored row (column) behind padded row u (0 is the first), n rows being stored; -1 for zeros and for
 * what lies beyond. */
static __device__ __forceinline__ int conv3d_source(const struct conv3d_gpu &c, int u, int pad,
                                                    int padded, int n)
{
    const int last = (n << c.up) - 1;
    int v = u - pad;

    if (u >= padded || (!c.reflect && (v < 0 || v > last))) {
        return -1;
    }
    v = v < 0 ? -v : v;
    v = v > last ? last - (v - last) : v;
    return v >> c.up;
}

static __device__ __forceinline__ int conv3d_source_row(const struct conv3d_gpu &c, int u)
{
    return conv3d_source(c, u, c.pad_top, c.padded_h, c.h);
}

static __device__ __forceinline__ int conv3d_source_column(const struct conv3d_gpu &c, int u)
{
    return conv3d_source(c, u, c.pad_left, c.padded_w, c.w_in);
}

static __device__ __forceinline__ float conv3d_clamp(const struct conv3d_gpu &c, float sum)
{
    const float v = sum + (sum - sum); /* infinity becomes NaN, which stays */
    const float low = v < c.clamp_min ? c.clamp_min : v;

    return !c.clamp ? sum : low > c.clamp_max ? c.clamp_max : low;
}

/* y's channels o .. o + 3 of a pixel (counted over all frames) from their sums. A thread reads of the
 * residual what it writes of y, so they may be one. */
template <typename Y>
static __device__ __forceinline__ void conv3d_store(const struct conv3d_gpu &c, int64_t pixel,
                                                    int o, struct pack<float, 4> sums)
{
    const int64_t at = pixel * c.co + o;
    const Y *residual = (const Y *)c.residual;
    Y *y = (Y *)c.y;

#pragma unroll
    for (int k = 0; k < 4; k++) {
        sums.v[k] += c.bias && o + k < c.co ? c.bias[o + k] : 0.0F;
    }
    if (c.packed) { /* so co is a multiple of 4 */
        struct pack<Y, 4> add = {
        };
        struct pack<Y, 4> out;

        if (residual) {
            add = load_pack<4>(residual + at);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            out.v[k] = from_float<Y>(conv3d_clamp(c, sums.v[k] + to_float(add.v[k])));
        }
        store_pack<4>(y + at, out);
        return;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (o + k < c.co) {
            const float add = residual ? to_float(residual[at + k]) : 0.0F;

            y[at + k] = from_float<Y>(conv3d_clamp(c, sums.v[k] + add));
        }
    }
}

#endif
