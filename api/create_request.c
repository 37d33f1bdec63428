#include "api/create_request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/create_internal.h"
#include "api/json.h"
#include "media/sha256.h"

enum {
    PROMPT_MAX = 32000, /* characters */
    GROUP_MAX = 64,
    USER_MAX = 256,
    CANONICAL_MAX = 1 << 20,
    MAX_STEPS = 200, /* that a request may name for a model which has its own number */
};

void create_request_done(struct create_request *r)
{
    job_spec_done(&r->spec);
    free(r->group);
    free(r->user);
    free(r->tags);
    free(r->metadata);
    free(r->reference_data);
    *r = (struct create_request){0};
}

static bool take_texts(struct create_parse *p)
{
    struct create_request *r = p->r;

    if (!create_get_text(p, FIELD_PROMPT, PROMPT_MAX, &r->spec.prompt) ||
        !create_get_text(p, FIELD_NEGATIVE_PROMPT, PROMPT_MAX, &r->spec.negative_prompt) ||
        !create_get_text(p, FIELD_GROUP, GROUP_MAX, &r->group) ||
        !create_get_text(p, FIELD_USER, USER_MAX, &r->user)) {
        return false;
    }
    if (!r->spec.prompt) {
        return api_fail(p->e, API_MISSING_REQUIRED_PARAMETER, "prompt",
                        "Missing required parameter: 'prompt'.");
    }
    return true;
}

static bool take_model(struct create_parse *p)
{
    const struct create_value *g = &p->given[FIELD_MODEL];
    const char *name = json_to_text(g->value);
    char show[64];

    memcpy(p->r->model, p->facts->id, sizeof(p->r->model));
    if (!g->value) {
        return true;
    }
    if (!name) {
        return api_fail(p->e, API_INVALID_TYPE, g->name, "'%s' must be a string.", g->name);
    }
    if (!model_facts_is_called(p->facts, name)) {
        return api_fail(p->e, API_MODEL_NOT_FOUND, "model",
                        "The model %s does not exist here; this server has '%s'.",
                        create_show(g->value, show), p->facts->id);
    }
    return true;
}

/* Whoever asks for a random one has not given one. */
static bool take_seed(struct create_parse *p, uint64_t random_seed)
{
    const char *text = json_to_text(p->given[FIELD_SEED].value);
    int64_t seed = -1;

    if (!(text && strcmp(text, "random") == 0) &&
        !create_get_int(p, FIELD_SEED, -1, JSON_MAX_SAFE, &seed)) {
        return false;
    }
    p->r->seed_given = seed >= 0;
    p->r->spec.seed = seed >= 0 ? (uint64_t)seed : random_seed & (uint64_t)JSON_MAX_SAFE;
    return true;
}

/* A distilled model has one number of steps; clients that always send theirs get a video all the same. */
static bool take_steps(struct create_parse *p, int64_t *ret)
{
    const struct model_facts *f = p->facts;
    const bool fixed = f->min_steps == f->max_steps;

    if (!create_get_int(p, FIELD_STEPS, fixed ? 1 : f->min_steps, fixed ? MAX_STEPS : f->max_steps,
                        ret)) {
        return false;
    }
    if (fixed && *ret != f->default_steps) {
        *ret = f->default_steps;
        job_spec_warn(&p->r->spec, "ignored_parameter", "num_inference_steps");
    }
    return true;
}

static bool take_sampling(struct create_parse *p)
{
    const struct model_facts *f = p->facts;
    struct job_spec *spec = &p->r->spec;
    int64_t steps = f->default_steps;
    int64_t motion_score = f->motion_score;
    int64_t block_frames = f->block_frames;

    spec->guidance_scale = f->guidance_scale;
    spec->flow_shift = f->flow_shift;
    if (!take_steps(p, &steps) ||
        !create_get_real(p, FIELD_GUIDANCE_SCALE, 0, 20, &spec->guidance_scale) ||
        !create_get_real(p, FIELD_FLOW_SHIFT, 0.1, 30, &spec->flow_shift) ||
        !create_get_int(p, FIELD_MOTION_SCORE, 0, 100, &motion_score) ||
        !create_get_int(p, FIELD_STREAM_BLOCK_FRAMES, 1, JSON_MAX_SAFE, &block_frames)) {
        return false;
    }
    if (spec->negative_prompt && spec->guidance_scale <= 1) { /* only guidance looks at it */
        job_spec_warn(spec, "ignored_parameter", "negative_prompt");
    }
    spec->steps = (int)steps;
    spec->motion_score = (int)motion_score;
    if (block_frames != f->block_frames) {
        job_spec_warn(spec, "ignored_parameter", "stream_block_frames");
    }
    return true;
}

/* It is echoed, and has no other effect. */
static bool take_quality(struct create_parse *p)
{
    const struct create_value *g = &p->given[FIELD_QUALITY];
    const char *text = g->value ? json_to_text(g->value) : "standard";
    const size_t size = sizeof(p->r->spec.quality);

    if (!text || strlen(text) >= size ||
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") !=
            strlen(text)) {
        return api_fail(p->e, text ? API_INVALID_VALUE : API_INVALID_TYPE, g->name,
                        "'%s' must be a word of at most %zu letters, like 'standard'.", g->name,
                        size - 1);
    }
    memcpy(p->r->spec.quality, text, strlen(text) + 1);
    if (g->value) {
        job_spec_warn(&p->r->spec, "ignored_parameter", g->name);
    }
    return true;
}

static bool take_labels(struct create_parse *p, const char *cancel_after)
{
    struct create_request *r = p->r;

    if (!create_request_tags(p->given[FIELD_TAGS].value, &r->tags, p->e) ||
        !create_request_metadata(p->given[FIELD_METADATA].value, &r->metadata, p->e) ||
        !create_request_priority(p->given[FIELD_PRIORITY].value, &r->priority, p->e) ||
        !create_cancel_after(p, cancel_after)) {
        return false;
    }
    if (r->priority > 0 && !p->limits->may_prioritise) {
        r->priority = 0;
        job_spec_warn(&r->spec, "priority_clamped", "priority");
    }
    r->tags = r->tags ? r->tags : strdup("[]");
    r->metadata = r->metadata ? r->metadata : strdup("{}");
    return r->tags && r->metadata ? true : create_no_memory(p->e);
}

static bool add_canonical(cJSON *o, const struct create_request *r, const char *picture)
{
    char number[64];

    snprintf(number, sizeof(number), "[%d,%" PRId64 "]", r->priority, r->cancel_after_ms);
    return cJSON_AddStringToObject(o, "model", r->model) &&
           cJSON_AddStringToObject(o, "picture", picture) &&
           (!r->group || cJSON_AddStringToObject(o, "group", r->group)) &&
           (!r->user || cJSON_AddStringToObject(o, "user", r->user)) &&
           cJSON_AddRawToObject(o, "tags", r->tags) &&
           cJSON_AddRawToObject(o, "metadata", r->metadata) &&
           cJSON_AddRawToObject(o, "order", number);
}

/* One JSON object of everything, so that no two requests run into the same text. */
static bool take_fingerprint(struct create_parse *p, const char *picture)
{
    struct create_request *r = p->r;
    struct job_spec spec = r->spec; /* borrows the strings */
    struct sha256 *sha = sha256_create();
    cJSON *o = cJSON_CreateObject();
    char *text = NULL;
    struct str job;
    struct err err;
    bool ok;

    str_init(&job, CANONICAL_MAX);
    spec.n_warnings = 0;
    spec.seed = r->seed_given ? spec.seed : 0;
    ok = o && sha && cJSON_AddBoolToObject(o, "seed", r->seed_given) &&
         add_canonical(o, r, picture) && job_spec_to_json(&spec, &job, &err) == ERR_OK &&
         cJSON_AddRawToObject(o, "job", str_get(&job));
    if (ok) {
        text = cJSON_PrintUnformatted(o);
        ok = text != NULL;
    }
    if (ok) {
        sha256_update(sha, text, strlen(text));
        sha256_final(sha, r->fingerprint);
    }
    cJSON_free(text);
    str_done(&job);
    cJSON_Delete(o);
    sha256_free(sha);
    return ok ? true : create_no_memory(p->e);
}

bool create_request_parse(struct create_request *ret, struct fields *f,
                          const struct model_facts *facts, const struct create_limits *limits,
                          const char *cancel_after, uint64_t random_seed, struct api_error *e)
{
    struct create_request r = {0};
    struct create_parse p = {.fields = f, .facts = facts, .limits = limits, .r = &r, .e = e};
    char picture[SHA256_HEX];
    const bool ok = create_fields_read(&p) && take_texts(&p) && take_model(&p) &&
                    create_shape(&p) && take_seed(&p, random_seed) && take_sampling(&p) &&
                    take_quality(&p) && take_labels(&p, cancel_after) &&
                    create_reference(&p, picture) && take_fingerprint(&p, picture);

    create_fields_done(&p);
    if (!ok) {
        create_request_done(&r);
    }
    *ret = r;
    return ok;
}
