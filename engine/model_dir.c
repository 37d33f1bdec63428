#include "engine/model_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/model_config_internal.h"

enum {
    MAX_PATH = 4096
};

enum file_kind {
    FILE_INDEX,
    FILE_TRANSFORMER,
    FILE_TEXT_ENCODER,
    FILE_VAE,
    FILE_SCHEDULER,
    FILE_SANAD,
};

static const char *const file_names[] = {
    [FILE_INDEX] = "model_index.json",
    [FILE_TRANSFORMER] = "transformer/config.json",
    [FILE_TEXT_ENCODER] = "text_encoder/config.json",
    [FILE_VAE] = "vae/config.json",
    [FILE_SCHEDULER] = "scheduler/scheduler_config.json",
    [FILE_SANAD] = "sanad.json",
};

static int make_path(char path[MAX_PATH], const struct model_dir *dir, const char *name,
                     struct err *err)
{
    const int n = snprintf(path, MAX_PATH, "%s/%s", dir->path, name);

    if (n < 0 || n >= MAX_PATH) {
        return err_set(err, ERR_INVALID, "path of more than %d bytes: %.100s...", MAX_PATH,
                       dir->path);
    }
    return ERR_OK;
}

/* "NAME": ["library", "Class"]; the class is one of the names given, or any. */
static const char *component_class(struct json_fields *f, const char *key, const char *const *names,
                                   size_t n)
{
    const cJSON *pair = json_find(f, key);
    const cJSON *class_item = cJSON_IsArray(pair) && pair->child ? pair->child->next : NULL;
    const char *name;

    if (!class_item || !cJSON_IsString(class_item)) {
        json_fields_fail(f, ERR_FORMAT, key, "not a pair of library and class");
        return "";
    }
    name = class_item->valuestring;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0) {
            return name;
        }
    }
    if (n > 0) {
        json_fields_fail(f, ERR_UNSUPPORTED, key, "'%.64s' is not supported, only %s", name,
                         names[0]);
    }
    return name;
}

static void copy_class(char ret[CLASS_NAME_MAX + 1], const char *name)
{
    snprintf(ret, CLASS_NAME_MAX + 1, "%s", name);
}

int model_parse_index(struct model_index *ret, const char *text, size_t len, const char *file,
                      struct err *err)
{
    static const char *const encoders[] = {"Gemma2Model", "Gemma2ForCausalLM"};
    static const char *const tokenizers[] = {"GemmaTokenizerFast", "GemmaTokenizer"};
    struct model_index index;
    struct config c;
    const char *pipeline;
    int rc = config_open(&c, text, len, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    pipeline = json_text(&c.f, "_class_name");
    if (strcmp(pipeline, "SanaVideoPipeline") != 0 &&
        strcmp(pipeline, "SanaImageToVideoPipeline") != 0) {
        json_fields_fail(&c.f, ERR_UNSUPPORTED, "_class_name",
                         "'%.64s' is not supported, only SanaVideoPipeline", pipeline);
    }
    component_class(&c.f, "text_encoder", encoders, ARRAY_LEN(encoders));
    component_class(&c.f, "tokenizer", tokenizers, ARRAY_LEN(tokenizers));
    /* The scheduler's own file decides: diffusers lets people swap it. */
    component_class(&c.f, "scheduler", NULL, 0);
    copy_class(index.transformer, component_class(&c.f, "transformer", NULL, 0));
    copy_class(index.vae, component_class(&c.f, "vae", NULL, 0));
    if (c.f.rc == ERR_OK) {
        *ret = index;
    }
    return config_close(&c);
}

/* index is for FILE_INDEX only. */
static int parse(struct model_dir *dir, struct model_index *index, enum file_kind kind,
                 const char *path, const char *text, size_t len, struct err *err)
{
    switch (kind) {
    case FILE_INDEX:
        return model_parse_index(index, text, len, path, err);
    case FILE_TRANSFORMER:
        return model_parse_transformer(&dir->transformer, text, len, path, err);
    case FILE_TEXT_ENCODER:
        return model_parse_gemma2(&dir->text_encoder, text, len, path, err);
    case FILE_VAE:
        return model_parse_vae(&dir->vae, text, len, path, err);
    case FILE_SCHEDULER:
        return model_parse_scheduler(&dir->scheduler, text, len, path, err);
    case FILE_SANAD:
        return model_parse_sanad(&dir->defaults, text, len, path, err);
    }
    CHECK_BUG(!"file kind");
}

static int read_file(struct model_dir *dir, struct model_index *index, enum file_kind kind,
                     struct err *err)
{
    char path[MAX_PATH];
    char *text = NULL;
    size_t len = 0;
    int rc = make_path(path, dir, file_names[kind], err);

    if (rc == ERR_OK) {
        rc = json_read_file(&text, &len, path, CONFIG_MAX_BYTES, err);
    }
    if (rc == ERR_OK) {
        rc = parse(dir, index, kind, path, text, len, err);
    }
    free(text);
    return rc;
}

static int read_configs(struct model_dir *dir, struct err *err)
{
    struct model_index index = {.vae = ""};
    const char *transformer;
    const char *vae;

    for (int kind = FILE_INDEX; kind <= FILE_SCHEDULER; kind++) {
        const int rc = read_file(dir, &index, (enum file_kind)kind, err);

        if (rc != ERR_OK) {
            return rc;
        }
    }
    transformer = dir->transformer.causal ? "SanaVideoCausalTransformer3DModel"
                                          : "SanaVideoTransformer3DModel";
    vae = dir->vae.kind == VAE_WAN ? "AutoencoderKLWan" : "AutoencoderKLLTX2Video";
    if (strcmp(index.transformer, transformer) != 0) {
        return err_set(err, ERR_FORMAT,
                       "%s: model_index.json names transformer %s, transformer/config.json %s",
                       dir->path, index.transformer, transformer);
    }
    if (strcmp(index.vae, vae) != 0) {
        return err_set(err, ERR_FORMAT, "%s: model_index.json names vae %s, vae/config.json %s",
                       dir->path, index.vae, vae);
    }
    return ERR_OK;
}

/* Do the components fit each other? Which member of the family are they together? */
static int check_together(struct model_dir *dir, struct err *err)
{
    const struct transformer_config *t = &dir->transformer;

    if (t->caption_channels != dir->text_encoder.hidden_size) {
        return err_set(err, ERR_FORMAT,
                       "%s: transformer/config.json: caption_channels is %lld, but "
                       "text_encoder/config.json: hidden_size is %lld",
                       dir->path, (long long)t->caption_channels,
                       (long long)dir->text_encoder.hidden_size);
    }
    if (t->in_channels != dir->vae.latent_channels) {
        return err_set(err, ERR_FORMAT,
                       "%s: transformer/config.json: in_channels is %lld, but the VAE of "
                       "vae/config.json has %lld latent channels",
                       dir->path, (long long)t->in_channels, (long long)dir->vae.latent_channels);
    }
    if (t->causal && dir->vae.kind != VAE_WAN) {
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: a block-causal transformer with the LTX-2 VAE, whose decoder is not "
                       "causal",
                       dir->path);
    }
    dir->family = t->causal                  ? FAMILY_LONGSANA
                  : dir->vae.kind == VAE_WAN ? FAMILY_SANA_VIDEO_WAN
                                             : FAMILY_SANA_VIDEO_LTX2;
    return ERR_OK;
}

/* The family's id says "2b"; a model of another size is called after its folder. */
static void name_after_folder(struct model_dir *dir)
{
    const struct transformer_config *t = &dir->transformer;
    size_t end = strlen(dir->path);
    size_t start;
    size_t n = 0;

    if (t->heads * t->head_dim == 2240 && t->layers == 20) {
        return;
    }
    while (end > 1 && dir->path[end - 1] == '/') {
        end--;
    }
    start = end;
    while (start > 0 && dir->path[start - 1] != '/') {
        start--;
    }
    for (size_t i = start; i < end && n < MODEL_ID_MAX; i++) {
        const char c = dir->path[i];
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || strchr("._-", c);

        dir->defaults.id[n] = '-';
        if (plain) {
            dir->defaults.id[n] = c;
        }
        n++;
    }
    dir->defaults.id[n] = '\0';
}

static int read_defaults(struct model_dir *dir, struct err *err)
{
    char path[MAX_PATH];
    struct stat st;
    int rc;

    model_defaults_init(&dir->defaults, dir->family, &dir->transformer, &dir->scheduler);
    name_after_folder(dir);
    rc = make_path(path, dir, file_names[FILE_SANAD], err);
    if (rc != ERR_OK) {
        return rc;
    }
    if (stat(path, &st) != 0 && errno == ENOENT) {
        return ERR_OK;
    }
    return read_file(dir, NULL, FILE_SANAD, err);
}

static int find_tokenizer(struct model_dir *dir, struct err *err)
{
    char path[MAX_PATH];
    struct stat st;
    int rc = make_path(path, dir, "tokenizer/tokenizer.model", err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (stat(path, &st) != 0) {
        return err_set(err, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %m",
                       path);
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        return err_set(err, ERR_FORMAT, "%s: not a file, or empty", path);
    }
    dir->tokenizer_path = strdup(path);
    return dir->tokenizer_path ? ERR_OK : err_set(err, ERR_NO_MEMORY, "%s", path);
}

static int open_weights(struct model_dir *dir, struct err *err)
{
    static const char temporal[] = "transformer_blocks.0.ff.conv_temp.weight";
    const struct {
        const char *folder;
        const char *stem;
        const char *prefix;
        struct weights **to;
    } parts[] = {
        {"transformer", "diffusion_pytorch_model", NULL, &dir->transformer_weights},
        {"text_encoder", "model", "model.", &dir->text_encoder_weights},
        {"vae", "diffusion_pytorch_model", NULL, &dir->vae_weights},
    };
    char path[MAX_PATH];

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        int rc = make_path(path, dir, parts[i].folder, err);

        if (rc == ERR_OK) {
            rc = weights_open(parts[i].to, path, parts[i].stem, parts[i].prefix, err);
        }
        if (rc != ERR_OK) {
            return rc;
        }
    }
    if (!weights_has(dir->transformer_weights, temporal)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: tensor %s is missing, so this is not a SANA-Video transformer (SANA "
                       "images, SANA-Video 2.0 and SANA-Streaming are other architectures)",
                       weights_dir(dir->transformer_weights), temporal);
    }
    return ERR_OK;
}

/* Copies the path without slashes at its end, so that messages read well. */
static int set_path(struct model_dir *dir, const char *path, struct err *err)
{
    struct stat st;
    size_t n;

    dir->path = strdup(path);
    if (!dir->path) {
        return err_set(err, ERR_NO_MEMORY, "%s", path);
    }
    for (n = strlen(path); n > 1 && path[n - 1] == '/'; n--) {
        dir->path[n - 1] = '\0';
    }
    if (stat(path, &st) != 0) {
        return err_set(err, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO,
                       "model directory %s: %m", path);
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(err, ERR_FORMAT, "model directory %s: not a directory", path);
    }
    return ERR_OK;
}

int model_dir_open(struct model_dir **ret, const char *path, struct err *err)
{
    struct model_dir *dir = calloc(1, sizeof(*dir));
    int rc;

    if (!dir) {
        return err_set(err, ERR_NO_MEMORY, "%s", path);
    }
    rc = set_path(dir, path, err);
    if (rc == ERR_OK) {
        rc = read_configs(dir, err);
    }
    if (rc == ERR_OK) {
        rc = check_together(dir, err);
    }
    if (rc == ERR_OK) {
        rc = read_defaults(dir, err);
    }
    if (rc == ERR_OK) {
        rc = find_tokenizer(dir, err);
    }
    if (rc == ERR_OK) {
        rc = open_weights(dir, err);
    }
    if (rc != ERR_OK) {
        model_dir_close(dir);
        return rc;
    }
    *ret = dir;
    return ERR_OK;
}

void model_dir_close(struct model_dir *dir)
{
    if (!dir) {
        return;
    }
    weights_close(dir->vae_weights);
    weights_close(dir->text_encoder_weights);
    weights_close(dir->transformer_weights);
    free(dir->tokenizer_path);
    free(dir->path);
    free(dir);
}

const char *model_family_name(enum model_family family)
{
    static const char *const name[] = {
        [FAMILY_SANA_VIDEO_WAN] = "SANA-Video (Wan 2.1 VAE)",
        [FAMILY_SANA_VIDEO_LTX2] = "SANA-Video (LTX-2 VAE)",
        [FAMILY_LONGSANA] = "LongSANA (Wan 2.1 VAE)",
    };

    return name[family];
}
