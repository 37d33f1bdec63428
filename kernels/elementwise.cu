/*
 * elementwise.cu - whole tensors, an element at a time (cuda_map.cuh). Bound by memory: the target
 * is 85 % of 4.3 TB/s.
 */
#include "kernels/elementwise.h"

#include "kernels/cuda_map.cuh"

template <typename T> struct fill_op {
    T *y;
    float value;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        struct pack<T, N> o;

#pragma unroll
        for (int k = 0; k < N; k++) {
            o.v[k] = from_float<T>(value);
        }
        store_pack(y + i, o);
    }
};

template <typename T>
static int fill(struct device *dev, const struct tensor *y, float value, struct err *err)
{
    const struct fill_op<T> op = {
        (T *)y->data, value
    };

    return cuda_map(dev, op, tensor_count(y), tensor_packed(y), "fill", err);
}

int fill_cuda(struct device *dev, const struct tensor *y, float value, struct err *err)
{
    return y->dtype == DTYPE_F32 ? fill<float>(dev, y, value, err)
                                 : fill<struct bf16>(dev, y, value, err);
}

int copy_cuda(struct device *dev, const struct tensor *y, const struct tensor *x, struct err *err)
{
    const size_t bytes = tensor_bytes(x);

    if (bytes == 0 || y->data == x->data) {
        return ERR_OK;
    }
    return cuda_check(
        cudaMemcpyAsync(y->data, x->data, bytes, cudaMemcpyDeviceToDevice, cuda_stream(dev)),
        "copy", err);
}

struct same {
    static __device__ __forceinline__ float of(float x)
    {
        return x;
    }
};

struct silu_of {
    static __device__ __forceinline__ float of(float x)
    {
        return silu(x);
    }
};

/* y = F::of(x), each in its type. */
template <typename F, typename Y, typename X> struct convert_op {
    Y *y;
    const X *x;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const struct pack<X, N> a = load_pack<N>(x + i);
        struct pack<Y, N> o;

#pragma unroll
        for (int k = 0; k < N; k++) {
            o.v[k] = from_float<Y>(F::of(to_float(a.v[k])));
        }
        store_pack(y + i, o);
    }
};

template <typename F, typename Y, typename X>
static int convert(struct device *dev, const struct tensor *y, const struct tensor *x,
                   const char *name, struct err *err)
{
    const struct convert_op<F, Y, X> op = {
        (Y *)y->data, (const X *)x->data
    };

    return cuda_map(dev, op, tensor_count(y), tensor_packed(y) && tensor_packed(x), name, err);
}

int cast_cuda(struct device *dev, const struct tensor *y, const struct tensor *x, struct err *err)
{
    if (y->dtype == x->dtype) {
        return copy_cuda(dev, y, x, err);
    }
    return x->dtype == DTYPE_F32 ? convert<struct same, struct bf16, float>(dev, y, x, "cast", err)
                                 : convert<struct same, float, struct bf16>(dev, y, x, "cast", err);
}

int silu_cuda(struct device *dev, const struct tensor *y, const struct tensor *x, struct err *err)
{
    if (x->dtype != DTYPE_F32) {
        return convert<struct silu_of, struct bf16, struct bf16>(dev, y, x, "silu", err);
    }
    return y->dtype == DTYPE_F32
               ? convert<struct silu_of, float, float>(dev, y, x, "silu", err)
               : convert<struct silu_of, struct bf16, float>(dev, y, x, "silu", err);
}

struct linear_combine_op {
    float *y;
    const float *x[LINEAR_COMBINE_MAX];
    float coef[LINEAR_COMBINE_MAX];
    int terms;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        struct pack<float, N> sum = load_pack<N>(x[0] + i);

#pragma unroll
        for (int k = 0; k < N; k++) {
            sum.v[k] *= coef[0];
        }
#pragma unroll
        for (int t = 1; t < LINEAR_COMBINE_MAX; t++) {
            if (t < terms) {
                const struct pack<float, N> a = load_pack<N>(x[t] + i);

#pragma unroll
                for (int k = 0; k < N; k++) {
                    sum.v[k] += coef[t] * a.v[k];
                }
            }
        }
        store_pack(y + i, sum);
    }
};

int linear_combine_cuda(struct device *dev, const struct tensor *y, int n, const float *coef,
                        const struct tensor *const *x, struct err *err)
{
    struct linear_combine_op op = {.y = (float *)y->data, .x = {}, .coef = {}, .terms = n};
    bool packed = tensor_packed(y);

    for (int i = 0; i < n; i++) {
        op.x[i] = (const float *)x[i]->data;
        op.coef[i] = coef[i];
        packed = packed && tensor_packed(x[i]);
    }
    return cuda_map(dev, op, tensor_count(y), packed, "linear_combine", err);
}

struct guide_op {
    float *y;
    const float *u, *c;
    float scale;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const struct pack<float, N> a = load_pack<N>(u + i);
        const struct pack<float, N> b = load_pack<N>(c + i);
        struct pack<float, N> o;

#pragma unroll
        for (int k = 0; k < N; k++) {
            o.v[k] = a.v[k] + scale * (b.v[k] - a.v[k]);
        }
        store_pack(y + i, o);
    }
};

int guide_cuda(struct device *dev, const struct tensor *y, const struct tensor *u,
               const struct tensor *c, float scale, struct err *err)
{
    const struct guide_op op = {(float *)y->data, (const float *)u->data, (const float *)c->data,
                                scale};
    const bool packed = tensor_packed(y) && tensor_packed(u) && tensor_packed(c);

    return cuda_map(dev, op, tensor_count(y), packed, "guide", err);
}

/* The word keeps the smallest stage, so which thread is first does not matter. */
template <typename T> struct check_finite_op {
    const T *x;
    uint32_t *word;
    uint32_t stage;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const struct pack<T, N> a = load_pack<N>(x + i);
        bool bad = false;

#pragma unroll
        for (int k = 0; k < N; k++) {
            bad = bad || (float_to_bits(to_float(a.v[k])) & 0x7f800000) == 0x7f800000;
        }
        if (bad) {
            atomicMin(word, stage);
        }
    }
};

template <typename T>
static int check_finite(struct device *dev, const struct tensor *x, const char *stage,
                        struct err *err)
{
    const struct check_finite_op<T> op = {
        (const T *)x->data, cuda_stage_word(dev), cuda_stage(dev, stage)
    };

    return cuda_map(dev, op, tensor_count(x), tensor_packed(x), "check_finite", err);
}

int check_finite_cuda(struct device *dev, const struct tensor *x, const char *stage,
                      struct err *err)
{
    return x->dtype == DTYPE_F32 ? check_finite<float>(dev, x, stage, err)
                                 : check_finite<struct bf16>(dev, x, stage, err);
}
