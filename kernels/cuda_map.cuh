/*
 * cuda_map.cuh - a kernel for operations that work on each element by itself.
 *
 * An operation is a struct of pointers and numbers, passed by value, with
 *
 *   template <int N> __device__ void at(int64_t i) const;    does elements i .. i + N - 1
 *
 * at<4> is called where the caller says `packed`: all its tensors are tensor_packed(), and whatever
 * it divides by (columns, channels) is a multiple of 4, so that four neighbours lie in one row.
 * Else, and at the end of the tensor, at<1> is. One load of 16 bytes (8 of bf16) per thread and
 * tensor: enough for about 85 % of the memory's speed, which is all there is to win.
 *
 * What computes more than it moves has a plain at(i) and goes through cuda_each().
 */
#ifndef KERNELS_CUDA_MAP_CUH
#define KERNELS_CUDA_MAP_CUH

#include "kernels/cuda_kernel.cuh"

enum {
    MAP_THREADS = 256,
    MAP_PACK = 4
};

static inline bool tensor_packed(const struct tensor *t)
{
    return (uintptr_t)t->data % (MAP_PACK * dtype_size(t->dtype)) == 0;
}

template <typename Op> static __global__ void map_kernel(Op op, int64_t n, bool packed)
{
    const int64_t first = (int64_t)blockIdx.x * (MAP_THREADS * MAP_PACK);
    const int64_t mine = first + (int64_t)threadIdx.x * MAP_PACK;

    if (packed && mine + MAP_PACK <= n) {
        op.template at<MAP_PACK>(mine);
        return;
    }
    for (int k = 0; k < MAP_PACK; k++) {
        const int64_t i = packed ? mine + k : first + k * MAP_THREADS + (int64_t)threadIdx.x;

        if (i < n) {
            op.template at<1>(i);
        }
    }
}

template <typename Op>
static inline int cuda_map(struct device *dev, const Op &op, int64_t n, bool packed,
                           const char *name, struct err *err)
{
    const int64_t blocks = div_ceil(n, MAP_THREADS * MAP_PACK);

    if (blocks > 0) {
        CUDA_LAUNCH(map_kernel<Op>, (unsigned)blocks, MAP_THREADS, 0, cuda_stream(dev), op, n,
                    packed);
    }
    return cuda_launched(dev, name, err);
}

template <typename Op> static __global__ void each_kernel(Op op, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * MAP_THREADS + (int64_t)threadIdx.x;

    if (i < n) {
        op.at(i);
    }
}

template <typename Op>
static inline int cuda_each(struct device *dev, const Op &op, int64_t n, const char *name,
                            struct err *err)
{
    const int64_t blocks = div_ceil(n, MAP_THREADS);

    if (blocks > 0) {
        CUDA_LAUNCH(each_kernel<Op>, (unsigned)blocks, MAP_THREADS, 0, cuda_stream(dev), op, n);
    }
    return cuda_launched(dev, name, err);
}

#endif
