#include "storage/sqlite_row.h"

#include <stdio.h>
#include <string.h>

/* Reads column by column; ok turns false when memory runs out. */
struct reader {
    sqlite3_stmt *stmt;
    int column;
    bool ok;
};

static void read_optional(struct reader *r, char **field)
{
    const char *text = (const char *)sqlite3_column_text(r->stmt, r->column);

    if (!text && sqlite3_column_type(r->stmt, r->column) != SQLITE_NULL) {
        r->ok = false;
    }
    r->ok = r->ok && job_row_set(field, text);
    r->column++;
}

/* The table has no NULL there. */
static void read_text(struct reader *r, char **field)
{
    const char *text = (const char *)sqlite3_column_text(r->stmt, r->column++);

    r->ok = r->ok && text && job_row_set(field, text);
}

static void read_fixed(struct reader *r, char *field, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(r->stmt, r->column++);

    r->ok = r->ok && text;
    snprintf(field, size, "%s", text ? text : "");
}

static int64_t read_int(struct reader *r)
{
    return sqlite3_column_int64(r->stmt, r->column++);
}

struct job_row *sqlite_row_read(sqlite3_stmt *stmt)
{
    struct reader r = {.stmt = stmt, .ok = true};
    struct job_row *row = job_row_create();

    if (!row) {
        return NULL;
    }
    read_fixed(&r, row->id, sizeof(row->id));
    read_text(&r, &row->client);
    read_text(&r, &row->model);
    read_optional(&r, &row->group);
    read_optional(&r, &row->user);
    read_text(&r, &row->tags);
    read_text(&r, &row->metadata);
    read_text(&r, &row->spec);
    read_text(&r, &row->detail);
    read_fixed(&r, row->fingerprint, sizeof(row->fingerprint));
    row->state = (enum job_state)read_int(&r);
    row->cancel_requested = read_int(&r) != 0;
    row->priority = (int)read_int(&r);
    row->created_ms = read_int(&r);
    row->started_ms = read_int(&r);
    row->ended_ms = read_int(&r);
    row->expires_ms = read_int(&r);
    row->expired_ms = read_int(&r);
    row->deadline_ms = read_int(&r);
    read_optional(&r, &row->error_code);
    read_optional(&r, &row->error_message);
    row->epoch = read_int(&r);
    row->restarts = (int)read_int(&r);
    row->blocks = read_int(&r);
    row->frames = read_int(&r);
    row->init_bytes = read_int(&r);
    row->fragment_bytes = read_int(&r);
    row->latent_bytes = read_int(&r);
    row->state_version = read_int(&r);
    row->stored_bytes = read_int(&r);
    if (!r.ok) {
        job_row_free(row);
        return NULL;
    }
    return row;
}

void sqlite_row_bind(struct sql_stmt *q, const struct job_row *row)
{
    sql_bind_text(q, row->id);
    sql_bind_text(q, row->client);
    sql_bind_text(q, row->model);
    sql_bind_text(q, row->group);
    sql_bind_text(q, row->user);
    sql_bind_text(q, row->tags);
    sql_bind_text(q, row->metadata);
    sql_bind_text(q, row->spec);
    sql_bind_text(q, row->detail);
    sql_bind_text(q, row->fingerprint);
    sql_bind_int(q, row->state);
    sql_bind_int(q, row->cancel_requested);
    sql_bind_int(q, row->priority);
    sql_bind_int(q, row->created_ms);
    sql_bind_int(q, row->started_ms);
    sql_bind_int(q, row->ended_ms);
    sql_bind_int(q, row->expires_ms);
    sql_bind_int(q, row->expired_ms);
    sql_bind_int(q, row->deadline_ms);
    sql_bind_text(q, row->error_code);
    sql_bind_text(q, row->error_message);
    sql_bind_int(q, row->epoch);
    sql_bind_int(q, row->restarts);
    sql_bind_int(q, row->blocks);
    sql_bind_int(q, row->frames);
    sql_bind_int(q, row->init_bytes);
    sql_bind_int(q, row->fragment_bytes);
    sql_bind_int(q, row->latent_bytes);
    sql_bind_int(q, row->state_version);
    sql_bind_int(q, row->stored_bytes);
}
