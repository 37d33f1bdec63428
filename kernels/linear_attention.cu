/*
 * The transformer's linear attention on a GPU.
 *
 * In bf16, for heads of 16, 32 .. 128 channels, both products run on the tensor cores. A block has one
 * head and a range of tokens, which pass through shared memory 64 at a time; d / 16 warps. A thread has the
 * same 8 channels of every 16th token of a tile, so weights, tables and sums of k' stay in its
 * registers while it norms, rectifies and rotates the tile in place.
 *   state: warp w has rows 16w .. 16w + 15 of S, all columns, in its accumulators. Partial sums of the
 *          ranges go to scratch and are added in order by a second kernel.
 *   out:   warp w has output channels 16w .. 16w + 15 and keeps its rows of S as fragments in registers,
 *          each number as hi + lo bf16, so S loses nothing; q~ is what streams.
 * k~ and q~ are rounded to bf16, as the reference's are: that costs 1.7e-3 relative in S; the output is
 * within 2.4e-3, of which 1.65e-3 is its own rounding.
 *
 * 20 heads of 112, 15600 tokens: state and out move 140 MB each (33 us at 4.3 TB/s), with 7.8 and 15.7 GFLOP
 * (10 and 20 us at 790 TFLOP/s); the aim is 42 us each. rms_rstd moves 70 MB: 16 us, the aim is 21.
 *
 * Anything else (F32, other heads) goes through plain kernels in F32.
 */
#include "kernels/linear_attention.h"

#include "kernels/cuda_kernel.cuh"

enum {
    TILE = 64,      /* tokens in shared memory at a time */
    TILE_ROWS = 16, /* of them at a time in a thread's loop: 2 d threads, d / 8 for a token */
    BLOCKS = 260,   /* aimed at: two on each of an H200's multiprocessors; the same on every GPU */
    MMA_MAX_D = 128,
    THREADS = 256, /* of the plain kernels */
    PLAIN_MAX_D = 256,
    PLAIN_TOKENS = 32, /* per step */
    PLAIN_SIDE = 64    /* of S per block: 64 x 64, or 64 output channels at a time */
};

/* ---- 1 / rms of rows ---- */

/* A warp has a row. N: numbers in a load. */
template <typename T, int N>
static __global__ void __launch_bounds__(THREADS)
    rms_rstd_kernel(float *rstd, const T *x, int64_t rows, int64_t dim, float eps)
{
    const int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const T *from = x + row * dim;
    float sum = 0.0F;

    if (row >= rows) {
        return;
    }
#pragma unroll 4
    for (int64_t c = (int64_t)(threadIdx.x % 32) * N; c < dim; c += 32 * N) {
        const struct pack<T, N> p = load_pack<N>(from + c);

        for (int j = 0; j < N; j++) {
            sum += to_float(p.v[j]) * to_float(p.v[j]);
        }
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
        rstd[row] = 1.0F / sqrtf(sum / (float)dim + eps);
    }
}

static bool aligned_16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

template <typename T>
static void rms_rstd_launch(const struct device *dev, const struct tensor *rstd,
                            const struct tensor *x, float eps)
{
    const int per_load = 16 / (int)sizeof(T);
    const int64_t rows = x->dim[0];
    const int64_t dim = x->dim[1];
    const unsigned blocks = (unsigned)div_ceil(rows, THREADS / 32);

    if (dim % per_load == 0 && aligned_16(x->data)) {
        CUDA_LAUNCH((rms_rstd_kernel<T, per_load>), blocks, THREADS, 0, cuda_stream(dev),
                    (float *)rstd->data, (const T *)x->data, rows, dim, eps);
    } else {
        CUDA_LAUNCH((rms_rstd_kernel<T, 1>), blocks, THREADS, 0, cuda_stream(dev),
                    (float *)rstd->data, (const T *)x->data, rows, dim, eps);
    }
}

extern "C" int rms_rstd_cuda(struct device *dev, const struct tensor *rstd, const struct tensor *x,
                             float eps, struct err *err)
{
    if (x->dim[0] == 0) {
        return ERR_OK;
    }
    if (x->dtype == DTYPE_BF16) {
        rms_rstd_launch<struct bf16>(dev, rstd, x, eps);
    } else {
        rms_rstd_launch<float>(dev, rstd, x, eps);
    }
    return cuda_launched(dev, "rms_rstd", err);
}

/* ---- norm, relu and rotation ---- */

/* linear_attention_qk as the kernels take it. */
struct rotary {
    const float *rstd, *weight;
    const float *t, *h, *w; /* tables: (cos, sin) of pairs per position */
    int64_t n;
    int64_t height, width;
    int t_pairs, hw_pairs;
};

static struct rotary rotary_of(const struct linear_attention_qk *qk)
{
    struct rotary r;

    r.rstd = (const float *)qk->rstd->data;
    r.weight = (const float *)qk->weight->data;
    r.t = (const float *)qk->rope->t.data;
    r.h = (const float *)qk->rope->h.data;
    r.w = (const float *)qk->rope->w.data;
    r.n = qk->rstd->dim[0];
    r.height = qk->rope->height;
    r.width = qk->rope->width;
    r.t_pairs = (int)qk->rope->t.dim[1];
    r.hw_pairs = (int)qk->rope->h.dim[1];
    return r;
}

/* relu of the norm; NaN stays NaN, and -inf becomes NaN. */
static __device__ __forceinline__ float rectified(float x, float rstd, float weight)
{
    const float r = x * rstd * weight;

    return r > 0.0F ? r : r * 0.0F;
}

/* A token's rows of the three tables, and its 1 / rms. */
struct alignas(16) place {
    const float *at[3];
    float rstd;
};

/* The 8 channels that a thread has. The weights stay in the first level cache: there is no room for them in
 * registers. angle: of each pair, 4 * its place in the row + the axis. */
struct channels {
    const float *weight;
    int angle[4];
};

/* channel: the first, within the head. */
static __device__ __forceinline__ struct channels channels_of(const struct rotary &r, int64_t head,
                                                              int d, int channel)
{
    struct channels c;

    c.weight = r.weight + head * d + channel;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int pair = channel / 2 + j;
        const int y = pair - r.t_pairs;
        const int x = y - r.hw_pairs;

        c.angle[j] = y < 0 ? 8 * pair : x < 0 ? 8 * y + 1 : 8 * x + 2;
    }
    return c;
}

/* Of the tile of tokens that begins at first. Tokens past the end have rstd 0: all their numbers are 0. */
static __device__ __forceinline__ void places_fill(struct place *places, const struct rotary &r,
                                                   int64_t first)
{
    for (int i = (int)threadIdx.x; i < TILE; i += (int)blockDim.x) {
        const uint32_t token = (uint32_t)first + (uint32_t)i;
        const uint32_t line = token / (uint32_t)r.width;
        const bool valid = token < (uint32_t)r.n;
        struct place p = {{r.t, r.h, r.w}, 0.0F};

        if (valid) {
            p.at[0] += (int64_t)(line / (uint32_t)r.height) * r.t_pairs * 2;
            p.at[1] += (int64_t)(line % (uint32_t)r.height) * r.hw_pairs * 2;
            p.at[2] += (int64_t)(token % (uint32_t)r.width) * r.hw_pairs * 2;
            p.rstd = r.rstd[token];
        }
        places[i] = p;
    }
}

/* (cos, sin) of the thread's pairs j and j + 1, j being even: one load where FOURS. */
template <bool FOURS>
static __device__ __forceinline__ void turns_load(float turn[4], const struct place *p,
                                                  const struct channels &c, int j)
{
    constexpr int N = FOURS ? 4 : 2;

#pragma unroll
    for (int i = 0; i < 4; i += N) {
        const int angle = c.angle[j + i / 2];
        const struct pack<float, N> some = load_pack<N>(p->at[angle & 3] + (angle >> 2));

#pragma unroll
        for (int k = 0; k < N; k++) {
            turn[i + k] = some.v[k];
        }
    }
}

/* 8 channels of a token in shared memory, in place; plain: before the rotation. */
template <bool FOURS>
static __device__ __forceinline__ void
rotate_in_place(struct bf16 *x, float plain[8], const struct place *p, const struct channels &c)
{
    const struct pack<struct bf16, 8> from = load_pack<8>(x);
    struct pack<struct bf16, 8> to;

#pragma unroll
    for (int j = 0; j < 8; j += 4) {
        const struct pack<float, 4> weight = load_pack<4>(c.weight + j);
        float turn[4];

        turns_load<FOURS>(turn, p, c, j / 2);
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            const float a = rectified(to_float(from.v[j + i]), p->rstd, weight.v[i]);
            const float b = rectified(to_float(from.v[j + i + 1]), p->rstd, weight.v[i + 1]);

            plain[j + i] = a;
            plain[j + i + 1] = b;
            to.v[j + i] = float_to_bf16(a * turn[i] - b * turn[i + 1]);
            to.v[j + i + 1] = float_to_bf16(a * turn[i + 1] + b * turn[i]);
        }
    }
    store_pack<8>(x, to);
}

/* Tiles [first, first + count) of a block's head. */
struct range {
    int64_t first;
    int count;
};

static __device__ __forceinline__ struct range range_of(int64_t tokens, int tiles_per_block)
{
    const int64_t tiles = (tokens + TILE - 1) / TILE;
    struct range r;

    r.first = (int64_t)blockIdx.y * tiles_per_block;
    r.count = (int)(tiles - r.first < tiles_per_block ? tiles - r.first : tiles_per_block);
    return r;
}

/* A row of a tile in shared memory: an odd number of 16 bytes, so that ldmatrix meets no bank twice. */
template <int D> struct tile_of {
    static const int pitch = D + 8;
    static const int size = TILE * pitch;
    static const int stages = D <= 112 ? 3 : 2; /* all but one on their way; 99 KiB at most */
    static const bool fours = D / 6 % 2 == 0;   /* each axis has pairs by two, 16 bytes */
};

/* A tile of one head to shared memory, zeros past the end. x: the head's first channel. */
template <int D>
static __device__ __forceinline__ void tile_load(struct bf16 *to, const struct bf16 *x,
                                                 int64_t first, int64_t tokens, int64_t stride)
{
    const int channel = (int)threadIdx.x % (D / 8) * 8;

#pragma unroll 1
    for (int i = 0; i < TILE; i += TILE_ROWS) {
        const int row = i + (int)threadIdx.x / (D / 8);
        const bool valid = first + row < tokens;

        cp_async_16(to + row * tile_of<D>::pitch + channel,
                    valid ? x + (first + row) * stride + channel : x, valid);
    }
}

/* ---- state, on tensor cores ---- */

/* sum[v channel of the warp][k channel] += v k~^T over one tile: A is v, B is k~, both stored by token. */
template <int D>
static __device__ __forceinline__ void state_multiply(float sum[D / 8][4], const struct bf16 *k,
                                                      const struct bf16 *v)
{
    const int lane = (int)threadIdx.x % 32;
    const int warp = (int)threadIdx.x / 32;
    const struct bf16 *a_row =
        v + (lane / 16 * 8 + lane % 8) * tile_of<D>::pitch + warp * 16 + lane / 8 % 2 * 8;
    const struct bf16 *b_row =
        k + (lane / 8 % 2 * 8 + lane % 8) * tile_of<D>::pitch + lane / 16 * 8;

#pragma unroll 1
    for (int step = 0; step < TILE / 16; step++) {
        const int at = step * 16 * tile_of<D>::pitch;
        uint32_t a[4];

        ldmatrix_x4_trans(a, a_row + at);
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];

            ldmatrix_x4_trans(b, b_row + at + n * 16);
            mma_bf16(sum[2 * n], a, b);
            mma_bf16(sum[2 * n + 1], a, b + 2);
        }
    }
}

template <int D>
static __device__ __forceinline__ void state_store(float *part, const float sum[D / 8][4])
{
    const int lane = (int)threadIdx.x % 32;
    float *row = part + ((int64_t)(threadIdx.x / 32) * 16 + lane / 4) * D + lane % 4 * 2;

#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        const struct pack<float, 2> top = {
            {
                sum[n][0], sum[n][1]
            }
        };
        const struct pack<float, 2> bottom = {
            {
                sum[n][2], sum[n][3]
            }
        };

        store_pack<2>(row + n * 8, top);
        store_pack<2>(row + n * 8 + 8 * D, bottom);
    }
}

/* The threads' sums of k' (each has 8 channels of every 16th token) to part[D]. */
template <int D>
static __device__ __forceinline__ void k_sum_store(float *part, const float k_sum[8], float *shared)
{
    const int channel = (int)threadIdx.x % (D / 8) * 8;
    float *mine = shared + (int)threadIdx.x / (D / 8) * D + channel;

#pragma unroll
    for (int j = 0; j < 8; j++) {
        mine[j] = k_sum[j];
    }
    __syncthreads();
    if (threadIdx.x < D) {
        float sum = 0.0F;

        for (int i = 0; i < TILE_ROWS; i++) {
            sum += shared[i * D + threadIdx.x];
        }
        part[threadIdx.x] = sum;
    }
}

template <int D> static size_t state_shared()
{
    return tile_of<D>::stages * 2 * tile_of<D>::size * sizeof(struct bf16) +
           2 * TILE * sizeof(struct place);
}

/* Block (head, range). part_s [ranges, heads, D, D], part_k [ranges, heads, D]. */
template <int D>
static __global__ void __launch_bounds__(2 * D, D <= 112 ? 2 : 1)
    state_mma_kernel(float *part_s, float *part_k, const struct bf16 *k, const struct bf16 *v,
                     struct rotary r, int tiles_per_block)
{
    CUDA_SHARED(memory);
    struct bf16 *const tiles = (struct bf16 *)memory;
    struct place *const places =
        (struct place *)(tiles + tile_of<D>::stages * 2 * tile_of<D>::size);
    const struct range range = range_of(r.n, tiles_per_block);
    const int64_t stride = (int64_t)gridDim.x * D;
    const int64_t part = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
    const int mine =
        (int)threadIdx.x / (D / 8) * tile_of<D>::pitch + (int)threadIdx.x % (D / 8) * 8;
    const struct channels c = channels_of(r, blockIdx.x, D, (int)threadIdx.x % (D / 8) * 8);
    float sum[D / 8][4] = {};
    float k_sum[8] = {};

    k += (int64_t)blockIdx.x * D;
    v += (int64_t)blockIdx.x * D;
    places_fill(places, r, range.first * TILE);
    for (int i = 0; i < tile_of<D>::stages - 1; i++) {
        if (i < range.count) {
            struct bf16 *to = tiles + i * 2 * tile_of<D>::size;

            tile_load<D>(to, k, (range.first + i) * TILE, r.n, stride);
            tile_load<D>(to + tile_of<D>::size, v, (range.first + i) * TILE, r.n, stride);
        }
        cp_async_commit();
    }
    for (int i = 0; i < range.count; i++) {
        struct bf16 *const tile = tiles + i % tile_of<D>::stages * 2 * tile_of<D>::size;
        const int next = i + tile_of<D>::stages - 1;

        cp_async_wait<tile_of<D>::stages - 2>();
        __syncthreads(); /* tile i is there; tile i - 1 was used by all */
        if (next < range.count) {
            struct bf16 *to = tiles + next % tile_of<D>::stages * 2 * tile_of<D>::size;

            tile_load<D>(to, k, (range.first + next) * TILE, r.n, stride);
            tile_load<D>(to + tile_of<D>::size, v, (range.first + next) * TILE, r.n, stride);
        }
        cp_async_commit();
        places_fill(places + (i + 1) % 2 * TILE, r, (range.first + i + 1) * TILE);
#pragma unroll 1
        for (int row = 0; row < TILE; row += TILE_ROWS) {
            const struct place *p = places + i % 2 * TILE + row + (int)threadIdx.x / (D / 8);
            float plain[8];

            rotate_in_place<tile_of<D>::fours>(tile + mine + row * tile_of<D>::pitch, plain, p, c);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                k_sum[j] += plain[j];
            }
        }
        __syncthreads();
        state_multiply<D>(sum, tile, tile + tile_of<D>::size);
    }
    state_store<D>(part_s + part * D * D, sum);
    __syncthreads();
    k_sum_store<D>(part_k + part * D, k_sum, (float *)memory);
}

/* s and k_sum += their parts, in order. */
static __global__ void __launch_bounds__(THREADS)
    state_add_kernel(float *s, float *k_sum, const float *part_s, const float *part_k, int64_t n_s,
                     int64_t n_k, int parts)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const bool is_s = i < n_s;
    const int64_t at = is_s ? i : i - n_s;
    const int64_t stride = is_s ? n_s : n_k;
    const float *part = is_s ? part_s : part_k;
    float *to = is_s ? s : k_sum;
    float sum = 0.0F;

    if (i >= n_s + n_k) {
        return;
    }
#pragma unroll 4
    for (int p = 0; p < parts; p++) {
        sum += part[p * stride + at];
    }
    to[at] += sum;
}

/* ---- state, plain ---- */

/* Two channels of a token: normed and rectified, and rotated. */
struct turned {
    float plain[2], rotated[2];
};

template <typename T>
static __device__ __forceinline__ struct turned
turn_pair(const struct rotary &r, const T *x, int64_t token, int head, int heads, int d, int pair)
{
    const int64_t line = token / r.width;
    const int64_t hw = 2 * (int64_t)r.hw_pairs;
    const int y = pair - r.t_pairs;
    const int z = y - r.hw_pairs;
    const float *cs = y < 0   ? r.t + line / r.height * r.t_pairs * 2 + 2 * pair
                      : z < 0 ? r.h + line % r.height * hw + 2 * y
                              : r.w + token % r.width * hw + 2 * z;
    const float *weight = r.weight + (int64_t)head * d + 2 * pair;
    struct turned u;

    x += (token * heads + head) * d + 2 * pair;
    u.plain[0] = rectified(to_float(x[0]), r.rstd[token], weight[0]);
    u.plain[1] = rectified(to_float(x[1]), r.rstd[token], weight[1]);
    u.rotated[0] = u.plain[0] * cs[0] - u.plain[1] * cs[1];
    u.rotated[1] = u.plain[0] * cs[1] + u.plain[1] * cs[0];
    return u;
}

/* Block (head, range, 64 x 64 of S): thread (y, x) of 16 x 16 has rows y + 16i and columns x + 16j. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    state_plain_kernel(float *part_s, float *part_k, const T *k, const T *v, struct rotary r, int d,
                       int tiles_per_block)
{
    CUDA_SHARED(memory);
    float *const values = (float *)memory;
    float *const keys = values + PLAIN_TOKENS * PLAIN_SIDE;
    float *const plain = keys + PLAIN_TOKENS * PLAIN_SIDE;
    const int heads = (int)gridDim.x;
    const int head = (int)blockIdx.x;
    const int sides = (d + PLAIN_SIDE - 1) / PLAIN_SIDE;
    const int v0 = (int)blockIdx.z / sides * PLAIN_SIDE;
    const int k0 = (int)blockIdx.z % sides * PLAIN_SIDE;
    const struct range range = range_of(r.n, tiles_per_block);
    const int64_t last = (range.first + range.count) * TILE;
    const int64_t end = last < r.n ? last : r.n;
    const int64_t part = (int64_t)blockIdx.y * heads + head;
    const int x = (int)threadIdx.x % 16;
    const int y = (int)threadIdx.x / 16;
    float sum[4][4] = {};
    float k_sum = 0.0F;

    for (int64_t first = range.first * TILE; first < end; first += PLAIN_TOKENS) {
        for (int i = (int)threadIdx.x; i < PLAIN_TOKENS * PLAIN_SIDE / 2; i += THREADS) {
            const int64_t token = first + i / (PLAIN_SIDE / 2);
            const int c = i % (PLAIN_SIDE / 2) * 2;
            struct turned u = {{0.0F, 0.0F}, {0.0F, 0.0F}};
            float w[2] = {0.0F, 0.0F};

            if (token < end && k0 + c < d) {
                u = turn_pair(r, k, token, head, heads, d, (k0 + c) / 2);
            }
            if (token < end && v0 + c < d) {
                w[0] = to_float(v[(token * heads + head) * d + v0 + c]);
                w[1] = to_float(v[(token * heads + head) * d + v0 + c + 1]);
            }
            for (int j = 0; j < 2; j++) {
                values[2 * i + j] = w[j];
                keys[2 * i + j] = u.rotated[j];
                plain[2 * i + j] = u.plain[j];
            }
        }
        __syncthreads();
        for (int m = 0; m < PLAIN_TOKENS; m++) {
            const float *value = values + m * PLAIN_SIDE + y;
            const float *key = keys + m * PLAIN_SIDE + x;

#pragma unroll
            for (int i = 0; i < 16; i++) {
                sum[i / 4][i % 4] += value[i / 4 * 16] * key[i % 4 * 16];
            }
            k_sum += threadIdx.x < PLAIN_SIDE ? plain[m * PLAIN_SIDE + threadIdx.x] : 0.0F;
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const int row = v0 + y + i / 4 * 16;
        const int column = k0 + x + i % 4 * 16;

        if (row < d && column < d) {
            part_s[(part * d + row) * d + column] = sum[i / 4][i % 4];
        }
    }
    if (v0 == 0 && threadIdx.x < PLAIN_SIDE && k0 + (int)threadIdx.x < d) {
        part_k[part * d + k0 + threadIdx.x] = k_sum;
    }
}

/* ---- output, on tensor cores ---- */

/* Rows of S of a warp as B fragments. Output channel 4t + 2j + e of the warp's 16 is column 2t + e of
 * fragment j: so a lane gets four channels in a row, and stores 8 bytes. */
template <int D> struct s_rows {
    uint32_t hi[D / 16][2][2];
    uint32_t lo[D / 16][2][2];
};

template <int D>
static __device__ __forceinline__ void s_rows_load(struct s_rows<D> *rows, const float *s)
{
    const int lane = (int)threadIdx.x % 32;
    const int warp = (int)threadIdx.x / 32;

#pragma unroll
    for (int i = 0; i < D / 16 * 4; i++) {
        const int step = i / 4;
        const int j = i / 2 % 2;
        const int half = i % 2;
        const int row = warp * 16 + lane / 8 * 4 + 2 * j + lane / 4 % 2;
        const struct pack<float, 2> x =
            load_pack<2>(s + row * D + step * 16 + half * 8 + lane % 4 * 2);
        const float a = to_float(float_to_bf16(x.v[0]));
        const float b = to_float(float_to_bf16(x.v[1]));

        rows->hi[step][j][half] = pack_bf16(a, b);
        rows->lo[step][j][half] = pack_bf16(x.v[0] - a, x.v[1] - b);
    }
}

/* o = inverse * q~ S^T over one tile. o: the warp's 16 channels of the tile's first token. */
template <int D>
static __device__ __forceinline__ void out_multiply(struct bf16 *o, const struct bf16 *q,
                                                    const struct s_rows<D> &s, const float *inverse,
                                                    int64_t tokens, int64_t stride)
{
    const int lane = (int)threadIdx.x % 32;
    const struct bf16 *a_row = q + lane % 16 * tile_of<D>::pitch + lane / 16 * 8;

#pragma unroll 1
    for (int m = 0; m < TILE; m += 16) {
        float num[2][4] = {};

#pragma unroll
        for (int step = 0; step < D / 16; step++) {
            uint32_t a[4];

            ldmatrix_x4(a, a_row + m * tile_of<D>::pitch + step * 16);
            mma_bf16(num[0], a, s.hi[step][0]);
            mma_bf16(num[1], a, s.hi[step][1]);
            mma_bf16(num[0], a, s.lo[step][0]);
            mma_bf16(num[1], a, s.lo[step][1]);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = m + half * 8 + lane / 4;
            const float z = inverse[row];
            struct pack<struct bf16, 4> out;

            out.v[0] = float_to_bf16(num[0][2 * half] * z);
            out.v[1] = float_to_bf16(num[0][2 * half + 1] * z);
            out.v[2] = float_to_bf16(num[1][2 * half] * z);
            out.v[3] = float_to_bf16(num[1][2 * half + 1] * z);
            if (row < tokens) {
                store_pack<4>(o + row * stride + lane % 4 * 4, out);
            }
        }
    }
}

template <int D> static size_t out_shared()
{
    return tile_of<D>::stages * tile_of<D>::size * sizeof(struct bf16) +
           2 * TILE * sizeof(struct place) + TILE * (D / 8 + 2) * sizeof(float);
}

/* Block (head, range). o may be q: a block reads what only it writes, before. */
template <int D>
static __global__ void __launch_bounds__(2 * D, D <= 112 ? 2 : 1)
    out_mma_kernel(struct bf16 *o, const struct bf16 *q, const float *s, const float *k_sum,
                   float eps, struct rotary r, int tiles_per_block)
{
    CUDA_SHARED(memory);
    struct bf16 *const tiles = (struct bf16 *)memory;
    struct place *const places = (struct place *)(tiles + tile_of<D>::stages * tile_of<D>::size);
    float *const dots = (float *)(places + 2 * TILE); /* k_sum . q' by token and 8 channels */
    float *const inverse = dots + TILE * (D / 8 + 1);
    const struct range range = range_of(r.n, tiles_per_block);
    const int64_t stride = (int64_t)gridDim.x * D;
    const int64_t head = (int64_t)blockIdx.x;
    const int my_row = (int)threadIdx.x / (D / 8);
    const int my_eight = (int)threadIdx.x % (D / 8);
    struct s_rows<D> rows;
    const struct channels c = channels_of(r, head, D, my_eight * 8);
    float sums[8];

    q += head * D;
    o += head * D + (int)threadIdx.x / 32 * 16;
    for (int i = 0; i < tile_of<D>::stages - 1; i++) {
        if (i < range.count) {
            tile_load<D>(tiles + i * tile_of<D>::size, q, (range.first + i) * TILE, r.n, stride);
        }
        cp_async_commit();
    }
    places_fill(places, r, range.first * TILE);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        sums[j] = k_sum[head * D + my_eight * 8 + j];
    }
    s_rows_load<D>(&rows, s + head * D * D);
    for (int i = 0; i < range.count; i++) {
        struct bf16 *const tile = tiles + i % tile_of<D>::stages * tile_of<D>::size;
        const int next = i + tile_of<D>::stages - 1;
        const int64_t first = (range.first + i) * TILE;

        cp_async_wait<tile_of<D>::stages - 2>();
        __syncthreads(); /* tile i is there; tile i - 1 was used by all */
        if (next < range.count) {
            tile_load<D>(tiles + next % tile_of<D>::stages * tile_of<D>::size, q,
                         (range.first + next) * TILE, r.n, stride);
        }
        cp_async_commit();
        places_fill(places + (i + 1) % 2 * TILE, r, first + TILE);
#pragma unroll 1
        for (int row = my_row; row < TILE; row += TILE_ROWS) {
            float plain[8];
            float dot = 0.0F;

            rotate_in_place<tile_of<D>::fours>(tile + row * tile_of<D>::pitch + my_eight * 8, plain,
                                               places + i % 2 * TILE + row, c);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                dot += plain[j] * sums[j];
            }
            dots[row * (D / 8 + 1) + my_eight] = dot;
        }
        __syncthreads();
        for (int row = (int)threadIdx.x; row < TILE; row += 2 * D) {
            float den = eps;

            for (int j = 0; j < D / 8; j++) {
                den += dots[row * (D / 8 + 1) + j];
            }
            inverse[row] = 1.0F / den;
        }
        __syncthreads();
        out_multiply<D>(o + first * stride, tile, rows, inverse, r.n - first, stride);
    }
}

/* ---- output, plain ---- */

static size_t out_plain_shared(int d)
{
    return ((size_t)PLAIN_TOKENS * (size_t)(d + 1) + PLAIN_SIDE * (PLAIN_TOKENS + 1) +
            PLAIN_TOKENS) *
           sizeof(float);
}

/* q~ of the block's 32 tokens and 1 / (k_sum . q' + eps) to shared memory; a warp has a token. */
template <typename T>
static __device__ __forceinline__ void out_plain_load(float *rotated, float *inverse, const T *q,
                                                      const float *k_sum, float eps,
                                                      const struct rotary &r, int64_t first, int d)
{
    const int head = (int)blockIdx.y;

    for (int row = (int)threadIdx.x / 32; row < PLAIN_TOKENS; row += THREADS / 32) {
        float den = 0.0F;

        for (int pair = (int)threadIdx.x % 32; pair < d / 2; pair += 32) {
            struct turned u = {{0.0F, 0.0F}, {0.0F, 0.0F}};

            if (first + row < r.n) {
                u = turn_pair(r, q, first + row, head, (int)gridDim.y, d, pair);
            }
            rotated[row * (d + 1) + 2 * pair] = u.rotated[0];
            rotated[row * (d + 1) + 2 * pair + 1] = u.rotated[1];
            den += u.plain[0] * k_sum[head * (int64_t)d + 2 * pair] +
                   u.plain[1] * k_sum[head * (int64_t)d + 2 * pair + 1];
        }
        den = warp_sum(den);
        if (threadIdx.x % 32 == 0) {
            inverse[row] = 1.0F / (den + eps);
        }
    }
}

/* Block (32 tokens, head). 64 channels at a time, S of them 64 x 32 at a time; a thread has one channel
 * of 8 tokens. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    out_plain_kernel(T *o, const T *q, const float *s, const float *k_sum, float eps,
                     struct rotary r, int d)
{
    CUDA_SHARED(memory);
    float *const rotated = (float *)memory;
    float *const side = rotated + PLAIN_TOKENS * (d + 1);
    float *const inverse = side + PLAIN_SIDE * (PLAIN_TOKENS + 1);
    const int64_t head = (int64_t)blockIdx.y;
    const int64_t first = (int64_t)blockIdx.x * PLAIN_TOKENS;
    const int c = (int)threadIdx.x % PLAIN_SIDE;
    const int row0 = (int)threadIdx.x / PLAIN_SIDE * 8;

    out_plain_load(rotated, inverse, q, k_sum, eps, r, first, d);
    for (int c0 = 0; c0 < d; c0 += PLAIN_SIDE) {
        float num[8] = {};

        for (int k0 = 0; k0 < d; k0 += PLAIN_TOKENS) {
            const int n = d - k0 < PLAIN_TOKENS ? d - k0 : PLAIN_TOKENS;

            __syncthreads();
            for (int i = (int)threadIdx.x; i < PLAIN_SIDE * PLAIN_TOKENS; i += THREADS) {
                const int row = i / PLAIN_TOKENS;
                const int k = i % PLAIN_TOKENS;

                side[row * (PLAIN_TOKENS + 1) + k] =
                    c0 + row < d && k < n ? s[(head * d + c0 + row) * d + k0 + k] : 0.0F;
            }
            __syncthreads();
            for (int k = 0; k < n; k++) {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    num[i] +=
                        side[c * (PLAIN_TOKENS + 1) + k] * rotated[(row0 + i) * (d + 1) + k0 + k];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int64_t token = first + row0 + i;

            if (token < r.n && c0 + c < d) {
                o[(token * gridDim.y + head) * d + c0 + c] =
                    from_float<T>(num[i] * inverse[row0 + i]);
            }
        }
    }
}

/* ---- launches ---- */

/* The tensor cores' path: bf16, whole fragments, 16-byte copies and 32-bit token numbers. */
static bool use_mma(const struct tensor *x, const struct tensor *y, const struct tensor *s,
                    const struct rotary *r)
{
    const int64_t d = s->dim[1];

    return x->dtype == DTYPE_BF16 && d % 16 == 0 && d <= MMA_MAX_D && r->n < INT32_MAX / 2 &&
           aligned_16(x->data) && aligned_16(y->data) && aligned_16(s->data) && aligned_16(r->t) &&
           aligned_16(r->h) && aligned_16(r->w) && aligned_16(r->weight);
}

static int check_d(const char *op, int64_t d, struct err *err)
{
    return d <= PLAIN_MAX_D
               ? ERR_OK
               : err_set(err, ERR_UNSUPPORTED, "%s: heads of %lld channels, a GPU does up to %d",
                         op, (long long)d, (int)PLAIN_MAX_D);
}

/* How the tokens of one head are cut: by their number alone. */
static int tiles_per_block_of(int64_t tokens, int64_t heads)
{
    const int64_t tiles = div_ceil(tokens, TILE);
    const int64_t ranges = BLOCKS / heads > 1 ? BLOCKS / heads : 1;

    return (int)div_ceil(tiles, ranges);
}

struct state_call {
    float *part_s, *part_k;
    const void *k, *v;
    struct rotary r;
    dim3 grid; /* heads, ranges */
    int d, tiles_per_block;
};

template <int D>
static int state_mma_launch(struct device *dev, const struct state_call *call, struct err *err)
{
    const int rc = cuda_allow_shared((const void *)state_mma_kernel<D>, state_shared<D>(),
                                     "linear_attention_state", err);

    if (rc == ERR_OK) {
        CUDA_LAUNCH((state_mma_kernel<D>), call->grid, 2 * D, state_shared<D>(), cuda_stream(dev),
                    call->part_s, call->part_k, (const struct bf16 *)call->k,
                    (const struct bf16 *)call->v, call->r, call->tiles_per_block);
    }
    return rc;
}

template <typename T>
static int state_plain_launch(struct device *dev, const struct state_call *call)
{
    const unsigned sides = (unsigned)div_ceil(call->d, PLAIN_SIDE);
    const dim3 grid(call->grid.x, call->grid.y, sides * sides);

    CUDA_LAUNCH((state_plain_kernel<T>), grid, THREADS,
                3 * PLAIN_TOKENS * PLAIN_SIDE * sizeof(float), cuda_stream(dev), call->part_s,
                call->part_k, (const T *)call->k, (const T *)call->v, call->r, call->d,
                call->tiles_per_block);
    return ERR_OK;
}

/* CASES(F): F(D) for every D of the tensor cores' path. */
#define CASES(F) F(16) F(32) F(48) F(64) F(80) F(96) F(112) F(128)

static int state_mma(struct device *dev, const struct state_call *call, struct err *err)
{
#define CASE(D)                                                                                    \
    case D:                                                                                        \
        return state_mma_launch<D>(dev, call, err);
    switch (call->d) {
        CASES(CASE)
    default:
        return err_set(err, ERR_UNSUPPORTED, "linear_attention: heads of %d channels", call->d);
    }
#undef CASE
}

extern "C" int linear_attention_state_cuda(struct device *dev, const struct tensor *s,
                                           const struct tensor *k_sum, const struct tensor *k,
                                           const struct tensor *v,
                                           const struct linear_attention_qk *kn, struct err *err)
{
    const int64_t heads = s->dim[0];
    const int64_t d = s->dim[1];
    const int64_t n_s = heads * d * d;
    const int64_t n_k = heads * d;
    struct state_call call = {};
    void *parts = NULL;
    int rc = check_d("linear_attention_state", d, err);

    if (rc != ERR_OK || k->dim[0] == 0 || heads == 0) {
        return rc;
    }
    call.k = k->data;
    call.v = v->data;
    call.r = rotary_of(kn);
    call.d = (int)d;
    call.tiles_per_block = tiles_per_block_of(call.r.n, heads);
    call.grid =
        dim3((unsigned)heads, (unsigned)div_ceil(div_ceil(call.r.n, TILE), call.tiles_per_block));
    rc = cuda_scratch(dev, call.grid.y * (size_t)(n_s + n_k) * sizeof(float), &parts, err);
    if (rc != ERR_OK) {
        return rc;
    }
    call.part_s = (float *)parts;
    call.part_k = call.part_s + call.grid.y * n_s;
    rc = use_mma(k, v, s, &call.r) ? state_mma(dev, &call, err)
         : k->dtype == DTYPE_BF16  ? state_plain_launch<struct bf16>(dev, &call)
                                   : state_plain_launch<float>(dev, &call);
    if (rc != ERR_OK) {
        return rc;
    }
    CUDA_LAUNCH(state_add_kernel, (unsigned)div_ceil(n_s + n_k, THREADS), THREADS, 0,
                cuda_stream(dev), (float *)s->data, (float *)k_sum->data, call.part_s, call.part_k,
                n_s, n_k, (int)call.grid.y);
    return cuda_launched(dev, "linear_attention_state", err);
}

struct out_call {
    void *o;
    const void *q;
    const float *s, *k_sum;
    float eps;
    struct rotary r;
    int64_t heads;
    int d;
};

template <int D>
static int out_mma_launch(struct device *dev, const struct out_call *call, struct err *err)
{
    const int tiles_per_block = tiles_per_block_of(call->r.n, call->heads);
    const dim3 grid((unsigned)call->heads,
                    (unsigned)div_ceil(div_ceil(call->r.n, TILE), tiles_per_block));
    const int rc = cuda_allow_shared((const void *)out_mma_kernel<D>, out_shared<D>(),
                                     "linear_attention_out", err);

    if (rc == ERR_OK) {
        CUDA_LAUNCH((out_mma_kernel<D>), grid, 2 * D, out_shared<D>(), cuda_stream(dev),
                    (struct bf16 *)call->o, (const struct bf16 *)call->q, call->s, call->k_sum,
                    call->eps, call->r, tiles_per_block);
    }
    return rc;
}

template <typename T> static int out_plain_launch(struct device *dev, const struct out_call *call)
{
    const dim3 grid((unsigned)div_ceil(call->r.n, PLAIN_TOKENS), (unsigned)call->heads);

    CUDA_LAUNCH((out_plain_kernel<T>), grid, THREADS, out_plain_shared(call->d), cuda_stream(dev),
                (T *)call->o, (const T *)call->q, call->s, call->k_sum, call->eps, call->r,
                call->d);
    return ERR_OK;
}

static int out_mma(struct device *dev, const struct out_call *call, struct err *err)
{
#define CASE(D)                                                                                    \
    case D:                                                                                        \
        return out_mma_launch<D>(dev, call, err);
    switch (call->d) {
        CASES(CASE)
    default:
        return err_set(err, ERR_UNSUPPORTED, "linear_attention: heads of %d channels", call->d);
    }
#undef CASE
}

extern "C" int linear_attention_out_cuda(struct device *dev, const struct tensor *o,
                                         const struct tensor *q, const struct tensor *s,
                                         const struct tensor *k_sum, float eps,
                                         const struct linear_attention_qk *qn, struct err *err)
{
    struct out_call call = {};
    int rc = check_d("linear_attention_out", s->dim[1], err);

    if (rc != ERR_OK || q->dim[0] == 0 || s->dim[0] == 0) {
        return rc;
    }
    call.o = o->data;
    call.q = q->data;
    call.s = (const float *)s->data;
    call.k_sum = (const float *)k_sum->data;
    call.eps = eps;
    call.r = rotary_of(qn);
    call.heads = s->dim[0];
    call.d = (int)s->dim[1];
    rc = use_mma(q, o, s, &call.r) ? out_mma(dev, &call, err)
         : q->dtype == DTYPE_BF16  ? out_plain_launch<struct bf16>(dev, &call)
                                   : out_plain_launch<float>(dev, &call);
    return rc != ERR_OK ? rc : cuda_launched(dev, "linear_attention_out", err);
}
