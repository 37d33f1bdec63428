/*
 * channel_affine.cu - a scale and a shift per channel. Latents: a few MB, microseconds.
 */
#include "kernels/channel_affine.h"

#include "kernels/cuda_map.cuh"

template <typename Y, typename X> struct channel_affine_op {
    Y *y;
    const X *x;
    const float *scale, *shift;
    int64_t channels;

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const int64_t c = i % channels;
        const struct pack<X, N> from = load_pack<N>(x + i);
        const struct pack<float, N> a = load_pack<N>(scale + c);
        const struct pack<float, N> b = load_pack<N>(shift + c);
        struct pack<Y, N> o;

#pragma unroll
        for (int k = 0; k < N; k++) {
            o.v[k] = from_float<Y>(to_float(from.v[k]) * a.v[k] + b.v[k]);
        }
        store_pack(y + i, o);
    }
};

template <typename Y, typename X>
static int affine(struct device *dev, const struct tensor *y, const struct tensor *x,
                  const struct tensor *scale, const struct tensor *shift, struct err *err)
{
    const int64_t channels = scale->dim[0];
    const struct channel_affine_op<Y, X> op = {
        (Y *)y->data, (const X *)x->data, (const float *)scale->data,
            (const float *)shift->data, channels
    };
    const bool packed = channels % MAP_PACK == 0 && tensor_packed(y) && tensor_packed(x) &&
                        tensor_packed(scale) && tensor_packed(shift);

    return cuda_map(dev, op, tensor_count(y), packed, "channel_affine", err);
}

int channel_affine_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                        const struct tensor *scale, const struct tensor *shift, struct err *err)
{
    if (y->dtype == DTYPE_F32) {
        return x->dtype == DTYPE_F32 ? affine<float, float>(dev, y, x, scale, shift, err)
                                     : affine<float, struct bf16>(dev, y, x, scale, shift, err);
    }
    return x->dtype == DTYPE_F32 ? affine<struct bf16, float>(dev, y, x, scale, shift, err)
                                 : affine<struct bf16, struct bf16>(dev, y, x, scale, shift, err);
}
