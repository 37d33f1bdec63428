/*
 * What a warp does together: shuffles, ldmatrix, mma; and asynchronous copies.
 */
#include "tests/hostsim/planted.h"

/* ---- shuffles ---- */

template <bool BUG> static __global__ void divergent_kernel(float *y)
{
    float x = (float)threadIdx.x;

    if (!BUG || threadIdx.x < 20) {
        x = __shfl_xor_sync(0xffffffffU, x, 1);
    }
    y[threadIdx.x] = x;
}

template <bool BUG> static int divergent()
{
    float want[64];
    float *y = planted_zeros(64);

    for (int i = 0; i < 64; i++) {
        want[i] = (float)(i ^ 1);
    }
    CUDA_LAUNCH(divergent_kernel<BUG>, 1, 64, 0, 0, y);
    return planted_compare(y, want, 64);
}

template <bool BUG> static __global__ void barrier_or_shuffle_kernel(float *y)
{
    float x = 1.0F;

    if (BUG && threadIdx.x == 7) {
        __syncthreads();
    } else {
        x = warp_sum(x);
    }
    y[threadIdx.x] = x;
}

template <bool BUG> static int barrier_or_shuffle()
{
    float want[32];
    float *y = planted_zeros(32);

    for (int i = 0; i < 32; i++) {
        want[i] = 32.0F;
    }
    CUDA_LAUNCH(barrier_or_shuffle_kernel<BUG>, 1, 32, 0, 0, y);
    return planted_compare(y, want, 32);
}

/* Every kind once; nothing is planted. */
static __global__ void shuffles_kernel(float *y)
{
    const int lane = (int)threadIdx.x % 32;
    const unsigned all = 0xffffffffU;
    const int64_t wide = __shfl_sync(all, (int64_t)lane << 40, 5);
    float *p = y + (int)threadIdx.x * 8;

    p[0] = __shfl_sync(all, (float)lane, lane + 3);
    p[1] = (float)__shfl_down_sync(all, lane, 4);
    p[2] = (float)__shfl_up_sync(all, (unsigned)lane, 4U);
    p[3] = __shfl_xor_sync(all, (float)lane, 8, 16);
    p[4] = (float)(wide >> 40);
    p[5] = (float)__popc(__ballot_sync(all, lane % 3 == 0));
    p[6] = (float)(__any_sync(all, lane == 9) * 2 + __all_sync(all, lane < 31));
    p[7] = (float)__shfl_down_sync(all, lane, 3U, 8);
    __syncwarp();
}

static int shuffles()
{
    float want[64 * 8];
    float *y = planted_zeros(64 * 8);

    for (int i = 0; i < 64; i++) {
        const int lane = i % 32;
        const int values[8] = {(lane + 3) % 32,
                               lane + 4 < 32 ? lane + 4 : lane,
                               lane < 4 ? lane : lane - 4,
                               lane ^ 8,
                               5,
                               11,
                               2,
                               lane % 8 + 3 < 8 ? lane + 3 : lane};

        for (int j = 0; j < 8; j++) {
            want[i * 8 + j] = (float)values[j];
        }
    }
    CUDA_LAUNCH(shuffles_kernel, 1, 64, 0, 0, y);
    return planted_compare(y, want, 64 * 8);
}

/* ---- a neighbour's number through shared memory, within the warp ---- */

template <bool BUG> static __global__ void warp_neighbour_kernel(float *y)
{
    CUDA_SHARED(shared);
    float *s = (float *)shared + threadIdx.x / 32 * 32;
    const int lane = (int)threadIdx.x % 32;

    s[lane] = (float)threadIdx.x;
    if (!BUG) {
        __syncwarp();
    }
    y[threadIdx.x] = s[31 - lane];
}

template <bool BUG> static int warp_neighbour()
{
    float want[64];
    float *y = planted_zeros(64);

    for (int i = 0; i < 64; i++) {
        want[i] = (float)(i ^ 31);
    }
    CUDA_LAUNCH(warp_neighbour_kernel<BUG>, 1, 64, 64 * sizeof(float), 0, y);
    return planted_compare(y, want, 64);
}

/* ---- C = A B through ldmatrix and mma, against a plain loop ---- */

enum tile_bug {
    TILE_RIGHT,
    TILE_WRONG_LANE,
    TILE_NOT_TRANSPOSED,
    TILE_MISALIGNED,
};

/* One warp: c[16][8] = a[16][16] b[16][8], row-major; rows in shared memory are 48 (24) bytes apart. */
template <enum tile_bug BUG>
static __global__ void tile_kernel(float *c, const struct bf16 *a, const struct bf16 *b)
{
    CUDA_SHARED(shared);
    struct bf16 *sa = (struct bf16 *)shared;
    struct bf16 *sb = sa + 16 * 24;
    const int lane = (int)threadIdx.x;
    uint32_t ra[4], rb[4];
    float d[4] = {0.0F, 0.0F, 0.0F, 0.0F};

    for (int i = lane; i < 16 * 16; i += 32) {
        sa[i / 16 * 24 + i % 16] = a[i];
    }
    for (int i = lane; i < 16 * 8; i += 32) {
        sb[i] = b[i];
    }
    __syncthreads();
    /* Matrices: upper left, lower left, upper right, lower right. */
    const int row = BUG == TILE_WRONG_LANE ? lane / 2 : lane % 16;

    ldmatrix_x4(ra, sa + row * 24 + lane / 16 * 8 + (BUG == TILE_MISALIGNED ? 1 : 0));
    if (BUG == TILE_NOT_TRANSPOSED) {
        ldmatrix_x4(rb, sb + lane % 16 * 8);
    } else {
        ldmatrix_x4_trans(rb, sb + lane % 16 * 8);
    }
    mma_bf16(d, ra, rb);
    for (int i = 0; i < 4; i++) {
        c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
    }
}

template <enum tile_bug BUG> static int tile()
{
    float a[16 * 16], b[16 * 8], want[16 * 8];
    struct bf16 bits[16 * 16 + 16 * 8];
    float *c = planted_zeros(16 * 8);
    struct bf16 *device;

    for (int i = 0; i < 16 * 16; i++) {
        a[i] = (float)(i * 29 % 64 - 32) / 16.0F; /* exact in bf16 */
        bits[i] = float_to_bf16(a[i]);
    }
    for (int i = 0; i < 16 * 8; i++) {
        b[i] = (float)(i * 53 % 61 - 30) / 8.0F;
        bits[16 * 16 + i] = float_to_bf16(b[i]);
    }
    for (int i = 0; i < 16 * 8; i++) {
        want[i] = 0.0F;
        for (int k = 0; k < 16; k++) {
            want[i] += a[i / 8 * 16 + k] * b[k * 8 + i % 8];
        }
    }
    device = (struct bf16 *)planted_upload((const float *)(const void *)bits, sizeof(bits) / 4);
    CUDA_LAUNCH(tile_kernel<BUG>, 1, 32, 2 * (16 * 24 + 16 * 8), 0, c, device, device + 16 * 16);
    return planted_compare(c, want, 16 * 8);
}

/* ---- a pipeline of asynchronous copies ---- */

enum copy_bug {
    COPY_RIGHT,
    COPY_NO_WAIT,
    COPY_WAIT_ONE_LESS,
    COPY_NO_COMMIT,
    COPY_NO_BARRIER,
    COPY_REUSE_TOO_EARLY,
    COPY_MISALIGNED,
};

enum {
    STAGES = 2,
    ROUNDS = 6,
    ROW = 64 * 4, /* floats that a block of 64 copies at once */
};

static __device__ void fetch(float *s, const float *x, int round, bool commit, int shift)
{
    const int at = (int)threadIdx.x * 4;
    const bool valid = round < ROUNDS - 1 || threadIdx.x < 32;

    cp_async_16(s + round % STAGES * ROW + at, x + round * ROW + at + shift, valid);
    if (commit) {
        cp_async_commit();
    }
}

/* y[i] = sum over rounds of what the thread opposite has copied; zeros in half of the last. */
template <enum copy_bug BUG> static __global__ void pipeline_kernel(float *y, const float *x)
{
    CUDA_SHARED(shared);
    float *s = (float *)shared;
    const int opposite = 63 - (int)threadIdx.x;
    const int shift = BUG == COPY_MISALIGNED ? 1 : 0;
    float sum = 0.0F;

    fetch(s, x, 0, BUG != COPY_NO_COMMIT, shift);
    for (int round = 0; round < ROUNDS; round++) {
        if (round + 1 < ROUNDS) {
            fetch(s, x, round + 1, BUG != COPY_NO_COMMIT, shift);
        } else {
            cp_async_commit();
        }
        if (BUG == COPY_WAIT_ONE_LESS) {
            cp_async_wait<2>();
        } else if (BUG != COPY_NO_WAIT) {
            cp_async_wait<1>();
        }
        if (BUG != COPY_NO_BARRIER) {
            __syncthreads();
        }
        for (int i = 0; i < 4; i++) {
            sum += s[round % STAGES * ROW + opposite * 4 + i];
        }
        if (BUG != COPY_REUSE_TOO_EARLY) {
            __syncthreads();
        }
    }
    y[threadIdx.x] = sum;
}

template <enum copy_bug BUG> static int pipeline()
{
    float x[ROUNDS * ROW], want[64];
    float *y = planted_zeros(64);

    for (int i = 0; i < ROUNDS * ROW; i++) {
        x[i] = (float)(i * 7 % 23);
    }
    for (int i = 0; i < 64; i++) {
        want[i] = 0.0F;
        for (int round = 0; round < ROUNDS; round++) {
            for (int j = 0; j < 4 && (round < ROUNDS - 1 || 63 - i < 32); j++) {
                want[i] += x[round * ROW + (63 - i) * 4 + j];
            }
        }
    }
    CUDA_LAUNCH(pipeline_kernel<BUG>, 1, 64, STAGES * ROW * sizeof(float), 0, y,
                planted_upload(x, ROUNDS * ROW));
    return planted_compare(y, want, 64);
}

const struct planted planted_warps[] = {
    {"shuffle under divergence", divergent<false>, divergent<true>, IN_ALL, "divergent_kernel"},
    {"a lane at a barrier, others at a shuffle", barrier_or_shuffle<false>,
     barrier_or_shuffle<true>, IN_ALL, "__syncthreads"},
    {"all shuffles", shuffles, NULL, 0, NULL},
    {"neighbour in the warp", warp_neighbour<false>, warp_neighbour<true>, IN_ALL, NULL},
    {"wrong lane in ldmatrix", tile<TILE_RIGHT>, tile<TILE_WRONG_LANE>, IN_ALL, NULL},
    {"ldmatrix not transposed", tile<TILE_RIGHT>, tile<TILE_NOT_TRANSPOSED>, IN_ALL, NULL},
    {"misaligned ldmatrix", tile<TILE_RIGHT>, tile<TILE_MISALIGNED>, IN_ALL, "misaligned"},
    {"copies without wait", pipeline<COPY_RIGHT>, pipeline<COPY_NO_WAIT>, IN_FORWARD | IN_PERMUTED,
     NULL},
    {"wait for one group too few", pipeline<COPY_RIGHT>, pipeline<COPY_WAIT_ONE_LESS>,
     IN_FORWARD | IN_PERMUTED, NULL},
    {"copies without commit", pipeline<COPY_RIGHT>, pipeline<COPY_NO_COMMIT>,
     IN_FORWARD | IN_PERMUTED, NULL},
    {"others' copies without barrier", pipeline<COPY_RIGHT>, pipeline<COPY_NO_BARRIER>,
     IN_FORWARD | IN_PERMUTED, NULL},
    {"copies into what is still read", pipeline<COPY_RIGHT>, pipeline<COPY_REUSE_TOO_EARLY>,
     IN_BACKWARD | IN_PERMUTED, NULL},
    {"copies from a misaligned source", pipeline<COPY_RIGHT>, pipeline<COPY_MISALIGNED>, IN_ALL,
     "misaligned"},
};
const int n_planted_warps = sizeof(planted_warps) / sizeof(planted_warps[0]);
