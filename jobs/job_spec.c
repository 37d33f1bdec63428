#include "jobs/job_spec.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum member_kind {
    MEMBER_TEXT, /* char *, owned; NULL: absent */
    MEMBER_INT,
    MEMBER_INT64,
    MEMBER_UINT64,
    MEMBER_REAL,
    MEMBER_FLAG,
};

/* Numbers are whole up to 2^53 - 1, which is what JSON's readers keep. */
#define MAX_WHOLE 9007199254740991.0

/* Both directions, so that they cannot differ. */
static const struct member {
    const char *name;
    enum member_kind kind;
    size_t offset;
    double min, max;
} members[] = {
#define MEMBER(name, kind, field, min, max)                                                        \
    {                                                                                              \
        name, kind, offsetof(struct job_spec, field), min, max                                     \
    }
    MEMBER("prompt", MEMBER_TEXT, prompt, 0, 0),
    MEMBER("negative_prompt", MEMBER_TEXT, negative_prompt, 0, 0),
    MEMBER("width", MEMBER_INT64, width, 1, 65536),
    MEMBER("height", MEMBER_INT64, height, 1, 65536),
    MEMBER("frames", MEMBER_INT64, num_frames, 1, INT_MAX),
    MEMBER("generated_frames", MEMBER_INT64, generated_frames, 1, INT_MAX),
    MEMBER("fps", MEMBER_REAL, fps, 0.001, 1000),
    MEMBER("seed", MEMBER_UINT64, seed, 0, MAX_WHOLE),
    MEMBER("steps", MEMBER_INT, steps, 1, 10000),
    MEMBER("guidance_scale", MEMBER_REAL, guidance_scale, -1e6, 1e6),
    MEMBER("flow_shift", MEMBER_REAL, flow_shift, -1e6, 1e6),
    MEMBER("motion_score", MEMBER_INT, motion_score, INT_MIN, INT_MAX),
    MEMBER("crf", MEMBER_INT, crf, 0, 63),
    MEMBER("has_reference", MEMBER_FLAG, has_reference, 0, 0),
#undef MEMBER
};

void job_spec_done(struct job_spec *spec)
{
    free(spec->prompt);
    free(spec->negative_prompt);
    *spec = (struct job_spec){0};
}

/* Cuts between characters of UTF-8. */
static void copy_text(char *to, size_t size, const char *text)
{
    size_t n = strlen(text);

    if (n >= size) {
        n = size - 1;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) {
            n--;
        }
    }
    memcpy(to, text, n);
    to[n] = '\0';
}

void job_spec_warn(struct job_spec *spec, const char *code, const char *param)
{
    struct job_warning w = {0};

    copy_text(w.code, sizeof(w.code), code);
    copy_text(w.param, sizeof(w.param), param);
    for (int i = 0; i < spec->n_warnings; i++) {
        if (strcmp(spec->warnings[i].code, w.code) == 0 &&
            strcmp(spec->warnings[i].param, w.param) == 0) {
            return;
        }
    }
    if (spec->n_warnings < SPEC_MAX_WARNINGS) {
        spec->warnings[spec->n_warnings++] = w;
    }
}

void job_spec_seconds(const struct job_spec *spec, char ret[24])
{
    const int64_t ms = (int64_t)floor((double)spec->num_frames * 1000 / spec->fps + 0.5);
    size_t n;

    snprintf(ret, 24, "%" PRId64 ".%03d", ms / 1000, (int)(ms % 1000));
    n = strlen(ret);
    while (ret[n - 1] == '0') {
        n--;
    }
    n -= ret[n - 1] == '.';
    ret[n] = '\0';
}

/* ---- to JSON ---- */

/* Numbers are printed here: cJSON takes those that differ in the 16th digit for equal, and seeds do. */
static bool add_member(cJSON *o, const struct member *m, const struct job_spec *spec)
{
    const void *field = (const char *)spec + m->offset;
    char text[40];

    switch (m->kind) {
    case MEMBER_TEXT: {
        const char *value = *(char *const *)field;

        return !value || cJSON_AddStringToObject(o, m->name, value);
    }
    case MEMBER_INT:
        snprintf(text, sizeof(text), "%d", *(const int *)field);
        break;
    case MEMBER_INT64:
        snprintf(text, sizeof(text), "%" PRId64, *(const int64_t *)field);
        break;
    case MEMBER_UINT64:
        snprintf(text, sizeof(text), "%" PRIu64, *(const uint64_t *)field);
        break;
    case MEMBER_REAL:
        snprintf(text, sizeof(text), "%.17g", *(const double *)field);
        break;
    case MEMBER_FLAG:
        return cJSON_AddBoolToObject(o, m->name, *(const bool *)field);
    }
    return cJSON_AddRawToObject(o, m->name, text);
}

static bool add_warnings(cJSON *o, const struct job_spec *spec)
{
    cJSON *list = cJSON_AddArrayToObject(o, "warnings");

    for (int i = 0; list && i < spec->n_warnings; i++) {
        const struct job_warning *w = &spec->warnings[i];
        cJSON *item = cJSON_CreateObject();

        if (!cJSON_AddStringToObject(item, "code", w->code) ||
            !cJSON_AddStringToObject(item, "param", w->param) ||
            !cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            return false;
        }
    }
    return list != NULL;
}

int job_spec_to_json(const struct job_spec *spec, struct str *out, struct err *err)
{
    cJSON *o = cJSON_CreateObject();
    char *text = NULL;
    bool ok = o != NULL;

    for (size_t i = 0; ok && i < ARRAY_LEN(members); i++) {
        ok = add_member(o, &members[i], spec);
    }
    ok = ok && cJSON_AddStringToObject(o, "quality", spec->quality) && add_warnings(o, spec);
    if (ok) {
        text = cJSON_PrintUnformatted(o);
    }
    ok = text && str_add(out, text);
    cJSON_free(text);
    cJSON_Delete(o);
    return ok ? ERR_OK : err_set(err, ERR_NO_MEMORY, "a job as JSON");
}

/* ---- from JSON ---- */

static int wrong(struct err *err, const char *name, const char *what)
{
    return err_set(err, ERR_FORMAT, "job: %s: %s", name, what);
}

static int take_text(char **ret, const struct member *m, const cJSON *value, struct err *err)
{
    if (!cJSON_IsString(value)) {
        return wrong(err, m->name, "not a string");
    }
    *ret = strdup(value->valuestring);
    return *ret ? ERR_OK : err_set(err, ERR_NO_MEMORY, "job: %s", m->name);
}

static int take_member(struct job_spec *spec, const struct member *m, const cJSON *o,
                       struct err *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(o, m->name);
    void *field = (char *)spec + m->offset;
    double number;

    if (m->kind == MEMBER_TEXT) {
        return value ? take_text(field, m, value, err) : ERR_OK;
    }
    if (m->kind == MEMBER_FLAG) {
        *(bool *)field = cJSON_IsTrue(value);
        return cJSON_IsBool(value) ? ERR_OK : wrong(err, m->name, "not true or false");
    }
    if (!cJSON_IsNumber(value)) {
        return wrong(err, m->name, "not a number");
    }
    number = value->valuedouble;
    if (!(number >= m->min && number <= m->max) ||
        (m->kind != MEMBER_REAL && number != trunc(number))) {
        return err_set(err, ERR_FORMAT, "job: %s: %g is not %s in %g..%g", m->name, number,
                       m->kind == MEMBER_REAL ? "a number" : "an integer", m->min, m->max);
    }
    if (m->kind == MEMBER_INT) {
        *(int *)field = (int)number;
    } else if (m->kind == MEMBER_INT64) {
        *(int64_t *)field = (int64_t)number;
    } else if (m->kind == MEMBER_UINT64) {
        *(uint64_t *)field = (uint64_t)number;
    } else {
        *(double *)field = number;
    }
    return ERR_OK;
}

static int take_warnings(struct job_spec *spec, const cJSON *o, struct err *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "warnings");

    if (!cJSON_IsArray(list)) {
        return wrong(err, "warnings", "not a list");
    }
    for (const cJSON *item = list->child; item; item = item->next) {
        const cJSON *code = cJSON_GetObjectItemCaseSensitive(item, "code");
        const cJSON *param = cJSON_GetObjectItemCaseSensitive(item, "param");

        if (!cJSON_IsString(code) || !cJSON_IsString(param)) {
            return wrong(err, "warnings", "an entry without code and param");
        }
        job_spec_warn(spec, code->valuestring, param->valuestring);
    }
    return ERR_OK;
}

int job_spec_from_json(struct job_spec *ret, const char *json, struct err *err)
{
    struct job_spec spec = {0};
    const cJSON *quality;
    cJSON *o;
    int rc;

    errno = 0; /* cJSON does not say why it failed, malloc does */
    o = cJSON_Parse(json);
    quality = cJSON_GetObjectItemCaseSensitive(o, "quality");
    rc = cJSON_IsObject(o) ? ERR_OK
                           : err_set(err, !o && errno == ENOMEM ? ERR_NO_MEMORY : ERR_FORMAT,
                                     "job: not a JSON object");
    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(members); i++) {
        rc = take_member(&spec, &members[i], o, err);
    }
    if (rc == ERR_OK && !spec.prompt) {
        rc = wrong(err, "prompt", "missing");
    }
    if (rc == ERR_OK) {
        rc = take_warnings(&spec, o, err);
    }
    if (rc == ERR_OK) {
        rc = cJSON_IsString(quality) ? ERR_OK : wrong(err, "quality", "not a string");
    }
    if (rc == ERR_OK) {
        copy_text(spec.quality, sizeof(spec.quality), quality->valuestring);
        *ret = spec;
    } else {
        job_spec_done(&spec);
    }
    cJSON_Delete(o);
    return rc;
}
