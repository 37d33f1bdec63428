#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "storage/sqlite_internal.h"

static int fenced(const struct store_lease *lease, struct err *err)
{
    return err_set(err, ERR_FENCED, "job '%s': its lease (epoch %" PRId64 ") is not valid any more",
                   lease->job, lease->epoch);
}

/* What an append must continue. */
struct progress {
    int64_t blocks, frames, fragment_bytes, latent_bytes;
};

/* ERR_FENCED unless the lease is valid. */
static int read_progress(struct sqlite_store *s, const struct store_lease *lease,
                         struct progress *ret, struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db,
                         "SELECT blocks, frames, fragment_bytes, latent_bytes FROM job "
                         "WHERE id = ? AND epoch = ? AND state = 1",
                         err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, lease->job);
        sql_bind_int(&q, lease->epoch);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK && !found) {
        rc = fenced(lease, err);
    }
    if (rc == ERR_OK) {
        *ret = (struct progress){.blocks = sqlite3_column_int64(q.stmt, 0),
                                 .frames = sqlite3_column_int64(q.stmt, 1),
                                 .fragment_bytes = sqlite3_column_int64(q.stmt, 2),
                                 .latent_bytes = sqlite3_column_int64(q.stmt, 3)};
    }
    sql_done(&q);
    return rc;
}

/* ---- claim, renew ---- */

static int claim_inside(struct sqlite_store *s, int64_t now_ms, struct store_lease *lease,
                        struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db,
                         "UPDATE job SET state = 1, epoch = epoch + 1, worker = ?, until_ms = ?, "
                         "started_ms = iif(started_ms > 0, started_ms, ?) "
                         "WHERE id = ? AND state = 0 RETURNING epoch",
                         err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, lease->worker);
        sql_bind_int(&q, lease->until_ms);
        sql_bind_int(&q, now_ms);
        sql_bind_text(&q, lease->job);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK && !found) {
        rc = err_set(err, ERR_FENCED, "job '%s' is not waiting to be worked on", lease->job);
    }
    if (rc == ERR_OK) {
        lease->epoch = sqlite3_column_int64(q.stmt, 0);
    }
    sql_done(&q);
    return rc;
}

int sqlite_claim(struct store *base, const char *id, const char *worker, int64_t now_ms,
                 int64_t until_ms, struct store_events *events, struct store_lease *ret,
                 struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct store_lease lease = {.until_ms = until_ms};
    int rc = sqlite_change_begin(s, err);

    snprintf(lease.job, sizeof(lease.job), "%s", id);
    snprintf(lease.worker, sizeof(lease.worker), "%s", worker);
    if (rc == ERR_OK) {
        rc = claim_inside(s, now_ms, &lease, err);
    }
    rc = sqlite_change_end(s, rc, events, err);
    if (rc == ERR_OK) {
        *ret = lease;
    }
    return rc;
}

static int renew_inside(struct sqlite_store *s, const struct store_lease *lease, int64_t until_ms,
                        struct err *err)
{
    struct sql_stmt q;
    int rc = sql_prepare(
        &q, &s->db, "UPDATE job SET until_ms = ? WHERE id = ? AND epoch = ? AND state = 1", err);

    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_int(&q, until_ms);
    sql_bind_text(&q, lease->job);
    sql_bind_int(&q, lease->epoch);
    rc = sql_run(&q, err);
    return rc == ERR_OK && sqlite3_changes(s->db.handle) == 0 ? fenced(lease, err) : rc;
}

int sqlite_renew(struct store *base, struct store_lease *lease, int64_t until_ms, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = renew_inside(s, lease, until_ms, err);
    }
    rc = sqlite_change_end(s, rc, NULL, err);
    if (rc == ERR_OK) {
        lease->until_ms = until_ms;
    }
    return rc;
}

/* ---- append ---- */

static int check_block(const struct store_lease *lease, const struct progress *p,
                       const struct job_block *b, struct err *err)
{
    if (b->index != p->blocks) {
        return err_set(err, ERR_INVALID,
                       "job '%s': block %" PRId64 " where %" PRId64 " is the next one", lease->job,
                       b->index, p->blocks);
    }
    if (b->offset != p->fragment_bytes || b->first_frame != p->frames) {
        return err_set(err, ERR_INVALID,
                       "job '%s': block %" PRId64 " begins at byte %" PRId64 ", frame %" PRId64
                       "; the last one ended at byte %" PRId64 ", frame %" PRId64,
                       lease->job, b->index, b->offset, b->first_frame, p->fragment_bytes,
                       p->frames);
    }
    return ERR_OK;
}

static int insert_block(struct sqlite_store *s, const char *id, const struct job_block *b,
                        struct err *err)
{
    struct sql_stmt q;
    const int rc = sql_prepare(&q, &s->db,
                               "INSERT INTO block(job, idx, offset, bytes, first_frame, frames, "
                               "gen_ms) VALUES(?, ?, ?, ?, ?, ?, ?)",
                               err);

    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_text(&q, id);
    sql_bind_int(&q, b->index);
    sql_bind_int(&q, b->offset);
    sql_bind_int(&q, b->bytes);
    sql_bind_int(&q, b->first_frame);
    sql_bind_int(&q, b->frames);
    sql_bind_int(&q, b->gen_ms);
    return sql_run(&q, err);
}

static int update_progress(struct sqlite_store *s, const char *id, const struct progress *p,
                           const struct store_append *append, struct err *err)
{
    struct sql_stmt q;
    const int rc = sql_prepare(&q, &s->db,
                               "UPDATE job SET blocks = ?1, frames = ?2, fragment_bytes = ?3, "
                               "latent_bytes = ?4, state_version = iif(?5 > 0, ?5, state_version), "
                               "detail = ifnull(?6, detail) WHERE id = ?7",
                               err);

    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_int(&q, p->blocks);
    sql_bind_int(&q, p->frames);
    sql_bind_int(&q, p->fragment_bytes);
    sql_bind_int(&q, p->latent_bytes);
    sql_bind_int(&q, append->state_version);
    sql_bind_text(&q, append->detail);
    sql_bind_text(&q, id);
    return sql_run(&q, err);
}

static int append_inside(struct sqlite_store *s, const struct store_lease *lease,
                         const struct store_append *append, struct err *err)
{
    const struct job_block *b = append->block;
    struct progress p = {0};
    int rc = read_progress(s, lease, &p, err);

    if (rc == ERR_OK && append->latent_bytes < p.latent_bytes) {
        rc = err_set(err, ERR_INVALID, "job '%s': latents shrink from %" PRId64 " to %" PRId64,
                     lease->job, p.latent_bytes, append->latent_bytes);
    }
    if (rc == ERR_OK && b) {
        rc = check_block(lease, &p, b, err);
    }
    if (rc == ERR_OK && b) {
        rc = insert_block(s, lease->job, b, err);
        p.blocks++;
        p.frames += b->frames;
        p.fragment_bytes += b->bytes;
    }
    if (rc == ERR_OK) {
        p.latent_bytes = append->latent_bytes;
        rc = update_progress(s, lease->job, &p, append, err);
    }
    return rc;
}

int sqlite_append(struct store *base, const struct store_lease *lease,
                  const struct store_append *append, struct store_events *events, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = append_inside(s, lease, append, err);
    }
    return sqlite_change_end(s, rc, events, err);
}

/* ---- end, recover ---- */

int sqlite_end_job(struct sqlite_store *s, const char *id, const struct store_end *end,
                   struct err *err)
{
    const bool over = end->state != JOB_QUEUED;
    const bool failed = end->state == JOB_FAILED;
    struct sql_stmt q;
    const int rc = sql_prepare(&q, &s->db,
                               "UPDATE job SET state = ?, error_code = ?, error_message = ?, "
                               "detail = ifnull(?, detail), ended_ms = ?, expires_ms = ?, "
                               "stored_bytes = ifnull(nullif(?, 0), stored_bytes), "
                               "restarts = restarts + ?, worker = NULL, until_ms = 0 WHERE id = ?",
                               err);

    if (rc != ERR_OK) {
        return rc;
    }
    sql_bind_int(&q, end->state);
    sql_bind_text(&q, failed ? end->error_code : NULL);
    sql_bind_text(&q, failed ? end->error_message : NULL);
    sql_bind_text(&q, end->detail);
    sql_bind_int(&q, over ? end->ended_ms : 0);
    sql_bind_int(&q, over ? end->expires_ms : 0);
    sql_bind_int(&q, end->stored_bytes);
    sql_bind_int(&q, !over && end->restart);
    sql_bind_text(&q, id);
    return sql_run(&q, err);
}

int sqlite_end(struct store *base, const struct store_lease *lease, const struct store_end *end,
               struct store_events *events, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct progress p;
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = read_progress(s, lease, &p, err);
    }
    if (rc == ERR_OK) {
        rc = sqlite_end_job(s, lease->job, end, err);
    }
    return sqlite_change_end(s, rc, events, err);
}

int sqlite_recover(struct store *base, const char *worker, int64_t now_ms, int *ret_n,
                   struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    struct sql_stmt q;
    int n = 0;
    int rc = sqlite_change_begin(s, err);

    if (rc == ERR_OK) {
        rc = sql_prepare(&q, &s->db,
                         "UPDATE job SET state = 0, restarts = restarts + 1, worker = NULL, "
                         "until_ms = 0 WHERE state = 1 AND (worker = ?1 OR until_ms < ?2)",
                         err);
    }
    if (rc == ERR_OK) {
        sql_bind_text(&q, worker);
        sql_bind_int(&q, now_ms); /* 0: before none */
        rc = sql_run(&q, err);
    }
    if (rc == ERR_OK) {
        n = sqlite3_changes(s->db.handle);
    }
    rc = sqlite_change_end(s, rc, NULL, err);
    if (rc == ERR_OK) {
        *ret_n = n;
    }
    return rc;
}
