/*
 * api_error.h - what a client is told when something is wrong: one table of codes, one shape.
 *
 *   {"error":{"message":...,"type":...,"param":...,"code":...}}
 *
 * Any thread.
 */
#ifndef API_API_ERROR_H
#define API_API_ERROR_H

#include "base/err.h"
#include "base/str.h"

struct http_request;

/* One row for each code of the contract, API.md 3.1. */
enum api_code {
#define API_CODE(name, code, status, type, retry) API_##name,
#include "api/api_codes.def"
#undef API_CODE
    API_CODE_COUNT
};

struct api_error {
    enum api_code code;
    char param[80];     /* "" for null */
    char message[512];  /* one clean line of UTF-8 */
    int retry_after_ms; /* 0: none */
};

/* Returns false, so that "return api_fail(...)" is the error exit of parsers. */
bool api_fail(struct api_error *e, enum api_code code, const char *param, const char *format, ...)
    PRINTF_LIKE(4, 5);

int api_code_status(enum api_code code);
const char *api_code_name(enum api_code code);

/* Appends the JSON body. False when out of memory. */
bool api_error_json(const struct api_error *e, struct str *out);

/* Answers with it: status, body, Cache-Control: no-store, and the headers that belong to the code (Retry-After
 * and retry-after-ms, x-should-retry: false where it is final, WWW-Authenticate, Connection: close). */
void api_respond_error(struct http_request *req, const struct api_error *e);

/* An error of a lower room, as a client may see it: code by err->code, no file names. */
void api_error_from(struct api_error *ret, const struct err *err);

#endif
