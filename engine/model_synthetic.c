/*
 * The numbers are those of the published configurations [transformer/config.json, text_encoder/config.json,
 * vae/config.json of SANA-Video_2B_480p_diffusers, SANA-Video_2B_720p_diffusers, LongSANA; MODEL 1.2, 2.3, 6, 7].
 */
#include "engine/model_synthetic.h"

#include <stdlib.h>
#include <string.h>

#include "engine/model_config_internal.h"

static struct transformer_config transformer_of(enum model_family family, bool tiny)
{
    struct transformer_config c = {
        .causal = family == FAMILY_LONGSANA,
        .in_channels = 16,
        .out_channels = 16,
        .heads = 20,
        .head_dim = 112,
        .layers = 20,
        .cross_heads = 20,
        .cross_head_dim = 112,
        .caption_channels = 2304,
        .mlp_hidden = 6720,
        .patch_size = 2,
        .sample_size = 30,
        .norm_eps = 1e-6F,
    };

    if (family == FAMILY_SANA_VIDEO_LTX2) {
        c.in_channels = c.out_channels = 128;
        c.patch_size = 1;
        c.sample_size = 22;
    }
    if (tiny) {
        c.heads = c.cross_heads = 2;
        c.head_dim = c.cross_head_dim = 16;
        c.layers = 2;
        c.caption_channels = 64;
        c.mlp_hidden = 96;
    }
    return c;
}

static struct gemma2_config gemma_of(bool tiny)
{
    struct gemma2_config c = {
        .vocab_size = 256000,
        .hidden_size = 2304,
        .intermediate_size = 9216,
        .layers = 26,
        .heads = 8,
        .kv_heads = 4,
        .head_dim = 256,
        .query_pre_attn_scalar = 256,
        .attn_logit_softcapping = 50,
        .sliding_window = 4096,
        .rope_theta = 10000,
        .rms_norm_eps = 1e-6,
    };

    if (tiny) {
        c.vocab_size = 512;
        c.hidden_size = 64;
        c.intermediate_size = 128;
        c.layers = 2;
        c.heads = 2;
        c.kv_heads = 1;
        c.head_dim = 32;
    }
    return c;
}

static struct vae_config wan_of(bool tiny)
{
    struct vae_config c = {
        .kind = VAE_WAN,
        .latent_channels = 16,
        .stride_t = 4,
        .stride_s = 8,
        .wan =
            {
                .base_dim = tiny ? 8 : 96,
                .decoder_base_dim = tiny ? 8 : 96,
                .z_dim = 16,
                .levels = 4,
                .dim_mult = {1, 2, 4, 4},
                .num_res_blocks = tiny ? 1 : 2,
                .temporal_downsample = {false, true, true},
            },
    };

    for (int i = 0; i < 16; i++) {
        c.wan.latents_std[i] = 1.0F;
    }
    return c;
}

static struct vae_config ltx2_of(bool tiny)
{
    struct vae_config c = {
        .kind = VAE_LTX2,
        .latent_channels = 128,
        .stride_t = 8,
        .stride_s = 32,
        .ltx2 =
            {
                .latent_channels = 128,
                .encoder_levels = 4,
                .block_out_channels = {256, 512, 1024, 2048},
                .layers_per_block = {4, 6, 6, 2, 2},
                .downsample = {LTX2_SPATIAL, LTX2_TEMPORAL, LTX2_SPATIOTEMPORAL,
                               LTX2_SPATIOTEMPORAL},
                .scaling = {true, true, true, true},
                .decoder_levels = 3,
                .decoder_block_out_channels = {256, 512, 1024},
                .decoder_layers_per_block = {5, 5, 5, 5},
                .decoder_scaling = {true, true, true},
                .upsample_factor = {2, 2, 2},
                .upsample_residual = {true, true, true},
                .patch_size = 4,
                .scaling_factor = 1.0F,
                .encoder_causal = true,
                .decoder_reflect = true,
            },
    };

    for (int i = 0; i < 4 && tiny; i++) {
        c.ltx2.block_out_channels[i] /= 16;
        c.ltx2.decoder_block_out_channels[i] /= 16;
        c.ltx2.layers_per_block[i] = 1;
        c.ltx2.decoder_layers_per_block[i] = 1;
    }
    return c;
}

static int make_dir(struct model_dir **ret, const struct model_synthetic_options *o,
                    struct err *err)
{
    const bool ltx2 = o->family == FAMILY_SANA_VIDEO_LTX2;
    struct model_dir *dir = calloc(1, sizeof(*dir));
    int rc = ERR_OK;

    if (!dir) {
        return err_set(err, ERR_NO_MEMORY, "synthetic model");
    }
    dir->family = o->family;
    dir->transformer = transformer_of(o->family, o->tiny);
    dir->text_encoder = gemma_of(o->tiny);
    dir->vae = ltx2 ? ltx2_of(o->tiny) : wan_of(o->tiny);
    dir->scheduler = (struct scheduler_config){
        .kind = SAMPLER_DPM, .flow_shift = 8, .num_train_timesteps = 1000};
    model_defaults_init(&dir->defaults, o->family, &dir->transformer, &dir->scheduler);
    dir->path = strdup("synthetic weights");
    if (!dir->path) {
        rc = err_set(err, ERR_NO_MEMORY, "synthetic model");
    }
    if (rc == ERR_OK) {
        rc = weights_open_synthetic(&dir->transformer_weights, err);
    }
    if (rc == ERR_OK) {
        rc = weights_open_synthetic(&dir->text_encoder_weights, err);
    }
    if (rc == ERR_OK) {
        rc = weights_open_synthetic(&dir->vae_weights, err);
    }
    if (rc != ERR_OK) {
        model_dir_close(dir);
        return rc;
    }
    *ret = dir;
    return ERR_OK;
}

int model_synthetic_open(struct model **ret, const struct model_synthetic_options *options,
                         struct device *dev, struct err *err)
{
    struct model_dir *dir = NULL;
    const int rc = make_dir(&dir, options, err);

    return rc != ERR_OK ? rc : model_open_dir(ret, dir, dev, err);
}
