#include "jobs/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct events {
    struct event **ring; /* owned [max]; references */
    int max, first, n;
    size_t bytes, max_bytes;
    int64_t last;
    int64_t dropped; /* the newest number that is not in the ring and may be in the store */
};

bool event_type_ends_job(const char *type)
{
    return strcmp(type, "video.completed") == 0 || strcmp(type, "video.failed") == 0 ||
           strcmp(type, "video.deleted") == 0;
}

struct event *event_format(const struct store_event *from)
{
    static const char format[] =
        "id: %lld\nevent: %s\ndata: "
        "{\"type\":\"%s\",\"seq\":%lld,\"created_at\":%lld,\"data\":%s}\n\n";
    const char *data = from->data ? from->data : "{}";
    const int len = snprintf(NULL, 0, format, (long long)from->seq, from->type, from->type,
                             (long long)from->seq, (long long)(from->created_ms / 1000), data);
    struct event *e = len > 0 ? calloc(1, sizeof(*e) + (size_t)len + 1) : NULL;

    if (!e) {
        return NULL;
    }
    e->refs = 1;
    e->seq = from->seq;
    e->len = (size_t)len;
    e->ends_job = event_type_ends_job(from->type);
    memcpy(e->type, from->type, sizeof(e->type));
    memcpy(e->job, from->job, sizeof(e->job));
    snprintf(e->text, e->len + 1, format, (long long)from->seq, from->type, from->type,
             (long long)from->seq, (long long)(from->created_ms / 1000), data);
    return e;
}

struct event *event_ref(struct event *e)
{
    e->refs++;
    return e;
}

void event_unref(struct event *e)
{
    if (e && --e->refs == 0) {
        free(e);
    }
}

int events_open(struct events **ret, int max_events, size_t max_bytes, struct err *err)
{
    struct events *e = calloc(1, sizeof(*e));

    if (e) {
        e->ring = calloc((size_t)max_events, sizeof(struct event *));
    }
    if (!e || !e->ring) {
        free(e);
        return err_set(err, ERR_NO_MEMORY, "%d events", max_events);
    }
    e->max = max_events;
    e->max_bytes = max_bytes;
    *ret = e;
    return ERR_OK;
}

static struct event *at(const struct events *e, int i)
{
    return e->ring[(e->first + i) % e->max];
}

static void drop_oldest(struct events *e)
{
    struct event *old = at(e, 0);

    e->dropped = old->seq;
    e->bytes -= old->len;
    e->first = (e->first + 1) % e->max;
    e->n--;
    event_unref(old);
}

void events_close(struct events *e)
{
    if (!e) {
        return;
    }
    while (e->n > 0) {
        drop_oldest(e);
    }
    free(e->ring);
    free(e);
}

void events_publish(struct events *e, const struct store_event *from)
{
    struct event *new_event = event_format(from);

    CHECK_BUG(from->seq > e->last);
    e->last = from->seq;
    while (e->n > 0 && (e->n == e->max || !new_event || e->bytes + new_event->len > e->max_bytes)) {
        drop_oldest(e);
    }
    if (!new_event) {
        log_warn("out of memory for event seq=%lld; readers find it in the store",
                 (long long)from->seq);
        e->dropped = from->seq;
        return;
    }
    e->ring[(e->first + e->n) % e->max] = new_event;
    e->n++;
    e->bytes += new_event->len;
}

int64_t events_last(const struct events *e)
{
    return e->last;
}

void events_set_last(struct events *e, int64_t seq)
{
    e->last = seq;
    e->dropped = seq;
}

/* Index of the first event behind `after`. */
static int lower_bound(const struct events *e, int64_t after)
{
    int low = 0;
    int high = e->n;

    while (low < high) {
        const int middle = (low + high) / 2;

        if (at(e, middle)->seq > after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

struct event *events_next(const struct events *e, int64_t after, const char *job, bool *ret_gone)
{
    *ret_gone = after < e->dropped;
    if (*ret_gone) {
        return NULL;
    }
    for (int i = lower_bound(e, after); i < e->n; i++) {
        struct event *found = at(e, i);

        if (!job || strcmp(found->job, job) == 0) {
            return found;
        }
    }
    return NULL;
}
