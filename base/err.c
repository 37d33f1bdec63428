#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 character at s (1..4), or 0 if there is none. */
static int utf8_length(const unsigned char *s)
{
    const int n = s[0] < 0x80                   ? 1
                  : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                  : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                  : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                : 0;

    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) { /* the terminating NUL too */
            return 0;
        }
    }
    return n;
}

/* Names and arguments come from outside: one line of printable UTF-8, whatever was in them. */
static void clean(char *msg)
{
    for (unsigned char *s = (unsigned char *)msg; *s != '\0';) {
        const int n = utf8_length(s);

        if (n == 0 || *s < 0x20 || *s == 0x7f) {
            *s = '?';
        }
        s += n > 0 ? n : 1;
    }
}

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    const int saved_errno = errno; /* %m in the format must see the caller's errno */
    va_list args;

    err->code = code;
    va_start(args, format);
    errno = saved_errno;
    vsnprintf(err->msg, sizeof(err->msg), format, args);
    va_end(args);
    clean(err->msg);
    return code;
}

int err_prefix(struct err *err, const char *format, ...)
{
    char old[2 + sizeof(err->msg)] = ": ";
    va_list args;
    int n;

    memcpy(old + 2, err->msg, sizeof(err->msg));
    va_start(args, format);
    n = vsnprintf(err->msg, sizeof(err->msg), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->msg)) {
        memcpy(err->msg + n, old, sizeof(err->msg) - (size_t)n); /* what does not fit is cut */
        err->msg[sizeof(err->msg) - 1] = '\0';
    }
    clean(err->msg);
    return err->code;
}

const char *err_code_name(int code)
{
    switch ((enum err_code)code) {
    case ERR_OK:
        return "ok";
    case ERR_INVALID:
        return "invalid_value";
    case ERR_IO:
        return "io_error";
    case ERR_NO_MEMORY:
    case ERR_NO_VRAM:
        return "out_of_memory";
    case ERR_DEVICE:
        return "device_lost";
    case ERR_FORMAT:
        return "malformed_file";
    case ERR_UNSUPPORTED:
        return "unsupported";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_CANCELLED:
        return "cancelled";
    case ERR_BUSY:
        return "busy";
    case ERR_NUMERIC:
        return "numeric_error";
    case ERR_NO_SPACE:
        return "insufficient_storage";
    case ERR_FENCED:
        return "fenced";
    }
    return "unknown";
}

void err_bug(const char *file, int line, const char *cond)
{
    fprintf(stderr, "bug: %s:%d: %s\n", file, line, cond);
    abort();
}
