/*
 * u is read once, in strips: a warp owns 32 * V neighbouring channels of four columns of one frame, value
 * and gate alike, and walks down the rows. A thread keeps three rows of sums in registers; each number
 * that arrives is activated once and added to the up to nine sums it belongs to. When row y has
 * arrived, output row y - 1 is complete. The rows of sums change roles by unrolling, not by moving.
 *
 * A strip needs a column more on either side, which the strip beside it (the next warp of the block) reads
 * too: from L1, mostly. So 6 / 4 of u is activated; SiLU is one instruction of the special function unit
 * in bf16, as two would take longer than the bytes do. A lane takes V = 2 channels: 128 bytes a warp.
 *
 * F 10, H 30, W 52, M 6720 in bf16: 629 MB, floor 146 us; special functions 120 us, instructions 185 us;
 * target 236 us.
 */
#include "kernels/glu_dwconv.h"

#include "kernels/cuda_kernel.cuh"

enum {
    COLUMNS = 4,
    READ_COLUMNS = COLUMNS + 2,
    WARPS = 4
};

struct glu_shape {
    int64_t hidden; /* M */
    int64_t strips; /* of all frames */
    int64_t strips_per_row;
    int64_t channel_groups; /* of 32 * V */
    int64_t height, width;
    int64_t u_column, u_row; /* bytes from one to the next */
    int64_t u_gate;          /* bytes from a value to its gate */
    int64_t p_column, p_row;
};

/* h + h tanh(h) with h = x / 2. tanh.approx errs by 2^-11: less than what bf16 rounds off. */
template <typename T> static __device__ __forceinline__ float activate(float x)
{
#ifdef __CUDA_ARCH__
    if (sizeof(T) == 2) {
        const float h = 0.5F * x;
        float t;

        asm("tanh.approx.f32 %0, %1;" : "=f"(t) : "f"(h));
        return h + h * t;
    }
#endif
    return silu(x);
}

/* V numbers as they are loaded; a pair of bf16 as the word that it is, which one instruction each unpacks. */
template <typename T, int V> struct glu_raw {
    typedef struct pack<T, V> type;
};
template <> struct glu_raw<struct bf16, 2> {
    typedef uint32_t type;
};

template <typename T, int V>
static __device__ __forceinline__ float raw_float(const struct pack<T, V> &raw, int i)
{
    return to_float(raw.v[i]);
}

static __device__ __forceinline__ float raw_float(uint32_t raw, int i)
{
    return bits_to_float(i == 0 ? raw << 16 : raw & 0xffff0000U);
}

/* What a thread keeps of one half (value or gate) of the channels. */
template <typename T, int V> struct glu_half {
    const float *tap; /* [10][2][32 * V], the thread's V of the first */
    typename glu_raw<T, V>::type next[READ_COLUMNS]; /* the row to come */
};

template <int V> struct glu_sums {
    float at[COLUMNS][V];
};

/* The block's taps and, tenth, biases: [10][2][32 * V], value and gate. */
template <int V>
static __device__ __forceinline__ void load_taps(float *taps, const float *weight,
                                                 const float *bias, int64_t first, int64_t hidden)
{
    for (int i = (int)threadIdx.x; i < 10 * 2 * 32 * V; i += 32 * WARPS) {
        const int k = i / (2 * 32 * V);
        const int half = i / (32 * V) % 2;
        const int64_t m = first + i % (32 * V);
        const float *from = k == 9 ? bias : weight + k * 2 * hidden;

        taps[i] = m < hidden ? from[half * hidden + m] : 0.0F;
    }
    __syncthreads();
}

/* Bit j: column x0 - 1 + j is in the frame. */
static __device__ __forceinline__ uint32_t columns_of(int64_t x0, int64_t width)
{
    uint32_t columns = 0;

#pragma unroll
    for (int j = 0; j < READ_COLUMNS; j++) {
        columns |= x0 + j > 0 && x0 + j - 1 < width ? 1U << j : 0;
    }
    return columns;
}

/* Zero, which stays zero when activated, where there is no column. */
template <typename T, int V>
static __device__ __forceinline__ void load_column(struct glu_half<T, V> *half, int j,
                                                   const char *from, uint32_t columns)
{
    typedef typename glu_raw<T, V>::type raw;

    half->next[j] = (columns >> j & 1) != 0 ? *(const raw *)from : raw();
}

/* Adds the row in half->next to the sums of the output rows above it, beside it and below it, the last of
 * which begin here. half->next becomes the row whose column x0 - 1 is at `below`, each column as soon as
 * it is free, so that the loads have a whole row's time. */
template <typename T, int V>
static __device__ __forceinline__ void
take_row(struct glu_half<T, V> *half, struct glu_sums<V> *above, struct glu_sums<V> *beside,
         struct glu_sums<V> *fresh, const char *below, uint32_t columns, int64_t u_column)
{
    struct pack<float, V> tap[10];

#pragma unroll
    for (int k = 0; k < 10; k++) {
        tap[k] = load_pack<V>(half->tap + k * 2 * 32 * V);
    }
#pragma unroll
    for (int j = 0; j < READ_COLUMNS; j++) {
        float a[V];

#pragma unroll
        for (int i = 0; i < V; i++) {
            a[i] = activate<T>(raw_float(half->next[j], i));
        }
        load_column(half, j, below, columns);
        below += u_column;
#pragma unroll
        for (int k = 0; k < 3; k++) {
            const int c = j - k;

            if (c < 0 || c >= COLUMNS) {
                continue;
            }
#pragma unroll
            for (int i = 0; i < V; i++) {
                fresh->at[c][i] = (k == 0 ? tap[9].v[i] : fresh->at[c][i]) + tap[k].v[i] * a[i];
                beside->at[c][i] += tap[3 + k].v[i] * a[i];
                above->at[c][i] += tap[6 + k].v[i] * a[i];
            }
        }
    }
}

template <typename T, int V>
static __device__ __forceinline__ void store_row(char *to, const struct glu_sums<V> &value,
                                                 const struct glu_sums<V> &gate, uint32_t columns,
                                                 int64_t p_column)
{
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        struct pack<T, V> out;

#pragma unroll
        for (int i = 0; i < V; i++) {
            out.v[i] = from_float<T>(value.at[c][i] * activate<T>(gate.at[c][i]));
        }
        if ((columns >> (c + 1) & 1) != 0) {
            store_pack<V>((T *)to, out);
        }
        to += p_column;
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(32 * WARPS, sizeof(T) == 2 ? 4 : 3)
    glu_dwconv_kernel(T *p, const T *u, const float *weight, const float *bias, struct glu_shape s)
{
    const int64_t block = blockIdx.x;
    const int64_t m = (block % s.channel_groups * 32 + threadIdx.x % 32) * V;
    const int64_t strip = block / s.channel_groups * WARPS + threadIdx.x / 32;
    const int64_t x0 = strip % s.strips_per_row * COLUMNS;
    const int64_t pixel = strip / s.strips_per_row * s.height * s.width + x0;
    const uint32_t columns = columns_of(x0, s.width);
    struct glu_half<T, V> value;
    struct glu_half<T, V> gate;
    struct glu_sums<V> sums[3][2];
    const char *from;
    char *to;
    CUDA_SHARED(shared);

    load_taps<V>((float *)shared, weight, bias, block % s.channel_groups * 32 * V, s.hidden);
    if (m >= s.hidden || strip >= s.strips) {
        return;
    }
    value.tap = (const float *)shared + threadIdx.x % 32 * V;
    gate.tap = value.tap + 32 * V;
    from = (const char *)(u + pixel * 2 * s.hidden + m) - s.u_column; /* at column x0 - 1 */
    to = (char *)(p + pixel * s.hidden + m);
#pragma unroll
    for (int j = 0; j < READ_COLUMNS; j++) {
        load_column(&value, j, from + j * s.u_column, columns);
        load_column(&gate, j, from + s.u_gate + j * s.u_column, columns);
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            sums[0][0].at[c][i] = 0.0F; /* of a row above the frame; never stored */
            sums[0][1].at[c][i] = 0.0F;
            sums[1][0].at[c][i] = value.tap[9 * 2 * 32 * V + i];
            sums[1][1].at[c][i] = gate.tap[9 * 2 * 32 * V + i];
        }
    }
    for (int64_t y = 0; y <= s.height; y += 3) {
#pragma unroll
        for (int k = 0; k < 3; k++) {
            struct glu_sums<V> *above = sums[k];
            struct glu_sums<V> *beside = sums[(k + 1) % 3];
            struct glu_sums<V> *fresh = sums[(k + 2) % 3];
            const uint32_t below = y + k + 1 < s.height ? columns : 0;

            /* the taps are read anew for each row: kept in registers, they would cost every fourth warp */
            asm volatile("" ::: "memory");
            if (y + k < s.height) {
                from += s.u_row;
                take_row(&value, &above[0], &beside[0], &fresh[0], from, below, s.u_column);
                take_row(&gate, &above[1], &beside[1], &fresh[1], from + s.u_gate, below,
                         s.u_column);
            }
            if (y + k > 0 && y + k <= s.height) {
                store_row<T, V>(to, above[0], above[1], columns, s.p_column);
                to += s.p_row;
            }
        }
    }
}

template <typename T, int V>
static void launch(struct device *dev, const struct tensor *p, const struct tensor *u,
                   const struct tensor *weight, const struct tensor *bias)
{
    struct glu_shape s;
    int64_t blocks;

    s.hidden = p->dim[3];
    s.height = p->dim[1];
    s.width = p->dim[2];
    s.strips_per_row = div_ceil(s.width, COLUMNS);
    s.strips = p->dim[0] * s.strips_per_row;
    s.channel_groups = div_ceil(s.hidden, 32 * V);
    s.u_column = 2 * s.hidden * (int64_t)sizeof(T);
    s.u_row = s.width * s.u_column;
    s.u_gate = s.hidden * (int64_t)sizeof(T);
    s.p_column = s.u_gate;
    s.p_row = s.width * s.p_column;
    blocks = div_ceil(s.strips, WARPS) * s.channel_groups;
    CUDA_LAUNCH((glu_dwconv_kernel<T, V>), dim3((unsigned)blocks), dim3(32 * WARPS),
                10 * 2 * 32 * V * sizeof(float), cuda_stream(dev), (T *)p->data, (const T *)u->data,
                (const float *)weight->data, (const float *)bias->data, s);
}

int glu_dwconv_cuda(struct device *dev, const struct tensor *p, const struct tensor *u,
                    const struct tensor *weight, const struct tensor *bias, struct err *err)
{
    const bool pairs =
        p->dim[3] % 2 == 0 && ((uintptr_t)p->data | (uintptr_t)u->data) % (2 * sizeof(float)) == 0;

    if (tensor_count(p) == 0) {
        return ERR_OK;
    }
    if (u->dtype == DTYPE_BF16) {
        pairs ? launch<struct bf16, 2>(dev, p, u, weight, bias)
              : launch<struct bf16, 1>(dev, p, u, weight, bias);
    } else {
        pairs ? launch<float, 2>(dev, p, u, weight, bias)
              : launch<float, 1>(dev, p, u, weight, bias);
    }
    return cuda_launched(dev, "glu_dwconv", err);
}
