#include "base/clock.h"

#include <time.h>

#include "tests/support/test.h"

TEST(clock_never_goes_back)
{
    int64_t before = clock_now_ns();

    for (int i = 0; i < 10000; i++) {
        const int64_t now = clock_now_ns();

        EXPECT(now >= before);
        before = now;
    }
}

TEST(clock_counts_nanoseconds)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    const int64_t start = clock_now_ns();
    int64_t passed;

    EXPECT(nanosleep(&pause, NULL) == 0);
    passed = clock_now_ns() - start;
    EXPECT(passed >= 20000000); /* and no upper bound: the machine may be busy */
}

static int64_t realtime_ms(void)
{
    struct timespec t;

    timespec_get(&t, TIME_UTC);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

TEST(clock_wall_is_the_time_of_day)
{
    const int64_t before = realtime_ms(); /* time() is coarser, and may be behind */
    const int64_t wall = clock_wall_ms();

    EXPECT(wall >= before && wall <= realtime_ms());
}

TEST(clock_seconds_converts)
{
    EXPECT(clock_seconds(2500000000) == 2.5);
    EXPECT(clock_seconds(-1000000000) == -1.0);
}
