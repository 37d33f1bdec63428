/*
 * guard.h - who may talk to a daemon that asks for no key: the pages of this machine, not those of the web.
 *
 * Listening on loopback keeps other machines out, but not the web pages that a browser on this machine shows. So
 * the Host must be one of ours (a foreign one is DNS rebinding), and what changes something must not come from a
 * foreign Origin (a form needs no CORS preflight).
 *
 * Any thread.
 */
#ifndef API_GUARD_H
#define API_GUARD_H

#include <stdbool.h>

/* host: "localhost:7262"; NULL passes (HTTP/1.0). allowed: names separated by commas besides localhost, 127.x.x.x
 * and [::1]; "*": all. */
bool guard_host(const char *host, const char *allowed);

/* origin: "http://localhost:3000"; NULL passes (not a browser). */
bool guard_origin(const char *origin, const char *allowed);

#endif
