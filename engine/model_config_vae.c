/*
 * model_config_vae.c - vae/config.json of the two VAEs [diffusers autoencoder_kl_wan.py,
 * autoencoder_kl_ltx2.py]. Old files lack many keys that later versions of the classes added; what
 * is missing has the class's default, where that default is what the published weights are.
 */
#include <math.h>
#include <string.h>

#include "engine/model_config_internal.h"
#include "engine/model_dir.h"

enum {
    MAX_BASE = 1024,
    MAX_MULT = 16,
    MAX_CHANNELS = 16384,
    MAX_BLOCKS = 64,
    MAX_STRIDE = 256
};

/* Checked where it is stated: old files leave it out. */
static void check_stride(struct json_fields *f, const char *key, int64_t stride)
{
    if (stride > MAX_STRIDE) {
        json_fields_fail(f, ERR_UNSUPPORTED, key, "a stride of %lld, the limit is %d",
                         (long long)stride, MAX_STRIDE);
    }
    if (json_int_or(f, key, 1, 65536, stride) != stride) {
        json_fields_fail(f, ERR_FORMAT, key, "it is not %lld, as the levels say",
                         (long long)stride);
    }
}

static void parse_wan_latents(struct json_fields *f, struct vae_wan_config *w)
{
    const int n = (int)w->z_dim;
    const struct json_list mean = {.min_n = n, .max_n = n, .min = -1e6, .max = 1e6};
    const struct json_list std = {.min_n = n, .max_n = n, .min = 1e-6, .max = 1e6};
    double value[VAE_MAX_CHANNELS];

    json_real_list(f, "latents_mean", &mean, value);
    for (int i = 0; i < n; i++) {
        w->latents_mean[i] = (float)value[i];
    }
    json_real_list(f, "latents_std", &std, value);
    for (int i = 0; i < n; i++) {
        w->latents_std[i] = (float)value[i];
    }
}

/* The up-samplers halve the channels of all levels but the last. */
static void check_wan_widths(struct json_fields *f, const struct vae_wan_config *w)
{
    for (int i = 1; i < w->levels; i++) {
        if (w->decoder_base_dim * w->dim_mult[i] % 2 != 0) {
            json_fields_fail(f, ERR_FORMAT, "decoder_base_dim",
                             "%lld times dim_mult[%d] is odd, but is halved",
                             (long long)w->decoder_base_dim, i);
        }
    }
}

static void parse_wan(struct json_fields *f, struct vae_config *v)
{
    static const char *const bools[] = {"is_residual"};
    static const char *const values[] = {"patch_size"};
    static const struct json_list mults = {1, VAE_MAX_LEVELS, 1, MAX_MULT};
    struct vae_wan_config *w = &v->wan;
    const cJSON *attn_scales = json_find(f, "attn_scales");
    struct json_list downs = {0};

    config_refuse_true(f, bools, ARRAY_LEN(bools));
    config_refuse_value(f, values, ARRAY_LEN(values));
    config_want_int(f, "in_channels", 3, 3);
    config_want_int(f, "out_channels", 3, 3);
    if (attn_scales && (!cJSON_IsArray(attn_scales) || attn_scales->child)) {
        json_fields_fail(f, ERR_UNSUPPORTED, "attn_scales", "only the empty list is supported");
    }
    w->base_dim = json_int(f, "base_dim", 1, MAX_BASE);
    w->decoder_base_dim = json_int_or(f, "decoder_base_dim", 1, MAX_BASE, w->base_dim);
    w->z_dim = json_int(f, "z_dim", 1, VAE_MAX_CHANNELS);
    w->num_res_blocks = json_int(f, "num_res_blocks", 1, MAX_BLOCKS);
    w->levels = json_int_list(f, "dim_mult", &mults, w->dim_mult);
    downs.min_n = w->levels - 1;
    downs.max_n = w->levels - 1;
    json_bool_list(f, "temperal_downsample", &downs, w->temporal_downsample);
    parse_wan_latents(f, w);
    check_wan_widths(f, w);
    v->latent_channels = w->z_dim;
    v->stride_t = 1;
    v->stride_s = 1;
    for (int i = 0; i + 1 < w->levels; i++) {
        v->stride_s *= 2;
        v->stride_t *= w->temporal_downsample[i] ? 2 : 1;
    }
    check_stride(f, "scale_factor_temporal", v->stride_t);
    check_stride(f, "scale_factor_spatial", v->stride_s);
}

static void check_all_text(struct json_fields *f, const char *key, const char *want)
{
    const cJSON *list = json_find(f, key);

    if (list && !cJSON_IsArray(list)) {
        json_fields_fail(f, ERR_FORMAT, key, "not a list");
        return;
    }
    for (const cJSON *e = list ? list->child : NULL; e; e = e->next) {
        if (!cJSON_IsString(e) || strcmp(e->valuestring, want) != 0) {
            json_fields_fail(f, ERR_UNSUPPORTED, key, "only '%s' is supported", want);
        }
    }
}

static void check_ltx2_options(struct json_fields *f)
{
    static const char *const bools[] = {"timestep_conditioning"};
    const cJSON *inject = json_find(f, "decoder_inject_noise");

    config_refuse_true(f, bools, ARRAY_LEN(bools));
    for (const cJSON *e = inject ? inject->child : NULL; e; e = e->next) {
        if (!cJSON_IsFalse(e)) {
            json_fields_fail(f, ERR_UNSUPPORTED, "decoder_inject_noise", "only false is supported");
        }
    }
    config_want_int(f, "in_channels", 3, 3);
    config_want_int(f, "out_channels", 3, 3);
    config_want_int(f, "patch_size_t", 1, 1);
    check_all_text(f, "down_block_types", "LTX2VideoDownBlock3D");
    check_all_text(f, "upsample_type", "spatiotemporal");
    check_all_text(f, "decoder_upsample_type", "spatiotemporal");
}

/* The kind of one level's down-sampler; -1 if it is none. */
static int downsample_kind(const cJSON *e)
{
    static const char *const names[] = {
        [LTX2_SPATIAL] = "spatial",
        [LTX2_TEMPORAL] = "temporal",
        [LTX2_SPATIOTEMPORAL] = "spatiotemporal",
    };

    for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
        if (e && cJSON_IsString(e) && strcmp(e->valuestring, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static void parse_downsample(struct json_fields *f, struct vae_ltx2_config *x)
{
    const cJSON *list = json_find(f, "downsample_type");
    const cJSON *e = list ? list->child : NULL;

    for (int i = 0; i < x->encoder_levels; i++) {
        const int kind = downsample_kind(e);

        if (kind < 0) {
            json_fields_fail(f, ERR_UNSUPPORTED, "downsample_type",
                             "entry %d is not spatial, temporal or spatiotemporal", i);
            return;
        }
        x->downsample[i] = (enum ltx2_downsample)kind;
        e = e->next;
    }
    if (e) {
        json_fields_fail(f, ERR_FORMAT, "downsample_type", "more than %d entries",
                         x->encoder_levels);
    }
}

static void parse_ltx2_encoder(struct json_fields *f, struct vae_ltx2_config *x)
{
    static const struct json_list channels = {1, VAE_MAX_LEVELS, 1, MAX_CHANNELS};
    const int n = x->encoder_levels =
        json_int_list(f, "block_out_channels", &channels, x->block_out_channels);
    const struct json_list layers = {n + 1, n + 1, 1, MAX_BLOCKS};
    const struct json_list flags = {n, n, 0, 0};

    json_int_list(f, "layers_per_block", &layers, x->layers_per_block);
    json_bool_list(f, "spatio_temporal_scaling", &flags, x->scaling);
    parse_downsample(f, x);
    x->encoder_causal = json_bool_or(f, "encoder_causal", true);
}

static void parse_ltx2_decoder(struct json_fields *f, struct vae_ltx2_config *x)
{
    static const struct json_list channels = {1, VAE_MAX_LEVELS, 1, MAX_CHANNELS};
    const int n = x->decoder_levels =
        json_int_list(f, "decoder_block_out_channels", &channels, x->decoder_block_out_channels);
    const struct json_list layers = {n + 1, n + 1, 1, MAX_BLOCKS};
    const struct json_list flags = {n, n, 0, 0};
    const struct json_list factors = {n, n, 1, 8};

    json_int_list(f, "decoder_layers_per_block", &layers, x->decoder_layers_per_block);
    json_bool_list(f, "decoder_spatio_temporal_scaling", &flags, x->decoder_scaling);
    json_int_list(f, "upsample_factor", &factors, x->upsample_factor);
    json_bool_list(f, "upsample_residual", &flags, x->upsample_residual);
    x->decoder_causal = json_bool(f, "decoder_causal");
}

static bool parse_padding(struct json_fields *f, const char *key)
{
    const char *mode = json_text(f, key);
    const bool reflect = strcmp(mode, "reflect") == 0;

    if (!reflect && strcmp(mode, "zeros") != 0) {
        json_fields_fail(f, ERR_UNSUPPORTED, key,
                         "'%.64s' is not supported, only zeros and reflect", mode);
    }
    return reflect;
}

/* Each level's residual regroups channels: the numbers must divide (MODEL 7.1, 7.2). */
static void check_ltx2_encoder(struct json_fields *f, const struct vae_ltx2_config *x)
{
    static const int64_t cells[] = {4, 2, 8}; /* of enum ltx2_downsample: inputs of one output */
    int64_t in = x->latent_channels;

    for (int i = 0; i < x->encoder_levels; i++) {
        const int64_t out = x->block_out_channels[i];
        const int64_t n = cells[x->downsample[i]];

        if (x->scaling[i] ? out % n != 0 || in * n % out != 0 : in != out) {
            json_fields_fail(f, ERR_UNSUPPORTED, "block_out_channels",
                             "level %d from %lld to %lld channels", i, (long long)in,
                             (long long)out);
        }
        in = out;
    }
}

/* Up-sampler first, then blocks of the level's own width; a level that does not start at the width
 * the one before ended with would have one block more (MODEL 7.3). */
static void check_ltx2_decoder(struct json_fields *f, const struct vae_ltx2_config *x)
{
    int64_t in = x->decoder_block_out_channels[x->decoder_levels - 1];

    for (int i = x->decoder_levels - 1; i >= 0; i--) {
        const int64_t width = x->decoder_block_out_channels[i];
        const int64_t factor = x->upsample_factor[i];

        if (in != width || width % factor != 0 || 8 % factor != 0 ||
            (x->decoder_scaling[i] && x->upsample_residual[i] && width % 8 != 0) ||
            (!x->decoder_scaling[i] && factor != 1)) {
            json_fields_fail(f, ERR_UNSUPPORTED, "decoder_block_out_channels",
                             "level %d of %lld channels after %lld, upsample_factor %lld", i,
                             (long long)width, (long long)in, (long long)factor);
        }
        in = width / factor;
    }
}

static void check_ltx2_strides(struct json_fields *f, struct vae_config *v)
{
    const struct vae_ltx2_config *x = &v->ltx2;
    int64_t up_s = x->patch_size;
    int64_t up_t = 1;

    v->stride_s = x->patch_size;
    v->stride_t = 1;
    for (int i = 0; i < x->encoder_levels; i++) {
        v->stride_s *= x->scaling[i] && x->downsample[i] != LTX2_TEMPORAL ? 2 : 1;
        v->stride_t *= x->scaling[i] && x->downsample[i] != LTX2_SPATIAL ? 2 : 1;
    }
    for (int i = 0; i < x->decoder_levels; i++) {
        up_s *= x->decoder_scaling[i] ? 2 : 1;
        up_t *= x->decoder_scaling[i] ? 2 : 1;
    }
    if (up_s != v->stride_s || up_t != v->stride_t) {
        json_fields_fail(
            f, ERR_FORMAT, "decoder_spatio_temporal_scaling",
            "the decoder scales by %lld in space and %lld in time, the encoder by %lld "
            "and %lld",
            (long long)up_s, (long long)up_t, (long long)v->stride_s, (long long)v->stride_t);
    }
    check_stride(f, "spatial_compression_ratio", v->stride_s);
    check_stride(f, "temporal_compression_ratio", v->stride_t);
}

static void parse_ltx2(struct json_fields *f, struct vae_config *v)
{
    struct vae_ltx2_config *x = &v->ltx2;

    check_ltx2_options(f);
    x->latent_channels = json_int(f, "latent_channels", 1, VAE_MAX_CHANNELS);
    x->patch_size = json_int(f, "patch_size", 1, 16);
    x->scaling_factor = (float)json_real_or(f, "scaling_factor", 1e-6, 1e6, 1);
    parse_ltx2_encoder(f, x);
    parse_ltx2_decoder(f, x);
    x->encoder_reflect = parse_padding(f, "encoder_spatial_padding_mode");
    x->decoder_reflect = parse_padding(f, "decoder_spatial_padding_mode");
    check_ltx2_encoder(f, x);
    check_ltx2_decoder(f, x);
    check_ltx2_strides(f, v);
    v->latent_channels = x->latent_channels;
}

int model_parse_vae(struct vae_config *ret, const char *text, size_t len, const char *file,
                    struct err *err)
{
    struct vae_config v = {0};
    struct config c;
    const char *class_name;
    int rc = config_open(&c, text, len, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    class_name = json_text(&c.f, "_class_name");
    if (strcmp(class_name, "AutoencoderKLWan") == 0) {
        v.kind = VAE_WAN;
        parse_wan(&c.f, &v);
    } else if (strcmp(class_name, "AutoencoderKLLTX2Video") == 0) {
        v.kind = VAE_LTX2;
        parse_ltx2(&c.f, &v);
    } else {
        json_fields_fail(&c.f, ERR_UNSUPPORTED, "_class_name",
                         "'%.64s' is not supported, only AutoencoderKLWan and "
                         "AutoencoderKLLTX2Video",
                         class_name);
    }
    if (c.f.rc == ERR_OK) {
        *ret = v;
    }
    return config_close(&c);
}
