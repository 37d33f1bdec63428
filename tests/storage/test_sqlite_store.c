#include "storage/sqlite_store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/store_contract.h"
#include "tests/support/test.h"

static struct err err;

static int open_in(struct store **ret, const char *dir, struct err *e)
{
    char path[600];

    snprintf(path, sizeof(path), "%s/jobs.db", dir);
    return sqlite_store_open(ret, path, e);
}

TEST(sqlite_store_keeps_the_contract)
{
    store_contract_run(open_in);
}

/* ---- helpers ---- */

/* The path of a database that is not there yet; good until the next one is asked for. */
static const char *fresh_path(void)
{
    static char path[512];
    static int n;

    snprintf(path, sizeof(path), "%s/fresh-%d.db", test_dir(), n++);
    return path;
}

static struct store *open_store(const char *path)
{
    struct store *s = NULL;

    EXPECT_OK(sqlite_store_open(&s, path, &err));
    return s;
}

static void refuse_open(const char *path, int code, const char *sentence)
{
    struct store *s = NULL;

    EXPECT_INT(sqlite_store_open(&s, path, &err), code);
    EXPECT(!s);
    EXPECT_CONTAINS(err.msg, path);
    EXPECT_CONTAINS(err.msg, sentence);
}

/* Past our code, on a connection of its own. */
static void raw_exec(const char *path, const char *sql)
{
    sqlite3 *db;
    char *msg = NULL;

    EXPECT_INT(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &msg) != SQLITE_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s", sql, msg);
    }
    sqlite3_close(db);
}

/* The first column of all rows, each with a newline behind it. */
static const char *raw_text(const char *path, const char *sql)
{
    static char text[8192];
    sqlite3 *db;
    sqlite3_stmt *stmt;
    size_t len = 0;

    text[0] = '\0';
    EXPECT_INT(sqlite3_open(path, &db), SQLITE_OK);
    EXPECT_INT(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, "%s\n", sqlite3_column_text(stmt, 0));
        EXPECT(len < sizeof(text));
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return text;
}

static int64_t log_one(struct store *s, const char *data)
{
    struct store_event e = store_contract_event("video.test", "", data);
    struct store_events events = {.event = &e, .n = 1};

    EXPECT_OK(store_log(s, &events, &err));
    return e.seq;
}

/* ---- the file ---- */

TEST(sqlite_store_is_private_and_leaves_one_file)
{
    const char *path = fresh_path();
    struct store *s = open_store(path);
    char wal[600];
    struct stat st;

    store_contract_create(s, "video_a");
    EXPECT_STR(raw_text(path, "PRAGMA journal_mode"), "wal\n");
    EXPECT_STR(raw_text(path, "PRAGMA user_version"), "2\n");
    snprintf(wal, sizeof(wal), "%s-wal", path);
    EXPECT(stat(wal, &st) == 0 && st.st_size > 0);
    EXPECT_INT(st.st_mode & 0777, 0600);
    store_close(s);
    EXPECT(stat(wal, &st) != 0 || st.st_size == 0);
    EXPECT(stat(path, &st) == 0);
    EXPECT_INT(st.st_mode & 0777, 0600);
    EXPECT_STR(raw_text(path, "SELECT id FROM job"), "video_a\n");
}

TEST(sqlite_store_refuses_what_is_not_its_database)
{
    char text[8192];
    const char *path = fresh_path();
    FILE *f = fopen(path, "w");

    memset(text, 'x', sizeof(text));
    EXPECT(f && fwrite(text, 1, sizeof(text), f) == sizeof(text) && fclose(f) == 0);
    refuse_open(path, ERR_FORMAT, "not a database");
    path = fresh_path();
    raw_exec(path, "CREATE TABLE bookmarks(url TEXT)");
    refuse_open(path, ERR_FORMAT, "another program");
    EXPECT_STR(raw_text(path, "SELECT name FROM sqlite_schema"), "bookmarks\n");
    EXPECT_STR(raw_text(path, "PRAGMA journal_mode"), "delete\n"); /* as it was */
    refuse_open("/nonexistent/jobs.db", ERR_IO, "No such file");
    refuse_open(test_dir(), ERR_IO, "");
}

TEST(sqlite_store_refuses_a_newer_version)
{
    const char *path = fresh_path();

    store_close(open_store(path));
    raw_exec(path, "PRAGMA user_version = 3");
    refuse_open(path, ERR_FORMAT, "of version 3; this program knows versions up to 2");
    EXPECT_STR(raw_text(path, "PRAGMA user_version"), "3\n");
}

TEST(sqlite_store_says_when_its_file_is_damaged)
{
    const char *path = fresh_path();
    struct store *s = open_store(path);
    struct job_row *row = NULL;
    int rc = ERR_OK;

    for (int i = 0; i < 100; i++) {
        char id[32];

        snprintf(id, sizeof(id), "video_%d", i);
        store_contract_create(s, id);
    }
    store_close(s);
    EXPECT(truncate(path, 8192) == 0);
    s = NULL;
    rc = sqlite_store_open(&s, path, &err);
    if (rc == ERR_OK) {
        rc = store_get(s, "video_50", &row, &err);
    }
    EXPECT_INT(rc, ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, path);
    store_close(s);
}

TEST(sqlite_store_check_notices_a_lost_file)
{
    const char *path = fresh_path();
    struct store *s = open_store(path);
    char other[600];

    EXPECT_OK(store_check(s, &err));
    snprintf(other, sizeof(other), "%s.moved", path);
    EXPECT(rename(path, other) == 0);
    EXPECT_INT(store_check(s, &err), ERR_IO);
    EXPECT_CONTAINS(err.msg, path);
    EXPECT(close(creat(path, 0600)) == 0);
    EXPECT_INT(store_check(s, &err), ERR_IO);
    EXPECT_CONTAINS(err.msg, "replaced");
    EXPECT(rename(other, path) == 0);
    EXPECT_OK(store_check(s, &err));
    store_close(s);
}

TEST(sqlite_store_takes_numbers_without_writing)
{
    const char *path = fresh_path();
    struct store *s = open_store(path);
    char wal[600];
    struct stat before;
    struct stat after;
    int64_t first = log_one(s, NULL);
    int writes = 0;

    snprintf(wal, sizeof(wal), "%s-wal", path);
    EXPECT(stat(wal, &before) == 0);
    for (int i = 1; i <= 2500; i++) {
        EXPECT_INT(log_one(s, NULL), first + i); /* alone: without gaps */
        EXPECT(stat(wal, &after) == 0);
        writes += after.st_size != before.st_size;
        before = after;
    }
    EXPECT_INT(writes, 2); /* a reservation is 1000 numbers */
    store_close(s);
}

/* ---- upgrades ---- */

static const char fill_version_1[] =
    "INSERT INTO job(id, client, model, \"group\", user, tags, metadata, spec, detail, fingerprint,"
    "  state, cancel_requested, priority, created_ms, started_ms, ended_ms, expires_ms, error_code,"
    "  error_message, epoch, restarts, blocks, frames, init_bytes, fragment_bytes, latent_bytes,"
    "  state_version, stored_bytes, worker, until_ms) VALUES"
    " ('video_1', 'alice', 'tiny', 'g', 'u', '[\"a\"]', '{\"k\":\"v\"}', '{\"prompt\":\"p\"}',"
    "  '{\"d\":1}', 'f1', 2, 0, 3, 100, 200, 300, 400, NULL, NULL, 5, 1, 2, 16, 600, 800, 128, 0,"
    "  12345, NULL, 0),"
    " ('video_2', 'bob', 'tiny', NULL, NULL, '', '', '{}', '{}', 'f2', 1, 1, 0, 110, 210, 0, 0,"
    "  NULL, NULL, 2, 0, 1, 8, 0, 100, 64, 0, 0, 'w1', 9000),"
    " ('video_3', 'bob', 'tiny', NULL, NULL, '', '', '{}', '{}', 'f3', 3, 0, 0, 120, 0, 320, 0,"
    "  'cancelled', 'so it was', 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0);"
    "INSERT INTO block VALUES('video_1', 0, 600, 100, 0, 8, 41), ('video_1', 1, 700, 100, 8, 8, "
    "42),"
    "  ('video_2', 0, 0, 100, 0, 8, 43);"
    "INSERT INTO event VALUES(900, 100, 'video.queued', 'video_1', '{}'),"
    "  (1801, 300, 'video.completed', 'video_1', '{\"x\":1}');"
    "INSERT INTO idempotency VALUES('alice', 'create', 'k', 'video_1', 'f1', 100);"
    "UPDATE meta SET value = 2000 WHERE key = 'event_limit';"
    "UPDATE meta SET value = 800 WHERE key = 'event_pruned';";

static void check_row_1(struct store *s)
{
    struct job_row *row = store_contract_get(s, "video_1");
    struct job_row *want = store_contract_row("video_1");

    EXPECT(job_row_set(&want->group, "g") && job_row_set(&want->user, "u") &&
           job_row_set(&want->tags, "[\"a\"]") && job_row_set(&want->metadata, "{\"k\":\"v\"}") &&
           job_row_set(&want->spec, "{\"prompt\":\"p\"}") &&
           job_row_set(&want->detail, "{\"d\":1}"));
    snprintf(want->fingerprint, sizeof(want->fingerprint), "f1");
    want->state = JOB_COMPLETED;
    want->priority = 3;
    want->created_ms = 100;
    want->started_ms = 200;
    want->ended_ms = 300;
    want->expires_ms = 400;
    want->epoch = 5;
    want->restarts = 1;
    want->blocks = 2;
    want->frames = 16;
    want->init_bytes = 600;
    want->fragment_bytes = 800;
    want->latent_bytes = 128;
    want->stored_bytes = 12345;
    store_contract_same(row, want); /* the new fields are 0 */
    job_row_free(want);
    job_row_free(row);
}

static void check_rest(struct store *s)
{
    const struct store_lease lease = {.job = "video_2", .worker = "w1", .epoch = 2};
    const struct store_idempotency key = {.client = "alice", .route = "create", .key = "k"};
    struct job_row *row = store_contract_row("video_9");
    struct store_event *event = NULL;
    struct job_block *block = NULL;
    enum store_created outcome;
    char id[JOB_ID_SIZE];
    int64_t oldest = 0;
    int n = 0;

    EXPECT_OK(store_blocks(s, "video_1", &block, &n, &err));
    EXPECT_INT(n, 2);
    EXPECT_INT(block[1].gen_ms, 42);
    free(block);
    EXPECT_OK(store_read_events(s, 0, NULL, 10, &event, &n, &oldest, &err));
    EXPECT_INT(n, 2);
    EXPECT_INT(oldest, 801);
    EXPECT_INT(event[1].seq, 1801);
    EXPECT_STR(event[1].data, "{\"x\":1}");
    store_event_done(&event[0]);
    store_event_done(&event[1]);
    free(event);
    snprintf(row->fingerprint, sizeof(row->fingerprint), "f1");
    EXPECT_OK(store_create(s, row, &key, NULL, &outcome, id, &err));
    EXPECT_INT(outcome, STORE_REPLAYED);
    EXPECT_STR(id, "video_1");
    row->deadline_ms = 77;
    EXPECT_OK(store_create(s, row, NULL, NULL, &outcome, id, &err));
    job_row_free(row);
    row = store_contract_get(s, "video_9");
    EXPECT_INT(row->deadline_ms, 77);
    job_row_free(row);
    EXPECT(store_contract_append(s, &lease) > 2000); /* the lease is still good */
    row = store_contract_get(s, "video_3");
    EXPECT_STR(row->error_message, "so it was");
    job_row_free(row);
    EXPECT_OK(store_expire(s, "video_1", 5000, &err));
    EXPECT_OK(store_delete(s, "video_3", NULL, &err));
}

TEST(sqlite_store_upgrades_version_1)
{
    const char *path = fresh_path();
    struct store *s;

    EXPECT_OK(sqlite_store_create_version(path, 1, &err));
    EXPECT_STR(raw_text(path, "PRAGMA user_version"), "1\n");
    raw_exec(path, fill_version_1);
    s = open_store(path);
    check_row_1(s);
    check_rest(s);
    store_close(s);
    EXPECT_STR(raw_text(path, "PRAGMA user_version"), "2\n");
    EXPECT_STR(raw_text(path, "PRAGMA integrity_check"), "ok\n");
    EXPECT_STR(raw_text(path, "SELECT id FROM tombstone"), "video_3\n");
}

TEST(sqlite_store_upgrades_a_file_of_version_1)
{
    const char *path = fresh_path();
    char *buffer = test_alloc(1 << 20);
    FILE *from = fopen("tests/storage/version1.db", "rb");
    FILE *to = fopen(path, "wb");
    struct store *s;
    size_t len;

    EXPECT(from && to);
    len = fread(buffer, 1, 1 << 20, from);
    EXPECT(len > 0 && len < 1 << 20);
    EXPECT(fwrite(buffer, 1, len, to) == len);
    EXPECT(fclose(from) == 0 && fclose(to) == 0);
    free(buffer);
    EXPECT_STR(raw_text(path, "PRAGMA user_version"), "1\n");
    s = open_store(path);
    check_row_1(s);
    check_rest(s);
    store_close(s);
}

TEST(sqlite_store_upgraded_has_the_schema_of_a_new_one)
{
    static const char schema[] = "SELECT ifnull(sql, name) FROM sqlite_schema ORDER BY name";
    const char *path = fresh_path();
    char *upgraded;

    EXPECT_OK(sqlite_store_create_version(path, 1, &err));
    store_close(open_store(path));
    upgraded = strdup(raw_text(path, schema));
    EXPECT(upgraded && strlen(upgraded) > 1000);
    path = fresh_path();
    EXPECT_OK(sqlite_store_create_version(path, 2, &err));
    EXPECT_STR(raw_text(path, schema), upgraded);
    EXPECT_INT(sqlite_store_create_version(path, 1, &err), ERR_IO); /* exists */
    EXPECT_INT(sqlite_store_create_version(fresh_path(), 0, &err), ERR_INVALID);
    EXPECT_INT(sqlite_store_create_version(fresh_path(), 3, &err), ERR_INVALID);
    free(upgraded);
}

TEST(sqlite_store_failed_upgrade_changes_nothing)
{
    static const char all[] = "SELECT sql FROM sqlite_schema UNION ALL "
                              "SELECT id || tags || stored_bytes FROM job UNION ALL "
                              "SELECT key || value FROM meta ORDER BY 1";
    const char *path = fresh_path();
    char *before;

    EXPECT_OK(sqlite_store_create_version(path, 1, &err));
    raw_exec(path, fill_version_1);
    raw_exec(path, "CREATE TABLE tombstone(in_the_way TEXT)"); /* the upgrade's last step fails */
    before = strdup(raw_text(path, all));
    EXPECT(before);
    refuse_open(path, ERR_IO, "upgrade to version 2");
    EXPECT_STR(raw_text(path, all), before);
    EXPECT_STR(raw_text(path, "PRAGMA user_version"), "1\n");
    free(before);
    raw_exec(path, "DROP TABLE tombstone");
    store_close(open_store(path)); /* and then it goes */
}

/* ---- crashes ---- */

/* What the child says after each call that returned ERR_OK. */
struct ack {
    char id[32];
    int64_t blocks; /* stored for this job by now */
    int64_t seq;    /* the event that was numbered with it */
    bool kept;      /* it is in the log */
};

static void say(int fd, const struct ack *ack)
{
    if (write(fd, ack, sizeof(*ack)) != (ssize_t)sizeof(*ack)) {
        _exit(3);
    }
}

/* One job: create, claim, three blocks with progress in between. */
static int work(struct store *s, int fd, const char *id)
{
    struct job_row *row = store_contract_row(id);
    struct store_event e = store_contract_event("video.x", id, "{}");
    struct store_event p = store_contract_event("video.progress", id, NULL);
    struct store_events kept = {.event = &e, .n = 1};
    struct store_events progress = {.event = &p, .n = 1};
    struct ack ack = {.kept = true};
    struct store_lease lease;
    enum store_created outcome;
    char ret_id[JOB_ID_SIZE];
    int rc = store_create(s, row, NULL, &kept, &outcome, ret_id, &err);

    job_row_free(row);
    snprintf(ack.id, sizeof(ack.id), "%s", id);
    ack.seq = e.seq;
    if (rc == ERR_OK) {
        say(fd, &ack);
        rc = store_claim(s, id, "w", 1000, 2000, NULL, &lease, &err);
    }
    for (int64_t i = 0; rc == ERR_OK && i < 3; i++) {
        const struct job_block block = {
            .index = i, .offset = 10 * i, .bytes = 10, .first_frame = i, .frames = 1};
        const struct store_append append = {.block = &block};

        rc = store_log(s, &progress, &err);
        if (rc == ERR_OK) {
            say(fd, &(struct ack){.id = "", .seq = p.seq});
            rc = store_append(s, &lease, &append, &kept, &err);
        }
        if (rc == ERR_OK) {
            ack.blocks = i + 1;
            ack.seq = e.seq;
            say(fd, &ack);
        }
    }
    return rc;
}

static void child_life(const char *path, int fd, int life)
{
    struct store *s = NULL;
    char id[32];

    if (sqlite_store_open(&s, path, &err) != ERR_OK) {
        _exit(1);
    }
    for (int i = 0; i < 100000; i++) {
        snprintf(id, sizeof(id), "video_%02d_%06d", life, i);
        if (work(s, fd, id) != ERR_OK) {
            _exit(2);
        }
    }
    _exit(0);
}

static void check_ack(struct store *s, const struct ack *ack, int64_t *last_seq)
{
    struct store_event *event = NULL;
    struct job_row *row;
    int64_t oldest;
    int n = 0;

    EXPECT(ack->seq > *last_seq); /* over all lives */
    *last_seq = ack->seq;
    if (!ack->kept) {
        return;
    }
    row = store_contract_get(s, ack->id);
    EXPECT(row->blocks >= ack->blocks);
    EXPECT(row->fragment_bytes == 10 * row->blocks);
    job_row_free(row);
    EXPECT_OK(store_read_events(s, ack->seq - 1, ack->id, 1, &event, &n, &oldest, &err));
    EXPECT_INT(n, 1);
    EXPECT_INT(event[0].seq, ack->seq);
    store_event_done(&event[0]);
    free(event);
}

/* Reads what the child says, kills it at some moment, and returns all that it said. */
static int kill_one(const char *path, int life, struct ack *ack, int room)
{
    int fds[2];
    pid_t pid;
    int status;
    int n = 0;
    const int until = 1 + (life * 37) % 61;

    EXPECT(pipe(fds) == 0);
    pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        child_life(path, fds[1], life);
    }
    close(fds[1]);
    while (n < room && read(fds[0], &ack[n], sizeof(*ack)) == (ssize_t)sizeof(*ack)) {
        n++;
        if (n == until) {
            poll(NULL, 0, life % 4); /* somewhere in the next transactions */
            kill(pid, SIGKILL);
        }
    }
    close(fds[0]);
    EXPECT(waitpid(pid, &status, 0) == pid);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    EXPECT(n < room);
    return n;
}

TEST(sqlite_store_loses_nothing_when_killed)
{
    enum {
        LIVES = 25,
        ROOM = 20000
    };
    const char *path = fresh_path();
    struct ack *ack = test_alloc(ROOM * sizeof(*ack));
    int64_t last_seq = 0;
    int total = 0;

    for (int life = 0; life < LIVES; life++) {
        const int n = kill_one(path, life, ack, ROOM);
        struct store *s;
        int64_t seq;

        EXPECT_STR(raw_text(path, "PRAGMA integrity_check"), "ok\n");
        s = open_store(path);
        for (int i = 0; i < n; i++) {
            check_ack(s, &ack[i], &last_seq);
        }
        seq = log_one(s, NULL);
        EXPECT(seq > last_seq);
        last_seq = seq;
        total += n;
        store_close(s);
    }
    EXPECT(total > LIVES);
    free(ack);
}

/* ---- no space ---- */

static int create_big(struct store *s, int i)
{
    struct job_row *row = store_contract_row("video_x");
    enum store_created outcome;
    char *spec = malloc(20000);
    char id[JOB_ID_SIZE];
    int rc = ERR_NO_MEMORY;

    if (spec) {
        memset(spec, 'x', 19999);
        spec[19999] = '\0';
        free(row->spec);
        row->spec = spec;
        snprintf(row->id, sizeof(row->id), "video_%06d", i);
        rc = store_create(s, row, NULL, NULL, &outcome, id, &err);
    }
    job_row_free(row);
    return rc;
}

static bool has_jobs(struct store *s, int n)
{
    struct store_totals t = {0};

    return store_count(s, &t, &err) == ERR_OK && t.jobs == n;
}

/* In a child: it may not write files over the limit, as on a full disk. Returns 0, or the step that
 * failed. */
static int fill(const char *path, long limit_bytes)
{
    struct rlimit limit;
    struct store *s = NULL;
    struct store_event e = store_contract_event("video.x", "video_x", "{}");
    struct store_events events = {.event = &e, .n = 1};
    int rc = ERR_OK;
    int n = 0;

    if (sqlite_store_open(&s, path, &err) != ERR_OK || getrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return 1;
    }
    limit.rlim_cur = (rlim_t)limit_bytes;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return 2;
    }
    while (n < 1000 && (rc = create_big(s, n)) == ERR_OK) {
        n++;
    }
    if (rc != ERR_NO_SPACE || !strstr(err.msg, path)) {
        return 3;
    }
    if (!has_jobs(s, n) || create_big(s, n) != ERR_NO_SPACE || !has_jobs(s, n)) {
        return 4;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return 5;
    }
    if (store_log(s, &events, &err) != ERR_OK || create_big(s, n) != ERR_OK ||
        !has_jobs(s, n + 1)) {
        return 6;
    }
    store_close(s);
    return 0;
}

TEST(sqlite_store_survives_a_full_disk)
{
    static const long limits[] = {70000, 100000, 130001, 262144, 1000000};

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const char *path = fresh_path();
        struct store *s;
        int status;
        pid_t pid;

        store_close(open_store(path));
        pid = fork();
        EXPECT(pid >= 0);
        if (pid == 0) {
            const int step = fill(path, limits[i]);

            if (step != 0) {
                fprintf(stderr, "step %d: %s\n", step, err.msg);
            }
            _exit(step);
        }
        EXPECT(waitpid(pid, &status, 0) == pid);
        EXPECT(WIFEXITED(status));
        EXPECT_INT(WEXITSTATUS(status), 0);
        EXPECT_STR(raw_text(path, "PRAGMA integrity_check"), "ok\n");
        s = open_store(path);
        EXPECT_OK(store_check(s, &err));
        store_close(s);
    }
}

/* ---- no memory ---- */

static void fill_a_little(struct store *s)
{
    struct store_lease lease;

    for (int i = 0; i < 20; i++) {
        char id[32];

        snprintf(id, sizeof(id), "video_%02d", i);
        store_contract_create(s, id);
    }
    lease = store_contract_claim(s, "video_00", "w");
    for (int i = 0; i < 20; i++) {
        store_contract_append(s, &lease);
    }
    EXPECT_OK(store_end(s, &lease, &(struct store_end){.state = JOB_COMPLETED, .expires_ms = 1},
                        NULL, &err));
}

/* Calls that allocate; each frees what it got. */
static int call(struct store *s, int which)
{
    const struct store_query query = {.limit = 18, .status = -1, .n_tags = 1, .tags = {"ep3"}};
    struct store_rows rows = {0};
    struct store_event *event = NULL;
    struct job_block *block = NULL;
    struct store_ids ids = {0};
    struct job_row *row = NULL;
    int64_t oldest;
    int n = 0;
    int rc;

    switch (which) {
    case 0:
        rc = store_get(s, "video_03", &row, &err);
        EXPECT((rc == ERR_OK) == (row != NULL));
        job_row_free(row);
        return rc;
    case 1:
        rc = store_list(s, &query, &rows, &err);
        EXPECT_INT(rows.n, rc == ERR_OK ? 18 : 0);
        store_rows_done(&rows);
        return rc;
    case 2:
        rc = store_unfinished(s, &rows, &err);
        EXPECT_INT(rows.n, rc == ERR_OK ? 19 : 0);
        store_rows_done(&rows);
        return rc;
    case 3:
        rc = store_blocks(s, "video_00", &block, &n, &err);
        EXPECT((rc == ERR_OK) == (block != NULL));
        free(block);
        return rc;
    case 4:
        rc = store_read_events(s, 0, NULL, 100, &event, &n, &oldest, &err);
        EXPECT_INT(n, rc == ERR_OK ? 20 : 0);
        for (int i = 0; i < n; i++) {
            store_event_done(&event[i]);
        }
        free(event);
        return rc;
    default:
        rc = store_expirable(s, 5000, 1, 10, &ids, &err);
        EXPECT_INT(ids.n, rc == ERR_OK ? 1 : 0);
        free(ids.id);
        return rc;
    }
}

enum {
    CALLS = 6
};

TEST(sqlite_store_survives_every_failed_allocation)
{
    const char *path = fresh_path();
    struct store *s = open_store(path);

    fill_a_little(s);
    for (int which = 0; which < CALLS; which++) {
        bool failed = true;

        for (long n = 1; failed; n++) {
            int rc;

            alloc_fail_at(n);
            rc = call(s, which);
            failed = alloc_fail_stop();
            EXPECT_INT(rc, failed ? ERR_NO_MEMORY : ERR_OK);
            EXPECT(failed || n > 1); /* it does allocate */
        }
    }
    store_close(s);
    for (long n = 1;; n++) {
        struct store *again = NULL;
        int rc;

        alloc_fail_at(n);
        rc = sqlite_store_open(&again, path, &err);
        if (!alloc_fail_stop()) {
            EXPECT_INT(rc, ERR_OK);
            store_close(again);
            break;
        }
        /* without memory for the hint the store opens, without it */
        EXPECT(rc == ERR_OK ? store_watch_fd(again) < 0 : rc == ERR_NO_MEMORY && !again);
        store_close(again);
    }
}

/* SQLite's own memory, which the count of allocations does not see. */
static int create_one(struct store *s, int i)
{
    struct job_row *row = store_contract_row("video_x");
    struct store_event e = store_contract_event("video.x", "video_x", "{}");
    struct store_events events = {.event = &e, .n = 1};
    enum store_created outcome;
    char id[JOB_ID_SIZE];
    int rc;

    snprintf(row->id, sizeof(row->id), "video_new_%d", i);
    rc = store_create(s, row, NULL, &events, &outcome, id, &err);
    EXPECT((rc == ERR_OK) == (e.seq > 0));
    job_row_free(row);
    return rc;
}

TEST(sqlite_store_survives_when_sqlite_has_no_memory)
{
    const char *path = fresh_path();
    struct store *s = open_store(path);
    struct store_totals before;
    struct store_totals after;
    int failures = 0;

    fill_a_little(s);
    store_close(s);
    for (int which = 0; which <= CALLS; which++) {
        int rc = ERR_NO_MEMORY;

        s = open_store(path);
        EXPECT_OK(store_count(s, &before, &err));
        for (int i = 0; rc != ERR_OK; i++) {
            EXPECT(i < 10000);

            sqlite3_hard_heap_limit64(sqlite3_memory_used() + 256LL * i + 1);
            rc = which < CALLS ? call(s, which) : create_one(s, i);
            sqlite3_hard_heap_limit64(0);
            EXPECT(rc == ERR_OK || rc == ERR_NO_MEMORY);
            failures += rc != ERR_OK;
        }
        EXPECT_OK(store_count(s, &after, &err));
        EXPECT_INT(after.jobs, before.jobs + (which == CALLS));
        store_close(s);
    }
    EXPECT(failures > CALLS);
}

/* What was reserved in a change that failed was never reserved: else somebody who reserves the same
 * afterwards would give the same numbers. */
TEST(sqlite_store_failed_changes_reserve_no_numbers)
{
    int rc = ERR_NO_MEMORY;
    int failures = 0;

    for (int i = 0; rc != ERR_OK; i++) {
        const char *path = fresh_path();
        struct store *a = open_store(path);
        struct store *b = open_store(path);
        struct store_event e = store_contract_event("video.test", "", "{}");
        struct store_events events = {.event = &e, .n = 1};
        int64_t seq;

        EXPECT(i < 1000);
        sqlite3_hard_heap_limit64(sqlite3_memory_used() + 512LL * i + 1);
        rc = store_log(a, &events, &err);
        sqlite3_hard_heap_limit64(0);
        EXPECT(rc == ERR_OK || rc == ERR_NO_MEMORY);
        failures += rc != ERR_OK;
        seq = log_one(b, "{}");
        EXPECT(seq > e.seq);
        EXPECT(log_one(a, "{}") > seq);
        store_close(a);
        store_close(b);
    }
    EXPECT(failures > 1);
}
