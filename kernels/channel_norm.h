/*
 * channel_norm.h - each pixel's channel vector brought to unit size, with SiLU fused behind it
 *
 *   CHANNEL_NORM_L2           y = x / max(||x||_2, eps) * sqrt(C) * gamma  Wan "RMS_norm", 1e-12
 *   CHANNEL_NORM_MEAN_SQUARE  y = x / sqrt(mean(x^2) + eps) * gamma        LTX-2 "PixelNorm", 1e-8
 *
 *   y      [..., C]  act  out; may be x. It is often the tail of a longer buffer: a slice of rows
 *   x      [..., C]  act  in; as many elements as y, and of its type
 *   gamma  [C]       f32  in; optional (1)
 *   silu   true: y = s / (1 + e^-s) of the s above
 *
 * Source: diffusers autoencoder_kl_wan.py (WanRMS_norm), autoencoder_kl_ltx2.py
 * (PerChannelRMSNorm).
 * Errors: ERR_INVALID shape. Engine thread. Async on a GPU.
 */
#ifndef KERNELS_CHANNEL_NORM_H
#define KERNELS_CHANNEL_NORM_H

#include "kernels/device.h"

C_BEGIN

enum channel_norm_kind {
    CHANNEL_NORM_L2,
    CHANNEL_NORM_MEAN_SQUARE,
};

struct channel_norm_params {
    enum channel_norm_kind kind;
    float eps;
    const struct tensor *gamma;
    bool silu;
};

MUST_CHECK int op_channel_norm(struct device *dev, const struct tensor *y, const struct tensor *x,
                               const struct channel_norm_params *params, struct err *err);

C_END

#endif
