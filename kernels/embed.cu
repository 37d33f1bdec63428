/*
 * embed.cu - rows of a table by number. A few hundred rows: microseconds.
 */
#include "kernels/embed.h"

#include "kernels/cuda_map.cuh"

template <typename T> struct embed_op {
    float *y;
    const T *table;
    const int32_t *ids;
    int64_t cols;
    float scale;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const int64_t id = ids[i / cols];
        const struct pack<T, N> a = load_pack<N>(table + id * cols + i % cols);
        struct pack<float, N> o;

#pragma unroll
        for (int k = 0; k < N; k++) {
            o.v[k] = to_float(a.v[k]) * scale;
        }
        store_pack(y + i, o);
    }
};

template <typename T>
static int embed(struct device *dev, const struct tensor *y, const struct tensor *table,
                 const struct tensor *ids, float scale, struct err *err)
{
    const int64_t cols = table->dim[1];
    const struct embed_op<T> op = {
        (float *)y->data, (const T *)table->data, (const int32_t *)ids->data, cols, scale
    };
    const bool packed = cols % MAP_PACK == 0 && tensor_packed(y) && tensor_packed(table);

    return cuda_map(dev, op, tensor_count(y), packed, "embed", err);
}

int embed_cuda(struct device *dev, const struct tensor *y, const struct tensor *table,
               const struct tensor *ids, float scale, struct err *err)
{
    return table->dtype == DTYPE_F32 ? embed<float>(dev, y, table, ids, scale, err)
                                     : embed<struct bf16>(dev, y, table, ids, scale, err);
}
