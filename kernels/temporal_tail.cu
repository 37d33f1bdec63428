/*
 * A block does one row, four channels per thread and turn: everything is read and written once, in whole
 * lines, and what frame, group and neighbours are is the same for the block.
 *
 * 15,600 rows of 2240 in bf16 with gate: r 70, z 210, out 280 MB = 559 MB, floor 130 us; target 167 us.
 */
#include "kernels/temporal_tail.h"

#include "kernels/cuda_kernel.cuh"

enum {
    MAX_THREADS = 320
};

struct tail_shape {
    int64_t rows, dim;
    int64_t hw; /* rows of one frame */
};

/* T: r and z; O: out, which is F32 with a gate. */
template <typename T, typename O, int V>
__global__ void __launch_bounds__(MAX_THREADS)
    temporal_tail_kernel(O *out, const T *r, const T *z, const float *gate, const int32_t *group,
                         struct tail_shape s)
{
    const int64_t m = blockIdx.x;
    const bool last = m + s.hw >= s.rows;
    const T *here = z + (m + s.hw) * 3 * s.dim + s.dim;
    const T *before = z + m * 3 * s.dim;
    const T *after = last ? here : z + (m + 2 * s.hw) * 3 * s.dim + 2 * s.dim;

    r += (m + s.hw) * s.dim;
    out += m * s.dim;
    if (gate) {
        gate += group[m / s.hw] * s.dim;
    }
    for (int64_t i = (int64_t)threadIdx.x * V; i < s.dim; i += (int64_t)blockDim.x * V) {
        const struct pack<T, V> rs = load_pack<V>(r + i);
        const struct pack<T, V> z0 = load_pack<V>(before + i);
        const struct pack<T, V> z1 = load_pack<V>(here + i);
        const struct pack<T, V> z2 = load_pack<V>(after + i);
        float f[V];
        struct pack<O, V> y;

#pragma unroll
        for (int k = 0; k < V; k++) {
            f[k] = to_float(rs.v[k]) + to_float(z0.v[k]) + to_float(z1.v[k]) +
                   (last ? 0.0F : to_float(z2.v[k]));
        }
        if (gate) {
            const struct pack<float, V> g = load_pack<V>(gate + i);
            const struct pack<O, V> x = load_pack<V>(out + i);

#pragma unroll
            for (int k = 0; k < V; k++) {
                f[k] = to_float(x.v[k]) + g.v[k] * f[k];
            }
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            y.v[k] = from_float<O>(f[k]);
        }
        store_pack<V>(out + i, y);
    }
}

struct tail_args {
    struct tail_shape shape;
    const struct tensor *out, *r, *z, *gate, *group;
};

template <typename T, typename O, int V>
static void launch(struct device *dev, const struct tail_args &a)
{
    const int64_t packs = div_ceil(a.shape.dim, V);
    const int64_t turns = div_ceil(packs, MAX_THREADS);
    const int64_t threads = div_ceil(div_ceil(packs, turns), 32) * 32;

    CUDA_LAUNCH((temporal_tail_kernel<T, O, V>), dim3((unsigned)a.shape.rows),
                dim3((unsigned)threads), 0, cuda_stream(dev), (O *)a.out->data,
                (const T *)a.r->data, (const T *)a.z->data,
                a.gate ? (const float *)a.gate->data : (const float *)NULL,
                a.gate ? (const int32_t *)a.group->data : (const int32_t *)NULL, a.shape);
}

template <typename T, typename O> static void launch_any(struct device *dev, const tail_args &a)
{
    const uintptr_t at = (uintptr_t)a.out->data | (uintptr_t)a.r->data | (uintptr_t)a.z->data |
                         (a.gate ? (uintptr_t)a.gate->data : 0);

    if (a.shape.dim % 4 == 0 && at % 16 == 0) {
        launch<T, O, 4>(dev, a);
    } else {
        launch<T, O, 1>(dev, a);
    }
}

int temporal_tail_cuda(struct device *dev, const struct tensor *out, const struct tensor *r,
                       const struct tensor *z, int64_t frames, const struct tensor *gate,
                       const struct tensor *group, struct err *err)
{
    struct tail_args a;

    a.out = out;
    a.r = r;
    a.z = z;
    a.gate = gate;
    a.group = group;
    a.shape.rows = out->dim[0];
    a.shape.dim = out->dim[1];
    a.shape.hw = a.shape.rows / frames;
    if (tensor_count(out) == 0) {
        return ERR_OK;
    }
    if (r->dtype == DTYPE_F32) {
        launch_any<float, float>(dev, a);
    } else if (out->dtype == DTYPE_F32) {
        launch_any<struct bf16, float>(dev, a);
    } else {
        launch_any<struct bf16, struct bf16>(dev, a);
    }
    return cuda_launched(dev, "temporal_tail", err);
}
