#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/hostsim/hostsim_sim.h"

static void parse_fail(struct hostsim_config *config, const char *text)
{
    const char *colon = strrchr(text, ':');

    if (strncmp(text, "once:", 5) != 0) {
        config->fail_at = strtoull(text, NULL, 10);
    } else if (colon > text + 5) {
        config->fail_at = strtoull(colon + 1, NULL, 10);
        config->fail_once = strndup(text + 5, (size_t)(colon - text) - 5);
    }
    if (config->fail_at == 0) {
        hostsim_bug("SANAD_HOSTSIM_FAIL is N or once:FILE:N, not '%s'", text);
    }
}

static struct hostsim_config read_config()
{
    const char *order = getenv("SANAD_HOSTSIM_ORDER");
    const char *memory = getenv("SANAD_HOSTSIM_MEMORY");
    const char *fail = getenv("SANAD_HOSTSIM_FAIL");
    struct hostsim_config config = {HOSTSIM_FORWARD, (size_t)4 << 30, 0, NULL};

    if (order != NULL && order[0] != '\0') {
        if (order[0] < '0' || order[0] > '2' || order[1] != '\0') {
            hostsim_bug("SANAD_HOSTSIM_ORDER is 0, 1 or 2, not '%s'", order);
        }
        config.order = (enum hostsim_order)(order[0] - '0');
    }
    if (memory != NULL && memory[0] != '\0') {
        config.memory = strtoull(memory, NULL, 10);
    }
    if (fail != NULL && fail[0] != '\0') {
        parse_fail(&config, fail);
    }
    return config;
}

const struct hostsim_config *hostsim_config_get()
{
    static struct hostsim_config config;
    static bool read;

    if (!read) {
        config = read_config();
        read = true;
    }
    return &config;
}

uint64_t hostsim_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

void hostsim_bug(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("hostsim: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    abort();
}
