/*
 * Weights of the Wan VAE: names and shapes as published (MODEL 6, 12.4).
 */
#include "engine/vae_wan.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/size.h"
#include "engine/vae_wan_internal.h"

enum {
    ARENA_MAX = 16 << 20,
    NAME_LEN = 96,
    PICTURE_CHANNELS = 3
};

/* Loading one half. */
struct half_loader {
    struct vae_loader ld;
    struct vae_wan *vae;
    struct wan_half *half;
    const char *name; /* "decoder", "encoder" */
};

static int add_slot(struct half_loader *hl, int64_t frames, int64_t channels, int grid)
{
    struct wan_half *half = hl->half;

    CHECK_BUG(half->n_slots < half->max_slots);
    half->slots[half->n_slots] =
        (struct wan_slot){.frames = frames, .channels = channels, .grid = grid};
    return half->n_slots++;
}

/* A 3x3x3 convolution and its slot. */
static int load_cached(struct half_loader *hl, struct wan_conv *ret, int64_t co, int64_t ci,
                       int grid, const char *name)
{
    const struct vae_conv_shape shape = {co, ci, 3, 3};

    ret->slot = add_slot(hl, 2, ci, grid);
    return vae_load_conv(&hl->ld, &ret->conv, shape, "%s", name);
}

static int load_resnet(struct half_loader *hl, struct wan_resnet *r, int grid, const char *name)
{
    char conv[NAME_LEN + 8];
    int rc = vae_load_vector(&hl->ld, &r->gamma1, r->ci, 3, "%s.norm1.gamma", name);

    if (rc == ERR_OK) {
        snprintf(conv, sizeof(conv), "%s.conv1", name);
        rc = load_cached(hl, &r->conv1, r->co, r->ci, grid, conv);
    }
    if (rc == ERR_OK) {
        rc = vae_load_vector(&hl->ld, &r->gamma2, r->co, 3, "%s.norm2.gamma", name);
    }
    if (rc == ERR_OK) {
        snprintf(conv, sizeof(conv), "%s.conv2", name);
        rc = load_cached(hl, &r->conv2, r->co, r->co, grid, conv);
    }
    if (rc == ERR_OK && r->ci != r->co) {
        const struct vae_conv_shape shape = {r->co, r->ci, 1, 1};

        rc = vae_load_conv(&hl->ld, &r->shortcut, shape, "%s.conv_shortcut", name);
    }
    return rc;
}

static int load_mid(struct half_loader *hl, int64_t c)
{
    struct wan_mid *mid = &hl->half->mid;
    struct wan_attention *a = &mid->attention;
    const struct vae_conv_shape qkv_shape = {3 * c, c, 0, 1};
    const struct vae_conv_shape proj_shape = {c, c, 0, 1};
    struct vae_conv qkv;
    char name[NAME_LEN];
    int rc = ERR_OK;

    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        mid->resnet[i].ci = mid->resnet[i].co = c;
        snprintf(name, sizeof(name), "%s.mid_block.resnets.%d", hl->name, i);
        rc = load_resnet(hl, &mid->resnet[i], 0, name);
    }
    snprintf(name, sizeof(name), "%s.mid_block.attentions.0", hl->name);
    if (rc == ERR_OK) {
        rc = vae_load_vector(&hl->ld, &a->gamma, c, 2, "%s.norm.gamma", name);
    }
    if (rc == ERR_OK) {
        rc = vae_load_conv(&hl->ld, &qkv, qkv_shape, "%s.to_qkv", name);
    }
    if (rc == ERR_OK) {
        a->q = vae_conv_part(&qkv, 0, c);
        a->k = vae_conv_part(&qkv, c, c);
        a->v = vae_conv_part(&qkv, 2 * c, c);
        rc = vae_load_conv(&hl->ld, &a->proj, proj_shape, "%s.proj", name);
    }
    return rc;
}

static int load_resnets(struct half_loader *hl, struct wan_level *level, int grid,
                        const char *prefix, int first)
{
    char name[NAME_LEN];
    int rc = ERR_OK;

    level->resnets =
        arena_alloc(&hl->vae->arena, (size_t)level->n_resnets, sizeof(*level->resnets));
    if (!level->resnets) {
        return err_set(hl->ld.err, ERR_NO_MEMORY, "%s", prefix);
    }
    for (int i = 0; i < level->n_resnets && rc == ERR_OK; i++) {
        level->resnets[i].ci = i == 0 ? level->ci : level->co;
        level->resnets[i].co = level->co;
        snprintf(name, sizeof(name), "%s.%d", prefix, first + i);
        rc = load_resnet(hl, &level->resnets[i], grid, name);
    }
    return rc;
}

/* time_conv comes before the decoder's resample, with two frames of history and twice the channels
 * out; after the encoder's, with one. */
static int load_resample(struct half_loader *hl, struct wan_level *level, bool up, int grid,
                         const char *prefix)
{
    const struct vae_conv_shape space = {level->c_next, level->co, 0, 3};
    const struct vae_conv_shape time = {up ? 2 * level->co : level->co, level->co, 3, 1};
    int rc = vae_load_conv(&hl->ld, &level->resample, space, "%s.resample.1", prefix);

    if (rc == ERR_OK && level->resamples_time) {
        level->time_conv.slot = add_slot(hl, up ? 2 : 1, level->co, up ? grid : grid - 1);
        rc = vae_load_conv(&hl->ld, &level->time_conv.conv, time, "%s.time_conv", prefix);
    }
    return rc;
}

static int start_half(struct half_loader *hl, int64_t n_resnets)
{
    struct wan_half *half = hl->half;

    half->max_slots = (int)(2 + 4 + hl->vae->config.levels * (2 * n_resnets + 1));
    half->slots = arena_alloc(&hl->vae->arena, (size_t)half->max_slots, sizeof(*half->slots));
    return half->slots ? ERR_OK : err_set(hl->ld.err, ERR_NO_MEMORY, "caches of the VAE");
}

/* conv_in, and what stands behind the last block. Both ends have their own channels and grid. */
static int load_ends(struct half_loader *hl, const int64_t channels[4], int grid_in, int grid_out)
{
    char name[NAME_LEN];
    int rc;

    snprintf(name, sizeof(name), "%s.conv_in", hl->name);
    rc = load_cached(hl, &hl->half->conv_in, channels[1], channels[0], grid_in, name);
    if (rc == ERR_OK) {
        rc = vae_load_vector(&hl->ld, &hl->half->gamma_out, channels[2], 3, "%s.norm_out.gamma",
                             hl->name);
    }
    if (rc == ERR_OK) {
        snprintf(name, sizeof(name), "%s.conv_out", hl->name);
        rc = load_cached(hl, &hl->half->conv_out, channels[3], channels[2], grid_out, name);
    }
    return rc;
}

static int load_decoder_level(struct half_loader *hl, int l)
{
    const struct vae_wan_config *c = &hl->vae->config;
    struct wan_level *level = &hl->half->level[l];
    const int last = c->levels - 1;
    char name[NAME_LEN];
    int rc;

    level->co = c->decoder_base_dim * c->dim_mult[last - l];
    level->ci = l == 0 ? level->co : c->decoder_base_dim * c->dim_mult[last - l + 1] / 2;
    level->c_next = level->co / 2;
    level->n_resnets = c->num_res_blocks + 1;
    level->resamples = l < last;
    level->resamples_time = l < last && c->temporal_downsample[last - 1 - l];
    snprintf(name, sizeof(name), "decoder.up_blocks.%d.resnets", l);
    rc = load_resnets(hl, level, l, name, 0);
    if (rc == ERR_OK && level->resamples) {
        snprintf(name, sizeof(name), "decoder.up_blocks.%d.upsamplers.0", l);
        rc = load_resample(hl, level, true, l, name);
    }
    return rc;
}

static int load_decoder(struct half_loader *hl)
{
    struct vae_wan *vae = hl->vae;
    const struct vae_wan_config *c = &vae->config;
    const int64_t deepest = c->decoder_base_dim * c->dim_mult[c->levels - 1];
    const int64_t ends[] = {c->z_dim, deepest, c->decoder_base_dim * c->dim_mult[0],
                            PICTURE_CHANNELS};
    const struct vae_conv_shape quant = {c->z_dim, c->z_dim, 1, 1};
    int rc = start_half(hl, c->num_res_blocks + 1);

    if (rc == ERR_OK) {
        rc = vae_load_conv(&hl->ld, &vae->post_quant, quant, "post_quant_conv");
    }
    if (rc == ERR_OK) {
        rc = load_ends(hl, ends, 0, c->levels - 1);
    }
    if (rc == ERR_OK) {
        rc = load_mid(hl, deepest);
    }
    for (int l = 0; l < c->levels && rc == ERR_OK; l++) {
        rc = load_decoder_level(hl, l);
    }
    return rc;
}

/* down_blocks is one list: the resnets of a level, its resample, the next level's. */
static int load_encoder_level(struct half_loader *hl, int l, int *block)
{
    const struct vae_wan_config *c = &hl->vae->config;
    struct wan_level *level = &hl->half->level[l];
    const int grid = c->levels - 1 - l;
    char name[NAME_LEN];
    int rc;

    level->co = c->base_dim * c->dim_mult[l];
    level->ci = l == 0 ? c->base_dim : c->base_dim * c->dim_mult[l - 1];
    level->c_next = level->co;
    level->n_resnets = c->num_res_blocks;
    level->resamples = l + 1 < c->levels;
    level->resamples_time = level->resamples && c->temporal_downsample[l];
    rc = load_resnets(hl, level, grid, "encoder.down_blocks", *block);
    *block += (int)level->n_resnets;
    if (rc == ERR_OK && level->resamples) {
        snprintf(name, sizeof(name), "encoder.down_blocks.%d", *block);
        rc = load_resample(hl, level, false, grid, name);
        *block += 1;
    }
    return rc;
}

static int load_encoder(struct half_loader *hl)
{
    struct vae_wan *vae = hl->vae;
    const struct vae_wan_config *c = &vae->config;
    const int64_t deepest = c->base_dim * c->dim_mult[c->levels - 1];
    const int64_t ends[] = {PICTURE_CHANNELS, c->base_dim, deepest, 2 * c->z_dim};
    const struct vae_conv_shape quant = {2 * c->z_dim, 2 * c->z_dim, 1, 1};
    struct vae_conv conv;
    int block = 0;
    int rc = start_half(hl, c->num_res_blocks);

    if (rc == ERR_OK) {
        rc = vae_load_conv(&hl->ld, &conv, quant, "quant_conv");
    }
    if (rc == ERR_OK) {
        vae->quant_mean = vae_conv_part(&conv, 0, c->z_dim);
        vae->quant_logvar = vae_conv_part(&conv, c->z_dim, c->z_dim);
        rc = load_ends(hl, ends, c->levels - 1, 0);
    }
    for (int l = 0; l < c->levels && rc == ERR_OK; l++) {
        rc = load_encoder_level(hl, l, &block);
    }
    if (rc == ERR_OK) {
        rc = load_mid(hl, deepest);
    }
    vae->encoder_cache =
        arena_alloc(&vae->arena, (size_t)hl->half->max_slots, sizeof(*vae->encoder_cache));
    if (rc == ERR_OK && !vae->encoder_cache) {
        rc = err_set(hl->ld.err, ERR_NO_MEMORY, "caches of the VAE");
    }
    return rc;
}

static int load_statistics(struct vae_wan *vae, struct err *err)
{
    const struct vae_wan_config *c = &vae->config;
    float table[4][VAE_MAX_CHANNELS];
    struct tensor *const to[4] = {&vae->scale_in, &vae->shift_in, &vae->scale_out, &vae->shift_out};
    int rc = ERR_OK;

    for (int64_t i = 0; i < c->z_dim; i++) {
        table[0][i] = c->latents_std[i];
        table[1][i] = c->latents_mean[i];
        table[2][i] = 1.0F / c->latents_std[i];
        table[3][i] = -c->latents_mean[i] / c->latents_std[i];
    }
    for (int i = 0; i < 4 && rc == ERR_OK; i++) {
        rc = weight_pool_copy(&vae->pool, DTYPE_F32, 1, (const int64_t[]){c->z_dim}, table[i],
                              to[i], err);
    }
    return rc;
}

static int load_halves(struct vae_wan *vae, struct weights *weights, struct err *err)
{
    struct half_loader hl = {.ld = {weights, &vae->pool, err}, .vae = vae};
    int rc = ERR_OK;

    hl.name = "decoder";
    hl.half = &vae->decoder;
    if (vae->halves & VAE_DECODER) {
        rc = load_decoder(&hl);
    } else {
        vae_ignore(&hl.ld, "decoder.");
        vae_ignore(&hl.ld, "post_quant_conv.");
    }
    hl.name = "encoder";
    hl.half = &vae->encoder;
    if (rc == ERR_OK && vae->halves & VAE_ENCODER) {
        rc = load_encoder(&hl);
    } else {
        vae_ignore(&hl.ld, "encoder.");
        vae_ignore(&hl.ld, "quant_conv.");
    }
    return rc;
}

int vae_wan_open(struct vae_wan **ret, const struct vae_wan_config *config, struct weights *weights,
                 struct device *dev, unsigned halves, struct err *err)
{
    struct vae_wan *vae = calloc(1, sizeof(*vae));
    int rc;

    if (!vae) {
        return err_set(err, ERR_NO_MEMORY, "the VAE");
    }
    vae->config = *config;
    vae->dev = dev;
    vae->halves = halves;
    vae->stride_t = 1;
    vae->stride_s = 1;
    for (int i = 0; i + 1 < config->levels; i++) {
        vae->stride_s *= 2;
        vae->stride_t *= config->temporal_downsample[i] ? 2 : 1;
    }
    weight_pool_init(&vae->pool, dev);
    arena_init(&vae->arena, ARENA_MAX);
    rc = load_statistics(vae, err);
    if (rc == ERR_OK) {
        rc = load_halves(vae, weights, err);
    }
    if (rc == ERR_OK) {
        *ret = vae;
        vae = NULL; /* the caller owns it now */
    }
    vae_wan_close(vae);
    return rc;
}

void vae_wan_close(struct vae_wan *vae)
{
    if (vae) {
        arena_done(&vae->arena);
        weight_pool_done(&vae->pool);
        free(vae);
    }
}

int64_t vae_wan_stride_t(const struct vae_wan *vae)
{
    return vae->stride_t;
}

int64_t vae_wan_stride_s(const struct vae_wan *vae)
{
    return vae->stride_s;
}

/* Each convolution looks two frames of its own rate back; counted in pictures. */
int64_t vae_wan_memory(const struct vae_wan *vae)
{
    const struct vae_wan_config *c = &vae->config;
    const int64_t per_level = 2 * (c->num_res_blocks + 1);
    int64_t pictures_per_frame = vae->stride_t;
    int64_t pictures = 10 * pictures_per_frame; /* conv_in and the mid block: five */

    for (int l = 0; l < c->levels; l++) {
        pictures += 2 * per_level * pictures_per_frame;
        if (l + 1 < c->levels && c->temporal_downsample[c->levels - 2 - l]) {
            pictures += 2 * pictures_per_frame; /* time_conv */
            pictures_per_frame /= 2;
        }
    }
    pictures += 2; /* conv_out */
    return div_ceil(pictures, vae->stride_t);
}
