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

TEST(clock_wall_is_the_time_of_day)
{
    const int64_t before = (int64_t)time(NULL);
    const int64_t wall = clock_wall_s();

    EXPECT(wall >= before && wall <= (int64_t)time(NULL));
}

TEST(clock_seconds_converts)
{
    EXPECT(clock_seconds(2500000000) == 2.5);
    EXPECT(clock_seconds(-1000000000) == -1.0);
}
