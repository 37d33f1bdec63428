/*
 * vae_wan_internal.h - the pieces of the Wan VAE, for vae_wan*.c.
 */
#ifndef ENGINE_VAE_WAN_INTERNAL_H
#define ENGINE_VAE_WAN_INTERNAL_H

#include "base/arena.h"
#include "engine/vae_wan.h"
#include "kernels/conv3d.h"

/* A convolution over time. It remembers the last frames of its input in the stream's cache `slot`.
 * */
struct wan_conv {
    struct vae_conv conv;
    int slot;
};

struct wan_slot {
    int64_t frames; /* how many it remembers */
    int64_t channels;
    int grid; /* 2^grid cells to a latent cell, in height and width */
};

struct wan_resnet {
    int64_t ci, co;
    struct tensor gamma1, gamma2;
    struct wan_conv conv1, conv2;
    struct vae_conv shortcut; /* where ci != co */
};

struct wan_attention {
    struct tensor gamma;
    struct vae_conv q, k, v, proj;
};

struct wan_mid {
    struct wan_resnet resnet[2];
    struct wan_attention attention;
};

/* Resnets, then, except in the last level, a change of resolution. */
struct wan_level {
    int64_t ci, co; /* channels before and after the resnets */
    int64_t c_next; /* channels handed on: the decoder's resample halves them */
    int64_t n_resnets;
    struct wan_resnet *resnets; /* in the arena */
    bool resamples;
    bool resamples_time;
    struct vae_conv resample;
    struct wan_conv time_conv;
};

struct wan_half {
    struct wan_conv conv_in;
    struct wan_mid mid;
    struct wan_level level[VAE_MAX_LEVELS];
    struct tensor gamma_out;
    struct wan_conv conv_out;
    int n_slots;
    int max_slots;
    struct wan_slot *slots; /* in the arena */
};

struct vae_wan {
    struct vae_wan_config config;
    struct device *dev; /* borrowed */
    struct weight_pool pool;
    struct arena arena;
    unsigned halves;
    int64_t stride_t, stride_s;
    struct tensor scale_in, shift_in;   /* [C]: normalised to raw */
    struct tensor scale_out, shift_out; /* [C]: raw to normalised */
    struct vae_conv post_quant;
    struct vae_conv quant_mean, quant_logvar;
    struct wan_half decoder, encoder;
    struct tensor *encoder_cache; /* in the arena; by slot, used while a clip is encoded */
};

/* One pass through a half of the VAE. */
struct wan_run {
    struct device *dev;
    struct workspace *ws;
    const struct tensor *cache; /* by slot; NULL: nothing to remember */
    bool first;                 /* nothing came before: caches are zeros and need not be read */
};

/* y = conv(x) with history; p says padding, residual and clamp, and is completed. */
MUST_CHECK int wan_conv_run(struct wan_run *run, const struct wan_conv *conv,
                            const struct tensor *y, const struct tensor *x, struct conv3d_params p,
                            struct err *err);

/* The slot's cache becomes the last frames of (cache, x). */
MUST_CHECK int wan_remember(struct wan_run *run, int slot, const struct tensor *x, struct err *err);

/* 3x3x3 or 1x1x1 with "same" padding in space. */
MUST_CHECK int wan_conv_same(struct wan_run *run, const struct wan_conv *conv,
                             const struct tensor *y, const struct tensor *x,
                             const struct tensor *residual, struct err *err);

/* Convolution without time: one frame after the other, no history. */
MUST_CHECK int wan_conv_frames(struct wan_run *run, const struct vae_conv *conv,
                               const struct tensor *y, const struct tensor *x,
                               struct conv3d_params p, struct err *err);

/* y = SiLU(RMS_norm(x)) */
MUST_CHECK int wan_norm_silu(struct wan_run *run, const struct tensor *y, const struct tensor *x,
                             const struct tensor *gamma, struct err *err);

/* The resnets of a level. *x is replaced by the result: itself, in place, or from the workspace. */
MUST_CHECK int wan_resnets(struct wan_run *run, const struct wan_level *level, struct tensor *x,
                           struct err *err);

/* In place. */
MUST_CHECK int wan_mid_run(struct wan_run *run, const struct wan_mid *mid, const struct tensor *x,
                           struct err *err);

#endif
