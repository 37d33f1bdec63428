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

/* *ret_fd: non-blocking, close-on-exec. ret_name: the address as it came to be, with the port chosen for 0.
 * *ret_loopback: nobody outside this machine can reach it. Errors: ERR_INVALID, ERR_IO, ERR_BUSY. */
MUST_CHECK int listener_open(const char *address, int *ret_fd, char ret_name[LISTENER_NAME],
                             bool *ret_loopback, struct err *err);

#endif
