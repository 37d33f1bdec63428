#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/create_internal.h"
#include "api/json.h"
#include "base/log.h"
#include "media/image_probe.h"
#include "media/sha256.h"

enum {
    DATA_URL_MAX = 20971520
};

static bool invalid(struct create_parse *p, const char *name, const char *why)
{
    return api_fail(p->e, API_INVALID_INPUT_REFERENCE, name, "Invalid '%s': %s.", name, why);
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Strict: padded, no blanks, no bits left over. `to` has room for 3 bytes of each 4. */
static bool decode_base64(const char *text, size_t len, uint8_t *to, size_t *ret_len)
{
    uint32_t bits = 0;
    size_t n = 0;
    size_t pad = 0;

    if (len == 0 || len % 4 != 0) {
        return false;
    }
    while (pad < 2 && text[len - 1 - pad] == '=') {
        pad++;
    }
    for (size_t i = 0; i < len - pad; i++) {
        const int digit = base64_digit(text[i]);

        if (digit < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 3) {
            to[n++] = (uint8_t)(bits >> 16);
            to[n++] = (uint8_t)(bits >> 8);
            to[n++] = (uint8_t)bits;
        }
    }
    if (pad == 1) {
        to[n++] = (uint8_t)(bits >> 10);
        to[n++] = (uint8_t)(bits >> 2);
    } else if (pad == 2) {
        to[n++] = (uint8_t)(bits >> 4);
    }
    *ret_len = n;
    return pad == 0 || (bits & (pad == 1 ? 0x3 : 0xf)) == 0;
}

/* data:image/png;base64,.... */
static bool take_data_url(struct create_parse *p, const char *name, const char *url)
{
    static const char coding[] = ";base64";
    const size_t len = strlen(url);
    const size_t head = strcspn(url, ",");

    if (len > DATA_URL_MAX) {
        return api_fail(p->e, API_INVALID_INPUT_REFERENCE, name,
                        "Invalid '%s': the data URL is longer than %d characters.", name,
                        DATA_URL_MAX);
    }
    if (strncasecmp(url, "data:image/", 11) != 0) {
        return invalid(p, name, "the data URL is not of an image");
    }
    if (url[head] != ',' || head < 11 + strlen(coding) ||
        strncasecmp(url + head - strlen(coding), coding, strlen(coding)) != 0) {
        return invalid(p, name, "the data URL is not in base64");
    }
    p->r->reference_data = malloc((len - head) / 4 * 3 + 3);
    if (!p->r->reference_data) {
        return create_no_memory(p->e);
    }
    if (!decode_base64(url + head + 1, len - head - 1, p->r->reference_data,
                       &p->r->reference_bytes)) {
        return invalid(p, name, "the data URL is not valid base64");
    }
    p->r->reference = REFERENCE_BYTES;
    return true;
}

static bool take_url(struct create_parse *p, const char *name, const char *url)
{
    if (strncasecmp(url, "data:", 5) == 0) {
        return take_data_url(p, name, url);
    }
    if (strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0) {
        return api_fail(p->e, API_URL_NOT_ALLOWED, name,
                        "'%s' is a URL, and this server fetches none. Send the picture as a file "
                        "or as a data URL.",
                        name);
    }
    if (strncasecmp(url, "file:", 5) == 0 || url[0] == '/') {
        return invalid(p, name, "files of the server cannot be used");
    }
    return invalid(p, name, "it is neither a file, nor a data URL");
}

static bool take_object(struct create_parse *p, const char *name, const cJSON *object)
{
    const cJSON *only = NULL;
    int n = 0;

    for (const cJSON *v = object->child; v; v = v->next) {
        if (!cJSON_IsNull(v)) {
            only = v;
            n++;
        }
    }
    if (n != 1 ||
        (strcmp(only->string, "image_url") != 0 && strcmp(only->string, "file_id") != 0)) {
        return api_fail(p->e, API_INVALID_VALUE, name,
                        "'%s' must have exactly one member, image_url or file_id.", name);
    }
    if (strcmp(only->string, "file_id") == 0) {
        return api_fail(p->e, API_UNSUPPORTED_PARAMETER, name,
                        "'%s' with a file_id is not supported: this server keeps no files. Send "
                        "the picture as a file or as a data URL.",
                        name);
    }
    if (!json_to_text(only)) {
        return api_fail(p->e, API_INVALID_TYPE, name, "'%s': image_url must be a string.", name);
    }
    return take_url(p, name, only->valuestring);
}

static bool take_value(struct create_parse *p, const struct create_value *g)
{
    const char *text = json_to_text(g->value);
    cJSON *object = NULL;
    struct err err;
    bool ok;

    if (cJSON_IsObject(g->value)) {
        return take_object(p, g->name, g->value);
    }
    if (!text) {
        return api_fail(p->e, API_INVALID_TYPE, g->name,
                        "'%s' must be a file, an object or a string.", g->name);
    }
    text += strspn(text, " \t\r\n");
    if (text[0] != '{') {
        return take_url(p, g->name, text);
    }
    if (json_parse(&object, text, strlen(text), FIELDS_MAX_DEPTH, &err) != ERR_OK) {
        return err.code == ERR_NO_MEMORY
                   ? create_no_memory(p->e)
                   : api_fail(p->e, API_INVALID_INPUT_REFERENCE, g->name,
                              "'%s' is not valid JSON: %s.", g->name, err.msg);
    }
    ok = take_object(p, g->name, object); /* text that begins with a brace is an object */
    cJSON_Delete(object);
    return ok;
}

/* Which one it is; *ret_name stays NULL when there is none. */
static bool find_reference(struct create_parse *p, const char **ret_name,
                           const struct create_value **ret_value)
{
    int n = 0;

    for (int i = 0; i < p->fields->n_files; i++) {
        const char *name = p->fields->files[i].name;
        bool reference;

        if (!create_fields_check_file(p, name, &reference)) {
            return false;
        }
        if (reference) {
            *ret_name = name;
            p->r->reference = REFERENCE_FILE;
            p->r->reference_file = i;
            n++;
        }
    }
    for (int i = FIELD_INPUT_REFERENCE; i <= FIELD_REFERENCE_URL; i++) {
        if (p->given[i].value) {
            *ret_name = p->given[i].name;
            *ret_value = &p->given[i];
            n++;
        }
    }
    if (n > 1) {
        return api_fail(p->e, API_CONFLICTING_PARAMETERS, *ret_name,
                        "More than one reference picture is given.");
    }
    return true;
}

static bool probe(struct create_parse *p, const char *name)
{
    struct image_probe result = {0};
    struct err err;
    const int rc =
        p->r->reference == REFERENCE_FILE
            ? image_probe_file(&result, p->fields->files[p->r->reference_file].path, &err)
            : image_probe(&result, p->r->reference_data, p->r->reference_bytes, &err);

    if (rc == ERR_OK) {
        return true;
    }
    switch (result.problem) {
    case IMAGE_PROBE_NOT_AN_IMAGE:
        return invalid(p, name, "it is not a PNG, JPEG or WebP picture");
    case IMAGE_PROBE_TOO_LARGE:
        return api_fail(p->e, API_IMAGE_TOO_LARGE, name, "The picture '%s' is too large: %s.", name,
                        err.msg);
    case IMAGE_PROBE_BAD:
        return api_fail(p->e, API_INVALID_IMAGE, name, "The picture '%s' cannot be read: %s.", name,
                        err.msg);
    case IMAGE_PROBE_OK:
        break;
    }
    log_err("reference picture: %s", err.msg);
    api_error_from(p->e, &err);
    return false;
}

static bool digest(struct create_parse *p, char ret_sha256[65])
{
    struct sha256 *sha;

    if (p->r->reference == REFERENCE_FILE) {
        memcpy(ret_sha256, p->fields->files[p->r->reference_file].sha256, SHA256_HEX);
        return true;
    }
    sha = sha256_create();
    if (!sha) {
        return create_no_memory(p->e);
    }
    sha256_update(sha, p->r->reference_data, p->r->reference_bytes);
    sha256_final(sha, ret_sha256);
    sha256_free(sha);
    return true;
}

bool create_reference(struct create_parse *p, char ret_sha256[65])
{
    const struct create_value *value = NULL;
    const char *name = NULL;

    ret_sha256[0] = '\0';
    if (!find_reference(p, &name, &value)) {
        return false;
    }
    if (!name) {
        return true;
    }
    if (!p->facts->image) {
        return api_fail(p->e, API_UNSUPPORTED_PARAMETER, name,
                        "'%s' is not supported: the model takes no picture.", name);
    }
    if (value && !take_value(p, value)) {
        return false;
    }
    p->r->spec.has_reference = true;
    return probe(p, name) && digest(p, ret_sha256);
}
