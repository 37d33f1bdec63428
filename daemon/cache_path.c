#include "daemon/cache_path.h"

#include <stdio.h>
#include <stdlib.h>

/* The XDG base directory specification: what is not absolute is ignored. */
bool cache_path(char *ret, size_t size, const char *name)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n = 0;

    if (cache && cache[0] == '/') {
        n = snprintf(ret, size, "%s/sanad/%s", cache, name);
    } else if (home && home[0] == '/') {
        n = snprintf(ret, size, "%s/.cache/sanad/%s", home, name);
    }
    return n > 0 && (size_t)n < size;
}
