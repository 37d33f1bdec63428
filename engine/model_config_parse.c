/*
 * model_config_parse.c - transformer, text encoder and scheduler configurations; the VAEs' are in
 * model_config_vae.c.
 *
 * Unknown keys are passed over, because published configurations have many. A key that would change
 * what is computed is looked at, and refused when it asks for what is not implemented.
 * Ranges are wide enough for any plausible relative of the published models and narrow enough that
 * products of a few of them stay far from 2^63.
 */
#include <math.h>
#include <string.h>

#include "engine/json_read.h"
#include "engine/model_config_internal.h"
#include "engine/model_dir.h"

/* The longest rows op_matmul takes are 131072. */
enum {
    MAX_WIDTH = 32768,
    MAX_ROW = 131072
};

int config_open(struct config *c, const char *text, size_t len, const char *file, struct err *err)
{
    const int rc = json_parse_object(&c->root, text, len, CONFIG_MAX_VALUES, file, err);

    if (rc == ERR_OK) {
        json_fields_init(&c->f, c->root, file, err);
    }
    return rc;
}

int config_close(struct config *c)
{
    cJSON_Delete(c->root);
    c->root = NULL;
    return c->f.rc;
}

void config_refuse_true(struct json_fields *f, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (json_bool_or(f, keys[i], false)) {
            json_fields_fail(f, ERR_UNSUPPORTED, keys[i], "true is not supported");
        }
    }
}

void config_refuse_value(struct json_fields *f, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (json_find(f, keys[i])) {
            json_fields_fail(f, ERR_UNSUPPORTED, keys[i], "only null is supported");
        }
    }
}

void config_want_text(struct json_fields *f, const char *key, const char *def, const char *want)
{
    const char *text = json_text_or(f, key, def);

    if (strcmp(text, want) != 0) {
        json_fields_fail(f, ERR_UNSUPPORTED, key, "'%.64s' is not supported, only '%s'", text,
                         want);
    }
}

void config_want_int(struct json_fields *f, const char *key, int64_t def, int64_t want)
{
    const int64_t value = json_int_or(f, key, -JSON_MAX_INT, JSON_MAX_INT, def);

    if (value != want) {
        json_fields_fail(f, ERR_UNSUPPORTED, key, "%lld is not supported, only %lld",
                         (long long)value, (long long)want);
    }
}

/* [1, p, p] */
static int64_t parse_patch_size(struct json_fields *f)
{
    const struct json_list limits = {.min_n = 3, .max_n = 3, .min = 1, .max = 16};
    int64_t patch[3];

    json_int_list(f, "patch_size", &limits, patch);
    if (patch[0] != 1 || patch[1] != patch[2]) {
        json_fields_fail(f, ERR_UNSUPPORTED, "patch_size",
                         "[%lld, %lld, %lld] is not supported, only [1, p, p]", (long long)patch[0],
                         (long long)patch[1], (long long)patch[2]);
    }
    return patch[1];
}

/* What the 2B models of the family share and the code relies on. */
static void check_transformer_options(struct json_fields *f)
{
    static const char *const bools[] = {"attention_bias", "norm_elementwise_affine",
                                        "guidance_embeds"};
    static const char *const values[] = {"interpolation_scale"};
    const cJSON *qk_norm = cJSON_GetObjectItemCaseSensitive(f->object, "qk_norm");

    config_refuse_true(f, bools, ARRAY_LEN(bools));
    config_refuse_value(f, values, ARRAY_LEN(values));
    config_want_text(f, "qk_norm", "rms_norm_across_heads", "rms_norm_across_heads");
    if (cJSON_IsNull(qk_norm)) { /* null is "no norm", not "missing" */
        json_fields_fail(f, ERR_UNSUPPORTED, "qk_norm",
                         "null is not supported, only 'rms_norm_across_heads'");
    }
}

static void check_transformer_widths(struct json_fields *f, const struct transformer_config *c,
                                     double mlp_ratio)
{
    const int64_t width = c->heads * c->head_dim;

    if (c->head_dim % 2 != 0) {
        json_fields_fail(f, ERR_UNSUPPORTED, "attention_head_dim", "%lld is odd",
                         (long long)c->head_dim);
    }
    if (width > MAX_WIDTH) {
        json_fields_fail(f, ERR_FORMAT, "attention_head_dim", "width %lld, the limit is %d",
                         (long long)width, MAX_WIDTH);
    }
    if (c->cross_heads * c->cross_head_dim != width) {
        json_fields_fail(f, ERR_FORMAT, "num_cross_attention_heads",
                         "%lld heads of %lld are not the width, %lld", (long long)c->cross_heads,
                         (long long)c->cross_head_dim, (long long)width);
    }
    if (json_int_or(f, "cross_attention_dim", 1, MAX_WIDTH, width) != width) {
        json_fields_fail(f, ERR_UNSUPPORTED, "cross_attention_dim", "it is not the width, %lld",
                         (long long)width);
    }
    if (!(mlp_ratio * (double)width >= 1 && mlp_ratio * (double)width <= MAX_ROW)) {
        json_fields_fail(f, ERR_FORMAT, "mlp_ratio", "a hidden width of %g, the limit is %d",
                         mlp_ratio * (double)width, MAX_ROW);
    }
}

int model_parse_transformer(struct transformer_config *ret, const char *text, size_t len,
                            const char *file, struct err *err)
{
    struct transformer_config t = {0};
    struct config c;
    struct json_fields *f = &c.f;
    const char *class_name;
    double mlp_ratio;
    int rc = config_open(&c, text, len, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    class_name = json_text(f, "_class_name");
    t.causal = strcmp(class_name, "SanaVideoCausalTransformer3DModel") == 0;
    if (!t.causal && strcmp(class_name, "SanaVideoTransformer3DModel") != 0) {
        json_fields_fail(f, ERR_UNSUPPORTED, "_class_name",
                         "'%.64s' is not supported, only SanaVideoTransformer3DModel and "
                         "SanaVideoCausalTransformer3DModel",
                         class_name);
    }
    check_transformer_options(f);
    t.in_channels = json_int(f, "in_channels", 1, VAE_MAX_CHANNELS);
    t.out_channels = json_int_or(f, "out_channels", 1, MAX_WIDTH, t.in_channels);
    if (t.out_channels != t.in_channels) {
        json_fields_fail(f, ERR_UNSUPPORTED, "out_channels", "%lld, not as many as in_channels",
                         (long long)t.out_channels);
    }
    t.heads = json_int(f, "num_attention_heads", 1, 1024);
    t.head_dim = json_int(f, "attention_head_dim", 6, 1024); /* at least 2 for each axis */
    t.layers = json_int(f, "num_layers", 1, 512);
    t.cross_heads = json_int(f, "num_cross_attention_heads", 1, 1024);
    t.cross_head_dim = json_int(f, "cross_attention_head_dim", 1, 1024);
    t.caption_channels = json_int(f, "caption_channels", 1, MAX_WIDTH);
    t.patch_size = parse_patch_size(f);
    t.sample_size = cJSON_HasObjectItem(c.root, "sample_size")
                        ? json_int_or(f, "sample_size", 1, 65536, 0)
                        : 30; /* null means none, missing means the class's default */
    t.norm_eps = (float)json_real_or(f, "norm_eps", 1e-12, 1e-2, 1e-6);
    mlp_ratio = json_real(f, "mlp_ratio", 1e-3, 1024);
    check_transformer_widths(f, &t, mlp_ratio);
    if (f->rc == ERR_OK) {
        t.mlp_hidden = (int64_t)(mlp_ratio * (double)(t.heads * t.head_dim));
        *ret = t;
    }
    return config_close(&c);
}

/* Newer configurations spell out what Gemma 2 always is: even layers sliding, odd layers full. */
static void check_layer_types(struct json_fields *f, int64_t layers)
{
    const cJSON *types = json_find(f, "layer_types");
    const cJSON *type;
    int64_t n = 0;

    if (!types) {
        return;
    }
    for (type = types->child; type; type = type->next) {
        const char *want = n % 2 == 0 ? "sliding_attention" : "full_attention";

        if (!cJSON_IsString(type) || strcmp(type->valuestring, want) != 0) {
            json_fields_fail(f, ERR_UNSUPPORTED, "layer_types",
                             "layer %lld is not '%s'; only Gemma 2's alternation is supported",
                             (long long)n, want);
        }
        n++;
    }
    if (n != layers) {
        json_fields_fail(f, ERR_FORMAT, "layer_types", "%lld entries for %lld layers", (long long)n,
                         (long long)layers);
    }
}

/* "rope_theta", or since transformers 5 an object "rope_parameters" that holds it. */
static double parse_rope_theta(struct json_fields *f)
{
    static const char *const values[] = {"rope_scaling"};
    const cJSON *parameters = json_find(f, "rope_parameters");
    struct json_fields inner = *f;
    double theta;

    config_refuse_value(f, values, ARRAY_LEN(values));
    if (!cJSON_IsObject(parameters)) {
        return json_real_or(f, "rope_theta", 1, 1e9, 10000);
    }
    inner.object = parameters;
    config_want_text(&inner, "rope_type", "default", "default");
    theta = json_real(&inner, "rope_theta", 1, 1e9);
    if (f->rc == ERR_OK) {
        f->rc = inner.rc;
    }
    return theta;
}

int model_parse_gemma2(struct gemma2_config *ret, const char *text, size_t len, const char *file,
                       struct err *err)
{
    static const char *const bools[] = {"attention_bias"};
    static const char *const gelu = "gelu_pytorch_tanh";
    struct gemma2_config g = {0};
    struct config c;
    struct json_fields *f = &c.f;
    int rc = config_open(&c, text, len, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    config_want_text(f, "model_type", "missing", "gemma2");
    config_want_text(f, "hidden_activation", gelu, gelu);
    config_refuse_true(f, bools, ARRAY_LEN(bools));
    g.vocab_size = json_int(f, "vocab_size", 1, 1 << 20);
    g.hidden_size = json_int(f, "hidden_size", 1, MAX_WIDTH);
    g.intermediate_size = json_int(f, "intermediate_size", 1, MAX_ROW);
    g.layers = json_int(f, "num_hidden_layers", 1, 512);
    g.heads = json_int(f, "num_attention_heads", 1, 1024);
    g.kv_heads = json_int(f, "num_key_value_heads", 1, 1024);
    g.head_dim = json_int(f, "head_dim", 2, 1024);
    g.query_pre_attn_scalar = json_real(f, "query_pre_attn_scalar", 1e-3, 1e6);
    g.attn_logit_softcapping = json_real_or(f, "attn_logit_softcapping", 0, 1e6, 0);
    g.sliding_window = json_int(f, "sliding_window", 1, 1 << 30);
    g.rope_theta = parse_rope_theta(f);
    g.rms_norm_eps = json_real_or(f, "rms_norm_eps", 1e-12, 1e-2, 1e-6);
    check_layer_types(f, g.layers);
    if (g.heads % g.kv_heads != 0) {
        json_fields_fail(f, ERR_FORMAT, "num_key_value_heads", "%lld does not divide %lld heads",
                         (long long)g.kv_heads, (long long)g.heads);
    }
    if (g.head_dim % 2 != 0) {
        json_fields_fail(f, ERR_FORMAT, "head_dim", "%lld is odd", (long long)g.head_dim);
    }
    if (g.heads * g.head_dim > MAX_ROW) {
        json_fields_fail(f, ERR_FORMAT, "head_dim", "%lld heads of %lld, the limit is %d in all",
                         (long long)g.heads, (long long)g.head_dim, MAX_ROW);
    }
    if (f->rc == ERR_OK) {
        *ret = g;
    }
    return config_close(&c);
}

/* Options of all three that change the sigmas or the step. */
static void check_sigma_options(struct json_fields *f)
{
    static const char *const bools[] = {
        "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",        "use_lu_lambdas",
        "thresholding",      "use_dynamic_shifting",   "rescale_betas_zero_snr",
    };
    static const char *const values[] = {"shift_terminal", "sigma_min", "sigma_max"};

    config_refuse_true(f, bools, ARRAY_LEN(bools));
    config_refuse_value(f, values, ARRAY_LEN(values));
}

/* The class default of use_flow_sigmas is false, so it must be there. */
static double parse_multistep(struct json_fields *f)
{
    check_sigma_options(f);
    config_want_int(f, "solver_order", 2, 2);
    config_want_text(f, "prediction_type", "epsilon", "flow_prediction");
    config_want_text(f, "final_sigmas_type", "zero", "zero");
    if (!json_bool_or(f, "use_flow_sigmas", false)) {
        json_fields_fail(f, ERR_UNSUPPORTED, "use_flow_sigmas", "only true is supported");
    }
    return json_real(f, "flow_shift", 0.1, 30);
}

static double parse_dpm(struct json_fields *f)
{
    static const char *const values[] = {"variance_type"};

    config_want_text(f, "algorithm_type", "dpmsolver++", "dpmsolver++");
    config_want_text(f, "solver_type", "midpoint", "midpoint");
    config_refuse_value(f, values, ARRAY_LEN(values));
    return parse_multistep(f);
}

static double parse_unipc(struct json_fields *f)
{
    static const char *const values[] = {"solver_p"};
    const cJSON *disabled = json_find(f, "disable_corrector");

    config_want_text(f, "solver_type", "bh2", "bh2");
    config_refuse_value(f, values, ARRAY_LEN(values));
    if (!json_bool_or(f, "predict_x0", true)) {
        json_fields_fail(f, ERR_UNSUPPORTED, "predict_x0", "only true is supported");
    }
    if (!json_bool_or(f, "lower_order_final", true)) {
        json_fields_fail(f, ERR_UNSUPPORTED, "lower_order_final", "only true is supported");
    }
    if (disabled && (!cJSON_IsArray(disabled) || disabled->child)) {
        json_fields_fail(f, ERR_UNSUPPORTED, "disable_corrector",
                         "only the empty list is supported");
    }
    return parse_multistep(f);
}

static double parse_euler(struct json_fields *f)
{
    static const char *const bools[] = {"invert_sigmas", "stochastic_sampling"};

    check_sigma_options(f);
    config_refuse_true(f, bools, ARRAY_LEN(bools));
    return json_real(f, "shift", 0.1, 30);
}

int model_parse_scheduler(struct scheduler_config *ret, const char *text, size_t len,
                          const char *file, struct err *err)
{
    static const struct {
        const char *class_name;
        enum sampler_kind kind;
        double (*parse)(struct json_fields *f); /* returns the shift */
    } classes[] = {
        {"DPMSolverMultistepScheduler", SAMPLER_DPM, parse_dpm},
        {"FlowMatchEulerDiscreteScheduler", SAMPLER_EULER, parse_euler},
        {"UniPCMultistepScheduler", SAMPLER_UNIPC, parse_unipc},
    };
    struct scheduler_config s = {0};
    struct config c;
    const char *class_name;
    bool known = false;
    int rc = config_open(&c, text, len, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    class_name = json_text(&c.f, "_class_name");
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        if (strcmp(class_name, classes[i].class_name) == 0) {
            s.kind = classes[i].kind;
            s.flow_shift = classes[i].parse(&c.f);
            known = true;
        }
    }
    if (!known) {
        json_fields_fail(&c.f, ERR_UNSUPPORTED, "_class_name",
                         "'%.64s' is not supported, only %s, %s and %s", class_name,
                         classes[0].class_name, classes[1].class_name, classes[2].class_name);
    }
    s.num_train_timesteps = json_int_or(&c.f, "num_train_timesteps", 2, 100000, 1000);
    if (c.f.rc == ERR_OK) {
        *ret = s;
    }
    return config_close(&c);
}
