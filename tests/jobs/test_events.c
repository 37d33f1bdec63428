#include <stdlib.h>
#include <string.h>

#include "jobs/events.h"
#include "tests/support/test.h"

static void publish(struct events *e, int64_t seq, const char *type, const char *job)
{
    struct store_event from = {.seq = seq, .created_ms = 1795225817500, .data = "{\"x\":1}"};

    snprintf(from.type, sizeof(from.type), "%s", type);
    snprintf(from.job, sizeof(from.job), "%s", job);
    events_publish(e, &from);
}

TEST(events_are_formatted_as_the_contract_says)
{
    struct store_event from = {.seq = 90211,
                               .created_ms = 1795225817999,
                               .type = "video.block",
                               .job = "video_1",
                               .data = "{\"index\":2}"};
    struct event *e = event_format(&from);

    EXPECT_STR(e->text,
               "id: 90211\nevent: video.block\ndata: {\"type\":\"video.block\",\"seq\":90211,"
               "\"created_at\":1795225817,\"data\":{\"index\":2}}\n\n");
    EXPECT_INT(e->len, strlen(e->text));
    EXPECT(!e->ends_job);
    event_unref(e);
}

TEST(events_readers_follow_one_job_or_all)
{
    struct events *e = NULL;
    struct err err;
    bool gone;

    EXPECT_OK(events_open(&e, 8, 1 << 20, &err));
    EXPECT(!events_next(e, 0, NULL, &gone));
    EXPECT(!gone);
    publish(e, 3, "video.queued", "a");
    publish(e, 5, "video.queued", "b");
    publish(e, 9, "video.failed", "a");
    EXPECT_INT(events_next(e, 0, NULL, &gone)->seq, 3);
    EXPECT_INT(events_next(e, 3, NULL, &gone)->seq, 5);
    EXPECT_INT(events_next(e, 3, "a", &gone)->seq, 9);
    EXPECT(events_next(e, 3, "a", &gone)->ends_job);
    EXPECT(!events_next(e, 9, "a", &gone));
    EXPECT_INT(events_last(e), 9);
    events_close(e);
}

TEST(events_that_left_the_ring_are_in_the_store)
{
    struct events *e = NULL;
    struct event *kept;
    struct err err;
    bool gone;

    EXPECT_OK(events_open(&e, 4, 1 << 20, &err));
    events_set_last(e, 100);
    EXPECT(!events_next(e, 99, NULL, &gone));
    EXPECT(gone);
    EXPECT(!events_next(e, 100, NULL, &gone));
    EXPECT(!gone);
    for (int64_t i = 101; i <= 106; i++) {
        publish(e, i, "video.block", "a");
    }
    EXPECT(!events_next(e, 100, NULL, &gone));
    EXPECT(gone);
    kept = event_ref(events_next(e, 102, NULL, &gone));
    EXPECT(!gone);
    EXPECT_INT(kept->seq, 103);
    for (int64_t i = 107; i <= 110; i++) {
        publish(e, i, "video.block", "a");
    }
    EXPECT_INT(kept->seq, 103); /* who holds it may go on sending */
    event_unref(kept);
    events_close(e);
}

TEST(events_the_ring_is_bounded_in_bytes)
{
    struct events *e = NULL;
    struct err err;
    bool gone;
    int n = 0;

    EXPECT_OK(events_open(&e, 1000, 1000, &err));
    for (int64_t i = 1; i <= 100; i++) {
        publish(e, i, "video.block", "a");
    }
    for (int64_t after = 99; after >= 0; after--) {
        n += events_next(e, after, NULL, &gone) ? 1 : 0;
    }
    EXPECT(n >= 5 && n <= 10);
    events_close(e);
}
