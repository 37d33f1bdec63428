#include "api/recent.h"

#include <stdio.h>
#include <string.h>

static struct recent *at(struct recent_table *t, int64_t number)
{
    struct recent *r = &t->entry[number % RECENT_MAX];

    return number > 0 && r->number == number ? r : NULL;
}

int64_t recent_add(struct recent_table *t, const char *client, const char *fingerprint,
                   int64_t now_ns)
{
    const int64_t number = ++t->last;
    struct recent *r = &t->entry[number % RECENT_MAX];

    *r = (struct recent){.number = number, .at_ns = now_ns};
    snprintf(r->client, sizeof(r->client), "%s", client);
    snprintf(r->fingerprint, sizeof(r->fingerprint), "%s", fingerprint);
    return number;
}

void recent_created(struct recent_table *t, int64_t number, const char *id)
{
    struct recent *r = at(t, number);

    if (r) {
        snprintf(r->id, sizeof(r->id), "%s", id);
    }
}

void recent_drop(struct recent_table *t, int64_t number)
{
    struct recent *r = at(t, number);

    if (r) {
        *r = (struct recent){0};
    }
}

const struct recent *recent_find(const struct recent_table *t, const char *client,
                                 const char *fingerprint, int64_t now_ns)
{
    const struct recent *found = NULL;

    for (int i = 0; i < RECENT_MAX; i++) {
        const struct recent *r = &t->entry[i];

        if (r->number > 0 && (!found || r->number > found->number) &&
            now_ns - r->at_ns <= RECENT_SECONDS * INT64_C(1000000000) &&
            strcmp(r->fingerprint, fingerprint) == 0 && strcmp(r->client, client) == 0) {
            found = r;
        }
    }
    return found;
}
