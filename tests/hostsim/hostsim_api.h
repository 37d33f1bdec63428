/*
 * hostsim_api.h - the part of CUDA's runtime API that kernels/cuda_device.cu uses, simulated.
 *
 * Names and values are CUDA's. Work is queued per stream and runs as late as CUDA allows, on the calling
 * thread. Not thread-safe: the device belongs to the engine thread.
 */
#ifndef TESTS_HOSTSIM_HOSTSIM_API_H
#define TESTS_HOSTSIM_HOSTSIM_API_H

#include <stddef.h>

/* X(name, code, sticky, text) */
#define HOSTSIM_ERRORS(X)                                                                          \
    X(cudaSuccess, 0, false, "no error")                                                           \
    X(cudaErrorInvalidValue, 1, false, "invalid argument")                                         \
    X(cudaErrorMemoryAllocation, 2, false, "out of memory")                                        \
    X(cudaErrorInitializationError, 3, false, "initialization error")                              \
    X(cudaErrorCudartUnloading, 4, false, "driver shutting down")                                  \
    X(cudaErrorInvalidConfiguration, 9, false, "invalid configuration argument")                   \
    X(cudaErrorInvalidMemcpyDirection, 21, false, "invalid copy direction for memcpy")             \
    X(cudaErrorInsufficientDriver, 35, false, "CUDA driver version is insufficient")               \
    X(cudaErrorDevicesUnavailable, 46, false, "CUDA-capable device(s) is/are busy or unavailable") \
    X(cudaErrorInvalidDeviceFunction, 98, false, "invalid device function")                        \
    X(cudaErrorNoDevice, 100, false, "no CUDA-capable device is detected")                         \
    X(cudaErrorInvalidDevice, 101, false, "invalid device ordinal")                                \
    X(cudaErrorNoKernelImageForDevice, 209, false, "no kernel image is available")                 \
    X(cudaErrorECCUncorrectable, 214, true, "uncorrectable ECC error encountered")                 \
    X(cudaErrorUnsupportedPtxVersion, 222, false, "the PTX was compiled with a newer toolchain")   \
    X(cudaErrorInvalidResourceHandle, 400, false, "invalid resource handle")                       \
    X(cudaErrorNotReady, 600, false, "device not ready")                                           \
    X(cudaErrorIllegalAddress, 700, true, "an illegal memory access was encountered")              \
    X(cudaErrorLaunchOutOfResources, 701, false, "too many resources requested for launch")        \
    X(cudaErrorLaunchTimeout, 702, true, "the launch timed out and was terminated")                \
    X(cudaErrorContextIsDestroyed, 709, true, "context is destroyed")                              \
    X(cudaErrorAssert, 710, true, "device-side assert triggered")                                  \
    X(cudaErrorHardwareStackError, 714, true, "hardware stack error")                              \
    X(cudaErrorIllegalInstruction, 715, true, "an illegal instruction was encountered")            \
    X(cudaErrorMisalignedAddress, 716, true, "misaligned address")                                 \
    X(cudaErrorInvalidAddressSpace, 717, true, "operation not supported on this address space")    \
    X(cudaErrorInvalidPc, 718, true, "invalid program counter")                                    \
    X(cudaErrorLaunchFailure, 719, true, "unspecified launch failure")                             \
    X(cudaErrorNotSupported, 801, false, "operation not supported")                                \
    X(cudaErrorStreamCaptureUnsupported, 900, false, "not permitted when stream is capturing")     \
    X(cudaErrorStreamCaptureInvalidated, 901, false, "failed due to a previous error in capture")  \
    X(cudaErrorStreamCaptureUnmatched, 903, false, "the capture was not begun on this stream")     \
    X(cudaErrorStreamCaptureIsolation, 905, false, "dependency crosses a stream being captured")   \
    X(cudaErrorStreamCaptureImplicit, 906, false,                                                  \
      "would make the legacy stream depend on a capturing one")                                    \
    X(cudaErrorUnknown, 999, true, "unknown error")

#define HOSTSIM_ERROR_ENUM(name, code, sticky, text) name = (code),
typedef enum cudaError {
    HOSTSIM_ERRORS(HOSTSIM_ERROR_ENUM)
} cudaError_t;

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned ax = 1, unsigned ay = 1, unsigned az = 1) : x(ax), y(ay), z(az)
    {
    }
};

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

#define CUDART_VERSION 13000

#define cudaStreamLegacy               ((cudaStream_t)0x1)
#define cudaStreamDefault              0x00
#define cudaStreamNonBlocking          0x01
#define cudaEventDefault               0x00
#define cudaEventBlockingSync          0x01
#define cudaEventDisableTiming         0x02
#define cudaHostAllocDefault           0x00
#define cudaHostAllocPortable          0x01
#define cudaHostAllocMapped            0x02
#define cudaHostAllocWriteCombined     0x04
#define cudaDeviceScheduleAuto         0x00
#define cudaDeviceScheduleSpin         0x01
#define cudaDeviceScheduleYield        0x02
#define cudaDeviceScheduleBlockingSync 0x04
#define cudaDeviceMapHost              0x08

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault,
};

enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};

struct cudaFuncAttributes {
    size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
    int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion;
    int cacheModeCA, maxDynamicSharedSizeBytes, preferredShmemCarveout;
};

enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrMaxThreadsPerMultiProcessor = 39,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

struct cudaUUID_t {
    char bytes[16];
};

struct cudaDeviceProp {
    char name[256];
    struct cudaUUID_t uuid;
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerMultiprocessor, sharedMemPerBlockOptin;
    int regsPerBlock, regsPerMultiprocessor, warpSize;
    int maxThreadsPerBlock, maxThreadsPerMultiProcessor, maxThreadsDim[3], maxGridSize[3];
    int major, minor, multiProcessorCount, l2CacheSize, memoryBusWidth;
    int asyncEngineCount, integrated, concurrentKernels, unifiedAddressing, canMapHostMemory;
    int streamPrioritiesSupported, ECCEnabled, tccDriver, managedMemory;
    int pciBusID, pciDeviceID, pciDomainID;
};

enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed,
};

enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated,
};

/* Devices, errors. */
const char *cudaGetErrorName(cudaError_t code);
const char *cudaGetErrorString(cudaError_t code);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaGetDeviceCount(int *ret);
cudaError_t cudaDriverGetVersion(int *ret);
cudaError_t cudaRuntimeGetVersion(int *ret);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *ret, int device);
cudaError_t cudaDeviceGetAttribute(int *ret, enum cudaDeviceAttr attr, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *ret);
cudaError_t cudaSetDeviceFlags(unsigned flags);
cudaError_t cudaDeviceReset();
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest);
cudaError_t cudaFuncSetAttribute(const void *func, enum cudaFuncAttribute attr, int value);
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *ret, const void *func);
template <typename... P>
static inline cudaError_t cudaFuncSetAttribute(void (*func)(P...), enum cudaFuncAttribute attr,
                                               int value)
{
    return cudaFuncSetAttribute((const void *)func, attr, value);
}
template <typename... P>
static inline cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *ret, void (*func)(P...))
{
    return cudaFuncGetAttributes(ret, (const void *)func);
}

/* Memory. */
cudaError_t cudaMalloc(void **ret, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **ret, size_t bytes);
cudaError_t cudaHostAlloc(void **ret, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaHostGetDevicePointer(void **ret, void *host, unsigned flags);
cudaError_t cudaMemGetInfo(size_t *ret_free, size_t *ret_total);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream = nullptr);
template <typename T> static inline cudaError_t cudaMalloc(T **ret, size_t bytes)
{
    return cudaMalloc((void **)ret, bytes);
}
template <typename T> static inline cudaError_t cudaMallocHost(T **ret, size_t bytes)
{
    return cudaMallocHost((void **)ret, bytes);
}

/* Streams and events. */
cudaError_t cudaStreamCreate(cudaStream_t *ret);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *ret, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *ret);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ret_ms, cudaEvent_t start, cudaEvent_t end);

/* Graphs: one stream's work, recorded. */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *ret);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *ret);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

/* A kernel's launch, as CUDA_LAUNCH hands it over. call(args) runs one thread of it. */
struct hostsim_kernel {
    const char *name;
    const void *func;
    void (*call)(const void *args);
    struct dim3 grid, block;
    size_t shared;
};
void hostsim_launch(const struct hostsim_kernel *kernel, const void *args, size_t args_bytes,
                    cudaStream_t stream);

/* Stops the program when an argument points to memory of the host that is not pinned: a kernel on a GPU
 * could not read it. Looks at every aligned word of `bytes` bytes. */
void hostsim_check_argument(const char *kernel, int index, const void *arg, size_t bytes);

#endif
