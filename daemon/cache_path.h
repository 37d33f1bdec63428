/*
 * cache_path.h - where programs without a data directory keep what can be made again.
 */
#ifndef DAEMON_CACHE_PATH_H
#define DAEMON_CACHE_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* $XDG_CACHE_HOME/sanad/NAME, else ~/.cache/sanad/NAME; the folder need not be there. False: neither is set,
 * or the path is longer than size. */
bool cache_path(char *ret, size_t size, const char *name);

#endif
