/*
 * vae_ltx2_internal.h - the pieces of the LTX-2 VAE, for vae_ltx2*.c.
 */
#ifndef ENGINE_VAE_LTX2_INTERNAL_H
#define ENGINE_VAE_LTX2_INTERNAL_H

#include "base/arena.h"
#include "engine/vae_ltx2.h"
#include "kernels/conv3d.h"

struct ltx2_resnet {
    struct vae_conv conv1, conv2;
};

/* The encoder's levels and its mid block: resnets, then the sampler. The decoder's mid block and
 * levels: the sampler, then resnets. Resnets do not change the width. */
struct ltx2_level {
    int64_t channels; /* of the resnets */
    int64_t n_resnets;
    struct ltx2_resnet *resnets; /* in the arena */
    int64_t c_in, c_out;         /* of the level */
    bool samples;
    bool residual;  /* the sampler's; always in the encoder */
    int64_t st, ss; /* the sampler's strides */
    struct vae_conv sampler;
};

struct ltx2_half {
    struct vae_conv conv_in, conv_out;
    int n_levels; /* with the mid block: last in the encoder, first in the decoder */
    struct ltx2_level level[VAE_MAX_LEVELS + 1];
};

struct vae_ltx2 {
    struct vae_ltx2_config config;
    struct device *dev; /* borrowed */
    struct weight_pool pool;
    struct arena arena;
    unsigned halves;
    int64_t stride_t, stride_s;
    struct tensor scale_in, shift_in;   /* [C]: normalised to raw */
    struct tensor scale_out, shift_out; /* [C]: raw to normalised */
    struct ltx2_half decoder, encoder;
};

/* One pass through a half of the VAE. */
struct ltx2_run {
    struct device *dev;
    struct workspace *ws;
    bool causal;
    bool reflect; /* spatial padding; else zeros */
};

/* Frames that a 3x3x3 convolution needs in front of its input and behind it. */
int64_t ltx2_front(const struct ltx2_run *run);
int64_t ltx2_back(const struct ltx2_run *run);

/* buf [lead + front + T + back, ...] = x between repetitions of its first and last frame, each
 * pixel normed and through SiLU where `norm`. */
MUST_CHECK int ltx2_pad(struct ltx2_run *run, const struct tensor *buf, const struct tensor *x,
                        int64_t lead, bool norm, struct err *err);

/* y = conv(buf), padded in space; T' frames from T' + 2. */
MUST_CHECK int ltx2_conv(struct ltx2_run *run, const struct vae_conv *conv, const struct tensor *y,
                         const struct tensor *buf, const struct tensor *residual, struct err *err);

/* x [T, h, w, C], in place */
MUST_CHECK int ltx2_resnets(struct ltx2_run *run, const struct ltx2_level *level,
                            const struct tensor *x, struct err *err);

#endif
