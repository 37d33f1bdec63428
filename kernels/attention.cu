/*
 * Softmax attention on a GPU: keys pass by in tiles, each query keeps its running maximum, sum and weighted
 * values (Dao 2023), so nothing of size Lq x Lk is stored.
 *
 * bf16, heads of a multiple of 8 channels up to 512: on the tensor cores. A block has one head and up to 128
 * queries; a warp has 16 or 32 of them with their scores and weighted values in registers. Q, one tile of
 * K and one of V are in shared memory, V on its way while scores are made and K while values are
 * weighted; heads are padded there with zeros to one of a few sizes. Above 256 channels the values of a row
 * would not fit a warp's registers: two warps share its rows, both make all scores, each has half of
 * the channels of V.
 *
 * Cross attention, 20 heads of 112, 15600 queries, 300 keys: 42 GFLOP and 140 MB (53 us at 790 TFLOP/s; exp and
 * mma.sync allow about half of that: the aim is 106 us). The decoder's one head of 384, 6240 x 6240: 60 GFLOP
 * (76 us, 115 with the scores made twice); the aim is 300 us, a hundredth of the frame's time.
 *
 * Anything else (F32, other heads) goes through a plain kernel in F32: a warp has a query.
 */
#include "kernels/attention.h"

#include "kernels/cuda_kernel.cuh"

/* By value to the kernels. Strides of rows follow from heads. */
struct attention_call {
    void *o;
    const void *q, *k, *v;
    int64_t lq, lk;
    int heads, group; /* query heads per key head */
    int d;
    float scale, softcap;
    bool causal;
    int64_t window;
};

#define MINUS_INFINITY (-__builtin_huge_valf())
#define LOG2_E         1.4426950408889634F

static __device__ __forceinline__ float exp2_fast(float x)
{
#ifdef __CUDA_ARCH__
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

/* What of a tile of keys [k0, k0 + n) a query sees: [first, end), relative to k0. */
struct visible {
    int first, end;
};

static __device__ __forceinline__ struct visible visible_of(const struct attention_call &call,
                                                            int64_t query, int64_t k0, int n)
{
    const int64_t last = call.causal && query + 1 < call.lk ? query + 1 : call.lk;
    const int64_t from =
        call.causal && call.window > 0 && query >= call.window ? query - call.window + 1 : 0;
    struct visible v;

    v.end = (int)(last - k0 < n ? last - k0 : n);
    v.first = (int)(from > k0 ? (from - k0 < n ? from - k0 : n) : 0);
    return v;
}

/* The keys that queries [q0, q0 + n) see between them; first is a multiple of `tile`. */
struct keys {
    int64_t first, end;
};

static __device__ __forceinline__ struct keys keys_of(const struct attention_call &call, int64_t q0,
                                                      int n, int tile)
{
    struct keys keys = {0, call.lk};

    if (call.causal) {
        keys.end = q0 + n < call.lk ? q0 + n : call.lk;
        keys.first =
            call.window > 0 && q0 >= call.window ? (q0 - call.window + 1) / tile * tile : 0;
    }
    return keys;
}

/* ---- on tensor cores ---- */

/* D: channels of a head in shared memory; KEYS: in a tile; M: sixteens of queries per warp; PARTS: warps that
 * share them. All sizes fit the 99 KiB of the smallest GPUs. */
template <int D_, int KEYS_, int M_, int PARTS_, int WARPS_> struct shape {
    static const int D = D_, KEYS = KEYS_, M = M_, PARTS = PARTS_, WARPS = WARPS_;
    static const int QUERIES = WARPS / PARTS * 16 * M;
    static const int OWN = D / PARTS; /* channels of V and o of a warp */
    static const int PITCH = D + 8;   /* an odd number of 16 bytes: ldmatrix meets no bank twice */
    static const int SHARED = (QUERIES + 2 * KEYS) * PITCH * 2;
};

/* ROWS rows of one head to shared memory; zeros where there is nothing. */
template <typename S, int ROWS>
static __device__ __forceinline__ void rows_load(struct bf16 *to, const struct bf16 *from,
                                                 int64_t stride, int64_t rows, int d)
{
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < ROWS * (S::D / 8); i += S::WARPS * 32) {
        const int row = i / (S::D / 8);
        const int c = i % (S::D / 8) * 8;
        const bool valid = row < rows && c < d;

        cp_async_16(to + row * S::PITCH + c, valid ? from + row * stride + c : from, valid);
    }
}

/* A warp's rows: row g of sixteen m is m * 16 + lane / 4, of half 1 that + 8. */
template <typename S> struct rows {
    float score[S::M][S::KEYS / 8][4];
    float value[S::M][S::OWN / 8][4];
    float max[S::M][2], sum[S::M][2]; /* sum: of the lane's columns */
};

/* score = q k^T; q: the warp's first row. */
template <typename S>
static __device__ __forceinline__ void scores_make(struct rows<S> *r, const struct bf16 *q,
                                                   const struct bf16 *k)
{
    const int lane = (int)threadIdx.x % 32;
    const struct bf16 *a_row = q + lane % 16 * S::PITCH + lane / 16 * 8;
    const struct bf16 *b_row = k + (lane / 16 * 8 + lane % 8) * S::PITCH + lane / 8 % 2 * 8;

#pragma unroll
    for (int i = 0; i < S::M * S::KEYS / 2; i++) {
        r->score[i / (S::KEYS / 2)][i / 4 % (S::KEYS / 8)][i % 4] = 0.0F;
    }
#pragma unroll 1
    for (int c = 0; c < S::D; c += 16) {
        uint32_t a[S::M][4];

#pragma unroll
        for (int m = 0; m < S::M; m++) {
            ldmatrix_x4(a[m], a_row + m * 16 * S::PITCH + c);
        }
#pragma unroll
        for (int n = 0; n < S::KEYS / 16; n++) {
            uint32_t b[4];

            ldmatrix_x4(b, b_row + n * 16 * S::PITCH + c);
#pragma unroll
            for (int m = 0; m < S::M; m++) {
                mma_bf16(r->score[m][2 * n], a[m], b);
                mma_bf16(r->score[m][2 * n + 1], a[m], b + 2);
            }
        }
    }
}

/* Products become exponents of two: scaled, capped. */
template <typename S>
static __device__ __forceinline__ void scores_scale(struct rows<S> *r,
                                                    const struct attention_call &call)
{
    const float cap = call.softcap * LOG2_E;
    const float scale =
        call.softcap > 0.0F ? 2.0F * call.scale / call.softcap : call.scale * LOG2_E;

#pragma unroll
    for (int i = 0; i < S::M * S::KEYS / 2; i++) {
        float *x = &r->score[i / (S::KEYS / 2)][i / 4 % (S::KEYS / 8)][i % 4];

        *x *= scale;
        if (call.softcap > 0.0F) { /* cap * tanh(x / 2) */
            *x = cap - 2.0F * cap / (1.0F + __expf(*x));
        }
    }
}

/* Scores outside what a row sees become -infinity; query: of the warp's first row. */
template <typename S>
static __device__ __forceinline__ void
scores_mask(struct rows<S> *r, const struct attention_call &call, int64_t query, int64_t k0)
{
    const int lane = (int)threadIdx.x % 32;

#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const struct visible see =
                visible_of(call, query + m * 16 + half * 8 + lane / 4, k0, S::KEYS);

#pragma unroll
            for (int i = 0; i < S::KEYS / 4; i++) {
                const int key = i / 2 * 8 + lane % 4 * 2 + i % 2;

                if (key < see.first || key >= see.end) {
                    r->score[m][i / 2][half * 2 + i % 2] = MINUS_INFINITY;
                }
            }
        }
    }
}

/* Scores become weights relative to the new maximum; what was weighted before is scaled to it. */
template <typename S> static __device__ __forceinline__ void scores_weigh(struct rows<S> *r)
{
#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float max = r->max[m][half];
            float base;
            float scale;

#pragma unroll
            for (int i = 0; i < S::KEYS / 4; i++) {
                max = fmaxf(max, r->score[m][i / 2][half * 2 + i % 2]);
            }
            max = fmaxf(max, __shfl_xor_sync(0xffffffffU, max, 1));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffU, max, 2));
            base = max == MINUS_INFINITY ? 0.0F : max; /* nothing seen yet */
            scale = exp2_fast(r->max[m][half] - base);
            r->max[m][half] = max;
            r->sum[m][half] *= scale;
#pragma unroll
            for (int i = 0; i < S::KEYS / 4; i++) {
                float *x = &r->score[m][i / 2][half * 2 + i % 2];

                *x = exp2_fast(*x - base);
                r->sum[m][half] += *x;
            }
#pragma unroll
            for (int i = 0; i < S::OWN / 4; i++) {
                r->value[m][i / 2][half * 2 + i % 2] *= scale;
            }
        }
    }
}

/* value += weights v; v: the warp's first channel. */
template <typename S>
static __device__ __forceinline__ void values_add(struct rows<S> *r, const struct bf16 *v)
{
    const int lane = (int)threadIdx.x % 32;
    const struct bf16 *b_row = v + (lane / 8 % 2 * 8 + lane % 8) * S::PITCH + lane / 16 * 8;

#pragma unroll
    for (int n = 0; n < S::KEYS / 16; n++) {
        uint32_t a[S::M][4];

#pragma unroll
        for (int m = 0; m < S::M; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *p = &r->score[m][2 * n + i / 2][i % 2 * 2];

                a[m][i] = pack_bf16(p[0], p[1]);
            }
        }
#pragma unroll
        for (int c = 0; c < S::OWN / 16; c++) {
            uint32_t b[4];

            ldmatrix_x4_trans(b, b_row + n * 16 * S::PITCH + c * 16);
#pragma unroll
            for (int m = 0; m < S::M; m++) {
                mma_bf16(r->value[m][2 * c], a[m], b);
                mma_bf16(r->value[m][2 * c + 1], a[m], b + 2);
            }
        }
    }
}

/* value / sum to the warp's rows and channels in shared memory. */
template <typename S>
static __device__ __forceinline__ void values_store(const struct rows<S> &r, struct bf16 *to)
{
    const int lane = (int)threadIdx.x % 32;

#pragma unroll
    for (int m = 0; m < S::M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            struct bf16 *row = to + (m * 16 + half * 8 + lane / 4) * S::PITCH + lane % 4 * 2;
            float sum = r.sum[m][half];

            sum += __shfl_xor_sync(0xffffffffU, sum, 1);
            sum += __shfl_xor_sync(0xffffffffU, sum, 2);
            sum = 1.0F / sum;
#pragma unroll
            for (int c = 0; c < S::OWN / 8; c++) {
                const float *x = &r.value[m][c][half * 2];

                *(uint32_t *)(row + c * 8) = pack_bf16(x[0] * sum, x[1] * sum);
            }
        }
    }
}

/* QUERIES rows of o from shared memory. */
template <typename S>
static __device__ __forceinline__ void rows_store(struct bf16 *to, const struct bf16 *from,
                                                  int64_t stride, int64_t rows, int d)
{
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < S::QUERIES * (S::D / 8); i += S::WARPS * 32) {
        const int row = i / (S::D / 8);
        const int c = i % (S::D / 8) * 8;

        if (row < rows && c < d) {
            store_pack<8>(to + row * stride + c, load_pack<8>(from + row * S::PITCH + c));
        }
    }
}

/* Block: a head (fastest, for neighbours in memory) and QUERIES queries. o may be q: a block reads
 * what only it writes, before. */
template <typename S>
static __global__ void __launch_bounds__(S::WARPS * 32)
    attention_mma_kernel(struct attention_call call)
{
    CUDA_SHARED(memory);
    struct bf16 *const q = (struct bf16 *)memory;
    struct bf16 *const k = q + S::QUERIES * S::PITCH;
    struct bf16 *const v = k + S::KEYS * S::PITCH;
    const int head = (int)(blockIdx.x % (unsigned)call.heads);
    const int64_t q0 = (int64_t)(blockIdx.x / (unsigned)call.heads) * S::QUERIES;
    const int64_t q_stride = (int64_t)call.heads * call.d;
    const int64_t kv_stride = q_stride / call.group;
    const struct bf16 *k_from = (const struct bf16 *)call.k + head / call.group * call.d;
    const struct bf16 *v_from = (const struct bf16 *)call.v + head / call.group * call.d;
    const int warp = (int)threadIdx.x / 32;
    const int row = warp / S::PARTS * 16 * S::M; /* the warp's first, in the block */
    const int channel = warp % S::PARTS * S::OWN;
    const struct keys keys = keys_of(call, q0, S::QUERIES, S::KEYS);
    const bool windowed = call.causal && call.window > 0;
    struct rows<S> r = {
    };

#pragma unroll
    for (int i = 0; i < 2 * S::M; i++) {
        r.max[i / 2][i % 2] = MINUS_INFINITY;
    }
    rows_load<S, S::QUERIES>(q, (const struct bf16 *)call.q + q0 * q_stride + head * call.d,
                             q_stride, call.lq - q0, call.d);
    rows_load<S, S::KEYS>(k, k_from + keys.first * kv_stride, kv_stride, call.lk - keys.first,
                          call.d);
    cp_async_commit();
    for (int64_t k0 = keys.first; k0 < keys.end; k0 += S::KEYS) {
        cp_async_wait<0>();
        __syncthreads(); /* K is there; V was used by all */
        rows_load<S, S::KEYS>(v, v_from + k0 * kv_stride, kv_stride, call.lk - k0, call.d);
        cp_async_commit();
        scores_make<S>(&r, q + row * S::PITCH, k);
        scores_scale<S>(&r, call);
        if (windowed || k0 + S::KEYS > call.lk || (call.causal && k0 + S::KEYS > q0 + 1)) {
            scores_mask<S>(&r, call, q0 + row, k0);
        }
        scores_weigh<S>(&r);
        cp_async_wait<0>();
        __syncthreads(); /* V is there; K was used by all */
        if (k0 + S::KEYS < keys.end) {
            rows_load<S, S::KEYS>(k, k_from + (k0 + S::KEYS) * kv_stride, kv_stride,
                                  call.lk - k0 - S::KEYS, call.d);
        }
        cp_async_commit();
        values_add<S>(&r, v + channel);
    }
    values_store<S>(r,
                    q + row * S::PITCH + channel); /* the last barrier is behind all reading of q */
    __syncthreads();
    rows_store<S>((struct bf16 *)call.o + q0 * q_stride + head * call.d, q, q_stride, call.lq - q0,
                  call.d);
}

/* ---- plain ---- */

enum {
    PLAIN_MAX_D = 512,
    PLAIN_QUERIES = 8, /* of a block; a warp has one */
    PLAIN_KEYS = 32,   /* of a tile; a lane has the score of one */
    PLAIN_CHANNELS = 64
};

/* The lane's key's product with the warp's query. k: tile [PLAIN_KEYS][PLAIN_CHANNELS + 1] that the block
 * fills with one range of channels after another. */
template <typename T>
static __device__ __forceinline__ float plain_product(const struct attention_call &call,
                                                      const float *q, float *k, int64_t k0)
{
    const int lane = (int)threadIdx.x % 32;
    const int kv_heads = call.heads / call.group;
    const int kv_head = (int)(blockIdx.x % (unsigned)call.heads) / call.group;
    float product = 0.0F;

    for (int c0 = 0; c0 < call.d; c0 += PLAIN_CHANNELS) {
        const int n = call.d - c0 < PLAIN_CHANNELS ? call.d - c0 : PLAIN_CHANNELS;

        __syncthreads();
        for (int i = (int)threadIdx.x; i < PLAIN_KEYS * PLAIN_CHANNELS; i += PLAIN_QUERIES * 32) {
            const int64_t key = k0 + i / PLAIN_CHANNELS;
            const int c = i % PLAIN_CHANNELS;

            k[i / PLAIN_CHANNELS * (PLAIN_CHANNELS + 1) + c] =
                key < call.lk && c < n
                    ? to_float(((const T *)call.k)[(key * kv_heads + kv_head) * call.d + c0 + c])
                    : 0.0F;
        }
        __syncthreads();
#pragma unroll 4
        for (int c = 0; c < n; c++) {
            product += q[c0 + c] * k[lane * (PLAIN_CHANNELS + 1) + c];
        }
    }
    return product;
}

static __device__ __forceinline__ float plain_score(const struct attention_call &call,
                                                    float product)
{
    const float x = product * call.scale;

    return call.softcap > 0.0F ? call.softcap * tanhf(x / call.softcap) : x;
}

/* Block: a head and 8 queries. EACH: channels of a lane, 32 apart. */
template <typename T, int EACH>
static __global__ void __launch_bounds__(PLAIN_QUERIES * 32)
    attention_plain_kernel(struct attention_call call)
{
    CUDA_SHARED(memory);
    const int warp = (int)threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    float *const tile = (float *)memory;
    float *const weights = tile + PLAIN_KEYS * (PLAIN_CHANNELS + 1) + warp * PLAIN_KEYS;
    float *const q =
        tile + PLAIN_KEYS * (PLAIN_CHANNELS + 1) + PLAIN_QUERIES * PLAIN_KEYS + warp * EACH * 32;
    const int head = (int)(blockIdx.x % (unsigned)call.heads);
    const int64_t q0 = (int64_t)(blockIdx.x / (unsigned)call.heads) * PLAIN_QUERIES;
    const int64_t query = q0 + warp < call.lq ? q0 + warp : call.lq - 1;
    const int64_t at = (query * call.heads + head) * call.d;
    const int64_t kv_stride = (int64_t)call.heads / call.group * call.d;
    const T *v = (const T *)call.v + head / call.group * call.d;
    const struct keys keys = keys_of(call, q0, PLAIN_QUERIES, PLAIN_KEYS);
    float max = MINUS_INFINITY;
    float sum = 0.0F;
    float value[EACH] = {};

    for (int c = lane; c < call.d; c += 32) {
        q[c] = to_float(((const T *)call.q)[at + c]);
    }
    for (int64_t k0 = keys.first; k0 < keys.end; k0 += PLAIN_KEYS) {
        const float product = plain_product<T>(call, q, tile, k0);
        const struct visible see = visible_of(call, query, k0, PLAIN_KEYS);
        const bool seen = lane >= see.first && lane < see.end;
        const float score = seen ? plain_score(call, product) : MINUS_INFINITY;
        const float new_max = fmaxf(max, warp_max(score));
        const float base = new_max == MINUS_INFINITY ? 0.0F : new_max;
        const float scale = exp2_fast((max - base) * LOG2_E);
        const float weight = exp2_fast((score - base) * LOG2_E);

        max = new_max;
        sum = sum * scale + weight; /* of the lane's keys */
        weights[lane] = weight;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            value[i] *= scale;
        }
        for (int j = see.first; j < see.end; j++) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                if (lane + 32 * i < call.d) {
                    value[i] += weights[j] * to_float(v[(k0 + j) * kv_stride + lane + 32 * i]);
                }
            }
        }
        __syncwarp();
    }
    sum = warp_sum(sum);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (q0 + warp < call.lq && lane + 32 * i < call.d) {
            ((T *)call.o)[at + lane + 32 * i] = from_float<T>(value[i] / sum);
        }
    }
}

/* ---- launches ---- */

static bool aligned_16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

template <typename S>
static int mma_launch(struct device *dev, const struct attention_call *call, struct err *err)
{
    const int rc =
        cuda_allow_shared((const void *)attention_mma_kernel<S>, S::SHARED, "attention", err);

    if (rc == ERR_OK) {
        CUDA_LAUNCH((attention_mma_kernel<S>),
                    (unsigned)(div_ceil(call->lq, S::QUERIES) * call->heads), S::WARPS * 32,
                    S::SHARED, cuda_stream(dev), *call);
    }
    return rc;
}

static int mma(struct device *dev, const struct attention_call *call, struct err *err)
{
    if (call->d <= 64) {
        return mma_launch<struct shape<64, 64, 2, 1, 4>>(dev, call, err);
    }
    if (call->d <= 112) {
        return mma_launch<struct shape<112, 48, 2, 1, 4>>(dev, call, err);
    }
    if (call->d <= 128) {
        return mma_launch<struct shape<128, 32, 2, 1, 4>>(dev, call, err);
    }
    if (call->d <= 256) {
        return mma_launch<struct shape<256, 64, 1, 1, 4>>(dev, call, err);
    }
    if (call->d <= 384) { /* 130 blocks for 6240 queries */
        return mma_launch<struct shape<384, 32, 1, 2, 6>>(dev, call, err);
    }
    return mma_launch<struct shape<512, 32, 1, 2, 4>>(dev, call, err);
}

template <typename T, int EACH>
static void plain_launch(struct device *dev, const struct attention_call *call)
{
    const size_t shared =
        (PLAIN_KEYS * (PLAIN_CHANNELS + 1) + PLAIN_QUERIES * (PLAIN_KEYS + EACH * 32)) *
        sizeof(float);

    CUDA_LAUNCH((attention_plain_kernel<T, EACH>),
                (unsigned)(div_ceil(call->lq, PLAIN_QUERIES) * call->heads), PLAIN_QUERIES * 32,
                shared, cuda_stream(dev), *call);
}

template <typename T> static int plain(struct device *dev, const struct attention_call *call)
{
    if (call->d <= 128) {
        plain_launch<T, 4>(dev, call);
    } else {
        plain_launch<T, 16>(dev, call);
    }
    return ERR_OK;
}

extern "C" int attention_cuda(struct device *dev, const struct tensor *o, const struct tensor *q,
                              const struct tensor *k, const struct tensor *v,
                              const struct attention_params *params, struct err *err)
{
    const int64_t d = q->dim[1] / params->heads;
    const bool bf16 = q->dtype == DTYPE_BF16;
    const bool aligned =
        aligned_16(o->data) && aligned_16(q->data) && aligned_16(k->data) && aligned_16(v->data);
    struct attention_call call = {};
    int rc;

    if (d > PLAIN_MAX_D) {
        return err_set(err, ERR_UNSUPPORTED,
                       "attention: heads of %lld channels, a GPU does up to %d", (long long)d,
                       (int)PLAIN_MAX_D);
    }
    if (q->dim[0] == 0) {
        return ERR_OK;
    }
    call.o = o->data;
    call.q = q->data;
    call.k = k->data;
    call.v = v->data;
    call.lq = q->dim[0];
    call.lk = k->dim[0];
    call.heads = (int)params->heads;
    call.group = (int)(params->heads / params->kv_heads);
    call.d = (int)d;
    call.scale = params->scale;
    call.softcap = params->softcap;
    call.causal = params->causal;
    call.window = params->window;
    rc = bf16 && d % 8 == 0 && aligned ? mma(dev, &call, err)
         : bf16                        ? plain<struct bf16>(dev, &call)
                                       : plain<float>(dev, &call);
    return rc != ERR_OK ? rc : cuda_launched(dev, "attention", err);
}
