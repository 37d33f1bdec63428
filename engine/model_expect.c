#include "engine/model_expect.h"

#include <stdio.h>

#include "base/err.h"

enum {
    MAX_NAME = 160,
    MAX_SCOPE = 96
};

struct walk {
    model_expect_fn fn;
    void *ctx;
    bool stopped;
};

#define DIMS(...)                                                                                  \
    (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])             \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* The tensor SCOPE LEAF SUFFIX. */
static void put(struct walk *w, const char *scope, const char *leaf, const char *suffix, int rank,
                const int64_t *dims)
{
    char name[MAX_NAME];
    const int n = snprintf(name, sizeof(name), "%s%s%s", scope, leaf, suffix);

    CHECK_BUG(n > 0 && n < MAX_NAME);
    w->stopped = w->stopped || !w->fn(w->ctx, name, rank, dims);
}

/* A layer's weight [out, ...] and bias [out]. */
static void put_layer(struct walk *w, const char *scope, const char *leaf, int rank,
                      const int64_t *dims)
{
    put(w, scope, leaf, ".weight", rank, dims);
    put(w, scope, leaf, ".bias", 1, dims);
}

static void put_attention(struct walk *w, const char *scope, int64_t width, bool bias)
{
    static const char *const leaves[] = {"to_q", "to_k", "to_v"};

    for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
        put(w, scope, leaves[i], ".weight", DIMS(width, width));
        if (bias) {
            put(w, scope, leaves[i], ".bias", DIMS(width));
        }
    }
    put_layer(w, scope, "to_out.0", DIMS(width, width));
    put(w, scope, "norm_q", ".weight", DIMS(width));
    put(w, scope, "norm_k", ".weight", DIMS(width));
}

static void put_block(struct walk *w, const struct transformer_config *cfg, int64_t i)
{
    const int64_t width = cfg->heads * cfg->head_dim;
    const int64_t hidden = cfg->mlp_hidden;
    char scope[MAX_SCOPE];

    snprintf(scope, sizeof(scope), "transformer_blocks.%lld.", (long long)i);
    put(w, scope, "scale_shift_table", "", DIMS(6, width));
    snprintf(scope, sizeof(scope), "transformer_blocks.%lld.attn1.", (long long)i);
    put_attention(w, scope, width, false);
    snprintf(scope, sizeof(scope), "transformer_blocks.%lld.attn2.", (long long)i);
    put_attention(w, scope, width, true);
    snprintf(scope, sizeof(scope), "transformer_blocks.%lld.ff.", (long long)i);
    put_layer(w, scope, "conv_inverted", DIMS(2 * hidden, width, 1, 1));
    put_layer(w, scope, "conv_depth", DIMS(2 * hidden, 1, 3, 3));
    put(w, scope, "conv_point", ".weight", DIMS(width, hidden, 1, 1));
    put(w, scope, "conv_temp", ".weight", DIMS(width, width, 3, 1));
}

bool model_expect_transformer(const struct transformer_config *cfg, model_expect_fn fn, void *ctx)
{
    enum {
        FREQUENCIES = 256
    }; /* of the sinusoidal time embedding */
    const int64_t width = cfg->heads * cfg->head_dim;
    const int64_t p = cfg->patch_size;
    struct walk w = {.fn = fn, .ctx = ctx};

    put_layer(&w, "", "patch_embedding", DIMS(width, cfg->in_channels, 1, p, p));
    put_layer(&w, "time_embed.emb.timestep_embedder.", "linear_1", DIMS(width, FREQUENCIES));
    put_layer(&w, "time_embed.emb.timestep_embedder.", "linear_2", DIMS(width, width));
    put_layer(&w, "time_embed.", "linear", DIMS(6 * width, width));
    put_layer(&w, "caption_projection.", "linear_1", DIMS(width, cfg->caption_channels));
    put_layer(&w, "caption_projection.", "linear_2", DIMS(width, width));
    put(&w, "", "caption_norm", ".weight", DIMS(width));
    for (int64_t i = 0; i < cfg->layers && !w.stopped; i++) {
        put_block(&w, cfg, i);
    }
    put(&w, "", "scale_shift_table", "", DIMS(2, width));
    put_layer(&w, "", "proj_out", DIMS(p * p * cfg->out_channels, width));
    return !w.stopped;
}

bool model_expect_gemma2(const struct gemma2_config *cfg, model_expect_fn fn, void *ctx)
{
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm",
                                        "pre_feedforward_layernorm", "post_feedforward_layernorm"};
    const int64_t hidden = cfg->hidden_size;
    const int64_t q = cfg->heads * cfg->head_dim;
    const int64_t kv = cfg->kv_heads * cfg->head_dim;
    struct walk w = {.fn = fn, .ctx = ctx};

    put(&w, "", "embed_tokens", ".weight", DIMS(cfg->vocab_size, hidden));
    for (int64_t i = 0; i < cfg->layers && !w.stopped; i++) {
        char scope[MAX_SCOPE];

        snprintf(scope, sizeof(scope), "layers.%lld.", (long long)i);
        put(&w, scope, "self_attn.q_proj", ".weight", DIMS(q, hidden));
        put(&w, scope, "self_attn.k_proj", ".weight", DIMS(kv, hidden));
        put(&w, scope, "self_attn.v_proj", ".weight", DIMS(kv, hidden));
        put(&w, scope, "self_attn.o_proj", ".weight", DIMS(hidden, q));
        put(&w, scope, "mlp.gate_proj", ".weight", DIMS(cfg->intermediate_size, hidden));
        put(&w, scope, "mlp.up_proj", ".weight", DIMS(cfg->intermediate_size, hidden));
        put(&w, scope, "mlp.down_proj", ".weight", DIMS(hidden, cfg->intermediate_size));
        for (size_t k = 0; k < ARRAY_LEN(norms); k++) {
            put(&w, scope, norms[k], ".weight", DIMS(hidden));
        }
    }
    put(&w, "", "norm", ".weight", DIMS(hidden));
    return !w.stopped;
}

/* A residual block; the shortcut is a convolution only where the widths differ. */
static void put_wan_resnet(struct walk *w, const char *scope, int64_t in, int64_t out)
{
    put(w, scope, "norm1", ".gamma", DIMS(in, 1, 1, 1));
    put_layer(w, scope, "conv1", DIMS(out, in, 3, 3, 3));
    put(w, scope, "norm2", ".gamma", DIMS(out, 1, 1, 1));
    put_layer(w, scope, "conv2", DIMS(out, out, 3, 3, 3));
    if (in != out) {
        put_layer(w, scope, "conv_shortcut", DIMS(out, in, 1, 1, 1));
    }
}

/* part: "encoder" or "decoder" */
static void put_wan_mid(struct walk *w, const char *part, int64_t c)
{
    char scope[MAX_SCOPE];

    snprintf(scope, sizeof(scope), "%s.mid_block.resnets.0.", part);
    put_wan_resnet(w, scope, c, c);
    snprintf(scope, sizeof(scope), "%s.mid_block.attentions.0.", part);
    put(w, scope, "norm", ".gamma", DIMS(c, 1, 1));
    put_layer(w, scope, "to_qkv", DIMS(3 * c, c, 1, 1));
    put_layer(w, scope, "proj", DIMS(c, c, 1, 1));
    snprintf(scope, sizeof(scope), "%s.mid_block.resnets.1.", part);
    put_wan_resnet(w, scope, c, c);
}

/* All blocks of all levels are one flat list, the down-samplers among them. */
static void put_wan_encoder(struct walk *w, const struct vae_wan_config *cfg)
{
    int64_t c = cfg->base_dim;
    int64_t index = 0;
    char scope[MAX_SCOPE];

    put_layer(w, "encoder.", "conv_in", DIMS(c, 3, 3, 3, 3));
    for (int level = 0; level < cfg->levels; level++) {
        const int64_t out = cfg->base_dim * cfg->dim_mult[level];

        for (int64_t i = 0; i < cfg->num_res_blocks && !w->stopped; i++) {
            snprintf(scope, sizeof(scope), "encoder.down_blocks.%lld.", (long long)index++);
            put_wan_resnet(w, scope, c, out);
            c = out;
        }
        if (level + 1 == cfg->levels) {
            break;
        }
        snprintf(scope, sizeof(scope), "encoder.down_blocks.%lld.", (long long)index++);
        put_layer(w, scope, "resample.1", DIMS(c, c, 3, 3));
        if (cfg->temporal_downsample[level]) {
            put_layer(w, scope, "time_conv", DIMS(c, c, 3, 1, 1));
        }
    }
    put_wan_mid(w, "encoder", c);
    put(w, "encoder.", "norm_out", ".gamma", DIMS(c, 1, 1, 1));
    put_layer(w, "encoder.", "conv_out", DIMS(2 * cfg->z_dim, c, 3, 3, 3));
}

/* Levels from deep to shallow; each up-sampler halves the channels. */
static void put_wan_decoder(struct walk *w, const struct vae_wan_config *cfg)
{
    int64_t c = cfg->decoder_base_dim * cfg->dim_mult[cfg->levels - 1];
    char scope[MAX_SCOPE];

    put_layer(w, "decoder.", "conv_in", DIMS(c, cfg->z_dim, 3, 3, 3));
    put_wan_mid(w, "decoder", c);
    for (int i = 0; i < cfg->levels; i++) {
        const int level = cfg->levels - 1 - i;
        const int64_t out = cfg->decoder_base_dim * cfg->dim_mult[level];

        for (int64_t k = 0; k <= cfg->num_res_blocks && !w->stopped; k++) {
            snprintf(scope, sizeof(scope), "decoder.up_blocks.%d.resnets.%lld.", i, (long long)k);
            put_wan_resnet(w, scope, c, out);
            c = out;
        }
        if (level == 0) {
            break;
        }
        snprintf(scope, sizeof(scope), "decoder.up_blocks.%d.upsamplers.0.", i);
        put_layer(w, scope, "resample.1", DIMS(c / 2, c, 3, 3));
        if (cfg->temporal_downsample[level - 1]) {
            put_layer(w, scope, "time_conv", DIMS(2 * c, c, 3, 1, 1));
        }
        c /= 2;
    }
    put(w, "decoder.", "norm_out", ".gamma", DIMS(c, 1, 1, 1));
    put_layer(w, "decoder.", "conv_out", DIMS(3, c, 3, 3, 3));
}

static void put_ltx2_conv(struct walk *w, const char *scope, const char *leaf, int64_t out,
                          int64_t in)
{
    put_layer(w, scope, leaf, DIMS(out, in, 3, 3, 3));
}

static void put_ltx2_resnets(struct walk *w, const char *block, int64_t n, int64_t c)
{
    for (int64_t i = 0; i < n && !w->stopped; i++) {
        char scope[MAX_SCOPE];

        snprintf(scope, sizeof(scope), "%s.resnets.%lld.", block, (long long)i);
        put_ltx2_conv(w, scope, "conv1.conv", c, c);
        put_ltx2_conv(w, scope, "conv2.conv", c, c);
    }
}

/* A level's blocks have the width it starts with; its down-sampler moves cells into channels, so its
 * convolution makes fewer of them. */
static void put_ltx2_encoder(struct walk *w, const struct vae_ltx2_config *cfg)
{
    static const int64_t cells[] = {
        [LTX2_SPATIAL] = 4, [LTX2_TEMPORAL] = 2, [LTX2_SPATIOTEMPORAL] = 8};
    int64_t c = cfg->latent_channels;
    char block[MAX_SCOPE];

    put_ltx2_conv(w, "encoder.", "conv_in.conv", c, 3 * cfg->patch_size * cfg->patch_size);
    for (int i = 0; i < cfg->encoder_levels; i++) {
        const int64_t out = cfg->block_out_channels[i];

        snprintf(block, sizeof(block), "encoder.down_blocks.%d", i);
        put_ltx2_resnets(w, block, cfg->layers_per_block[i], c);
        if (cfg->scaling[i]) {
            snprintf(block, sizeof(block), "encoder.down_blocks.%d.downsamplers.0.", i);
            put_ltx2_conv(w, block, "conv.conv", out / cells[cfg->downsample[i]], c);
        }
        c = out;
    }
    put_ltx2_resnets(w, "encoder.mid_block", cfg->layers_per_block[cfg->encoder_levels], c);
    put_ltx2_conv(w, "encoder.", "conv_out.conv", cfg->latent_channels + 1, c);
}

/* The lists run from the pixels inwards, the blocks outwards; each starts with its up-sampler. */
static void put_ltx2_decoder(struct walk *w, const struct vae_ltx2_config *cfg)
{
    const int n = cfg->decoder_levels;
    int64_t c = cfg->decoder_block_out_channels[n - 1];
    char block[MAX_SCOPE];

    put_ltx2_conv(w, "decoder.", "conv_in.conv", c, cfg->latent_channels);
    put_ltx2_resnets(w, "decoder.mid_block", cfg->decoder_layers_per_block[n], c);
    for (int i = 0; i < n; i++) {
        const int level = n - 1 - i;
        const int64_t out = c / cfg->upsample_factor[level];

        if (cfg->decoder_scaling[level]) {
            snprintf(block, sizeof(block), "decoder.up_blocks.%d.upsamplers.0.", i);
            put_ltx2_conv(w, block, "conv.conv", 8 * out, c);
        }
        snprintf(block, sizeof(block), "decoder.up_blocks.%d", i);
        put_ltx2_resnets(w, block, cfg->decoder_layers_per_block[level], out);
        c = out;
    }
    put_ltx2_conv(w, "decoder.", "conv_out.conv", 3 * cfg->patch_size * cfg->patch_size, c);
}

bool model_expect_vae(const struct vae_config *cfg, model_expect_fn fn, void *ctx)
{
    const int64_t z = cfg->latent_channels;
    struct walk w = {.fn = fn, .ctx = ctx};

    if (cfg->kind == VAE_WAN) {
        put_wan_encoder(&w, &cfg->wan);
        put_layer(&w, "", "quant_conv", DIMS(2 * z, 2 * z, 1, 1, 1));
        put_layer(&w, "", "post_quant_conv", DIMS(z, z, 1, 1, 1));
        put_wan_decoder(&w, &cfg->wan);
    } else {
        put(&w, "", "latents_mean", "", DIMS(z));
        put(&w, "", "latents_std", "", DIMS(z));
        put_ltx2_encoder(&w, &cfg->ltx2);
        put_ltx2_decoder(&w, &cfg->ltx2);
    }
    return !w.stopped;
}
