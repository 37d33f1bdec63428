/*
 * str.h - a byte string that grows up to a stated maximum (curl's dynbuf idea).
 *
 * The maximum is given at init, so whatever a client can make grow has a limit. data is always
 * NUL-terminated; len does not count the NUL. Appending reports failure once: a str that failed
 * stays failed and keeps what it had. One thread at a time.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct str {
    char *data; /* owned; NULL until the first append */
    size_t len;
    size_t capacity;
    size_t max;
    bool failed; /* out of memory or over max */
};

void str_init(struct str *s, size_t max);
void str_done(struct str *s);

/* Each returns false when the string would pass its maximum or memory ran out. */
bool str_append(struct str *s, const void *data, size_t len);
bool str_add(struct str *s, const char *text);
bool str_addf(struct str *s, const char *format, ...) PRINTF_LIKE(2, 3);

/* Never NULL. */
const char *str_get(const struct str *s);

#endif
