#include "media/av_error.h"

#include <errno.h>
#include <libavutil/error.h>
#include <libavutil/log.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_once_t quiet_once = PTHREAD_ONCE_INIT;

static void be_quiet(void)
{
    av_log_set_level(AV_LOG_QUIET);
}

void av_error_init(void)
{
    pthread_once(&quiet_once, be_quiet);
}

static enum err_code code_of(int av_code, enum err_code otherwise)
{
    switch (av_code) {
    case AVERROR(ENOMEM):
        return ERR_NO_MEMORY;
    case AVERROR(ENOSPC):
    case AVERROR(EDQUOT):
    case AVERROR(EFBIG):
        return ERR_NO_SPACE;
    default:
        return otherwise;
    }
}

static int set(struct err *err, enum err_code code, int av_code, const char *format, va_list args)
{
    char sentence[sizeof(err->msg)];
    char what[AV_ERROR_MAX_STRING_SIZE];

    vsnprintf(sentence, sizeof(sentence), format, args);
    if (av_strerror(av_code, what, sizeof(what)) < 0) {
        snprintf(what, sizeof(what), "libav error %d", av_code);
    }
    return err_set(err, code_of(av_code, code), "%s: %s", sentence, what);
}

int av_error_set(struct err *err, enum err_code code, int av_code, const char *format, ...)
{
    va_list args;
    int rc;

    va_start(args, format);
    rc = set(err, code, av_code, format, args);
    va_end(args);
    return rc;
}

int av_error_set_errno(struct err *err, enum err_code code, int errno_value, const char *format,
                       ...)
{
    va_list args;
    int rc;

    va_start(args, format);
    rc = set(err, code, AVERROR(errno_value), format, args);
    va_end(args);
    return rc;
}
