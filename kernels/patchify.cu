/*
 * patchify.cu - latents to tokens and back. Runs of channels are contiguous in x; in u they are
 * when it comes back, and lie patch * patch apart on the way there. 2 x 4 MB: microseconds.
 */
#include "kernels/patchify.h"

#include "kernels/cuda_map.cuh"

/* i counts in x. */
template <bool TO_PATCHES, typename X, typename U> struct patch_op {
    X *x;
    U *u;
    int64_t patch, height, width, channels; /* of x */

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const int64_t c = i % channels;
        const int64_t column = i / channels % width;
        const int64_t row = i / channels / width; /* of all frames */
        const int64_t area = patch * patch;
        const int64_t ij = row % patch * patch + column % patch;
        const int64_t token = row / patch * (width / patch) + column / patch;
        const int64_t to = token * area * channels;

        if constexpr (TO_PATCHES) {
            const struct pack<X, N> a = load_pack<N>((const X *)x + i);

#pragma unroll
            for (int k = 0; k < N; k++) {
                u[to + (c + k) * area + ij] = from_float<U>(to_float(a.v[k]));
            }
        } else {
            store_pack(x + i, load_pack<N>((const U *)u + to + ij * channels + c));
        }
    }
};

template <bool TO_PATCHES, typename U>
static int patch_any(struct device *dev, const struct tensor *x, const struct tensor *u,
                     int64_t patch, struct err *err)
{
    const struct patch_op<TO_PATCHES, float, U> op = {
        (float *)x->data, (U *)u->data, patch, x->dim[1], x->dim[2], x->dim[3]
    };
    const bool packed = x->dim[3] % MAP_PACK == 0 && tensor_packed(x) && tensor_packed(u);

    return cuda_map(dev, op, tensor_count(x), packed, "patch", err);
}

int patch_cuda(struct device *dev, const struct tensor *x, const struct tensor *u, int64_t patch,
               bool to_patches, struct err *err)
{
    if (!to_patches) {
        return patch_any<false, float>(dev, x, u, patch, err);
    }
    return u->dtype == DTYPE_F32 ? patch_any<true, float>(dev, x, u, patch, err)
                                 : patch_any<true, struct bf16>(dev, x, u, patch, err);
}
