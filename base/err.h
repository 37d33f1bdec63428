/*
 * err.h - errors as values: a negative code and one written sentence.
 *
 * A function that can fail returns int (ERR_OK or a negative enum err_code) and takes a
 * struct err * as its last parameter; the caller owns it and it is never NULL. The sentence is
 * written once, where the error arises, and names the file, field and limit; callers may put
 * context in front with err_prefix(). Whatever was put in, it is one line of printable UTF-8. Any thread.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/macros.h"

C_BEGIN

enum err_code {
    ERR_OK = 0,
    ERR_INVALID = -1,     /* an argument or a field has a value that is not allowed */
    ERR_IO = -2,          /* the operating system refused a read, write or open */
    ERR_NO_MEMORY = -3,   /* host memory */
    ERR_NO_VRAM = -4,     /* device memory, or the plan does not fit --memory-limit */
    ERR_DEVICE = -5,      /* the device failed; see device.h for what is lost */
    ERR_FORMAT = -6,      /* a file is not what its name says */
    ERR_UNSUPPORTED = -7, /* well-formed, but not something this program can run */
    ERR_NOT_FOUND = -8,
    ERR_CANCELLED = -9,
    ERR_BUSY = -10,
    ERR_NUMERIC = -11,  /* a stage produced NaN or infinity */
    ERR_NO_SPACE = -12, /* disk full or file size limit */
    ERR_FENCED = -13,   /* somebody else holds the job by now: see storage/store.h */
};

struct err {
    int code;
    char msg[512];
};

/* Writes code and sentence; returns code, so that "return err_set(...)" is the error exit. */
int err_set(struct err *err, enum err_code code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "PREFIX: " in front of the sentence; returns err->code. */
int err_prefix(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* The code's name as API clients see it, such as "out_of_memory". Never NULL. */
const char *err_code_name(int code);

/* A violated invariant is a bug, not an error: say where, and stop. Always on. */
#define CHECK_BUG(cond)                                                                            \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            err_bug(__FILE__, __LINE__, #cond);                                                    \
        }                                                                                          \
    } while (0)

__attribute__((noreturn)) void err_bug(const char *file, int line, const char *cond);

C_END

#endif
