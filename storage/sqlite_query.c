#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "storage/sqlite_internal.h"
#include "storage/sqlite_row.h"

enum {
    MAX_SQL_BYTES = 8192
};

/* ---- rows ---- */

struct row_list {
    struct job_row **row;
    int n, room;
};

static void free_rows(struct row_list *list)
{
    for (int i = 0; i < list->n; i++) {
        job_row_free(list->row[i]);
    }
    free(list->row);
}

static bool add_row(struct row_list *list, sqlite3_stmt *stmt)
{
    if (list->n == list->room) {
        const int room = list->room ? list->room * 2 : 16;
        struct job_row **more = realloc(list->row, (size_t)room * sizeof(struct job_row *));

        if (!more) {
            return false;
        }
        list->row = more;
        list->room = room;
    }
    list->row[list->n] = sqlite_row_read(stmt);
    if (!list->row[list->n]) {
        return false;
    }
    list->n++;
    return true;
}

/* At most `limit` rows (-1: all). *ret_more: there was another one. */
static int collect_rows(struct row_list *list, struct sql_stmt *q, int limit, bool *ret_more,
                        struct err *err)
{
    bool found = false;
    int rc = sql_step(q, &found, err);

    while (rc == ERR_OK && found && list->n != limit) {
        if (!add_row(list, q->stmt)) {
            return err_set(err, ERR_NO_MEMORY, "a list of jobs");
        }
        rc = sql_step(q, &found, err);
    }
    *ret_more = found;
    return rc;
}

static int return_rows(struct row_list *list, bool more, int rc, struct store_rows *ret)
{
    if (rc != ERR_OK) {
        free_rows(list);
        return rc;
    }
    *ret = (struct store_rows){.row = list->row, .n = list->n, .has_more = more};
    return ERR_OK;
}

int sqlite_get(struct store *base, const char *id, struct job_row **ret, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct job_row *row = NULL;
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db, "SELECT " SQLITE_ROW_COLUMNS " FROM job WHERE id = ?", err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, id);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK && !found) {
        rc = sqlite_no_job(id, err);
    }
    if (rc == ERR_OK) {
        row = sqlite_row_read(q.stmt);
        rc = row ? ERR_OK : err_set(err, ERR_NO_MEMORY, "job '%s'", id);
    }
    sql_done(&q);
    if (rc == ERR_OK) {
        *ret = row;
    }
    return rc;
}

/* ---- listing: the same walk over the filters writes the conditions and binds their values ---- */

/* The API's words, by the indexes job_open and job_state. */
static const char *const status_is[] = {
    "state < 2 AND state = 0 AND started_ms = 0",
    "state < 2 AND (state = 1 OR started_ms > 0)",
    "state = 2",
    "state = 3",
};

static void list_sql(struct str *sql, const struct store_query *query)
{
    str_add(sql, "SELECT " SQLITE_ROW_COLUMNS " FROM job WHERE ");
    str_add(sql, query->status >= 0 ? status_is[query->status] : "1");
    str_add(sql, query->include_expired ? "" : " AND expired_ms = 0");
    if (query->after) {
        str_addf(sql, " AND id %s ?", query->ascending ? ">" : "<");
    }
    str_add(sql, query->client ? " AND client = ?" : "");
    str_add(sql, query->model ? " AND model = ?" : "");
    str_add(sql, query->group ? " AND \"group\" = ?" : "");
    str_add(sql, query->user ? " AND user = ?" : "");
    str_add(sql, query->created_after_ms ? " AND created_ms > ?" : "");
    str_add(sql, query->created_before_ms ? " AND created_ms < ?" : "");
    for (int i = 0; i < query->n_tags; i++) {
        str_add(sql, " AND CASE tags WHEN '' THEN 0 ELSE EXISTS("
                     "SELECT 1 FROM json_each(job.tags) WHERE value = ?) END");
    }
    for (int i = 0; i < query->n_metadata; i++) {
        str_add(sql, " AND CASE metadata WHEN '' THEN 0 ELSE EXISTS("
                     "SELECT 1 FROM json_each(job.metadata) WHERE key = ? AND value = ?) END");
    }
    str_addf(sql, " ORDER BY id%s LIMIT ?", query->ascending ? "" : " DESC");
}

static void bind_filter(struct sql_stmt *q, const char *value)
{
    if (value) {
        sql_bind_text(q, value);
    }
}

static void list_bind(struct sql_stmt *q, const struct store_query *query)
{
    bind_filter(q, query->after);
    bind_filter(q, query->client);
    bind_filter(q, query->model);
    bind_filter(q, query->group);
    bind_filter(q, query->user);
    if (query->created_after_ms) {
        sql_bind_int(q, query->created_after_ms);
    }
    if (query->created_before_ms) {
        sql_bind_int(q, query->created_before_ms);
    }
    for (int i = 0; i < query->n_tags; i++) {
        sql_bind_text(q, query->tags[i]);
    }
    for (int i = 0; i < query->n_metadata; i++) {
        sql_bind_text(q, query->metadata[i].key);
        sql_bind_text(q, query->metadata[i].value);
    }
    sql_bind_int(q, (int64_t)query->limit + 1);
}

int sqlite_list(struct store *base, const struct store_query *query, struct store_rows *ret,
                struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct row_list list = {0};
    struct sql_stmt q = {0};
    struct str sql;
    bool more = false;
    int rc;

    str_init(&sql, MAX_SQL_BYTES);
    list_sql(&sql, query);
    rc = sql.failed ? err_set(err, ERR_NO_MEMORY, "a list of jobs")
                    : sql_prepare_once(&q, &s->db, str_get(&sql), err);
    if (rc == ERR_OK) {
        list_bind(&q, query);
        rc = collect_rows(&list, &q, query->limit, &more, err);
    }
    sql_done(&q);
    str_done(&sql);
    return return_rows(&list, more, rc, ret);
}

int sqlite_unfinished(struct store *base, struct store_rows *ret, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct row_list list = {0};
    struct sql_stmt q;
    bool more = false;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT " SQLITE_ROW_COLUMNS " FROM job WHERE state < 2 ORDER BY id", err);

    if (rc == ERR_OK) {
        rc = collect_rows(&list, &q, -1, &more, err);
    }
    sql_done(&q);
    return return_rows(&list, false, rc, ret);
}

/* ---- blocks ---- */

static int count_blocks(struct sqlite_store *s, const char *id, int64_t *ret, struct err *err)
{
    struct sql_stmt q;
    bool found;
    int rc = sql_prepare(&q, &s->db, "SELECT count(*) FROM block WHERE job = ?", err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, id);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK) {
        *ret = sqlite3_column_int64(q.stmt, 0);
    }
    sql_done(&q);
    return rc;
}

/* At most room; *ret_n: how many there were. */
static int read_blocks(struct sqlite_store *s, const char *id, struct job_block *block,
                       int64_t room, int *ret_n, struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int n = 0;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT idx, offset, bytes, first_frame, frames, gen_ms FROM block "
                         "WHERE job = ? ORDER BY idx LIMIT ?",
                         err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, id);
        sql_bind_int(&q, room);
        rc = sql_step(&q, &found, err);
    }
    while (rc == ERR_OK && found && n < room) {
        block[n++] = (struct job_block){.index = sqlite3_column_int64(q.stmt, 0),
                                        .offset = sqlite3_column_int64(q.stmt, 1),
                                        .bytes = sqlite3_column_int64(q.stmt, 2),
                                        .first_frame = sqlite3_column_int64(q.stmt, 3),
                                        .frames = sqlite3_column_int64(q.stmt, 4),
                                        .gen_ms = sqlite3_column_int64(q.stmt, 5)};
        rc = sql_step(&q, &found, err);
    }
    sql_done(&q);
    *ret_n = n;
    return rc;
}

int sqlite_blocks(struct store *base, const char *id, struct job_block **ret, int *ret_n,
                  struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct job_block *block;
    int64_t room = 0;
    int rc = count_blocks(s, id, &room, err);

    if (rc != ERR_OK) {
        return rc;
    }
    block = calloc((size_t)room + 1, sizeof(*block)); /* + 1: never of no bytes */
    if (!block) {
        return err_set(err, ERR_NO_MEMORY, "blocks of job '%s'", id);
    }
    rc = read_blocks(s, id, block, room, ret_n, err);
    if (rc != ERR_OK) {
        free(block);
        return rc;
    }
    *ret = block;
    return ERR_OK;
}

/* ---- totals ---- */

int sqlite_count(struct store *base, struct store_totals *ret, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct store_totals t = {0};
    int64_t *const of_state[] = {&t.queued, &t.running, &t.completed, &t.failed};
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT state, count(*), sum(stored_bytes) FROM job GROUP BY state", err);

    if (rc == ERR_OK) {
        rc = sql_step(&q, &found, err);
    }
    while (rc == ERR_OK && found) {
        const int state = sqlite3_column_int(q.stmt, 0);

        CHECK_BUG(state >= 0 && state < (int)ARRAY_LEN(of_state)); /* the table's constraint */
        *of_state[state] = sqlite3_column_int64(q.stmt, 1);
        t.jobs += sqlite3_column_int64(q.stmt, 1);
        t.stored_bytes += sqlite3_column_int64(q.stmt, 2);
        rc = sql_step(&q, &found, err);
    }
    sql_done(&q);
    if (rc == ERR_OK) {
        rc = sqlite_events_last(s, &t.last_seq, err);
    }
    if (rc == ERR_OK) {
        *ret = t;
    }
    return rc;
}

/* ---- what may go ---- */

/* Adds ids from the statement (id, stored_bytes) until they are `limit`, or what is stored is no more
 * than max_bytes (-1: never). */
static int collect_ids(struct store_ids *ids, struct sql_stmt *q, int limit, int64_t max_bytes,
                       int64_t *stored, struct err *err)
{
    bool found = false;
    int rc = sql_step(q, &found, err);

    while (rc == ERR_OK && found && ids->n<limit && * stored> max_bytes) {
        const char *id = (const char *)sqlite3_column_text(q->stmt, 0);

        if (!id) {
            return err_set(err, ERR_NO_MEMORY, "a list of jobs");
        }
        snprintf(ids->id[ids->n++], JOB_ID_SIZE, "%s", id);
        *stored -= sqlite3_column_int64(q->stmt, 1);
        rc = sql_step(q, &found, err);
    }
    return rc;
}

static int over_time(struct sqlite_store *s, int64_t now_ms, int limit, struct store_ids *ids,
                     int64_t *stored, struct err *err)
{
    struct sql_stmt q;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT id, stored_bytes FROM job WHERE state >= 2 AND expired_ms = 0 "
                         "AND expires_ms > 0 AND expires_ms <= ? ORDER BY expires_ms LIMIT ?",
                         err);

    if (rc == ERR_OK) {
        sql_bind_int(&q, now_ms);
        sql_bind_int(&q, limit);
        rc = collect_ids(ids, &q, limit, INT64_MIN, stored, err);
    }
    sql_done(&q);
    return rc;
}

static int over_share(struct sqlite_store *s, int64_t now_ms, int64_t max_bytes, int limit,
                      struct store_ids *ids, int64_t *stored, struct err *err)
{
    struct sql_stmt q;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT id, stored_bytes FROM job WHERE state >= 2 AND expired_ms = 0 "
                         "AND stored_bytes > 0 AND NOT (expires_ms > 0 AND expires_ms <= ?) "
                         "ORDER BY ended_ms, id",
                         err);

    if (rc == ERR_OK) {
        sql_bind_int(&q, now_ms);
        rc = collect_ids(ids, &q, limit, max_bytes, stored, err);
    }
    sql_done(&q);
    return rc;
}

int sqlite_expirable(struct store *base, int64_t now_ms, int64_t max_bytes, int limit,
                     struct store_ids *ret, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct store_ids ids = {.id = calloc((size_t)limit, JOB_ID_SIZE)};
    int64_t stored = 0;
    int rc;

    if (!ids.id) {
        return err_set(err, ERR_NO_MEMORY, "a list of jobs");
    }
    rc = sql_number(&s->db, "SELECT sum(stored_bytes) FROM job", &stored, err);
    if (rc == ERR_OK) {
        rc = over_time(s, now_ms, limit, &ids, &stored, err);
    }
    if (rc == ERR_OK && max_bytes > 0) {
        rc = over_share(s, now_ms, max_bytes, limit, &ids, &stored, err);
    }
    if (rc != ERR_OK) {
        free(ids.id);
        return rc;
    }
    *ret = ids;
    return ERR_OK;
}
