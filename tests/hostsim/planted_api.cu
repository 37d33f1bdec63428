/*
 * The runtime API's rules: nothing is planted, each of these must hold.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/hostsim/planted.h"

#define HOLDS(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #cond);                    \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)
#define HOLDS_OK(call) HOLDS((call) == cudaSuccess)

enum {
    N = 64,
};

static __global__ void increment_kernel(float *x)
{
    x[threadIdx.x] += 1.0F;
}

static __global__ void shared_kernel(float *x)
{
    CUDA_SHARED(shared);

    x[threadIdx.x] = shared[threadIdx.x] == 0xCB ? 1.0F : 0.0F;
}

static int launch_error(struct dim3 grid, struct dim3 block, size_t shared)
{
    CUDA_LAUNCH(shared_kernel, grid, block, shared, 0, planted_zeros(1024));
    return cudaGetLastError();
}

static int launches()
{
    int version;

    HOLDS(launch_error(1, 32, 32) == cudaSuccess);
    HOLDS(launch_error(0, 32, 32) == cudaErrorInvalidConfiguration);
    HOLDS(launch_error(dim3(1, 65536), 32, 32) == cudaErrorInvalidConfiguration);
    HOLDS(launch_error(1, 0, 32) == cudaErrorInvalidConfiguration);
    HOLDS(launch_error(1, 1056, 32) == cudaErrorInvalidConfiguration);
    HOLDS(launch_error(1, dim3(8, 1, 128), 32) == cudaErrorInvalidConfiguration);
    HOLDS(cudaPeekAtLastError() == cudaSuccess);
    HOLDS_OK(cudaDriverGetVersion(&version));
    HOLDS_OK(cudaDeviceSynchronize());
    return 0;
}

static int shared_limits()
{
    struct cudaFuncAttributes attributes;

    HOLDS(launch_error(1, 32, 48 << 10) == cudaSuccess);
    HOLDS(launch_error(1, 32, (48 << 10) + 1) == cudaErrorInvalidValue);
    HOLDS(cudaFuncSetAttribute(shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               (227 << 10) + 1) == cudaErrorInvalidValue);
    HOLDS(cudaGetLastError() == cudaErrorInvalidValue);
    HOLDS_OK(cudaFuncSetAttribute(shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  100 << 10));
    HOLDS_OK(cudaFuncGetAttributes(&attributes, shared_kernel));
    HOLDS(attributes.maxDynamicSharedSizeBytes == 100 << 10);
    HOLDS(launch_error(1, 32, 100 << 10) == cudaSuccess);
    HOLDS(launch_error(1, 32, (100 << 10) + 1) == cudaErrorInvalidValue);
    HOLDS_OK(cudaDeviceSynchronize());
    return 0;
}

int planted_memory_limits()
{
    size_t before, after, total;
    void *p, *q;
    unsigned char bytes[64];

    HOLDS_OK(cudaMemGetInfo(&before, &total));
    HOLDS(total == 1 << 20 && before == total);
    HOLDS_OK(cudaMalloc(&p, 600 << 10));
    HOLDS(cudaMalloc(&q, 600 << 10) == cudaErrorMemoryAllocation);
    HOLDS(q == NULL && cudaGetLastError() == cudaErrorMemoryAllocation);
    HOLDS(cudaGetLastError() == cudaSuccess);
    HOLDS_OK(cudaMemGetInfo(&after, &total));
    HOLDS(before - after == 600 << 10);
    HOLDS_OK(cudaMemcpy(bytes, p, sizeof(bytes), cudaMemcpyDeviceToHost));
    HOLDS(bytes[0] == 0xFF && bytes[63] == 0xFF);
    HOLDS(cudaFree((char *)p + 256) == cudaErrorInvalidValue);
    HOLDS_OK(cudaFree(p));
    HOLDS(cudaFree(p) == cudaErrorInvalidValue);
    HOLDS_OK(cudaFree(NULL));
    HOLDS_OK(cudaMalloc(&p, 1 << 20));
    HOLDS_OK(cudaFree(p));
    return 0;
}

static int copies_are_checked()
{
    float host[N];
    float *x = planted_zeros(N), *pinned;

    HOLDS_OK(cudaHostAlloc((void **)&pinned, sizeof(host), cudaHostAllocDefault));
    HOLDS(cudaMemcpy(x, host, sizeof(host) + 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    HOLDS(cudaMemcpy(host, x + 1, sizeof(host), cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    HOLDS(cudaMemcpy(host, x, sizeof(host), cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    HOLDS(cudaMemcpyAsync(pinned, x, sizeof(host), cudaMemcpyDeviceToDevice, 0) ==
          cudaErrorInvalidValue);
    HOLDS(cudaMemset(x, 0, sizeof(host) + 1) == cudaErrorInvalidValue);
    HOLDS_OK(cudaMemcpy(host, x, sizeof(host), cudaMemcpyDefault));
    HOLDS(host[0] == 0.0F);
    HOLDS_OK(cudaFreeHost(pinned));
    return 0;
}

static int events_tell()
{
    cudaStream_t s;
    cudaEvent_t before, after;
    float *x = planted_zeros(N), ms = -1.0F;
    int asked = 0;

    HOLDS_OK(cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, -1));
    HOLDS_OK(cudaEventCreate(&before));
    HOLDS_OK(cudaEventCreate(&after));
    HOLDS_OK(cudaEventQuery(after)); /* never recorded */
    HOLDS_OK(cudaEventRecord(before, s));
    CUDA_LAUNCH(increment_kernel, 1, N, 0, s, x);
    HOLDS_OK(cudaEventRecord(after, s));
    while (cudaEventQuery(after) == cudaErrorNotReady) {
        HOLDS(++asked < 10);
    }
    HOLDS_OK(cudaEventQuery(after));
    HOLDS_OK(cudaEventElapsedTime(&ms, before, after));
    HOLDS(ms >= 0.0F);
    HOLDS_OK(cudaEventDestroy(before));
    HOLDS(cudaEventRecord(before, s) == cudaErrorInvalidResourceHandle);
    HOLDS_OK(cudaStreamQuery(s));
    HOLDS_OK(cudaStreamDestroy(s));
    HOLDS_OK(cudaEventSynchronize(after)); /* its stream is gone */
    return 0;
}

/* ---- graphs ---- */

static int graphs_replay()
{
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    enum cudaStreamCaptureStatus status;
    float *x = planted_zeros(N), want[N];

    HOLDS_OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    HOLDS_OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    HOLDS_OK(cudaStreamIsCapturing(s, &status));
    HOLDS(status == cudaStreamCaptureStatusActive);
    CUDA_LAUNCH(increment_kernel, 1, N, 0, s, x);
    CUDA_LAUNCH(increment_kernel, 1, N, 0, s, x);
    HOLDS_OK(cudaStreamEndCapture(s, &graph));
    HOLDS_OK(cudaGraphInstantiate(&exec, graph, 0));
    HOLDS_OK(cudaGraphDestroy(graph));
    HOLDS(planted_compare(x, want, 0) == 0); /* nothing ran, but waiting is allowed again */
    for (int i = 0; i < 3; i++) {
        HOLDS_OK(cudaGraphLaunch(exec, s));
    }
    HOLDS_OK(cudaGraphExecDestroy(exec));
    HOLDS_OK(cudaStreamSynchronize(s));
    for (int i = 0; i < N; i++) {
        want[i] = 6.0F;
    }
    HOLDS(planted_compare(x, want, N) == 0);
    return 0;
}

/* What breaks a capture. */
static cudaError_t break_capture(int what, cudaStream_t s, cudaEvent_t e)
{
    static float *x;
    float host[N];
    void *p;

    switch (what) {
    case 0:
        return cudaMalloc(&p, 256);
    case 1:
        return cudaStreamSynchronize(s);
    case 2:
        return cudaDeviceSynchronize();
    case 3:
        return cudaMemcpyAsync(x, host, 0, cudaMemcpyHostToDevice, s) == cudaSuccess
                   ? cudaStreamQuery(s)
                   : cudaSuccess;
    case 4:
        return cudaEventQuery(e);
    default:
        return cudaMallocHost(&p, 256);
    }
}

static int captures_break()
{
    cudaStream_t s;
    cudaEvent_t e;
    cudaGraph_t graph;
    enum cudaStreamCaptureStatus status;
    float *x = planted_zeros(N);

    HOLDS_OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    HOLDS_OK(cudaEventCreate(&e));
    for (int what = 0; what < 6; what++) {
        HOLDS_OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
        HOLDS(break_capture(what, s, e) == cudaErrorStreamCaptureUnsupported);
        HOLDS_OK(cudaStreamIsCapturing(s, &status));
        HOLDS(status == cudaStreamCaptureStatusInvalidated);
        (void)cudaGetLastError();
        CUDA_LAUNCH(increment_kernel, 1, N, 0, s, x);
        HOLDS(cudaGetLastError() == cudaErrorStreamCaptureInvalidated);
        HOLDS(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
        HOLDS(graph == NULL);
        HOLDS_OK(cudaStreamSynchronize(s));
    }
    HOLDS(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureUnmatched);
    return 0;
}

/* A copy from memory that is not pinned cannot be recorded. */
static int pageable_capture()
{
    cudaStream_t s;
    cudaGraph_t graph;
    float host[N] = {0.0F};
    float *x = planted_zeros(N);

    HOLDS_OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    HOLDS_OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
    HOLDS(cudaMemcpyAsync(x, host, sizeof(host), cudaMemcpyHostToDevice, s) ==
          cudaErrorStreamCaptureUnsupported);
    HOLDS(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
    return 0;
}

/* ---- a lost device; SANAD_HOSTSIM_FAIL is set ---- */

int planted_third_launch()
{
    cudaStream_t s;
    float *x = planted_zeros(N), host[N];

    HOLDS_OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    CUDA_LAUNCH(increment_kernel, 1, N, 0, s, x);
    CUDA_LAUNCH(increment_kernel, 1, N, 0, s, x);
    HOLDS_OK(cudaStreamSynchronize(s));
    CUDA_LAUNCH(increment_kernel, 1, N, 0, s, x);
    (void)cudaGetLastError();
    HOLDS(cudaStreamSynchronize(s) == cudaErrorIllegalAddress);
    HOLDS(cudaGetLastError() == cudaErrorIllegalAddress);
    HOLDS(cudaGetLastError() == cudaErrorIllegalAddress);
    HOLDS(cudaMemcpy(host, x, sizeof(host), cudaMemcpyDeviceToHost) == cudaErrorIllegalAddress);
    HOLDS(cudaMalloc((void **)&x, 4) == cudaErrorIllegalAddress);
    HOLDS(cudaStreamDestroy(s) == cudaErrorIllegalAddress);
    return 0;
}

int planted_lost_or_not()
{
    float *x = planted_zeros(N);

    for (int i = 0; i < 4; i++) {
        CUDA_LAUNCH(increment_kernel, 1, N, 0, 0, x);
    }
    return cudaDeviceSynchronize() == cudaErrorIllegalAddress ? 0 : 3;
}

const struct planted planted_api[] = {
    {"launches are checked", launches, NULL, 0, NULL},
    {"shared memory has limits", shared_limits, NULL, 0, NULL},
    {"copies are checked", copies_are_checked, NULL, 0, NULL},
    {"events and streams tell", events_tell, NULL, 0, NULL},
    {"graphs replay", graphs_replay, NULL, 0, NULL},
    {"captures break", captures_break, NULL, 0, NULL},
    {"no pageable memory in graphs", pageable_capture, NULL, 0, NULL},
};
const int n_planted_api = sizeof(planted_api) / sizeof(planted_api[0]);
