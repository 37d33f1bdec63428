/*
 * cuda_rows.cuh - rows that a block keeps in registers, for norms over a row.
 *
 * A block has ROWS rows at a time: one load from memory, one barrier a sum whatever their number,
 * and what belongs to a column (scale, shift, weight) is read once for all of them. A thread has
 * ROW_ELEMENTS of each row, in packs of PACK neighbours; pack k of the thread begins at column
 * held_column<PACK>(k). PACK is 4, or 1 where a row's length or address does not allow it.
 */
#ifndef KERNELS_CUDA_ROWS_CUH
#define KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda_kernel.cuh"

enum {
    ROWS = 4,
    ROW_ELEMENTS = 12, /* 192 threads for the 2240 columns of SANA-Video and the 2304 of Gemma */
    ROW_MAX_THREADS = 512,
    ROW_MAX_COLUMNS = ROW_ELEMENTS * ROW_MAX_THREADS,
    ROW_SUM_FLOATS = ROWS * ROW_MAX_THREADS / 32 /* shared memory of one rows_sum() */
};

struct held_rows {
    float v[ROWS][ROW_ELEMENTS];
};

template <int PACK> static __device__ __forceinline__ int held_column(int k)
{
    return (k * (int)blockDim.x + (int)threadIdx.x) * PACK;
}

/* Columns from cols on are 0. Nothing is skipped: loads with no branch between them are all under
 * way at once. So what lies outside reads a place inside, and rows from n_rows on are the last row
 * once more. */
template <int PACK, typename X>
static __device__ __forceinline__ void rows_load(struct held_rows *rows, const X *x, int n_rows,
                                                 int cols)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const X *row = x + (int64_t)(r < n_rows ? r : n_rows - 1) * cols;

#pragma unroll
        for (int k = 0; k < ROW_ELEMENTS / PACK; k++) {
            const int column = held_column<PACK>(k);
            const bool inside = column < cols;
            const struct pack<X, PACK> p = load_pack<PACK>(row + (inside ? column : 0));

#pragma unroll
            for (int i = 0; i < PACK; i++) {
                rows->v[r][k * PACK + i] = inside ? to_float(p.v[i]) : 0.0F;
            }
        }
    }
}

/* All threads get the block's sums. scratch: ROW_SUM_FLOATS that nobody reads any more; the next
 * sum needs others. */
static __device__ __forceinline__ void rows_sum(float sum[ROWS], float *scratch)
{
    const int warp = (int)threadIdx.x / 32;
    const int warps = (int)blockDim.x / 32;

#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        sum[r] = warp_sum(sum[r]);
    }
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            scratch[warp * ROWS + r] = sum[r];
        }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        sum[r] = 0.0F;
    }
    for (int w = 0; w < warps; w++) {
        const struct pack<float, ROWS> p = load_pack<ROWS>(scratch + w * ROWS);

#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            sum[r] += p.v[r];
        }
    }
}

/* Threads of a block for rows of so many columns. */
static inline int rows_threads(int64_t cols, const char *name, int *ret, struct err *err)
{
    *ret = (int)div_ceil(div_ceil(cols, ROW_ELEMENTS), 32) * 32;
    if (cols > ROW_MAX_COLUMNS) {
        return err_set(err, ERR_UNSUPPORTED, "%s: %lld columns; on a GPU at most %d", name,
                       (long long)cols, (int)ROW_MAX_COLUMNS);
    }
    return ERR_OK;
}

#endif
