#include "api/range.h"

#include <stdbool.h>
#include <stddef.h>
#include <strings.h>

#include "base/macros.h"

static const char *skip_blanks(const char *s)
{
    while (*s == ' ' || *s == '\t') {
        s++;
    }
    return s;
}

/* Digits at *s; a number too large to hold becomes the largest one, which is behind every end. */
static bool read_number(const char **s, int64_t *ret)
{
    int64_t value = 0;
    const char *p = *s;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *p - '0', &value)) {
            value = INT64_MAX / 16; /* stays that large with any digits behind it */
        }
    }
    if (p == *s) {
        return false;
    }
    *s = p;
    *ret = value;
    return true;
}

static enum range_kind part(int64_t first, int64_t last, int64_t size, int64_t *ret_first,
                            int64_t *ret_len)
{
    if (first >= size) {
        return RANGE_UNSATISFIABLE;
    }
    if (last >= size) {
        last = size - 1;
    }
    *ret_first = first;
    *ret_len = last - first + 1;
    return RANGE_PART;
}

enum range_kind range_parse(const char *header, int64_t size, int64_t *ret_first, int64_t *ret_len)
{
    int64_t first = 0;
    int64_t last = 0;
    bool has_first;
    bool has_last;

    *ret_first = 0;
    *ret_len = size;
    if (!header || strncasecmp(header, "bytes=", 6) != 0) {
        return RANGE_WHOLE;
    }
    header = skip_blanks(header + 6);
    has_first = read_number(&header, &first);
    if (*header++ != '-') {
        return RANGE_WHOLE;
    }
    has_last = read_number(&header, &last);
    if (*skip_blanks(header) != '\0' || (!has_first && !has_last)) {
        return RANGE_WHOLE;
    }
    if (!has_first) { /* the last so many */
        return last == 0 ? RANGE_UNSATISFIABLE
                         : part(last < size ? size - last : 0, size - 1, size, ret_first, ret_len);
    }
    if (has_last && last < first) {
        return RANGE_WHOLE;
    }
    return part(first, has_last ? last : INT64_MAX, size, ret_first, ret_len);
}
