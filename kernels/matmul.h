/*
 * matmul.h - y[m,n] = act( sum_k x[m,k] w[n,k] + bias[n] ), with what can be fused behind it
 *
 *   y         [M, N]  f32   out; must not overlap x or w
 *   x         [M, K]  f32   in
 *   w         [N, K]  f32, bf16 or f16   in; bf16 and f16 are widened piece by piece, so mapped
 *                           weights are used where they lie
 *   bias      [N]     f32   in; optional
 *   act       none | tanh-GELU | SiLU, applied after the bias
 *   residual  true:   y += gate * (...) instead of y = ...; gate is then optional (1)
 *   gate      [U, N]  f32   in; row m uses gate[group[m / rows_per_group]]
 *   group     [M / rows_per_group]  i32   in; entries in [0, U)
 *
 * K * 64 bytes must fit DEVICE_SCRATCH_BYTES (K <= 131072).
 * The GEMM behind the transformer's and the text encoder's linears: CUDA counterpart is cuBLASLt
 * in TN form with a bias epilogue.
 * Errors: ERR_INVALID shape or dtype. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_MATMUL_H
#define KERNELS_MATMUL_H

#include "kernels/device.h"

C_BEGIN

enum matmul_act {
    MATMUL_NONE,
    MATMUL_GELU_TANH,
    MATMUL_SILU,
};

/* Zeroed is the plain product. */
struct matmul_epilogue {
    const struct tensor *bias;
    enum matmul_act act;
    bool residual;
    const struct tensor *gate;
    const struct tensor *group;
    int64_t rows_per_group;
};

MUST_CHECK int op_matmul(struct device *dev, const struct tensor *y, const struct tensor *x,
                         const struct tensor *w, const struct matmul_epilogue *ep, struct err *err);

C_END

#endif
