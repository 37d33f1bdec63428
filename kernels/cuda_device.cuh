/*
 * cuda_device.cuh - the GPU as the .cu files see it, inside the plugin only.
 *
 * An operation launches on cuda_stream(dev) and ends with `return cuda_launched(dev, "NAME", err)`.
 * Engine thread.
 */
#ifndef KERNELS_CUDA_DEVICE_CUH
#define KERNELS_CUDA_DEVICE_CUH

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "tests/hostsim/hostsim.h"
#endif

#include "base/size.h"
#include "kernels/cuda_ops.h"
#include "kernels/device.h"

/* The selected stream. */
cudaStream_t cuda_stream(const struct device *dev);

/* Multiprocessors, to choose how finely to cut. A choice must not change results: cut by shape. */
int cuda_multiprocessors(const struct device *dev);

/* ERR_OK, or ERR_DEVICE "cuda: NAME: TEXT (code)" when the launch before failed. */
int cuda_launched(struct device *dev, const char *name, struct err *err);

/* ERR_OK, or ERR_DEVICE (ERR_NO_VRAM for out of memory) that names the call. */
int cuda_check(cudaError_t code, const char *call, struct err *err);

/* Lets kernel use so many bytes of dynamic shared memory; needed above 48 KiB, kept per kernel.
 * Errors: ERR_UNSUPPORTED when this GPU has less. */
int cuda_allow_shared(const void *kernel, size_t bytes, const char *name, struct err *err);

/* Device memory of the selected stream for use within one operation: `bytes` at least, 256-byte aligned,
 * contents undefined. The next operation of the same stream may get the same memory. Grows outside of
 * graphs only; ERR_NO_VRAM. */
int cuda_scratch(struct device *dev, size_t bytes, void **ret, struct err *err);

/* For check_finite: a number that stands for the stage, and the device's word that keeps the smallest number
 * of a stage that went wrong (atomicMin; 0xffffffff: none). Read when the host waits. */
uint32_t cuda_stage(struct device *dev, const char *stage);
uint32_t *cuda_stage_word(const struct device *dev);

/* cuBLASLt, once per device; see cuda_blas.h. NULL: not there, and matmul uses its own kernel. */
struct cuda_blas *cuda_blas_of(const struct device *dev);

#endif
