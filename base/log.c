#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static atomic_int max_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&max_level, (int)level);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load(&max_level);
}

static size_t write_head(char *line, size_t size, enum log_level level)
{
    static const int priority[] = {3, 4, 6, 7}; /* sd-daemon(3) */
    static const char *const name[] = {"error", "warn", "info", "debug"};
    struct timespec now;
    struct tm utc;
    size_t n;

    if (getenv("JOURNAL_STREAM")) {
        return (size_t)snprintf(line, size, "<%d>", priority[level]);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return n +
           (size_t)snprintf(line + n, size - n, ".%03ldZ %s ", now.tv_nsec / 1000000, name[level]);
}

void log_write(enum log_level level, const char *format, ...)
{
    char line[1024];
    va_list args;
    size_t n;
    int m;

    if ((int)level > atomic_load(&max_level)) {
        return;
    }
    n = write_head(line, sizeof(line), level);
    va_start(args, format);
    m = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
    va_end(args);
    if (m < 0) {
        return;
    }
    n += (size_t)m < sizeof(line) - n - 1 ? (size_t)m : sizeof(line) - n - 2;
    line[n++] = '\n';
    fwrite(line, 1, n, stderr); /* one call, so that lines of two threads do not mix */
}
