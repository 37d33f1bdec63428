#include "api/api_error.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http.h"
#include "api/json.h"

enum {
    DEFAULT_RETRY_MS = 1000,
    MAX_RETRY_MS = 60000, /* the SDK ignores what is longer, and comes back at once */
};

enum retry {
    RETRY_NONE,
    RETRY_AFTER,
    RETRY_FINAL,
};

static const struct row {
    const char *name;
    int status;
    const char *type;
    enum retry retry;
} rows[] = {
#define API_CODE(name, code, status, type, retry) {code, status, type, RETRY_##retry},
#include "api/api_codes.def"
#undef API_CODE
};

/* Copies as one line of valid UTF-8, '?' for what is none; whole characters only. */
static void clean_copy(char *to, size_t size, const char *text)
{
    const size_t len = strlen(text);
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        const size_t c = json_utf8_length(text + i, len - i);

        if (n + (c > 0 ? c : 1) >= size) {
            break;
        }
        if (c == 0 || (unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            to[n++] = '?';
            i++;
        } else {
            memcpy(to + n, text + i, c);
            n += c;
            i += c;
        }
    }
    to[n] = '\0';
}

bool api_fail(struct api_error *e, enum api_code code, const char *param, const char *format, ...)
{
    char text[sizeof(e->message) + 64]; /* a character cut here does not make it to the message */
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    *e = (struct api_error){.code = code};
    clean_copy(e->param, sizeof(e->param), param);
    clean_copy(e->message, sizeof(e->message), text);
    return false;
}

int api_code_status(enum api_code code)
{
    return rows[code].status;
}

const char *api_code_name(enum api_code code)
{
    return rows[code].name;
}

bool api_error_json(const struct api_error *e, struct str *out)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *error = cJSON_AddObjectToObject(root, "error");
    char *text = NULL;
    bool ok = cJSON_AddStringToObject(error, "message", e->message) &&
              cJSON_AddStringToObject(error, "type", rows[e->code].type) &&
              (e->param[0] != '\0' ? cJSON_AddStringToObject(error, "param", e->param)
                                   : cJSON_AddNullToObject(error, "param")) &&
              cJSON_AddStringToObject(error, "code", rows[e->code].name);

    if (ok) {
        text = cJSON_PrintUnformatted(root);
    }
    ok = text && str_add(out, text);
    cJSON_free(text);
    cJSON_Delete(root);
    return ok;
}

static void set_retry_headers(struct http_request *req, const struct api_error *e)
{
    int ms = e->retry_after_ms;

    if (rows[e->code].retry == RETRY_FINAL) {
        http_set_header(req, "x-should-retry", "false");
        return;
    }
    if (ms <= 0 && rows[e->code].retry == RETRY_AFTER) {
        ms = DEFAULT_RETRY_MS;
    }
    if (ms > 0) {
        ms = ms > MAX_RETRY_MS ? MAX_RETRY_MS : ms;
        http_set_headerf(req, "Retry-After", "%d", (ms + 999) / 1000);
        http_set_headerf(req, "retry-after-ms", "%d", ms);
    }
}

void api_respond_error(struct http_request *req, const struct api_error *e)
{
    static const char no_memory[] =
        "{\"error\":{\"message\":\"The server is out of memory.\",\"type\":"
        "\"server_error\",\"param\":null,\"code\":\"internal_error\"}}";
    const int status = rows[e->code].status;
    struct str body;

    str_init(&body, 8192);
    http_set_header(req, "Cache-Control", "no-store");
    if (status == 401) {
        http_set_header(req, "WWW-Authenticate", "Bearer");
    }
    if (status == 413 || status == 414 || status == 431) {
        http_set_close(req); /* the rest of what was sent is not read */
    }
    if (api_error_json(e, &body)) {
        set_retry_headers(req, e);
        http_respond(req, status, "application/json", body.data, body.len);
    } else {
        http_respond(req, 500, "application/json", no_memory, strlen(no_memory));
    }
    str_done(&body);
}

void api_error_from(struct api_error *ret, const struct err *err)
{
    if (err->code == ERR_NO_SPACE) {
        api_fail(ret, API_INSUFFICIENT_STORAGE, "", "The server has no space left for this.");
    } else if (err->code == ERR_NO_MEMORY) {
        api_fail(ret, API_INTERNAL_ERROR, "", "The server is out of memory.");
    } else {
        api_fail(ret, API_INTERNAL_ERROR, "",
                 "The server failed at this. The reason is in its log, under this request's id.");
    }
}
