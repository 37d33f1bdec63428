#include "storage/retention.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/sqlite_store.h"
#include "tests/support/store_contract.h"
#include "tests/support/test.h"

static struct err err;

struct bed {
    char dir[400];
    struct store *s;
    struct job_files *f;
};

static void bed_open(struct bed *b)
{
    char path[500];

    snprintf(b->dir, sizeof(b->dir), "%s/retention-XXXXXX", test_dir());
    EXPECT(mkdtemp(b->dir));
    snprintf(path, sizeof(path), "%s/jobs.db", b->dir);
    EXPECT_OK(sqlite_store_open(&b->s, path, &err));
    EXPECT_OK(job_files_open(&b->f, b->dir, false, &err));
}

static void bed_close(struct bed *b)
{
    job_files_close(b->f);
    store_close(b->s);
}

/* A finished video of `bytes`. */
static void make(struct bed *b, const char *id, int64_t ended_ms, int64_t expires_ms, int64_t bytes)
{
    struct store_event e = store_contract_event("video.completed", id, "{}");
    struct store_events events = {.event = &e, .n = 1};
    const struct store_end end = {.state = JOB_COMPLETED,
                                  .ended_ms = ended_ms,
                                  .expires_ms = expires_ms,
                                  .stored_bytes = bytes};
    void *data = calloc(1, (size_t)bytes);

    e.created_ms = ended_ms;
    EXPECT(data);
    store_contract_create(b->s, id);
    EXPECT_OK(job_files_make(b->f, id, &err));
    EXPECT_OK(job_files_write(b->f, id, JOB_VIDEO, 0, data, (size_t)bytes, &err));
    EXPECT_OK(store_end_queued(b->s, id, &end, &events, &err));
    free(data);
}

/* Where a video is: "bytes", "record" (410), or "gone" (404). Never bytes that no record says. */
static const char *where(struct bed *b, const char *id)
{
    struct job_row *row = NULL;
    char path[600];
    struct stat st;
    bool bytes;
    int64_t expired_ms;

    snprintf(path, sizeof(path), "%s/videos/%s", b->dir, id);
    bytes = stat(path, &st) == 0;
    if (store_get(b->s, id, &row, &err) == ERR_NOT_FOUND) {
        return bytes ? "orphaned" : "gone";
    }
    expired_ms = row->expired_ms;
    job_row_free(row);
    return bytes ? expired_ms ? "orphaned" : "bytes" : expired_ms ? "record" : "lost";
}

/* Runs a pass; the ids that went, as text. */
static const char *pass(struct bed *b, const struct retention_limits *limits, int64_t now_ms)
{
    static char text[512];
    struct store_ids ids = {0};
    size_t len = 0;

    EXPECT_OK(retention_run(b->s, b->f, limits, now_ms, &ids, &err));
    text[0] = '\0';
    for (int i = 0; i < ids.n; i++) {
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i > 0 ? " " : "", ids.id[i]);
    }
    free(ids.id);
    return text;
}

TEST(retention_removes_bytes_then_the_record)
{
    const struct retention_limits limits = {.gone_ms = 1000, .events_ms = 500, .keep_events = 1};
    struct bed b;

    bed_open(&b);
    make(&b, "video_1", 2000, 5000, 10);
    make(&b, "video_2", 3000, 0, 10); /* for ever */
    EXPECT_STR(pass(&b, &limits, 4999), "");
    EXPECT_STR(where(&b, "video_1"), "bytes");
    EXPECT_STR(pass(&b, &limits, 5000), "video_1");
    EXPECT_STR(where(&b, "video_1"), "record");
    EXPECT_STR(pass(&b, &limits, 6000), "");
    EXPECT_STR(where(&b, "video_1"), "record");
    EXPECT_STR(pass(&b, &limits, 6001), "");
    EXPECT_STR(where(&b, "video_1"), "gone");
    EXPECT_STR(where(&b, "video_2"), "bytes");
    bed_close(&b);
}

TEST(retention_keeps_the_disks_share)
{
    const struct retention_limits limits = {.max_bytes = 250, .gone_ms = 1000};
    struct bed b;

    bed_open(&b);
    make(&b, "video_1", 4000, 0, 100);
    make(&b, "video_2", 2000, 0, 100);
    EXPECT_STR(pass(&b, &limits, 5000), "");
    make(&b, "video_3", 3000, 0, 100);
    EXPECT_STR(pass(&b, &limits, 5000), "video_2"); /* ended first */
    EXPECT_STR(pass(&b, &limits, 5000), "");
    make(&b, "video_4", 4500, 0, 200);
    EXPECT_STR(pass(&b, &limits, 5000), "video_3 video_1");
    EXPECT_STR(where(&b, "video_4"), "bytes");
    make(&b, "video_5", 4600, 0, 251); /* alone too much: goes, too */
    EXPECT_STR(pass(&b, &limits, 5000), "video_4 video_5");
    bed_close(&b);
}

TEST(retention_prunes_events)
{
    const struct retention_limits limits = {.gone_ms = 1000, .events_ms = 500, .keep_events = 1};
    struct store_event *event = NULL;
    struct bed b;
    int64_t oldest = 0;
    int n = 0;

    bed_open(&b);
    make(&b, "video_1", 1000, 0, 1);
    make(&b, "video_2", 2000, 0, 1);
    make(&b, "video_3", 3000, 0, 1);
    EXPECT_STR(pass(&b, &limits, 2600), "");
    EXPECT_OK(store_read_events(b.s, 0, NULL, 10, &event, &n, &oldest, &err));
    EXPECT_INT(n, 1);
    EXPECT_STR(event[0].job, "video_3");
    EXPECT(oldest > 0 && oldest <= event[0].seq);
    store_event_done(&event[0]);
    free(event);
    bed_close(&b);
}

TEST(retention_says_what_it_did_when_it_fails)
{
    const struct retention_limits limits = {.gone_ms = 1000};
    struct store_ids ids = {0};
    struct bed b;
    char path[600];

    bed_open(&b);
    make(&b, "video_1", 1000, 1500, 1);
    make(&b, "video_2", 1000, 1600, 1);
    make(&b, "video_3", 1000, 1700, 1);
    snprintf(path, sizeof(path), "%s/videos/video_2/in_the_way", b.dir);
    EXPECT(mkdir(path, 0700) == 0);
    EXPECT_INT(retention_run(b.s, b.f, &limits, 2000, &ids, &err), ERR_IO);
    EXPECT_CONTAINS(err.msg, "video_2");
    EXPECT_INT(ids.n, 2); /* both say so in their record */
    EXPECT_STR(ids.id[0], "video_1");
    EXPECT_STR(ids.id[1], "video_2");
    free(ids.id);
    EXPECT_STR(where(&b, "video_1"), "record");
    EXPECT_STR(where(&b, "video_3"), "bytes");
    EXPECT_STR(pass(&b, &limits, 2000),
               "video_3"); /* one failure does not block the rest for ever */
    bed_close(&b);
}
