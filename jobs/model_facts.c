#include "jobs/model_facts.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/size.h"

enum fact_kind {
    FACT_INT,
    FACT_INT64,
    FACT_REAL,
    FACT_FLAG,
};

/* The scalar members of READY; worker/worker_facts.h says what they mean. */
static const struct fact {
    const char *name;
    enum fact_kind kind;
    size_t offset;
    double min, max;
} facts_table[] = {
#define FACT(name, kind, min, max)                                                                 \
    {                                                                                              \
#name, kind, offsetof(struct model_facts, name), min, max                                  \
    }
    FACT(causal, FACT_FLAG, 0, 0),
    FACT(image, FACT_FLAG, 0, 0),
    FACT(any_size, FACT_FLAG, 0, 0),
    FACT(size_multiple, FACT_INT, 1, 4096),
    FACT(default_width, FACT_INT, 2, 65536),
    FACT(default_height, FACT_INT, 2, 65536),
    FACT(min_side, FACT_INT, 2, 65536),
    FACT(max_side, FACT_INT, 2, 65536),
    FACT(max_pixels, FACT_INT64, 4, INT_MAX),
    FACT(fps, FACT_REAL, 0.1, 1000),
    FACT(frame_multiple, FACT_INT, 1, 4096),
    FACT(frame_offset, FACT_INT, 0, 4096),
    FACT(default_frames, FACT_INT64, 1, 1 << 24),
    FACT(max_frames, FACT_INT64, 1, 1 << 24),
    FACT(block_frames, FACT_INT64, 1, 1 << 24),
    FACT(default_steps, FACT_INT, 1, 10000),
    FACT(min_steps, FACT_INT, 1, 10000),
    FACT(max_steps, FACT_INT, 1, 10000),
    FACT(guidance_scale, FACT_REAL, 0, 1000),
    FACT(flow_shift, FACT_REAL, 0, 1000),
    FACT(motion_score, FACT_INT, 0, 1000),
    FACT(max_prompt_tokens, FACT_INT, 1, INT_MAX),
    FACT(weights_bytes, FACT_INT64, 0, 1e15),
#undef FACT
};

static int wrong(struct err *err, const char *name, const char *what)
{
    return err_set(err, ERR_FORMAT, "model facts: %s: %s", name, what);
}

static int take_fact(struct model_facts *facts, const struct fact *f, const cJSON *o,
                     struct err *err)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(o, f->name);
    void *field = (char *)facts + f->offset;
    double number;

    if (f->kind == FACT_FLAG) {
        *(bool *)field = cJSON_IsTrue(value);
        return cJSON_IsBool(value) ? ERR_OK : wrong(err, f->name, "not true or false");
    }
    if (!cJSON_IsNumber(value)) {
        return wrong(err, f->name, "not a number");
    }
    number = value->valuedouble;
    if (!(number >= f->min && number <= f->max) ||
        (f->kind != FACT_REAL && number != trunc(number))) {
        return err_set(err, ERR_FORMAT, "model facts: %s: %g is not %s in %g..%g", f->name, number,
                       f->kind == FACT_REAL ? "a number" : "an integer", f->min, f->max);
    }
    if (f->kind == FACT_INT) {
        *(int *)field = (int)number;
    } else if (f->kind == FACT_INT64) {
        *(int64_t *)field = (int64_t)number;
    } else {
        *(double *)field = number;
    }
    return ERR_OK;
}

static int take_text(char *to, size_t size, const char *name, const cJSON *value, struct err *err)
{
    if (!cJSON_IsString(value) || value->valuestring[0] == '\0') {
        return wrong(err, name, "not a string, or empty");
    }
    if (strlen(value->valuestring) >= size) {
        return wrong(err, name, "too long");
    }
    memcpy(to, value->valuestring, strlen(value->valuestring) + 1);
    return ERR_OK;
}

static int take_size(struct model_size *ret, const cJSON *value, struct err *err)
{
    const char *text = cJSON_IsString(value) ? value->valuestring : "";
    char *end;
    const long width = strtol(text, &end, 10);
    const char *rest = *end == 'x' ? end + 1 : "";
    const long height = strtol(rest, &end, 10);

    if (*rest == '\0' || *end != '\0' || width < 1 || width > 65536 || height < 1 ||
        height > 65536) {
        return wrong(err, "native_sizes", "an entry that is not like \"832x480\"");
    }
    *ret = (struct model_size){.width = (int)width, .height = (int)height};
    return ERR_OK;
}

static int take_lists(struct model_facts *facts, const cJSON *o, struct err *err)
{
    const cJSON *aliases = cJSON_GetObjectItemCaseSensitive(o, "aliases");
    const cJSON *sizes = cJSON_GetObjectItemCaseSensitive(o, "native_sizes");
    int rc = ERR_OK;

    if (!cJSON_IsArray(aliases) || cJSON_GetArraySize(aliases) > FACTS_MAX_ALIASES) {
        return wrong(err, "aliases", "not a list, or too long");
    }
    if (!cJSON_IsArray(sizes) || !sizes->child || cJSON_GetArraySize(sizes) > FACTS_MAX_SIZES) {
        return wrong(err, "native_sizes", "not a list, empty, or too long");
    }
    for (const cJSON *v = aliases->child; v && rc == ERR_OK; v = v->next) {
        rc = take_text(facts->aliases[facts->n_aliases++], FACTS_ID, "aliases", v, err);
    }
    for (const cJSON *v = sizes->child; v && rc == ERR_OK; v = v->next) {
        rc = take_size(&facts->sizes[facts->n_sizes++], v, err);
    }
    return rc;
}

/* What the rest of the daemon relies on: the defaults are themselves allowed. */
static int check(const struct model_facts *f, struct err *err)
{
    if (f->min_side > f->default_width || f->min_side > f->default_height ||
        f->max_side < f->default_width || f->max_side < f->default_height ||
        (int64_t)f->default_width * f->default_height > f->max_pixels) {
        return wrong(err, "default_width", "the default size is outside the limits");
    }
    if (f->default_steps < f->min_steps || f->default_steps > f->max_steps) {
        return wrong(err, "default_steps", "outside min_steps..max_steps");
    }
    if (f->default_frames > f->max_frames) {
        return wrong(err, "default_frames", "more than max_frames");
    }
    return ERR_OK;
}

int model_facts_parse(struct model_facts *ret, const char *json, size_t len, struct err *err)
{
    char *copy = malloc(len + 1); /* with a NUL: cJSON 1.7.15 looks one byte past the end */
    struct model_facts facts = {0};
    cJSON *o = NULL;
    int rc;

    if (!copy) {
        return err_set(err, ERR_NO_MEMORY, "model facts");
    }
    memcpy(copy, json, len);
    copy[len] = '\0';
    errno = 0; /* cJSON does not say why it failed, malloc does */
    o = cJSON_ParseWithLengthOpts(copy, len + 1, NULL, 1);
    rc = cJSON_IsObject(o) ? ERR_OK
                           : err_set(err, !o && errno == ENOMEM ? ERR_NO_MEMORY : ERR_FORMAT,
                                     "model facts: not a JSON object");
    if (rc == ERR_OK) {
        rc = take_text(facts.id, sizeof(facts.id), "id", cJSON_GetObjectItemCaseSensitive(o, "id"),
                       err);
    }
    if (rc == ERR_OK) {
        rc = take_text(facts.family, sizeof(facts.family), "family",
                       cJSON_GetObjectItemCaseSensitive(o, "family"), err);
    }
    if (rc == ERR_OK) {
        rc = take_text(facts.device, sizeof(facts.device), "device",
                       cJSON_GetObjectItemCaseSensitive(o, "device"), err);
    }
    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(facts_table); i++) {
        rc = take_fact(&facts, &facts_table[i], o, err);
    }
    if (rc == ERR_OK) {
        rc = take_lists(&facts, o, err);
    }
    if (rc == ERR_OK) {
        rc = check(&facts, err);
    }
    if (rc == ERR_OK) {
        *ret = facts;
    }
    cJSON_Delete(o);
    free(copy);
    return rc;
}

/* "" or "-2025-10-06". */
static bool is_date_suffix(const char *text)
{
    static const char pattern[] = "-dddd-dd-dd";
    size_t i = 0;

    if (*text == '\0') {
        return true;
    }
    for (; pattern[i] != '\0'; i++) {
        if (pattern[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != pattern[i]) {
            return false;
        }
    }
    return text[i] == '\0';
}

bool model_facts_is_called(const struct model_facts *facts, const char *name)
{
    static const char *const everybody[] = {"sora-2-pro", "sora-2"};

    if (strcmp(name, facts->id) == 0) {
        return true;
    }
    for (int i = 0; i < facts->n_aliases; i++) {
        if (strcmp(name, facts->aliases[i]) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(everybody); i++) {
        const size_t n = strlen(everybody[i]);

        if (strncmp(name, everybody[i], n) == 0 && is_date_suffix(name + n)) {
            return true;
        }
    }
    return false;
}

static double distance(struct model_size size, double ratio)
{
    return fabs((double)size.height / size.width - ratio);
}

struct model_size model_facts_native(const struct model_facts *facts, int width, int height)
{
    const double ratio = (double)height / width;
    const int unit = facts->size_multiple;
    struct model_size best;

    if (facts->any_size) {
        return (struct model_size){.width = (int)div_ceil(width, unit) * unit,
                                   .height = (int)div_ceil(height, unit) * unit};
    }
    best = facts->sizes[0];
    for (int i = 1; i < facts->n_sizes; i++) {
        if (distance(facts->sizes[i], ratio) < distance(best, ratio)) {
            best = facts->sizes[i];
        }
    }
    return best;
}

int64_t model_facts_generated(const struct model_facts *facts, int64_t frames)
{
    if (frames <= facts->frame_offset) {
        return facts->frame_offset;
    }
    return div_ceil(frames - facts->frame_offset, facts->frame_multiple) * facts->frame_multiple +
           facts->frame_offset;
}
