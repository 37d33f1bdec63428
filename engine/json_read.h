/*
 * json_read.h - JSON that came with a model: limits first, then cJSON, then typed fields.
 *
 * cJSON is called here and nowhere else in engine/. What it would take from hostile text without
 * complaint is refused before or after it: depth, number of values (64 bytes of memory each), bytes
 * after the document, keys given twice, numbers that are not finite.
 * Any thread.
 */
#ifndef ENGINE_JSON_READ_H
#define ENGINE_JSON_READ_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    JSON_MAX_DEPTH = 16
};

/* Integers up to 2^53 are exact in a double, which is what cJSON keeps. */
#define JSON_MAX_INT ((int64_t)1 << 53)

/* Parses text[0, len), which must be one object with at most max_values values in all; free with
 * cJSON_Delete. `file` is for messages. Errors: ERR_FORMAT, ERR_NO_MEMORY. */
MUST_CHECK int json_parse_object(cJSON **ret, const char *text, size_t len, size_t max_values,
                                 const char *file, struct err *err);

/* Reads a regular file of at most max bytes whole; free() it. It is NUL-terminated.
 * Errors: ERR_NOT_FOUND, ERR_IO, ERR_FORMAT (too long, not a file), ERR_NO_MEMORY. */
MUST_CHECK int json_read_file(char **ret, size_t *ret_len, const char *path, size_t max,
                              struct err *err);

/* Text from a file as it may stand in a message: at most size - 1 bytes of it, with '?' for all that
 * is not printable ASCII. Returns to. */
const char *json_printable(char *to, size_t size, const char *text);

/* An integer in [min, max]? */
bool json_is_int(const cJSON *item, int64_t min, int64_t max, int64_t *ret);

/*
 * The fields of one object. The first error stays: later calls return harmless values, and the
 * caller looks at rc once, at the end. A field that is null counts as missing.
 */
struct json_fields {
    const cJSON *object; /* borrowed */
    const char *file;    /* borrowed; for messages */
    struct err *err;     /* borrowed */
    int rc;              /* ERR_OK or the first error */
};

/* Also refuses keys that are given twice. */
void json_fields_init(struct json_fields *f, const cJSON *object, const char *file,
                      struct err *err);

/* "FILE: KEY: ..." as the first error, if there is none yet. Made printable, but for FILE. */
void json_fields_fail(struct json_fields *f, enum err_code code, const char *key,
                      const char *format, ...) PRINTF_LIKE(4, 5);

/* NULL when missing or null. */
const cJSON *json_find(const struct json_fields *f, const char *key);

/* Fields that must be there. Numbers are in [min, max]. */
int64_t json_int(struct json_fields *f, const char *key, int64_t min, int64_t max);
double json_real(struct json_fields *f, const char *key, double min, double max);
bool json_bool(struct json_fields *f, const char *key);
const char *json_text(struct json_fields *f, const char *key); /* never NULL; borrows the object */

/* Fields that may be missing. */
int64_t json_int_or(struct json_fields *f, const char *key, int64_t min, int64_t max, int64_t def);
double json_real_or(struct json_fields *f, const char *key, double min, double max, double def);
bool json_bool_or(struct json_fields *f, const char *key, bool def);
const char *json_text_or(struct json_fields *f, const char *key, const char *def);

/* Lists that must be there, of min_n..max_n entries in [min, max]; return the number of entries,
 * min_n after an error (the entries are then set to min or false). */
struct json_list {
    int min_n;
    int max_n;
    double min;
    double max;
};
int json_int_list(struct json_fields *f, const char *key, const struct json_list *limits,
                  int64_t *ret);
int json_real_list(struct json_fields *f, const char *key, const struct json_list *limits,
                   double *ret);
int json_bool_list(struct json_fields *f, const char *key, const struct json_list *limits,
                   bool *ret);

#endif
