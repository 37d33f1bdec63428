#include "api/fields.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/fields_internal.h"
#include "api/json.h"

void fields_done(struct fields *f)
{
    for (int i = 0; i < f->n_files; i++) {
        if (f->files[i].path[0] != '\0') {
            unlink(f->files[i].path);
        }
    }
    cJSON_Delete(f->root);
    *f = (struct fields){0};
}

bool fields_no_memory(struct api_error *e)
{
    return api_fail(e, API_INTERNAL_ERROR, "", "The server is out of memory.");
}

bool fields_text_too_long(const char *name, struct api_error *e)
{
    return api_fail(e, API_PAYLOAD_TOO_LARGE, name, "'%s' is longer than %zu bytes.", name,
                    fields_text_max(name));
}

bool fields_from_json(struct fields *ret, const char *data, size_t len, struct api_error *e)
{
    struct fields f = {0};
    struct err err;

    if (json_parse(&f.root, data, len, FIELDS_MAX_DEPTH, &err) != ERR_OK) {
        return err.code == ERR_NO_MEMORY
                   ? fields_no_memory(e)
                   : api_fail(e, API_INVALID_JSON, "", "The body is not valid JSON: %s.", err.msg);
    }
    if (!cJSON_IsObject(f.root)) {
        fields_done(&f);
        return api_fail(e, API_INVALID_JSON, "", "The body must be a JSON object.");
    }
    *ret = f;
    return true;
}

/* ---- names of forms ---- */

struct form_name {
    char base[FIELDS_NAME];
    const char *key; /* NULL: none; "": an element of an array */
    char key_text[FIELDS_NAME];
};

static bool split_name(struct form_name *ret, const char *name)
{
    const size_t len = strlen(name);
    const size_t base = strcspn(name, "[");
    size_t key;

    if (base == 0 || len >= FIELDS_NAME || !json_utf8_valid(name, len)) {
        return false;
    }
    memcpy(ret->base, name, base);
    ret->base[base] = '\0';
    ret->key = NULL;
    if (base == len) {
        return true;
    }
    key = strcspn(name + base + 1, "[]");
    if (name[base + 1 + key] != ']' || name[base + 1 + key + 1] != '\0') {
        return false;
    }
    memcpy(ret->key_text, name + base + 1, key);
    ret->key_text[key] = '\0';
    ret->key = ret->key_text;
    return true;
}

static bool add_text(cJSON *to, const char *key, const char *value, struct api_error *e)
{
    cJSON *item = cJSON_CreateString(value);

    if (item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item))) {
        return true;
    }
    cJSON_Delete(item);
    return fields_no_memory(e);
}

static bool given_twice(const char *name, struct api_error *e)
{
    return api_fail(e, API_INVALID_MULTIPART, name, "'%s' is given more than once.", name);
}

bool fields_put(cJSON *root, const char *name, const char *value, size_t len, struct api_error *e)
{
    struct form_name n;
    cJSON *list;
    bool array;

    if (!split_name(&n, name)) {
        return api_fail(e, API_INVALID_MULTIPART, name,
                        "'%s' is not a field name; those are like 'name', 'name[key]' or 'name[]', "
                        "below %d bytes.",
                        name, FIELDS_NAME);
    }
    if (!json_utf8_valid(value, len)) {
        return api_fail(e, API_INVALID_VALUE, name,
                        "'%s' is not valid UTF-8, or contains a NUL character.", name);
    }
    if (len == 0) {
        return true;
    }
    list = cJSON_GetObjectItemCaseSensitive(root, n.base);
    if (!n.key) {
        return list ? given_twice(name, e) : add_text(root, n.base, value, e);
    }
    array = n.key[0] == '\0';
    if (!list) {
        list = array ? cJSON_AddArrayToObject(root, n.base) : cJSON_AddObjectToObject(root, n.base);
        if (!list) {
            return fields_no_memory(e);
        }
    }
    if (!(array ? cJSON_IsArray(list) : cJSON_IsObject(list)) ||
        (!array && cJSON_GetObjectItemCaseSensitive(list, n.key))) {
        return given_twice(name, e);
    }
    return add_text(list, array ? NULL : n.key, value, e);
}

size_t fields_text_max(const char *name)
{
    static const char *const large[] = {
        "prompt",       "negative_prompt", "extra_body",      "extra_json",
        "extra_params", "input_reference", "image_reference", "reference_url",
    };
    const size_t base = strcspn(name, "[");

    for (size_t i = 0; i < ARRAY_LEN(large); i++) {
        if (strlen(large[i]) == base && memcmp(name, large[i], base) == 0) {
            return FIELDS_MAX_REFERENCE;
        }
    }
    return FIELDS_MAX_TEXT;
}

/* ---- application/x-www-form-urlencoded ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decodes data[0, len) to `to`, which has room for len + 1. Returns the length, or -1. */
static ptrdiff_t decode(char *to, const char *data, size_t len)
{
    ptrdiff_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = (char)(data[i] == '+' ? ' ' : data[i]);

        if (c == '%') {
            const int high = len - i > 2 ? hex_digit(data[i + 1]) : -1;
            const int low = len - i > 2 ? hex_digit(data[i + 2]) : -1;

            if (high < 0 || low < 0) {
                return -1;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        to[n++] = c;
    }
    to[n] = '\0';
    return n;
}

/* data[0, len) is "name=value"; scratch has room for len + 2. */
static bool put_pair(cJSON *root, const char *data, size_t len, char *scratch, struct api_error *e)
{
    const char *equals = memchr(data, '=', len);
    const size_t name_len = equals ? (size_t)(equals - data) : len;
    const size_t value_len = equals ? len - name_len - 1 : 0;
    const ptrdiff_t name = decode(scratch, data, name_len);
    char *value = scratch + name_len + 1;
    const ptrdiff_t n = decode(value, equals ? equals + 1 : "", value_len);

    if (name < 0 || n < 0) {
        return api_fail(e, API_INVALID_MULTIPART, "",
                        "The form has a '%%' that two hexadecimal digits do not follow.");
    }
    if (strlen(scratch) != (size_t)name) {
        return api_fail(e, API_INVALID_MULTIPART, "", "A field name contains a NUL character.");
    }
    if ((size_t)n > fields_text_max(scratch)) {
        return fields_text_too_long(scratch, e);
    }
    return fields_put(root, scratch, value, (size_t)n, e);
}

static bool put_pairs(cJSON *root, const char *data, size_t len, char *scratch, struct api_error *e)
{
    const char *end = data + len;
    int n = 0;

    while (data < end) {
        const char *stop = memchr(data, '&', (size_t)(end - data));
        const size_t n_bytes = (size_t)((stop ? stop : end) - data);

        if (n_bytes > 0 && ++n > FIELDS_MAX_PARTS) {
            return api_fail(e, API_INVALID_MULTIPART, "", "A form has at most %d fields.",
                            FIELDS_MAX_PARTS);
        }
        if (n_bytes > 0 && !put_pair(root, data, n_bytes, scratch, e)) {
            return false;
        }
        data += n_bytes + 1;
    }
    return true;
}

bool fields_from_urlencoded(struct fields *ret, const char *data, size_t len, struct api_error *e)
{
    struct fields f = {.root = cJSON_CreateObject(), .form = true};
    char *scratch = malloc(len + 2);
    bool ok = f.root && scratch ? put_pairs(f.root, data, len, scratch, e) : fields_no_memory(e);

    free(scratch);
    if (ok) {
        *ret = f;
    } else {
        fields_done(&f);
    }
    return ok;
}
