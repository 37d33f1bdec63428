/*
 * GET /v1/videos/{id}/hls/...: a video for players that ask for it piece by piece (API.md 3.7). Playlists are
 * written anew each time; segments are parts of the file of fragments.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "api/header.h"
#include "api/hls_playlist.h"
#include "api/pending.h"
#include "api/range.h"
#include "api/wait.h"
#include "base/log.h"
#include "media/sha256.h"

enum {
    ETAG_SIZE = 128,
    RETRY_MS = 1000,
    /* A playlist that does not change for so long is sent as it is: players give up on one that does not come,
     * hls.js after ten seconds. */
    HOLD_MS = 8000,
};

static void refuse_not_there(struct http_request *req, const struct job *job, const char *what)
{
    struct api_error e;

    api_fail(&e, API_SEGMENT_NOT_READY, "", "%s %s.", what,
             job_is_over(job) ? "was not made" : "is not there yet");
    e.retry_after_ms = job_is_over(job) ? 0 : RETRY_MS;
    api_respond_error(req, &e);
}

/* False, after answering: there is nothing of this video, and will not be. */
static bool is_offered(struct http_request *req, const struct job *job)
{
    if (job->deleted) {
        api_refuse_unknown_video(req, job->row->id);
        return false;
    }
    if (job_is_expired(job)) {
        api_refuse(req, API_VIDEO_EXPIRED, "video_id", "The files of video '%s' were removed.",
                   job->row->id);
        return false;
    }
    return true;
}

/* ---- with the list of blocks ---- */

typedef void (*with_blocks_fn)(struct api *api, struct http_request *req, struct job *job);

struct loading {
    struct pending p;
    with_blocks_fn fn;
};

static void loading_free(struct pending *p)
{
    free(CONTAINER_OF(p, struct loading, p));
}

static void blocks_loaded(void *ctx, enum jobs_outcome outcome, struct job *job)
{
    struct loading *l = ctx;
    struct api *api = l->p.api;

    if (l->p.req && outcome == JOBS_OK) {
        struct http_request *req = pending_release(&l->p);

        if (is_offered(req, job)) {
            l->fn(api, req, job);
        }
    } else if (l->p.req) {
        api_refuse(l->p.req, API_INTERNAL_ERROR, "", "The blocks of the video cannot be read.");
    }
    pending_unref(&l->p);
}

/* fn finds job->blocks filled; or the request is answered. */
static void with_blocks(struct api *api, struct http_request *req, struct job *job,
                        with_blocks_fn fn)
{
    struct loading *l;

    if (!is_offered(req, job)) {
        return;
    }
    if (job->blocks_loaded) {
        fn(api, req, job);
        return;
    }
    l = calloc(1, sizeof(*l));
    if (!l) {
        api_refuse_no_memory(req);
        return;
    }
    l->fn = fn;
    pending_init(&l->p, api, req, NULL, loading_free);
    pending_ref(&l->p);
    jobs_load_blocks(api->jobs, job, blocks_loaded, l);
}

/* ---- playlists ---- */

/* "\"...\"" of the text. False when out of memory. */
static bool make_etag(const struct str *text, char ret[ETAG_SIZE])
{
    struct sha256 *sha = sha256_create();
    char hex[SHA256_HEX];

    if (!sha) {
        return false;
    }
    sha256_update(sha, text->data, text->len);
    sha256_final(sha, hex);
    sha256_free(sha);
    snprintf(ret, ETAG_SIZE, "\"%.32s\"", hex);
    return true;
}

/* Takes what is in text. !ok: out of memory. */
static void respond_playlist(struct http_request *req, struct str *text, bool ok)
{
    char etag[ETAG_SIZE];

    if (!ok || !make_etag(text, etag)) {
        api_refuse_no_memory(req);
        str_done(text);
        return;
    }
    http_set_header(req, "Cache-Control", "no-cache");
    http_set_header(req, "ETag", etag);
    if (header_etag_matches(http_header(req, "If-None-Match"), etag)) {
        http_respond(req, 304, NULL, NULL, 0);
    } else {
        http_respond(req, 200, "application/vnd.apple.mpegurl", text->data, text->len);
    }
    str_done(text);
}

static void send_index(struct api *api, struct http_request *req, struct job *job)
{
    /* Of a job that is over, the blocks themselves say how long they are. */
    const struct model_facts *facts = jobs_facts(api->jobs);
    const struct hls_media media = {
        .blocks = job->blocks,
        .n = job->n_blocks,
        .fps = job->spec.fps,
        .longest_frames = facts ? hls_longest_block(facts, job->spec.num_frames) : 0,
        .ended = job_is_over(job),
    };
    struct str text;
    bool ok;

    if (!facts && !media.ended) {
        api_refuse(req, API_MODEL_LOADING, "", "The model is being loaded.");
        return;
    }
    str_init(&text, HLS_MAX_BYTES);
    ok = hls_write_media(&text, &media);
    respond_playlist(req, &text, ok);
}

static void send_master(struct api *api, struct http_request *req, struct job *job)
{
    const struct hls_master master = {
        .blocks = job->blocks,
        .n = job->n_blocks,
        .fps = job->spec.fps,
        .width = job->spec.width,
        .height = job->spec.height,
        .codec = job->detail.codec,
    };
    struct str text;
    bool ok;

    (void)api;
    if (job->detail.codec[0] == '\0') {
        refuse_not_there(req, job, "The master playlist");
        return;
    }
    str_init(&text, HLS_MAX_BYTES);
    ok = hls_write_master(&text, &master);
    respond_playlist(req, &text, ok);
}

static void master_of(struct api *api, struct http_request *req, struct job *job)
{
    with_blocks(api, req, job, send_master);
}

void hls_master(struct api *api, struct http_request *req, const char *id)
{
    api_with_job(api, req, id, master_of);
}

/* ---- a playlist that is held until there is more ---- */

struct held {
    struct pending p;
    struct wait wait;
};

static void held_over(struct pending *p, bool delivered)
{
    (void)delivered;
    wait_stop(&CONTAINER_OF(p, struct held, p)->wait);
}

static void held_free(struct pending *p)
{
    free(CONTAINER_OF(p, struct held, p));
}

static void held_long_enough(struct wait *wait, struct job *job)
{
    struct held *h = CONTAINER_OF(wait, struct held, wait);
    struct api *api = h->p.api;

    with_blocks(api, pending_release(&h->p), job, send_index);
}

static void hold(struct api *api, struct http_request *req, struct job *job, int64_t blocks)
{
    struct held *h = calloc(1, sizeof(*h));

    if (!h) {
        api_refuse_no_memory(req);
        return;
    }
    pending_init(&h->p, api, req, held_over, held_free);
    wait_start(&h->wait, api, job, HOLD_MS, true, held_long_enough);
    h->wait.until_blocks = blocks;
}

static void index_of(struct api *api, struct http_request *req, struct job *job)
{
    const char *text = http_query(req, "_HLS_msn");
    int64_t number = -1;

    if (text && text[0] != '\0' && !header_number(text, &number)) {
        api_refuse(req, API_INVALID_VALUE, "_HLS_msn",
                   "Invalid value: '%s'. _HLS_msn is the number of a segment.", text);
        return;
    }
    if (!is_offered(req, job)) {
        return;
    }
    if (number >= job->row->blocks && !job_is_over(job)) {
        hold(api, req, job, number + 1);
    } else {
        with_blocks(api, req, job, send_index);
    }
}

void hls_index(struct api *api, struct http_request *req, const char *id)
{
    api_with_job(api, req, id, index_of);
}

/* ---- pieces of the file ---- */

struct piece {
    const char *type;
    char etag[ETAG_SIZE];
    int64_t offset, bytes; /* in the file of fragments */
};

static const char *valid_range(const struct http_request *req, const struct piece *p)
{
    const char *condition = http_header(req, "If-Range");

    if (http_method(req) != HTTP_GET || (condition && strcmp(condition, p->etag) != 0)) {
        return NULL;
    }
    return http_header(req, "Range");
}

static void set_piece_headers(struct http_request *req, const struct piece *p)
{
    http_set_header(req, "ETag", p->etag);
    http_set_header(req, "Accept-Ranges", "bytes");
    http_set_header(req, "Cache-Control", "private, max-age=31536000, immutable");
}

static void send_opened(struct http_request *req, const struct piece *p, int fd)
{
    int64_t first;
    int64_t len;

    switch (range_parse(valid_range(req, p), p->bytes, &first, &len)) {
    case RANGE_WHOLE:
        set_piece_headers(req, p);
        http_respond_file(req, 200, p->type, fd, p->offset, p->bytes);
        break;
    case RANGE_PART:
        set_piece_headers(req, p);
        http_set_headerf(req, "Content-Range", "bytes %lld-%lld/%lld", (long long)first,
                         (long long)(first + len - 1), (long long)p->bytes);
        http_respond_file(req, 206, p->type, fd, p->offset + first, len);
        break;
    case RANGE_UNSATISFIABLE:
        close(fd);
        http_set_headerf(req, "Content-Range", "bytes */%lld", (long long)p->bytes);
        api_refuse(req, API_RANGE_NOT_SATISFIABLE, "Range", "The segment has %lld bytes.",
                   (long long)p->bytes);
        break;
    }
}

static void send_piece(struct api *api, struct http_request *req, const struct job *job,
                       const struct piece *p)
{
    const char *id = job->row->id;
    struct err err;
    int64_t size;
    int fd;

    if (header_etag_matches(http_header(req, "If-None-Match"), p->etag)) {
        set_piece_headers(req, p);
        http_respond(req, 304, NULL, NULL, 0);
        return;
    }
    if (job_files_open_read(jobs_files(api->jobs), id, JOB_FRAGMENTS, &fd, &size, &err)) {
        log_err("api: job=%s %s; its segments are refused", id, err.msg);
        api_refuse(req, API_INTERNAL_ERROR, "", "The segment cannot be read.");
        return;
    }
    if (size < p->offset + p->bytes) {
        close(fd);
        log_err("api: job=%s fragments end at %lld, not behind %lld; a segment is refused", id,
                (long long)size, (long long)(p->offset + p->bytes));
        api_refuse(req, API_INTERNAL_ERROR, "", "The segment cannot be read.");
        return;
    }
    send_opened(req, p, fd);
}

static void init_of(struct api *api, struct http_request *req, struct job *job)
{
    struct piece p = {.type = "video/mp4", .bytes = job->row->init_bytes};

    if (!is_offered(req, job)) {
        return;
    }
    if (p.bytes == 0) {
        refuse_not_there(req, job, "The init segment");
        return;
    }
    snprintf(p.etag, sizeof(p.etag), "\"init-%s-%lld\"", job->row->id, (long long)p.bytes);
    send_piece(api, req, job, &p);
}

void hls_init(struct api *api, struct http_request *req, const char *id)
{
    api_with_job(api, req, id, init_of);
}

/* The path's last part. */
static const char *file_name(const struct http_request *req, size_t *ret_len)
{
    const char *path = http_path(req);
    const char *end = path + strlen(path);
    const char *name;

    if (end > path && end[-1] == '/') {
        end--;
    }
    name = end;
    while (name > path && name[-1] != '/') {
        name--;
    }
    *ret_len = (size_t)(end - name);
    return name;
}

static void send_segment(struct api *api, struct http_request *req, struct job *job)
{
    struct piece p = {.type = "video/iso.segment"};
    char what[64];
    size_t len;
    const char *name = file_name(req, &len);
    int64_t index;

    if (!hls_segment_index(name, len, &index)) {
        api_refuse(req, API_UNKNOWN_URL, "", "There is no such file. See index.m3u8.");
        return;
    }
    if (index >= job->n_blocks) {
        snprintf(what, sizeof(what), "Segment %lld", (long long)index);
        refuse_not_there(req, job, what);
        return;
    }
    p.offset = job->blocks[index].offset;
    p.bytes = job->blocks[index].bytes;
    snprintf(p.etag, sizeof(p.etag), "\"seg-%s-%lld-%lld\"", job->row->id, (long long)p.offset,
             (long long)p.bytes);
    send_piece(api, req, job, &p);
}

static void segment_of(struct api *api, struct http_request *req, struct job *job)
{
    with_blocks(api, req, job, send_segment);
}

void hls_segment(struct api *api, struct http_request *req, const char *id)
{
    api_with_job(api, req, id, segment_of);
}
