/*
 * cuda_kernel.cuh - what every .cu file of kernels/ is written with.
 *
 * The files are compiled by two compilers: nvcc, and g++ with tests/hostsim/hostsim.h in CUDA's place,
 * where threads are fibers and every instruction below is emulated. So only what stands here (and plain
 * CUDA C++ without templates of CUDA's own headers) may be used:
 *
 *   CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...);
 *   CUDA_SHARED(name)        declares `unsigned char *name`, the block's dynamic shared memory, 128-byte
 *                            aligned; there is no static shared memory
 *   threadIdx blockIdx blockDim gridDim  __syncthreads  __syncwarp
 *   __shfl_sync __shfl_xor_sync __shfl_down_sync (32 and 64 bits), full mask
 *
 * Rules: no floating-point atomics, no shuffle under divergence, sums in a fixed order; indices into
 * tensors are int64_t; a block has a multiple of 32 threads; dynamic shared memory over 48 KiB is asked for with
 * cuda_allow_shared(). Every loop that must keep accumulators in registers is unrolled: spills and
 * stack frames fail the build.
 */
#ifndef KERNELS_CUDA_KERNEL_CUH
#define KERNELS_CUDA_KERNEL_CUH

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define CUDA_SHARED(name)                                                                          \
    extern __shared__ __align__(128) unsigned char cuda_shared_memory[];                           \
    unsigned char *name = cuda_shared_memory
#else
#include "tests/hostsim/hostsim.h"
#endif

#include "kernels/cuda_device.cuh"

/* ---- numbers ---- */

/* A bf16 as bits: the upper half of an f32. */
struct bf16 {
    uint16_t bits;
};

static __device__ __forceinline__ float bits_to_float(uint32_t u)
{
#ifdef __CUDA_ARCH__
    return __uint_as_float(u);
#else
    float f;

    __builtin_memcpy(&f, &u, sizeof(f));
    return f;
#endif
}

static __device__ __forceinline__ uint32_t float_to_bits(float f)
{
#ifdef __CUDA_ARCH__
    return __float_as_uint(f);
#else
    uint32_t u;

    __builtin_memcpy(&u, &f, sizeof(u));
    return u;
#endif
}

static __device__ __forceinline__ float to_float(float x)
{
    return x;
}

static __device__ __forceinline__ float to_float(struct bf16 x)
{
    return bits_to_float((uint32_t)x.bits << 16);
}

/* To nearest, ties to even; NaN stays NaN. */
static __device__ __forceinline__ struct bf16 float_to_bf16(float f)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    struct bf16 r;

    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(f));
    return r;
#else
    const uint32_t u = float_to_bits(f);
    struct bf16 r;

    r.bits = (u & 0x7fffffff) > 0x7f800000 ? (uint16_t)((u >> 16) | 0x40)
                                           : (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
    return r;
#endif
}

/* from_float<T>(x) */
template <typename T> static __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ struct bf16 from_float<struct bf16>(float x) {
    return float_to_bf16(x);
}

/* Two bf16 in a register, the first in the lower half: what mma takes. */
static __device__ __forceinline__ uint32_t
pack_bf16(float lo, float hi)
{
    return (uint32_t)float_to_bf16(lo).bits | (uint32_t)float_to_bf16(hi).bits << 16;
}

/* N elements at once, N * sizeof(T) being 4, 8 or 16 bytes and p aligned to that. */
template <typename T, int N> struct alignas(sizeof(T) * N) pack {
    T v[N];
};
template <int N, typename T>
static __device__ __forceinline__ struct pack<T, N> load_pack(const T *p) {
    return *(const struct pack<T, N> *)p;
} template <int N, typename T>
static __device__ __forceinline__ void store_pack(T *p, const struct pack<T, N> &v)
{
    *(struct pack<T, N> *)p = v;
}

static __device__ __forceinline__ float silu(float x)
{
    return x / (1.0F + __expf(-x));
}

static __device__ __forceinline__ float gelu_tanh(float x)
{
    const float u = 0.7978845608F * (x + 0.044715F * x * x * x);

    return x / (1.0F + __expf(-2.0F * u));
}

/* cos and sin of 2 pi turns, in double. The library's cos() has a stack frame, for large angles. */
static __device__ __forceinline__ void cos_sin_turns(double turns, double *c, double *s)
{
#ifdef __CUDACC__
    sincospi(2.0 * turns, s, c);
#else
    *c = cos(6.283185307179586 * turns);
    *s = sin(6.283185307179586 * turns);
#endif
}

static __device__ __forceinline__ void cos_sin(double angle, double *c, double *s)
{
    cos_sin_turns(angle * 0.15915494309189535, c, s);
}

/* ---- sums in a fixed order ---- */

/* All 32 lanes get the sum. */
static __device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) {
        x += __shfl_xor_sync(0xffffffffU, x, lane);
    }
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int lane = 16; lane > 0; lane >>= 1) {
        const float y = __shfl_xor_sync(0xffffffffU, x, lane);

        x = x > y ? x : y;
    }
    return x;
}

/* ---- tensor cores and asynchronous copies (sm_80 and up) ---- */

#ifdef __CUDACC__

/* d[16x8] += a[16x16] b[16x8], bf16 in, f32 sums: mma.sync.m16n8k16. Lane l has, with g = l / 4 and
 * t = l % 4: a[0] = A[g][2t..], a[1] = A[g+8][2t..], a[2] = A[g][2t+8..], a[3] = A[g+8][2t+8..];
 * b[0] = B[2t..][g], b[1] = B[2t+8..][g]; d[0..1] = D[g][2t..], d[2..3] = D[g+8][2t..]. */
static __device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4],
                                                const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8. trans:
 * each is transposed on the way. */
static __device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *shared)
{
    const uint32_t p = (uint32_t)__cvta_generic_to_shared(shared);

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(p)
                 : "memory");
}
static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *shared)
{
    const uint32_t p = (uint32_t)__cvta_generic_to_shared(shared);

    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(p)
                 : "memory");
}

/* 16 bytes from global to shared memory, both aligned; zeros where !valid (from is then not read). */
static __device__ __forceinline__ void cp_async_16(void *shared, const void *from, bool valid)
{
    const uint32_t p = (uint32_t)__cvta_generic_to_shared(shared);
    const int bytes = valid ? 16 : 0;

    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(p), "l"(from), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most N of the groups committed last are under way. */
template <int N> static __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif /* the simulator has its own */

#endif
