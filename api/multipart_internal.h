/*
 * multipart_internal.h - the header block of a part.
 */
#ifndef API_MULTIPART_INTERNAL_H
#define API_MULTIPART_INTERNAL_H

#include "api/fields_internal.h"

enum {
    MULTIPART_HEAD_MAX = 8 << 10
};

struct multipart_part {
    char name[FIELDS_NAME];
    bool is_file;      /* it has a filename, be it empty */
    bool unnamed_file; /* filename="": what a page sends when no file was chosen */
};

/* head[len] ends with an empty line and is changed; len <= MULTIPART_HEAD_MAX. Returns what is wrong, such
 * as "has no name", or NULL. */
const char *multipart_parse_head(struct multipart_part *ret, char *head, size_t len);

/* At a parameter of a header: "; name=value". Moves *p behind it; the value as it is meant, without
 * quotes. False at the end of the line (**p is NUL), or when it is malformed. */
bool multipart_next_param(const char **p, char *name, char *value, size_t size);

#endif
