#include "engine/model_dir.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

enum parser {
    TRANSFORMER,
    GEMMA2,
    VAE,
    SCHEDULER
};

static int parse(enum parser parser, const char *text, struct err *err)
{
    struct transformer_config t;
    struct gemma2_config g;
    struct vae_config v;
    struct scheduler_config s;

    switch (parser) {
    case TRANSFORMER:
        return model_parse_transformer(&t, text, strlen(text), "file", err);
    case GEMMA2:
        return model_parse_gemma2(&g, text, strlen(text), "file", err);
    case VAE:
        return model_parse_vae(&v, text, strlen(text), "file", err);
    case SCHEDULER:
        return model_parse_scheduler(&s, text, strlen(text), "file", err);
    }
    CHECK_BUG(!"parser");
}

static const char *const config_files[] = {
    [TRANSFORMER] = "transformer/config.json",
    [GEMMA2] = "text_encoder/config.json",
    [VAE] = "vae/config.json",
    [SCHEDULER] = "scheduler/scheduler_config.json",
};

/* A golden configuration with one thing changed. */
struct change {
    const char *model;
    const char *from;
    const char *to;
    int rc;
    const char *text; /* in the message; NULL if it is accepted */
};

static void check_changes(enum parser parser, const struct change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct change *c = &changes[i];
        const char *dir = files_path("tests/golden", c->model);
        struct err err = {0};
        size_t len;
        char *old = files_read(files_path(dir, config_files[parser]), &len);
        char *text = text_replace(old, c->from, c->to);
        const int rc = parse(parser, text, &err);

        if (rc != c->rc) {
            test_fail(__FILE__, __LINE__, "%s -> %s: %d %s", c->from, c->to, rc, err.msg);
        }
        if (c->text) {
            EXPECT_CONTAINS(err.msg, "file: ");
            EXPECT_CONTAINS(err.msg, c->text);
        }
        free(text);
        free(old);
    }
}

static const char w480[] = "tiny-480p";
static const char w720[] = "tiny-720p";
static const char wlong[] = "tiny-long";

TEST(model_dir_opens_the_480p_directory)
{
    struct model_dir *dir = NULL;
    struct err err = {0};

    EXPECT_OK(model_dir_open(&dir, "tests/golden/tiny-480p//", &err));
    EXPECT_STR(dir->path, "tests/golden/tiny-480p");
    EXPECT_STR(dir->tokenizer_path, "tests/golden/tiny-480p/tokenizer/tokenizer.model");
    EXPECT_INT(dir->family, FAMILY_SANA_VIDEO_WAN);
    EXPECT_INT(dir->transformer.causal, false);
    EXPECT_INT(dir->transformer.heads, 4);
    EXPECT_INT(dir->transformer.head_dim, 20);
    EXPECT_INT(dir->transformer.layers, 3);
    EXPECT_INT(dir->transformer.mlp_hidden, 240);
    EXPECT_INT(dir->transformer.patch_size, 2);
    EXPECT_INT(dir->transformer.sample_size, 30);
    EXPECT(dir->transformer.norm_eps == 1e-6F);
    EXPECT_INT(dir->text_encoder.kv_heads, 2);
    EXPECT_INT(dir->text_encoder.sliding_window, 16);
    EXPECT(dir->text_encoder.query_pre_attn_scalar == 20);
    EXPECT(dir->text_encoder.attn_logit_softcapping == 50);
    EXPECT(dir->text_encoder.rope_theta == 10000);
    EXPECT_INT(dir->vae.kind, VAE_WAN);
    EXPECT_INT(dir->vae.stride_t, 4);
    EXPECT_INT(dir->vae.stride_s, 8);
    EXPECT_INT(dir->vae.wan.decoder_base_dim, 8);
    EXPECT(dir->vae.wan.latents_mean[15] == -0.2921F);
    EXPECT(dir->vae.wan.latents_std[0] == 2.8184F);
    EXPECT(!dir->vae.wan.temporal_downsample[0] && dir->vae.wan.temporal_downsample[2]);
    EXPECT_INT(dir->scheduler.kind, SAMPLER_DPM);
    EXPECT_INT(dir->scheduler.num_train_timesteps, 1000);
    EXPECT_STR(dir->defaults.id, "tiny-480p");
    EXPECT_INT(dir->defaults.sampler, SAMPLER_DPM);
    EXPECT_INT(dir->defaults.steps, 50);
    EXPECT(dir->defaults.flow_shift == 8 && dir->defaults.guidance_scale == 6);
    EXPECT(dir->defaults.n_sizes == 11 && dir->defaults.lower_case);
    EXPECT_INT(dir->defaults.frames, 81);
    EXPECT_INT(dir->defaults.block_latent_frames, 5);
    model_dir_close(dir);
    model_dir_close(NULL);
}

TEST(model_dir_opens_the_720p_directory)
{
    struct model_dir *dir = NULL;
    struct err err = {0};

    EXPECT_OK(model_dir_open(&dir, "tests/golden/tiny-720p", &err));
    EXPECT_INT(dir->family, FAMILY_SANA_VIDEO_LTX2);
    EXPECT_INT(dir->transformer.patch_size, 1);
    EXPECT_INT(dir->vae.kind, VAE_LTX2);
    EXPECT_INT(dir->vae.latent_channels, 128);
    EXPECT_INT(dir->vae.stride_t, 8);
    EXPECT_INT(dir->vae.stride_s, 32);
    EXPECT_INT(dir->vae.ltx2.encoder_levels, 4);
    EXPECT_INT(dir->vae.ltx2.downsample[1], LTX2_TEMPORAL);
    EXPECT_INT(dir->vae.ltx2.decoder_levels, 3);
    EXPECT_INT(dir->vae.ltx2.decoder_block_out_channels[2], 64);
    EXPECT(dir->vae.ltx2.encoder_causal && !dir->vae.ltx2.decoder_causal);
    EXPECT(!dir->vae.ltx2.encoder_reflect && dir->vae.ltx2.decoder_reflect);
    EXPECT_INT(dir->scheduler.kind, SAMPLER_UNIPC);
    EXPECT_STR(dir->defaults.id, "tiny-720p");
    EXPECT_INT(dir->defaults.width, 1280);
    EXPECT_INT(dir->defaults.height, 704);
    EXPECT_INT(dir->defaults.sampler, SAMPLER_UNIPC);
    model_dir_close(dir);
}

TEST(model_dir_opens_the_longsana_directory)
{
    struct model_dir *dir = NULL;
    struct err err = {0};

    EXPECT_OK(model_dir_open(&dir, "tests/golden/tiny-long", &err));
    EXPECT_INT(dir->family, FAMILY_LONGSANA);
    EXPECT(dir->transformer.causal);
    EXPECT_INT(dir->scheduler.kind, SAMPLER_EULER);
    EXPECT(dir->scheduler.flow_shift == 8);
    EXPECT_STR(dir->defaults.id, "tiny-long");
    EXPECT(dir->defaults.bf16_timesteps);
    EXPECT_INT(dir->defaults.sampler, SAMPLER_LONGLIVE);
    EXPECT_INT(dir->defaults.steps, 4);
    EXPECT_INT(dir->defaults.n_renoise, 4);
    EXPECT(dir->defaults.renoise[0] == 1000 && dir->defaults.renoise[3] == 727);
    EXPECT(dir->defaults.flow_shift == 7 && dir->defaults.guidance_scale == 1);
    EXPECT_INT(dir->defaults.block_latent_frames, 10);
    EXPECT_INT(dir->defaults.history_blocks, -1);
    EXPECT_STR(model_family_name(dir->family), "LongSANA (Wan 2.1 VAE)");
    EXPECT_STR(model_sampler_name(dir->defaults.sampler), "longlive");
    model_dir_close(dir);
}

TEST(model_dir_refuses_transformers_it_cannot_run)
{
    static const struct change changes[] = {
        {w480, "SanaVideoTransformer3DModel", "SanaTransformer2DModel", ERR_UNSUPPORTED,
         "'SanaTransformer2DModel'"},
        {w480, "SanaVideoTransformer3DModel", "SanaVideoCausalTransformer3DModel", ERR_OK, NULL},
        {w480, "\"attention_bias\": false", "\"attention_bias\": true", ERR_UNSUPPORTED,
         "attention_bias"},
        {w480, "\"norm_elementwise_affine\": false", "\"norm_elementwise_affine\": true",
         ERR_UNSUPPORTED, "norm_elementwise_affine"},
        {w480, "\"guidance_embeds\": false", "\"guidance_embeds\": true", ERR_UNSUPPORTED,
         "guidance_embeds"},
        {w480, "\"rms_norm_across_heads\"", "\"rms_norm\"", ERR_UNSUPPORTED, "qk_norm"},
        {w480, "\"rms_norm_across_heads\"", "null", ERR_UNSUPPORTED, "qk_norm"},
        {w480, "\"interpolation_scale\": null", "\"interpolation_scale\": 2", ERR_UNSUPPORTED,
         "interpolation_scale"},
        {w480, "\"out_channels\": 16", "\"out_channels\": 32", ERR_UNSUPPORTED, "out_channels"},
        {w480, "\"patch_size\": [\n    1", "\"patch_size\": [\n    2", ERR_UNSUPPORTED,
         "patch_size"},
        {w480, "\"patch_size\"", "\"patch\"", ERR_FORMAT, "patch_size: missing"},
        {w480, "\"sample_size\": 30", "\"sample_size\": null", ERR_OK, NULL},
        {w480, "\"norm_eps\": 1e-06", "\"other\": {\"deep\": [1, [2]]}", ERR_OK, NULL},
    };

    check_changes(TRANSFORMER, changes, ARRAY_LEN(changes));
}

TEST(model_dir_refuses_transformer_numbers_that_do_not_fit)
{
    static const struct change changes[] = {
        {w480, "\"num_layers\": 3", "\"num_layers\": 3.5", ERR_FORMAT, "num_layers"},
        {w480, "\"num_layers\": 3", "\"num_layers\": 0", ERR_FORMAT, "num_layers"},
        {w480, "\"num_layers\": 3", "\"num_layers\": -3", ERR_FORMAT, "1..512"},
        {w480, "\"num_layers\": 3", "\"num_layers\": 1e18", ERR_FORMAT, "num_layers"},
        {w480, "\"num_layers\": 3", "\"num_layers\": \"3\"", ERR_FORMAT, "not an integer"},
        {w480, "\"num_layers\": 3,", "", ERR_FORMAT, "num_layers: missing"},
        {w480, "\"num_layers\": 3", "\"num_layers\": 3, \"num_layers\": 3", ERR_FORMAT,
         "given twice"},
        {w480, "\"attention_head_dim\": 20", "\"attention_head_dim\": 19", ERR_UNSUPPORTED, "odd"},
        {w480, "\"attention_head_dim\": 20", "\"attention_head_dim\": 40", ERR_FORMAT,
         "4 heads of 20"},
        {w480, "\"cross_attention_dim\": 80", "\"cross_attention_dim\": 81", ERR_UNSUPPORTED,
         "cross_attention_dim"},
        {w480, "\"mlp_ratio\": 3.0", "\"mlp_ratio\": 1e999", ERR_FORMAT, "mlp_ratio"},
        {w480, "\"mlp_ratio\": 3.0", "\"mlp_ratio\": 0.001", ERR_FORMAT, "mlp_ratio"},
        {w480, "\"mlp_ratio\": 3.0,", "", ERR_FORMAT, "mlp_ratio: missing"},
        {w480, "}", "", ERR_FORMAT, "not valid JSON"},
        {w480, "}", "} {}", ERR_FORMAT, "bytes after"},
        {w480, "SanaVideoTransformer3DModel", "a\\n-\\u001b-z", ERR_UNSUPPORTED, "'a?-?-z' is not"},
        {w480, "\"num_layers\"", "\"\\n\": 1, \"\\n\"", ERR_FORMAT, "file: ?: given twice"},
    };
    struct transformer_config t;
    struct err err = {0};
    const char *text = "{\"_class_name\":\"SanaVideoTransformer3DModel\",\"in_channels\":16,"
                       "\"num_attention_heads\":2,\"attention_head_dim\":12,\"num_layers\":2,"
                       "\"num_cross_attention_heads\":2,\"cross_attention_head_dim\":12,"
                       "\"caption_channels\":16,\"mlp_ratio\":2.55,\"patch_size\":[1,2,2]}";

    check_changes(TRANSFORMER, changes, ARRAY_LEN(changes));
    EXPECT_OK(model_parse_transformer(&t, text, strlen(text), "file", &err));
    EXPECT_INT(t.mlp_hidden, 61); /* int(2.55 * 24) */
    EXPECT_INT(t.out_channels, 16);
    EXPECT_INT(t.sample_size, 30);
}

TEST(model_dir_refuses_text_encoders_it_cannot_run)
{
    static const struct change changes[] = {
        {w480, "\"model_type\": \"gemma2\"", "\"model_type\": \"gemma3\"", ERR_UNSUPPORTED,
         "'gemma3'"},
        {w480, "\"model_type\": \"gemma2\"", "\"m\": 1", ERR_UNSUPPORTED, "model_type"},
        {w480, "\"attention_bias\": false", "\"attention_bias\": true", ERR_UNSUPPORTED,
         "attention_bias"},
        {w480, "\"hidden_activation\": \"gelu_pytorch_tanh\"", "\"hidden_activation\": \"silu\"",
         ERR_UNSUPPORTED, "hidden_activation"},
        {w480, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", ERR_FORMAT,
         "does not divide"},
        {w480, "\"head_dim\": 24", "\"head_dim\": 25", ERR_FORMAT, "odd"},
        {w480, "\"vocab_size\": 1200", "\"vocab_size\": 0", ERR_FORMAT, "vocab_size"},
        {w480, "\"sliding_window\": 16,", "", ERR_FORMAT, "sliding_window: missing"},
        {w480, "\"use_cache\": true",
         "\"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\", "
         "\"full_attention\"]",
         ERR_OK, NULL},
        {w480, "\"use_cache\": true", "\"layer_types\": [\"full_attention\"]", ERR_UNSUPPORTED,
         "layer 0"},
        {w480, "\"use_cache\": true", "\"layer_types\": [\"sliding_attention\"]", ERR_FORMAT,
         "1 entries for 4 layers"},
        {w480, "\"rope_theta\": 10000.0",
         "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0}", ERR_OK,
         NULL},
        {w480, "\"rope_theta\": 10000.0",
         "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000.0}", ERR_UNSUPPORTED,
         "rope_type"},
        {w480, "\"use_cache\": true", "\"rope_scaling\": {\"factor\": 2}", ERR_UNSUPPORTED,
         "rope_scaling"},
        {w480, "\"attn_logit_softcapping\": 50.0", "\"attn_logit_softcapping\": null", ERR_OK,
         NULL},
    };

    check_changes(GEMMA2, changes, ARRAY_LEN(changes));
}

TEST(model_dir_refuses_vaes_it_cannot_run)
{
    static const struct change changes[] = {
        {w480, "AutoencoderKLWan", "AutoencoderDC", ERR_UNSUPPORTED, "'AutoencoderDC'"},
        {w480, "\"is_residual\": false", "\"is_residual\": true", ERR_UNSUPPORTED, "is_residual"},
        {w480, "\"patch_size\": null", "\"patch_size\": 2", ERR_UNSUPPORTED, "patch_size"},
        {w480, "\"attn_scales\": []", "\"attn_scales\": [0.5]", ERR_UNSUPPORTED, "attn_scales"},
        {w480, "\"z_dim\": 16", "\"z_dim\": 17", ERR_FORMAT, "latents_mean"},
        {w480, "\"z_dim\": 16", "\"z_dim\": 100000", ERR_FORMAT, "z_dim"},
        {w480, "2.8184", "0", ERR_FORMAT, "latents_std"},
        {w480, "2.8184", "\"x\"", ERR_FORMAT, "latents_std: not a number"},
        {w480, "false,\n    true,\n    true", "false,\n    true", ERR_FORMAT,
         "temperal_downsample"},
        {w480, "false,\n    true,\n    true", "false,\n    true,\n    1", ERR_FORMAT,
         "temperal_downsample: not true or false"},
        {w480, "\"dim_mult\": [\n    1", "\"dim_mult\": [\n    1, 1, 1, 1, 1, 1", ERR_FORMAT,
         "dim_mult: a list of more than 8"},
        {w480, "\"scale_factor_spatial\": 8", "\"scale_factor_spatial\": 16", ERR_FORMAT,
         "scale_factor_spatial"},
        {w480, "\"base_dim\": 8", "\"base_dim\": 7", ERR_OK, NULL}, /* 7 * 2, 7 * 4 are even */
        {w480, "\"dim_mult\": [\n    1,\n    2", "\"dim_mult\": [\n    1,\n    3", ERR_OK, NULL},
        {w720, "\"timestep_conditioning\": false", "\"timestep_conditioning\": true",
         ERR_UNSUPPORTED, "timestep_conditioning"},
        {w720, "\"decoder_inject_noise\": [\n    false", "\"decoder_inject_noise\": [\n    true",
         ERR_UNSUPPORTED, "decoder_inject_noise"},
        {w720, "LTX2VideoDownBlock3D", "LTXVideoDownBlock3D", ERR_UNSUPPORTED, "down_block_types"},
        {w720, "\"temporal\"", "\"conv\"", ERR_UNSUPPORTED, "downsample_type: entry 1"},
        {w720, "\"patch_size_t\": 1", "\"patch_size_t\": 2", ERR_UNSUPPORTED, "patch_size_t"},
        {w720, "\"reflect\"", "\"replicate\"", ERR_UNSUPPORTED, "'replicate'"},
        {w720, "\"decoder_causal\": false,", "", ERR_FORMAT, "decoder_causal: missing"},
        {w720, "\"upsample_factor\": [\n    2", "\"upsample_factor\": [\n    3", ERR_UNSUPPORTED,
         "upsample_factor 3"},
        {w720, "\"block_out_channels\": [\n    16", "\"block_out_channels\": [\n    18",
         ERR_UNSUPPORTED, "level 0 from 128 to 18"},
        {w720, "\"decoder_block_out_channels\": [\n    16",
         "\"decoder_block_out_channels\": [\n    24", ERR_UNSUPPORTED, "level 0 of 24"},
        {w720, "\"layers_per_block\": [\n    1,", "\"layers_per_block\": [", ERR_FORMAT,
         "layers_per_block: a list of 4 entries, expected 5..5"},
        {w720, "\"spatial\"", "\"temporal\"", ERR_FORMAT, "the encoder by 16 and 16"},
        {w720, "\"temporal_compression_ratio\": 8", "\"temporal_compression_ratio\": 4", ERR_FORMAT,
         "temporal_compression_ratio"},
        {w720, "\"scaling_factor\": 1.0", "\"decoder_upsample_type\": null", ERR_OK, NULL},
    };

    check_changes(VAE, changes, ARRAY_LEN(changes));
}

/* The keys that AutoencoderKLWan had when Wan 2.1 was first published. */
TEST(model_dir_reads_old_style_vae_configs)
{
    static const char *const cuts[] = {
        "\"decoder_base_dim\": null,",
        ",\n  \"is_residual\": false,\n  \"in_channels\": 3,\n  \"out_channels\": 3,\n  "
        "\"patch_size\": null,\n  \"scale_factor_temporal\": 4,\n  \"scale_factor_spatial\": 8",
    };
    struct vae_config v;
    struct err err = {0};
    size_t len;
    char *text = files_read("tests/golden/tiny-480p/vae/config.json", &len);

    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        char *cut = text_replace(text, cuts[i], "");

        free(text);
        text = cut;
    }
    EXPECT_OK(model_parse_vae(&v, text, strlen(text), "file", &err));
    EXPECT_INT(v.wan.decoder_base_dim, 8);
    EXPECT_INT(v.stride_t, 4);
    EXPECT_INT(v.stride_s, 8);
    free(text);
}

TEST(model_dir_refuses_schedulers_it_cannot_run)
{
    static const struct change changes[] = {
        {w480, "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", ERR_UNSUPPORTED,
         "'EulerDiscreteScheduler' is not supported, only DPMSolverMultistepScheduler"},
        {w480, "\"use_karras_sigmas\": false", "\"use_karras_sigmas\": true", ERR_UNSUPPORTED,
         "use_karras_sigmas"},
        {w480, "\"use_flow_sigmas\": true", "\"use_flow_sigmas\": false", ERR_UNSUPPORTED,
         "use_flow_sigmas"},
        {w480, "\"use_flow_sigmas\": true,", "", ERR_UNSUPPORTED, "use_flow_sigmas"},
        {w480, "\"solver_order\": 2", "\"solver_order\": 3", ERR_UNSUPPORTED, "solver_order"},
        {w480, "\"midpoint\"", "\"heun\"", ERR_UNSUPPORTED, "solver_type"},
        {w480, "\"dpmsolver++\"", "\"sde-dpmsolver++\"", ERR_UNSUPPORTED, "algorithm_type"},
        {w480, "\"flow_prediction\"", "\"epsilon\"", ERR_UNSUPPORTED, "prediction_type"},
        {w480, "\"zero\"", "\"sigma_min\"", ERR_UNSUPPORTED, "final_sigmas_type"},
        {w480, "\"use_dynamic_shifting\": false", "\"use_dynamic_shifting\": true", ERR_UNSUPPORTED,
         "use_dynamic_shifting"},
        {w480, "\"thresholding\": false", "\"thresholding\": true", ERR_UNSUPPORTED,
         "thresholding"},
        {w480, "\"flow_shift\": 8.0", "\"flow_shift\": 0", ERR_FORMAT, "flow_shift"},
        {w480, "\"flow_shift\": 8.0,", "", ERR_FORMAT, "flow_shift: missing"},
        {w720, "\"bh2\"", "\"bh1\"", ERR_UNSUPPORTED, "solver_type"},
        {w720, "\"predict_x0\": true", "\"predict_x0\": false", ERR_UNSUPPORTED, "predict_x0"},
        {w720, "\"disable_corrector\": []", "\"disable_corrector\": [0]", ERR_UNSUPPORTED,
         "disable_corrector"},
        {w720, "\"lower_order_final\": true", "\"lower_order_final\": false", ERR_UNSUPPORTED,
         "lower_order_final"},
        {wlong, "\"shift\": 8.0,", "", ERR_FORMAT, "shift: missing"},
        {wlong, "\"invert_sigmas\": false", "\"invert_sigmas\": true", ERR_UNSUPPORTED,
         "invert_sigmas"},
        {wlong, "\"shift_terminal\": null", "\"shift_terminal\": 0.1", ERR_UNSUPPORTED,
         "shift_terminal"},
        {wlong, "\"stochastic_sampling\": false", "\"stochastic_sampling\": true", ERR_UNSUPPORTED,
         "stochastic_sampling"},
        {wlong, "\"num_train_timesteps\": 1000", "\"num_train_timesteps\": 1", ERR_FORMAT,
         "num_train_timesteps"},
    };

    check_changes(SCHEDULER, changes, ARRAY_LEN(changes));
}

/* sanad.json on top of the LongSANA or the 480p defaults. */
static int parse_sanad(const char *model, const char *text, struct model_defaults *ret,
                       struct err *err)
{
    struct model_dir *dir = NULL;
    int rc = model_dir_open(&dir, files_path("tests/golden", model), err);

    EXPECT_INT(rc, ERR_OK);
    *ret = dir->defaults;
    model_dir_close(dir);
    return model_parse_sanad(ret, text, strlen(text), "sanad.json", err);
}

TEST(model_dir_sanad_json_overrides_every_default)
{
    struct model_defaults d;
    struct err err = {0};

    EXPECT_OK(parse_sanad(
        wlong,
        "{\"id\":\"mine-1.0\",\"aliases\":[\"sora-2\",\"a_b\"],\"sampler\":\"longlive\","
        "\"renoise_timesteps\":[1000,500.5],\"flow_shift\":5,\"guidance_scale\":2.5,"
        "\"block_latent_frames\":4,\"history_blocks\":3,\"fps\":24,\"size\":\"256x128\","
        "\"frames\":33,\"chi\":\"none\",\"lower_case\":false,\"max_prompt_tokens\":77,"
        "\"motion_score\":0,\"sizes\":[\"256x128\",\"64x96\"]}",
        &d, &err));
    EXPECT_STR(d.id, "mine-1.0");
    EXPECT_INT(d.n_aliases, 2);
    EXPECT_STR(d.aliases[1], "a_b");
    EXPECT_INT(d.n_renoise, 2);
    EXPECT_INT(d.steps, 2);
    EXPECT(d.renoise[1] == 500.5 && d.flow_shift == 5 && d.guidance_scale == 2.5 && d.fps == 24);
    EXPECT_INT(d.block_latent_frames, 4);
    EXPECT_INT(d.history_blocks, 3);
    EXPECT(d.width == 256 && d.height == 128);
    EXPECT_INT(d.frames, 33);
    EXPECT_INT(d.chi, CHI_NONE);
    EXPECT(!d.lower_case);
    EXPECT_INT(d.n_sizes, 2);
    EXPECT(d.sizes[1].width == 64 && d.sizes[1].height == 96 && d.sizes[1].ratio == 1.5);
    EXPECT_INT(d.max_prompt_tokens, 77);
    EXPECT_INT(d.motion_score, 0);

    EXPECT_OK(parse_sanad(w480, "{\"sampler\":\"euler\",\"steps\":7}", &d, &err));
    EXPECT_INT(d.sampler, SAMPLER_EULER);
    EXPECT_INT(d.steps, 7);
    EXPECT_OK(parse_sanad(w480, "{}", &d, &err));
    EXPECT_OK(parse_sanad(wlong, "{\"sampler\":\"unipc\",\"steps\":9}", &d, &err));
    EXPECT_INT(d.steps, 9);
}

TEST(model_dir_sanad_json_names_what_is_wrong)
{
    static const struct {
        const char *model;
        const char *text;
        const char *message;
    } cases[] = {
        {w480, "{\"stepz\":3}", "sanad.json: stepz: unknown key"},
        {w480, "{\"steps\":0}", "steps"},
        {w480, "{\"steps\":201}", "1..200"},
        {w480, "{\"sampler\":\"ddim\"}", "'ddim' is unknown"},
        {w480, "{\"sampler\":\"longlive\"}", "renoise_timesteps: missing"},
        {wlong, "{\"sampler\":\"dpm\"}", "steps: missing"},
        {wlong, "{\"steps\":3}", "steps: 3, but renoise_timesteps has 4"},
        {wlong, "{\"renoise_timesteps\":[1000,1000]}", "does not descend"},
        {wlong, "{\"renoise_timesteps\":[1000,0]}", "renoise_timesteps"},
        {wlong, "{\"renoise_timesteps\":[]}", "renoise_timesteps"},
        {w480, "{\"id\":\"\"}", "id"},
        {w480, "{\"id\":\"a/b\"}", "id"},
        {w480, "{\"id\":7}", "id"},
        {w480, "{\"aliases\":\"x\"}", "aliases"},
        {w480, "{\"aliases\":[1]}", "aliases"},
        {w480, "{\"aliases\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}",
         "more than 8"},
        {w480, "{\"size\":\"832\"}", "size"},
        {w480, "{\"size\":\"832x480x3\"}", "size"},
        {w480, "{\"size\":\"832x\"}", "size"},
        {w480, "{\"size\":\"-1x480\"}", "size"},
        {w480, "{\"size\":\"99999999999999999999x480\"}", "size"},
        {w480, "{\"size\":\" 832x480\"}", "size"},
        {w480, "{\"fps\":0.5}", "fps"},
        {w480, "{\"frames\":0}", "frames"},
        {w480, "{\"sizes\":\"96x64\"}", "sizes"},
        {w480, "{\"sizes\":[\"96x64\",\"96x\"]}", "sizes"},
        {w480, "{\"sizes\":[\"96x15\"]}", "sizes"},
        {w480, "{\"sizes\":[96]}", "sizes"},
        {w480, "{\"history_blocks\":0}", "history_blocks"},
        {w480, "{\"chi\":\"audio\"}", "chi"},
        {w480, "{\"lower_case\":1}", "lower_case"},
        {w480, "{\"motion_score\":101}", "motion_score"},
        {w480, "{\"max_prompt_tokens\":7}", "max_prompt_tokens"},
        {w480, "{\"flow_shift\":31}", "flow_shift"},
        {w480, "{\"guidance_scale\":\"6\"}", "guidance_scale"},
        {w480, "[]", "not a JSON object"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct model_defaults d;
        struct err err = {0};

        if (parse_sanad(cases[i].model, cases[i].text, &d, &err) != ERR_FORMAT) {
            test_fail(__FILE__, __LINE__, "%s was taken", cases[i].text);
        }
        EXPECT_CONTAINS(err.msg, cases[i].message);
    }
}

/* A copy of a golden directory under test_dir(). */
static const char *copy_model(const char *model, const char *name)
{
    const char *to = files_path(test_dir(), name);

    files_copy_dir(files_path("tests/golden", model), to);
    return to;
}

#define EXPECT_DIR_REFUSED(path, want_rc, want_text)                                               \
    expect_dir_refused(__LINE__, (path), (want_rc), (want_text))

static void expect_dir_refused(int line, const char *path, int want_rc, const char *want_text)
{
    struct model_dir *dir = NULL;
    struct err err = {0};
    const int rc = model_dir_open(&dir, path, &err);

    if (rc != want_rc || dir) {
        test_fail(__FILE__, line, "%s: %d %s", path, rc, err.msg);
    }
    test_expect_contains(__FILE__, line, err.msg, want_text);
}

TEST(model_dir_names_what_is_not_there)
{
    static const char *const files[] = {
        "model_index.json", "transformer/config.json",         "text_encoder/config.json",
        "vae/config.json",  "scheduler/scheduler_config.json", "tokenizer/tokenizer.model",
    };
    const char *dir = copy_model(w480, "missing");

    EXPECT_DIR_REFUSED(files_path(test_dir(), "none"), ERR_NOT_FOUND, "none");
    EXPECT_DIR_REFUSED(files_dir("empty"), ERR_NOT_FOUND, "empty/model_index.json");
    EXPECT_DIR_REFUSED(files_path(dir, "model_index.json"), ERR_FORMAT, "not a directory");
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        const char *file = files_path(dir, files[i]);
        const char *aside = files_path(dir, "aside");

        EXPECT(rename(file, aside) == 0);
        EXPECT_DIR_REFUSED(dir, ERR_NOT_FOUND, file);
        EXPECT(rename(aside, file) == 0);
    }
    EXPECT(unlink(files_path(dir, "vae/diffusion_pytorch_model.safetensors")) == 0);
    EXPECT_DIR_REFUSED(dir, ERR_NOT_FOUND, "missing/vae: neither diffusion_pytorch_model");
    EXPECT(truncate(files_path(dir, "tokenizer/tokenizer.model"), 0) == 0);
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "tokenizer.model: not a file, or empty");
}

TEST(model_dir_names_the_missing_shard)
{
    const char *dir = copy_model(wlong, "shard");

    EXPECT(unlink(files_path(dir, "text_encoder/model-00002-of-00002.safetensors")) == 0);
    EXPECT_DIR_REFUSED(dir, ERR_NOT_FOUND, "text_encoder/model-00002-of-00002.safetensors");
}

TEST(model_dir_names_the_truncated_file)
{
    const char *dir = copy_model(w480, "cut");
    const char *path = files_path(dir, "transformer/diffusion_pytorch_model.safetensors");

    EXPECT(truncate(path, 1900000) == 0);
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "transformer/diffusion_pytorch_model.safetensors: tensor");
    EXPECT(truncate(path, 5000) == 0);
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "transformer/diffusion_pytorch_model.safetensors: header");
}

TEST(model_dir_refuses_siblings)
{
    const char *dir = copy_model(w480, "sibling");
    const char *index = files_path(dir, "model_index.json");
    const char *weights = files_path(dir, "transformer/diffusion_pytorch_model.safetensors");

    files_replace(index, "SanaVideoPipeline", "WanPipeline");
    EXPECT_DIR_REFUSED(dir, ERR_UNSUPPORTED, "model_index.json: _class_name: 'WanPipeline'");
    files_replace(index, "WanPipeline", "SanaVideoPipeline");
    files_replace(index, "Gemma2Model", "T5EncoderModel");
    EXPECT_DIR_REFUSED(dir, ERR_UNSUPPORTED, "text_encoder: 'T5EncoderModel'");
    files_replace(index, "T5EncoderModel", "Gemma2ForCausalLM");
    files_replace(index, "AutoencoderKLWan", "AutoencoderDC");
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "names vae AutoencoderDC");
    files_replace(index, "AutoencoderDC", "AutoencoderKLWan");
    files_replace(index, "\"vae\": [", "\"vae\": [], \"vea\": [");
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "vae: not a pair");
    files_replace(index, "\"vae\": [], \"vea\": [", "\"vae\": [");
    files_replace(weights, "blocks.0.ff.conv_temp.weight", "blocks.0.ff.conv_tmp2.weight");
    EXPECT_DIR_REFUSED(dir, ERR_UNSUPPORTED, "conv_temp.weight is missing, so this is not");
}

TEST(model_dir_refuses_components_that_do_not_fit)
{
    const char *dir = copy_model(w480, "fit");
    const char *long_dir = copy_model(w720, "causal_ltx2");
    const char *config = files_path(dir, "transformer/config.json");

    files_replace(config, "\"caption_channels\": 72", "\"caption_channels\": 73");
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "caption_channels is 73");
    files_replace(config, "\"caption_channels\": 73", "\"caption_channels\": 72");
    files_replace(config, "\"in_channels\": 16", "\"in_channels\": 32");
    files_replace(config, "\"out_channels\": 16", "\"out_channels\": 32");
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "in_channels is 32");
    files_replace(files_path(long_dir, "transformer/config.json"), "SanaVideoTransformer",
                  "SanaVideoCausalTransformer");
    EXPECT_DIR_REFUSED(long_dir, ERR_FORMAT, "names transformer SanaVideoTransformer3DModel");
    files_replace(files_path(long_dir, "model_index.json"), "SanaVideoTransformer",
                  "SanaVideoCausalTransformer");
    EXPECT_DIR_REFUSED(long_dir, ERR_UNSUPPORTED, "LTX-2");
}

TEST(model_dir_reads_sanad_json_beside_the_index)
{
    const char *dir = copy_model(w480, "sanad");
    const char *path = files_path(dir, "sanad.json");
    struct model_dir *opened = NULL;
    struct err err = {0};

    files_write(path, "{\"id\":\"mine\"}\n", 14);
    EXPECT_OK(model_dir_open(&opened, dir, &err));
    EXPECT_STR(opened->defaults.id, "mine");
    model_dir_close(opened);
    files_write(path, "{\"idd\":\"mine\"}", 14);
    EXPECT_DIR_REFUSED(dir, ERR_FORMAT, "sanad/sanad.json: idd: unknown key");
}

TEST(model_dir_open_survives_every_failed_allocation)
{
    struct model_dir *dir = NULL;
    struct err err = {0};
    long n;
    int rc;

    alloc_fail_hook_cjson();
    for (n = 1;; n++) {
        alloc_fail_at(n);
        rc = model_dir_open(&dir, "tests/golden/tiny-720p", &err);
        if (!alloc_fail_stop()) {
            break;
        }
        if (rc != ERR_NO_MEMORY) {
            test_fail(__FILE__, __LINE__, "allocation %ld: %d %s", n, rc, err.msg);
        }
        EXPECT(!dir);
    }
    EXPECT_OK(rc);
    model_dir_close(dir);
    EXPECT(n > 1000);
}
