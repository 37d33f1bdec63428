/*
 * geglu.cu - gelu(gate) * up. 300 x 9216 in bf16: 17 MB in L2, a few microseconds.
 */
#include "kernels/geglu.h"

#include "kernels/cuda_map.cuh"

template <typename T> struct geglu_op {
    T *y;
    const T *gate, *up;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const struct pack<T, N> g = load_pack<N>(gate + i);
        const struct pack<T, N> u = load_pack<N>(up + i);
        struct pack<T, N> o;

#pragma unroll
        for (int k = 0; k < N; k++) {
            o.v[k] = from_float<T>(gelu_tanh(to_float(g.v[k])) * to_float(u.v[k]));
        }
        store_pack(y + i, o);
    }
};

template <typename T>
static int geglu(struct device *dev, const struct tensor *y, const struct tensor *gate,
                 const struct tensor *up, struct err *err)
{
    const struct geglu_op<T> op = {
        (T *)y->data, (const T *)gate->data, (const T *)up->data
    };
    const bool packed = tensor_packed(y) && tensor_packed(gate) && tensor_packed(up);

    return cuda_map(dev, op, tensor_count(y), packed, "geglu", err);
}

int geglu_cuda(struct device *dev, const struct tensor *y, const struct tensor *gate,
               const struct tensor *up, struct err *err)
{
    return y->dtype == DTYPE_F32 ? geglu<float>(dev, y, gate, up, err)
                                 : geglu<struct bf16>(dev, y, gate, up, err);
}
