/*
 * The host does not wait for the device, or one stream for another.
 */
#include "tests/hostsim/planted.h"

enum {
    N = 64,
};

static __global__ void add_kernel(float *y, const float *x, float by)
{
    y[threadIdx.x] = x[threadIdx.x] + by;
}

static cudaStream_t new_stream()
{
    cudaStream_t s = NULL;

    (void)cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    return s;
}

static cudaEvent_t new_event()
{
    cudaEvent_t e = NULL;

    (void)cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    return e;
}

static void fill(float *x, float value)
{
    for (int i = 0; i < N; i++) {
        x[i] = value;
    }
}

/* ---- b reads what a wrote ---- */

template <bool BUG> static int follow()
{
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t done = new_event();
    float *x = planted_zeros(N), *y = planted_zeros(N), *z = planted_zeros(N);
    float want[N];

    fill(want, 3.0F);
    CUDA_LAUNCH(add_kernel, 1, N, 0, a, y, x, 1.0F);
    (void)cudaEventRecord(done, a);
    if (!BUG) {
        (void)cudaStreamWaitEvent(b, done, 0);
    }
    CUDA_LAUNCH(add_kernel, 1, N, 0, b, z, y, 2.0F);
    (void)cudaStreamSynchronize(b);
    return planted_compare(z, want, N);
}

/* ---- a must not write the next before b has read the last ---- */

template <bool BUG> static int overwrite()
{
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t written = new_event(), read = new_event();
    float *x = planted_zeros(N), *y = planted_zeros(N), *z = planted_zeros(N);
    float want[N];

    fill(want, 3.0F);
    CUDA_LAUNCH(add_kernel, 1, N, 0, a, y, x, 1.0F);
    (void)cudaEventRecord(written, a);
    (void)cudaStreamWaitEvent(b, written, 0);
    CUDA_LAUNCH(add_kernel, 1, N, 0, b, z, y, 2.0F);
    (void)cudaEventRecord(read, b);
    if (!BUG) {
        (void)cudaStreamWaitEvent(a, read, 0);
    }
    CUDA_LAUNCH(add_kernel, 1, N, 0, a, y, x, 100.0F);
    (void)cudaStreamSynchronize(a);
    (void)cudaStreamSynchronize(b);
    return planted_compare(z, want, N);
}

/* ---- pinned memory that is still being copied from ---- */

template <bool BUG> static int pinned_reuse()
{
    cudaStream_t a = new_stream();
    float *x = planted_zeros(N), *host;
    float want[N];

    if (cudaMallocHost(&host, sizeof(want)) != cudaSuccess) {
        return -1;
    }
    fill(want, 1.0F);
    fill(host, 1.0F);
    (void)cudaMemcpyAsync(x, host, sizeof(want), cudaMemcpyHostToDevice, a);
    if (!BUG) {
        (void)cudaStreamSynchronize(a);
    }
    fill(host, 2.0F);
    (void)cudaStreamSynchronize(a);
    return planted_compare(x, want, N);
}

/* ---- pinned memory that the copy has not come to ---- */

template <bool BUG> static int pinned_early()
{
    cudaStream_t a = new_stream();
    cudaEvent_t done = new_event();
    float *x = planted_zeros(N), *y = planted_zeros(N), *host;

    if (cudaMallocHost(&host, N * sizeof(float)) != cudaSuccess) {
        return -1;
    }
    CUDA_LAUNCH(add_kernel, 1, N, 0, a, y, x, 1.0F);
    (void)cudaMemcpyAsync(host, y, N * sizeof(float), cudaMemcpyDeviceToHost, a);
    (void)cudaEventRecord(done, a);
    if (!BUG) {
        (void)cudaEventSynchronize(done);
    }
    return host[0] != 1.0F || host[N - 1] != 1.0F;
}

/* ---- memory that is not pinned is staged, so it may be reused at once ---- */

static int pageable_reuse()
{
    cudaStream_t a = new_stream();
    float *x = planted_zeros(N);
    float host[N], want[N];

    fill(want, 1.0F);
    fill(host, 1.0F);
    (void)cudaMemcpyAsync(x, host, sizeof(host), cudaMemcpyHostToDevice, a);
    fill(host, 2.0F);
    (void)cudaStreamSynchronize(a);
    return planted_compare(x, want, N);
}

/* ---- a synchronous copy goes to the legacy stream, which others do not wait for ---- */

template <bool BUG> static int legacy_copy()
{
    cudaStream_t a = new_stream();
    float *x = planted_zeros(N), *y = planted_zeros(N);
    float host[N], want[N];

    fill(host, 1.0F);
    fill(want, 3.0F);
    if (BUG) {
        (void)cudaMemcpy(x, host, sizeof(host), cudaMemcpyHostToDevice);
    } else {
        (void)cudaMemcpyAsync(x, host, sizeof(host), cudaMemcpyHostToDevice, a);
    }
    CUDA_LAUNCH(add_kernel, 1, N, 0, a, y, x, 2.0F);
    (void)cudaStreamSynchronize(a);
    return planted_compare(y, want, N);
}

/* Streams that block do wait. */
static int legacy_joins()
{
    cudaStream_t a;
    float *x = planted_zeros(N), *y = planted_zeros(N), *z = planted_zeros(N);
    float host[N], want[N];

    (void)cudaStreamCreate(&a);
    fill(host, 1.0F);
    fill(want, 6.0F);
    (void)cudaMemcpy(x, host, sizeof(host), cudaMemcpyHostToDevice);
    CUDA_LAUNCH(add_kernel, 1, N, 0, a, y, x, 2.0F);
    CUDA_LAUNCH(add_kernel, 1, N, 0, 0, z, y, 3.0F);
    return planted_compare(z, want, N);
}

/* Arguments are those of the time of the launch. */
static int arguments_are_copied()
{
    cudaStream_t a = new_stream();
    float *x = planted_zeros(N), *y = planted_zeros(N);
    float by = 1.0F, want[N];

    fill(want, 1.0F);
    CUDA_LAUNCH(add_kernel, 1, N, 0, a, y, x, by);
    by = 2.0F;
    (void)cudaStreamSynchronize(a);
    return planted_compare(y, want, N) + (by != 2.0F);
}

const struct planted planted_streams[] = {
    {"stream that does not follow", follow<false>, follow<true>, IN_FORWARD | IN_BACKWARD, NULL},
    {"stream that overwrites", overwrite<false>, overwrite<true>, IN_FORWARD | IN_BACKWARD, NULL},
    {"pinned memory reused", pinned_reuse<false>, pinned_reuse<true>, IN_FORWARD | IN_BACKWARD,
     NULL},
    {"pinned memory read too early", pinned_early<false>, pinned_early<true>,
     IN_FORWARD | IN_BACKWARD, NULL},
    {"pageable memory is staged", pageable_reuse, NULL, 0, NULL},
    {"copy on the legacy stream", legacy_copy<false>, legacy_copy<true>, IN_FORWARD | IN_BACKWARD,
     NULL},
    {"streams that block wait for the legacy one", legacy_joins, NULL, 0, NULL},
    {"arguments are copied", arguments_are_copied, NULL, 0, NULL},
};
const int n_planted_streams = sizeof(planted_streams) / sizeof(planted_streams[0]);
