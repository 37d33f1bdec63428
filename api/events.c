/*
 * Server-sent events: GET /v1/videos/{id}/events and /v1/events (API.md 3.6).
 *
 * A reader's position is the number of the last event it has looked at. The next one comes from the ring in
 * memory; when that has lost it, from the store, page by page, until the ring has it again. A page that is
 * not full says that there is nothing else up to the number that was the newest when it was asked for, so
 * nothing is skipped and nothing comes twice. What a reader holds is bounded: a page of events, one at a
 * time being copied; those of the ring are shared by all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/fields.h"
#include "api/header.h"
#include "api/json.h"
#include "api/pending.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    EVENTS_PAGE = 64,
    EVENTS_FIRST = 3, /* reset, snapshot, terminal event */
    EVENTS_TYPES = 7,
    NO_STATUS = 31,
};

enum answer {
    ANSWER_NONE,
    ANSWER_YES,
    ANSWER_NO,
};

struct event_filter {
    unsigned types;    /* bits by index in `types`; 0: all */
    unsigned statuses; /* bits by enum job_status; 0: all */
    const char *group; /* of the query, which lives as long as the request */
    int n_tags;
    const char *tags[STORE_MAX_FILTERS];
    bool failed; /* while it is read */
    struct api_error error;
};

struct event_reader {
    struct pending p;
    struct link link; /* of api->events */
    struct job *job;  /* a reference; NULL: events of all */
    int64_t last;     /* looked at */
    struct event_filter filter;
    char text[64]; /* to be sent first: "retry: ..", ": ka" */
    size_t text_len, text_sent;
    struct event *first[EVENTS_FIRST]; /* owned; before all others, unfiltered */
    int n_first, i_first;
    struct event *page[EVENTS_PAGE]; /* owned; from the store */
    int n_page, i_page;
    bool from_store;    /* the page was not followed up yet */
    int64_t page_seen;  /* the newest number when it was asked for */
    struct event *held; /* owned; until it is known whether its job passes */
    enum answer held_answer;
    struct event *current; /* owned; being copied */
    size_t sent;
    struct event *terminal; /* owned; of a job that is over, while it is looked for */
    bool loading;           /* a callback will come */
    bool answered;          /* the stream has begun */
    bool waits, finished, failed, keep_alive;
    int64_t sent_ns;
};

static const struct {
    const char *name;
    int status;
} types[EVENTS_TYPES] = {
    {"video.queued", STATUS_QUEUED},        {"video.in_progress", STATUS_IN_PROGRESS},
    {"video.progress", STATUS_IN_PROGRESS}, {"video.block", STATUS_IN_PROGRESS},
    {"video.completed", STATUS_COMPLETED},  {"video.failed", STATUS_FAILED},
    {"video.deleted", NO_STATUS},
};

static struct events *ring(const struct event_reader *r)
{
    return jobs_events(r->p.api->jobs);
}

static const char *job_id(const struct event_reader *r)
{
    return r->job ? r->job->row->id : NULL;
}

/* ---- life ---- */

static void drop_first(struct event_reader *r)
{
    while (r->i_first < r->n_first) {
        event_unref(r->first[r->i_first++]);
    }
    r->n_first = 0;
    r->i_first = 0;
}

static void drop_page(struct event_reader *r)
{
    while (r->i_page < r->n_page) {
        event_unref(r->page[r->i_page++]);
    }
    r->n_page = 0;
    r->i_page = 0;
    r->from_store = false;
}

static void reader_over(struct pending *p, bool delivered)
{
    struct event_reader *r = CONTAINER_OF(p, struct event_reader, p);

    (void)delivered;
    link_remove(&r->link);
    p->api->n_readers--;
    drop_page(r);
    drop_first(r);
    event_unref(r->held);
    event_unref(r->current);
    event_unref(r->terminal);
    r->held = NULL;
    r->current = NULL;
    r->terminal = NULL;
}

static void reader_free(struct pending *p)
{
    struct event_reader *r = CONTAINER_OF(p, struct event_reader, p);

    job_unref(r->job);
    free(r);
}

/* NULL after answering. */
static struct event_reader *reader_create(struct api *api, struct http_request *req,
                                          struct job *job)
{
    struct event_reader *r;

    if (!api_reader_allowed(api, req)) {
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    if (!r) {
        api_refuse_no_memory(req);
        return NULL;
    }
    r->job = job ? job_ref(job) : NULL;
    r->text_len = (size_t)snprintf(r->text, sizeof(r->text), "retry: 2000\n\n");
    api->n_readers++;
    pending_init(&r->p, api, req, reader_over, reader_free);
    return r;
}

static void wake(struct event_reader *r)
{
    if (r->waits && r->p.req) {
        r->waits = false;
        http_wake(r->p.req);
    }
}

/* ---- what comes before everything else ---- */

/* Takes data away from nobody. */
static void add_first(struct event_reader *r, const char *type, int64_t seq, const char *data)
{
    struct store_event from = {
        .seq = seq,
        .created_ms = api_now_ms(r->p.api),
        .data = (char *)(uintptr_t)data, /* it is only read */
    };
    struct event *e;

    CHECK_BUG(r->n_first < EVENTS_FIRST);
    snprintf(from.type, sizeof(from.type), "%s", type);
    snprintf(from.job, sizeof(from.job), "%s", r->job ? r->job->row->id : "");
    e = data ? event_format(&from) : NULL;
    if (e) {
        r->first[r->n_first++] = e;
    } else {
        r->failed = true;
    }
}

static const char *terminal_type(const struct job *job)
{
    return job->row->state == JOB_COMPLETED ? "video.completed" : "video.failed";
}

/* The job as it is, up to date with the newest event; and its end, if it is over. */
static void add_state(struct event_reader *r, bool reset)
{
    const int64_t seq = events_last(ring(r));
    size_t len;

    drop_first(r);
    if (reset) {
        add_first(r, "stream.reset", seq, "{}");
    }
    r->last = seq;
    if (!r->job) {
        return;
    }
    if (r->terminal) {
        /* Whoever is cut off right behind the snapshot asks for what follows it, and gets the end. */
        add_first(r, "video.snapshot", r->terminal->seq - 1, job_json(r->job, &len));
        r->first[r->n_first++] = r->terminal;
        r->terminal = NULL;
        return;
    }
    add_first(r, "video.snapshot", seq, job_json(r->job, &len));
    if (job_is_over(r->job)) {
        add_first(r, terminal_type(r->job), seq, job_json(r->job, &len));
    }
}

/* ---- filters ---- */

static bool has_tag(const cJSON *tags, const char *tag)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, tags)
    {
        if (cJSON_IsString(item) && strcmp(item->valuestring, tag) == 0) {
            return true;
        }
    }
    return false;
}

static bool job_passes(const struct event_filter *f, const struct job *job)
{
    cJSON *tags = NULL;
    struct err err;
    bool ret = true;

    if (f->group && (!job->row->group || strcmp(job->row->group, f->group) != 0)) {
        return false;
    }
    if (f->n_tags > 0 &&
        json_parse(&tags, job->row->tags, strlen(job->row->tags), FIELDS_MAX_DEPTH, &err)) {
        return false;
    }
    for (int i = 0; i < f->n_tags; i++) {
        ret = ret && has_tag(tags, f->tags[i]);
    }
    cJSON_Delete(tags);
    return ret;
}

static bool type_passes(const struct event_filter *f, const char *type)
{
    for (unsigned i = 0; i < EVENTS_TYPES; i++) {
        if (strcmp(type, types[i].name) == 0) {
            return (f->types == 0 || (f->types & 1U << i)) &&
                   (f->statuses == 0 || (f->statuses & 1U << types[i].status));
        }
    }
    return f->types == 0 && f->statuses == 0;
}

static void held_job(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct event_reader *r = ctx;

    r->loading = false;
    /* The filter's texts are the request's: they are gone with it. */
    r->held_answer =
        r->p.req && outcome == JOBS_OK && job_passes(&r->filter, job) ? ANSWER_YES : ANSWER_NO;
    wake(r);
    pending_unref(&r->p);
}

/* Does the held event go out? ANSWER_NONE: its job has to be read first, held_job tells. One of a job that
 * is gone does not. */
static enum answer held_passes(struct event_reader *r)
{
    const struct event_filter *f = &r->filter;
    const char *id = r->held->job;
    struct job *job;

    if (r->held_answer != ANSWER_NONE) {
        return r->held_answer;
    }
    if (!type_passes(f, r->held->type)) {
        return ANSWER_NO;
    }
    if (!f->group && f->n_tags == 0) {
        return ANSWER_YES;
    }
    job = jobs_find(r->p.api->jobs, id);
    if (job) {
        return job_passes(f, job) ? ANSWER_YES : ANSWER_NO;
    }
    r->loading = true;
    pending_ref(&r->p);
    jobs_get(r->p.api->jobs, id, held_job, r);
    return r->held_answer;
}

/* ---- the next event ---- */

static void resume_finished_job(struct event_reader *r);

static void take_page(struct event_reader *r, struct event **event, int n)
{
    drop_page(r);
    for (int i = 0; i < n; i++) {
        r->page[i] = event[i];
    }
    r->n_page = n;
    r->from_store = true;
}

static void page_read(void *ctx, struct event **event, int n, int64_t oldest)
{
    struct event_reader *r = ctx;

    r->loading = false;
    if (r->p.req && event && n <= EVENTS_PAGE && oldest <= r->last + 1) {
        take_page(r, event, n);
    } else {
        for (int i = 0; event && i < n; i++) {
            event_unref(event[i]);
        }
        if (r->p.req && event) { /* what is missing was removed from the store */
            add_state(r, true);
        } else if (r->p.req) {
            log_warn("api: events behind %lld cannot be read; a reader is cut off",
                     (long long)r->last);
            r->failed = true;
        }
    }
    if (r->p.req && !r->answered) {
        resume_finished_job(r);
    }
    wake(r);
    pending_unref(&r->p);
}

static void read_page(struct event_reader *r)
{
    r->loading = true;
    r->page_seen = events_last(ring(r));
    pending_ref(&r->p);
    jobs_read_events(r->p.api->jobs, r->last, job_id(r), EVENTS_PAGE, page_read, r);
}

/* The next event, the caller's; NULL: none now (or loading, or failed). */
static struct event *take(struct event_reader *r)
{
    struct event *e;
    bool gone;

    if (r->i_first < r->n_first) {
        return r->first[r->i_first++];
    }
    if (r->i_page < r->n_page) {
        return r->page[r->i_page++];
    }
    if (r->from_store) {
        r->from_store = false;
        if (r->n_page == EVENTS_PAGE) {
            read_page(r);
            return NULL;
        }
        r->last = r->last > r->page_seen ? r->last : r->page_seen;
    }
    e = events_next(ring(r), r->last, job_id(r), &gone);
    if (e) {
        return event_ref(e);
    }
    if (gone) {
        read_page(r);
    } else {
        r->last = events_last(ring(r));
    }
    return NULL;
}

static void hold(struct event_reader *r, struct event *e, bool passes)
{
    r->held = e;
    r->held_answer = passes ? ANSWER_YES : ANSWER_NONE;
    if (e->seq > r->last) {
        r->last = e->seq;
    }
}

/* False: there is nothing to send now. */
static bool advance(struct event_reader *r)
{
    while (!r->loading && !r->failed && !r->finished) {
        enum answer answer;

        if (!r->held) {
            const bool is_first = r->i_first < r->n_first;
            struct event *e = take(r);

            if (!e && (r->loading || r->from_store || r->i_first < r->n_first)) {
                continue; /* the page that was asked for may be there already */
            }
            if (!e) {
                return false;
            }
            hold(r, e, is_first || r->job);
        }
        answer = held_passes(r);
        if (answer == ANSWER_NONE) {
            return false;
        }
        if (r->job && strcmp(r->held->type, "video.deleted") == 0) {
            r->finished = true; /* only the stream of all tells it */
            answer = ANSWER_NO;
        }
        if (answer == ANSWER_YES) {
            r->current = r->held;
            r->held = NULL;
            r->sent = 0;
            return true;
        }
        event_unref(r->held);
        r->held = NULL;
    }
    return false;
}

/* ---- sending ---- */

static size_t copy_piece(char *buf, size_t max, const char *text, size_t len, size_t *sent)
{
    const size_t n = max < len - *sent ? max : len - *sent;

    memcpy(buf, text + *sent, n);
    *sent += n;
    return n;
}

static size_t copy_current(struct event_reader *r, char *buf, size_t max)
{
    struct event *e = r->current;
    const size_t n = copy_piece(buf, max, e->text, e->len, &r->sent);

    if (r->sent == e->len) {
        r->finished = r->finished || (r->job && e->ends_job);
        r->current = NULL;
        event_unref(e);
    }
    return n;
}

static ssize_t read_events(void *ctx, char *buf, size_t max)
{
    struct event_reader *r = ctx;
    size_t n = 0;

    r->waits = false;
    if (r->keep_alive && !r->current && r->text_sent == r->text_len) {
        r->text_len = (size_t)snprintf(r->text, sizeof(r->text), ": ka\n\n");
        r->text_sent = 0;
    }
    r->keep_alive = false;
    while (n < max) {
        if (r->text_sent < r->text_len) {
            n += copy_piece(buf + n, max - n, r->text, r->text_len, &r->text_sent);
        } else if (r->current) {
            n += copy_current(r, buf + n, max - n);
        } else if (!advance(r)) {
            break;
        }
    }
    if (n > 0) {
        r->sent_ns = clock_now_ns();
        return (ssize_t)n;
    }
    if (r->failed) {
        return HTTP_STREAM_ABORT;
    }
    if (r->finished || (r->job && r->job->deleted)) {
        return HTTP_STREAM_END;
    }
    r->waits = true;
    return HTTP_STREAM_WAIT;
}

static void begin(struct event_reader *r)
{
    struct http_request *req = r->p.req;

    if (r->failed) {
        api_refuse(req, API_INTERNAL_ERROR, "", "The events cannot be read.");
        return;
    }
    r->answered = true;
    r->sent_ns = clock_now_ns();
    link_add(&r->p.api->events, &r->link);
    http_set_header(req, "Cache-Control", "no-store");
    http_set_header(req, "X-Accel-Buffering", "no");
    http_respond_stream(req, 200, "text/event-stream; charset=utf-8", read_events, r);
}

void events_wake(struct api *api)
{
    for (struct link *l = api->events.next; l != &api->events; l = l->next) {
        struct event_reader *r = CONTAINER_OF(l, struct event_reader, link);
        bool gone;

        if (!r->waits || r->loading) {
            continue;
        }
        if (events_next(ring(r), r->last, job_id(r), &gone) || gone) {
            wake(r);
        } else {
            r->last = events_last(ring(r)); /* nothing for this one up to here */
        }
    }
}

void events_tick(struct api *api, int64_t now_ns)
{
    for (struct link *l = api->events.next; l != &api->events; l = l->next) {
        struct event_reader *r = CONTAINER_OF(l, struct event_reader, link);

        if (r->waits && now_ns - r->sent_ns >= API_KEEP_ALIVE_S * INT64_C(1000000000)) {
            r->keep_alive = true;
            wake(r);
        } else if (r->job && r->job->deleted) {
            wake(r);
        }
    }
}

/* ---- opening ---- */

/* Last-Event-ID, else ?last_event_id=; what is no number is as if absent. */
static bool last_event_id(const struct http_request *req, int64_t *ret)
{
    return header_number(http_header(req, "Last-Event-ID"), ret) ||
           header_number(http_query(req, "last_event_id"), ret);
}

/* Nothing follows the end of a job: 204 is what ends an EventSource. */
static void respond_no_more(struct event_reader *r)
{
    http_set_header(r->p.req, "Cache-Control", "no-store");
    http_respond(r->p.req, 204, NULL, NULL, 0);
}

/* A page was read for a reader of a job that is over, from where it was cut off. */
static void resume_finished_job(struct event_reader *r)
{
    if (!r->failed && r->n_first == 0 && r->n_page == 0) {
        respond_no_more(r);
    } else {
        begin(r);
    }
}

static void open_finished_at(struct event_reader *r, int64_t last)
{
    bool gone = false;

    r->last = last;
    if (last < events_last(ring(r)) && events_next(ring(r), last, job_id(r), &gone)) {
        begin(r);
    } else if (gone) {
        read_page(r);
    } else {
        respond_no_more(r);
    }
}

static void find_terminal(struct event_reader *r);

static void terminal_read(void *ctx, struct event **event, int n, int64_t oldest)
{
    struct event_reader *r = ctx;

    (void)oldest;
    for (int i = 0; event && i < n; i++) {
        if (r->p.req && strcmp(event[i]->type, terminal_type(r->job)) == 0) {
            event_unref(r->terminal);
            r->terminal = event_ref(event[i]);
        }
        r->last = event[i]->seq;
        event_unref(event[i]);
    }
    if (r->p.req && event && n == EVENTS_PAGE) {
        find_terminal(r);
    } else if (r->p.req) {
        r->failed = !event;
        if (event) {
            add_state(r, false);
        }
        begin(r);
    }
    pending_unref(&r->p);
}

/* The number of a finished job's last event is only in the store. */
static void find_terminal(struct event_reader *r)
{
    pending_ref(&r->p);
    jobs_read_events(r->p.api->jobs, r->last, job_id(r), EVENTS_PAGE, terminal_read, r);
}

static void open_of_job(struct api *api, struct http_request *req, struct job *job)
{
    int64_t last = 0;
    const bool resumes = last_event_id(req, &last);
    struct event_reader *r = reader_create(api, req, job);

    if (!r) {
        return;
    }
    if (job_is_over(job) && resumes) {
        open_finished_at(r, last);
    } else if (job_is_over(job)) {
        find_terminal(r);
    } else {
        r->last = last;
        if (!resumes || last > events_last(ring(r))) {
            add_state(r, resumes);
        }
        begin(r);
    }
}

void events_of_video(struct api *api, struct http_request *req, const char *id)
{
    api_with_job(api, req, id, open_of_job);
}

/* ---- the stream of all ---- */

static void read_types(struct event_filter *f, const char *value)
{
    for (const char *s = value; *s != '\0'; s += *s == ',') {
        const size_t len = strcspn(s, ",");
        bool known = false;

        for (unsigned i = 0; i < EVENTS_TYPES; i++) {
            if (strlen(types[i].name) == len && memcmp(s, types[i].name, len) == 0) {
                f->types |= 1U << i;
                known = true;
            }
        }
        if (!known) {
            f->failed = true;
            api_fail(&f->error, API_INVALID_VALUE, "types",
                     "Invalid value: '%s'. types is a list of video.queued, video.progress, ...",
                     value);
            return;
        }
        s += len;
    }
}

static void read_status(struct event_filter *f, const char *value)
{
    for (int i = STATUS_QUEUED; i <= STATUS_FAILED; i++) {
        if (strcmp(value, job_status_name((enum job_status)i)) == 0) {
            f->statuses |= 1U << i;
            return;
        }
    }
    f->failed = true;
    api_fail(&f->error, API_INVALID_VALUE, "status",
             "Invalid value: '%s'. status is queued, in_progress, completed or failed.", value);
}

static void read_argument(void *ctx, const char *name, const char *value)
{
    struct event_filter *f = ctx;

    if (value[0] == '\0' || f->failed) {
        return;
    }
    if (strcmp(name, "types") == 0) {
        read_types(f, value);
    } else if (strcmp(name, "status") == 0) {
        read_status(f, value);
    } else if (strcmp(name, "group") == 0) {
        f->group = value;
    } else if (strcmp(name, "tag") == 0 && f->n_tags < STORE_MAX_FILTERS) {
        f->tags[f->n_tags++] = value;
    } else if (strcmp(name, "tag") == 0) {
        f->failed = true;
        api_fail(&f->error, API_INVALID_VALUE, "tag", "There may be %d tags at most.",
                 (int)STORE_MAX_FILTERS);
    }
}

void events_of_all(struct api *api, struct http_request *req, const char *id)
{
    struct event_filter filter = {0};
    struct event_reader *r;

    (void)id;
    http_each_query(req, read_argument, &filter);
    if (filter.failed) {
        api_respond_error(req, &filter.error);
        return;
    }
    r = reader_create(api, req, NULL);
    if (!r) {
        return;
    }
    r->filter = filter;
    if (!last_event_id(req, &r->last)) {
        r->last = events_last(ring(r));
        /* No event is sent now, but whoever is cut off shall come back to here. */
        r->text_len = (size_t)snprintf(r->text, sizeof(r->text), "retry: 2000\n\nid: %lld\n\n",
                                       (long long)r->last);
    } else if (r->last > events_last(ring(r))) {
        add_state(r, true);
    }
    begin(r);
}
