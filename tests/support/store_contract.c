#include "tests/support/store_contract.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

static struct err err;

struct bed {
    store_contract_open_fn open;
    char dir[512];
    struct store *s;
};

static void reopen(struct bed *b)
{
    store_close(b->s);
    b->s = NULL;
    EXPECT_OK(b->open(&b->s, b->dir, &err));
}

/* ---- helpers, for other tests too ---- */

static void set(char **field, const char *text)
{
    EXPECT(job_row_set(field, text));
}

struct job_row *store_contract_row(const char *id)
{
    struct job_row *row = job_row_create();

    EXPECT(row);
    snprintf(row->id, sizeof(row->id), "%s", id);
    set(&row->client, "alice");
    set(&row->model, "tiny");
    set(&row->tags, "[\"ep3\",\"draft\"]");
    set(&row->metadata, "{\"shot\":\"s010\",\"take\":\"1\"}");
    set(&row->spec, "{\"prompt\":\"a 'quoted' \xc3\xa9t\xc3\xa9\"}");
    set(&row->detail, "{}");
    snprintf(row->fingerprint, sizeof(row->fingerprint), "%064d", 7);
    row->created_ms = 500;
    return row;
}

static enum store_created create_row(struct store *s, const struct job_row *row)
{
    enum store_created outcome;
    char id[JOB_ID_SIZE];

    EXPECT_OK(store_create(s, row, NULL, NULL, &outcome, id, &err));
    EXPECT_STR(id, row->id);
    return outcome;
}

void store_contract_create(struct store *s, const char *id)
{
    struct job_row *row = store_contract_row(id);

    EXPECT_INT(create_row(s, row), STORE_CREATED);
    job_row_free(row);
}

struct job_row *store_contract_get(struct store *s, const char *id)
{
    struct job_row *row = NULL;

    EXPECT_OK(store_get(s, id, &row, &err));
    return row;
}

struct store_lease store_contract_claim(struct store *s, const char *id, const char *worker)
{
    struct store_lease lease;

    EXPECT_OK(store_claim(s, id, worker, 1000, 2000, NULL, &lease, &err));
    EXPECT_STR(lease.job, id);
    EXPECT_STR(lease.worker, worker);
    EXPECT_INT(lease.until_ms, 2000);
    return lease;
}

struct store_event store_contract_event(const char *type, const char *job, const char *data)
{
    struct store_event e = {.created_ms = 1000, .data = (char *)data};

    snprintf(e.type, sizeof(e.type), "%s", type);
    snprintf(e.job, sizeof(e.job), "%s", job);
    return e;
}

static int append_at(struct store *s, const struct store_lease *lease, int64_t index,
                     struct store_events *events)
{
    const struct job_block block = {.index = index,
                                    .offset = index * 100,
                                    .bytes = 100,
                                    .first_frame = index * 8,
                                    .frames = 8,
                                    .gen_ms = 40 + index};
    const struct store_append append = {.block = &block, .latent_bytes = (index + 1) * 64};

    return store_append(s, lease, &append, events, &err);
}

int64_t store_contract_append(struct store *s, const struct store_lease *lease)
{
    struct job_row *row = store_contract_get(s, lease->job);
    struct store_event e = store_contract_event("video.block", lease->job, "{\"block\":1}");
    struct store_events events = {.event = &e, .n = 1};

    EXPECT_OK(append_at(s, lease, row->blocks, &events));
    job_row_free(row);
    return e.seq;
}

static void same_text(const char *a, const char *b)
{
    if (a || b) {
        EXPECT(a && b);
        EXPECT_STR(a, b);
    }
}

void store_contract_same(const struct job_row *a, const struct job_row *b)
{
    EXPECT_STR(a->id, b->id);
    same_text(a->client, b->client);
    same_text(a->model, b->model);
    same_text(a->group, b->group);
    same_text(a->user, b->user);
    same_text(a->tags, b->tags);
    same_text(a->metadata, b->metadata);
    same_text(a->spec, b->spec);
    same_text(a->detail, b->detail);
    EXPECT_STR(a->fingerprint, b->fingerprint);
    EXPECT_INT(a->state, b->state);
    EXPECT_INT(a->cancel_requested, b->cancel_requested);
    EXPECT_INT(a->priority, b->priority);
    EXPECT_INT(a->created_ms, b->created_ms);
    EXPECT_INT(a->started_ms, b->started_ms);
    EXPECT_INT(a->ended_ms, b->ended_ms);
    EXPECT_INT(a->expires_ms, b->expires_ms);
    EXPECT_INT(a->expired_ms, b->expired_ms);
    EXPECT_INT(a->deadline_ms, b->deadline_ms);
    same_text(a->error_code, b->error_code);
    same_text(a->error_message, b->error_message);
    EXPECT_INT(a->epoch, b->epoch);
    EXPECT_INT(a->restarts, b->restarts);
    EXPECT_INT(a->blocks, b->blocks);
    EXPECT_INT(a->frames, b->frames);
    EXPECT_INT(a->init_bytes, b->init_bytes);
    EXPECT_INT(a->fragment_bytes, b->fragment_bytes);
    EXPECT_INT(a->latent_bytes, b->latent_bytes);
    EXPECT_INT(a->state_version, b->state_version);
    EXPECT_INT(a->stored_bytes, b->stored_bytes);
}

/* The job is unchanged by what failed between the two. */
static void expect_row(struct store *s, const struct job_row *want)
{
    struct job_row *row = store_contract_get(s, want->id);

    store_contract_same(row, want);
    job_row_free(row);
}

static int get_rc(struct store *s, const char *id)
{
    struct job_row *row = NULL;
    const int rc = store_get(s, id, &row, &err);

    EXPECT((rc == ERR_OK) == (row != NULL));
    job_row_free(row);
    return rc;
}

static int64_t log_one(struct store *s, const char *job, const char *data)
{
    struct store_event e = store_contract_event("video.test", job, data);
    struct store_events events = {.event = &e, .n = 1};

    EXPECT_OK(store_log(s, &events, &err));
    return e.seq;
}

/* Reads events; the sequence numbers as text, such as "5 7 8". */
static const char *seqs(struct store *s, int64_t after, const char *job, int limit,
                        int64_t *ret_oldest)
{
    static char text[4096];
    struct store_event *event = NULL;
    size_t len = 0;
    int n = -1;

    EXPECT_OK(store_read_events(s, after, job, limit, &event, &n, ret_oldest, &err));
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%lld", i > 0 ? " " : "",
                                (long long)event[i].seq);
        EXPECT(len < sizeof(text));
        store_event_done(&event[i]);
    }
    free(event);
    return text;
}

/* The ids of a list as text, without "video_". */
static const char *ids(struct store *s, const struct store_query *query)
{
    static char text[4096];
    struct store_rows rows = {0};
    size_t len = 0;

    EXPECT_OK(store_list(s, query, &rows, &err));
    text[0] = '\0';
    for (int i = 0; i < rows.n; i++) {
        const char *id = rows.row[i]->id;

        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i > 0 ? " " : "",
                                strncmp(id, "video_", 6) == 0 ? id + 6 : id);
        EXPECT(len < sizeof(text));
    }
    if (rows.has_more) {
        snprintf(text + len, sizeof(text) - len, " ...");
    }
    store_rows_done(&rows);
    return text;
}

/* ---- creating, reading ---- */

static void a_row_comes_back_as_it_went(struct bed *b)
{
    struct job_row *row = store_contract_row("video_a");

    set(&row->group, "g1");
    set(&row->user, "u\n1");
    row->priority = -3;
    row->deadline_ms = INT64_MAX;
    row->stored_bytes = 12345;
    EXPECT_INT(create_row(b->s, row), STORE_CREATED);
    expect_row(b->s, row);
    reopen(b);
    expect_row(b->s, row);
    EXPECT_INT(get_rc(b->s, "video_b"), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "video_b");
    EXPECT_INT(get_rc(b->s, ""), ERR_NOT_FOUND);
    EXPECT_INT(get_rc(b->s, "' OR 1=1 --"), ERR_NOT_FOUND);
    job_row_free(row);
}

static void refuse_row(struct bed *b, const struct job_row *row)
{
    enum store_created outcome = (enum store_created)99;
    struct store_totals before;
    struct store_totals after;
    char id[JOB_ID_SIZE] = "untouched";

    EXPECT_OK(store_count(b->s, &before, &err));
    EXPECT_INT(store_create(b->s, row, NULL, NULL, &outcome, id, &err), ERR_INVALID);
    EXPECT_INT((int)outcome, 99);
    EXPECT_STR(id, "untouched");
    EXPECT_OK(store_count(b->s, &after, &err));
    EXPECT_INT(before.jobs, after.jobs);
}

static void a_bad_row_is_refused(struct bed *b)
{
    static const char *const bad_ids[] = {
        "",         "video/a",
        "video.a",  "video a",
        "\xc3\xa9", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" /* 65 */};
    struct job_row *row = store_contract_row("video_a");

    for (size_t i = 0; i < ARRAY_LEN(bad_ids); i++) {
        snprintf(row->id, sizeof(row->id), "%s", bad_ids[i]);
        refuse_row(b, row);
    }
    memset(row->id, 'a', sizeof(row->id)); /* no end */
    refuse_row(b, row);
    snprintf(row->id, sizeof(row->id), "video_a");
    set(&row->tags, "[\"broken");
    refuse_row(b, row);
    set(&row->tags, "{}");
    refuse_row(b, row);
    set(&row->tags, "[]");
    set(&row->metadata, "[]");
    refuse_row(b, row);
    set(&row->metadata, "{}");
    row->state = JOB_RUNNING;
    refuse_row(b, row);
    row->state = JOB_QUEUED;
    row->blocks = 1;
    refuse_row(b, row);
    row->blocks = 0;
    set(&row->model, NULL);
    refuse_row(b, row);
    set(&row->model, "tiny");
    EXPECT_INT(create_row(b->s, row), STORE_CREATED);
    refuse_row(b, row); /* its id is taken */
    job_row_free(row);
}

static struct store_idempotency key_of(const char *client, const char *route, const char *key)
{
    struct store_idempotency k = {0};

    snprintf(k.client, sizeof(k.client), "%s", client);
    snprintf(k.route, sizeof(k.route), "%s", route);
    snprintf(k.key, sizeof(k.key), "%s", key);
    return k;
}

/* Creates job `id` with a key; fingerprint: one digit. Returns the outcome, and whose job it is. */
static enum store_created create_keyed(struct store *s, const char *id, int fingerprint,
                                       const struct store_idempotency *key,
                                       char ret_id[JOB_ID_SIZE])
{
    struct job_row *row = store_contract_row(id);
    struct store_event e = store_contract_event("video.queued", id, "{}");
    struct store_events events = {.event = &e, .n = 1};
    enum store_created outcome;

    snprintf(row->fingerprint, sizeof(row->fingerprint), "%064d", fingerprint);
    EXPECT_OK(store_create(s, row, key, &events, &outcome, ret_id, &err));
    EXPECT((outcome == STORE_CREATED) == (e.seq > 0));
    EXPECT(outcome == STORE_CREATED || get_rc(s, id) == ERR_NOT_FOUND);
    job_row_free(row);
    return outcome;
}

static void a_key_makes_one_job(struct bed *b)
{
    const struct store_idempotency key = key_of("alice", "create", "k1");
    const struct store_idempotency others[] = {
        key_of("bob", "create", "k1"), key_of("alice", "remix", "k1"),
        key_of("alice", "create", "K1"), key_of("alice", "create", ""),
        key_of("alice", "create", "")};
    char name[32];
    char id[JOB_ID_SIZE];
    int64_t oldest;

    EXPECT_INT(create_keyed(b->s, "video_1", 1, &key, id), STORE_CREATED);
    EXPECT_STR(id, "video_1");
    reopen(b);
    EXPECT_INT(create_keyed(b->s, "video_2", 1, &key, id), STORE_REPLAYED);
    EXPECT_STR(id, "video_1");
    EXPECT_INT(create_keyed(b->s, "video_3", 2, &key, id), STORE_KEY_REUSED);
    EXPECT_STR(seqs(b->s, 0, "video_2", 10, &oldest), "");
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        snprintf(name, sizeof(name), "video_4%d", (int)i);
        EXPECT_INT(create_keyed(b->s, name, 1, &others[i], id), STORE_CREATED);
        EXPECT_STR(id, name);
    }
}

static void a_key_can_be_looked_up(struct bed *b)
{
    const struct store_idempotency key = key_of("alice", "create", "k1");
    enum store_created outcome;
    char id[JOB_ID_SIZE];
    struct job_row *row = NULL;

    EXPECT_OK(store_find_key(b->s, &key, "00", &outcome, id, &err));
    EXPECT_INT(outcome, STORE_CREATED);
    EXPECT_STR(id, "");
    EXPECT_INT(create_keyed(b->s, "video_1", 1, &key, id), STORE_CREATED);
    EXPECT_OK(store_get(b->s, "video_1", &row, &err));
    EXPECT_OK(store_find_key(b->s, &key, row->fingerprint, &outcome, id, &err));
    EXPECT_INT(outcome, STORE_REPLAYED);
    EXPECT_STR(id, "video_1");
    EXPECT_OK(store_find_key(b->s, &key, "another", &outcome, id, &err));
    EXPECT_INT(outcome, STORE_KEY_REUSED);
    job_row_free(row);
}

static void the_key_of_a_deleted_job_is_used_up(struct bed *b)
{
    const struct store_idempotency key = key_of("alice", "create", "k1");
    char id[JOB_ID_SIZE];

    EXPECT_INT(create_keyed(b->s, "video_1", 1, &key, id), STORE_CREATED);
    EXPECT_OK(store_delete(b->s, "video_1", NULL, &err));
    reopen(b);
    EXPECT_INT(create_keyed(b->s, "video_2", 1, &key, id), STORE_KEY_REUSED);
    EXPECT_OK(store_prune(b->s, 500, 0, 0, &err)); /* the key is of 500 ms: not older */
    EXPECT_INT(create_keyed(b->s, "video_2", 1, &key, id), STORE_KEY_REUSED);
    EXPECT_OK(store_prune(b->s, 501, 0, 0, &err));
    EXPECT_INT(create_keyed(b->s, "video_2", 1, &key, id), STORE_CREATED);
    EXPECT_OK(store_prune(b->s, 501, 0, 0, &err)); /* its job is there: it stays */
    EXPECT_INT(create_keyed(b->s, "video_3", 1, &key, id), STORE_REPLAYED);
    EXPECT_STR(id, "video_2");
}

static void list_bed(struct bed *b)
{
    static const struct {
        const char *id, *client, *model, *group, *user, *tags, *metadata;
    } made[] = {
        {"video_1", "alice", "tiny", "g1", "u1", "[\"a\",\"b\"]", "{\"k\":\"v\",\"l\":\"w\"}"},
        {"video_2", "alice", "big", "g1", NULL, "[\"a\"]", "{\"k\":\"w\"}"},
        {"video_3", "bob", "tiny", "g2", "u1", "[]", "{\"l\":\"v\"}"},
        {"video_4", "bob", "big", NULL, "u2", "", ""},
        {"video_5", "alice", "tiny", NULL, NULL, "[\"b\",\"a\",\"c\"]", "{\"k\":\"v\"}"},
    };

    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        struct job_row *row = store_contract_row(made[i].id);

        set(&row->client, made[i].client);
        set(&row->model, made[i].model);
        set(&row->group, made[i].group);
        set(&row->user, made[i].user);
        set(&row->tags, made[i].tags);
        set(&row->metadata, made[i].metadata);
        row->created_ms = 100 * ((int64_t)i + 1);
        EXPECT_INT(create_row(b->s, row), STORE_CREATED);
        job_row_free(row);
    }
}

static void lists_are_paged_by_position(struct bed *b)
{
    struct store_query q = {.limit = 2, .status = -1};

    list_bed(b);
    EXPECT_STR(ids(b->s, &q), "5 4 ...");
    q.after = "video_4";
    EXPECT_STR(ids(b->s, &q), "3 2 ...");
    EXPECT_OK(store_delete(b->s, "video_2", NULL, &err));
    q.after = "video_2"; /* a position, not a job */
    EXPECT_STR(ids(b->s, &q), "1");
    q.after = "video_1";
    EXPECT_STR(ids(b->s, &q), "");
    q = (struct store_query){.limit = 3, .status = -1, .ascending = true};
    EXPECT_STR(ids(b->s, &q), "1 3 4 ...");
    q.after = "video_35";
    EXPECT_STR(ids(b->s, &q), "4 5");
    q = (struct store_query){.limit = 4, .status = -1};
    EXPECT_STR(ids(b->s, &q), "5 4 3 1"); /* just full: no more */
    q.limit = 0;
    EXPECT_STR(ids(b->s, &q), " ...");
}

static void lists_are_filtered(struct bed *b)
{
    const struct {
        struct store_query query;
        const char *want;
    } cases[] = {
        {{.client = "alice"}, "5 2 1"},
        {{.client = "nobody"}, ""},
        {{.client = "' OR '1'='1"}, ""},
        {{.model = "tiny"}, "5 3 1"},
        {{.group = "g1"}, "2 1"},
        {{.user = "u1"}, "3 1"},
        {{.client = "alice", .model = "tiny"}, "5 1"},
        {{.n_tags = 1, .tags = {"a"}}, "5 2 1"},
        {{.n_tags = 2, .tags = {"a", "b"}}, "5 1"},
        {{.n_tags = 2, .tags = {"a", "x"}}, ""},
        {{.n_metadata = 1, .metadata = {{"k", "v"}}}, "5 1"},
        {{.n_metadata = 1, .metadata = {{"l", "v"}}}, "3"},
        {{.n_metadata = 2, .metadata = {{"k", "v"}, {"l", "w"}}}, "1"},
        {{.n_metadata = 1, .metadata = {{"$.k", "v"}}}, ""},
        {{.created_after_ms = 200}, "5 4 3"},
        {{.created_before_ms = 200}, "1"},
        {{.created_after_ms = 100, .created_before_ms = 400}, "3 2"},
        {{.client = "alice", .group = "g1", .user = "u1", .after = "video_2"}, "1"},
    };

    list_bed(b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_query q = cases[i].query;

        q.limit = 10;
        q.status = -1;
        EXPECT_STR(ids(b->s, &q), cases[i].want);
    }
}

static void the_most_filters_work_and_more_are_refused(struct bed *b)
{
    struct store_query q = {.limit = 10, .status = -1, .client = "alice", .model = "tiny"};
    struct store_rows rows = {0};

    list_bed(b);
    for (int i = 0; i < STORE_MAX_FILTERS; i++) {
        q.tags[i] = i % 2 ? "a" : "b";
        q.metadata[i] = (struct store_pair){"k", "v"};
    }
    q.n_tags = q.n_metadata = STORE_MAX_FILTERS;
    EXPECT_STR(ids(b->s, &q), "5 1");
    q.n_tags = STORE_MAX_FILTERS + 1;
    EXPECT_INT(store_list(b->s, &q, &rows, &err), ERR_INVALID);
    q.n_tags = 0;
    q.status = 4;
    EXPECT_INT(store_list(b->s, &q, &rows, &err), ERR_INVALID);
    q.status = -1;
    q.limit = -1;
    EXPECT_INT(store_list(b->s, &q, &rows, &err), ERR_INVALID);
}

static void end_as(struct bed *b, const struct store_lease *lease, enum job_state state)
{
    const struct store_end end = {.state = state,
                                  .error_code = "generation_failed",
                                  .error_message = "no",
                                  .ended_ms = 1500,
                                  .expires_ms = 9000,
                                  .stored_bytes = 1000};

    EXPECT_OK(store_end(b->s, lease, &end, NULL, &err));
}

static void status_is_the_apis(struct bed *b)
{
    static const char *const want[] = {"1", "3 2", "4", "5"};
    struct store_lease lease;
    struct store_rows rows = {0};
    struct store_totals t;

    list_bed(b);
    store_contract_claim(b->s, "video_2", "w");
    lease = store_contract_claim(b->s, "video_3", "w");
    end_as(b, &lease, JOB_QUEUED); /* set aside: still in progress */
    lease = store_contract_claim(b->s, "video_4", "w");
    end_as(b, &lease, JOB_COMPLETED);
    lease = store_contract_claim(b->s, "video_5", "w");
    end_as(b, &lease, JOB_FAILED);
    for (int status = 0; status < 4; status++) {
        const struct store_query q = {.limit = 10, .status = status};

        EXPECT_STR(ids(b->s, &q), want[status]);
    }
    EXPECT_OK(store_unfinished(b->s, &rows, &err));
    EXPECT_INT(rows.n, 3);
    for (int i = 0; i < 3; i++) {
        EXPECT_INT(rows.row[i]->id[6], '1' + i);
    }
    store_rows_done(&rows);
    EXPECT_OK(store_count(b->s, &t, &err));
    EXPECT_INT(t.jobs, 5);
    EXPECT_INT(t.queued, 2);
    EXPECT_INT(t.running, 1);
    EXPECT_INT(t.completed, 1);
    EXPECT_INT(t.failed, 1);
    EXPECT_INT(t.stored_bytes, 3000);
}

/* ---- what the client may change ---- */

static void clients_change_tags_metadata_priority(struct bed *b)
{
    const int priority = 5;
    struct store_event e = store_contract_event("video.test", "video_a", "{}");
    struct store_events events = {.event = &e, .n = 1};
    struct store_update all = {.tags = "[]", .metadata = "{\"a\":\"b\"}", .priority = &priority};
    struct job_row *row;
    struct store_lease lease;

    store_contract_create(b->s, "video_a");
    row = store_contract_get(b->s, "video_a");
    EXPECT_OK(store_set(b->s, "video_a", &all, &events, &err));
    EXPECT(e.seq > 0);
    set(&row->tags, "[]");
    set(&row->metadata, "{\"a\":\"b\"}");
    row->priority = 5;
    expect_row(b->s, row);
    EXPECT_OK(store_set(b->s, "video_a", &(struct store_update){.tags = "[\"x\"]"}, NULL, &err));
    set(&row->tags, "[\"x\"]");
    expect_row(b->s, row);
    EXPECT_INT(store_set(b->s, "video_b", &all, NULL, &err), ERR_NOT_FOUND);
    EXPECT_INT(store_set(b->s, "video_a", &(struct store_update){.tags = "no"}, NULL, &err),
               ERR_INVALID);
    lease = store_contract_claim(b->s, "video_a", "w");
    EXPECT_INT(store_set(b->s, "video_a", &all, NULL, &err), ERR_BUSY);
    end_as(b, &lease, JOB_QUEUED);
    EXPECT_INT(store_set(b->s, "video_a", &all, NULL, &err), ERR_BUSY);
    EXPECT_INT(store_set(b->s, "video_c", &all, NULL, &err), ERR_NOT_FOUND);
    job_row_free(row);
    row = store_contract_get(b->s, "video_a");
    EXPECT_STR(row->tags, "[\"x\"]"); /* all or nothing */
    job_row_free(row);
}

static void a_queued_job_can_be_ended(struct bed *b)
{
    const struct store_end end = {.state = JOB_FAILED,
                                  .error_code = "cancelled",
                                  .error_message = "by its owner",
                                  .ended_ms = 900,
                                  .expires_ms = 1900};
    const struct store_end queued = {.state = JOB_QUEUED};
    const struct store_end nameless = {.state = JOB_FAILED};
    struct job_row *row;

    store_contract_create(b->s, "video_a");
    store_contract_create(b->s, "video_b");
    store_contract_claim(b->s, "video_b", "w");
    EXPECT_INT(store_end_queued(b->s, "video_a", &queued, NULL, &err), ERR_INVALID);
    EXPECT_INT(store_end_queued(b->s, "video_a", &nameless, NULL, &err), ERR_INVALID);
    EXPECT_INT(store_end_queued(b->s, "video_b", &end, NULL, &err), ERR_BUSY);
    EXPECT_INT(store_end_queued(b->s, "video_c", &end, NULL, &err), ERR_NOT_FOUND);
    EXPECT_OK(store_end_queued(b->s, "video_a", &end, NULL, &err));
    EXPECT_INT(store_end_queued(b->s, "video_a", &end, NULL, &err), ERR_FENCED);
    reopen(b);
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->state, JOB_FAILED);
    EXPECT_STR(row->error_code, "cancelled");
    EXPECT_STR(row->error_message, "by its owner");
    EXPECT_STR(row->detail, "{}");
    EXPECT_INT(row->ended_ms, 900);
    EXPECT_INT(row->expires_ms, 1900);
    job_row_free(row);
}

static void a_cancel_is_remembered(struct bed *b)
{
    struct job_row *row;
    struct store_lease lease;

    store_contract_create(b->s, "video_a");
    lease = store_contract_claim(b->s, "video_a", "w");
    EXPECT_OK(store_request_cancel(b->s, "video_a", &err));
    EXPECT_INT(store_request_cancel(b->s, "video_b", &err), ERR_NOT_FOUND);
    end_as(b, &lease, JOB_QUEUED);
    reopen(b);
    row = store_contract_get(b->s, "video_a");
    EXPECT(row->cancel_requested);
    job_row_free(row);
}

static void a_deleted_job_leaves_a_tombstone(struct bed *b)
{
    struct job_row *row = store_contract_row("video_a");
    struct store_event e = store_contract_event("video.deleted", "video_a", "{\"id\":1}");
    struct store_events events = {.event = &e, .n = 1};
    struct job_block *block = NULL;
    struct store_lease lease;
    char want[32];
    int64_t oldest;
    int n;

    EXPECT_INT(create_row(b->s, row), STORE_CREATED);
    lease = store_contract_claim(b->s, "video_a", "w");
    store_contract_append(b->s, &lease);
    EXPECT_OK(store_delete(b->s, "video_a", &events, &err));
    EXPECT_INT(store_delete(b->s, "video_a", &events, &err), ERR_NOT_FOUND);
    reopen(b);
    EXPECT_INT(get_rc(b->s, "video_a"), ERR_NOT_FOUND);
    EXPECT_OK(store_blocks(b->s, "video_a", &block, &n, &err));
    EXPECT_INT(n, 0);
    free(block);
    snprintf(want, sizeof(want), "%lld", (long long)e.seq); /* the given one, and no other */
    EXPECT_STR(seqs(b->s, 0, "video_a", 10, &oldest), want);
    EXPECT_STR(seqs(b->s, 0, NULL, 10, &oldest), want);
    refuse_row(b, row); /* the id is never taken again */
    EXPECT_INT(append_at(b->s, &lease, 1, NULL), ERR_FENCED);
    EXPECT_INT(store_renew(b->s, &lease, 3000, &err), ERR_FENCED);
    EXPECT_INT(store_end(b->s, &lease, &(struct store_end){.state = JOB_COMPLETED}, NULL, &err),
               ERR_FENCED);
    EXPECT_INT(get_rc(b->s, "video_a"), ERR_NOT_FOUND);
    EXPECT_OK(store_prune(b->s, 1, 0, 10, &err)); /* deleted later than 1 ms after 1970 */
    refuse_row(b, row);
    EXPECT_OK(store_prune(b->s, INT64_MAX, 0, 10, &err));
    EXPECT_INT(create_row(b->s, row), STORE_CREATED);
    job_row_free(row);
}

static void what_the_worker_says_first_is_kept(struct bed *b)
{
    struct job_row *row;
    struct store_lease lease;
    struct job_block block = {.index = 0, .offset = 700, .bytes = 10, .frames = 8};
    const struct store_append append = {.block = &block};

    store_contract_create(b->s, "video_a");
    EXPECT_OK(store_prepared(b->s, "video_a", "{\"p\":1}", 600, &err));
    EXPECT_OK(store_prepared(b->s, "video_a", NULL, 700, &err)); /* again, by another worker */
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->init_bytes, 700);
    EXPECT_INT(row->fragment_bytes, 700);
    EXPECT_STR(row->detail, "{\"p\":1}");
    job_row_free(row);
    lease = store_contract_claim(b->s, "video_a", "w");
    EXPECT_OK(store_append(b->s, &lease, &append, NULL, &err));
    EXPECT_OK(store_prepared(b->s, "video_a", "{\"p\":2}", 700, &err));
    EXPECT_INT(store_prepared(b->s, "video_a", "{\"p\":3}", 701, &err), ERR_INVALID);
    EXPECT_INT(store_prepared(b->s, "video_b", NULL, 700, &err), ERR_NOT_FOUND);
    EXPECT_INT(store_prepared(b->s, "video_a", NULL, 0, &err), ERR_INVALID);
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->fragment_bytes, 710);
    EXPECT_STR(row->detail, "{\"p\":2}");
    job_row_free(row);
    end_as(b, &lease, JOB_COMPLETED);
    EXPECT_INT(store_prepared(b->s, "video_a", NULL, 700, &err), ERR_FENCED);
}

/* ---- working ---- */

static void claims_make_epochs(struct bed *b)
{
    struct store_lease first;
    struct store_lease second;
    struct store_lease none = {.epoch = -1};
    struct job_row *row;

    store_contract_create(b->s, "video_a");
    first = store_contract_claim(b->s, "video_a", "w1");
    EXPECT_INT(store_claim(b->s, "video_a", "w2", 1100, 2100, NULL, &none, &err), ERR_FENCED);
    EXPECT_INT(store_claim(b->s, "video_b", "w2", 1100, 2100, NULL, &none, &err), ERR_FENCED);
    EXPECT_INT(store_claim(b->s, "video_a", "", 1100, 2100, NULL, &none, &err), ERR_INVALID);
    EXPECT_INT(none.epoch, -1);
    end_as(b, &first, JOB_QUEUED);
    EXPECT_OK(store_claim(b->s, "video_a", "w2", 1800, 2800, NULL, &second, &err));
    EXPECT(second.epoch > first.epoch);
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->started_ms, 1000); /* the first time counts */
    EXPECT_INT(row->epoch, second.epoch);
    EXPECT_INT(row->state, JOB_RUNNING);
    EXPECT_INT(row->ended_ms, 0);
    EXPECT(!row->error_code);
    job_row_free(row);
    end_as(b, &second, JOB_COMPLETED);
    EXPECT_INT(store_claim(b->s, "video_a", "w2", 1900, 2100, NULL, &none, &err), ERR_FENCED);
}

/* Nothing that the holder of an old lease does has an effect. */
static void expect_fenced(struct bed *b, struct store_lease *lease)
{
    const struct store_end end = {.state = JOB_COMPLETED, .detail = "{\"late\":1}"};
    struct job_row *row = store_contract_get(b->s, lease->job);
    struct store_event e = store_contract_event("video.late", lease->job, "{}");
    struct store_events events = {.event = &e, .n = 1};
    struct store_totals before;
    struct store_totals after;

    EXPECT_OK(store_count(b->s, &before, &err));
    EXPECT_INT(append_at(b->s, lease, row->blocks, &events), ERR_FENCED);
    EXPECT_CONTAINS(err.msg, lease->job);
    EXPECT_INT(store_renew(b->s, lease, 99999, &err), ERR_FENCED);
    EXPECT_INT(store_end(b->s, lease, &end, &events, &err), ERR_FENCED);
    EXPECT_INT(e.seq, 0);
    EXPECT_INT(lease->until_ms, 2000);
    EXPECT_OK(store_count(b->s, &after, &err));
    EXPECT_INT(after.last_seq, before.last_seq);
    expect_row(b->s, row);
    job_row_free(row);
}

static void an_old_lease_is_fenced(struct bed *b)
{
    struct store_lease first;
    struct store_lease second;
    int n = 0;

    store_contract_create(b->s, "video_a");
    first = store_contract_claim(b->s, "video_a", "w1");
    store_contract_append(b->s, &first);
    EXPECT_OK(store_recover(b->s, "w1", 0, &n, &err));
    EXPECT_INT(n, 1);
    expect_fenced(b, &first);                             /* queued */
    second = store_contract_claim(b->s, "video_a", "w1"); /* by the same name, even */
    expect_fenced(b, &first);                             /* somebody else's */
    store_contract_append(b->s, &second);
    reopen(b);
    expect_fenced(b, &first);
    store_contract_append(b->s, &second); /* a lease outlives a restart of the store */
    end_as(b, &second, JOB_COMPLETED);
    expect_fenced(b, &first);
    expect_fenced(b, &second); /* over */
}

static void leases_run_out(struct bed *b)
{
    struct store_lease lease;
    struct job_row *row;
    int n = 99;

    store_contract_create(b->s, "video_a");
    store_contract_create(b->s, "video_b");
    store_contract_create(b->s, "video_c");
    lease = store_contract_claim(b->s, "video_a", "w1");
    store_contract_claim(b->s, "video_b", "w1");
    store_contract_claim(b->s, "video_c", "w2");
    EXPECT_OK(store_renew(b->s, &lease, 5000, &err));
    EXPECT_INT(lease.until_ms, 5000);
    EXPECT_OK(store_recover(b->s, NULL, 2000, &n, &err)); /* until 2000: not before 2000 */
    EXPECT_INT(n, 0);
    EXPECT_OK(store_recover(b->s, "", 0, &n, &err));
    EXPECT_INT(n, 0);
    EXPECT_OK(store_recover(b->s, "nobody", 2001, &n, &err));
    EXPECT_INT(n, 2);
    EXPECT_OK(store_recover(b->s, NULL, 5001, &n, &err));
    EXPECT_INT(n, 1);
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->state, JOB_QUEUED);
    EXPECT_INT(row->restarts, 1);
    EXPECT_INT(row->started_ms, 1000);
    job_row_free(row);
}

static void only_the_named_worker_loses_its_jobs(struct bed *b)
{
    struct store_lease kept;
    int n = 0;

    store_contract_create(b->s, "video_a");
    store_contract_create(b->s, "video_b");
    store_contract_create(b->s, "video_c");
    kept = store_contract_claim(b->s, "video_a", "w1");
    store_contract_claim(b->s, "video_b", "w2");
    store_contract_claim(b->s, "video_c", "w2");
    EXPECT_OK(store_recover(b->s, "w2", 0, &n, &err));
    EXPECT_INT(n, 2);
    store_contract_append(b->s, &kept);
}

static void blocks_come_in_order(struct bed *b)
{
    struct job_row *row;
    struct job_block *block = NULL;
    struct store_lease lease;
    struct job_block wrong = {
        .index = 2, .offset = 201, .bytes = 1, .first_frame = 16, .frames = 1};
    const struct store_append wrong_place = {.block = &wrong, .latent_bytes = 128};
    const struct store_append shrink = {.latent_bytes = 127};
    int n = 0;

    store_contract_create(b->s, "video_a");
    lease = store_contract_claim(b->s, "video_a", "w");
    EXPECT_INT(append_at(b->s, &lease, 1, NULL), ERR_INVALID);
    EXPECT_OK(append_at(b->s, &lease, 0, NULL));
    EXPECT_INT(append_at(b->s, &lease, 0, NULL), ERR_INVALID);
    EXPECT_OK(append_at(b->s, &lease, 1, NULL));
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->blocks, 2);
    EXPECT_INT(row->frames, 16);
    EXPECT_INT(row->fragment_bytes, 200);
    EXPECT_INT(row->latent_bytes, 128);
    EXPECT_INT(append_at(b->s, &lease, 3, NULL), ERR_INVALID);
    EXPECT_INT(store_append(b->s, &lease, &wrong_place, NULL, &err), ERR_INVALID);
    EXPECT_INT(store_append(b->s, &lease, &shrink, NULL, &err), ERR_INVALID);
    wrong =
        (struct job_block){.index = 2, .offset = 200, .bytes = 0, .first_frame = 16, .frames = 1};
    EXPECT_INT(store_append(b->s, &lease, &wrong_place, NULL, &err), ERR_INVALID);
    expect_row(b->s, row);
    reopen(b);
    expect_row(b->s, row);
    EXPECT_OK(store_blocks(b->s, "video_a", &block, &n, &err));
    EXPECT_INT(n, 2);
    for (int i = 0; i < 2; i++) {
        EXPECT_INT(block[i].index, i);
        EXPECT_INT(block[i].offset, 100 * i);
        EXPECT_INT(block[i].bytes, 100);
        EXPECT_INT(block[i].first_frame, 8 * i);
        EXPECT_INT(block[i].frames, 8);
        EXPECT_INT(block[i].gen_ms, 40 + i);
    }
    free(block);
    job_row_free(row);
}

static void a_snapshot_needs_no_block(struct bed *b)
{
    const struct store_append snapshot = {.state_version = 7, .detail = "{\"step\":7}"};
    const struct store_append nothing = {0};
    struct job_row *row;
    struct store_lease lease;

    store_contract_create(b->s, "video_a");
    lease = store_contract_claim(b->s, "video_a", "w");
    EXPECT_OK(store_append(b->s, &lease, &snapshot, NULL, &err));
    EXPECT_OK(store_append(b->s, &lease, &nothing, NULL, &err));
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->state_version, 7);
    EXPECT_STR(row->detail, "{\"step\":7}");
    EXPECT_INT(row->blocks, 0);
    job_row_free(row);
}

static void ends_are_kept(struct bed *b)
{
    struct store_end aside = {.state = JOB_QUEUED, .restart = true, .detail = "{\"d\":1}"};
    const struct store_end done = {
        .state = JOB_COMPLETED, .ended_ms = 7000, .expires_ms = 9000, .stored_bytes = 55};
    struct job_row *row;
    struct store_lease lease;

    store_contract_create(b->s, "video_a");
    lease = store_contract_claim(b->s, "video_a", "w");
    EXPECT_INT(store_end(b->s, &lease, &(struct store_end){.state = JOB_RUNNING}, NULL, &err),
               ERR_INVALID);
    EXPECT_OK(store_end(b->s, &lease, &aside, NULL, &err));
    lease = store_contract_claim(b->s, "video_a", "w");
    aside.restart = false; /* set aside of its own will */
    EXPECT_OK(store_end(b->s, &lease, &aside, NULL, &err));
    lease = store_contract_claim(b->s, "video_a", "w");
    EXPECT_OK(store_end(b->s, &lease, &done, NULL, &err));
    reopen(b);
    row = store_contract_get(b->s, "video_a");
    EXPECT_INT(row->state, JOB_COMPLETED);
    EXPECT_INT(row->restarts, 1);
    EXPECT_INT(row->ended_ms, 7000);
    EXPECT_INT(row->expires_ms, 9000);
    EXPECT_INT(row->stored_bytes, 55);
    EXPECT_STR(row->detail, "{\"d\":1}");
    EXPECT(!row->error_code);
    job_row_free(row);
}

/* ---- events ---- */

static void events_are_numbered_and_kept(struct bed *b)
{
    struct store_event e[3] = {store_contract_event("video.a", "video_a", "{\"n\":1}"),
                               store_contract_event("video.progress", "video_a", NULL),
                               store_contract_event("video.b", "", "{\"n\":3}")};
    struct store_events events = {.event = e, .n = 3};
    struct store_event *got = NULL;
    struct store_totals t;
    int64_t oldest = -1;
    int n = 0;

    EXPECT_OK(store_log(b->s, &events, &err));
    EXPECT(e[0].seq > 0 && e[1].seq > e[0].seq && e[2].seq > e[1].seq);
    EXPECT_OK(store_count(b->s, &t, &err));
    EXPECT_INT(t.last_seq, e[2].seq);
    EXPECT_OK(store_read_events(b->s, 0, NULL, 10, &got, &n, &oldest, &err));
    EXPECT_INT(n, 2);
    EXPECT_INT(oldest, 0);
    EXPECT_INT(got[0].seq, e[0].seq);
    EXPECT_INT(got[0].created_ms, 1000);
    EXPECT_STR(got[0].type, "video.a");
    EXPECT_STR(got[0].job, "video_a");
    EXPECT_STR(got[0].data, "{\"n\":1}");
    EXPECT_INT(got[1].seq, e[2].seq);
    EXPECT_STR(got[1].job, "");
    store_event_done(&got[0]);
    store_event_done(&got[1]);
    free(got);
    EXPECT_STR(seqs(b->s, e[2].seq, NULL, 10, &oldest), "");
    EXPECT_STR(seqs(b->s, 0, NULL, 0, &oldest), "");
}

static void events_are_read_from_a_number_on(struct bed *b)
{
    char want[128];
    long long seq[6];
    int64_t oldest;

    for (int i = 0; i < 6; i++) {
        seq[i] = log_one(b->s, i % 2 ? "video_b" : "video_a", "{}");
    }
    snprintf(want, sizeof(want), "%lld %lld", seq[2], seq[3]);
    EXPECT_STR(seqs(b->s, seq[1], NULL, 2, &oldest), want);
    snprintf(want, sizeof(want), "%lld %lld", seq[2], seq[4]);
    EXPECT_STR(seqs(b->s, seq[1], "video_a", 10, &oldest), want);
    snprintf(want, sizeof(want), "%lld", seq[3]);
    EXPECT_STR(seqs(b->s, seq[2], "video_b", 1, &oldest), want);
}

static void bad_events_are_refused(struct bed *b)
{
    struct store_event e = store_contract_event("", "video_a", "{}");
    struct store_events events = {.event = &e, .n = 1};

    EXPECT_INT(store_log(b->s, &events, &err), ERR_INVALID);
    memset(e.type, 'x', sizeof(e.type));
    EXPECT_INT(store_log(b->s, &events, &err), ERR_INVALID);
    e = store_contract_event("video.a", "video_a", "{}");
    memset(e.job, 'x', sizeof(e.job));
    EXPECT_INT(store_log(b->s, &events, &err), ERR_INVALID);
    events.n = -1;
    EXPECT_INT(store_log(b->s, &events, &err), ERR_INVALID);
    events.n = 0;
    EXPECT_OK(store_log(b->s, &events, &err));
}

static void numbers_grow_over_restarts(struct bed *b)
{
    int64_t last = 0;

    for (int life = 0; life < 4; life++) {
        for (int i = 0; i < 1500; i++) { /* more than any reservation */
            const int64_t seq = log_one(b->s, "", i % 500 == 0 ? "{}" : NULL);

            EXPECT(seq > last);
            last = seq;
        }
        reopen(b);
    }
}

static void two_handles_share_the_numbers(struct bed *b)
{
    struct store *other = NULL;
    int64_t last = 0;
    int64_t oldest;

    EXPECT_OK(b->open(&other, b->dir, &err));
    for (int i = 0; i < 40; i++) {
        struct store *s = i % 3 == 0 ? b->s : other;
        const int64_t seq = log_one(s, "", i % 4 == 0 ? "{}" : NULL);
        struct store_totals t;

        EXPECT(seq > last); /* in the order in which they take effect */
        last = seq;
        EXPECT_OK(store_count(s, &t, &err));
        EXPECT_INT(t.last_seq, seq);
    }
    store_contract_create(other, "video_a");
    EXPECT_INT(get_rc(b->s, "video_a"), ERR_OK);
    EXPECT(strlen(seqs(b->s, 0, NULL, 100, &oldest)) > 0);
    store_close(other);
}

static void a_failed_call_gives_no_event(struct bed *b)
{
    struct store_event e = store_contract_event("video.a", "video_a", "{}");
    struct store_events events = {.event = &e, .n = 1};
    const struct store_end end = {.state = JOB_COMPLETED};
    const struct store_update update = {.tags = "[]"};
    int64_t oldest;

    EXPECT_INT(store_set(b->s, "video_a", &update, &events, &err), ERR_NOT_FOUND);
    EXPECT_INT(store_end_queued(b->s, "video_a", &end, &events, &err), ERR_NOT_FOUND);
    EXPECT_INT(store_delete(b->s, "video_a", &events, &err), ERR_NOT_FOUND);
    EXPECT_INT(e.seq, 0);
    EXPECT_STR(seqs(b->s, 0, NULL, 10, &oldest), "");
}

static bool readable(struct store *s)
{
    struct pollfd p = {.fd = store_watch_fd(s), .events = POLLIN};

    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static void changes_can_be_watched(struct bed *b)
{
    struct store *other = NULL;

    if (store_watch_fd(b->s) < 0) {
        return; /* the store has none */
    }
    EXPECT_OK(b->open(&other, b->dir, &err));
    store_watch_clear(b->s);
    EXPECT(!readable(b->s));
    store_contract_create(b->s, "video_a"); /* its own */
    EXPECT(readable(b->s));
    store_watch_clear(b->s);
    EXPECT(!readable(b->s));
    store_contract_create(other, "video_b"); /* somebody else's */
    EXPECT(readable(b->s));
    store_watch_clear(b->s);
    EXPECT_INT(get_rc(b->s, "video_b"), ERR_OK);
    EXPECT(!readable(b->s)); /* looking is no change */
    store_close(other);
}

/* ---- upkeep ---- */

/* A job that ended at ended_ms with 100 bytes. */
static void make_ended(struct bed *b, const char *id, int64_t ended_ms, int64_t expires_ms)
{
    const struct store_end end = {.state = JOB_COMPLETED,
                                  .ended_ms = ended_ms,
                                  .expires_ms = expires_ms,
                                  .stored_bytes = 100};

    store_contract_create(b->s, id);
    EXPECT_OK(store_end_queued(b->s, id, &end, NULL, &err));
}

static const char *expirable(struct store *s, int64_t now_ms, int64_t max_bytes, int limit)
{
    static char text[1024];
    struct store_ids found = {0};
    size_t len = 0;

    EXPECT_OK(store_expirable(s, now_ms, max_bytes, limit, &found, &err));
    text[0] = '\0';
    for (int i = 0; i < found.n; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i > 0 ? " " : "",
                                found.id[i] + 6);
    }
    free(found.id);
    return text;
}

static void finished_jobs_expire(struct bed *b)
{
    struct store_query q = {.limit = 10, .status = -1};
    struct store_totals t;
    struct job_row *row;

    make_ended(b, "video_1", 4000, 9000);
    make_ended(b, "video_2", 3000, 0);
    make_ended(b, "video_3", 2000, 8000);
    make_ended(b, "video_4", 5000, 0);
    store_contract_create(b->s, "video_5");
    EXPECT_STR(expirable(b->s, 7999, 0, 10), "");
    EXPECT_STR(expirable(b->s, 8000, 0, 10), "3");
    EXPECT_STR(expirable(b->s, 9000, 0, 10), "3 1");
    EXPECT_STR(expirable(b->s, 9000, 0, 1), "3");
    EXPECT_STR(expirable(b->s, 1000, 400, 10), ""); /* fits */
    EXPECT_STR(expirable(b->s, 1000, 399, 10), "3");
    EXPECT_STR(expirable(b->s, 1000, 200, 10), "3 2");
    EXPECT_STR(expirable(b->s, 1000, 1, 10), "3 2 1 4");
    EXPECT_STR(expirable(b->s, 1000, 1, 3), "3 2 1");
    EXPECT_STR(expirable(b->s, 9000, 100, 10), "3 1 2"); /* those over time count first */
    EXPECT_INT(store_expire(b->s, "video_5", 9000, &err), ERR_BUSY);
    EXPECT_INT(store_expire(b->s, "video_6", 9000, &err), ERR_NOT_FOUND);
    EXPECT_OK(store_expire(b->s, "video_3", 9000, &err));
    EXPECT_OK(store_expire(b->s, "video_3", 9500, &err)); /* again: the first time counts */
    reopen(b);
    EXPECT_STR(expirable(b->s, 9000, 0, 10), "1");
    EXPECT_STR(ids(b->s, &q), "5 4 2 1");
    q.include_expired = true;
    EXPECT_STR(ids(b->s, &q), "5 4 3 2 1");
    row = store_contract_get(b->s, "video_3");
    EXPECT_INT(row->expired_ms, 9000);
    EXPECT_INT(row->state, JOB_COMPLETED);
    job_row_free(row);
    EXPECT_OK(store_count(b->s, &t, &err));
    EXPECT_INT(t.stored_bytes, 300);
    EXPECT_OK(store_prune(b->s, 9000, 0, 0, &err));
    EXPECT_INT(get_rc(b->s, "video_3"), ERR_OK);
    EXPECT_OK(store_prune(b->s, 9001, 0, 0, &err));
    EXPECT_INT(get_rc(b->s, "video_3"), ERR_NOT_FOUND);
    EXPECT_INT(get_rc(b->s, "video_1"), ERR_OK);
}

static int64_t log_at(struct store *s, int64_t created_ms)
{
    struct store_event e = store_contract_event("video.test", "", "{}");
    struct store_events events = {.event = &e, .n = 1};

    e.created_ms = created_ms;
    EXPECT_OK(store_log(s, &events, &err));
    return e.seq;
}

static void old_events_go(struct bed *b)
{
    static const int64_t created[6] = {100, 200, 900, 300, 1000, 1100}; /* the clock was set back */
    char want[128];
    long long seq[6];
    int64_t oldest = -1;

    for (int i = 0; i < 6; i++) {
        seq[i] = log_at(b->s, created[i]);
    }
    EXPECT_OK(store_prune(b->s, 0, 100, 0, &err));
    EXPECT_OK(store_prune(b->s, 0, 5000, 6, &err));
    EXPECT_OK(store_prune(b->s, 0, 5000, 10000, &err));
    seqs(b->s, 0, NULL, 10, &oldest);
    EXPECT_INT(oldest, 0);
    EXPECT_OK(store_prune(b->s, 0, 800, 0, &err));
    snprintf(want, sizeof(want), "%lld %lld %lld %lld", seq[2], seq[3], seq[4], seq[5]);
    EXPECT_STR(seqs(b->s, 0, NULL, 10, &oldest), want); /* always the oldest: no gaps */
    EXPECT_INT(oldest, seq[1] + 1);
    EXPECT_OK(store_prune(b->s, 0, 5000, 3, &err));
    reopen(b);
    snprintf(want, sizeof(want), "%lld %lld %lld", seq[3], seq[4], seq[5]);
    EXPECT_STR(seqs(b->s, 0, NULL, 10, &oldest), want);
    EXPECT_INT(oldest, seq[2] + 1);
    EXPECT_OK(store_prune(b->s, 0, 5000, 0, &err));
    EXPECT_STR(seqs(b->s, 0, NULL, 10, &oldest), "");
    EXPECT_INT(oldest, seq[5] + 1);
    EXPECT(log_at(b->s, 6000) > seq[5]);
}

static void a_good_store_is_writable(struct bed *b)
{
    EXPECT_OK(store_check(b->s, &err));
    EXPECT_OK(store_check(b->s, &err));
    store_close(NULL);
}

void store_contract_run(store_contract_open_fn open)
{
    static const struct {
        const char *name;
        void (*fn)(struct bed *b);
    } tests[] = {
#define PROMISE(name) {#name, name}
        PROMISE(a_row_comes_back_as_it_went),
        PROMISE(a_bad_row_is_refused),
        PROMISE(a_key_makes_one_job),
        PROMISE(a_key_can_be_looked_up),
        PROMISE(the_key_of_a_deleted_job_is_used_up),
        PROMISE(lists_are_paged_by_position),
        PROMISE(lists_are_filtered),
        PROMISE(the_most_filters_work_and_more_are_refused),
        PROMISE(status_is_the_apis),
        PROMISE(clients_change_tags_metadata_priority),
        PROMISE(a_queued_job_can_be_ended),
        PROMISE(a_cancel_is_remembered),
        PROMISE(a_deleted_job_leaves_a_tombstone),
        PROMISE(what_the_worker_says_first_is_kept),
        PROMISE(claims_make_epochs),
        PROMISE(an_old_lease_is_fenced),
        PROMISE(leases_run_out),
        PROMISE(only_the_named_worker_loses_its_jobs),
        PROMISE(blocks_come_in_order),
        PROMISE(a_snapshot_needs_no_block),
        PROMISE(ends_are_kept),
        PROMISE(events_are_numbered_and_kept),
        PROMISE(events_are_read_from_a_number_on),
        PROMISE(bad_events_are_refused),
        PROMISE(numbers_grow_over_restarts),
        PROMISE(two_handles_share_the_numbers),
        PROMISE(a_failed_call_gives_no_event),
        PROMISE(changes_can_be_watched),
        PROMISE(finished_jobs_expire),
        PROMISE(old_events_go),
        PROMISE(a_good_store_is_writable),
#undef PROMISE
    };

    for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
        struct bed b = {.open = open};

        snprintf(b.dir, sizeof(b.dir), "%s/contract-XXXXXX", test_dir());
        EXPECT(mkdtemp(b.dir));
        printf("     %s\n", tests[i].name);
        EXPECT_OK(open(&b.s, b.dir, &err));
        tests[i].fn(&b);
        store_close(b.s);
    }
}
