/*
 * av_error.h - what libavcodec, libavformat and libswscale report, as our errors.
 *
 * The libraries' own log is switched off by whoever calls them (av_error_init): what matters is in
 * their return codes, and a daemon's stderr belongs to log.h. Any thread.
 */
#ifndef MEDIA_AV_ERROR_H
#define MEDIA_AV_ERROR_H

#include "base/err.h"

/* Silences the libraries; idempotent, the first call counts. */
void av_error_init(void);

/* "SENTENCE: what the library says". An av_code of ENOMEM becomes ERR_NO_MEMORY, one of ENOSPC,
 * EDQUOT or EFBIG ERR_NO_SPACE; otherwise the code is `code`. Returns the code. */
int av_error_set(struct err *err, enum err_code code, int av_code, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* The same for an errno value. */
int av_error_set_errno(struct err *err, enum err_code code, int errno_value, const char *format,
                       ...) PRINTF_LIKE(4, 5);

#endif
