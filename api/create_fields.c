#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/create_internal.h"
#include "api/json.h"

enum how {
    TAKE,       /* a field */
    NO_OP,      /* accepted, ignored */
    NO_OP_OFF,  /* accepted if false: on, it would change what is delivered */
    NO_OP_ONE,  /* accepted if 1 */
    NO_OP_HINT, /* accepted inside extra_params only */
    REFUSE,     /* it would change what is delivered, and is not offered */
    WEBHOOK,
    UNKNOWN,
};

struct known {
    const char *name;
    enum how how;
    enum create_field field; /* TAKE */
};

static const struct known table[] = {
    {"prompt", TAKE, FIELD_PROMPT},
    {"model", TAKE, FIELD_MODEL},
    {"seconds", TAKE, FIELD_SECONDS},
    {"size", TAKE, FIELD_SIZE},
    {"width", TAKE, FIELD_WIDTH},
    {"height", TAKE, FIELD_HEIGHT},
    {"aspect_ratio", TAKE, FIELD_ASPECT_RATIO},
    {"short_edge", TAKE, FIELD_SHORT_EDGE},
    {"fps", TAKE, FIELD_FPS},
    {"num_frames", TAKE, FIELD_NUM_FRAMES},
    {"frames", TAKE, FIELD_NUM_FRAMES},
    {"video_frames", TAKE, FIELD_NUM_FRAMES},
    {"num_inference_steps", TAKE, FIELD_STEPS},
    {"steps", TAKE, FIELD_STEPS},
    {"infer_steps", TAKE, FIELD_STEPS},
    {"guidance_scale", TAKE, FIELD_GUIDANCE_SCALE},
    {"negative_prompt", TAKE, FIELD_NEGATIVE_PROMPT},
    {"seed", TAKE, FIELD_SEED},
    {"flow_shift", TAKE, FIELD_FLOW_SHIFT},
    {"motion_score", TAKE, FIELD_MOTION_SCORE},
    {"input_reference", TAKE, FIELD_INPUT_REFERENCE},
    {"image_reference", TAKE, FIELD_IMAGE_REFERENCE},
    {"reference_url", TAKE, FIELD_REFERENCE_URL},
    {"stream_block_frames", TAKE, FIELD_STREAM_BLOCK_FRAMES},
    {"metadata", TAKE, FIELD_METADATA},
    {"tags", TAKE, FIELD_TAGS},
    {"group", TAKE, FIELD_GROUP},
    {"priority", TAKE, FIELD_PRIORITY},
    {"cancel_after_s", TAKE, FIELD_CANCEL_AFTER},
    {"user", TAKE, FIELD_USER},
    {"quality", TAKE, FIELD_QUALITY},
    {"extra_body", TAKE, FIELD_EXTRA_BODY},
    {"extra_json", TAKE, FIELD_EXTRA_JSON},
    {"extra_params", TAKE, FIELD_EXTRA_PARAMS},
    {"output_quality", NO_OP, 0},
    {"output_compression", NO_OP, 0},
    {"generator_device", NO_OP, 0},
    {"enable_teacache", NO_OP, 0},
    {"guidance_scale_2", NO_OP, 0},
    {"boundary_ratio", NO_OP, 0},
    {"true_cfg_scale", NO_OP, 0},
    {"max_sequence_length", NO_OP, 0},
    {"return_stage_metrics", NO_OP, 0},
    {"perf_dump_path", NO_OP, 0},
    {"generate_sound", NO_OP_OFF, 0},
    {"n", NO_OP_ONE, 0},
    {"num_outputs_per_prompt", NO_OP_ONE, 0},
    {"preencode_mp4", NO_OP_HINT, 0},
    {"preencode_batch_frames", NO_OP_HINT, 0},
    {"video_codec_options", NO_OP_HINT, 0},
    {"lora", REFUSE, 0},
    {"audio_reference", REFUSE, 0},
    {"video_reference", REFUSE, 0},
    {"control_reference", REFUSE, 0},
    {"output_path", REFUSE, 0},
    {"diffusers_kwargs", REFUSE, 0},
    {"character_ids", REFUSE, 0},
    {"webhook_url", WEBHOOK, 0},
    {"callback_url", WEBHOOK, 0},
    {"webhook_events", WEBHOOK, 0},
};

/* Families of names; their switches (enable_frame_interpolation, ..) are refused when they are on. */
static const struct known prefixes[] = {
    {"enable_", NO_OP_OFF, 0},
    {"frame_interpolation_", NO_OP, 0},
    {"upscaling_", NO_OP, 0},
};

static struct known find_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return table[i];
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (strncmp(prefixes[i].name, name, strlen(prefixes[i].name)) == 0) {
            return prefixes[i];
        }
    }
    return (struct known){.name = name, .how = UNKNOWN};
}

static bool ignore(struct create_parse *p, const char *name)
{
    job_spec_warn(&p->r->spec, "ignored_parameter", name);
    return true;
}

static bool unknown(struct create_parse *p, const char *name)
{
    if (p->limits->lenient) {
        return ignore(p, name);
    }
    return api_fail(p->e, API_UNKNOWN_PARAMETER, name, "Unknown parameter: '%s'.", name);
}

static bool refuse(struct create_parse *p, const char *name)
{
    return api_fail(p->e, API_UNSUPPORTED_PARAMETER, name,
                    "'%s' is not supported: it would change what is delivered, and this server "
                    "does not offer it.",
                    name);
}

/* Those that are no fields. */
static bool judge(struct create_parse *p, enum how how, const char *name, const cJSON *value)
{
    double number;
    bool on;

    switch (how) {
    case TAKE:
    case NO_OP:
    case NO_OP_HINT:
        return ignore(p, name);
    case NO_OP_OFF:
        if (!json_to_bool(value, &on)) {
            return api_fail(p->e, API_INVALID_TYPE, name, "'%s' must be true or false.", name);
        }
        return on ? refuse(p, name) : ignore(p, name);
    case NO_OP_ONE:
        if (!json_to_real(value, &number)) {
            return api_fail(p->e, API_INVALID_TYPE, name, "'%s' must be a number.", name);
        }
        return number == 1 ? ignore(p, name)
                           : api_fail(p->e, API_UNSUPPORTED_PARAMETER, name,
                                      "'%s' must be 1: a request makes one video.", name);
    case WEBHOOK:
        return api_fail(p->e, API_UNSUPPORTED_PARAMETER, name,
                        "'%s' is not supported: this build does not offer webhooks yet. Poll the "
                        "video, or read its events.",
                        name);
    case REFUSE:
        return refuse(p, name);
    case UNKNOWN:
        break;
    }
    return unknown(p, name);
}

static bool is_absent(const cJSON *value)
{
    const char *text = json_to_text(value);

    return cJSON_IsNull(value) || (text && text[0] == '\0');
}

static bool conflict(struct create_parse *p, const char *name, const char *other)
{
    return api_fail(p->e, API_CONFLICTING_PARAMETERS, name,
                    "'%s' is given more than once with different values (also as '%s').", name,
                    other);
}

/* What one object says, aliases resolved. `layer`: which one it is; FIELD_COUNT: the body itself. */
static bool read_layer(struct create_parse *p, const cJSON *object, enum create_field layer,
                       struct create_value ret[FIELD_COUNT])
{
    for (const cJSON *v = object ? object->child : NULL; v; v = v->next) {
        const struct known k = find_known(v->string);
        struct create_value *to = &ret[k.field];
        const bool nested = k.how == TAKE && k.field >= FIELD_EXTRA_BODY && layer != FIELD_COUNT;
        const bool misplaced = k.how == NO_OP_HINT && layer != FIELD_EXTRA_PARAMS;

        if (is_absent(v)) {
            continue;
        }
        if (nested || misplaced || k.how != TAKE) {
            if (!judge(p, nested || misplaced ? UNKNOWN : k.how, v->string, v)) {
                return false;
            }
        } else if (to->value && !json_same(to->value, v)) {
            return conflict(p, v->string, to->name);
        } else {
            *to = (struct create_value){.value = v, .name = v->string};
        }
    }
    return true;
}

static bool parse_extra(struct create_parse *p, int index, enum create_field field,
                        struct create_value ret[FIELD_COUNT])
{
    const struct create_value *g = &p->given[field];
    const char *text = json_to_text(g->value);
    const cJSON *object = g->value;
    struct err err;

    if (text) {
        if (json_parse(&p->extra[index], text, strlen(text), FIELDS_MAX_DEPTH, &err) != ERR_OK) {
            return err.code == ERR_NO_MEMORY
                       ? create_no_memory(p->e)
                       : api_fail(p->e, API_INVALID_VALUE, g->name, "'%s' is not valid JSON: %s.",
                                  g->name, err.msg);
        }
        object = p->extra[index];
    }
    if (object && !cJSON_IsObject(object)) {
        return api_fail(p->e, API_INVALID_TYPE, g->name,
                        "'%s' must be an object, or the text of one.", g->name);
    }
    return read_layer(p, object, field, ret);
}

static bool is_reference(int field)
{
    return field >= FIELD_INPUT_REFERENCE && field <= FIELD_REFERENCE_URL;
}

/* extra_body and extra_json win. The references are one field by three names: what wins over one of them
 * replaces all. */
static void merge_over(struct create_value given[FIELD_COUNT],
                       const struct create_value body[FIELD_COUNT])
{
    bool reference = false;

    for (int i = FIELD_INPUT_REFERENCE; i <= FIELD_REFERENCE_URL; i++) {
        reference = reference || body[i].value;
    }
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (body[i].value || (reference && is_reference(i))) {
            given[i] = body[i];
        }
    }
}

bool create_fields_read(struct create_parse *p)
{
    struct create_value body[FIELD_COUNT] = {0};
    struct create_value params[FIELD_COUNT] = {0};

    if (!read_layer(p, p->fields->root, FIELD_COUNT, p->given) ||
        !parse_extra(p, 0, FIELD_EXTRA_BODY, body) || !parse_extra(p, 1, FIELD_EXTRA_JSON, body) ||
        !parse_extra(p, 2, FIELD_EXTRA_PARAMS, params)) {
        return false;
    }
    merge_over(p->given, body);
    for (int i = 0; i < FIELD_COUNT; i++) {
        struct create_value *to = &p->given[i];

        if (params[i].value && to->value && !json_same(params[i].value, to->value)) {
            return conflict(p, params[i].name, to->name);
        }
        if (params[i].value && !to->value) {
            *to = params[i];
        }
    }
    return true;
}

void create_fields_done(struct create_parse *p)
{
    for (size_t i = 0; i < ARRAY_LEN(p->extra); i++) {
        cJSON_Delete(p->extra[i]);
    }
}

bool create_fields_check_file(struct create_parse *p, const char *name, bool *ret_reference)
{
    const struct known k = find_known(name);

    *ret_reference = k.how == TAKE && is_reference((int)k.field);
    if (*ret_reference) {
        return true;
    }
    return k.how == TAKE ? api_fail(p->e, API_INVALID_TYPE, name, "'%s' cannot be a file.", name)
                         : judge(p, k.how == REFUSE ? REFUSE : UNKNOWN, name, NULL);
}

/* ---- values ---- */

bool create_no_memory(struct api_error *e)
{
    return api_fail(e, API_INTERNAL_ERROR, "", "The server is out of memory.");
}

const char *create_show(const cJSON *value, char to[64])
{
    const char *text = json_to_text(value);
    size_t n;

    if (text) {
        n = strnlen(text, 40);
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) {
            n--; /* between characters */
        }
        snprintf(to, 64, "'%.*s%s'", (int)n, text, text[n] != '\0' ? "..." : "");
    } else if (cJSON_IsNumber(value)) {
        snprintf(to, 64, "%.15g", value->valuedouble);
    } else {
        snprintf(to, 64, "%s",
                 cJSON_IsBool(value)    ? "a boolean"
                 : cJSON_IsArray(value) ? "an array"
                                        : "an object");
    }
    return to;
}

bool create_get_int(struct create_parse *p, enum create_field field, int64_t min, int64_t max,
                    int64_t *ret)
{
    const struct create_value *g = &p->given[field];
    int64_t value;
    char show[64];

    if (!g->value) {
        return true;
    }
    if (!json_to_int(g->value, &value)) {
        return api_fail(p->e, API_INVALID_TYPE, g->name, "Invalid '%s': %s is not an integer.",
                        g->name, create_show(g->value, show));
    }
    if (value < min || value > max) {
        return api_fail(p->e, API_INVALID_VALUE, g->name,
                        "Invalid '%s': %lld is not in %lld..%lld.", g->name, (long long)value,
                        (long long)min, (long long)max);
    }
    *ret = value;
    return true;
}

bool create_get_real(struct create_parse *p, enum create_field field, double min, double max,
                     double *ret)
{
    const struct create_value *g = &p->given[field];
    double value;
    char show[64];

    if (!g->value) {
        return true;
    }
    if (!json_to_real(g->value, &value)) {
        return api_fail(p->e, API_INVALID_TYPE, g->name, "Invalid '%s': %s is not a number.",
                        g->name, create_show(g->value, show));
    }
    if (!(value >= min && value <= max)) {
        return api_fail(p->e, API_INVALID_VALUE, g->name, "Invalid '%s': %g is not in %g..%g.",
                        g->name, value, min, max);
    }
    *ret = value;
    return true;
}

bool create_get_text(struct create_parse *p, enum create_field field, size_t max, char **ret)
{
    static const char blanks[] = " \t\n\v\f\r";
    const struct create_value *g = &p->given[field];
    const char *text = json_to_text(g->value);
    char *copy;
    size_t n;

    if (!g->value) {
        return true;
    }
    if (!text) {
        return api_fail(p->e, API_INVALID_TYPE, g->name, "'%s' must be a string.", g->name);
    }
    text += strspn(text, blanks);
    for (n = strlen(text); n > 0 && strchr(blanks, text[n - 1]); n--) {
    }
    if (n == 0) {
        return true;
    }
    copy = strndup(text, n);
    if (!copy) {
        return create_no_memory(p->e);
    }
    n = json_code_points(copy);
    if (n > max) {
        free(copy);
        return api_fail(p->e, API_STRING_ABOVE_MAX_LENGTH, g->name,
                        "'%s' has %zu characters; at most %zu are allowed.", g->name, n, max);
    }
    free(*ret);
    *ret = copy;
    return true;
}
