#include "kernels/cuda_gpu.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/cuda_blas.h"
#include "kernels/cuda_kernel.cuh"

/* Stands for all kernels: does this build have code for the GPU? */
static __global__ void present_kernel(uint32_t *word)
{
    *word = 0;
}

/* ---- errors ---- */

int cuda_check(cudaError_t code, const char *call, struct err *err)
{
    if (code == cudaSuccess) {
        return ERR_OK;
    }
    (void)cudaGetLastError(); /* reported here: cuda_launched() must not meet it again */
    return err_set(err, code == cudaErrorMemoryAllocation ? ERR_NO_VRAM : ERR_DEVICE,
                   "cuda: %.*s: %s (%d)", (int)strcspn(call, "("), call, cudaGetErrorString(code),
                   (int)code);
}

int cuda_launched(struct device *dev, const char *name, struct err *err)
{
    (void)dev;
    return cuda_check(cudaGetLastError(), name, err);
}

/* ---- what is there ---- */

static int version_err(int driver, struct err *err)
{
    if (driver == 0) {
        return err_set(err, ERR_NOT_FOUND, "no NVIDIA driver");
    }
    return err_set(err, ERR_NOT_FOUND,
                   "the NVIDIA driver is too old: it supports CUDA %d.%d, this build needs %d.%d",
                   driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                   CUDART_VERSION % 1000 / 10);
}

int cuda_probe(struct cuda_probe *ret, struct err *err)
{
    int driver = 0;
    int n = 0;
    cudaError_t code;

    memset(ret, 0, sizeof(*ret));
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        return version_err(0, err);
    }
    code = cudaGetDeviceCount(&n);
    if (code == cudaErrorInsufficientDriver) {
        return version_err(driver, err);
    }
    if (code == cudaErrorNoDevice || (code == cudaSuccess && n == 0)) {
        return err_set(err, ERR_NOT_FOUND, "an NVIDIA driver, but no GPU that may be used");
    }
    if (code != cudaSuccess) {
        return cuda_check(code, "cudaGetDeviceCount", err);
    }
    ret->n_devices = n < CUDA_MAX_DEVICES ? n : CUDA_MAX_DEVICES;
    for (int i = 0; i < ret->n_devices; i++) {
        struct cudaDeviceProp prop;
        const int rc = CUDA_CALL(cudaGetDeviceProperties(&prop, i), err);

        if (rc != ERR_OK) {
            return rc;
        }
        snprintf(ret->devices[i].name, sizeof(ret->devices[i].name), "%.63s", prop.name);
        ret->devices[i].major = prop.major;
        ret->devices[i].minor = prop.minor;
        ret->devices[i].bytes = prop.totalGlobalMem;
    }
    return ERR_OK;
}

static int check_capability(const struct cuda_probe *probe, int index, struct err *err)
{
    const int major = probe->devices[index].major;
    const int minor = probe->devices[index].minor;
    struct cudaFuncAttributes attributes;
    cudaError_t code;

    if (major < 8) {
        return err_set(err, ERR_UNSUPPORTED,
                       "cuda:%d, %s, has compute capability %d.%d; 8.0 or more is needed", index,
                       probe->devices[index].name, major, minor);
    }
    code = cudaFuncGetAttributes(&attributes, (const void *)present_kernel);
    if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction ||
        code == cudaErrorUnsupportedPtxVersion) {
        (void)cudaGetLastError();
        return err_set(err, ERR_UNSUPPORTED,
                       "cuda:%d, %s, has compute capability %d.%d, and this plugin has no code for "
                       "it; build it with CUDA_ARCHS=%d%d",
                       index, probe->devices[index].name, major, minor, major, minor);
    }
    return cuda_check(code, "cudaFuncGetAttributes", err);
}

static int choose(struct cuda_probe *probe, int index, struct err *err)
{
    int rc = cuda_probe(probe, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (index < 0 || index >= probe->n_devices) {
        return err_set(err, ERR_INVALID, "cuda:%d: there %s %d GPU%s, counted from 0", index,
                       probe->n_devices == 1 ? "is" : "are", probe->n_devices,
                       probe->n_devices == 1 ? "" : "s");
    }
    rc = CUDA_CALL(cudaSetDevice(index), err);
    return rc == ERR_OK ? check_capability(probe, index, err) : rc;
}

/* ---- open ---- */

/* Pictures that somebody waits for go before the next block, which fills what they leave free. */
static int open_streams(struct cuda_gpu *gpu, struct err *err)
{
    int least = 0;
    int greatest = 0;
    int rc = CUDA_CALL(cudaDeviceGetStreamPriorityRange(&least, &greatest), err);

    for (int i = 0; i < DEVICE_STREAMS && rc == ERR_OK; i++) {
        rc = CUDA_CALL(cudaStreamCreateWithPriority(&gpu->stream[i], cudaStreamNonBlocking,
                                                    i == DEVICE_STREAM_MAIN ? least : greatest),
                       err);
    }
    return rc;
}

static int open_gpu(struct device *dev, const struct device_cuda_options *options, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    int rc = CUDA_CALL(cudaDeviceGetAttribute(&gpu->multiprocessors, cudaDevAttrMultiProcessorCount,
                                              options->index),
                       err);

    if (rc == ERR_OK) {
        rc = open_streams(gpu, err);
    }
    return rc == ERR_OK ? cuda_marks_init(gpu, err) : rc;
}

/* Of the file of measured algorithms; without it none are kept. */
static void make_folder(const char *file)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    char folder[4096];

    if (slash && slash > file && (size_t)(slash - file) < sizeof(folder)) {
        snprintf(folder, sizeof(folder), "%.*s", (int)(slash - file), file);
        (void)mkdir(folder, 0700);
    }
}

static bool is_frugal(const struct device_cuda_options *options, size_t total)
{
    const size_t limit = options->memory_limit;
    const size_t room = limit > 0 && limit < total ? limit : total;

    return options->frugal == DEVICE_FRUGAL_YES ||
           (options->frugal == DEVICE_FRUGAL_AUTO && room < DEVICE_FRUGAL_BYTES);
}

int cuda_open(struct device *dev, const struct device_cuda_options *options, struct err *err)
{
    struct cuda_probe probe;
    int rc = choose(&probe, options->index, err);

    if (rc != ERR_OK) {
        return rc;
    }
    dev->gpu = (struct cuda_gpu *)calloc(1, sizeof(*dev->gpu));
    if (!dev->gpu) {
        return err_set(err, ERR_NO_MEMORY, "cuda:%d", options->index);
    }
    dev->kind = DEVICE_CUDA;
    dev->act = options->f32 ? DTYPE_F32 : DTYPE_BF16;
    dev->frugal = is_frugal(options, probe.devices[options->index].bytes);
    dev->gpu->limit = options->memory_limit;
    snprintf(dev->gpu->place, sizeof(dev->gpu->place), "cuda:%d", options->index);
    snprintf(dev->name, sizeof(dev->name), "cuda:%d, %s, %s", options->index,
             probe.devices[options->index].name, options->f32 ? "f32" : "bf16");
    cuda_transfer_init(dev->gpu);
    rc = open_gpu(dev, options, err);
    if (rc == ERR_OK) {
        make_folder(options->algos);
        rc = cuda_blas_open(&dev->gpu->blas, dev, options, err);
    }
    if (rc != ERR_OK) {
        cuda_close(dev);
    }
    return rc;
}

/* Errors of a lost device do not matter any more. */
void cuda_close(struct device *dev)
{
    struct cuda_gpu *gpu = dev->gpu;

    if (!gpu) {
        return;
    }
    for (int i = 0; i < DEVICE_STREAMS; i++) {
        if (gpu->stream[i]) {
            cudaStreamSynchronize(gpu->stream[i]);
        }
    }
    cuda_graph_abort(dev);
    cuda_graphs_clear(dev);
    cuda_blas_close(gpu->blas);
    cuda_transfer_done(gpu);
    cuda_marks_done(gpu);
    cuda_memory_done(gpu);
    for (int i = 0; i < DEVICE_STREAMS; i++) {
        if (gpu->stream[i]) {
            cudaStreamDestroy(gpu->stream[i]);
        }
    }
    (void)cudaGetLastError();
    free(gpu);
    dev->gpu = NULL;
}

/* ---- what operations ask ---- */

size_t cuda_describe(struct device *dev, char *text, size_t size)
{
    return cuda_blas_describe(dev->gpu->blas, text, size);
}

void cuda_select(struct device *dev, enum device_stream stream)
{
    dev->gpu->selected = stream;
}

cudaStream_t cuda_stream(const struct device *dev)
{
    return dev->gpu->stream[dev->gpu->selected];
}

int cuda_multiprocessors(const struct device *dev)
{
    return dev->gpu->multiprocessors;
}

struct cuda_blas *cuda_blas_of(const struct device *dev)
{
    return dev->gpu->blas;
}

int cuda_allow_shared(const void *kernel, size_t bytes, const char *name, struct err *err)
{
    const cudaError_t code =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);

    if (code == cudaErrorInvalidValue) {
        (void)cudaGetLastError();
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: needs %zu KiB of shared memory per block, which this GPU does not have",
                       name, bytes >> 10);
    }
    return cuda_check(code, "cudaFuncSetAttribute", err);
}
