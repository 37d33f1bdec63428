#include "daemon/resident.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/macros.h"

struct mapping {
    uintptr_t from, to;
    bool of_file;
    bool clean; /* no page of it was ever written */
};

static void drop(const struct mapping *m)
{
    if (m->of_file && m->clean) {
        madvise((void *)m->from, m->to - m->from, MADV_DONTNEED);
    }
}

/* "7f00-7f10 r-xp 00001000 fe:00 123  /lib/..."; other lines begin with "Name:". */
static bool parse_mapping(const char *line, struct mapping *ret)
{
    char *end;
    const unsigned long from = strtoul(line, &end, 16);
    unsigned long to;

    if (end == line || *end != '-') {
        return false;
    }
    to = strtoul(end + 1, &end, 16);
    *ret = (struct mapping){.from = from,
                            .to = to,
                            .of_file = strchr(line, '/') != NULL && strncmp(end, " r-", 3) == 0,
                            .clean = true};
    return true;
}

/* "Anonymous:      12 kB": is it more than none? */
static bool counts(const char *line, const char *name)
{
    const size_t len = strlen(name);

    return strncmp(line, name, len) == 0 && strtoul(line + len, NULL, 10) > 0;
}

void resident_trim(void)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    struct mapping m = {0};
    struct mapping next;
    char line[512];

    malloc_trim(0);
    while (f && fgets(line, sizeof(line), f)) {
        if (parse_mapping(line, &next)) {
            drop(&m);
            m = next;
        } else if (counts(line, "Anonymous:") || counts(line, "Private_Dirty:")) {
            m.clean = false;
        }
    }
    if (f) {
        fclose(f);
    }
}
