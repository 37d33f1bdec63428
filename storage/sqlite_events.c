#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/sqlite_internal.h"

enum {
    RESERVE = 1000 /* numbers at a time */
};

static int read_meta(struct sqlite_store *s, const char *key, int64_t *ret, struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db, "SELECT value FROM meta WHERE key = ?", err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, key);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK && !found) {
        rc = err_set(err, ERR_FORMAT, "database '%s': meta has no '%s'", s->db.path, key);
    }
    if (rc == ERR_OK) {
        *ret = sqlite3_column_int64(q.stmt, 0);
    }
    sql_done(&q);
    return rc;
}

static int write_meta(struct sqlite_store *s, const char *key, int64_t value, struct err *err)
{
    struct sql_stmt q;
    const int rc = sql_prepare(&q, &s->db, "UPDATE meta SET value = ? WHERE key = ?", err);

    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_int(&q, value);
    sql_bind_text(&q, key);
    return sql_run(&q, err);
}

/* *ret: the next n numbers are reserved for this handle, and above all that others gave. */
static int has_reserved(struct sqlite_store *s, int n, bool *ret, struct err *err)
{
    int64_t limit = 0;
    const int rc = read_meta(s, "event_limit", &limit, err);

    *ret = limit == s->event_limit && s->event_limit - s->next_seq + 1 >= n;
    return rc;
}

static int reserve(struct sqlite_store *s, int n, struct err *err)
{
    bool enough = false;
    int64_t limit = 0;
    int rc = has_reserved(s, n, &enough, err);

    if (rc != ERR_OK || enough) {
        return rc;
    }
    rc = read_meta(s, "event_limit", &limit, err);
    if (rc == ERR_OK) {
        rc = write_meta(s, "event_limit", limit + RESERVE, err);
    }
    if (rc == ERR_OK) {
        s->next_seq = limit + 1;
        s->event_limit = limit + RESERVE;
    }
    return rc;
}

static int insert_event(struct sqlite_store *s, int64_t seq, const struct store_event *event,
                        struct err *err)
{
    struct sql_stmt q;
    const int rc = sql_prepare(
        &q, &s->db, "INSERT INTO event(seq, created_ms, type, job, data) VALUES(?, ?, ?, ?, ?)",
        err);

    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_int(&q, seq);
    sql_bind_int(&q, event->created_ms);
    sql_bind_text(&q, event->type);
    sql_bind_text(&q, event->job);
    sql_bind_text(&q, event->data);
    return sql_run(&q, err);
}

int sqlite_events_keep(struct sqlite_store *s, const struct store_events *events, struct err *err)
{
    int rc = reserve(s, events->n, err);

    for (int i = 0; rc == ERR_OK && i < events->n; i++) {
        if (events->event[i].data) {
            rc = insert_event(s, s->next_seq + i, &events->event[i], err);
        }
    }
    if (rc == ERR_OK) {
        s->next_seq += events->n;
    }
    return rc;
}

int sqlite_events_open(struct sqlite_store *s, struct err *err)
{
    int64_t limit = 0;
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = read_meta(s, "event_limit", &limit, err);
    }
    if (rc == ERR_OK) {
        rc = write_meta(s, "event_limit", limit + 1, err);
    }
    if (rc == ERR_OK) {
        s->event_limit = limit + 1; /* nothing is left of it */
        s->next_seq = limit + 2;
    }
    return sqlite_change_end(s, rc, NULL, err);
}

int sqlite_events_last(struct sqlite_store *s, int64_t *ret, struct err *err)
{
    int64_t limit = 0;
    int64_t kept = 0;
    int rc = read_meta(s, "event_limit", &limit, err);

    if (rc == ERR_OK) {
        rc = sql_number(&s->db, "SELECT max(seq) FROM event", &kept, err);
    }
    if (rc == ERR_OK) {
        *ret = s->next_seq - 1;
        if (limit != s->event_limit && kept > *ret) {
            *ret = kept; /* somebody else gave numbers since */
        }
    }
    return rc;
}

static bool any_kept(const struct store_events *events)
{
    for (int i = 0; i < events->n; i++) {
        if (events->event[i].data) {
            return true;
        }
    }
    return false;
}

int sqlite_log(struct store *base, struct store_events *events, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    bool enough = false;
    int rc;

    if (!any_kept(events)) {
        rc = has_reserved(s, events->n, &enough, err);
        if (rc != ERR_OK) {
            return rc;
        }
    }
    if (enough) { /* nothing to write */
        for (int i = 0; i < events->n; i++) {
            events->event[i].seq = s->next_seq++;
        }
        return ERR_OK;
    }
    rc = sqlite_change_begin(s, err);
    return sqlite_change_end(s, rc, events, err);
}

/* ---- reading ---- */

static bool read_event(struct store_event *event, sqlite3_stmt *stmt)
{
    const char *type = (const char *)sqlite3_column_text(stmt, 2);
    const char *job = (const char *)sqlite3_column_text(stmt, 3);
    const char *data = (const char *)sqlite3_column_text(stmt, 4);

    *event = (struct store_event){.seq = sqlite3_column_int64(stmt, 0),
                                  .created_ms = sqlite3_column_int64(stmt, 1)};
    if (!type || !job || !data) {
        return false;
    }
    snprintf(event->type, sizeof(event->type), "%s", type);
    snprintf(event->job, sizeof(event->job), "%s", job);
    event->data = strdup(data);
    return event->data != NULL;
}

struct event_list {
    struct store_event *event;
    int n, room;
};

static void free_events(struct event_list *list)
{
    for (int i = 0; i < list->n; i++) {
        store_event_done(&list->event[i]);
    }
    free(list->event);
}

static bool add_event(struct event_list *list, sqlite3_stmt *stmt)
{
    if (list->n == list->room) {
        const int room = list->room ? list->room * 2 : 16;
        struct store_event *more = realloc(list->event, (size_t)room * sizeof(*more));

        if (!more) {
            return false;
        }
        list->event = more;
        list->room = room;
    }
    if (!read_event(&list->event[list->n], stmt)) {
        return false;
    }
    list->n++;
    return true;
}

static int collect_events(struct event_list *list, struct sql_stmt *q, struct err *err)
{
    bool found = true;
    int rc = sql_step(q, &found, err);

    while (rc == ERR_OK && found) {
        if (!add_event(list, q->stmt)) {
            return err_set(err, ERR_NO_MEMORY, "a list of events");
        }
        rc = sql_step(q, &found, err);
    }
    return rc;
}

int sqlite_read_events(struct store *base, int64_t after, const char *job, int limit,
                       struct store_event **ret, int *ret_n, int64_t *ret_oldest, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct event_list list = {0};
    struct sql_stmt q;
    int64_t pruned = 0;
    int rc = job ? sql_prepare(&q, &s->db,
                               "SELECT seq, created_ms, type, job, data FROM event "
                               "WHERE seq > ? AND job = ? ORDER BY seq LIMIT ?",
                               err)
                 : sql_prepare(&q, &s->db,
                               "SELECT seq, created_ms, type, job, data FROM event "
                               "WHERE seq > ? ORDER BY seq LIMIT ?",
                               err);

    if (rc == ERR_OK) {
        sql_bind_int(&q, after);
        if (job) {
            sql_bind_text(&q, job);
        }
        sql_bind_int(&q, limit);
        rc = collect_events(&list, &q, err);
    }
    sql_done(&q);
    if (rc == ERR_OK) { /* afterwards: what another process prunes meanwhile shows */
        rc = read_meta(s, "event_pruned", &pruned, err);
    }
    if (rc != ERR_OK) {
        free_events(&list);
        return rc;
    }
    *ret = list.event;
    *ret_n = list.n;
    *ret_oldest = pruned > 0 ? pruned + 1 : 0;
    return ERR_OK;
}

/* ---- pruning ---- */

/* Runs a statement with one number; rc: of preparing it. */
static int run_with(struct sql_stmt *q, int rc, int64_t number, struct err *err)
{
    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_int(q, number);
    return sql_run(q, err);
}

/* *ret: the number up to which events may go. Always the oldest ones, so that what is left has no gap,
 * whatever the clock did. */
static int prunable(struct sqlite_store *s, int64_t before_ms, int64_t keep, int64_t *ret,
                    struct err *err)
{
    struct sql_stmt q;
    bool found;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT min("
                         "ifnull((SELECT seq - 1 FROM event WHERE created_ms >= ?1"
                         "        ORDER BY seq LIMIT 1),"
                         "       (SELECT max(seq) FROM event)),"
                         "iif(?2 > 0, ifnull((SELECT seq - 1 FROM event ORDER BY seq DESC"
                         "                    LIMIT 1 OFFSET ?2 - 1), 0),"
                         "    (SELECT max(seq) FROM event)))",
                         err);

    if (rc == ERR_OK) {
        sql_bind_int(&q, before_ms);
        sql_bind_int(&q, keep);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK) {
        *ret = sqlite3_column_int64(q.stmt, 0);
    }
    sql_done(&q);
    return rc;
}

static int prune_events(struct sqlite_store *s, int64_t before_ms, int64_t keep, struct err *err)
{
    struct sql_stmt q;
    int64_t last = 0;
    int rc = prunable(s, before_ms, keep, &last, err);

    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db, "DELETE FROM event WHERE seq <= ?", err);
        rc = run_with(&q, rc, last, err);
    }
    if (rc == ERR_OK && sqlite3_changes(s->db.handle) > 0) {
        rc = write_meta(s, "event_pruned", last, err);
    }
    return rc;
}

int sqlite_prune(struct store *base, int64_t expired_before_ms, int64_t events_before_ms,
                 int64_t keep_events, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct sql_stmt q;
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc =
            sql_prepare(&q, &s->db, "DELETE FROM job WHERE expired_ms > 0 AND expired_ms < ?", err);
        rc = run_with(&q, rc, expired_before_ms, err);
    }
    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db, "DELETE FROM tombstone WHERE deleted_ms < ?", err);
        rc = run_with(&q, rc, expired_before_ms, err);
    }
    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db,
                         "DELETE FROM idempotency WHERE created_ms < ? AND NOT EXISTS("
                         "SELECT 1 FROM job WHERE job.id = idempotency.job)",
                         err);
        rc = run_with(&q, rc, expired_before_ms, err);
    }
    if (rc == ERR_OK) {
        rc = prune_events(s, events_before_ms, keep_events, err);
    }
    return sqlite_change_end(s, rc, NULL, err);
}
