/*
 * cuda_blas.h - cuBLASLt for matmul.cu: loaded at run time, one plan per shape.
 *
 * libcublasLt.so is half a gigabyte and no start-up dependency: it is opened by dlopen once a GPU was
 * found. Without it, in the simulator, and for what it refuses, matmul.cu uses its own kernel; which
 * of them runs what is told by cuda_blas_describe(), so that no such choice is silent.
 *
 * A plan is a recipe (shape, types, epilogue, residual, alignment) with the algorithm for it. Algorithms
 * with split sums are never taken: equal inputs give equal bits. Where the choice may be measured, large
 * products try each candidate at their first run outside of a graph, and the fastest is written to a
 * file, from which the same GPU and library take it at the next start. Else it is the library's first.
 *
 * Engine thread.
 */
#ifndef KERNELS_CUDA_BLAS_H
#define KERNELS_CUDA_BLAS_H

#include "kernels/cuda_device.cuh"

C_BEGIN

struct cuda_blas;

/* The GPU options->index is current. options->deterministic, and options->algos NULL or not writable:
 * nothing is measured. *ret NULL: a build without cuBLASLt. Where the library is not found *ret is an
 * object that knows why and has no plans. Errors: ERR_NO_MEMORY, ERR_DEVICE. */
MUST_CHECK int cuda_blas_open(struct cuda_blas **ret, const struct device *dev,
                              const struct device_cuda_options *options, struct err *err);

/* When nothing runs any more. Accepts NULL. */
void cuda_blas_close(struct cuda_blas *blas);

/* Writes a line on the library and one per plan into text (cut to size, always ended): shape, which
 * kernel, how chosen, calls so far. Returns the length the whole has. Accepts NULL. */
size_t cuda_blas_describe(const struct cuda_blas *blas, char *text, size_t size);

/* ---- for matmul.cu ---- */

/* y = x w^T + bias, or the tanh-GELU of it, or y += x w^T + bias. */
struct cuda_blas_gemm {
    int64_t m, n, k;
    const void *x; /* bf16 [m, k] */
    const void *w; /* bf16 [n, k] */
    void *y;       /* bf16 or f32 [m, n]; f32 if residual */
    bool y_bf16;
    bool gelu; /* not with residual */
    bool residual;
    const void *bias; /* [n] of y's type, or NULL */
    void *workspace;  /* cuda_blas_workspace() bytes, 256-byte aligned */
    void *spare_w;    /* with residual: memory for w and bias, that */
    void *spare_bias; /* cuda_blas_plan() may overwrite; may be w and bias */
};

size_t cuda_blas_workspace(const struct cuda_blas *blas);

/* The plan for gemm, made at its first use. What w and bias point to need not be there yet; y without
 * residual may be overwritten. NULL: the library is not there or has no kernel for it.
 * Errors: ERR_DEVICE, ERR_NO_MEMORY. */
struct cuda_blas_plan;
MUST_CHECK int cuda_blas_plan(struct cuda_blas *blas, const struct cuda_blas_gemm *gemm,
                              cudaStream_t stream, struct cuda_blas_plan **ret, struct err *err);

/* *ret_done false: the library refused, nothing was done. Errors: ERR_DEVICE. */
MUST_CHECK int cuda_blas_run(struct cuda_blas *blas, struct cuda_blas_plan *plan,
                             const struct cuda_blas_gemm *gemm, cudaStream_t stream, bool *ret_done,
                             struct err *err);

C_END

#endif
