/*
 * model_config.h - what the JSON files of a model directory say, checked and typed.
 *
 * Plain data. Filled by model_dir.c, read by the loaders of the components. Every number here has
 * been checked to be in a range in which the loaders' size arithmetic cannot overflow, and the
 * combinations the code relies on hold (heads * head_dim == cross_dim, and so on).
 * Field names follow the published files [huggingface/diffusers and transformers].
 */
#ifndef ENGINE_MODEL_CONFIG_H
#define ENGINE_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

/* transformer/config.json: SanaVideoTransformer3DModel, SanaVideoCausalTransformer3DModel */
struct transformer_config {
    bool causal; /* the class: block-causal with carried state (LongSANA) */
    int64_t in_channels;
    int64_t out_channels; /* == in_channels */
    int64_t heads;
    int64_t head_dim; /* even; heads * head_dim is the model's width */
    int64_t layers;
    int64_t cross_heads;
    int64_t cross_head_dim;
    int64_t caption_channels;
    int64_t mlp_hidden;  /* int(mlp_ratio * width) */
    int64_t patch_size;  /* in height and width; 1 in time */
    int64_t sample_size; /* 30: the 480 table of sizes, 22: the 720 table, else none */
    float norm_eps;      /* of the LayerNorms */
};

/* text_encoder/config.json: Gemma2Model */
struct gemma2_config {
    int64_t vocab_size;
    int64_t hidden_size;
    int64_t intermediate_size;
    int64_t layers;
    int64_t heads;
    int64_t kv_heads;
    int64_t head_dim;
    double query_pre_attn_scalar;
    double attn_logit_softcapping; /* 0: none */
    int64_t sliding_window;        /* of the even layers */
    double rope_theta;
    double rms_norm_eps;
};

enum {
    VAE_MAX_LEVELS = 8,
    VAE_MAX_CHANNELS = 256
};

/* vae/config.json: AutoencoderKLWan (Wan 2.1; is_residual false, patch_size null) */
struct vae_wan_config {
    int64_t base_dim;
    int64_t decoder_base_dim;
    int64_t z_dim;
    int levels; /* entries of dim_mult */
    int64_t dim_mult[VAE_MAX_LEVELS];
    int64_t num_res_blocks;
    bool temporal_downsample[VAE_MAX_LEVELS]; /* "temperal_downsample": levels - 1 entries */
    float latents_mean[VAE_MAX_CHANNELS];     /* z_dim entries */
    float latents_std[VAE_MAX_CHANNELS];
};

enum ltx2_downsample {
    LTX2_SPATIAL,
    LTX2_TEMPORAL,
    LTX2_SPATIOTEMPORAL
};

/* vae/config.json: AutoencoderKLLTX2Video. Mean and std of the latents are tensors of the file. */
struct vae_ltx2_config {
    int64_t latent_channels;
    int encoder_levels;
    int64_t block_out_channels[VAE_MAX_LEVELS];
    int64_t layers_per_block[VAE_MAX_LEVELS + 1]; /* the last one: mid block */
    enum ltx2_downsample downsample[VAE_MAX_LEVELS];
    bool scaling[VAE_MAX_LEVELS]; /* spatio_temporal_scaling */
    int decoder_levels;
    int64_t decoder_block_out_channels[VAE_MAX_LEVELS];   /* low to high, as in the file */
    int64_t decoder_layers_per_block[VAE_MAX_LEVELS + 1]; /* likewise; [0] is nearest the pixels */
    bool decoder_scaling[VAE_MAX_LEVELS];
    int64_t upsample_factor[VAE_MAX_LEVELS];
    bool upsample_residual[VAE_MAX_LEVELS];
    int64_t patch_size;
    float scaling_factor;
    bool encoder_causal;
    bool decoder_causal;
    bool encoder_reflect; /* spatial padding mode: reflect, else zeros */
    bool decoder_reflect;
};

enum vae_kind {
    VAE_WAN,
    VAE_LTX2
};

struct vae_config {
    enum vae_kind kind;
    int64_t latent_channels;
    int64_t stride_t; /* pixel frames per latent frame: 4 or 8 */
    int64_t stride_s; /* pixels per latent cell, height and width: 8 or 32 */
    union {
        struct vae_wan_config wan;
        struct vae_ltx2_config ltx2;
    };
};

enum sampler_kind {
    SAMPLER_DPM,      /* DPM-Solver++ 2M, flow */
    SAMPLER_EULER,    /* FlowMatch Euler */
    SAMPLER_UNIPC,    /* UniPC bh2, order 2, flow */
    SAMPLER_LONGLIVE, /* x0 and fresh noise at a list of timesteps (LongSANA) */
};

enum {
    SAMPLER_MAX_STEPS = 200,
    RENOISE_MAX_STEPS = 16
};

/* scheduler/scheduler_config.json */
struct scheduler_config {
    enum sampler_kind kind;
    double flow_shift;
    int64_t num_train_timesteps;
};

enum chi_wording {
    CHI_VIDEO, /* diffusers' text */
    CHI_IMAGE, /* NVlabs' text */
    CHI_NONE,
};

enum {
    MODEL_MAX_ALIASES = 8,
    MODEL_MAX_SIZES = 16,
    MODEL_ID_MAX = 64
};

/* A size that a model was trained on. ratio: height / width, as diffusers' tables round it. */
struct trained_size {
    double ratio;
    int64_t height, width;
};

/*
 * Defaults of one model: the family's, overridden by the optional sanad.json beside
 * model_index.json. Every key of sanad.json is optional; unknown keys are errors.
 */
struct model_defaults {
    char id[MODEL_ID_MAX + 1]; /* "id" */
    int n_aliases;
    char aliases[MODEL_MAX_ALIASES][MODEL_ID_MAX + 1]; /* "aliases": [..] */
    enum sampler_kind sampler; /* "sampler": "dpm" "euler" "unipc" "longlive" */
    int steps;                 /* "steps": 1..200; longlive: entries of the list */
    int n_renoise;
    double renoise[RENOISE_MAX_STEPS]; /* "renoise_timesteps": [1000, 960, 889, 727] */
    bool bf16_timesteps;         /* "bf16_timesteps": the list is rounded to bf16 (MODEL 5.6) */
    double flow_shift;           /* "flow_shift": 0.1..30 */
    double guidance_scale;       /* "guidance_scale": 0..20 */
    int64_t block_latent_frames; /* "block_latent_frames": 1..1024 */
    int64_t history_blocks;      /* "history_blocks": -1 all, else 1..64 */
    double fps;                  /* "fps": 1..60 */
    int64_t width, height;       /* "size": "832x480" */
    int64_t frames;              /* "frames" */
    enum chi_wording chi;        /* "chi": "video" "image" "none" */
    bool lower_case;             /* "lower_case" */
    int64_t max_prompt_tokens;   /* "max_prompt_tokens": 8..1024; 300 */
    int motion_score;            /* "motion_score": 0..100; 0: no suffix */
    int n_sizes;                 /* 0: any size is made as it is */
    struct trained_size sizes[MODEL_MAX_SIZES]; /* "sizes": ["832x480", ..] or []; by sample_size */
};

#endif
