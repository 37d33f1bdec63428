#include <string.h>

#include "jobs/scheduler.h"
#include "tests/support/test.h"

static struct scheduler *create(void)
{
    struct scheduler *s = NULL;
    struct err err;

    EXPECT_OK(scheduler_create(&s, &err));
    return s;
}

TEST(scheduler_of_equals_the_oldest_goes_first)
{
    const struct scheduler_job jobs[] = {{"1", "a", 0, false}, {"2", "a", 0, false}};
    struct scheduler *s = create();

    EXPECT_INT(scheduler_pick(s, jobs, 2), 0);
    EXPECT_INT(scheduler_pick(s, jobs, 0), -1);
    scheduler_free(s);
}

TEST(scheduler_priority_comes_before_turns_and_age)
{
    const struct scheduler_job jobs[] = {
        {"1", "a", 0, true}, {"2", "b", 0, false}, {"3", "a", 5, false}};
    struct scheduler *s = create();

    scheduler_served(s, "a");
    EXPECT_INT(scheduler_pick(s, jobs, 3), 2);
    EXPECT_INT(scheduler_pick(s, jobs, 2), 0); /* begun */
    scheduler_free(s);
}

TEST(scheduler_clients_take_turns)
{
    const struct scheduler_job jobs[] = {
        {"1", "a", 0, false}, {"2", "a", 0, false}, {"3", "a", 0, false},
        {"4", "b", 0, false}, {"5", "c", 0, false}, {"6", "b", 0, false},
    };
    static const int want[] = {0, 3, 4, 1, 5, 2};
    struct scheduler *s = create();
    int order[6];

    scheduler_order(s, jobs, 6, order);
    for (int i = 0; i < 6; i++) {
        EXPECT_INT(order[i], want[i]);
    }
    scheduler_served(s, "a");
    EXPECT_INT(scheduler_pick(s, jobs, 6), 3);
    scheduler_served(s, "b");
    EXPECT_INT(scheduler_pick(s, jobs, 6), 4);
    scheduler_served(s, "c");
    EXPECT_INT(scheduler_pick(s, jobs, 6), 0);
    scheduler_free(s);
}

TEST(scheduler_forgets_the_client_served_longest_ago)
{
    struct scheduler *s = create();
    char name[16];

    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        scheduler_served(s, name);
    }
    const struct scheduler_job jobs[] = {{"1", "c4999", 0, false}, {"2", "c10", 0, false}};

    EXPECT_INT(scheduler_pick(s, jobs, 2), 1);
    scheduler_free(s);
}
