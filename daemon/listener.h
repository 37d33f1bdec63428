/*
 * listener.h - from an address of the configuration to a listening socket.
 *
 * "HOST:PORT", "[IPV6]:PORT", "unix:/PATH". HOST is a name or a number; an IPv6 socket takes IPv6 only. A socket
 * file that nobody listens on any more is replaced.
 */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    LISTENER_NAME = 300
};

/* Can nobody outside this machine reach it? Opens nothing. Errors: ERR_INVALID. */
MUST_CHECK int listener_is_local(const char *address, bool *ret, struct err *err);

/* *ret_fd: non-blocking, close-on-exec. ret_name: the address as it came to be, with the port chosen for 0.
 * Errors: ERR_INVALID, ERR_IO, ERR_BUSY. */
MUST_CHECK int listener_open(const char *address, int *ret_fd, char ret_name[LISTENER_NAME],
                             struct err *err);

/* After closing: a socket's file is removed. */
void listener_forget(const char *name);

#endif
