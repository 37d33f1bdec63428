/*
 * rmsnorm.cu - root-mean-square norm of rows, in registers (cuda_rows.cuh): one pass over x.
 *
 * 15,600 x 2240, bf16 to bf16 (queries of the cross attention): 140 MB, floor 33 us, target 42 us.
 */
#include "kernels/rmsnorm.h"

#include "kernels/cuda_map.cuh"
#include "kernels/cuda_rows.cuh"

struct rmsnorm_task {
    const float *w;
    int64_t rows;
    int cols;
    struct rmsnorm_params params;
};

/* 1 / root mean square of each row. */
static __device__ __forceinline__ void scales(float scale[ROWS], const struct held_rows &rows,
                                              const struct rmsnorm_task &t, float *scratch)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        scale[r] = 0.0F;
#pragma unroll
        for (int i = 0; i < ROW_ELEMENTS; i++) {
            scale[r] += rows.v[r][i] * rows.v[r][i];
        }
    }
    rows_sum(scale, scratch);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        scale[r] = 1.0F / sqrtf(scale[r] / (float)t.cols + t.params.eps);
    }
}

template <typename Y, typename X, int PACK>
static __global__ void rmsnorm_kernel(Y *y, const X *x, struct rmsnorm_task t)
{
    CUDA_SHARED(shared);
    const int64_t row = (int64_t)blockIdx.x * ROWS;
    const int n_rows = t.rows - row < ROWS ? (int)(t.rows - row) : (int)ROWS;
    struct held_rows rows;
    float scale[ROWS];

    rows_load<PACK>(&rows, x + row * t.cols, n_rows, t.cols);
    scales(scale, rows, t, (float *)shared);
#pragma unroll
    for (int k = 0; k < ROW_ELEMENTS / PACK; k++) {
        const int column = held_column<PACK>(k);
        struct pack<float, PACK> w;

        if (column >= t.cols) {
            continue;
        }
        w = load_pack<PACK>(t.w + column);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            Y *const to = y + (row + r) * t.cols + column;
            struct pack<Y, PACK> o = {
            };

            if (r >= n_rows) {
                continue;
            }
            if (t.params.residual) {
                o = load_pack<PACK>((const Y *)to);
            }
#pragma unroll
            for (int i = 0; i < PACK; i++) {
                o.v[i] = from_float<Y>(to_float(o.v[i]) + rows.v[r][k * PACK + i] * scale[r] *
                                                              (t.params.w_offset + w.v[i]));
            }
            store_pack(to, o);
        }
    }
}

template <typename Y, typename X>
static int rmsnorm_launch(struct device *dev, const struct tensor *y, const struct tensor *x,
                          const struct rmsnorm_task &t, bool packed, struct err *err)
{
    const auto kernel = packed ? rmsnorm_kernel<Y, X, MAP_PACK> : rmsnorm_kernel<Y, X, 1>;
    const int64_t blocks = div_ceil(t.rows, ROWS);
    int threads;
    const int rc = rows_threads(x->dim[1], "rmsnorm", &threads, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (blocks > 0) {
        CUDA_LAUNCH(kernel, (unsigned)blocks, threads, ROW_SUM_FLOATS * sizeof(float),
                    cuda_stream(dev), (Y *)y->data, (const X *)x->data, t);
    }
    return cuda_launched(dev, "rmsnorm", err);
}

int rmsnorm_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                 const struct tensor *w, const struct rmsnorm_params *params, struct err *err)
{
    const int64_t cols = x->dim[1];
    const struct rmsnorm_task t = {
        .w = (const float *)w->data, .rows = x->dim[0], .cols = (int)cols, .params = *params};
    const bool packed =
        cols % MAP_PACK == 0 && tensor_packed(y) && tensor_packed(x) && tensor_packed(w);

    if (y->dtype == DTYPE_F32) {
        return x->dtype == DTYPE_F32
                   ? rmsnorm_launch<float, float>(dev, y, x, t, packed, err)
                   : rmsnorm_launch<float, struct bf16>(dev, y, x, t, packed, err);
    }
    return x->dtype == DTYPE_F32
               ? rmsnorm_launch<struct bf16, float>(dev, y, x, t, packed, err)
               : rmsnorm_launch<struct bf16, struct bf16>(dev, y, x, t, packed, err);
}
