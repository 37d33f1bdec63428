/*
 * The simulated GPU: one, of compute capability 9.0.
 */
#include <stdio.h>

#include "tests/hostsim/hostsim_sim.h"

enum {
    VERSION = CUDART_VERSION,
    MULTIPROCESSORS = 4,
    L2_BYTES = 50 << 20,
};

cudaError_t cudaGetDeviceCount(int *ret)
{
    *ret = 1;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *ret)
{
    *ret = VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *ret)
{
    *ret = VERSION;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    HOSTSIM_TRY_ALIVE();
    return device == 0 ? cudaSuccess : hostsim_error(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *ret)
{
    *ret = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned flags)
{
    (void)flags;
    return hostsim_lost();
}

cudaError_t cudaDeviceReset()
{
    return hostsim_drain_all();
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    HOSTSIM_TRY_ALIVE();
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *ret, int device)
{
    HOSTSIM_TRY_ALIVE();
    if (device != 0) {
        return hostsim_error(cudaErrorInvalidDevice);
    }
    *ret = {};
    snprintf(ret->name, sizeof(ret->name), "host simulator");
    memcpy(ret->uuid.bytes, "hostsim-device-0", 16);
    ret->totalGlobalMem = hostsim_config_get()->memory;
    ret->sharedMemPerBlock = HOSTSIM_DEFAULT_SHARED;
    ret->sharedMemPerBlockOptin = HOSTSIM_MAX_SHARED;
    ret->sharedMemPerMultiprocessor = HOSTSIM_MAX_SHARED + 1024;
    ret->regsPerBlock = ret->regsPerMultiprocessor = 65536;
    ret->warpSize = 32;
    ret->maxThreadsPerBlock = HOSTSIM_MAX_THREADS;
    ret->maxThreadsPerMultiProcessor = 2048;
    ret->maxThreadsDim[0] = ret->maxThreadsDim[1] = HOSTSIM_MAX_THREADS;
    ret->maxThreadsDim[2] = 64;
    ret->maxGridSize[0] = 0x7fffffff;
    ret->maxGridSize[1] = ret->maxGridSize[2] = 65535;
    ret->major = 9;
    ret->multiProcessorCount = MULTIPROCESSORS;
    ret->l2CacheSize = L2_BYTES;
    ret->memoryBusWidth = 6144;
    ret->asyncEngineCount = 3;
    ret->concurrentKernels = ret->unifiedAddressing = ret->canMapHostMemory = 1;
    ret->streamPrioritiesSupported = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *ret, enum cudaDeviceAttr attr, int device)
{
    HOSTSIM_TRY_ALIVE();
    static const struct {
        enum cudaDeviceAttr attr;
        int value;
    } values[] = {
        {cudaDevAttrMaxThreadsPerBlock, HOSTSIM_MAX_THREADS},
        {cudaDevAttrMaxSharedMemoryPerBlock, HOSTSIM_DEFAULT_SHARED},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMultiProcessorCount, MULTIPROCESSORS},
        {cudaDevAttrL2CacheSize, L2_BYTES},
        {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
        {cudaDevAttrComputeCapabilityMajor, 9},
        {cudaDevAttrComputeCapabilityMinor, 0},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, HOSTSIM_MAX_SHARED + 1024},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, HOSTSIM_MAX_SHARED},
    };

    if (device != 0) {
        return hostsim_error(cudaErrorInvalidDevice);
    }
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i].attr == attr) {
            *ret = values[i].value;
            return cudaSuccess;
        }
    }
    return hostsim_error(cudaErrorInvalidValue);
}
