/*
 * data_dir.h - the folder a daemon owns: made if needed, and locked, because two daemons on one would each
 * believe the other's jobs to be abandoned.
 *
 * The lock is an flock on DIR/lock. Workers inherit the descriptor: a new daemon waits until the last worker of a
 * killed one is gone, too.
 */
#ifndef DAEMON_DATA_DIR_H
#define DAEMON_DATA_DIR_H

#include "base/err.h"

/* *ret_lock_fd holds the lock until it (and every copy) is closed. Waits up to wait_ms for it. Errors: ERR_BUSY,
 * ERR_IO, ERR_NO_SPACE. */
MUST_CHECK int data_dir_open(const char *path, int wait_ms, int *ret_lock_fd, struct err *err);

#endif
