/*
 * fields.h - the body of a POST as one tree, whatever its encoding: JSON, application/x-www-form-urlencoded
 * or multipart/form-data.
 *
 * Form names: "name" is a scalar, "name[key]" a member of an object, "name[]" an element of an array; the
 * tree then has strings where JSON would have numbers, so the getters take both. A file part becomes an
 * entry in files, not in the tree. null, and an empty form value, are absent. Limits: 64 parts, text part
 * 64 KiB (prompt, negative_prompt, extra_*, references: up to the body's limit), JSON depth 32.
 *
 * Owns everything. Loop thread.
 */
#ifndef API_FIELDS_H
#define API_FIELDS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/api_error.h"

enum {
    FIELDS_MAX_PARTS = 64,
    FIELDS_MAX_TEXT = 64 << 10,
    FIELDS_MAX_REFERENCE = 20971520 + 4096, /* a data URL */
    FIELDS_MAX_DEPTH = 32,
    FIELDS_MAX_FILES = 4,
    FIELDS_PATH = 1024,
};

struct fields_file {
    char name[64];          /* of the part: "input_reference" */
    char path[FIELDS_PATH]; /* spooled there; removed by fields_done unless taken (path[0] = 0) */
    int64_t bytes;
    char sha256[65];
};

struct fields {
    cJSON *root; /* an object */
    bool form;   /* values are text */
    int n_files;
    struct fields_file files[FIELDS_MAX_FILES];
};

void fields_done(struct fields *f);

/* Strict UTF-8, no NUL, one object, depth limit; duplicate member names: invalid_json. False: *e says why. */
bool fields_from_json(struct fields *ret, const char *data, size_t len, struct api_error *e);
bool fields_from_urlencoded(struct fields *ret, const char *data, size_t len, struct api_error *e);

/* ---- multipart, as it arrives: our own parser, because a part's end must be known (libmicrohttpd's
 * post processor joins two parts of one name) and files go to disk while they come ---- */

struct multipart;

/* boundary: from the content type. Files are spooled to spool_dir. */
bool multipart_open(struct multipart **ret, const char *content_type, const char *spool_dir,
                    int64_t max_file, struct api_error *e);
/* False after an error, which multipart_finish tells; the rest may be swallowed. */
bool multipart_feed(struct multipart *m, const void *data, size_t len);
/* invalid_multipart when the final boundary is missing, a scalar came twice, ...; payload_too_large. */
bool multipart_finish(struct multipart *m, struct fields *ret, struct api_error *e);
/* Accepts NULL; removes what was spooled and not handed over. */
void multipart_free(struct multipart *m);

#endif
