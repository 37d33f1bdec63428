#include "storage/sqlite_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "storage/sqlite_internal.h"
#include "storage/sqlite_schema.h"

enum {
    MAX_PATH_BYTES = 4096
};

/* ---- transactions: prepared when the store is opened, so that taking back needs no memory ---- */

static int run_sql(struct sqlite_store *s, const char *sql, struct err *err)
{
    struct sql_stmt q;
    const int rc = sql_prepare(&q, &s->db, sql, err);

    return rc == ERR_OK ? sql_run(&q, err) : rc;
}

static const char begin_sql[] = "BEGIN IMMEDIATE";
static const char commit_sql[] = "COMMIT";
static const char rollback_sql[] = "ROLLBACK";

static int prepare_changes(struct sqlite_store *s, struct err *err)
{
    static const char *const all[] = {begin_sql, commit_sql, rollback_sql};
    int rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(all); i++) {
        struct sql_stmt q;

        rc = sql_prepare(&q, &s->db, all[i], err);
        sql_done(&q);
    }
    return rc;
}

int sqlite_change_begin(struct sqlite_store *s, struct err *err)
{
    s->next_seq_before = s->next_seq;
    s->event_limit_before = s->event_limit;
    return run_sql(s, begin_sql, err);
}

int sqlite_change_end(struct sqlite_store *s, int rc, struct store_events *events, struct err *err)
{
    struct err ignored;

    if (rc == ERR_OK && events && events->n > 0) {
        rc = sqlite_events_keep(s, events, err);
    }
    if (rc == ERR_OK) {
        rc = run_sql(s, commit_sql, err);
    }
    if (rc != ERR_OK) {
        if (!sqlite3_get_autocommit(s->db.handle)) {
            (void)!run_sql(s, rollback_sql, &ignored);
        }
        s->next_seq = s->next_seq_before;
        s->event_limit = s->event_limit_before;
        return rc;
    }
    for (int i = 0; events && i < events->n; i++) {
        events->event[i].seq = s->next_seq - events->n + i;
    }
    return ERR_OK;
}

int sqlite_no_job(const char *id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "there is no job '%s'", id);
}

int sqlite_job_state(struct sqlite_store *s, const char *id, enum job_state *ret, struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    int rc = sql_prepare(&q, &s->db, "SELECT state FROM job WHERE id = ?", err);

    if (rc == ERR_OK) {
        sql_bind_text(&q, id);
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK && !found) {
        rc = sqlite_no_job(id, err);
    }
    if (rc == ERR_OK) {
        *ret = (enum job_state)sqlite3_column_int(q.stmt, 0);
    }
    sql_done(&q);
    return rc;
}

/* ---- the file ---- */

/* A deleted or replaced file would take writes without complaint, into nowhere. */
static int check_identity(const struct sqlite_store *s, struct err *err)
{
    struct stat st;

    if (stat(s->db.path, &st) != 0) {
        return err_set(err, ERR_IO, "database '%s': %m", s->db.path);
    }
    if (st.st_dev != s->device || st.st_ino != s->inode) {
        return err_set(err, ERR_IO, "database '%s' was replaced while it was in use", s->db.path);
    }
    return ERR_OK;
}

static int check(struct store *base, struct err *err)
{
    struct sqlite_store *s = sqlite_store_of(base);
    int rc = check_identity(s, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = sqlite_change_begin(s, err);
    if (rc == ERR_OK) {
        rc = sql_exec(&s->db, "UPDATE meta SET value = value + 1 WHERE key = 'checks'", err);
    }
    return sqlite_change_end(s, rc, NULL, err);
}

/* ---- watching: every change, whoever makes it, is first written to the log beside the file ---- */

static int open_watch(const char *path)
{
    struct str wal;
    int fd = -1;

    str_init(&wal, MAX_PATH_BYTES);
    if (str_addf(&wal, "%s-wal", path)) {
        fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    }
    if (fd >= 0 && inotify_add_watch(fd, wal.data, IN_MODIFY) < 0) {
        close(fd);
        fd = -1;
    }
    str_done(&wal);
    return fd;
}

static int watch_fd(struct store *base)
{
    return sqlite_store_of(base)->watch_fd;
}

static void watch_clear(struct store *base)
{
    const int fd = sqlite_store_of(base)->watch_fd;
    char buffer[4096];

    while (fd >= 0 && read(fd, buffer, sizeof(buffer)) > 0) {
    }
}

/* ---- opening and closing ---- */

static void close_store(struct store *base)
{
    struct sqlite_store *s = sqlite_store_of(base);

    if (s->db.handle) {
        sqlite3_wal_checkpoint_v2(s->db.handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    sql_close(&s->db);
    if (s->watch_fd >= 0) {
        close(s->watch_fd);
    }
    free(s);
}

static const struct store_ops ops = {
    .create = sqlite_create,
    .find_key = sqlite_find_key,
    .get = sqlite_get,
    .list = sqlite_list,
    .unfinished = sqlite_unfinished,
    .blocks = sqlite_blocks,
    .read_events = sqlite_read_events,
    .set = sqlite_set,
    .end_queued = sqlite_end_queued,
    .request_cancel = sqlite_request_cancel,
    .remove = sqlite_delete,
    .prepared = sqlite_prepared,
    .claim = sqlite_claim,
    .renew = sqlite_renew,
    .append = sqlite_append,
    .end = sqlite_end,
    .recover = sqlite_recover,
    .log = sqlite_log,
    .count = sqlite_count,
    .expirable = sqlite_expirable,
    .expire = sqlite_expire,
    .prune = sqlite_prune,
    .check = check,
    .watch_fd = watch_fd,
    .watch_clear = watch_clear,
    .close = close_store,
};

/* After the schema: a file that is not ours is left as it is. */
static int use_wal(struct sql_db *db, struct err *err)
{
    struct sql_stmt q;
    bool found = false;
    const char *mode;
    int rc = sql_prepare_once(&q, db, "PRAGMA journal_mode = WAL", err);

    if (rc == ERR_OK) {
        rc = sql_step(&q, &found, err);
    }
    if (rc == ERR_OK) {
        mode = found ? (const char *)sqlite3_column_text(q.stmt, 0) : NULL;
        if (!mode || strcmp(mode, "wal") != 0) {
            rc = err_set(err, ERR_IO, "database '%s': its file system has no write-ahead log",
                         db->path);
        }
    }
    sql_done(&q);
    return rc == ERR_OK ? sql_exec(db,
                                   "PRAGMA wal_autocheckpoint = 1000;"
                                   "PRAGMA journal_size_limit = 67108864;",
                                   err)
                        : rc;
}

static int open_file(struct sql_db *db, const char *path, int version, struct err *err)
{
    int rc = sql_open(db, path, err);

    if (rc == ERR_OK) {
        rc = sqlite_schema_upgrade(db, version, err);
    }
    return rc == ERR_OK ? use_wal(db, err) : rc;
}

static int remember_identity(struct sqlite_store *s, struct err *err)
{
    struct stat st;

    if (stat(s->db.path, &st) != 0) {
        return err_set(err, ERR_IO, "database '%s': %m", s->db.path);
    }
    s->device = st.st_dev;
    s->inode = st.st_ino;
    return ERR_OK;
}

int sqlite_store_open(struct store **ret, const char *path, struct err *err)
{
    struct sqlite_store *s = calloc(1, sizeof(*s));
    int rc;

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "database '%s'", path);
    }
    s->base.ops = &ops;
    s->watch_fd = -1;
    rc = open_file(&s->db, path, SQLITE_SCHEMA_VERSION, err);
    if (rc == ERR_OK) {
        rc = remember_identity(s, err);
    }
    if (rc == ERR_OK) {
        rc = prepare_changes(s, err);
    }
    if (rc == ERR_OK) {
        rc = sqlite_events_open(s, err);
    }
    if (rc != ERR_OK) {
        close_store(&s->base);
        return rc;
    }
    s->watch_fd = open_watch(path); /* by now there is a log */
    *ret = &s->base;
    return ERR_OK;
}

int sqlite_store_create_version(const char *path, int version, struct err *err)
{
    struct sql_db db;
    int rc;

    if (version < 1 || version > SQLITE_SCHEMA_VERSION) {
        return err_set(err, ERR_INVALID, "version %d of the database: 1 .. %d", version,
                       SQLITE_SCHEMA_VERSION);
    }
    if (access(path, F_OK) == 0) {
        return err_set(err, ERR_IO, "database '%s' exists already", path);
    }
    rc = open_file(&db, path, version, err);
    sql_close(&db);
    return rc;
}
