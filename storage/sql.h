/*
 * sql.h - a connection to SQLite and its statements: prepared once, bound in order, errors as
 * sentences that name the file. ERR_NO_SPACE, ERR_FORMAT (damaged), ERR_INVALID (a constraint of the
 * table is broken), ERR_NO_MEMORY, or ERR_IO.
 *
 *   struct sql_stmt q;
 *   int rc = sql_prepare(&q, db, "SELECT state FROM job WHERE id = ?", err);
 *   sql_bind_text(&q, id);                    does nothing when rc is not ERR_OK
 *   rc = sql_step(&q, &found, err);
 *   ... sqlite3_column_*(q.stmt, ...) ...
 *   sql_done(&q);
 *
 * One thread at a time for each connection.
 */
#ifndef STORAGE_SQL_H
#define STORAGE_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SQL_MAX_KEPT = 64
};

struct sql_kept {
    const char *sql;    /* a literal: known by its address */
    sqlite3_stmt *stmt; /* owned */
};

struct sql_db {
    sqlite3 *handle; /* owned */
    char *path;      /* owned */
    struct sql_kept kept[SQL_MAX_KEPT];
    int n_kept;
};

/* Opens or creates (mode 0600) the file and sets what every connection needs but the journal mode.
 * Whatever it returns, sql_close is allowed. */
MUST_CHECK int sql_open(struct sql_db *db, const char *path, struct err *err);
void sql_close(struct sql_db *db);

/* Statements without results. */
MUST_CHECK int sql_exec(struct sql_db *db, const char *sql, struct err *err);

/* The one number that a statement without parameters returns; 0 when it returns none. */
MUST_CHECK int sql_number(struct sql_db *db, const char *sql, int64_t *ret, struct err *err);

struct sql_stmt {
    struct sql_db *db;
    sqlite3_stmt *stmt;
    int n_bound;
    int rc; /* the first failure, sqlite3's code */
    bool kept;
};

/* Keeps the statement for the next time: sql must be a literal. */
MUST_CHECK int sql_prepare(struct sql_stmt *q, struct sql_db *db, const char *sql, struct err *err);

/* For text that was put together. */
MUST_CHECK int sql_prepare_once(struct sql_stmt *q, struct sql_db *db, const char *sql,
                                struct err *err);

/* The next parameter. text is borrowed until sql_done; NULL is NULL. */
void sql_bind_text(struct sql_stmt *q, const char *text);
void sql_bind_int(struct sql_stmt *q, int64_t value);

/* *ret: there is a row. */
MUST_CHECK int sql_step(struct sql_stmt *q, bool *ret, struct err *err);

/* Steps a statement without results, and ends it. */
MUST_CHECK int sql_run(struct sql_stmt *q, struct err *err);

/* Allowed after a failed prepare, too. */
void sql_done(struct sql_stmt *q);

#endif
