/*
 * events.h - the newest events, ready to be sent: what Server-Sent Events readers follow.
 *
 * Every event is formatted once, whatever the number of readers. A reader remembers the number of the last
 * event it sent and asks for the next; when that has left the ring, it reads on from the store. Events are
 * published in the order of their numbers, and after they are durable.
 *
 * Loop thread.
 */
#ifndef JOBS_EVENTS_H
#define JOBS_EVENTS_H

#include "storage/store.h"

/* Reference counted: a reader may hold it while it is being sent. */
struct event {
    int refs;
    int64_t seq;
    char type[EVENT_TYPE_SIZE];
    char job[JOB_ID_SIZE];
    bool ends_job; /* video.completed, video.failed, video.deleted */
    size_t len;
    char text[]; /* [len] "id: ..\nevent: ..\ndata: ..\n\n" */
};

/* NULL when out of memory. */
struct event *event_format(const struct store_event *from);
struct event *event_ref(struct event *e);
void event_unref(struct event *e);

/* A type that ends a job's stream. */
bool event_type_ends_job(const char *type);

struct events;

MUST_CHECK int events_open(struct events **ret, int max_events, size_t max_bytes, struct err *err);
void events_close(struct events *e);

/* Behind what was published so far; from->seq must be higher. Losing one for want of memory is logged;
 * readers then find it in the store. */
void events_publish(struct events *e, const struct store_event *from);

/* Number of the newest event; 0 before the first. Set at start from the store. */
int64_t events_last(const struct events *e);
void events_set_last(struct events *e, int64_t seq);

/* The first event behind `after`, of one job or (NULL) of any; NULL: none yet. Borrowed until the next
 * publish. *ret_gone: events behind `after` have left the ring, look in the store. */
struct event *events_next(const struct events *e, int64_t after, const char *job, bool *ret_gone);

#endif
