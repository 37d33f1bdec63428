/*
 * y = act(x w^T + bias), or y += gate * that. Four ways, chosen by shape and type alone:
 *
 *   cuBLASLt   bf16 x and w, rows of 16 bytes, an epilogue it has (cuda_blas.h). One gate for all rows
 *              goes into the weights: w' = diag(gate) w is rounded to bf16, which errs like rounding
 *              the product would, and saves reading and writing y once more (2 x 70 MB = 33 us).
 *   mma        bf16 x and w otherwise: no cuBLASLt, odd sizes, gates that differ by row, SiLU.
 *   skinny     f32 x of up to 32 rows: time embeddings. A warp has four columns; bound by reading w.
 *   tiled      the rest: f32 mode, f32 x with bf16 w.
 *
 * All sums are in f32 and in an order that the shape decides. Targets on an H200 (790 TFLOP/s, 4.3 TB/s;
 * M = 15600): cuBLASLt K 2240, N 6720 / 13440 / 2240: 660 / 1290 / 230 us, floors 594 / 1189 / 198 us. mma:
 * about half of that speed. skinny, 1 x 2240 x 13440: 17 us, floor 14 us (60 MB of w).
 */
#include "kernels/matmul.h"

#include "kernels/cuda_blas.h"
#include "kernels/cuda_kernel.cuh"

/* ---- what is done to a sum ---- */

struct finish {
    void *y;
    int64_t m, n, k;
    const float *bias;
    const float *gate;
    const int32_t *group;
    int64_t rows_per_group;
    enum matmul_act act;
    bool residual;
    bool y_bf16;
};

/* The gates of a row; NULL: 1. */
static __device__ __forceinline__ const float *gate_of_row(const struct finish &f, int64_t row)
{
    return f.gate ? f.gate + f.group[row / f.rows_per_group] * f.n : (const float *)0;
}

static __device__ __forceinline__ float finish_sum(const struct finish &f, const float *gate,
                                                   int64_t col, float sum)
{
    if (f.bias) {
        sum += f.bias[col];
    }
    if (f.act == MATMUL_GELU_TANH) {
        sum = gelu_tanh(sum);
    } else if (f.act == MATMUL_SILU) {
        sum = silu(sum);
    }
    return gate ? sum * gate[col] : sum;
}

template <typename T>
static __device__ __forceinline__ void put(const struct finish &f, int64_t at, float value)
{
    T *y = (T *)f.y + at;

    *y = from_float<T>(f.residual ? to_float(*y) + value : value);
}

static __device__ __forceinline__ void put_any(const struct finish &f, int64_t at, float value)
{
    if (f.y_bf16) {
        put<struct bf16>(f, at, value);
    } else {
        put<float>(f, at, value);
    }
}

/* ---- mma ---- */

/*
 * A block of 8 warps makes 128 x 128 of y, a warp 64 x 32 in 4 x 4 fragments of m16n8k16. x and w come
 * in pieces of 128 rows x 32 of k, 64 bytes a row: 8 KB each, three stages, so two are under way while
 * one is multiplied, and 48 KiB in all let two blocks share a multiprocessor.
 *
 * Of a row's four 16-byte chunks, chunk c of row r lies at c ^ (r / 2 % 4): the 8 rows that one ldmatrix
 * reads then are in 8 different sixteenths of 128 bytes, without bank conflicts, and so are 8 writes.
 */
enum {
    MMA_TILE = 128,
    MMA_K = 32,
    MMA_STAGES = 3,
    MMA_THREADS = 256,
    MMA_PIECE = MMA_TILE * MMA_K * 2, /* bytes */
    MMA_SHARED = MMA_STAGES * 2 * MMA_PIECE,
    MMA_BAND = 16 /* tile rows that are walked together: 264 blocks at a time re-read little */
};

static __device__ __forceinline__ unsigned char *mma_chunk(unsigned char *piece, int row, int chunk)
{
    return piece + row * 64 + (chunk ^ (row / 2 % 4)) * 16;
}

/* Elements [k, k + 8) of a row that has no alignment, zeros behind its end. */
static __device__ __forceinline__ void copy_elements(unsigned char *to, const struct bf16 *row,
                                                     int64_t k, int64_t k_end, bool valid)
{
    uint32_t half[8];
    struct pack<uint32_t, 4> v;

#pragma unroll
    for (int i = 0; i < 8; i++) {
        half[i] = valid && k + i < k_end ? row[k + i].bits : 0;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v.v[i] = half[2 * i] | half[2 * i + 1] << 16;
    }
    store_pack<4>((uint32_t *)to, v);
}

/* Rows [row0, row0 + 128) of a [rows, k_end] matrix, elements [k0, k0 + 32). Two chunks a thread. */
template <bool ALIGNED>
static __device__ __forceinline__ void load_piece(unsigned char *piece, const struct bf16 *from,
                                                  int64_t row0, int64_t rows, int64_t k0,
                                                  int64_t k_end)
{
    const int chunk = (int)threadIdx.x % 4;

#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int r = (int)threadIdx.x / 4 + i * 64;
        const int64_t k = k0 + chunk * 8;
        const bool valid = row0 + r < rows && k < k_end;
        const struct bf16 *row = from + (valid ? (row0 + r) * k_end : 0);

        if (ALIGNED) {
            cp_async_16(mma_chunk(piece, r, chunk), row + (valid ? k : 0), valid);
        } else {
            copy_elements(mma_chunk(piece, r, chunk), row, k, k_end, valid);
        }
    }
}

/* 32 of k: x's piece, w's piece behind it. */
static __device__ __forceinline__ void multiply_stage(unsigned char *stage, int warp_m, int warp_n,
                                                      float sum[4][4][4])
{
    const int lane = (int)threadIdx.x % 32;

#pragma unroll
    for (int step = 0; step < 2; step++) {
        uint32_t a[4][4];
        uint32_t b[2][4];

        /* Matrices of ldmatrix: rows 0.. and 8.., then the same of the next 8 of k. */
#pragma unroll
        for (int i = 0; i < 4; i++) {
            ldmatrix_x4(a[i], mma_chunk(stage, warp_m + i * 16 + lane % 16, step * 2 + lane / 16));
        }
        /* Here: both halves of k for columns 0.., then for columns 8... */
#pragma unroll
        for (int j = 0; j < 2; j++) {
            ldmatrix_x4(b[j],
                        mma_chunk(stage + MMA_PIECE, warp_n + j * 16 + lane % 8 + lane / 16 * 8,
                                  step * 2 + lane / 8 % 2));
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                mma_bf16(sum[i][j], a[i], &b[j / 2][j % 2 * 2]);
            }
        }
    }
}

/* A warp's 64 x 32 sums go through its part of shared memory, 32 rows at a time, so that a row is written
 * by 32 lanes; rows of 40 floats let the fragments be laid down without bank conflicts. */
enum {
    MMA_OUT_LD = 40,
    MMA_OUT_ROWS = 32
};

template <typename T>
static __device__ __forceinline__ void put_fragments(const struct finish &f, int64_t m0, int64_t n0,
                                                     float *part, const float sum[4][4][4])
{
    const int lane = (int)threadIdx.x % 32;
    const int64_t col = n0 + lane;

#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t row0 = m0 + half * MMA_OUT_ROWS;
        const int rows = f.m - row0 < MMA_OUT_ROWS ? (int)(f.m - row0) : MMA_OUT_ROWS;

#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                struct pack<float, 2> two;

                two.v[0] = sum[half * 2 + i / 2][j][i % 2 * 2];
                two.v[1] = sum[half * 2 + i / 2][j][i % 2 * 2 + 1];
                store_pack<2>(part + (i * 8 + lane / 4) * MMA_OUT_LD + j * 8 + lane % 4 * 2, two);
            }
        }
        __syncwarp();
#pragma unroll 1
        for (int r = 0; r < rows && col < f.n; r++) {
            put<T>(f, (row0 + r) * f.n + col,
                   finish_sum(f, gate_of_row(f, row0 + r), col, part[r * MMA_OUT_LD + lane]));
        }
        __syncwarp();
    }
}

template <typename TY, bool ALIGNED>
static __global__ void __launch_bounds__(MMA_THREADS, ALIGNED ? 2 : 1)
    mma_kernel(struct finish f, const struct bf16 *x, const struct bf16 *w)
{
    CUDA_SHARED(shared);
    const int64_t tiles_m = (f.m + MMA_TILE - 1) / MMA_TILE;
    const int64_t tiles_n = (f.n + MMA_TILE - 1) / MMA_TILE;
    const int64_t band = (int64_t)blockIdx.x / (MMA_BAND * tiles_n) * MMA_BAND;
    const int64_t height = tiles_m - band < MMA_BAND ? tiles_m - band : (int64_t)MMA_BAND;
    const int64_t in_band = (int64_t)blockIdx.x - band * tiles_n;
    const int64_t m0 = (band + in_band % height) * MMA_TILE;
    const int64_t n0 = in_band / height * MMA_TILE;
    const int warp = (int)threadIdx.x / 32;
    const int warp_m = warp / 4 * 64;
    const int warp_n = warp % 4 * 32;
    const int pieces = (int)((f.k + MMA_K - 1) / MMA_K);
    float sum[4][4][4] = {};

#pragma unroll
    for (int s = 0; s < MMA_STAGES - 1; s++) {
        unsigned char *stage = shared + s * 2 * MMA_PIECE;

        load_piece<ALIGNED>(stage, x, m0, f.m, (int64_t)s * MMA_K, f.k);
        load_piece<ALIGNED>(stage + MMA_PIECE, w, n0, f.n, (int64_t)s * MMA_K, f.k);
        cp_async_commit();
    }
    for (int p = 0; p < pieces; p++) {
        const int next = p + MMA_STAGES - 1;

        /* Piece p has come for everybody, and everybody is done with piece p - 1. */
        cp_async_wait<MMA_STAGES - 2>();
        __syncthreads();
        if (next < pieces) {
            unsigned char *stage = shared + next % MMA_STAGES * 2 * MMA_PIECE;

            load_piece<ALIGNED>(stage, x, m0, f.m, (int64_t)next * MMA_K, f.k);
            load_piece<ALIGNED>(stage + MMA_PIECE, w, n0, f.n, (int64_t)next * MMA_K, f.k);
        }
        cp_async_commit();
        multiply_stage(shared + p % MMA_STAGES * 2 * MMA_PIECE, warp_m, warp_n, sum);
    }
    cp_async_wait<0>(); /* zeros behind a K of one piece */
    __syncthreads();    /* the stages are free */
    put_fragments<TY>(f, m0 + warp_m, n0 + warp_n,
                      (float *)shared + warp * MMA_OUT_ROWS * MMA_OUT_LD, sum);
}

/* ---- skinny ---- */

enum {
    SKINNY_MAX_ROWS = 32,
    SKINNY_COLS = 4, /* of a warp: each is a stream of w in flight */
    SKINNY_WARPS = 8
};

/* sum[r][c] += the lane's share of x[r] . w[c], by 4 at a time where rows are aligned. A row or column
 * that is not there repeats the last one. */
template <typename TW, int ROWS>
static __device__ __forceinline__ void skinny_dots(const float *const x[ROWS],
                                                   const TW *const w[SKINNY_COLS], int64_t k_end,
                                                   bool aligned, float sum[ROWS][SKINNY_COLS])
{
    const int lane = (int)threadIdx.x % 32;

    for (int64_t k = lane * 4; aligned && k < k_end; k += 32 * 4) {
        struct pack<TW, 4> wv[SKINNY_COLS];

#pragma unroll
        for (int c = 0; c < SKINNY_COLS; c++) {
            wv[c] = load_pack<4>(w[c] + k);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const struct pack<float, 4> xv = load_pack<4>(x[r] + k);

#pragma unroll
            for (int c = 0; c < SKINNY_COLS; c++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    sum[r][c] += xv.v[i] * to_float(wv[c].v[i]);
                }
            }
        }
    }
    for (int64_t k = lane; !aligned && k < k_end; k += 32) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float xv = x[r][k];

#pragma unroll
            for (int c = 0; c < SKINNY_COLS; c++) {
                sum[r][c] += xv * to_float(w[c][k]);
            }
        }
    }
}

/* ROWS rows from blockIdx.x * ROWS: blocks of the same columns are neighbours and find w in L2. */
template <typename TW, int ROWS>
static __global__ void __launch_bounds__(32 * SKINNY_WARPS)
    skinny_kernel(struct finish f, const float *x, const TW *w, bool aligned)
{
    const int64_t row0 = (int64_t)blockIdx.x * ROWS;
    const int64_t col0 = ((int64_t)blockIdx.y * SKINNY_WARPS + (int)threadIdx.x / 32) * SKINNY_COLS;
    const int lane = (int)threadIdx.x % 32;
    const int64_t row = row0 + lane / SKINNY_COLS;
    const int64_t col = col0 + lane % SKINNY_COLS;
    const float *x_row[ROWS];
    const TW *w_row[SKINNY_COLS];
    float sum[ROWS][SKINNY_COLS] = {};
    float mine = 0.0F;

    if (col0 >= f.n) {
        return;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        x_row[r] = x + (row0 + r < f.m ? row0 + r : f.m - 1) * f.k;
    }
#pragma unroll
    for (int c = 0; c < SKINNY_COLS; c++) {
        w_row[c] = w + (col0 + c < f.n ? col0 + c : f.n - 1) * f.k;
    }
    skinny_dots<TW, ROWS>(x_row, w_row, f.k, aligned, sum);
#pragma unroll
    for (int i = 0; i < ROWS * SKINNY_COLS; i++) {
        const float total = warp_sum(sum[i / SKINNY_COLS][i % SKINNY_COLS]);

        mine = i == lane ? total : mine;
    }
    /* Lane l has row l / 4, column l % 4. */
    if (lane < ROWS * SKINNY_COLS && row < f.m && col < f.n) {
        put_any(f, row * f.n + col, finish_sum(f, gate_of_row(f, row), col, mine));
    }
}

/* ---- tiled ---- */

/*
 * 256 threads make 128 x 128 of y, each 8 x 8: rows ty * 4 + {0..3, 64..67}, columns likewise. Pieces of
 * 16 of k lie transposed in shared memory, two of them: while one is multiplied the next is on its
 * way in registers. A warp writes 32 rows of one k, without bank conflicts; reads are broadcasts or 16 bytes
 * in a row.
 */
enum {
    TILED = 128,
    TILED_K = 16,
    TILED_THREADS = 256,
    TILED_LD = TILED + 4,
    TILED_PIECE = TILED_K * TILED_LD, /* floats */
    TILED_SHARED = 2 * 2 * TILED_PIECE * 4
};

/* v[i] = p[i], i < 8; p is aligned to 16 bytes. */
static __device__ __forceinline__ void load_8(float v[8], const float *p)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const struct pack<float, 4> part = load_pack<4>(p + 4 * i);

#pragma unroll
        for (int j = 0; j < 4; j++) {
            v[4 * i + j] = part.v[j];
        }
    }
}

static __device__ __forceinline__ void load_8(float v[8], const struct bf16 *p)
{
    const struct pack<struct bf16, 8> all = load_pack<8>(p);

#pragma unroll
    for (int i = 0; i < 8; i++) {
        v[i] = to_float(all.v[i]);
    }
}

/* Elements [k0, k0 + 8) of a row, zeros where there are none. */
template <typename T>
static __device__ __forceinline__ void take_8(float v[8], const T *from, int64_t row, int64_t rows,
                                              int64_t k0, int64_t k_end, bool aligned)
{
    const T *p = from + (row < rows ? row * k_end : 0);

    if (aligned && row < rows && k0 + 8 <= k_end) {
        load_8(v, p + k0);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        v[i] = row < rows && k0 + i < k_end ? to_float(p[k0 + i]) : 0.0F;
    }
}

/* Thread t has row t % 128 and the half t / 128 of the 16. */
static __device__ __forceinline__ void lay_8(float *piece, const float v[8])
{
    const int row = (int)threadIdx.x % TILED;
    const int k = (int)threadIdx.x / TILED * 8;

#pragma unroll
    for (int i = 0; i < 8; i++) {
        piece[(k + i) * TILED_LD + row] = v[i];
    }
}

static __device__ __forceinline__ void multiply_tiled(const float *xs, const float *ws,
                                                      float sum[8][8])
{
    const int ty = (int)threadIdx.x / 16 * 4;
    const int tx = (int)threadIdx.x % 16 * 4;

#pragma unroll 4
    for (int k = 0; k < TILED_K; k++) {
        float a[8];
        float b[8];

#pragma unroll
        for (int half = 0; half < 2; half++) {
            const struct pack<float, 4> x = load_pack<4>(xs + k * TILED_LD + ty + half * 64);
            const struct pack<float, 4> w = load_pack<4>(ws + k * TILED_LD + tx + half * 64);

#pragma unroll
            for (int i = 0; i < 4; i++) {
                a[half * 4 + i] = x.v[i];
                b[half * 4 + i] = w.v[i];
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                sum[i][j] += a[i] * b[j];
            }
        }
    }
}

/* Like put_fragments(): a warp's rows, 8 of the upper and 8 of the lower half, 128 columns. */
static __device__ __forceinline__ void put_tiled(const struct finish &f, int64_t m0, int64_t n0,
                                                 float *shared, const float sum[8][8])
{
    const int warp = (int)threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    float *part = shared + warp * 8 * TILED;

#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            struct pack<float, 4> four;

#pragma unroll
            for (int j = 0; j < 4; j++) {
                four.v[j] = sum[half * 4 + i / 2][i % 2 * 4 + j];
            }
            store_pack<4>(part + (lane / 16 * 4 + i / 2) * TILED + lane % 16 * 4 + i % 2 * 64,
                          four);
        }
        __syncwarp();
#pragma unroll 1
        for (int e = lane; e < 8 * TILED; e += 32) {
            const int64_t row = m0 + half * 64 + warp * 8 + e / TILED;
            const int64_t col = n0 + e % TILED;

            if (row < f.m && col < f.n) {
                put_any(f, row * f.n + col, finish_sum(f, gate_of_row(f, row), col, part[e]));
            }
        }
        __syncwarp();
    }
}

template <typename TX, typename TW>
static __global__ void __launch_bounds__(TILED_THREADS)
    tiled_kernel(struct finish f, const TX *x, const TW *w, bool aligned)
{
    CUDA_SHARED(shared);
    float *const xs = (float *)shared;
    float *const ws = xs + 2 * TILED_PIECE;
    const int64_t m0 = (int64_t)blockIdx.x * TILED;
    const int64_t n0 = (int64_t)blockIdx.y * TILED;
    const int row = (int)threadIdx.x % TILED;
    const int half = (int)threadIdx.x / TILED * 8;
    const int pieces = (int)((f.k + TILED_K - 1) / TILED_K);
    float sum[8][8] = {};
    float xv[8];
    float wv[8];

    take_8(xv, x, m0 + row, f.m, half, f.k, aligned);
    take_8(wv, w, n0 + row, f.n, half, f.k, aligned);
    for (int p = 0; p < pieces; p++) {
        const int now = p % 2 * TILED_PIECE;

        lay_8(xs + now, xv);
        lay_8(ws + now, wv);
        /* One barrier is enough: the other piece was read before the barrier of the turn before. */
        __syncthreads();
        if (p + 1 < pieces) {
            const int64_t k = (int64_t)(p + 1) * TILED_K + half;

            take_8(xv, x, m0 + row, f.m, k, f.k, aligned);
            take_8(wv, w, n0 + row, f.n, k, f.k, aligned);
        }
        multiply_tiled(xs + now, ws + now, sum);
    }
    __syncthreads(); /* the pieces are free */
    put_tiled(f, m0, n0, xs, sum);
}

/* ---- for cuBLASLt ---- */

/* to = gate[n] * w [n, k], 8 elements a thread; to_bias = gate * bias. 20 MB for 2240 x 2240: 5 us. */
static __global__ void gate_weights_kernel(struct bf16 *to, float *to_bias, const struct bf16 *w,
                                           const float *bias, const float *gate, int64_t n,
                                           int64_t k)
{
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    const int64_t row = i / k;
    struct pack<struct bf16, 8> v;
    float g;

    if (i >= n * k) {
        return;
    }
    g = gate[row];
    v = load_pack<8>(w + i);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        v.v[j] = float_to_bf16(to_float(v.v[j]) * g);
    }
    store_pack<8>(to + i, v);
    if (bias && i == row * k) {
        to_bias[row] = bias[row] * g;
    }
}

static __global__ void round_bias_kernel(struct bf16 *to, const float *bias, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n) {
        to[i] = float_to_bf16(bias[i]);
    }
}

/* ---- the choice ---- */

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

static struct finish finish_of(const struct tensor *y, const struct tensor *x,
                               const struct matmul_epilogue *ep)
{
    struct finish f = {};

    f.y = y->data;
    f.m = y->dim[0];
    f.n = y->dim[1];
    f.k = x->dim[1];
    f.bias = ep->bias ? (const float *)ep->bias->data : NULL;
    f.gate = ep->gate ? (const float *)ep->gate->data : NULL;
    f.group = ep->gate ? (const int32_t *)ep->group->data : NULL;
    f.rows_per_group = ep->rows_per_group;
    f.act = ep->act;
    f.residual = ep->residual;
    f.y_bf16 = y->dtype == DTYPE_BF16;
    return f;
}

/* CUDA's limits of a grid; far beyond what fits in memory. */
static int check_grid(int64_t x, int64_t y, struct err *err)
{
    if (x > INT32_MAX || y > 65535) {
        return err_set(err, ERR_UNSUPPORTED, "matmul: %lld x %lld tiles on a GPU", (long long)x,
                       (long long)y);
    }
    return ERR_OK;
}

template <typename TY, bool ALIGNED>
static void launch_mma(struct device *dev, const struct finish &f, const struct tensor *x,
                       const struct tensor *w, unsigned blocks)
{
    CUDA_LAUNCH((mma_kernel<TY, ALIGNED>), blocks, MMA_THREADS, MMA_SHARED, cuda_stream(dev), f,
                (const struct bf16 *)x->data, (const struct bf16 *)w->data);
}

static int run_mma(struct device *dev, const struct finish &f, const struct tensor *x,
                   const struct tensor *w, struct err *err)
{
    const int64_t blocks = div_ceil(f.m, MMA_TILE) * div_ceil(f.n, MMA_TILE);
    const bool aligned = f.k % 8 == 0 && is_aligned(x->data) && is_aligned(w->data);
    const int rc = check_grid(blocks, 1, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (f.y_bf16) {
        (aligned ? launch_mma<struct bf16, true>
                 : launch_mma<struct bf16, false>)(dev, f, x, w, (unsigned)blocks);
    } else {
        (aligned ? launch_mma<float, true> : launch_mma<float, false>)(dev, f, x, w,
                                                                       (unsigned)blocks);
    }
    return cuda_launched(dev, "matmul", err);
}

template <typename TW>
static int run_skinny(struct device *dev, const struct finish &f, const struct tensor *x,
                      const struct tensor *w, struct err *err)
{
    const int64_t rows = f.m == 1 ? 1 : 8;
    const int64_t blocks_n = div_ceil(f.n, SKINNY_WARPS * SKINNY_COLS);
    const bool aligned = f.k % 8 == 0 && is_aligned(x->data) && is_aligned(w->data);
    const dim3 grid((unsigned)div_ceil(f.m, rows), (unsigned)blocks_n);
    const int rc = check_grid(1, blocks_n, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (rows == 1) {
        CUDA_LAUNCH((skinny_kernel<TW, 1>), grid, 32 * SKINNY_WARPS, 0, cuda_stream(dev), f,
                    (const float *)x->data, (const TW *)w->data, aligned);
    } else {
        CUDA_LAUNCH((skinny_kernel<TW, 8>), grid, 32 * SKINNY_WARPS, 0, cuda_stream(dev), f,
                    (const float *)x->data, (const TW *)w->data, aligned);
    }
    return cuda_launched(dev, "matmul", err);
}

template <typename TX, typename TW>
static int run_tiled(struct device *dev, const struct finish &f, const struct tensor *x,
                     const struct tensor *w, struct err *err)
{
    const int64_t blocks_m = div_ceil(f.m, TILED);
    const int64_t blocks_n = div_ceil(f.n, TILED);
    const bool aligned = f.k % 8 == 0 && is_aligned(x->data) && is_aligned(w->data);
    const dim3 grid((unsigned)blocks_m, (unsigned)blocks_n);
    const int rc = check_grid(blocks_m, blocks_n, err);

    if (rc != ERR_OK) {
        return rc;
    }
    CUDA_LAUNCH((tiled_kernel<TX, TW>), grid, TILED_THREADS, TILED_SHARED, cuda_stream(dev), f,
                (const TX *)x->data, (const TW *)w->data, aligned);
    return cuda_launched(dev, "matmul", err);
}

/* Is there a recipe of cuBLASLt's for this? */
static bool blas_has(const struct finish &f, const struct matmul_epilogue *ep)
{
    if (f.act == MATMUL_SILU || (f.act != MATMUL_NONE && f.residual) || (f.residual && f.y_bf16)) {
        return false;
    }
    if (f.gate && ep->gate->dim[0] != 1) {
        return false;
    }
    return f.k % 8 == 0 && f.n % 8 == 0;
}

/* Scratch: the library's workspace, then a bias, then weights. */
static int blas_gemm_of(struct device *dev, const struct finish &f, const struct tensor *x,
                        const struct tensor *w, struct cuda_blas_gemm *ret, struct err *err)
{
    const size_t workspace = cuda_blas_workspace(cuda_blas_of(dev));
    const size_t bias = ((size_t)f.n * sizeof(float) + 255) & ~(size_t)255;
    const size_t weights = f.residual ? (size_t)f.n * (size_t)f.k * sizeof(struct bf16) : 0;
    void *scratch;
    const int rc = cuda_scratch(dev, workspace + bias + weights, &scratch, err);

    if (rc != ERR_OK) {
        return rc;
    }
    ret->m = f.m;
    ret->n = f.n;
    ret->k = f.k;
    ret->y = f.y;
    ret->y_bf16 = f.y_bf16;
    ret->gelu = f.act == MATMUL_GELU_TANH;
    ret->residual = f.residual;
    ret->workspace = scratch;
    ret->spare_bias = (char *)scratch + workspace;
    ret->spare_w = (char *)ret->spare_bias + bias;
    ret->x = x->data;
    ret->w = f.gate ? ret->spare_w : w->data;
    ret->bias = f.bias && (f.gate || f.y_bf16) ? ret->spare_bias : f.bias;
    return ERR_OK;
}

/* Weights and bias as the plan wants them. */
static int blas_operands(struct device *dev, const struct finish &f, const struct tensor *w,
                         const struct cuda_blas_gemm *gemm, struct err *err)
{
    if (f.gate) {
        const int64_t blocks = div_ceil(f.n * f.k / 8, 256);
        const int rc = check_grid(blocks, 1, err);

        if (rc != ERR_OK) {
            return rc;
        }
        CUDA_LAUNCH(gate_weights_kernel, (unsigned)blocks, 256, 0, cuda_stream(dev),
                    (struct bf16 *)gemm->spare_w, (float *)gemm->spare_bias,
                    (const struct bf16 *)w->data, f.bias, f.gate, f.n, f.k);
    } else if (f.bias && f.y_bf16) {
        CUDA_LAUNCH(round_bias_kernel, (unsigned)div_ceil(f.n, 256), 256, 0, cuda_stream(dev),
                    (struct bf16 *)gemm->spare_bias, f.bias, f.n);
    }
    return cuda_launched(dev, "matmul", err);
}

/* *ret_done false: nothing was done. */
static int run_blas(struct device *dev, const struct finish &f, const struct tensor *x,
                    const struct tensor *w, bool *ret_done, struct err *err)
{
    struct cuda_blas *blas = cuda_blas_of(dev);
    struct cuda_blas_gemm gemm = {};
    struct cuda_blas_plan *plan = NULL;
    int rc = blas_gemm_of(dev, f, x, w, &gemm, err);

    if (rc == ERR_OK) {
        rc = cuda_blas_plan(blas, &gemm, cuda_stream(dev), &plan, err);
    }
    if (rc != ERR_OK || !plan) {
        return rc;
    }
    rc = blas_operands(dev, f, w, &gemm, err);
    return rc == ERR_OK ? cuda_blas_run(blas, plan, &gemm, cuda_stream(dev), ret_done, err) : rc;
}

/* Both types are f32 or bf16. */
static int run_f32(struct device *dev, const struct finish &f, const struct tensor *x,
                   const struct tensor *w, struct err *err)
{
    const bool w_bf16 = w->dtype == DTYPE_BF16;

    if (x->dtype == DTYPE_BF16) {
        return run_tiled<struct bf16, float>(dev, f, x, w, err); /* bf16 w: mma */
    }
    if (f.m <= SKINNY_MAX_ROWS) {
        return w_bf16 ? run_skinny<struct bf16>(dev, f, x, w, err)
                      : run_skinny<float>(dev, f, x, w, err);
    }
    return w_bf16 ? run_tiled<float, struct bf16>(dev, f, x, w, err)
                  : run_tiled<float, float>(dev, f, x, w, err);
}

int matmul_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                const struct tensor *w, const struct matmul_epilogue *ep, struct err *err)
{
    const struct finish f = finish_of(y, x, ep);
    bool done = false;
    int rc = ERR_OK;

    if (f.m == 0 || f.n == 0) {
        return ERR_OK;
    }
    if (x->dtype != DTYPE_BF16 || w->dtype != DTYPE_BF16) {
        return run_f32(dev, f, x, w, err);
    }
    if (cuda_blas_of(dev) && blas_has(f, ep)) {
        rc = run_blas(dev, f, x, w, &done, err);
    }
    return rc != ERR_OK || done ? rc : run_mma(dev, f, x, w, err);
}
