#include "api/api_error.h"

#include <stdarg.h>
#include <string.h>

#include "api/http.h"
#include "api/json.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

/* In place of the server: what it was told. */
static struct answer {
    int status;
    char headers[1024];
    char body[8192];
    bool close;
} answer;

void http_set_header(struct http_request *req, const char *name, const char *value)
{
    const size_t n = strlen(answer.headers);

    (void)req;
    snprintf(answer.headers + n, sizeof(answer.headers) - n, "%s: %s\n", name, value);
}

void http_set_headerf(struct http_request *req, const char *name, const char *format, ...)
{
    char value[128];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    http_set_header(req, name, value);
}

void http_set_close(struct http_request *req)
{
    (void)req;
    answer.close = true;
}

void http_respond(struct http_request *req, int status, const char *content_type, const void *data,
                  size_t len)
{
    (void)req;
    EXPECT_STR(content_type, "application/json");
    answer.status = status;
    snprintf(answer.body, sizeof(answer.body), "%.*s", (int)len, (const char *)data);
}

static const struct answer *respond(enum api_code code, int retry_after_ms)
{
    struct api_error e;

    api_fail(&e, code, "", "No.");
    e.retry_after_ms = retry_after_ms;
    answer = (struct answer){0};
    api_respond_error(NULL, &e);
    return &answer;
}

TEST(api_error_has_the_contracts_shape)
{
    struct api_error e;
    struct str out;

    str_init(&out, 4096);
    EXPECT(!api_fail(&e, API_INVALID_SIZE, "size", "Invalid value: '%s'.", "1281x720"));
    EXPECT(api_error_json(&e, &out));
    EXPECT_STR(out.data,
               "{\"error\":{\"message\":\"Invalid value: '1281x720'.\",\"type\":"
               "\"invalid_request_error\",\"param\":\"size\",\"code\":\"invalid_size\"}}");
    out.len = 0;
    api_fail(&e, API_UNKNOWN_URL, "", "No.");
    EXPECT(api_error_json(&e, &out));
    EXPECT_CONTAINS(out.data, "\"param\":null");
    str_done(&out);
}

TEST(api_error_is_one_clean_line_of_utf8)
{
    char text[2000];
    struct api_error e;

    api_fail(&e, API_INVALID_VALUE, "a\nb\xff", "x\r\n\x7f\xed\xa0\x80 \xc3\xa4 \xc3");
    EXPECT_STR(e.param, "a?b?");
    EXPECT_STR(e.message, "x?????? \xc3\xa4 ?");
    for (int shift = 0; shift < 4; shift++) { /* cut anywhere in a character */
        memset(text, 'a', (size_t)shift);
        for (size_t i = (size_t)shift; i + 4 < sizeof(text); i += 4) {
            memcpy(text + i, "\xf0\x9f\x98\x80", 5);
        }
        api_fail(&e, API_INVALID_VALUE, text, "%s", text);
        EXPECT(json_utf8_valid(e.message, strlen(e.message)) && !strchr(e.message, '?'));
        EXPECT(json_utf8_valid(e.param, strlen(e.param)) && !strchr(e.param, '?'));
        EXPECT(strlen(e.message) > sizeof(e.message) - 5);
    }
}

TEST(api_error_codes_are_complete_and_different)
{
    for (int i = 0; i < API_CODE_COUNT; i++) {
        EXPECT(api_code_status(i) >= 400 && api_code_status(i) < 600);
        for (int k = 0; k < i; k++) {
            EXPECT(strcmp(api_code_name(i), api_code_name(k)) != 0);
        }
    }
    EXPECT_INT(API_CODE_COUNT, 51);
    EXPECT_INT(api_code_status(API_VIDEO_NOT_READY), 404);
    EXPECT_STR(api_code_name(API_VIDEO_NOT_READY), "video_not_ready");
}

TEST(api_error_answers_with_the_headers_of_its_code)
{
    static const struct {
        enum api_code code;
        int retry_after_ms;
        int status;
        const char *header; /* NULL: nothing but Cache-Control */
        bool close;
    } cases[] = {
        {API_INVALID_VALUE, 0, 400, NULL, false},
        {API_MISSING_API_KEY, 0, 401, "WWW-Authenticate: Bearer\n", false},
        {API_REQUEST_TIMEOUT, 0, 408, NULL, false},
        {API_IDEMPOTENCY_IN_PROGRESS, 0, 409, "Retry-After: 1\nretry-after-ms: 1000\n", false},
        {API_PAYLOAD_TOO_LARGE, 0, 413, NULL, true},
        {API_URI_TOO_LONG, 0, 414, NULL, true},
        {API_HEADERS_TOO_LARGE, 0, 431, NULL, true},
        {API_QUEUE_FULL, 1500, 429, "Retry-After: 2\nretry-after-ms: 1500\n", false},
        {API_QUEUE_FULL, 3600000, 429, "Retry-After: 60\nretry-after-ms: 60000\n", false},
        {API_VIDEO_NOT_READY, 250, 404, "Retry-After: 1\nretry-after-ms: 250\n", false},
        {API_INTERNAL_ERROR, 0, 500, NULL, false},
        {API_DRAINING, 0, 503, "Retry-After: 1\n", false},
        {API_SYNC_TIMEOUT, 5000, 504, "x-should-retry: false\n", false},
        {API_INSUFFICIENT_STORAGE, 0, 507, "x-should-retry: false\n", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct answer *a = respond(cases[i].code, cases[i].retry_after_ms);

        EXPECT_INT(a->status, cases[i].status);
        EXPECT_CONTAINS(a->headers, "Cache-Control: no-store\n");
        EXPECT_CONTAINS(a->headers, cases[i].header ? cases[i].header : "");
        EXPECT(cases[i].header || strcmp(a->headers, "Cache-Control: no-store\n") == 0);
        EXPECT_INT(a->close, cases[i].close);
        EXPECT_CONTAINS(a->body, api_code_name(cases[i].code));
    }
}

TEST(api_error_answers_without_memory_too)
{
    alloc_fail_hook_cjson();
    for (long n = 1;; n++) {
        const struct answer *a;

        alloc_fail_at(n);
        a = respond(API_INVALID_VALUE, 0);
        if (!alloc_fail_stop()) {
            EXPECT_INT(a->status, 400);
            break;
        }
        EXPECT_INT(a->status, 500);
        EXPECT_CONTAINS(a->body, "internal_error");
    }
}

TEST(api_error_from_below_tells_no_details)
{
    static const struct {
        int code;
        enum api_code api;
    } cases[] = {
        {ERR_NO_SPACE, API_INSUFFICIENT_STORAGE},
        {ERR_NO_MEMORY, API_INTERNAL_ERROR},
        {ERR_IO, API_INTERNAL_ERROR},
        {ERR_BUSY, API_INTERNAL_ERROR},
        {ERR_FORMAT, API_INTERNAL_ERROR},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_error e;
        struct err err;

        err_set(&err, cases[i].code, "/secret/file: broken");
        api_error_from(&e, &err);
        EXPECT_INT(e.code, cases[i].api);
        EXPECT(!strstr(e.message, "secret"));
    }
}
