/*
 * Weights of the LTX-2 VAE: names and shapes as published (MODEL 7, 12.5).
 */
#include "engine/vae_ltx2.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/vae_ltx2_internal.h"
#include "kernels/convert.h"

enum {
    ARENA_MAX = 4 << 20,
    NAME_LEN = 64,
    KERNEL = 3,
    PICTURE_CHANNELS = 3
};

static int load_conv(struct vae_loader *ld, struct vae_conv *ret, int64_t co, int64_t ci,
                     const char *name)
{
    const struct vae_conv_shape shape = {co, ci, KERNEL, KERNEL};

    return vae_load_conv(ld, ret, shape, "%s.conv", name);
}

static int load_resnets(struct vae_loader *ld, struct vae_ltx2 *vae, struct ltx2_level *level,
                        const char *prefix)
{
    char name[NAME_LEN + 32];
    int rc = ERR_OK;

    level->resnets = arena_alloc(&vae->arena, (size_t)level->n_resnets, sizeof(*level->resnets));
    if (!level->resnets) {
        return err_set(ld->err, ERR_NO_MEMORY, "%s", prefix);
    }
    for (int i = 0; i < level->n_resnets && rc == ERR_OK; i++) {
        snprintf(name, sizeof(name), "%s.resnets.%d.conv1", prefix, i);
        rc = load_conv(ld, &level->resnets[i].conv1, level->channels, level->channels, name);
        if (rc == ERR_OK) {
            snprintf(name, sizeof(name), "%s.resnets.%d.conv2", prefix, i);
            rc = load_conv(ld, &level->resnets[i].conv2, level->channels, level->channels, name);
        }
    }
    return rc;
}

/* The mid block is up_blocks' or down_blocks' neighbour, without a sampler. */
static int load_mid(struct vae_loader *ld, struct vae_ltx2 *vae, struct ltx2_level *level,
                    int64_t channels, int64_t n_resnets, const char *name)
{
    level->channels = level->c_in = level->c_out = channels;
    level->n_resnets = n_resnets;
    return load_resnets(ld, vae, level, name);
}

/* Level l of the decoder from the deepest on; the file's lists run from the pixels on. */
static int load_up(struct vae_loader *ld, struct vae_ltx2 *vae, int l)
{
    const struct vae_ltx2_config *c = &vae->config;
    const int i = c->decoder_levels - 1 - l;
    struct ltx2_level *level = &vae->decoder.level[l + 1];
    char name[NAME_LEN];
    char sampler[NAME_LEN + 32];
    int rc;

    level->c_in = c->decoder_block_out_channels[i];
    level->c_out = level->c_in / c->upsample_factor[i];
    level->channels = level->c_out;
    level->n_resnets = c->decoder_layers_per_block[i];
    level->samples = c->decoder_scaling[i];
    level->residual = c->upsample_residual[i];
    level->st = level->ss = 2;
    snprintf(name, sizeof(name), "decoder.up_blocks.%d", l);
    rc = load_resnets(ld, vae, level, name);
    if (rc == ERR_OK && level->samples) {
        snprintf(sampler, sizeof(sampler), "%s.upsamplers.0.conv", name);
        rc = load_conv(ld, &level->sampler, level->c_out * level->st * level->ss * level->ss,
                       level->c_in, sampler);
    }
    return rc;
}

static int load_decoder(struct vae_loader *ld, struct vae_ltx2 *vae)
{
    const struct vae_ltx2_config *c = &vae->config;
    const int n = c->decoder_levels;
    const int64_t deepest = c->decoder_block_out_channels[n - 1];
    struct ltx2_half *half = &vae->decoder;
    int rc = load_conv(ld, &half->conv_in, deepest, c->latent_channels, "decoder.conv_in");

    half->n_levels = n + 1;
    if (rc == ERR_OK) {
        rc = load_mid(ld, vae, &half->level[0], deepest, c->decoder_layers_per_block[n],
                      "decoder.mid_block");
    }
    for (int l = 0; l < n && rc == ERR_OK; l++) {
        rc = load_up(ld, vae, l);
    }
    if (rc == ERR_OK) {
        rc = load_conv(ld, &half->conv_out, PICTURE_CHANNELS * c->patch_size * c->patch_size,
                       half->level[n].c_out, "decoder.conv_out");
    }
    return rc;
}

static int load_down(struct vae_loader *ld, struct vae_ltx2 *vae, int l, int64_t c_in)
{
    const struct vae_ltx2_config *c = &vae->config;
    struct ltx2_level *level = &vae->encoder.level[l];
    char name[NAME_LEN];
    char sampler[NAME_LEN + 32];
    int rc;

    level->channels = level->c_in = c_in;
    level->c_out = c->block_out_channels[l];
    level->n_resnets = c->layers_per_block[l];
    level->samples = c->scaling[l];
    level->residual = true;
    level->st = c->downsample[l] == LTX2_SPATIAL ? 1 : 2;
    level->ss = c->downsample[l] == LTX2_TEMPORAL ? 1 : 2;
    snprintf(name, sizeof(name), "encoder.down_blocks.%d", l);
    rc = load_resnets(ld, vae, level, name);
    if (rc == ERR_OK && level->samples) {
        snprintf(sampler, sizeof(sampler), "%s.downsamplers.0.conv", name);
        rc = load_conv(ld, &level->sampler, level->c_out / (level->st * level->ss * level->ss),
                       c_in, sampler);
    }
    return rc;
}

/* conv_out's last channel is the log variance, one for all channels; the mean is what is used. */
static int load_encoder(struct vae_loader *ld, struct vae_ltx2 *vae)
{
    const struct vae_ltx2_config *c = &vae->config;
    const int n = c->encoder_levels;
    const int64_t deepest = c->block_out_channels[n - 1];
    struct ltx2_half *half = &vae->encoder;
    int64_t width = c->latent_channels;
    int rc = load_conv(ld, &half->conv_in, width, PICTURE_CHANNELS * c->patch_size * c->patch_size,
                       "encoder.conv_in");

    half->n_levels = n + 1;
    for (int l = 0; l < n && rc == ERR_OK; l++) {
        rc = load_down(ld, vae, l, width);
        width = c->block_out_channels[l];
    }
    if (rc == ERR_OK) {
        rc = load_mid(ld, vae, &half->level[n], deepest, c->layers_per_block[n],
                      "encoder.mid_block");
    }
    if (rc == ERR_OK) {
        rc = load_conv(ld, &half->conv_out, c->latent_channels + 1, deepest, "encoder.conv_out");
    }
    if (rc == ERR_OK) {
        half->conv_out = vae_conv_part(&half->conv_out, 0, c->latent_channels);
    }
    return rc;
}

static int load_statistics(struct vae_loader *ld, struct vae_ltx2 *vae)
{
    const int64_t n = vae->config.latent_channels;
    const float factor = vae->config.scaling_factor;
    float mean[VAE_MAX_CHANNELS];
    float std[VAE_MAX_CHANNELS];
    float table[4][VAE_MAX_CHANNELS];
    struct tensor *const to[4] = {&vae->scale_in, &vae->shift_in, &vae->scale_out, &vae->shift_out};
    struct tensor stored;
    int rc = WEIGHTS_GET(ld->weights, &stored, ld->err, "latents_mean", n);

    if (rc == ERR_OK) {
        convert_to_f32(mean, stored.data, stored.dtype, n);
        rc = WEIGHTS_GET(ld->weights, &stored, ld->err, "latents_std", n);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    convert_to_f32(std, stored.data, stored.dtype, n);
    for (int64_t i = 0; i < n; i++) {
        if (!(std[i] > 0) || !isfinite(std[i]) || !isfinite(mean[i])) {
            return err_set(ld->err, ERR_FORMAT, "%s: latents_mean and latents_std: channel %lld",
                           weights_dir(ld->weights), (long long)i);
        }
        table[0][i] = std[i] / factor;
        table[1][i] = mean[i];
        table[2][i] = factor / std[i];
        table[3][i] = -mean[i] * factor / std[i];
    }
    for (int i = 0; i < 4 && rc == ERR_OK; i++) {
        rc = weight_pool_copy(&vae->pool, DTYPE_F32, 1, (const int64_t[]){n}, table[i], to[i],
                              ld->err);
    }
    return rc;
}

static int load_halves(struct vae_ltx2 *vae, struct weights *weights, struct err *err)
{
    struct vae_loader ld = {weights, &vae->pool, err};
    int rc = load_statistics(&ld, vae);

    if (rc == ERR_OK && vae->halves & VAE_DECODER) {
        rc = load_decoder(&ld, vae);
    } else {
        vae_ignore(&ld, "decoder.");
    }
    if (rc == ERR_OK && vae->halves & VAE_ENCODER) {
        rc = load_encoder(&ld, vae);
    } else {
        vae_ignore(&ld, "encoder.");
    }
    return rc;
}

int vae_ltx2_open(struct vae_ltx2 **ret, const struct vae_ltx2_config *config,
                  struct weights *weights, struct device *dev, unsigned halves, struct err *err)
{
    struct vae_ltx2 *vae = calloc(1, sizeof(*vae));
    int rc;

    if (!vae) {
        return err_set(err, ERR_NO_MEMORY, "the VAE");
    }
    vae->config = *config;
    vae->dev = dev;
    vae->halves = halves;
    vae->stride_t = 1;
    vae->stride_s = config->patch_size;
    for (int i = 0; i < config->decoder_levels; i++) {
        vae->stride_t *= config->decoder_scaling[i] ? 2 : 1;
        vae->stride_s *= config->decoder_scaling[i] ? 2 : 1;
    }
    weight_pool_init(&vae->pool, dev);
    arena_init(&vae->arena, ARENA_MAX);
    rc = load_halves(vae, weights, err);
    if (rc == ERR_OK) {
        *ret = vae;
        vae = NULL; /* the caller owns it now */
    }
    vae_ltx2_close(vae);
    return rc;
}

void vae_ltx2_close(struct vae_ltx2 *vae)
{
    if (vae) {
        arena_done(&vae->arena);
        weight_pool_done(&vae->pool);
        free(vae);
    }
}

int64_t vae_ltx2_stride_t(const struct vae_ltx2 *vae)
{
    return vae->stride_t;
}

int64_t vae_ltx2_stride_s(const struct vae_ltx2 *vae)
{
    return vae->stride_s;
}
