/*
 * range.h - the Range header of a GET (RFC 9110, 14.2). Pure; any thread.
 */
#ifndef API_RANGE_H
#define API_RANGE_H

#include <stdint.h>

enum range_kind {
    RANGE_WHOLE, /* none, not bytes, not well-formed, or several: the whole is sent */
    RANGE_PART,
    RANGE_UNSATISFIABLE,
};

/* header may be NULL. *ret_first and *ret_len are what to send, for all but RANGE_UNSATISFIABLE. */
enum range_kind range_parse(const char *header, int64_t size, int64_t *ret_first, int64_t *ret_len);

#endif
