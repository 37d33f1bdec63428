/*
 * clock.h - monotonic time for measuring, wall time for time stamps. Any thread.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since an arbitrary start; never goes back. */
int64_t clock_now_ns(void);

/* Milliseconds since the Unix epoch. */
int64_t clock_wall_ms(void);

static inline double clock_seconds(int64_t ns)
{
    return (double)ns * 1e-9;
}

#endif
