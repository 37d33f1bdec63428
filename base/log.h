/*
 * log.h - lines on stderr, "key=value" fields, four levels.
 *
 * Under systemd (JOURNAL_STREAM is set) a line begins with the journal's "<N>" priority, else
 * with a UTC time stamp. Only worker/, daemon/ and api/ log at info and above; lower rooms return
 * errors and may log debug. Prompt text and keys appear at debug only. Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/macros.h"

enum log_level {
    LOG_LEVEL_ERR,  /* somebody has to act */
    LOG_LEVEL_WARN, /* odd, but handled */
    LOG_LEVEL_INFO, /* one line per job and per change of state */
    LOG_LEVEL_DEBUG,
};

/* Messages above `level` are dropped. Default: LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

void log_write(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_err(...)   log_write(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
