#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    const int saved_errno = errno; /* %m in the format must see the caller's errno */
    va_list args;

    err->code = code;
    va_start(args, format);
    errno = saved_errno;
    vsnprintf(err->msg, sizeof(err->msg), format, args);
    va_end(args);
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
    }
    return "unknown";
}

void err_bug(const char *file, int line, const char *cond)
{
    fprintf(stderr, "bug: %s:%d: %s\n", file, line, cond);
    abort();
}
