/*
 * fields_internal.h - what the two form encodings share.
 */
#ifndef API_FIELDS_INTERNAL_H
#define API_FIELDS_INTERNAL_H

#include "api/fields.h"

enum {
    FIELDS_NAME = 128, /* of a form field, with the NUL */
};

/* Puts a form's pair into the tree: "name", "name[key]" or "name[]". value[len] is NUL. An empty value is
 * absent. Errors: INVALID_MULTIPART (a name of no such form, given twice), INVALID_VALUE (not UTF-8). */
bool fields_put(cJSON *root, const char *name, const char *value, size_t len, struct api_error *e);

/* Bytes that a text of this name may have. */
size_t fields_text_max(const char *name);

/* Both write the error and return false. */
bool fields_text_too_long(const char *name, struct api_error *e);
bool fields_no_memory(struct api_error *e);

#endif
