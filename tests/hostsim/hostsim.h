/*
 * hostsim.h - CUDA C++ for g++: what kernels/cuda_kernel.cuh includes in place of <cuda_runtime.h>.
 *
 * A thread is a fiber, a block runs alone, everything happens on the calling thread and the same way every
 * time. What needs other threads (barriers, shuffles, ldmatrix, mma) is in hostsim_fibers.cc and
 * hostsim_warp.cc; the rest is here and costs what it costs in C. README.md: what this can show.
 *
 * Whatever is not here is not in the dialect and does not compile: static shared memory, atomics on
 * floats, partial masks (these stop the program).
 */
#ifndef TESTS_HOSTSIM_HOSTSIM_H
#define TESTS_HOSTSIM_HOSTSIM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/hostsim/hostsim_api.h"

/* ---- language ---- */

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};

/* Of the running thread; set at every switch. */
extern struct uint3 threadIdx, blockIdx;
extern struct dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* The running block's dynamic shared memory. */
extern unsigned char *hostsim_shared;
#define CUDA_SHARED(name) unsigned char *name = hostsim_shared

#define HOSTSIM_VECTOR2(name, type)                                                                \
    struct alignas(2 * sizeof(type)) name {                                                        \
        type x, y;                                                                                 \
    };                                                                                             \
    static inline struct name make_##name(type x, type y)                                          \
    {                                                                                              \
        return {x, y};                                                                             \
    }
#define HOSTSIM_VECTOR4(name, type)                                                                \
    struct alignas(4 * sizeof(type)) name {                                                        \
        type x, y, z, w;                                                                           \
    };                                                                                             \
    static inline struct name make_##name(type x, type y, type z, type w)                          \
    {                                                                                              \
        return {x, y, z, w};                                                                       \
    }
HOSTSIM_VECTOR2(uchar2, unsigned char)
HOSTSIM_VECTOR4(uchar4, unsigned char)
HOSTSIM_VECTOR2(short2, short)
HOSTSIM_VECTOR4(short4, short)
HOSTSIM_VECTOR2(ushort2, unsigned short)
HOSTSIM_VECTOR4(ushort4, unsigned short)
HOSTSIM_VECTOR2(int2, int)
HOSTSIM_VECTOR4(int4, int)
HOSTSIM_VECTOR2(uint2, unsigned)
HOSTSIM_VECTOR4(uint4, unsigned)
HOSTSIM_VECTOR2(float2, float)
HOSTSIM_VECTOR4(float4, float)
HOSTSIM_VECTOR2(double2, double)
HOSTSIM_VECTOR2(longlong2, long long)
HOSTSIM_VECTOR2(ulonglong2, unsigned long long)

static inline struct uint3 make_uint3(unsigned x, unsigned y, unsigned z)
{
    return {x, y, z};
}

/* ---- launch ---- */

template <typename... P> struct hostsim_args {
    void (*kernel)(P...);
    std::tuple<P...> values;
};

template <typename... P> static void hostsim_call(const void *args)
{
    const auto *a = (const struct hostsim_args<P...> *)args;

    std::apply(a->kernel, a->values);
}

template <typename T> static inline void hostsim_clear_padding(T *value)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(value);
#endif
#endif
    (void)value;
}

template <typename... P, size_t... I>
static inline void hostsim_check_arguments(const char *name, std::tuple<P...> *values,
                                           std::index_sequence<I...>)
{
    (hostsim_clear_padding(&std::get<I>(*values)), ...);
    (hostsim_check_argument(name, (int)I, &std::get<I>(*values), sizeof(std::get<I>(*values))),
     ...);
}

template <typename... P, typename... A>
static inline void hostsim_launch_kernel(const char *name, void (*kernel)(P...), struct dim3 grid,
                                         struct dim3 block, size_t shared, cudaStream_t stream,
                                         A... values)
{
    static_assert((std::is_trivially_copyable<P>::value && ...), "CUDA copies arguments as bytes");
    struct hostsim_args<P...> args = {
        kernel, std::tuple<P...>(values...)
    };
    const struct hostsim_kernel launch = {
        name, (const void *)kernel, hostsim_call<P...>, grid, block, shared};

    hostsim_check_arguments(name, &args.values, std::index_sequence_for<P...>());
    hostsim_launch(&launch, &args, sizeof(args), stream);
}

#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
    hostsim_launch_kernel(#kernel, kernel, (grid), (block), (shared_bytes),                        \
                          (stream)__VA_OPT__(, ) __VA_ARGS__)

/* ---- what threads do together; `line` and `file` are those of the call ---- */

#define HOSTSIM_HERE int line = __builtin_LINE(), const char *file = __builtin_FILE()

void hostsim_syncthreads(int line, const char *file);
void hostsim_syncwarp(int line, const char *file);
/* Meets the warp; returns what its 32 lanes gave. */
const uint64_t *hostsim_exchange(unsigned mask, uint64_t value, int line, const char *file);
int hostsim_lane();

static inline void __syncthreads(HOSTSIM_HERE)
{
    hostsim_syncthreads(line, file);
}

static inline void __syncwarp(unsigned mask = 0xffffffffU, HOSTSIM_HERE)
{
    (void)hostsim_exchange(mask, 0, line, file);
}

template <typename T>
static inline T hostsim_shuffle(unsigned mask, T value, int from, int line, const char *file)
{
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                  "shuffles move 32 or 64 bits");
    uint64_t bits = 0;

    memcpy(&bits, &value, sizeof(value));
    memcpy(&value, &hostsim_exchange(mask, bits, line, file)[from], sizeof(value));
    return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, HOSTSIM_HERE)
{
    const int lane = hostsim_lane();

    return hostsim_shuffle(mask, value, (lane & -width) + (from & (width - 1)), line, file);
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, HOSTSIM_HERE)
{
    const int lane = hostsim_lane();
    const int from = lane ^ lanes;

    return hostsim_shuffle(mask, value, from < (lane & -width) + width ? from : lane, line, file);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, HOSTSIM_HERE)
{
    const int lane = hostsim_lane();
    const int from = lane + (int)by;

    return hostsim_shuffle(mask, value, from < (lane & -width) + width ? from : lane, line, file);
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, HOSTSIM_HERE)
{
    const int lane = hostsim_lane();
    const int from = lane - (int)by;

    return hostsim_shuffle(mask, value, from >= (lane & -width) ? from : lane, line, file);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, HOSTSIM_HERE)
{
    const uint64_t *all = hostsim_exchange(mask, predicate != 0, line, file);
    unsigned bits = 0;

    for (int i = 0; i < 32; i++) {
        bits |= (unsigned)all[i] << i;
    }
    return bits;
}

static inline int __any_sync(unsigned mask, int predicate, HOSTSIM_HERE)
{
    return __ballot_sync(mask, predicate, line, file) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, HOSTSIM_HERE)
{
    return __ballot_sync(mask, predicate, line, file) == 0xffffffffU;
}

/* ---- tensor cores and asynchronous copies: see kernels/cuda_kernel.cuh ---- */

void hostsim_mma_bf16(float *d, const uint32_t *a, const uint32_t *b, int line, const char *file);
void hostsim_ldmatrix_x4(uint32_t *r, const void *shared, bool trans, int line, const char *file);
void hostsim_cp_async_16(void *shared, const void *from, bool valid, int line, const char *file);
void hostsim_cp_async_commit();
void hostsim_cp_async_wait(int n);

static inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], HOSTSIM_HERE)
{
    hostsim_mma_bf16(d, a, b, line, file);
}

static inline void ldmatrix_x4(uint32_t r[4], const void *shared, HOSTSIM_HERE)
{
    hostsim_ldmatrix_x4(r, shared, false, line, file);
}

static inline void ldmatrix_x4_trans(uint32_t r[4], const void *shared, HOSTSIM_HERE)
{
    hostsim_ldmatrix_x4(r, shared, true, line, file);
}

static inline void cp_async_16(void *shared, const void *from, bool valid, HOSTSIM_HERE)
{
    hostsim_cp_async_16(shared, from, valid, line, file);
}

static inline void cp_async_commit()
{
    hostsim_cp_async_commit();
}

template <int N> static inline void cp_async_wait()
{
    hostsim_cp_async_wait(N);
}

/* ---- functions of one thread ---- */

/* glibc has functions of these names. */
#define __expf(x)          hostsim_expf(x)
#define __exp10f(x)        hostsim_exp10f(x)
#define __logf(x)          hostsim_logf(x)
#define __log2f(x)         hostsim_log2f(x)
#define __log10f(x)        hostsim_log10f(x)
#define __sinf(x)          hostsim_sinf(x)
#define __cosf(x)          hostsim_cosf(x)
#define __tanf(x)          hostsim_tanf(x)
#define __powf(x, y)       hostsim_powf((x), (y))
#define __sincosf(x, s, c) sincosf((x), (s), (c))

#define HOSTSIM_SAME_AS(name, call)                                                                \
    static inline float name(float x)                                                              \
    {                                                                                              \
        return call;                                                                               \
    }
HOSTSIM_SAME_AS(hostsim_expf, expf(x))
HOSTSIM_SAME_AS(hostsim_exp10f, powf(10.0F, x))
HOSTSIM_SAME_AS(hostsim_logf, logf(x))
HOSTSIM_SAME_AS(hostsim_log2f, log2f(x))
HOSTSIM_SAME_AS(hostsim_log10f, log10f(x))
HOSTSIM_SAME_AS(hostsim_sinf, sinf(x))
HOSTSIM_SAME_AS(hostsim_cosf, cosf(x))
HOSTSIM_SAME_AS(hostsim_tanf, tanf(x))
HOSTSIM_SAME_AS(rsqrtf, 1.0F / sqrtf(x))
HOSTSIM_SAME_AS(__frsqrt_rn, 1.0F / sqrtf(x))
HOSTSIM_SAME_AS(__fsqrt_rn, sqrtf(x))
HOSTSIM_SAME_AS(__frcp_rn, 1.0F / x)
HOSTSIM_SAME_AS(__saturatef, x > 0.0F ? (x < 1.0F ? x : 1.0F) : 0.0F)
HOSTSIM_SAME_AS(sinpif, (float)sin(M_PI *fmod((double)x, 2.0)))
HOSTSIM_SAME_AS(cospif, (float)cos(M_PI *fmod((double)x, 2.0)))

static inline void sincospif(float x, float *ret_sin, float *ret_cos)
{
    *ret_sin = sinpif(x);
    *ret_cos = cospif(x);
}

#define HOSTSIM_OPERATION(name, expression)                                                        \
    static inline float name(float x, float y)                                                     \
    {                                                                                              \
        return expression;                                                                         \
    }
HOSTSIM_OPERATION(hostsim_powf, powf(x, y))
HOSTSIM_OPERATION(__fdividef, x / y)
HOSTSIM_OPERATION(__fdiv_rn, x / y)
HOSTSIM_OPERATION(__fmul_rn, x *y)
HOSTSIM_OPERATION(__fadd_rn, x + y)
HOSTSIM_OPERATION(__fsub_rn, x - y)

static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}

static inline double __dadd_rn(double x, double y)
{
    return x + y;
}

static inline double __dmul_rn(double x, double y)
{
    return x * y;
}

static inline float __double2float_rn(double x)
{
    return (float)x;
}

static inline int __float2int_rn(float x)
{
    return (int)rintf(x);
}

static inline int __float2int_rd(float x)
{
    return (int)floorf(x);
}

static inline int __float2int_ru(float x)
{
    return (int)ceilf(x);
}

static inline int __float2int_rz(float x)
{
    return (int)x;
}

static inline unsigned __float2uint_rn(float x)
{
    return (unsigned)rintf(x);
}

static inline float __int2float_rn(int x)
{
    return (float)x;
}

static inline float __uint2float_rn(unsigned x)
{
    return (float)x;
}

static inline float __uint_as_float(unsigned u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

static inline unsigned __float_as_uint(float f)
{
    unsigned u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

static inline float __int_as_float(int i)
{
    return __uint_as_float((unsigned)i);
}

static inline int __float_as_int(float f)
{
    return (int)__float_as_uint(f);
}

template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}

static inline int __mulhi(int a, int b)
{
    return (int)((int64_t)a * b >> 32);
}

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}

static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}

static inline int __clzll(long long x)
{
    return x == 0 ? 64 : __builtin_clzll((unsigned long long)x);
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned by)
{
    return (unsigned)((((uint64_t)hi << 32 | lo) << (by & 31)) >> 32);
}

static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned by)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (by & 31));
}

static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned r = 0;

    for (int i = 0; i < 4; i++) {
        const unsigned s = selector >> (4 * i);
        const unsigned byte = (unsigned)(bytes >> (8 * (s & 7))) & 0xff;

        r |= ((s & 8) != 0 ? (byte & 0x80 ? 0xffU : 0U) : byte) << (8 * i);
    }
    return r;
}

/* The others see what this thread wrote: here they always do. */
static inline void __threadfence()
{
    __asm__ volatile("" ::: "memory");
}

static inline void __threadfence_block()
{
    __asm__ volatile("" ::: "memory");
}

#define HOSTSIM_MIN_MAX(type)                                                                      \
    static inline type min(type a, type b)                                                         \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    static inline type max(type a, type b)                                                         \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
HOSTSIM_MIN_MAX(int)
HOSTSIM_MIN_MAX(unsigned)
HOSTSIM_MIN_MAX(long)
HOSTSIM_MIN_MAX(unsigned long)
HOSTSIM_MIN_MAX(long long)
HOSTSIM_MIN_MAX(unsigned long long)

/* As fminf: the number, when the other is NaN. */
static inline float min(float a, float b)
{
    return fminf(a, b);
}

static inline float max(float a, float b)
{
    return fmaxf(a, b);
}

static inline double min(double a, double b)
{
    return fmin(a, b);
}

static inline double max(double a, double b)
{
    return fmax(a, b);
}

/* Integers only: a sum of floats must have an order. */
#define HOSTSIM_ATOMIC(name, type, expression)                                                     \
    static inline type name(type *p, type value)                                                   \
    {                                                                                              \
        const type old = *p;                                                                       \
                                                                                                   \
        *p = (expression);                                                                         \
        return old;                                                                                \
    }
HOSTSIM_ATOMIC(atomicAdd, unsigned, old + value)
HOSTSIM_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)value))
HOSTSIM_ATOMIC(atomicAdd, unsigned long long, old + value)
HOSTSIM_ATOMIC(atomicMin, unsigned, value < old ? value : old)
HOSTSIM_ATOMIC(atomicMin, int, value < old ? value : old)
HOSTSIM_ATOMIC(atomicMax, unsigned, value > old ? value : old)
HOSTSIM_ATOMIC(atomicMax, int, value > old ? value : old)
HOSTSIM_ATOMIC(atomicOr, unsigned, old | value)
HOSTSIM_ATOMIC(atomicExch, unsigned, value)

#endif
