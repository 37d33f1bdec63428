#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "storage/sqlite_internal.h"
#include "storage/sqlite_row.h"

/* ---- creating ---- */

/* *ret stays STORE_CREATED when the key is new. */
static int find_key(struct sqlite_store *s, const struct store_idempotency *key,
                    const char *fingerprint, enum store_created *ret, char ret_id[JOB_ID_SIZE],
                    struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT fingerprint = ? AND EXISTS(SELECT 1 FROM job WHERE id = job), job "
                         "FROM idempotency WHERE client = ? AND route = ? AND key = ?",
                         err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, fingerprint);
        sql_bind_text(&q, key->client);
        sql_bind_text(&q, key->route);
        sql_bind_text(&q, key->key);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK && found) {
        const char *id = (const char *)sqlite3_column_text(q.stmt, 1);

        *ret = sqlite3_column_int(q.stmt, 0) ? STORE_REPLAYED : STORE_KEY_REUSED;
        snprintf(ret_id, JOB_ID_SIZE, "%s", *ret == STORE_REPLAYED && id ? id : "");
        rc = id ? ERR_OK : err_set(err, ERR_NO_MEMORY, "an idempotency key");
    }
    sql_done(&q);
    return rc;
}

static int insert_key(struct sqlite_store *s, const struct store_idempotency *key,
                      const struct job_row *row, struct err *err)
{
    struct sql_stmt q;
    const int rc = sql_prepare(&q, &s->db,
                               "INSERT INTO idempotency(client, route, key, job, fingerprint, "
                               "created_ms) VALUES(?, ?, ?, ?, ?, ?)",
                               err);

    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_text(&q, key->client);
    sql_bind_text(&q, key->route);
    sql_bind_text(&q, key->key);
    sql_bind_text(&q, row->id);
    sql_bind_text(&q, row->fingerprint);
    sql_bind_int(&q, row->created_ms);
    return sql_run(&q, err);
}

static int check_id_is_free(struct sqlite_store *s, const char *id, struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT 1 FROM job WHERE id = ?1 "
                         "UNION ALL SELECT 1 FROM tombstone WHERE id = ?1",
                         err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, id);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK && found) {
        rc = err_set(err, ERR_INVALID, "the id '%s' is or was another job's", id);
    }
    sql_done(&q);
    return rc;
}

static int insert_row(struct sqlite_store *s, const struct job_row *row, struct err *err)
{
    struct sql_stmt q;
    int rc = check_id_is_free(s, row->id, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = sql_prepare(&q, &s->db,
                     "INSERT INTO job(" SQLITE_ROW_COLUMNS ") VALUES(" SQLITE_ROW_PARAMETERS ")",
                     err);
    if (rc != ERR_OK) {
        return rc;
    }
    sqlite_row_bind(&q, row);
    return sql_run(&q, err);
}

int sqlite_find_key(struct store *base, const struct store_idempotency *key,
                    const char *fingerprint, enum store_created *ret, char ret_id[JOB_ID_SIZE],
                    struct err *err)
{
    *ret = STORE_CREATED;
    ret_id[0] = '\0';
    return key && key->key[0] != '\0'
               ? find_key(sqlite_store_of(base), key, fingerprint, ret, ret_id, err)
               : ERR_OK;
}

int sqlite_create(struct store *base, const struct job_row *row,
                  const struct store_idempotency *key, struct store_events *events,
                  enum store_created *ret, char ret_id[JOB_ID_SIZE], struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    const bool has_key = key && key->key[0] != '\0';
    enum store_created outcome = STORE_CREATED;
    char id[JOB_ID_SIZE];
    int rc = sqlite_change_begin(s, err);

    memcpy(id, row->id, sizeof(id));
    if (rc == ERR_OK && has_key) {
        rc = find_key(s, key, row->fingerprint, &outcome, id, err);
    }
    if (rc == ERR_OK && outcome == STORE_CREATED) {
        rc = insert_row(s, row, err);
    }
    if (rc == ERR_OK && outcome == STORE_CREATED && has_key) {
        rc = insert_key(s, key, row, err);
    }
    rc = sqlite_change_end(s, rc, outcome == STORE_CREATED ? events : NULL, err);
    if (rc == ERR_OK) {
        *ret = outcome;
        memcpy(ret_id, id, sizeof(id));
    }
    return rc;
}

/* ---- what the client may change ---- */

static int set_inside(struct sqlite_store *s, const char *id, const struct store_update *update,
                      struct err *err)
{
    struct sql_stmt q;
    int rc = sql_prepare(&q, &s->db,
                         "UPDATE job SET tags = ifnull(?, tags), metadata = ifnull(?, metadata) "
                         "WHERE id = ?",
                         err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, update->tags);
        sql_bind_text(&q, update->metadata);
        sql_bind_text(&q, id);
        rc = sql_run(&q, err);
    }
    if (rc == ERR_OK && sqlite3_changes(s->db.handle) == 0) {
        rc = sqlite_no_job(id, err);
    }
    if (rc != ERR_OK || !update->priority) {
        return rc;
    }
    rc = sql_prepare(&q, &s->db,
                     "UPDATE job SET priority = ? WHERE id = ? AND state = 0 AND started_ms = 0",
                     err);
    if (rc == ERR_OK) {
        sql_bind_int(&q, *update->priority);
        sql_bind_text(&q, id);
        rc = sql_run(&q, err);
    }
    if (rc == ERR_OK && sqlite3_changes(s->db.handle) == 0) {
        rc = err_set(err, ERR_BUSY, "job '%s' was started: its priority stays", id);
    }
    return rc;
}

int sqlite_set(struct store *base, const char *id, const struct store_update *update,
               struct store_events *events, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = set_inside(s, id, update, err);
    }
    return sqlite_change_end(s, rc, events, err);
}

static int end_queued_inside(struct sqlite_store *s, const char *id, const struct store_end *end,
                             struct err *err)
{
    enum job_state state = JOB_QUEUED;
    const int rc = sqlite_job_state(s, id, &state, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (state == JOB_RUNNING) {
        return err_set(err, ERR_BUSY, "job '%s' is being worked on", id);
    }
    if (state != JOB_QUEUED) {
        return err_set(err, ERR_FENCED, "job '%s' is over already", id);
    }
    return sqlite_end_job(s, id, end, err);
}

int sqlite_end_queued(struct store *base, const char *id, const struct store_end *end,
                      struct store_events *events, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = end_queued_inside(s, id, end, err);
    }
    return sqlite_change_end(s, rc, events, err);
}

/* One statement about one job, with the id as its last parameter. */
static int run_on_job(struct sqlite_store *s, struct sql_stmt *q, const char *id, struct err *err)
{
    int rc;

    sql_bind_text(q, id);
    rc = sql_run(q, err);
    if (rc == ERR_OK && sqlite3_changes(s->db.handle) == 0) {
        rc = sqlite_no_job(id, err);
    }
    return rc;
}

int sqlite_request_cancel(struct store *base, const char *id, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct sql_stmt q;
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db, "UPDATE job SET cancel_requested = 1 WHERE id = ?", err);
    }
    if (rc == ERR_OK) {
        rc = run_on_job(s, &q, id, err);
    }
    return sqlite_change_end(s, rc, NULL, err);
}

static int delete_inside(struct sqlite_store *s, const char *id, struct err *err)
{
    struct sql_stmt q;
    int rc = sql_prepare(&q, &s->db, "DELETE FROM job WHERE id = ?", err); /* and its blocks */

    if (rc == ERR_OK) {
        rc = run_on_job(s, &q, id, err);
    }
    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db, "DELETE FROM event WHERE job = ?", err);
    }
    if (rc == ERR_OK) {
        sql_bind_text(&q, id);
        rc = sql_run(&q, err);
    }
    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db, "INSERT INTO tombstone(deleted_ms, id) VALUES(?, ?)", err);
    }
    if (rc == ERR_OK) {
        sql_bind_int(&q, clock_wall_ms());
        rc = run_on_job(s, &q, id, err);
    }
    return rc;
}

int sqlite_delete(struct store *base, const char *id, struct store_events *events, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = delete_inside(s, id, err);
    }
    return sqlite_change_end(s, rc, events, err);
}

/* ---- what the worker says first ---- */

static int prepared_inside(struct sqlite_store *s, const char *id, const char *detail,
                           int64_t init_bytes, struct err *err)
{
    struct sql_stmt q;
    enum job_state state = JOB_QUEUED;
    int rc = sqlite_job_state(s, id, &state, err);

    if (rc == ERR_OK && state != JOB_QUEUED && state != JOB_RUNNING) {
        rc = err_set(err, ERR_FENCED, "job '%s' is over already", id);
    }
    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db,
                         "UPDATE job SET detail = ifnull(?1, detail), init_bytes = ?2, "
                         "fragment_bytes = iif(blocks = 0, ?2, fragment_bytes) "
                         "WHERE id = ?3 AND (blocks = 0 OR init_bytes = ?2)",
                         err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_text(&q, detail);
    sql_bind_int(&q, init_bytes);
    sql_bind_text(&q, id);
    rc = sql_run(&q, err);
    if (rc == ERR_OK && sqlite3_changes(s->db.handle) == 0) {
        rc = err_set(err, ERR_INVALID,
                     "job '%s' has blocks behind an init segment of another length than %" PRId64,
                     id, init_bytes);
    }
    return rc;
}

int sqlite_prepared(struct store *base, const char *id, const char *detail, int64_t init_bytes,
                    struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = prepared_inside(s, id, detail, init_bytes, err);
    }
    return sqlite_change_end(s, rc, NULL, err);
}

/* ---- expiry ---- */

static int expire_inside(struct sqlite_store *s, const char *id, int64_t now_ms, struct err *err)
{
    struct sql_stmt q;
    enum job_state state = JOB_QUEUED;
    int rc = sqlite_job_state(s, id, &state, err);

    if (rc == ERR_OK && state != JOB_COMPLETED && state != JOB_FAILED) {
        rc = err_set(err, ERR_BUSY, "job '%s' is not over", id);
    }
    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db,
                         "UPDATE job SET expired_ms = iif(expired_ms > 0, expired_ms, ?), "
                         "stored_bytes = 0 WHERE id = ?",
                         err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_int(&q, now_ms);
    return run_on_job(s, &q, id, err);
}

int sqlite_expire(struct store *base, const char *id, int64_t now_ms, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = expire_inside(s, id, now_ms, err);
    }
    return sqlite_change_end(s, rc, NULL, err);
}
