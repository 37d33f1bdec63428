#include "storage/sqlite_schema.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/macros.h"

/* In the file's header: whose it is. "sana" */
#define APPLICATION_ID 0x73616e61

/* "" is what a row has that was never given any. */
static const char version_1[] =
    "CREATE TABLE job("
    "  id TEXT PRIMARY KEY NOT NULL,"
    "  client TEXT NOT NULL,"
    "  model TEXT NOT NULL,"
    "  \"group\" TEXT,"
    "  user TEXT,"
    "  tags TEXT NOT NULL CONSTRAINT tags_are_a_json_array"
    "    CHECK(tags = '' OR (json_valid(tags) AND json_type(tags) = 'array')),"
    "  metadata TEXT NOT NULL CONSTRAINT metadata_is_a_json_object"
    "    CHECK(metadata = '' OR (json_valid(metadata) AND json_type(metadata) = 'object')),"
    "  spec TEXT NOT NULL,"
    "  detail TEXT NOT NULL,"
    "  fingerprint TEXT NOT NULL,"
    "  state INTEGER NOT NULL CHECK(state BETWEEN 0 AND 3),"
    "  cancel_requested INTEGER NOT NULL,"
    "  priority INTEGER NOT NULL,"
    "  created_ms INTEGER NOT NULL,"
    "  started_ms INTEGER NOT NULL,"
    "  ended_ms INTEGER NOT NULL,"
    "  expires_ms INTEGER NOT NULL,"
    "  error_code TEXT,"
    "  error_message TEXT,"
    "  epoch INTEGER NOT NULL,"
    "  restarts INTEGER NOT NULL,"
    "  blocks INTEGER NOT NULL,"
    "  frames INTEGER NOT NULL,"
    "  init_bytes INTEGER NOT NULL,"
    "  fragment_bytes INTEGER NOT NULL,"
    "  latent_bytes INTEGER NOT NULL,"
    "  state_version INTEGER NOT NULL,"
    "  stored_bytes INTEGER NOT NULL,"
    "  worker TEXT,"
    "  until_ms INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX job_state ON job(state, id, stored_bytes);"
    "CREATE INDEX job_open ON job(id) WHERE state < 2;"
    "CREATE INDEX job_client ON job(client, id);"
    "CREATE INDEX job_group ON job(\"group\", id) WHERE \"group\" IS NOT NULL;"
    "CREATE INDEX job_user ON job(user, id) WHERE user IS NOT NULL;"
    "CREATE TABLE block("
    "  job TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE,"
    "  idx INTEGER NOT NULL,"
    "  offset INTEGER NOT NULL,"
    "  bytes INTEGER NOT NULL,"
    "  first_frame INTEGER NOT NULL,"
    "  frames INTEGER NOT NULL,"
    "  gen_ms INTEGER NOT NULL,"
    "  PRIMARY KEY(job, idx)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE event("
    "  seq INTEGER PRIMARY KEY,"
    "  created_ms INTEGER NOT NULL,"
    "  type TEXT NOT NULL,"
    "  job TEXT NOT NULL,"
    "  data TEXT NOT NULL"
    ") STRICT;"
    "CREATE INDEX event_job ON event(job, seq);"
    "CREATE TABLE idempotency("
    "  client TEXT NOT NULL,"
    "  route TEXT NOT NULL,"
    "  key TEXT NOT NULL,"
    "  job TEXT NOT NULL,"
    "  fingerprint TEXT NOT NULL,"
    "  created_ms INTEGER NOT NULL,"
    "  PRIMARY KEY(client, route, key)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX idempotency_created ON idempotency(created_ms);"
    "CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL)"
    "  STRICT, WITHOUT ROWID;"
    "INSERT INTO meta VALUES"
    "  ('event_limit', 0),"  /* no number above was ever given */
    "  ('event_pruned', 0)," /* events up to this one are gone */
    "  ('checks', 0);";

static const char version_2[] =
    "ALTER TABLE job ADD COLUMN deadline_ms INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN expired_ms INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX job_expires ON job(expires_ms)"
    "  WHERE state >= 2 AND expired_ms = 0 AND expires_ms > 0;"
    "CREATE INDEX job_ended ON job(ended_ms, id)"
    "  WHERE state >= 2 AND expired_ms = 0 AND stored_bytes > 0;"
    "CREATE INDEX job_expired ON job(expired_ms) WHERE expired_ms > 0;"
    "CREATE TABLE tombstone(id TEXT PRIMARY KEY NOT NULL, deleted_ms INTEGER NOT NULL)"
    "  STRICT, WITHOUT ROWID;";

static const char *const steps[] = {version_1, version_2};

static_assert(ARRAY_LEN(steps) == SQLITE_SCHEMA_VERSION, "one step for each version");

/* The version that the file has; ERR_FORMAT when it is none of ours. */
static int read_version(struct sql_db *db, int64_t *ret, struct err *err)
{
    int64_t application = 0;
    int64_t objects = 0;
    int64_t version = 0;
    int rc = sql_number(db, "PRAGMA user_version", &version, err);

    if (rc == ERR_OK) {
        rc = sql_number(db, "PRAGMA application_id", &application, err);
    }
    if (rc == ERR_OK) {
        rc = sql_number(db, "SELECT count(*) FROM sqlite_schema", &objects, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    if (application != APPLICATION_ID && (application != 0 || version != 0 || objects != 0)) {
        return err_set(err, ERR_FORMAT, "database '%s' belongs to another program", db->path);
    }
    if (version < 0 || version > SQLITE_SCHEMA_VERSION) {
        return err_set(err, ERR_FORMAT,
                       "database '%s' is of version %" PRId64 "; this program knows versions up to "
                       "%d: it was last used by a newer one",
                       db->path, version, SQLITE_SCHEMA_VERSION);
    }
    *ret = version;
    return ERR_OK;
}

static int upgrade(struct sql_db *db, int version, struct err *err)
{
    char pragma[96];
    int64_t have = 0;
    int rc = read_version(db, &have, err);

    CHECK_BUG(version <= SQLITE_SCHEMA_VERSION);
    for (; rc == ERR_OK && have < version; have++) {
        rc = sql_exec(db, steps[have], err);
        if (rc != ERR_OK) {
            return err_prefix(err, "upgrade to version %" PRId64, have + 1);
        }
    }
    if (rc == ERR_OK) {
        snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d; PRAGMA application_id = %d;",
                 version, APPLICATION_ID);
        rc = sql_exec(db, pragma, err);
    }
    return rc == ERR_OK ? sql_exec(db, "COMMIT", err) : rc;
}

int sqlite_schema_upgrade(struct sql_db *db, int version, struct err *err)
{
    struct err ignored;
    int64_t have = 0;
    int rc = read_version(db, &have, err); /* before anything is written */

    if (rc != ERR_OK || have >= version) {
        return rc;
    }
    rc = sql_exec(db, "BEGIN IMMEDIATE", err); /* another process may be at it: looks again */
    if (rc == ERR_OK) {
        rc = upgrade(db, version, err);
    }
    if (!sqlite3_get_autocommit(db->handle)) {
        (void)!sql_exec(db, "ROLLBACK", &ignored);
    }
    return rc;
}
