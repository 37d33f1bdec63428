/*
 * sqlite_store.h - store.h on SQLite: WAL, synchronous FULL, BEGIN IMMEDIATE, STRICT tables.
 *
 * The schema's version is in user_version; an older file is upgraded step by step in one transaction, a
 * newer one is refused, as is a database that is not ours.
 */
#ifndef STORAGE_SQLITE_STORE_H
#define STORAGE_SQLITE_STORE_H

#include "storage/store.h"

/* Creates the file if needed. Errors: ERR_IO (names the file), ERR_FORMAT (not a database, damaged, or of a
 * newer version), ERR_NO_SPACE, ERR_NO_MEMORY. End by store_close. */
MUST_CHECK int sqlite_store_open(struct store **ret, const char *path, struct err *err);

/* For tests of upgrades: a new file with the schema of an old version, 1 .. the newest. */
MUST_CHECK int sqlite_store_create_version(const char *path, int version, struct err *err);

#endif
