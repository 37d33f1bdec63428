#include "api/guard.h"

#include <string.h>
#include <strings.h>

/* The name without the port: "[::1]:80" -> "[::1]". */
static size_t name_length(const char *host)
{
    const char *bracket = host[0] == '[' ? strchr(host, ']') : NULL;

    return bracket ? (size_t)(bracket - host) + 1 : strcspn(host, ":");
}

static bool is_loopback(const char *name, size_t len)
{
    return (len == 9 && strncasecmp(name, "localhost", len) == 0) ||
           (len == 5 && strncmp(name, "[::1]", len) == 0) ||
           (len >= 9 && strncmp(name, "127.", 4) == 0 && strspn(name, "0123456789.") == len);
}

static bool is_listed(const char *name, size_t len, const char *allowed)
{
    while (*allowed != '\0') {
        const char *item = allowed + strspn(allowed, ", ");
        const size_t n = strcspn(item, ", ");

        if ((n == 1 && *item == '*') || (n == len && n > 0 && strncasecmp(item, name, n) == 0)) {
            return true;
        }
        allowed = item + n;
    }
    return false;
}

bool guard_host(const char *host, const char *allowed)
{
    size_t len;

    if (!host) {
        return true;
    }
    len = name_length(host);
    return is_loopback(host, len) || is_listed(host, len, allowed);
}

bool guard_origin(const char *origin, const char *allowed)
{
    const char *host = origin ? strstr(origin, "://") : NULL;

    if (!origin) {
        return true;
    }
    return host ? guard_host(host + 3, allowed) : is_listed(origin, strlen(origin), allowed);
}
