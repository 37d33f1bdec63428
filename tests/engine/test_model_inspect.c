#include "engine/model_inspect.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model_expect.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

/*
 * The published directories, with true headers and holes for data: the names and shapes below are
 * written down from MODEL 3.11, 2.4, 6, 7, 12.4 and 12.5, not computed by the code under test.
 */

enum {
    MAX_RANK = 5
};

struct row {
    const char *name;
    int64_t dims[MAX_RANK];
    bool bias; /* ".weight" and ".bias" are appended */
};

/* Writes the tensors of a component into shards of at most max_bytes and, if there are several, the
 * index beside them. */
struct shard_writer {
    const char *dir;
    const char *stem;
    const char *dtype;
    int element_bytes;
    uint64_t max_bytes;
    int n_shards; /* known beforehand, as in the file names */
    int shard;    /* the one being written, from 1 */
    struct header_writer header;
    struct str map;
    size_t n_tensors;
};

static void shard_name(const struct shard_writer *w, char name[128])
{
    if (w->n_shards == 1) {
        snprintf(name, 128, "%s.safetensors", w->stem);
    } else {
        snprintf(name, 128, "%s-%05d-of-%05d.safetensors", w->stem, w->shard, w->n_shards);
    }
}

static void shards_begin(struct shard_writer *w)
{
    w->shard = 1;
    w->n_tensors = 0;
    header_init(&w->header);
    str_init(&w->map, 1 << 20);
}

static void shards_put(struct shard_writer *w, const char *name, int rank, const int64_t *dims)
{
    char file[128];
    uint64_t bytes = (uint64_t)w->element_bytes;

    for (int i = 0; i < rank; i++) {
        bytes *= (uint64_t)dims[i];
    }
    if (w->header.data_bytes + bytes > w->max_bytes) {
        shard_name(w, file);
        header_write_sparse(&w->header, files_path(w->dir, file));
        header_done(&w->header);
        header_init(&w->header);
        w->shard++;
    }
    shard_name(w, file);
    header_add(&w->header, name, w->dtype, w->element_bytes, rank, dims);
    EXPECT(str_addf(&w->map, "%s\"%s\":\"%s\"", w->n_tensors ? "," : "", name, file));
    w->n_tensors++;
}

static void shards_end(struct shard_writer *w)
{
    char file[128];

    shard_name(w, file);
    header_write_sparse(&w->header, files_path(w->dir, file));
    header_done(&w->header);
    EXPECT_INT(w->shard, w->n_shards);
    if (w->n_shards > 1) {
        char *index = test_alloc(w->map.len + 64);

        snprintf(file, sizeof(file), "%s.safetensors.index.json", w->stem);
        snprintf(index, w->map.len + 64, "{\"metadata\":{\"total_size\":1},\"weight_map\":{%s}}",
                 str_get(&w->map));
        files_write(files_path(w->dir, file), index, strlen(index));
        free(index);
    }
    str_done(&w->map);
}

static void put_row(struct shard_writer *w, const char *scope, const struct row *row)
{
    char name[160];
    int rank = 0;

    while (rank < MAX_RANK && row->dims[rank] > 0) {
        rank++;
    }
    snprintf(name, sizeof(name), "%s%s%s", scope, row->name, row->bias ? ".weight" : "");
    shards_put(w, name, rank, row->dims);
    if (row->bias) {
        snprintf(name, sizeof(name), "%s%s.bias", scope, row->name);
        shards_put(w, name, 1, row->dims);
    }
}

static void put_transformer(struct shard_writer *w, int64_t channels, int64_t patch)
{
    const struct row global[] = {
        {"patch_embedding", {2240, channels, 1, patch, patch}, true},
        {"time_embed.emb.timestep_embedder.linear_1", {2240, 256}, true},
        {"time_embed.emb.timestep_embedder.linear_2", {2240, 2240}, true},
        {"time_embed.linear", {13440, 2240}, true},
        {"caption_projection.linear_1", {2240, 2304}, true},
        {"caption_projection.linear_2", {2240, 2240}, true},
        {"caption_norm.weight", {2240}, false},
        {"scale_shift_table", {2, 2240}, false},
        {"proj_out", {patch * patch * channels, 2240}, true},
    };
    static const struct row block[] = {
        {"scale_shift_table", {6, 2240}, false},
        {"attn1.to_q.weight", {2240, 2240}, false},
        {"attn1.to_k.weight", {2240, 2240}, false},
        {"attn1.to_v.weight", {2240, 2240}, false},
        {"attn1.norm_q.weight", {2240}, false},
        {"attn1.norm_k.weight", {2240}, false},
        {"attn1.to_out.0", {2240, 2240}, true},
        {"attn2.to_q", {2240, 2240}, true},
        {"attn2.to_k", {2240, 2240}, true},
        {"attn2.to_v", {2240, 2240}, true},
        {"attn2.norm_q.weight", {2240}, false},
        {"attn2.norm_k.weight", {2240}, false},
        {"attn2.to_out.0", {2240, 2240}, true},
        {"ff.conv_inverted", {13440, 2240, 1, 1}, true},
        {"ff.conv_depth", {13440, 1, 3, 3}, true},
        {"ff.conv_point.weight", {2240, 6720, 1, 1}, false},
        {"ff.conv_temp.weight", {2240, 2240, 3, 1}, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(global); i++) {
        put_row(w, "", &global[i]);
    }
    for (int b = 0; b < 20; b++) {
        char scope[64];

        snprintf(scope, sizeof(scope), "transformer_blocks.%d.", b);
        for (size_t i = 0; i < ARRAY_LEN(block); i++) {
            put_row(w, scope, &block[i]);
        }
    }
}

static void put_gemma2(struct shard_writer *w)
{
    static const struct row layer[] = {
        {"self_attn.q_proj.weight", {2048, 2304}, false},
        {"self_attn.k_proj.weight", {1024, 2304}, false},
        {"self_attn.v_proj.weight", {1024, 2304}, false},
        {"self_attn.o_proj.weight", {2304, 2048}, false},
        {"mlp.gate_proj.weight", {9216, 2304}, false},
        {"mlp.up_proj.weight", {9216, 2304}, false},
        {"mlp.down_proj.weight", {2304, 9216}, false},
        {"input_layernorm.weight", {2304}, false},
        {"post_attention_layernorm.weight", {2304}, false},
        {"pre_feedforward_layernorm.weight", {2304}, false},
        {"post_feedforward_layernorm.weight", {2304}, false},
    };
    static const struct row embed = {"embed_tokens.weight", {256000, 2304}, false};
    static const struct row norm = {"norm.weight", {2304}, false};

    put_row(w, "", &embed);
    for (int l = 0; l < 26; l++) {
        char scope[64];

        snprintf(scope, sizeof(scope), "layers.%d.", l);
        for (size_t i = 0; i < ARRAY_LEN(layer); i++) {
            put_row(w, scope, &layer[i]);
        }
    }
    put_row(w, "", &norm);
}

/* One residual block of the Wan VAE; shortcut where the published file has one. */
static void put_wan_block(struct shard_writer *w, const char *at, int64_t in, int64_t out)
{
    const struct row rows[] = {
        {"norm1.gamma", {in, 1, 1, 1}, false},       {"conv1", {out, in, 3, 3, 3}, true},
        {"norm2.gamma", {out, 1, 1, 1}, false},      {"conv2", {out, out, 3, 3, 3}, true},
        {"conv_shortcut", {out, in, 1, 1, 1}, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows) - (in == out); i++) {
        put_row(w, at, &rows[i]);
    }
}

static void put_wan_vae(struct shard_writer *w)
{
    static const struct {
        const char *at;
        int64_t in;
        int64_t out;
    } blocks[] = {
        {"encoder.down_blocks.0.", 96, 96},           {"encoder.down_blocks.1.", 96, 96},
        {"encoder.down_blocks.3.", 96, 192},          {"encoder.down_blocks.4.", 192, 192},
        {"encoder.down_blocks.6.", 192, 384},         {"encoder.down_blocks.7.", 384, 384},
        {"encoder.down_blocks.9.", 384, 384},         {"encoder.down_blocks.10.", 384, 384},
        {"encoder.mid_block.resnets.0.", 384, 384},   {"encoder.mid_block.resnets.1.", 384, 384},
        {"decoder.mid_block.resnets.0.", 384, 384},   {"decoder.mid_block.resnets.1.", 384, 384},
        {"decoder.up_blocks.0.resnets.0.", 384, 384}, {"decoder.up_blocks.0.resnets.1.", 384, 384},
        {"decoder.up_blocks.0.resnets.2.", 384, 384}, {"decoder.up_blocks.1.resnets.0.", 192, 384},
        {"decoder.up_blocks.1.resnets.1.", 384, 384}, {"decoder.up_blocks.1.resnets.2.", 384, 384},
        {"decoder.up_blocks.2.resnets.0.", 192, 192}, {"decoder.up_blocks.2.resnets.1.", 192, 192},
        {"decoder.up_blocks.2.resnets.2.", 192, 192}, {"decoder.up_blocks.3.resnets.0.", 96, 96},
        {"decoder.up_blocks.3.resnets.1.", 96, 96},   {"decoder.up_blocks.3.resnets.2.", 96, 96},
    };
    static const struct row rows[] = {
        {"encoder.conv_in", {96, 3, 3, 3, 3}, true},
        {"encoder.down_blocks.2.resample.1", {96, 96, 3, 3}, true},
        {"encoder.down_blocks.5.resample.1", {192, 192, 3, 3}, true},
        {"encoder.down_blocks.5.time_conv", {192, 192, 3, 1, 1}, true},
        {"encoder.down_blocks.8.resample.1", {384, 384, 3, 3}, true},
        {"encoder.down_blocks.8.time_conv", {384, 384, 3, 1, 1}, true},
        {"encoder.mid_block.attentions.0.norm.gamma", {384, 1, 1}, false},
        {"encoder.mid_block.attentions.0.to_qkv", {1152, 384, 1, 1}, true},
        {"encoder.mid_block.attentions.0.proj", {384, 384, 1, 1}, true},
        {"encoder.norm_out.gamma", {384, 1, 1, 1}, false},
        {"encoder.conv_out", {32, 384, 3, 3, 3}, true},
        {"quant_conv", {32, 32, 1, 1, 1}, true},
        {"post_quant_conv", {16, 16, 1, 1, 1}, true},
        {"decoder.conv_in", {384, 16, 3, 3, 3}, true},
        {"decoder.mid_block.attentions.0.norm.gamma", {384, 1, 1}, false},
        {"decoder.mid_block.attentions.0.to_qkv", {1152, 384, 1, 1}, true},
        {"decoder.mid_block.attentions.0.proj", {384, 384, 1, 1}, true},
        {"decoder.up_blocks.0.upsamplers.0.resample.1", {192, 384, 3, 3}, true},
        {"decoder.up_blocks.0.upsamplers.0.time_conv", {768, 384, 3, 1, 1}, true},
        {"decoder.up_blocks.1.upsamplers.0.resample.1", {192, 384, 3, 3}, true},
        {"decoder.up_blocks.1.upsamplers.0.time_conv", {768, 384, 3, 1, 1}, true},
        {"decoder.up_blocks.2.upsamplers.0.resample.1", {96, 192, 3, 3}, true},
        {"decoder.norm_out.gamma", {96, 1, 1, 1}, false},
        {"decoder.conv_out", {3, 96, 3, 3, 3}, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        put_wan_block(w, blocks[i].at, blocks[i].in, blocks[i].out);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put_row(w, "", &rows[i]);
    }
}

static void put_ltx2_vae(struct shard_writer *w)
{
    static const struct {
        const char *at;
        int n;
        int64_t width;
    } blocks[] = {
        {"encoder.down_blocks.0", 4, 128}, {"encoder.down_blocks.1", 6, 256},
        {"encoder.down_blocks.2", 6, 512}, {"encoder.down_blocks.3", 2, 1024},
        {"encoder.mid_block", 2, 2048},    {"decoder.mid_block", 5, 1024},
        {"decoder.up_blocks.0", 5, 512},   {"decoder.up_blocks.1", 5, 256},
        {"decoder.up_blocks.2", 5, 128},
    };
    static const struct row rows[] = {
        {"latents_mean", {128}, false},
        {"latents_std", {128}, false},
        {"encoder.conv_in.conv", {128, 48, 3, 3, 3}, true},
        {"encoder.down_blocks.0.downsamplers.0.conv.conv", {64, 128, 3, 3, 3}, true},
        {"encoder.down_blocks.1.downsamplers.0.conv.conv", {256, 256, 3, 3, 3}, true},
        {"encoder.down_blocks.2.downsamplers.0.conv.conv", {128, 512, 3, 3, 3}, true},
        {"encoder.down_blocks.3.downsamplers.0.conv.conv", {256, 1024, 3, 3, 3}, true},
        {"encoder.conv_out.conv", {129, 2048, 3, 3, 3}, true},
        {"decoder.conv_in.conv", {1024, 128, 3, 3, 3}, true},
        {"decoder.up_blocks.0.upsamplers.0.conv.conv", {4096, 1024, 3, 3, 3}, true},
        {"decoder.up_blocks.1.upsamplers.0.conv.conv", {2048, 512, 3, 3, 3}, true},
        {"decoder.up_blocks.2.upsamplers.0.conv.conv", {1024, 256, 3, 3, 3}, true},
        {"decoder.conv_out.conv", {48, 128, 3, 3, 3}, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        for (int k = 0; k < 2 * blocks[i].n; k++) {
            char name[128];
            struct row row = {name, {blocks[i].width, blocks[i].width, 3, 3, 3}, true};

            snprintf(name, sizeof(name), "%s.resnets.%d.conv%d.conv", blocks[i].at, k / 2,
                     1 + k % 2);
            put_row(w, "", &row);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put_row(w, "", &rows[i]);
    }
}

static void write_text(const char *dir, const char *file, const char *text)
{
    files_write(files_path(dir, file), text, strlen(text));
}

static void write_index(const char *dir, const char *transformer, const char *vae)
{
    char text[1024];

    snprintf(text, sizeof(text),
             "{\"_class_name\":\"SanaVideoPipeline\",\"_diffusers_version\":\"0.36.0.dev0\","
             "\"scheduler\":[\"diffusers\",\"DPMSolverMultistepScheduler\"],"
             "\"text_encoder\":[\"transformers\",\"Gemma2Model\"],"
             "\"tokenizer\":[\"transformers\",\"GemmaTokenizerFast\"],"
             "\"transformer\":[\"diffusers\",\"%s\"],\"vae\":[\"diffusers\",\"%s\"]}",
             transformer, vae);
    write_text(dir, "model_index.json", text);
}

static void write_transformer_config(const char *dir, const char *class_name, int channels,
                                     int patch, int sample_size)
{
    char text[2048];

    snprintf(text, sizeof(text),
             "{\"_class_name\":\"%s\",\"_diffusers_version\":\"0.36.0.dev0\","
             "\"attention_bias\":false,\"attention_head_dim\":112,\"caption_channels\":2304,"
             "\"cross_attention_dim\":2240,\"cross_attention_head_dim\":112,\"dropout\":0.0,"
             "\"guidance_embeds\":false,\"guidance_embeds_scale\":0.1,\"in_channels\":%d,"
             "\"interpolation_scale\":null,\"mlp_ratio\":3.0,\"norm_elementwise_affine\":false,"
             "\"norm_eps\":1e-06,\"num_attention_heads\":20,\"num_cross_attention_heads\":20,"
             "\"num_layers\":20,\"out_channels\":%d,\"patch_size\":[1,%d,%d],"
             "\"qk_norm\":\"rms_norm_across_heads\",\"rope_max_seq_len\":1024,"
             "\"sample_size\":%d}",
             class_name, channels, channels, patch, patch, sample_size);
    write_text(dir, "transformer/config.json", text);
}

static void write_gemma2_config(const char *dir)
{
    struct str s;

    str_init(&s, 1 << 16);
    str_add(&s, "{\"architectures\":[\"Gemma2Model\"],\"attention_bias\":false,"
                "\"attention_dropout\":0.0,\"attn_logit_softcapping\":50.0,\"bos_token_id\":2,"
                "\"cache_implementation\":\"hybrid\",\"eos_token_id\":[1,107],"
                "\"final_logit_softcapping\":30.0,\"head_dim\":256,"
                "\"hidden_act\":\"gelu_pytorch_tanh\",\"hidden_activation\":\"gelu_pytorch_tanh\","
                "\"hidden_size\":2304,\"initializer_range\":0.02,\"intermediate_size\":9216,"
                "\"max_position_embeddings\":8192,\"model_type\":\"gemma2\","
                "\"num_attention_heads\":8,\"num_hidden_layers\":26,\"num_key_value_heads\":4,"
                "\"pad_token_id\":0,\"query_pre_attn_scalar\":256,\"rms_norm_eps\":1e-06,"
                "\"rope_theta\":10000.0,\"sliding_window\":4096,\"torch_dtype\":\"bfloat16\","
                "\"vocab_size\":256000,\"layer_types\":[");
    for (int i = 0; i < 26; i++) {
        str_addf(&s, "%s\"%s\"", i ? "," : "", i % 2 ? "full_attention" : "sliding_attention");
    }
    EXPECT(str_add(&s, "]}"));
    write_text(dir, "text_encoder/config.json", str_get(&s));
    str_done(&s);
}

/* As published with Wan 2.1, before the class got its later keys. */
static const char wan_config[] =
    "{\"_class_name\":\"AutoencoderKLWan\",\"_diffusers_version\":\"0.33.0.dev0\","
    "\"attn_scales\":[],\"base_dim\":96,\"dim_mult\":[1,2,4,4],\"dropout\":0.0,"
    "\"latents_mean\":[-0.7571,-0.7089,-0.9113,0.1075,-0.1745,0.9653,-0.1517,1.5508,0.4134,"
    "-0.0715,0.5517,-0.3632,-0.1922,-0.9497,0.2503,-0.2921],"
    "\"latents_std\":[2.8184,1.4541,2.3275,2.6558,1.2196,1.7708,2.6052,2.0743,3.2687,2.1526,"
    "2.8652,1.5579,1.6382,1.1253,2.8251,1.916],"
    "\"num_res_blocks\":2,\"temperal_downsample\":[false,true,true],\"z_dim\":16}";

static const char ltx2_config[] =
    "{\"_class_name\":\"AutoencoderKLLTX2Video\",\"_name_or_path\":\"Lightricks/LTX-2\","
    "\"block_out_channels\":[256,512,1024,2048],"
    "\"decoder_block_out_channels\":[256,512,1024],\"decoder_causal\":false,"
    "\"decoder_inject_noise\":[false,false,false,false],\"decoder_layers_per_block\":[5,5,5,5],"
    "\"decoder_spatial_padding_mode\":\"reflect\","
    "\"decoder_spatio_temporal_scaling\":[true,true,true],\"decoder_upsample_type\":null,"
    "\"down_block_types\":[\"LTX2VideoDownBlock3D\",\"LTX2VideoDownBlock3D\","
    "\"LTX2VideoDownBlock3D\",\"LTX2VideoDownBlock3D\"],"
    "\"downsample_type\":[\"spatial\",\"temporal\",\"spatiotemporal\",\"spatiotemporal\"],"
    "\"encoder_causal\":true,\"encoder_spatial_padding_mode\":\"zeros\",\"in_channels\":3,"
    "\"latent_channels\":128,\"layers_per_block\":[4,6,6,2,2],\"out_channels\":3,"
    "\"patch_size\":4,\"patch_size_t\":1,\"resnet_norm_eps\":1e-06,\"scaling_factor\":1.0,"
    "\"spatial_compression_ratio\":32,\"spatio_temporal_scaling\":[true,true,true,true],"
    "\"temporal_compression_ratio\":8,\"timestep_conditioning\":false,"
    "\"upsample_factor\":[2,2,2],\"upsample_residual\":[true,true,true]}";

static void write_shared(const char *dir, const char *transformer, const char *vae)
{
    static const char *const folders[] = {"scheduler", "tokenizer", "text_encoder", "transformer",
                                          "vae"};
    struct shard_writer gemma2 = {.stem = "model",
                                  .dtype = "BF16",
                                  .element_bytes = 2,
                                  .max_bytes = 5000000000,
                                  .n_shards = 2};
    size_t len;
    char *data;
    char path[512];

    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof(path), "%s/%s", strrchr(dir, '/') + 1, folders[i]);
        files_dir(path);
    }
    write_index(dir, transformer, vae);
    data = files_read("tests/golden/tiny-480p/scheduler/scheduler_config.json", &len);
    files_write(files_path(dir, "scheduler/scheduler_config.json"), data, len);
    free(data);
    data = files_read("tests/golden/tiny-480p/tokenizer/tokenizer.model", &len);
    files_write(files_path(dir, "tokenizer/tokenizer.model"), data, len);
    free(data);
    write_gemma2_config(dir);
    gemma2.dir = files_path(dir, "text_encoder");
    shards_begin(&gemma2);
    put_gemma2(&gemma2);
    shards_end(&gemma2);
    EXPECT_INT(gemma2.n_tensors, 2 + 26 * 11);
}

/* 480p and LongSANA: an f32 transformer in two shards of at most 5 GB, the Wan VAE in one file. */
static const char *write_wan_model(const char *name, const char *transformer)
{
    const char *dir = files_dir(name);
    struct shard_writer w = {.stem = "diffusion_pytorch_model",
                             .dtype = "F32",
                             .element_bytes = 4,
                             .max_bytes = 5000000000,
                             .n_shards = 2};

    write_shared(dir, transformer, "AutoencoderKLWan");
    write_transformer_config(dir, transformer, 16, 2, 30);
    write_text(dir, "vae/config.json", wan_config);
    w.dir = files_path(dir, "transformer");
    shards_begin(&w);
    put_transformer(&w, 16, 2);
    shards_end(&w);
    EXPECT_INT(w.n_tensors, 496);
    w.dir = files_path(dir, "vae");
    w.n_shards = 1;
    shards_begin(&w);
    put_wan_vae(&w);
    shards_end(&w);
    return dir;
}

/* 720p: a bf16 transformer in shards, the LTX-2 VAE with its two buffers in one file. */
static const char *write_ltx2_model(void)
{
    const char *dir = files_dir("published-720p");
    struct shard_writer w = {.stem = "diffusion_pytorch_model",
                             .dtype = "BF16",
                             .element_bytes = 2,
                             .max_bytes = 2500000000,
                             .n_shards = 2};

    write_shared(dir, "SanaVideoTransformer3DModel", "AutoencoderKLLTX2Video");
    write_transformer_config(dir, "SanaVideoTransformer3DModel", 128, 1, 22);
    write_text(dir, "vae/config.json", ltx2_config);
    w.dir = files_path(dir, "transformer");
    shards_begin(&w);
    put_transformer(&w, 128, 1);
    shards_end(&w);
    EXPECT_INT(w.n_tensors, 496);
    w = (struct shard_writer){.dir = files_path(dir, "vae"),
                              .stem = "diffusion_pytorch_model",
                              .dtype = "F32",
                              .element_bytes = 4,
                              .max_bytes = 5000000000,
                              .n_shards = 1};
    shards_begin(&w);
    put_ltx2_vae(&w);
    shards_end(&w);
    return dir;
}

static void expect_complete(const struct model_report *report)
{
    for (int i = 0; i < PART_COUNT; i++) {
        const struct part_report *part = &report->part[i];

        if (part->n_listed > 0) {
            test_fail(__FILE__, __LINE__, "%s %s: %s %s", part->name,
                      model_finding_name(part->findings[0].kind), part->findings[0].name,
                      part->findings[0].text);
        }
        EXPECT_INT(part->n_tensors, part->n_expected);
    }
    EXPECT(report->complete);
}

/* Opens and inspects a directory that is as published; the caller compares counts. */
static void inspect_published(const char *path, enum model_family family, struct model_dir **dir,
                              struct model_report *report)
{
    struct err err = {0};

    EXPECT_OK(model_dir_open(dir, path, &err));
    EXPECT_INT((*dir)->family, family);
    EXPECT_OK(model_inspect(*dir, report, &err));
    expect_complete(report);
    EXPECT_INT(report->part[PART_TEXT_ENCODER].n_parameters, 2614341888);
    EXPECT_INT(report->part[PART_TEXT_ENCODER].bytes, 2 * 2614341888);
    EXPECT_INT(report->part[PART_TEXT_ENCODER].n_of_dtype[DTYPE_BF16], 288);
    EXPECT_INT(report->part[PART_TRANSFORMER].n_tensors, 496);
}

static void check_wan_model(const char *name, const char *transformer, enum model_family family)
{
    struct model_report report;
    struct model_dir *dir = NULL;

    inspect_published(write_wan_model(name, transformer), family, &dir, &report);
    EXPECT_INT(report.part[PART_TRANSFORMER].n_parameters, 2056862144);
    EXPECT_INT(report.part[PART_TRANSFORMER].bytes, 4 * INT64_C(2056862144));
    EXPECT_INT(report.part[PART_TRANSFORMER].n_of_dtype[DTYPE_F32], 496);
    /* 53 596 928 of the encoder with quant_conv, 73 295 603 of the decoder with post_quant_conv */
    EXPECT_INT(report.part[PART_VAE].n_parameters, 126892531);
    EXPECT_INT(report.part[PART_VAE].n_tensors, 194);
    EXPECT_INT(report.n_parameters, INT64_C(2056862144) + 2614341888 + 126892531);
    EXPECT_INT(dir->vae.wan.decoder_base_dim, 96);
    EXPECT_INT(dir->vae.stride_t, 4);
    EXPECT_INT(dir->vae.stride_s, 8);
    EXPECT_INT(dir->transformer.mlp_hidden, 6720);
    EXPECT_INT(dir->defaults.n_sizes, 11);
    model_report_done(&report);
    model_dir_close(dir);
}

TEST(model_inspect_accepts_the_published_480p_directory)
{
    check_wan_model("published-480p", "SanaVideoTransformer3DModel", FAMILY_SANA_VIDEO_WAN);
}

TEST(model_inspect_accepts_the_published_longsana_directory)
{
    check_wan_model("published-long", "SanaVideoCausalTransformer3DModel", FAMILY_LONGSANA);
}

TEST(model_inspect_accepts_the_published_720p_directory)
{
    struct model_report report;
    struct model_dir *dir = NULL;

    inspect_published(write_ltx2_model(), FAMILY_SANA_VIDEO_LTX2, &dir, &report);
    EXPECT_INT(report.part[PART_TRANSFORMER].n_parameters, 2057148928);
    EXPECT_INT(report.part[PART_TRANSFORMER].bytes, 2 * INT64_C(2057148928));
    /* 694 098 881 of the encoder, 528 380 720 of the decoder, 2 buffers of 128 */
    EXPECT_INT(report.part[PART_VAE].n_parameters, 1222479601 + 256);
    EXPECT_INT(dir->vae.stride_t, 8);
    EXPECT_INT(dir->vae.stride_s, 32);
    EXPECT_INT(dir->defaults.width, 1280);
    EXPECT_INT(dir->defaults.n_sizes, 11);
    model_report_done(&report);
    model_dir_close(dir);
}

static void check_golden(const char *path, const size_t n[PART_COUNT], int64_t parameters)
{
    struct model_report report;
    struct model_dir *dir = NULL;
    struct err err = {0};

    EXPECT_OK(model_dir_open(&dir, path, &err));
    EXPECT_OK(model_inspect(dir, &report, &err));
    expect_complete(&report);
    EXPECT_INT(report.n_parameters, parameters);
    for (int p = 0; p < PART_COUNT; p++) {
        EXPECT_INT(report.part[p].n_tensors, n[p]);
    }
    model_report_done(&report);
    model_dir_close(dir);
}

TEST(model_inspect_accepts_the_golden_directories)
{
    static const size_t wan[PART_COUNT] = {88, 46, 194};
    static const size_t ltx2[PART_COUNT] = {64, 57, 60};

    check_golden("tests/golden/tiny-480p", wan, 1684131);
    check_golden("tests/golden/tiny-720p", ltx2, 3008829);
    check_golden("tests/golden/tiny-long", wan, 1405443);
}

static const struct finding *find_finding(const struct part_report *part, const char *name)
{
    for (size_t i = 0; i < part->n_listed; i++) {
        if (strcmp(part->findings[i].name, name) == 0) {
            return &part->findings[i];
        }
    }
    test_fail(__FILE__, __LINE__, "no finding about %s", name);
}

/* tiny-480p with three things wrong with its transformer. */
static struct model_dir *open_damaged(void)
{
    const char *path = files_path(test_dir(), "damaged");
    const char *weights = files_path(path, "transformer/diffusion_pytorch_model.safetensors");
    struct model_dir *dir = NULL;
    struct err err = {0};

    if (model_dir_open(&dir, path, &err) != ERR_OK) {
        files_copy_dir("tests/golden/tiny-480p", path);
        files_replace(weights, "\"caption_norm.weight\"", "\"caption_norm.wait\"  ");
        files_replace(weights,
                      "caption_projection.linear_1.weight\":{\"dtype\":\"F32\",\"shape\":"
                      "[80,72]",
                      "caption_projection.linear_1.weight\":{\"dtype\":\"F32\",\"shape\":[72,80]");
        files_replace(weights, "\"patch_embedding.bias\":{\"dtype\":\"F32\"",
                      "\"patch_embedding.bias\":{\"dtype\":\"I32\"");
        EXPECT_OK(model_dir_open(&dir, path, &err));
    }
    return dir;
}

TEST(model_inspect_names_what_is_missing_wrong_and_unexpected)
{
    struct model_dir *dir = open_damaged();
    const struct part_report *part;
    const struct finding *f;
    struct model_report report;
    struct err err = {0};

    EXPECT_OK(model_inspect(dir, &report, &err));
    part = &report.part[PART_TRANSFORMER];
    EXPECT(!report.complete);
    EXPECT_INT(part->n_listed, 4);
    EXPECT_INT(part->n_expected, 88);
    f = find_finding(part, "caption_norm.weight");
    EXPECT_INT(f->kind, FINDING_MISSING);
    EXPECT_STR(f->text, "expected [80]");
    f = find_finding(part, "caption_norm.wait");
    EXPECT_INT(f->kind, FINDING_UNEXPECTED);
    EXPECT_STR(f->text, "F32[80]");
    f = find_finding(part, "caption_projection.linear_1.weight");
    EXPECT_INT(f->kind, FINDING_WRONG_SHAPE);
    EXPECT_STR(f->text, "is F32[72, 80], expected F32[80, 72]");
    f = find_finding(part, "patch_embedding.bias");
    EXPECT_INT(f->kind, FINDING_WRONG_TYPE);
    EXPECT_STR(f->text, "is I32[80], expected F32, BF16 or F16");
    EXPECT_INT(part->n_parameters, 492304 - 80 - 80 * 72 - 80);
    EXPECT_INT(part->n_of_dtype[DTYPE_I32], 1);
    EXPECT_INT(report.part[PART_VAE].n_listed, 0);
    model_report_done(&report);
    model_dir_close(dir);
}

TEST(model_inspect_tolerates_unexpected_tensors)
{
    const char *path = files_path(test_dir(), "extra");
    struct model_report report;
    struct model_dir *dir = NULL;
    struct err err = {0};

    files_copy_dir("tests/golden/tiny-480p", path);
    files_replace(files_path(path, "text_encoder/config.json"), "\"num_hidden_layers\": 4",
                  "\"num_hidden_layers\": 3");
    EXPECT_OK(model_dir_open(&dir, path, &err));
    EXPECT_OK(model_inspect(dir, &report, &err));
    EXPECT(report.complete);
    EXPECT_INT(report.part[PART_TEXT_ENCODER].n_findings[FINDING_UNEXPECTED], 11);
    EXPECT_INT(report.part[PART_TEXT_ENCODER].n_listed, 11);
    model_report_done(&report);
    model_dir_close(dir);
}

TEST(model_inspect_lists_a_bounded_number_and_counts_all)
{
    const char *path = files_path(test_dir(), "deep");
    struct model_report report;
    struct model_dir *dir = NULL;
    struct err err = {0};
    char *text = NULL;
    size_t len = 0;
    FILE *out;

    files_copy_dir("tests/golden/tiny-480p", path);
    files_replace(files_path(path, "transformer/config.json"), "\"num_layers\": 3",
                  "\"num_layers\": 503");
    EXPECT_OK(model_dir_open(&dir, path, &err));
    EXPECT_OK(model_inspect(dir, &report, &err));
    EXPECT_INT(report.part[PART_TRANSFORMER].n_findings[FINDING_MISSING], 500 * 24);
    EXPECT_INT(report.part[PART_TRANSFORMER].n_listed, REPORT_MAX_FINDINGS);
    out = open_memstream(&text, &len);
    EXPECT(out);
    model_report_print(&report, out);
    fclose(out);
    EXPECT_CONTAINS(text, "... and 11936 more in transformer");
    free(text);
    model_report_done(&report);
    model_dir_close(dir);
}

TEST(model_report_prints_for_people_and_for_programs)
{
    struct model_dir *dir = open_damaged();
    struct model_report report;
    struct err err = {0};
    struct str s;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    cJSON *json;
    const cJSON *parts;
    int lines = 0;

    EXPECT(out);
    EXPECT_OK(model_inspect(dir, &report, &err));
    model_report_print(&report, out);
    fflush(out);
    EXPECT_CONTAINS(text, "SANA-Video (Wan 2.1 VAE)");
    EXPECT_CONTAINS(text, "missing: transformer: caption_norm.weight: expected [80]");
    EXPECT_CONTAINS(text, "87 F32, 1 I32");
    EXPECT_CONTAINS(text, "complete      no");
    rewind(out);
    model_report_print_tensors(&report, out);
    fclose(out);
    EXPECT_CONTAINS(text, "vae decoder.conv_in.weight F32[32, 16, 3, 3, 3]\n");
    for (size_t i = 0; i < len; i++) {
        lines += text[i] == '\n';
    }
    EXPECT_INT(lines, 88 + 46 + 194);
    free(text);

    str_init(&s, 1 << 16);
    EXPECT_OK(model_report_json(&report, &s, &err));
    json = cJSON_Parse(str_get(&s));
    EXPECT(json);
    EXPECT(cJSON_IsFalse(cJSON_GetObjectItem(json, "complete")));
    parts = cJSON_GetObjectItem(json, "parts");
    EXPECT_INT(cJSON_GetArraySize(parts), 3);
    EXPECT_INT(cJSON_GetArraySize(cJSON_GetObjectItem(parts->child, "findings")), 4);
    EXPECT_INT(cJSON_GetObjectItem(parts->child, "missing")->valuedouble, 1);
    EXPECT_STR(cJSON_GetObjectItem(parts->child->next, "name")->valuestring, "text_encoder");
    cJSON_Delete(json);
    str_done(&s);

    str_init(&s, 100);
    EXPECT_INT(model_report_json(&report, &s, &err), ERR_NO_MEMORY);
    str_done(&s);
    model_report_done(&report);
    model_dir_close(dir);
}

static bool stop_at_third(void *ctx, const char *name, int rank, const int64_t *dims)
{
    int *n = ctx;

    EXPECT(name[0] && rank > 0 && dims[0] > 0);
    return ++*n < 3;
}

TEST(model_expect_stops_when_told)
{
    struct model_dir *dir = NULL;
    struct err err = {0};
    int n = 0;

    EXPECT_OK(model_dir_open(&dir, "tests/golden/tiny-720p", &err));
    EXPECT(!model_expect_transformer(&dir->transformer, stop_at_third, &n));
    EXPECT_INT(n, 3);
    n = 0;
    EXPECT(!model_expect_gemma2(&dir->text_encoder, stop_at_third, &n));
    EXPECT_INT(n, 3);
    n = 0;
    EXPECT(!model_expect_vae(&dir->vae, stop_at_third, &n));
    EXPECT_INT(n, 3);
    model_dir_close(dir);
}

TEST(model_inspect_survives_every_failed_allocation)
{
    struct model_dir *dir = open_damaged();
    struct err err = {0};
    long n;
    int rc;

    for (n = 1;; n++) {
        struct model_report report;
        struct str s;

        str_init(&s, 1 << 16);
        alloc_fail_at(n);
        rc = model_inspect(dir, &report, &err);
        if (rc == ERR_OK) {
            rc = model_report_json(&report, &s, &err);
            model_report_done(&report);
        }
        str_done(&s);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
    EXPECT(n > 5);
    model_dir_close(dir);
}
