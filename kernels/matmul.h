/*
 * matmul.h - y[m,n] = act( sum_k x[m,k] w[n,k] + bias[n] ), with what can be fused behind it
 *
 *   y         [M, N]  act   out; must not overlap x or w
 *   x         [M, K]  act   in
 *   w         [N, K]  act   in; on the CPU f32, bf16 or f16, widened piece by piece, so mapped
 *                           weights are used where they lie
 *   bias      [N]     f32   in; optional
 *   act       none | tanh-GELU | SiLU, applied after the bias
 *   residual  true:   y += gate * (...) instead of y = ...; gate is then optional (1)
 *   gate      [U, N]  f32   in; row m uses gate[group[m / rows_per_group]]
 *   group     [M / rows_per_group]  i32   in; entries in [0, U)
 *
 * act is f32 or the device's activation type, each of the three on its own: f32 x with bf16 w is
 * multiplied as f32.
 * On the CPU K * 64 bytes must fit DEVICE_SCRATCH_BYTES (K <= 131072).
 * The GEMM behind the transformer's and the text encoder's linears. On a GPU it is cuBLASLt's where
 * that is there and has the epilogue; then a bias of a bf16 y is rounded to bf16, and so are weights
 * times their gate if gate has one row.
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
