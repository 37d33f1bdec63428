#include "storage/store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "storage/store_ops.h"

enum {
    MAX_IDS = 4096 /* store_expirable at once */
};

void store_event_done(struct store_event *event)
{
    free(event->data);
    event->data = NULL;
}

void store_rows_done(struct store_rows *rows)
{
    for (int i = 0; i < rows->n; i++) {
        job_row_free(rows->row[i]);
    }
    free(rows->row);
    *rows = (struct store_rows){0};
}

/* ---- checks ---- */

static bool ends(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

static int check_events(const struct store_events *events, struct err *err)
{
    if (!events) {
        return ERR_OK;
    }
    if (events->n < 0 || events->n > STORE_MAX_EVENTS) {
        return err_set(err, ERR_INVALID, "%d events at once; at most %d", events->n,
                       STORE_MAX_EVENTS);
    }
    for (int i = 0; i < events->n; i++) {
        const struct store_event *e = &events->event[i];

        if (e->type[0] == '\0' || !ends(e->type, sizeof(e->type)) ||
            !ends(e->job, sizeof(e->job))) {
            return err_set(err, ERR_INVALID, "event %d of %d has no type, or a string has no end",
                           i, events->n);
        }
    }
    return ERR_OK;
}

static int check_lease(const struct store_lease *lease, struct err *err)
{
    if (!ends(lease->job, sizeof(lease->job)) || lease->epoch < 1) {
        return err_set(err, ERR_FENCED, "a lease that was never given");
    }
    return ERR_OK;
}

static int check_row(const struct job_row *row, struct err *err)
{
    const char *const texts[] = {row->client,   row->model, row->tags,
                                 row->metadata, row->spec,  row->detail};

    if (!ends(row->id, sizeof(row->id)) || !job_id_valid(row->id)) {
        return err_set(err, ERR_INVALID, "the id '%.*s' is not 1 .. 64 of A-Z a-z 0-9 _ -",
                       (int)sizeof(row->id), row->id);
    }
    if (!ends(row->fingerprint, sizeof(row->fingerprint))) {
        return err_set(err, ERR_INVALID, "job '%s': its fingerprint has no end", row->id);
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (!texts[i]) {
            return err_set(err, ERR_INVALID, "job '%s': a string is missing", row->id);
        }
    }
    if (row->state != JOB_QUEUED || row->epoch != 0 || row->blocks != 0) {
        return err_set(err, ERR_INVALID, "job '%s' is not new", row->id);
    }
    return ERR_OK;
}

static int check_key(const struct store_idempotency *key, struct err *err)
{
    if (key && (!ends(key->client, sizeof(key->client)) || !ends(key->route, sizeof(key->route)) ||
                !ends(key->key, sizeof(key->key)))) {
        return err_set(err, ERR_INVALID, "an idempotency key is too long");
    }
    return ERR_OK;
}

/* queued: may the job go back? */
static int check_end(const struct store_end *end, bool queued, struct err *err)
{
    if (end->state != JOB_COMPLETED && end->state != JOB_FAILED &&
        !(queued && end->state == JOB_QUEUED)) {
        return err_set(err, ERR_INVALID, "state %d is no end", (int)end->state);
    }
    if (end->state == JOB_FAILED && !end->error_code) {
        return err_set(err, ERR_INVALID, "a failed job needs an error code");
    }
    if (end->ended_ms < 0 || end->expires_ms < 0 || end->stored_bytes < 0) {
        return err_set(err, ERR_INVALID, "a job's end has a negative number");
    }
    return ERR_OK;
}

static int check_query(const struct store_query *query, struct err *err)
{
    if (query->limit < 0 || query->status < -1 || query->status > 3 || query->n_tags < 0 ||
        query->n_tags > STORE_MAX_FILTERS || query->n_metadata < 0 ||
        query->n_metadata > STORE_MAX_FILTERS) {
        return err_set(err, ERR_INVALID,
                       "list: limit %d, status %d, %d tags, %d pairs of metadata: one is out of "
                       "range",
                       query->limit, query->status, query->n_tags, query->n_metadata);
    }
    return ERR_OK;
}

static int check_append(const struct store_append *append, struct err *err)
{
    const struct job_block *b = append->block;

    if (append->latent_bytes < 0 || append->state_version < 0) {
        return err_set(err, ERR_INVALID, "append: latents of %" PRId64 " bytes, state %" PRId64,
                       append->latent_bytes, append->state_version);
    }
    if (b && (b->bytes <= 0 || b->frames <= 0 || b->gen_ms < 0)) {
        return err_set(err, ERR_INVALID,
                       "append: block %" PRId64 " of %" PRId64 " bytes, %" PRId64 " frames",
                       b->index, b->bytes, b->frames);
    }
    return ERR_OK;
}

/* ---- the functions ---- */

int store_create(struct store *s, const struct job_row *row, const struct store_idempotency *key,
                 struct store_events *events, enum store_created *ret, char ret_id[JOB_ID_SIZE],
                 struct err *err)
{
    int rc = check_row(row, err);

    if (rc == ERR_OK) {
        rc = check_key(key, err);
    }
    if (rc == ERR_OK) {
        rc = check_events(events, err);
    }
    return rc == ERR_OK ? s->ops->create(s, row, key, events, ret, ret_id, err) : rc;
}

int store_find_key(struct store *s, const struct store_idempotency *key, const char *fingerprint,
                   enum store_created *ret, char ret_id[JOB_ID_SIZE], struct err *err)
{
    const int rc = check_key(key, err);

    return rc == ERR_OK ? s->ops->find_key(s, key, fingerprint, ret, ret_id, err) : rc;
}

int store_get(struct store *s, const char *id, struct job_row **ret, struct err *err)
{
    return s->ops->get(s, id, ret, err);
}

int store_list(struct store *s, const struct store_query *query, struct store_rows *ret,
               struct err *err)
{
    const int rc = check_query(query, err);

    return rc == ERR_OK ? s->ops->list(s, query, ret, err) : rc;
}

int store_unfinished(struct store *s, struct store_rows *ret, struct err *err)
{
    return s->ops->unfinished(s, ret, err);
}

int store_blocks(struct store *s, const char *id, struct job_block **ret, int *ret_n,
                 struct err *err)
{
    return s->ops->blocks(s, id, ret, ret_n, err);
}

int store_read_events(struct store *s, int64_t after, const char *job, int limit,
                      struct store_event **ret, int *ret_n, int64_t *ret_oldest, struct err *err)
{
    if (limit < 0) {
        return err_set(err, ERR_INVALID, "at most %d events", limit);
    }
    return s->ops->read_events(s, after, job, limit, ret, ret_n, ret_oldest, err);
}

int store_set(struct store *s, const char *id, const struct store_update *update,
              struct store_events *events, struct err *err)
{
    const int rc = check_events(events, err);

    return rc == ERR_OK ? s->ops->set(s, id, update, events, err) : rc;
}

int store_end_queued(struct store *s, const char *id, const struct store_end *end,
                     struct store_events *events, struct err *err)
{
    int rc = check_end(end, false, err);

    if (rc == ERR_OK) {
        rc = check_events(events, err);
    }
    return rc == ERR_OK ? s->ops->end_queued(s, id, end, events, err) : rc;
}

int store_request_cancel(struct store *s, const char *id, struct err *err)
{
    return s->ops->request_cancel(s, id, err);
}

int store_delete(struct store *s, const char *id, struct store_events *events, struct err *err)
{
    const int rc = check_events(events, err);

    return rc == ERR_OK ? s->ops->remove(s, id, events, err) : rc;
}

int store_prepared(struct store *s, const char *id, const char *detail, int64_t init_bytes,
                   struct err *err)
{
    if (init_bytes <= 0) {
        return err_set(err, ERR_INVALID, "job '%s': an init segment of %" PRId64 " bytes", id,
                       init_bytes);
    }
    return s->ops->prepared(s, id, detail, init_bytes, err);
}

int store_claim(struct store *s, const char *id, const char *worker, int64_t now_ms,
                int64_t until_ms, struct store_events *events, struct store_lease *ret,
                struct err *err)
{
    const int rc = check_events(events, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (worker[0] == '\0' || strlen(worker) >= sizeof(ret->worker) || now_ms <= 0) {
        return err_set(err, ERR_INVALID, "claim by '%s' at %" PRId64 " ms", worker, now_ms);
    }
    return s->ops->claim(s, id, worker, now_ms, until_ms, events, ret, err);
}

int store_renew(struct store *s, struct store_lease *lease, int64_t until_ms, struct err *err)
{
    const int rc = check_lease(lease, err);

    return rc == ERR_OK ? s->ops->renew(s, lease, until_ms, err) : rc;
}

int store_append(struct store *s, const struct store_lease *lease,
                 const struct store_append *append, struct store_events *events, struct err *err)
{
    int rc = check_lease(lease, err);

    if (rc == ERR_OK) {
        rc = check_append(append, err);
    }
    if (rc == ERR_OK) {
        rc = check_events(events, err);
    }
    return rc == ERR_OK ? s->ops->append(s, lease, append, events, err) : rc;
}

int store_end(struct store *s, const struct store_lease *lease, const struct store_end *end,
              struct store_events *events, struct err *err)
{
    int rc = check_lease(lease, err);

    if (rc == ERR_OK) {
        rc = check_end(end, true, err);
    }
    if (rc == ERR_OK) {
        rc = check_events(events, err);
    }
    return rc == ERR_OK ? s->ops->end(s, lease, end, events, err) : rc;
}

int store_recover(struct store *s, const char *worker, int64_t now_ms, int *ret_n, struct err *err)
{
    return s->ops->recover(s, worker, now_ms, ret_n, err);
}

int store_log(struct store *s, struct store_events *events, struct err *err)
{
    const int rc = check_events(events, err);

    return rc == ERR_OK ? s->ops->log(s, events, err) : rc;
}

int store_count(struct store *s, struct store_totals *ret, struct err *err)
{
    return s->ops->count(s, ret, err);
}

int store_expirable(struct store *s, int64_t now_ms, int64_t max_bytes, int limit,
                    struct store_ids *ret, struct err *err)
{
    if (limit < 1 || limit > MAX_IDS) {
        return err_set(err, ERR_INVALID, "%d expired jobs at once; at most %d", limit, MAX_IDS);
    }
    return s->ops->expirable(s, now_ms, max_bytes, limit, ret, err);
}

int store_expire(struct store *s, const char *id, int64_t now_ms, struct err *err)
{
    return s->ops->expire(s, id, now_ms, err);
}

int store_prune(struct store *s, int64_t expired_before_ms, int64_t events_before_ms,
                int64_t keep_events, struct err *err)
{
    return s->ops->prune(s, expired_before_ms, events_before_ms, keep_events, err);
}

int store_check(struct store *s, struct err *err)
{
    return s->ops->check(s, err);
}

int store_watch_fd(struct store *s)
{
    return s->ops->watch_fd(s);
}

void store_watch_clear(struct store *s)
{
    s->ops->watch_clear(s);
}

void store_close(struct store *s)
{
    if (s) {
        s->ops->close(s);
    }
}
