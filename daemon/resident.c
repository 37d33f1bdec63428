#include "daemon/resident.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
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

/* "7f00-7f10 r-xp 00001000 fe:00 123  /lib/..." */
static bool parse_mapping(const char *line, struct mapping *ret)
{
    unsigned long from;
    unsigned long to;
    char rights[8];

    if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3) {
        return false;
    }
    *ret = (struct mapping){.from = from,
                            .to = to,
                            .of_file = strchr(line, '/') != NULL && rights[1] == '-',
                            .clean = true};
    return true;
}

void resident_trim(void)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    struct mapping m = {0};
    struct mapping next;
    char line[512];
    unsigned long kib;

    malloc_trim(0);
    while (f && fgets(line, sizeof(line), f)) {
        if (parse_mapping(line, &next)) {
            drop(&m);
            m = next;
        } else if ((sscanf(line, "Anonymous: %lu", &kib) == 1 ||
                    sscanf(line, "Private_Dirty: %lu", &kib) == 1) &&
                   kib > 0) {
            m.clean = false;
        }
    }
    if (f) {
        fclose(f);
    }
}
