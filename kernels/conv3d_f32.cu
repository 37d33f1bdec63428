/*
 * All in F32, to compare with: 64 pixels of a frame by 64 channels, from tiles of 16 input channels of one
 * tap. A thread sums 4 pixels x 4 channels, tap after tap and channel after channel.
 */
#include "kernels/conv3d.h"

#include "kernels/conv3d_gpu.cuh"

enum {
    THREADS = 256,
    TILE = 64, /* pixels, and channels */
    DEPTH = 16,
    PITCH = TILE + 4 /* floats in a row of the tiles; the same channel of all pixels is a row */
};

/* The four inputs or weights at from, those from channel n on being zeros, to a column of a tile. */
static __device__ __forceinline__ void put_four(float *to, const float *from, int n)
{
#pragma unroll
    for (int k = 0; k < 4; k++) {
        to[k * PITCH] = from && k < n ? from[k] : 0.0F;
    }
}

static __device__ __forceinline__ void multiply_tiles(float sums[4][4], const float *pixels,
                                                      const float *weights)
{
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
        const struct pack<float, 4> a = load_pack<4>(pixels + k * PITCH);
        const struct pack<float, 4> b = load_pack<4>(weights + k * PITCH);

#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sums[i][j] = fmaf(a.v[i], b.v[j], sums[i][j]);
            }
        }
    }
}

/* One tap: `pixel` is the input pixel that this thread loads, `weight` its weights; NULL is zeros. */
static __device__ __forceinline__ void add_tap(float sums[4][4], float *tiles, const float *pixel,
                                               const float *weight, int ci)
{
    const int thread = (int)threadIdx.x;
    float *weights = tiles + DEPTH * PITCH;
    const int column = thread / 4;
    const int row = thread % 4 * 4;

    for (int k = row; k - row < ci; k += DEPTH) {
        __syncthreads();
        put_four(tiles + row * PITCH + column, pixel ? pixel + k : NULL, ci - k);
        put_four(weights + row * PITCH + column, weight ? weight + k : NULL, ci - k);
        __syncthreads();
        multiply_tiles(sums, tiles + thread / 16 * 4, weights + thread % 16 * 4);
    }
}

static __global__ void __launch_bounds__(THREADS)
    conv3d_f32_kernel(const struct conv3d_gpu c, int64_t tiles_m, int64_t tiles_n)
{
    CUDA_SHARED(shared);
    const int64_t n = (int64_t)blockIdx.x % tiles_n * TILE;
    const int64_t m = (int64_t)blockIdx.x / tiles_n % tiles_m * TILE;
    const int64_t t = (int64_t)blockIdx.x / tiles_n / tiles_m;
    const int64_t pixels = (int64_t)c.ho * c.wo;
    const int64_t mine =
        m + threadIdx.x / 4; /* the output pixel and channel this thread loads for */
    const int64_t my_channel = n + threadIdx.x / 4;
    const int i = (int)(mine / c.wo) * c.stride_s;
    const int j = (int)(mine % c.wo) * c.stride_s;
    const int first = conv3d_first_tap(c, t);
    const int64_t taps = (int64_t)c.kt * c.kh * c.kw;
    float sums[4][4] = {};

    for (int64_t tap = (int64_t)first * c.kh * c.kw; tap < taps; tap++) {
        const int u = conv3d_source_row(c, i + (int)(tap / c.kw % c.kh));
        const int v = conv3d_source_column(c, j + (int)(tap % c.kw));
        const float *frame =
            (const float *)conv3d_frame_at(c, t * c.stride_t + tap / ((int64_t)c.kh * c.kw)).at;
        const float *pixel = frame + ((int64_t)u * c.w_in + v) * c.ci;
        const float *weight = (const float *)c.w + (my_channel * taps + tap) * c.ci;

        add_tap(sums, (float *)shared, mine < pixels && u >= 0 && v >= 0 ? pixel : NULL,
                my_channel < c.co ? weight : NULL, c.ci);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const int64_t pixel = m + threadIdx.x / 16 * 4 + k;
        const int64_t o = n + threadIdx.x % 16 * 4;
        const struct pack<float, 4> four = {
            {
                sums[k][0], sums[k][1], sums[k][2], sums[k][3]
            }
        };

        if (pixel < pixels && o < c.co) {
            conv3d_store<float>(c, t * pixels + pixel, (int)o, four);
        }
    }
}

int conv3d_f32_cuda(struct device *dev, const struct conv3d_gpu *conv, struct err *err)
{
    const int64_t tiles_m = div_ceil((int64_t)conv->ho * conv->wo, TILE);
    const int64_t tiles_n = div_ceil(conv->co, TILE);
    const size_t shared = 2 * DEPTH * PITCH * sizeof(float);
    unsigned blocks = 0;
    const int rc = conv3d_grid(conv->frames * tiles_m * tiles_n, &blocks, err);

    if (rc != ERR_OK) {
        return rc;
    }
    CUDA_LAUNCH(conv3d_f32_kernel, blocks, THREADS, shared, cuda_stream(dev), *conv, tiles_m,
                tiles_n);
    return cuda_launched(dev, "conv3d", err);
}
