/*
 * rope_half.cu - the text encoder's positions. 300 x 2304: microseconds.
 */
#include "kernels/rope_half.h"

#include "kernels/cuda_map.cuh"

/* i counts in [S, half]. */
struct rope_half_table_op {
    float *table;
    int64_t half;
    float theta;
    bool bf16;

    __device__ __forceinline__ void at(int64_t i) const
    {
        const int64_t j = i % half;
        const int64_t s = i / half;
        const float exponent = (float)(2 * j) / (float)(2 * half);
        float frequency = 1.0F / (float)pow((double)theta, (double)exponent);
        double c, n;

        if (bf16) {
            frequency = to_float(float_to_bf16(frequency));
        }
        cos_sin((double)((float)s * frequency), &c, &n);
        table[s * 2 * half + j] = (float)c;
        table[s * 2 * half + half + j] = (float)n;
    }
};

int rope_half_table_cuda(struct device *dev, const struct tensor *table, float theta, bool bf16,
                         struct err *err)
{
    const struct rope_half_table_op op = {(float *)table->data, table->dim[2], theta, bf16};

    return cuda_each(dev, op, table->dim[0] * table->dim[2], "rope_half_table", err);
}

/* i counts in [S, heads, half]: u and w of the heads. */
template <typename T> struct rope_half_op {
    T *x;
    const float *table;
    int64_t half, heads;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const int64_t j = i % half;
        const float *cosine = table + i / half / heads * 2 * half + j;
        T *to = x + i / half * 2 * half + j;
        const struct pack<float, N> c = load_pack<N>(cosine);
        const struct pack<float, N> n = load_pack<N>(cosine + half);
        struct pack<T, N> u = load_pack<N>((const T *)to);
        struct pack<T, N> w = load_pack<N>((const T *)to + half);

#pragma unroll
        for (int k = 0; k < N; k++) {
            const float a = to_float(u.v[k]);
            const float b = to_float(w.v[k]);

            u.v[k] = from_float<T>(a * c.v[k] - b * n.v[k]);
            w.v[k] = from_float<T>(b * c.v[k] + a * n.v[k]);
        }
        store_pack(to, u);
        store_pack(to + half, w);
    }
};

template <typename T>
static int rope_half(struct device *dev, const struct tensor *x, const struct tensor *table,
                     struct err *err)
{
    const int64_t half = table->dim[2];
    const struct rope_half_op<T> op = {
        (T *)x->data, (const float *)table->data, half, x->dim[1] / (2 * half)
    };
    const bool packed = half % MAP_PACK == 0 && tensor_packed(x) && tensor_packed(table);

    return cuda_map(dev, op, tensor_count(x) / 2, packed, "rope_half", err);
}

int rope_half_cuda(struct device *dev, const struct tensor *x, const struct tensor *table,
                   struct err *err)
{
    return x->dtype == DTYPE_F32 ? rope_half<float>(dev, x, table, err)
                                 : rope_half<struct bf16>(dev, x, table, err);
}
