/*
 * cuda_layout.h - what the daemon and its CUDA plugin must agree on beyond the table's version: sizes of the
 * structs that they hand to each other, and how many marks, streams and types there are.
 *
 * It shows that only one of the two was built again. It does not show every change: whoever gives something
 * another meaning changes CUDA_API_VERSION.
 */
#ifndef KERNELS_CUDA_LAYOUT_H
#define KERNELS_CUDA_LAYOUT_H

#include "kernels/adaln.h"
#include "kernels/attention.h"
#include "kernels/channel_norm.h"
#include "kernels/conv3d.h"
#include "kernels/cuda_api.h"
#include "kernels/linear_attention.h"
#include "kernels/matmul.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope3d.h"
#include "kernels/space_time.h"

/* CUDA_LAYOUT_NUMBERS of them. */
/* clang-format off */
#define CUDA_LAYOUT                                                                                \
    {                                                                                              \
        sizeof(struct err),                                                                        \
        sizeof(struct tensor),                                                                     \
        sizeof(struct device),                                                                     \
        sizeof(struct device_cuda_options),                                                        \
        sizeof(struct device_memory),                                                              \
        sizeof(struct cuda_probe),                                                                 \
        sizeof(struct cuda_ops),                                                                   \
        sizeof(struct adaln_params),                                                               \
        sizeof(struct attention_params),                                                           \
        sizeof(struct channel_norm_params),                                                        \
        sizeof(struct conv3d_params),                                                              \
        sizeof(struct linear_attention_qk),                                                        \
        sizeof(struct matmul_epilogue),                                                            \
        sizeof(struct rmsnorm_params),                                                             \
        sizeof(struct rope3d),                                                                     \
        sizeof(struct space_time_params),                                                          \
        DEVICE_STREAMS,                                                                            \
        DEVICE_MARKS,                                                                              \
        TENSOR_MAX_RANK,                                                                           \
        DTYPE_U8                                                                                   \
    }
/* clang-format on */

#endif
