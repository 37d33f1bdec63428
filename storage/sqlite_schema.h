/*
 * sqlite_schema.h - the tables, version by version. A version is never edited once it was released:
 * a change is a new step.
 */
#ifndef STORAGE_SQLITE_SCHEMA_H
#define STORAGE_SQLITE_SCHEMA_H

#include "storage/sql.h"

enum {
    SQLITE_SCHEMA_VERSION = 2
};

/* Brings an empty file or one of an older version to `version`, in one transaction. Errors besides sql.h's:
 * ERR_FORMAT, of a newer version or of another program. */
MUST_CHECK int sqlite_schema_upgrade(struct sql_db *db, int version, struct err *err);

#endif
