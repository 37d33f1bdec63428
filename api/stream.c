/*
 * A video while it is being made: its file of fragments, followed as it grows (API.md 3.5).
 *
 * Every viewer reads the file for himself, as far as it is durable, so that nobody waits for anybody, and
 * whoever comes late gets everything. Reading is on the loop: what was written a moment ago is in the page
 * cache as a rule, and a finished video is read ahead by the kernel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "api/header.h"
#include "api/pending.h"
#include "base/clock.h"
#include "base/log.h"

/* An empty box: legal between fragments, and ignored. */
static const char free_box[8] = {0, 0, 0, 8, 'f', 'r', 'e', 'e'};

struct stream {
    struct pending p;
    struct link link; /* of api->streams */
    struct job *job;  /* a reference */
    struct job_watch watch;
    int fd;           /* -1: not open yet: the file may not exist */
    int64_t pos;      /* in the file */
    int64_t from;     /* the block to go on with behind the init segment; 0: no jump (left) */
    int64_t from_pos; /* where it is; 0: not known yet */
    int box_left;     /* of free_box, to be sent */
    bool waits;
    int64_t sent_ns;
};

void stream_refuse_failed(struct http_request *req, const struct job *job)
{
    const struct job_row *row = job->row;

    api_refuse(req, API_VIDEO_GENERATION_FAILED, "video_id", "The video was not made: %s (%s)",
               row->error_message ? row->error_message : "it failed",
               row->error_code ? row->error_code : "generation_failed");
}

static void stream_over(struct pending *p, bool delivered)
{
    struct stream *s = CONTAINER_OF(p, struct stream, p);

    (void)delivered;
    job_watch_remove(s->job, &s->watch);
    link_remove(&s->link);
    p->api->n_readers--;
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
    }
}

static void stream_free(struct pending *p)
{
    struct stream *s = CONTAINER_OF(p, struct stream, p);

    job_unref(s->job);
    free(s);
}

/* ---- how far ---- */

/* Where block `from` begins, as soon as it is known: the list may be gone when the job is over. */
static void locate(struct stream *s)
{
    if (s->from > 0 && s->from_pos == 0 && s->job->n_blocks > s->from) {
        s->from_pos = s->job->blocks[s->from].offset;
    }
}

static int64_t durable_end(const struct stream *s)
{
    const struct job_row *row = s->job->row;

    if (s->from > 0 || row->fragment_bytes < row->init_bytes) {
        return row->init_bytes;
    }
    return row->fragment_bytes;
}

/* Behind the init segment: to the block that was asked for. */
static void jump(struct stream *s)
{
    locate(s);
    if (s->from > 0 && s->from_pos > 0 && s->pos == s->job->row->init_bytes) {
        s->pos = s->from_pos;
        s->from = 0;
    }
}

static bool is_growing(const struct stream *s)
{
    return !s->job->deleted && !job_is_over(s->job);
}

/* ---- sending ---- */

static ssize_t read_file(struct stream *s, char *buf, size_t max, int64_t end)
{
    struct job_files *files = jobs_files(s->p.api->jobs);
    const char *id = s->job->row->id;
    struct err err;
    int64_t size;
    ssize_t n;

    if (s->fd < 0 && job_files_open_read(files, id, JOB_FRAGMENTS, &s->fd, &size, &err)) {
        s->fd = -1;
        log_err("api: job=%s %s; a stream is cut", id, err.msg);
        return HTTP_STREAM_ABORT;
    }
    if ((int64_t)max > end - s->pos) {
        max = (size_t)(end - s->pos);
    }
    n = pread(s->fd, buf, max, s->pos);
    if (n <= 0) {
        log_err("api: job=%s fragments at %lld: %s; a stream is cut", id, (long long)s->pos,
                n < 0 ? strerror(errno) : "the file ends before what is recorded");
        return HTTP_STREAM_ABORT;
    }
    s->pos += n;
    s->sent_ns = clock_now_ns();
    return n;
}

static ssize_t send_box(struct stream *s, char *buf, size_t max)
{
    const size_t n = max < (size_t)s->box_left ? max : (size_t)s->box_left;

    memcpy(buf, free_box + sizeof(free_box) - s->box_left, n);
    s->box_left -= (int)n;
    s->sent_ns = clock_now_ns();
    return (ssize_t)n;
}

static ssize_t read_stream(void *ctx, char *buf, size_t max)
{
    struct stream *s = ctx;
    int64_t end;

    s->waits = false;
    if (s->box_left > 0 && s->box_left < (int)sizeof(free_box)) {
        return send_box(s, buf, max);
    }
    jump(s);
    end = durable_end(s);
    if (s->pos < end) {
        s->box_left = 0; /* something better than a sign of life */
        return read_file(s, buf, max, end);
    }
    if (!is_growing(s)) {
        return s->job->row->state == JOB_COMPLETED ? HTTP_STREAM_END : HTTP_STREAM_ABORT;
    }
    if (s->box_left > 0) {
        return send_box(s, buf, max);
    }
    s->waits = true;
    return HTTP_STREAM_WAIT;
}

static void wake(struct stream *s)
{
    if (s->waits && s->p.req) {
        s->waits = false;
        http_wake(s->p.req);
    }
}

static void changed(struct job_watch *watch, struct job *job)
{
    struct stream *s = CONTAINER_OF(watch, struct stream, watch);

    (void)job;
    jump(s);
    if (s->pos < durable_end(s) || !is_growing(s)) {
        wake(s);
    }
}

/* At a boundary between fragments (all that is durable was sent), behind the init segment. */
void stream_tick(struct api *api, int64_t now_ns)
{
    for (struct link *l = api->streams.next; l != &api->streams; l = l->next) {
        struct stream *s = CONTAINER_OF(l, struct stream, link);

        if (s->waits && s->pos > 0 &&
            now_ns - s->sent_ns >= API_KEEP_ALIVE_S * INT64_C(1000000000)) {
            s->box_left = sizeof(free_box);
            wake(s);
        }
    }
}

/* ---- opening ---- */

static void begin(struct stream *s)
{
    struct http_request *req = s->p.req;

    s->sent_ns = clock_now_ns();
    job_watch_add(s->job, &s->watch);
    link_add(&s->p.api->streams, &s->link);
    content_headers(req, s->job, "mp4");
    http_set_header(req, "Cache-Control", "no-store");
    http_set_header(req, "X-Accel-Buffering", "no");
    http_respond_stream(req, 200, "video/mp4", read_stream, s);
}

static void blocks_loaded(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct stream *s = ctx;

    (void)job;
    if (s->p.req && outcome == JOBS_OK) {
        begin(s);
    } else if (s->p.req) {
        api_refuse(s->p.req, API_INTERNAL_ERROR, "", "The blocks of the video cannot be read.");
    }
    pending_unref(&s->p);
}

void stream_open(struct api *api, struct http_request *req, struct job *job, int64_t from)
{
    struct stream *s;

    if (job->deleted) {
        api_refuse_unknown_video(req, job->row->id);
        return;
    }
    if (job_status(job) == STATUS_FAILED) {
        stream_refuse_failed(req, job);
        return;
    }
    if (job_is_expired(job)) {
        api_refuse(req, API_VIDEO_EXPIRED, "video_id", "The files of video '%s' were removed.",
                   job->row->id);
        return;
    }
    if (!api_reader_allowed(api, req)) {
        return;
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        api_refuse_no_memory(req);
        return;
    }
    s->job = job_ref(job);
    s->fd = -1;
    s->from = from;
    s->watch.changed = changed;
    api->n_readers++;
    pending_init(&s->p, api, req, stream_over, stream_free);
    if (from > 0 && !job->blocks_loaded) {
        pending_ref(&s->p);
        jobs_load_blocks(api->jobs, job, blocks_loaded, s);
    } else {
        begin(s);
    }
}

void stream_of(struct api *api, struct http_request *req, struct job *job)
{
    const char *text = http_query(req, "from_segment");
    int64_t from = 0;

    if (text && text[0] != '\0' && !header_number(text, &from)) {
        api_refuse(req, API_INVALID_VALUE, "from_segment",
                   "Invalid value: '%s'. from_segment is the index of a block.", text);
        return;
    }
    stream_open(api, req, job, from);
}

void stream_get(struct api *api, struct http_request *req, const char *id)
{
    api_with_job(api, req, id, stream_of);
}
