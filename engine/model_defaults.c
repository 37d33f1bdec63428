/*
 * model_defaults.c - how each member of the family is run by default, and sanad.json, which may
 * override that. The file is ours and written by hand, so unlike the published configurations it
 * may not contain keys that nobody reads.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/geometry.h"
#include "engine/model_config_internal.h"
#include "engine/model_dir.h"

enum {
    MIN_PIXELS = 16,
    MAX_PIXELS = 8192,
    MAX_FRAMES = 1 << 20
};

static const char *const sampler_names[] = {
    [SAMPLER_DPM] = "dpm",
    [SAMPLER_EULER] = "euler",
    [SAMPLER_UNIPC] = "unipc",
    [SAMPLER_LONGLIVE] = "longlive",
};

static const char *const chi_names[] = {
    [CHI_VIDEO] = "video",
    [CHI_IMAGE] = "image",
    [CHI_NONE] = "none",
};

const char *model_sampler_name(enum sampler_kind kind)
{
    return sampler_names[kind];
}

/* The published settings: MODEL 1.1, 1.3, 5.6 [NVlabs/Sana configs and inference scripts]. */
void model_defaults_init(struct model_defaults *d, enum model_family family,
                         const struct transformer_config *transformer,
                         const struct scheduler_config *scheduler)
{
    *d = (struct model_defaults){
        .id = "sana-video-2b-480p",
        .sampler = scheduler->kind,
        .steps = 50,
        .flow_shift = scheduler->flow_shift,
        .guidance_scale = 6,
        .block_latent_frames = 5,
        .history_blocks = -1,
        .fps = 16,
        .width = 832,
        .height = 480,
        .frames = 81,
        .chi = CHI_VIDEO,
        .lower_case = true,
        .max_prompt_tokens = 300,
        .motion_score = 30,
    };
    d->n_sizes = geometry_published_sizes(transformer->sample_size, d->sizes);
    if (family == FAMILY_SANA_VIDEO_LTX2) {
        memcpy(d->id, "sana-video-2b-720p", sizeof("sana-video-2b-720p"));
        d->width = 1280;
        d->height = 704;
        d->block_latent_frames = 1024; /* the decoder is not causal: a clip is one block */
    }
    if (family == FAMILY_LONGSANA) {
        static const double renoise[] = {1000, 960, 889, 727};

        memcpy(d->id, "longsana-2b-480p", sizeof("longsana-2b-480p"));
        memcpy(d->renoise, renoise, sizeof(renoise));
        d->n_renoise = ARRAY_LEN(renoise);
        d->bf16_timesteps = true; /* as released */
        d->sampler = SAMPLER_LONGLIVE;
        d->steps = d->n_renoise;
        d->flow_shift = 7;
        d->guidance_scale = 1;
        d->block_latent_frames = 10;
    }
}

static void check_known_keys(struct json_fields *f)
{
    static const char *const known[] = {
        "id",         "aliases",           "sampler",        "steps",
        "flow_shift", "renoise_timesteps", "guidance_scale", "block_latent_frames",
        "fps",        "history_blocks",    "size",           "frames",
        "chi",        "lower_case",        "motion_score",   "max_prompt_tokens",
        "sizes",      "bf16_timesteps",
    };

    for (const cJSON *item = f->object->child; item; item = item->next) {
        size_t i = 0;

        while (i < ARRAY_LEN(known) && strcmp(item->string, known[i]) != 0) {
            i++;
        }
        if (i == ARRAY_LEN(known)) {
            json_fields_fail(f, ERR_FORMAT, item->string, "unknown key");
        }
    }
}

/* Names appear in URLs, in files and in logs. */
static void take_name(struct json_fields *f, const char *key, const char *text,
                      char ret[MODEL_ID_MAX + 1])
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const size_t n = strlen(text);

    if (n == 0 || n > MODEL_ID_MAX || strspn(text, allowed) != n) {
        json_fields_fail(f, ERR_FORMAT, key,
                         "'%.80s' is not 1..%d letters, digits, dots, hyphens or underscores", text,
                         MODEL_ID_MAX);
        return;
    }
    memcpy(ret, text, n + 1);
}

static void parse_aliases(struct json_fields *f, struct model_defaults *d)
{
    const cJSON *list = json_find(f, "aliases");

    if (!list) {
        return;
    }
    if (!cJSON_IsArray(list)) {
        json_fields_fail(f, ERR_FORMAT, "aliases", "not a list");
        return;
    }
    d->n_aliases = 0;
    for (const cJSON *e = list->child; e; e = e->next) {
        if (d->n_aliases == MODEL_MAX_ALIASES) {
            json_fields_fail(f, ERR_FORMAT, "aliases", "more than %d", MODEL_MAX_ALIASES);
            return;
        }
        take_name(f, "aliases", cJSON_IsString(e) ? e->valuestring : "",
                  d->aliases[d->n_aliases++]);
    }
}

static int parse_choice(struct json_fields *f, const char *key, const char *const *names, int n,
                        int def)
{
    const char *text = json_text_or(f, key, names[def]);

    for (int i = 0; i < n; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    json_fields_fail(f, ERR_FORMAT, key, "'%.64s' is unknown; one of %s, %s, %s%s%s", text,
                     names[0], names[1], names[2], n > 3 ? ", " : "", n > 3 ? names[3] : "");
    return def;
}

/* "832x480" */
static void take_size(struct json_fields *f, const char *key, const char *text, int64_t *ret_width,
                      int64_t *ret_height)
{
    char *end;
    long size[2];

    for (int i = 0; i < 2; i++) {
        size[i] = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : 0;
        if (size[i] < MIN_PIXELS || size[i] > MAX_PIXELS || *end != (i == 0 ? 'x' : '\0')) {
            json_fields_fail(f, ERR_FORMAT, key, "not WIDTHxHEIGHT of %d..%d pixels each",
                             MIN_PIXELS, MAX_PIXELS);
            return;
        }
        text = end + 1;
    }
    *ret_width = size[0];
    *ret_height = size[1];
}

static void parse_sizes(struct json_fields *f, struct model_defaults *d)
{
    const char *text = json_text_or(f, "size", NULL);
    const cJSON *list = json_find(f, "sizes");

    if (text) {
        take_size(f, "size", text, &d->width, &d->height);
    }
    if (!list) {
        return;
    }
    if (!cJSON_IsArray(list)) {
        json_fields_fail(f, ERR_FORMAT, "sizes", "not a list");
        return;
    }
    d->n_sizes = 0;
    for (const cJSON *e = list->child; e; e = e->next) {
        struct trained_size size = {.ratio = 1, .width = 1, .height = 1};

        if (d->n_sizes == MODEL_MAX_SIZES) {
            json_fields_fail(f, ERR_FORMAT, "sizes", "more than %d", MODEL_MAX_SIZES);
            return;
        }
        take_size(f, "sizes", cJSON_IsString(e) ? e->valuestring : "", &size.width, &size.height);
        size.ratio = (double)size.height / (double)size.width;
        d->sizes[d->n_sizes++] = size;
    }
}

/* The LongLive sampler takes one step for each timestep of its list, which descends. */
static void parse_sampler(struct json_fields *f, struct model_defaults *d)
{
    static const struct json_list limits = {1, RENOISE_MAX_STEPS, 1e-3, 1000};
    const enum sampler_kind family = d->sampler;
    const bool has_steps = json_find(f, "steps") != NULL;

    d->sampler = (enum sampler_kind)parse_choice(f, "sampler", sampler_names,
                                                 ARRAY_LEN(sampler_names), (int)d->sampler);
    d->steps = (int)json_int_or(f, "steps", 1, SAMPLER_MAX_STEPS, d->steps);
    if (json_find(f, "renoise_timesteps")) {
        d->n_renoise = json_real_list(f, "renoise_timesteps", &limits, d->renoise);
        for (int i = 1; i < d->n_renoise; i++) {
            if (!(d->renoise[i] < d->renoise[i - 1])) {
                json_fields_fail(f, ERR_FORMAT, "renoise_timesteps", "entry %d does not descend",
                                 i);
            }
        }
    }
    if (d->sampler != SAMPLER_LONGLIVE) {
        if (family == SAMPLER_LONGLIVE && !has_steps) {
            json_fields_fail(f, ERR_FORMAT, "steps", "missing; sampler %s needs it",
                             sampler_names[d->sampler]);
        }
        return;
    }
    if (d->n_renoise == 0) {
        json_fields_fail(f, ERR_FORMAT, "renoise_timesteps", "missing; sampler longlive needs it");
    }
    if (has_steps && d->steps != d->n_renoise) {
        json_fields_fail(f, ERR_FORMAT, "steps", "%d, but renoise_timesteps has %d", d->steps,
                         d->n_renoise);
    }
    d->steps = d->n_renoise;
}

int model_parse_sanad(struct model_defaults *ret, const char *text, size_t len, const char *file,
                      struct err *err)
{
    struct model_defaults d = *ret;
    struct config c;
    struct json_fields *f = &c.f;
    int rc = config_open(&c, text, len, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    check_known_keys(f);
    take_name(f, "id", json_text_or(f, "id", ret->id), d.id);
    parse_aliases(f, &d);
    parse_sampler(f, &d);
    parse_sizes(f, &d);
    d.flow_shift = json_real_or(f, "flow_shift", 0.1, 30, d.flow_shift);
    d.guidance_scale = json_real_or(f, "guidance_scale", 0, 20, d.guidance_scale);
    d.block_latent_frames = json_int_or(f, "block_latent_frames", 1, 1024, d.block_latent_frames);
    d.history_blocks = json_int_or(f, "history_blocks", -1, 64, d.history_blocks);
    if (d.history_blocks == 0) {
        json_fields_fail(f, ERR_FORMAT, "history_blocks", "0 is not -1 or in 1..64");
    }
    d.fps = json_real_or(f, "fps", 1, 60, d.fps);
    d.frames = json_int_or(f, "frames", 1, MAX_FRAMES, d.frames);
    d.chi = (enum chi_wording)parse_choice(f, "chi", chi_names, ARRAY_LEN(chi_names), (int)d.chi);
    d.lower_case = json_bool_or(f, "lower_case", d.lower_case);
    d.max_prompt_tokens = json_int_or(f, "max_prompt_tokens", 8, 1024, d.max_prompt_tokens);
    d.motion_score = (int)json_int_or(f, "motion_score", 0, 100, d.motion_score);
    d.bf16_timesteps = json_bool_or(f, "bf16_timesteps", d.bf16_timesteps);
    if (f->rc == ERR_OK) {
        *ret = d;
    }
    return config_close(&c);
}
