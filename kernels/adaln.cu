/*
 * adaln.cu - modulation, and the norm with scale and shift.
 *
 * One pass over x: the rows stay in registers (cuda_rows.cuh), mean first, then the squares of
 * what is left, as the CPU does it. A block's rows are of one group, so scale and shift are read
 * once for ROWS rows.
 * 15,600 x 2240, f32 to bf16: 210 MB, floor 49 us, target 61 us.
 */
#include "kernels/adaln.h"

#include "kernels/cuda_map.cuh"
#include "kernels/cuda_rows.cuh"

struct modulation_op {
    float *out;
    const float *table, *temb;
    int64_t n_u, dim;
    int64_t stride, part; /* of temb's rows and of the parts in them */

    template <int N> __device__ __forceinline__ void at(int64_t i) const
    {
        const int64_t d = i % dim;
        const int64_t p = i / dim / n_u;
        const int64_t u = i / dim % n_u;
        const struct pack<float, N> t = load_pack<N>(table + p * dim + d);
        const struct pack<float, N> e = load_pack<N>(temb + u * stride + p * part + d);
        struct pack<float, N> o;

#pragma unroll
        for (int k = 0; k < N; k++) {
            o.v[k] = t.v[k] + e.v[k];
        }
        store_pack(out + i, o);
    }
};

int modulation_cuda(struct device *dev, const struct tensor *out, const struct tensor *table,
                    const struct tensor *temb, struct err *err)
{
    const int64_t dim = out->dim[2];
    const struct modulation_op op = {.out = (float *)out->data,
                                     .table = (const float *)table->data,
                                     .temb = (const float *)temb->data,
                                     .n_u = out->dim[1],
                                     .dim = dim,
                                     .stride = temb->dim[1],
                                     .part = temb->dim[1] == dim ? 0 : dim};
    const bool packed =
        dim % MAP_PACK == 0 && tensor_packed(out) && tensor_packed(table) && tensor_packed(temb);

    return cuda_map(dev, op, tensor_count(out), packed, "modulation", err);
}

struct adaln_task {
    const float *x, *shift, *scale;
    const int32_t *group;
    int64_t rows_per_group, chunks; /* a group is `chunks` blocks */
    int cols;
    float eps;
};

/* 1 / standard deviation of each row, whose mean is subtracted. */
template <int PACK>
static __device__ __forceinline__ void normalise(struct held_rows *rows, float rstd[ROWS],
                                                 const struct adaln_task &t, float *scratch)
{
    float mean[ROWS];

#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        mean[r] = 0.0F;
#pragma unroll
        for (int i = 0; i < ROW_ELEMENTS; i++) {
            mean[r] += rows->v[r][i];
        }
    }
    rows_sum(mean, scratch);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        mean[r] /= (float)t.cols;
        rstd[r] = 0.0F;
#pragma unroll
        for (int i = 0; i < ROW_ELEMENTS; i++) {
            const float d = held_column<PACK>(i / PACK) < t.cols ? rows->v[r][i] - mean[r] : 0.0F;

            rows->v[r][i] = d;
            rstd[r] += d * d;
        }
    }
    rows_sum(rstd, scratch + ROW_SUM_FLOATS);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        rstd[r] = 1.0F / sqrtf(rstd[r] / (float)t.cols + t.eps);
    }
}

template <typename Y, int PACK> static __global__ void adaln_kernel(Y *y, struct adaln_task t)
{
    CUDA_SHARED(shared);
    const int64_t frame = blockIdx.x / t.chunks;
    const int64_t within = blockIdx.x % t.chunks * ROWS;
    const int64_t first = (frame * t.rows_per_group + within) * t.cols;
    const int64_t left = t.rows_per_group - within;
    const int n_rows = left < ROWS ? (int)left : (int)ROWS;
    const int64_t g = (int64_t)t.group[frame] * t.cols;
    struct held_rows rows;
    float rstd[ROWS];

    rows_load<PACK>(&rows, t.x + first, n_rows, t.cols);
    normalise<PACK>(&rows, rstd, t, (float *)shared);
#pragma unroll
    for (int k = 0; k < ROW_ELEMENTS / PACK; k++) {
        const int column = held_column<PACK>(k);
        struct pack<float, PACK> scale, shift;

        if (column >= t.cols) {
            continue;
        }
        scale = load_pack<PACK>(t.scale + g + column);
        shift = load_pack<PACK>(t.shift + g + column);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            struct pack<Y, PACK> o;

#pragma unroll
            for (int i = 0; i < PACK; i++) {
                o.v[i] = from_float<Y>(rows.v[r][k * PACK + i] * rstd[r] * (1.0F + scale.v[i]) +
                                       shift.v[i]);
            }
            if (r < n_rows) {
                store_pack(y + first + (int64_t)r * t.cols + column, o);
            }
        }
    }
}

template <typename Y>
static int adaln_launch(struct device *dev, const struct tensor *y, const struct adaln_task &t,
                        int threads, bool packed, struct err *err)
{
    const auto kernel = packed ? adaln_kernel<Y, MAP_PACK> : adaln_kernel<Y, 1>;
    const int64_t blocks = y->dim[0] / t.rows_per_group * t.chunks;

    if (blocks > 0) {
        CUDA_LAUNCH(kernel, (unsigned)blocks, threads, 2 * ROW_SUM_FLOATS * sizeof(float),
                    cuda_stream(dev), (Y *)y->data, t);
    }
    return cuda_launched(dev, "adaln", err);
}

int adaln_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
               const struct adaln_params *params, struct err *err)
{
    const int64_t cols = x->dim[1];
    const bool packed = cols % MAP_PACK == 0 && tensor_packed(y) && tensor_packed(x) &&
                        tensor_packed(params->shift) && tensor_packed(params->scale);
    struct adaln_task t = {};
    int threads;
    const int rc = rows_threads(cols, "adaln", &threads, err);

    if (rc != ERR_OK) {
        return rc;
    }
    t.x = (const float *)x->data;
    t.shift = (const float *)params->shift->data;
    t.scale = (const float *)params->scale->data;
    t.group = (const int32_t *)params->group->data;
    t.rows_per_group = params->rows_per_group;
    t.chunks = div_ceil(params->rows_per_group, ROWS);
    t.cols = (int)cols;
    t.eps = params->eps;
    return y->dtype == DTYPE_F32 ? adaln_launch<float>(dev, y, t, threads, packed, err)
                                 : adaln_launch<struct bf16>(dev, y, t, threads, packed, err);
}
