#include "api/recent.h"

#include <string.h>

#include "tests/support/test.h"

#define SECOND INT64_C(1000000000)

TEST(recent_finds_the_same_request_of_the_same_client)
{
    static struct recent_table t;
    const struct recent *r;
    int64_t n;

    EXPECT(!recent_find(&t, "c", "f", 0));
    n = recent_add(&t, "c", "f", 0);
    r = recent_find(&t, "c", "f", 0);
    EXPECT(r && r->number == n);
    EXPECT_STR(r->id, "");
    recent_created(&t, n, "video_1");
    EXPECT_STR(recent_find(&t, "c", "f", 120 * SECOND)->id, "video_1");
    EXPECT(!recent_find(&t, "c", "f", 120 * SECOND + 1));
    EXPECT(!recent_find(&t, "d", "f", 0) && !recent_find(&t, "c", "g", 0));
}

TEST(the_newest_is_found_and_dropped_ones_are_not)
{
    static struct recent_table t;
    const int64_t first = recent_add(&t, "c", "f", 0);
    const int64_t second = recent_add(&t, "c", "f", 0);

    EXPECT_INT(recent_find(&t, "c", "f", 0)->number, second);
    recent_drop(&t, second);
    EXPECT_INT(recent_find(&t, "c", "f", 0)->number, first);
}

TEST(the_table_forgets_the_oldest)
{
    static struct recent_table t;
    const int64_t first = recent_add(&t, "c", "first", 0);

    for (int i = 0; i < RECENT_MAX; i++) {
        recent_add(&t, "c", "other", 0);
    }
    EXPECT(!recent_find(&t, "c", "first", 0));
    recent_created(&t, first, "video_1"); /* is another one's place now */
    recent_drop(&t, first);
    EXPECT_STR(recent_find(&t, "c", "other", 0)->id, "");
}
