/*
 * sqlite_row.h - the columns of table job and the fields of struct job_row: one order for both ways.
 */
#ifndef STORAGE_SQLITE_ROW_H
#define STORAGE_SQLITE_ROW_H

#include "storage/job_row.h"
#include "storage/sql.h"

#define SQLITE_ROW_COLUMNS                                                                         \
    "id, client, model, \"group\", user, tags, metadata, spec, detail, fingerprint, state, "       \
    "cancel_requested, priority, created_ms, started_ms, ended_ms, expires_ms, expired_ms, "       \
    "deadline_ms, error_code, error_message, epoch, restarts, blocks, frames, init_bytes, "        \
    "fragment_bytes, latent_bytes, state_version, stored_bytes"

/* As many as there are columns. */
#define SQLITE_ROW_PARAMETERS                                                                      \
    "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"

/* Of a statement that has just these columns. NULL when out of memory. */
struct job_row *sqlite_row_read(sqlite3_stmt *stmt);

void sqlite_row_bind(struct sql_stmt *q, const struct job_row *row);

#endif
