/*
 * Threads and blocks that do not wait for each other, or write where nothing is theirs.
 */
#include "tests/hostsim/planted.h"

enum {
    N = 256,
};

static void numbers(float *x, int n)
{
    for (int i = 0; i < n; i++) {
        x[i] = (float)(i * 37 % 101);
    }
}

/* ---- a sum through shared memory: thread 0 must not be early ---- */

template <bool BUG> static __global__ void sum_kernel(float *y, const float *x)
{
    CUDA_SHARED(shared);
    float *s = (float *)shared;

    s[threadIdx.x] = x[threadIdx.x];
    if (!BUG) {
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        float sum = 0.0F;

        for (int i = 0; i < N; i++) {
            sum += s[i];
        }
        *y = sum;
    }
}

template <bool BUG> static int sum()
{
    float x[N], want = 0.0F;
    float *y = planted_zeros(1);

    numbers(x, N);
    for (int i = 0; i < N; i++) {
        want += x[i];
    }
    CUDA_LAUNCH(sum_kernel<BUG>, 1, N, N * sizeof(float), 0, y, planted_upload(x, N));
    return planted_compare(y, &want, 1);
}

/* ---- a neighbour's number ---- */

template <bool BUG, int BY> static __global__ void neighbour_kernel(float *y, const float *x)
{
    CUDA_SHARED(shared);
    float *s = (float *)shared;
    const int i = (int)threadIdx.x;

    s[i] = x[i];
    if (!BUG) {
        __syncthreads();
    }
    y[i] = s[(i + BY) % N];
}

template <bool BUG, int BY> static int neighbour()
{
    float x[N], want[N];
    float *y = planted_zeros(N);

    numbers(x, N);
    for (int i = 0; i < N; i++) {
        want[i] = x[(i + BY) % N];
    }
    CUDA_LAUNCH((neighbour_kernel<BUG, BY>), 1, N, N * sizeof(float), 0, y, planted_upload(x, N));
    return planted_compare(y, want, N);
}

/* ---- a loop that refills shared memory before all have read it ---- */

template <bool BUG> static __global__ void refill_kernel(float *y, const float *x)
{
    CUDA_SHARED(shared);
    float *s = (float *)shared;
    const int i = (int)threadIdx.x;
    float sum = 0.0F;

    for (int round = 0; round < 4; round++) {
        s[i] = x[i] * (float)(round + 1);
        __syncthreads();
        sum += s[N - 1 - i];
        if (!BUG) {
            __syncthreads();
        }
    }
    y[i] = sum;
}

template <bool BUG> static int refill()
{
    float x[N], want[N];
    float *y = planted_zeros(N);

    numbers(x, N);
    for (int i = 0; i < N; i++) {
        want[i] = 10.0F * x[N - 1 - i];
    }
    CUDA_LAUNCH(refill_kernel<BUG>, 1, N, N * sizeof(float), 0, y, planted_upload(x, N));
    return planted_compare(y, want, N);
}

/* ---- blocks that count on each other ---- */

template <bool BUG> static __global__ void running_kernel(float *y, const float *x)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int before = i - (int)blockDim.x;

    y[i] = x[i] + (before < 0 ? 0.0F
                   : BUG      ? y[before] - (before < 32 ? 0.0F : x[before - 32])
                              : x[before]);
}

template <bool BUG> static int running()
{
    float x[N], want[N];
    float *y = planted_zeros(N);

    numbers(x, N);
    for (int i = 0; i < N; i++) {
        want[i] = x[i] + (i < 32 ? 0.0F : x[i - 32]);
    }
    CUDA_LAUNCH(running_kernel<BUG>, N / 32, 32, 0, 0, y, planted_upload(x, N));
    return planted_compare(y, want, N);
}

/* ---- shared memory that nobody wrote ---- */

template <bool BUG> static __global__ void count_kernel(unsigned *y)
{
    CUDA_SHARED(shared);
    unsigned *n = (unsigned *)shared;

    if (!BUG && threadIdx.x == 0) {
        *n = 0;
    }
    __syncthreads();
    atomicAdd(n, 1U);
    __syncthreads();
    if (threadIdx.x == 0) {
        *y = __float_as_uint((float)*n);
    }
}

template <bool BUG> static int count()
{
    const float want = N;
    float *y = planted_zeros(1);

    CUDA_LAUNCH(count_kernel<BUG>, 1, N, sizeof(unsigned), 0, (unsigned *)y);
    return planted_compare(y, &want, 1);
}

/* ---- over the edge ---- */

template <bool BUG> static __global__ void edge_kernel(float *y, const float *x, int n)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

    if (BUG ? i <= n : i < n) {
        y[i] = x[i];
    }
}

template <bool BUG> static int edge(int n)
{
    float x[1025];
    float *y = planted_zeros(n);

    numbers(x, 1025);
    CUDA_LAUNCH(edge_kernel<BUG>, n / 32 + 1, 32, 0, 0, y, planted_upload(x, n), n);
    return planted_compare(y, x, n);
}

template <bool BUG> static int edge_odd()
{
    return edge<BUG>(33);
}

template <bool BUG> static int edge_page()
{
    return edge<BUG>(1024);
}

template <bool BUG> static __global__ void before_kernel(float *y, int n)
{
    for (int i = BUG ? -1 : 0; i < n; i++) {
        y[i] = 1.0F;
    }
}

template <bool BUG> static int before()
{
    const float want[3] = {1.0F, 1.0F, 1.0F};
    float *y = planted_zeros(3);

    CUDA_LAUNCH(before_kernel<BUG>, 1, 32, 0, 0, y, 3);
    return planted_compare(y, want, 3);
}

template <bool BUG> static __global__ void shared_edge_kernel(float *y, int n)
{
    CUDA_SHARED(shared);
    float *s = (float *)shared;

    if (BUG ? (int)threadIdx.x <= n : (int)threadIdx.x < n) {
        s[threadIdx.x] = 1.0F;
    }
    __syncthreads();
    if ((int)threadIdx.x < n) {
        y[threadIdx.x] = s[threadIdx.x];
    }
}

template <bool BUG> static int shared_edge()
{
    const float want[5] = {1.0F, 1.0F, 1.0F, 1.0F, 1.0F};
    float *y = planted_zeros(5);

    CUDA_LAUNCH(shared_edge_kernel<BUG>, 1, 32, 5 * sizeof(float), 0, y, 5);
    return planted_compare(y, want, 5);
}

/* ---- barriers that not all come to ---- */

template <bool BUG> static __global__ void half_barrier_kernel(float *y)
{
    if (!BUG || threadIdx.x < 16) {
        __syncthreads();
    }
    y[threadIdx.x] = 1.0F;
}

template <bool BUG> static __global__ void two_barriers_kernel(float *y)
{
    if (BUG && threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[threadIdx.x] = 1.0F;
}

static int ones(void (*kernel)(float *))
{
    float want[64];
    float *y = planted_zeros(64);

    for (int i = 0; i < 64; i++) {
        want[i] = 1.0F;
    }
    CUDA_LAUNCH(kernel, 1, 64, 0, 0, y);
    return planted_compare(y, want, 64);
}

template <bool BUG> static int half_barrier()
{
    return ones(half_barrier_kernel<BUG>);
}

template <bool BUG> static int two_barriers()
{
    return ones(two_barriers_kernel<BUG>);
}

/* Whole warps may end early, as on a GPU. */
static __global__ void early_end_kernel(float *y)
{
    y[threadIdx.x] = 1.0F;
    if (threadIdx.x >= 32) {
        return;
    }
    __syncthreads();
}

static int early_end()
{
    return ones(early_end_kernel);
}

/* ---- arguments ---- */

static __global__ void read_kernel(float *y, const float *x)
{
    y[threadIdx.x] = x[threadIdx.x];
}

template <bool BUG> static int host_pointer()
{
    float x[32];
    float *y = planted_zeros(32);

    numbers(x, 32);
    CUDA_LAUNCH(read_kernel, 1, 32, 0, 0, y, BUG ? x : planted_upload(x, 32));
    return planted_compare(y, x, 32);
}

struct read_args {
    int n;
    const float *x;
};

static __global__ void read_struct_kernel(float *y, struct read_args args)
{
    if ((int)threadIdx.x < args.n) {
        y[threadIdx.x] = args.x[threadIdx.x];
    }
}

template <bool BUG> static int host_pointer_in_struct()
{
    float x[32];
    float *y = planted_zeros(32);

    numbers(x, 32);
    const struct read_args args = {32, BUG ? x : planted_upload(x, 32)};

    CUDA_LAUNCH(read_struct_kernel, 1, 32, 0, 0, y, args);
    return planted_compare(y, x, 32);
}

template <bool BUG> static int ragged_block()
{
    float x[32];
    float *y = planted_zeros(32);

    numbers(x, 32);
    CUDA_LAUNCH(read_kernel, 1, BUG ? 31 : 32, 0, 0, y, planted_upload(x, 32));
    return planted_compare(y, x, BUG ? 31 : 32);
}

const struct planted planted_kernels[] = {
    {"missing barrier in a sum", sum<false>, sum<true>, IN_FORWARD | IN_PERMUTED, NULL},
    {"neighbour after", neighbour<false, 1>, neighbour<true, 1>, IN_ALL, NULL},
    {"neighbour half a block away", neighbour<false, N / 2>, neighbour<true, N / 2>, IN_ALL, NULL},
    {"refill too early", refill<false>, refill<true>, IN_ALL, NULL},
    {"blocks in a row", running<false>, running<true>, IN_BACKWARD | IN_PERMUTED, NULL},
    {"shared memory not set", count<false>, count<true>, IN_ALL, NULL},
    {"one over the edge, odd size", edge_odd<false>, edge_odd<true>, IN_ALL, ""},
    {"one over the edge, whole page", edge_page<false>, edge_page<true>, IN_ALL, "edge_kernel"},
    {"one before the beginning", before<false>, before<true>, IN_ALL, ""},
    {"one over the edge of shared memory", shared_edge<false>, shared_edge<true>, IN_ALL,
     "shared_edge_kernel"},
    {"half a warp at a barrier", half_barrier<false>, half_barrier<true>, IN_ALL,
     "barrier under divergence"},
    {"two barriers at once", two_barriers<false>, two_barriers<true>, IN_ALL,
     "barrier under divergence"},
    {"warps that end early are allowed", early_end, NULL, 0, NULL},
    {"argument on the host", host_pointer<false>, host_pointer<true>, IN_ALL, "argument 1"},
    {"argument on the host, in a struct", host_pointer_in_struct<false>,
     host_pointer_in_struct<true>, IN_ALL, "argument 1, byte 8"},
    {"block of 31", ragged_block<false>, ragged_block<true>, IN_ALL, "multiple of 32"},
};
const int n_planted_kernels = sizeof(planted_kernels) / sizeof(planted_kernels[0]);
