/*
 * json.h - JSON and text from anybody: the one place of this room that lets cJSON parse.
 *
 * cJSON takes more than the standard allows (raw control characters, 01, \u0000, any bytes), recurses as
 * deep as it is told to and searches lists. So our own scanner goes first and passes only what is
 * valid, shallow and bounded in values and in members per object; then nothing that cJSON or a loop over its
 * lists does can take long. Any thread.
 */
#ifndef API_JSON_H
#define API_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    JSON_MAX_VALUES = 4096, /* in all */
    JSON_MAX_MEMBERS = 256, /* of one object */
    /* Bytes as written, with the quotes: 64 characters, each escaped as two \uXXXX. */
    JSON_MAX_NAME = 64 * 12 + 2,
    JSON_MAX_NUMBER = 60, /* likewise; cJSON cuts at 63 */
};

/* The largest integer that, and whose neighbours, a double holds. */
#define JSON_MAX_SAFE ((int64_t)9007199254740991)

/* Bytes of the UTF-8 character at text[0, len), 1..4; 0: there is none. Strict: no overlong form, no
 * surrogate, nothing above U+10FFFF. */
size_t json_utf8_length(const char *text, size_t len);

/* Is text[0, len) valid UTF-8 without NUL? */
bool json_utf8_valid(const char *text, size_t len);

/* Characters of valid UTF-8. */
size_t json_code_points(const char *text);

/* Parses text[0, len), one value; free with cJSON_Delete. Errors: ERR_FORMAT says what and where
 * (syntax, UTF-8, NUL, depth, the limits above, a name given twice, a number that is not finite, bytes after
 * the value), ERR_NO_MEMORY. */
MUST_CHECK int json_parse(cJSON **ret, const char *text, size_t len, int max_depth,
                          struct err *err);

/* Values that may also have come as the text of a form. False: it is no such thing. Text is a plain
 * decimal: no blanks, no exponent, no '+'. */
bool json_to_int(const cJSON *value, int64_t *ret); /* within +-JSON_MAX_SAFE */
bool json_to_real(const cJSON *value, double *ret);
bool json_to_bool(const cJSON *value, bool *ret); /* also 1 and 0 */

/* NULL when it is no string. */
const char *json_to_text(const cJSON *value);

/* Do both mean the same, be they text or not? */
bool json_same(const cJSON *a, const cJSON *b);

#endif
