#include "storage/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"

enum {
    BUSY_TIMEOUT_MS = 5000
};

/* What the system said last about the database (SQLITE_FCNTL_FILE_POINTER) or its log
 * (SQLITE_FCNTL_JOURNAL_POINTER). sqlite3_system_errno is often overwritten by then. */
static int last_errno(struct sql_db *db, int which)
{
    sqlite3_file *file = NULL;
    int code = 0;

    if (sqlite3_file_control(db->handle, "main", which, (void *)&file) == SQLITE_OK && file &&
        file->pMethods) {
        file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &code);
    }
    return code;
}

/* Of the file size limit and of quotas SQLite says only "disk I/O error". */
static bool is_no_space(struct sql_db *db, int code)
{
    static const int files[] = {SQLITE_FCNTL_JOURNAL_POINTER, SQLITE_FCNTL_FILE_POINTER};

    for (size_t i = 0; db->handle && code == SQLITE_IOERR && i < ARRAY_LEN(files); i++) {
        const int sys = last_errno(db, files[i]);

        if (sys == ENOSPC || sys == EDQUOT || sys == EFBIG) {
            return true;
        }
    }
    return code == SQLITE_FULL;
}

static int report(struct sql_db *db, int sqlite_code, struct err *err)
{
    const int code = sqlite_code & 0xff;
    const char *text = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(sqlite_code);

    if (code == SQLITE_NOMEM) {
        return err_set(err, ERR_NO_MEMORY, "database '%s': out of memory", db->path);
    }
    if (is_no_space(db, code)) {
        return err_set(err, ERR_NO_SPACE, "database '%s': no space left (%s)", db->path, text);
    }
    if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT) {
        return err_set(err, ERR_FORMAT, "database '%s': %s", db->path, text);
    }
    if (code == SQLITE_CONSTRAINT) {
        return err_set(err, ERR_INVALID, "database '%s': %s", db->path, text);
    }
    return err_set(err, ERR_IO, "database '%s': %s (SQLite's code %d)", db->path, text,
                   sqlite_code);
}

/* Only a file that nobody has open may be opened and closed beside SQLite: closing a descriptor drops
 * the locks that other connections of the process have on the file. */
static int create_private(const char *path, struct err *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 && errno == EEXIST) {
        return ERR_OK;
    }
    if (fd < 0) {
        const bool full = errno == ENOSPC || errno == EDQUOT;

        return err_set(err, full ? ERR_NO_SPACE : ERR_IO, "database '%s': create: %m", path);
    }
    close(fd);
    return ERR_OK;
}

int sql_open(struct sql_db *db, const char *path, struct err *err)
{
    int rc;

    *db = (struct sql_db){0};
    db->path = strdup(path);
    if (!db->path) {
        return err_set(err, ERR_NO_MEMORY, "database '%s'", path);
    }
    rc = create_private(path, err);
    if (rc != ERR_OK) {
        return rc;
    }
    if (sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK) {
        return report(db, db->handle ? sqlite3_extended_errcode(db->handle) : SQLITE_NOMEM, err);
    }
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    return sql_exec(db,
                    "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                    "PRAGMA temp_store = MEMORY;",
                    err);
}

void sql_close(struct sql_db *db)
{
    for (int i = 0; i < db->n_kept; i++) {
        sqlite3_finalize(db->kept[i].stmt);
    }
    sqlite3_close(db->handle);
    free(db->path);
    *db = (struct sql_db){0};
}

int sql_exec(struct sql_db *db, const char *sql, struct err *err)
{
    const int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? ERR_OK : report(db, rc, err);
}

int sql_number(struct sql_db *db, const char *sql, int64_t *ret, struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare_once(&q, db, sql, err);

    if (rc == ERR_OK) {
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK) {
        *ret = found ? sqlite3_column_int64(q.stmt, 0) : 0;
    }
    sql_done(&q);
    return rc;
}

static int prepare(struct sql_stmt *q, struct sql_db *db, const char *sql, bool keep,
                   struct err *err)
{
    *q = (struct sql_stmt){.db = db, .kept = keep};
    q->rc = sqlite3_prepare_v3(db->handle, sql, -1, keep ? SQLITE_PREPARE_PERSISTENT : 0, &q->stmt,
                               NULL);
    return q->rc == SQLITE_OK ? ERR_OK : report(db, q->rc, err);
}

int sql_prepare(struct sql_stmt *q, struct sql_db *db, const char *sql, struct err *err)
{
    int rc;

    for (int i = 0; i < db->n_kept; i++) {
        if (db->kept[i].sql == sql) {
            *q = (struct sql_stmt){.db = db, .stmt = db->kept[i].stmt, .kept = true};
            return ERR_OK;
        }
    }
    CHECK_BUG(db->n_kept < SQL_MAX_KEPT);
    rc = prepare(q, db, sql, true, err);
    if (rc == ERR_OK) {
        db->kept[db->n_kept++] = (struct sql_kept){.sql = sql, .stmt = q->stmt};
    }
    return rc;
}

int sql_prepare_once(struct sql_stmt *q, struct sql_db *db, const char *sql, struct err *err)
{
    return prepare(q, db, sql, false, err);
}

void sql_bind_text(struct sql_stmt *q, const char *text)
{
    if (q->rc == SQLITE_OK) {
        q->rc = sqlite3_bind_text(q->stmt, ++q->n_bound, text, -1, SQLITE_STATIC);
    }
}

void sql_bind_int(struct sql_stmt *q, int64_t value)
{
    if (q->rc == SQLITE_OK) {
        q->rc = sqlite3_bind_int64(q->stmt, ++q->n_bound, value);
    }
}

int sql_step(struct sql_stmt *q, bool *ret, struct err *err)
{
    if (q->rc == SQLITE_OK) {
        q->rc = sqlite3_step(q->stmt);
        if (q->rc == SQLITE_ROW || q->rc == SQLITE_DONE) {
            *ret = q->rc == SQLITE_ROW;
            q->rc = SQLITE_OK;
            return ERR_OK;
        }
    }
    return report(q->db, q->rc, err);
}

int sql_run(struct sql_stmt *q, struct err *err)
{
    bool row;
    const int rc = sql_step(q, &row, err);

    sql_done(q);
    return rc;
}

void sql_done(struct sql_stmt *q)
{
    if (!q->kept) {
        sqlite3_finalize(q->stmt);
    } else if (q->stmt) {
        sqlite3_reset(q->stmt);
        sqlite3_clear_bindings(q->stmt);
    }
    q->stmt = NULL;
}
