#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/create_internal.h"
#include "api/json.h"

enum {
    TAGS_MAX = 16,
    TAG_LENGTH = 64,
    PAIRS_MAX = 16,
    KEY_LENGTH = 64,
    VALUE_LENGTH = 512,
    PRIORITY_MAX = 100,
    PRIORITY_NAMED = 50,
    CANCEL_MIN_S = 1,
    CANCEL_MAX_S = 86400,
};

/* A value that came as JSON text: *ret_owned is its tree, and *value points to that. */
static bool open_text(const cJSON **value, cJSON **ret_owned, const char *name, struct api_error *e)
{
    const char *text = json_to_text(*value);
    struct err err;

    if (!text || (text[0] != '{' && text[0] != '[')) {
        return true;
    }
    if (json_parse(ret_owned, text, strlen(text), FIELDS_MAX_DEPTH, &err) != ERR_OK) {
        return err.code == ERR_NO_MEMORY ? create_no_memory(e)
                                         : api_fail(e, API_INVALID_VALUE, name,
                                                    "'%s' is not valid JSON: %s.", name, err.msg);
    }
    *value = *ret_owned;
    return true;
}

/* The value as JSON, owned by the caller. */
static bool print(const cJSON *value, char **ret, struct api_error *e)
{
    char *text = value ? cJSON_PrintUnformatted(value) : NULL;

    if (text) {
        *ret = strdup(text); /* cJSON's memory may be of another allocator */
        cJSON_free(text);
    }
    return text && *ret ? true : create_no_memory(e);
}

static bool check_tags(const cJSON *value, struct api_error *e)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "_.:/-";
    int n = 0;

    if (!cJSON_IsArray(value)) {
        return api_fail(e, API_INVALID_TYPE, "tags", "'tags' must be an array of strings.");
    }
    for (const cJSON *tag = value->child; tag; tag = tag->next) {
        const char *text = json_to_text(tag);

        if (!text) {
            return api_fail(e, API_INVALID_TYPE, "tags", "'tags' must be an array of strings.");
        }
        if (++n > TAGS_MAX) {
            return api_fail(e, API_INVALID_VALUE, "tags", "At most %d tags are allowed.", TAGS_MAX);
        }
        if (strlen(text) > TAG_LENGTH) {
            return api_fail(e, API_STRING_ABOVE_MAX_LENGTH, "tags",
                            "A tag has at most %d characters.", TAG_LENGTH);
        }
        if (text[0] == '\0' || strspn(text, allowed) != strlen(text)) {
            return api_fail(e, API_INVALID_VALUE, "tags",
                            "'%s' is not a tag; those are of letters, digits and _ . : / -", text);
        }
    }
    return true;
}

bool create_request_tags(const cJSON *value, char **ret_tags, struct api_error *e)
{
    cJSON *owned = NULL;
    bool ok = true;

    if (value && !cJSON_IsNull(value)) {
        ok = open_text(&value, &owned, "tags", e) && check_tags(value, e) &&
             print(value, ret_tags, e);
    }
    cJSON_Delete(owned);
    return ok;
}

static bool check_pair(const cJSON *pair, struct api_error *e)
{
    const char *text = json_to_text(pair);
    char param[80] = "metadata.";

    strncat(param, pair->string, sizeof(param) - strlen(param) - 1);
    if (pair->string[0] == '\0' || json_code_points(pair->string) > KEY_LENGTH) {
        return api_fail(e,
                        pair->string[0] == '\0' ? API_INVALID_VALUE : API_STRING_ABOVE_MAX_LENGTH,
                        "metadata", "A key of 'metadata' has 1 to %d characters.", KEY_LENGTH);
    }
    if (!text) {
        return api_fail(e, API_INVALID_TYPE, param, "'%s' must be a string.", param);
    }
    if (json_code_points(text) > VALUE_LENGTH) {
        return api_fail(e, API_STRING_ABOVE_MAX_LENGTH, param, "'%s' has more than %d characters.",
                        param, VALUE_LENGTH);
    }
    return true;
}

/* In the order of their names: the same pairs are the same request. */
static bool print_sorted(const cJSON *const *pairs, int n, char **ret, struct api_error *e)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = o != NULL;

    for (int i = 0; ok && i < n; i++) {
        ok = cJSON_AddStringToObject(o, pairs[i]->string, pairs[i]->valuestring) != NULL;
    }
    ok = ok ? print(o, ret, e) : create_no_memory(e);
    cJSON_Delete(o);
    return ok;
}

static bool take_metadata(const cJSON *value, char **ret, struct api_error *e)
{
    const cJSON *pairs[PAIRS_MAX];
    int n = 0;

    if (!cJSON_IsObject(value)) {
        return api_fail(e, API_INVALID_TYPE, "metadata", "'metadata' must be an object.");
    }
    for (const cJSON *pair = value->child; pair; pair = pair->next) {
        int i;

        if (cJSON_IsNull(pair)) {
            continue;
        }
        if (n == PAIRS_MAX) {
            return api_fail(e, API_INVALID_VALUE, "metadata", "'metadata' has more than %d pairs.",
                            PAIRS_MAX);
        }
        if (!check_pair(pair, e)) {
            return false;
        }
        for (i = n++; i > 0 && strcmp(pairs[i - 1]->string, pair->string) > 0; i--) {
            pairs[i] = pairs[i - 1];
        }
        pairs[i] = pair;
    }
    return print_sorted(pairs, n, ret, e);
}

bool create_request_metadata(const cJSON *value, char **ret_metadata, struct api_error *e)
{
    cJSON *owned = NULL;
    bool ok = true;

    if (value && !cJSON_IsNull(value)) {
        ok = open_text(&value, &owned, "metadata", e) && take_metadata(value, ret_metadata, e);
    }
    cJSON_Delete(owned);
    return ok;
}

bool create_request_priority(const cJSON *value, int *ret, struct api_error *e)
{
    static const struct {
        const char *name;
        int priority;
    } named[] = {{"low", -PRIORITY_NAMED}, {"normal", 0}, {"high", PRIORITY_NAMED}};
    const char *text = json_to_text(value);
    int64_t number;

    if (!value || cJSON_IsNull(value)) {
        return true;
    }
    for (size_t i = 0; text && i < ARRAY_LEN(named); i++) {
        if (strcmp(text, named[i].name) == 0) {
            *ret = named[i].priority;
            return true;
        }
    }
    if (!json_to_int(value, &number)) {
        return api_fail(e, text ? API_INVALID_VALUE : API_INVALID_TYPE, "priority",
                        "'priority' must be an integer in %d..%d, or low, normal or high.",
                        -PRIORITY_MAX, PRIORITY_MAX);
    }
    if (number < -PRIORITY_MAX || number > PRIORITY_MAX) {
        return api_fail(e, API_INVALID_VALUE, "priority", "'priority' must be in %d..%d.",
                        -PRIORITY_MAX, PRIORITY_MAX);
    }
    *ret = (int)number;
    return true;
}

/* Seconds, or a negative number. */
static double parse_duration(const char *text)
{
    const size_t whole = strspn(text, "0123456789");
    size_t n = whole;
    double value;

    if (whole < 1 || whole > 6) {
        return -1;
    }
    if (text[n] == '.') {
        n += 1 + strspn(text + n + 1, "0123456789");
        if (n < whole + 2 || n > whole + 10) {
            return -1;
        }
    }
    value = strtod(text, NULL);
    if (text[n] != '\0' && text[n + 1] != '\0') {
        return -1;
    }
    switch (text[n]) {
    case '\0':
    case 's':
        return value;
    case 'm':
        return value * 60;
    case 'h':
        return value * 3600;
    default:
        return -1;
    }
}

bool create_cancel_after(struct create_parse *p, const char *header)
{
    double s = 0;

    if (!create_get_real(p, FIELD_CANCEL_AFTER, CANCEL_MIN_S, CANCEL_MAX_S, &s)) {
        return false;
    }
    if (header) {
        const double given = parse_duration(header);

        if (!(given >= CANCEL_MIN_S && given <= CANCEL_MAX_S)) {
            return api_fail(p->e, API_INVALID_VALUE, "Cancel-After",
                            "Invalid Cancel-After: '%s' is not a time of %d s to %d s, like '90s', "
                            "'2m' or '1h'.",
                            header, CANCEL_MIN_S, CANCEL_MAX_S);
        }
        if (s > 0 && s != given) {
            return api_fail(p->e, API_CONFLICTING_PARAMETERS, "cancel_after_s",
                            "'cancel_after_s' is %g, but the header Cancel-After says %g s.", s,
                            given);
        }
        s = given;
    }
    p->r->cancel_after_ms = llround(s * 1000);
    return true;
}
