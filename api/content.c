/*
 * GET /v1/videos/{id}/content: the files of a video (API.md 3.5). What is being made is in stream.c.
 *
 * Opening and looking at a file happen on the loop: both are quick on a local disk, and reading is left to
 * sendfile.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "api/header.h"
#include "api/range.h"
#include "base/log.h"

enum {
    ETAG_SIZE = 128
};

/* What is sent of which file. */
struct served {
    enum job_file file;
    const char *type;
    const char *ending;
    char etag[ETAG_SIZE]; /* "": may change, and is not to be kept */
    int64_t size;         /* -1: the whole file */
};

void content_headers(struct http_request *req, const struct job *job, const char *ending)
{
    const char *accept = http_header(req, "Accept");
    const char *download = http_query(req, "download");
    const struct job_spec *spec = &job->spec;

    http_set_header(req, "X-Video-Id", job->row->id);
    http_set_headerf(req, "X-Video-Seed", "%llu", (unsigned long long)spec->seed);
    http_set_headerf(req, "X-Video-Frames", "%lld", (long long)spec->num_frames);
    http_set_headerf(req, "X-Video-FPS", "%g", spec->fps);
    if (job->detail.inference_s > 0) {
        http_set_headerf(req, "X-Inference-Time-S", "%.3f", job->detail.inference_s);
    }
    if ((download && (strcmp(download, "1") == 0 || strcmp(download, "true") == 0)) ||
        (accept && strstr(accept, "application/binary"))) {
        http_set_headerf(req, "Content-Disposition", "attachment; filename=\"%s.%s\"", job->row->id,
                         ending);
    } else {
        http_set_header(req, "Content-Disposition", "inline");
    }
}

/* ---- sending a file ---- */

static void set_file_headers(struct http_request *req, const struct job *job,
                             const struct served *s, const char *modified)
{
    content_headers(req, job, s->ending);
    if (s->etag[0] == '\0') {
        http_set_header(req, "Cache-Control", "no-store");
        return;
    }
    http_set_header(req, "ETag", s->etag);
    http_set_header(req, "Last-Modified", modified);
    http_set_header(req, "Accept-Ranges", "bytes");
    http_set_header(req, "Cache-Control", "private, max-age=31536000, immutable");
}

/* The Range header, if it is to be minded. */
static const char *valid_range(const struct http_request *req, const struct served *s,
                               const char *modified)
{
    const char *condition = http_header(req, "If-Range");

    if (http_method(req) != HTTP_GET || s->etag[0] == '\0') {
        return NULL;
    }
    if (condition && strcmp(condition, s->etag) != 0 && strcmp(condition, modified) != 0) {
        return NULL;
    }
    return http_header(req, "Range");
}

static void send_opened(struct http_request *req, const struct job *job, const struct served *s,
                        int fd, int64_t size)
{
    char modified[HEADER_DATE_SIZE];
    int64_t first;
    int64_t len;

    header_date(job->row->ended_ms / 1000, modified);
    switch (range_parse(valid_range(req, s, modified), size, &first, &len)) {
    case RANGE_WHOLE:
        set_file_headers(req, job, s, modified);
        http_respond_file(req, 200, s->type, fd, 0, size);
        break;
    case RANGE_PART:
        set_file_headers(req, job, s, modified);
        http_set_headerf(req, "Content-Range", "bytes %lld-%lld/%lld", (long long)first,
                         (long long)(first + len - 1), (long long)size);
        http_respond_file(req, 206, s->type, fd, first, len);
        break;
    case RANGE_UNSATISFIABLE:
        close(fd);
        http_set_headerf(req, "Content-Range", "bytes */%lld", (long long)size);
        api_refuse(req, API_RANGE_NOT_SATISFIABLE, "Range", "The file has %lld bytes.",
                   (long long)size);
        break;
    }
}

static void send_file(struct api *api, struct http_request *req, const struct job *job,
                      const struct served *s)
{
    char modified[HEADER_DATE_SIZE];
    struct err err;
    int64_t size;
    int fd;

    if (s->etag[0] != '\0' && header_etag_matches(http_header(req, "If-None-Match"), s->etag)) {
        header_date(job->row->ended_ms / 1000, modified);
        set_file_headers(req, job, s, modified);
        http_respond(req, 304, NULL, NULL, 0);
        return;
    }
    if (job_files_open_read(jobs_files(api->jobs), job->row->id, s->file, &fd, &size, &err)) {
        if (err.code == ERR_NOT_FOUND && job->ending) { /* its deletion is being stored */
            api_refuse_unknown_video(req, job->row->id);
            return;
        }
        if (err.code == ERR_NOT_FOUND && job->row->expires_ms != 0 &&
            job->row->expires_ms <= api_now_ms(api)) { /* its time is over, which is being stored */
            api_refuse(req, API_VIDEO_EXPIRED, "video_id", "The files of video '%s' were removed.",
                       job->row->id);
            return;
        }
        log_err("api: job=%s %s; its content is refused", job->row->id, err.msg);
        api_refuse(req, API_INTERNAL_ERROR, "", "The file cannot be read.");
        return;
    }
    if (size < s->size) {
        close(fd);
        log_err("api: job=%s a file has %lld bytes, not %lld; its content is refused", job->row->id,
                (long long)size, (long long)s->size);
        api_refuse(req, API_INTERNAL_ERROR, "", "The file cannot be read.");
        return;
    }
    send_opened(req, job, s, fd, s->size >= 0 ? s->size : size);
}

/* ---- which file ---- */

static void describe_fragments(struct served *s, const struct job *job)
{
    *s = (struct served){
        .file = JOB_FRAGMENTS,
        .type = "video/mp4",
        .ending = "mp4",
        .size = job->row->fragment_bytes,
    };
    snprintf(s->etag, sizeof(s->etag), "\"frag-%s-%lld\"", job->row->id,
             (long long)job->row->fragment_bytes);
}

static void send_video(struct api *api, struct http_request *req, struct job *job)
{
    struct served s = {.file = JOB_VIDEO, .type = "video/mp4", .ending = "mp4", .size = -1};

    snprintf(s.etag, sizeof(s.etag), "\"sha256-%s\"", job->detail.sha256);
    send_file(api, req, job, &s);
}

static void send_fragmented(struct api *api, struct http_request *req, struct job *job)
{
    struct served s;

    describe_fragments(&s, job);
    send_file(api, req, job, &s);
}

/* WebP, as the OpenAI specification has it, unless the client does not take it. */
static void send_thumbnail(struct api *api, struct http_request *req, struct job *job)
{
    const bool webp = header_accepts(http_header(req, "Accept"), "image", "webp") ||
                      header_accepts(http_header(req, "Accept"), "application", "binary");
    struct served s = {
        .file = webp ? JOB_THUMBNAIL_WEBP : JOB_THUMBNAIL_JPEG,
        .type = webp ? "image/webp" : "image/jpeg",
        .ending = webp ? "webp" : "jpg",
        .size = -1,
    };

    snprintf(s.etag, sizeof(s.etag), "\"sha256-%s-%s\"", job->detail.sha256, s.ending);
    http_set_header(req, "Vary", "Accept");
    send_file(api, req, job, &s);
}

static void send_spritesheet(struct api *api, struct http_request *req, struct job *job)
{
    const struct job_detail *d = &job->detail;
    struct served s = {.file = JOB_SPRITESHEET, .type = "image/jpeg", .ending = "jpg", .size = -1};

    snprintf(s.etag, sizeof(s.etag), "\"sha256-%s-sprites\"", d->sha256);
    http_set_headerf(req, "X-Sprite-Layout", "cols=%d;rows=%d;w=%d;h=%d;interval=%g",
                     d->sprite_cols, d->sprite_rows, d->sprite_w, d->sprite_h, d->sprite_interval);
    send_file(api, req, job, &s);
}

static const struct variant {
    const char *name;
    void (*send)(struct api *api, struct http_request *req, struct job *job);
} variants[] = {
    {"video", send_video},
    {"fragmented", send_fragmented},
    {"thumbnail", send_thumbnail},
    {"spritesheet", send_spritesheet},
};

/* NULL after answering. */
static const struct variant *find_variant(struct http_request *req)
{
    const char *name = http_query(req, "variant");

    if (!name || name[0] == '\0') {
        return &variants[0];
    }
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        if (strcmp(name, variants[i].name) == 0) {
            return &variants[i];
        }
    }
    api_refuse(req, API_UNSUPPORTED_VARIANT, "variant",
               "Invalid value: '%s'. variant is video, fragmented, thumbnail or spritesheet.",
               name);
    return NULL;
}

/* ---- by the state of the job ---- */

static void refuse_not_ready(struct http_request *req, const struct job *job)
{
    struct api_error e;

    api_fail(&e, API_VIDEO_NOT_READY, "video_id", "The video is not ready: it is %s.",
             job_status_name(job_status(job)));
    e.retry_after_ms = api_retry_after_ms(job);
    http_set_headerf(req, "openai-poll-after-ms", "%d", api_poll_after_ms(job));
    api_respond_error(req, &e);
}

static void send_unfinished(struct api *api, struct http_request *req, struct job *job,
                            const struct variant *variant)
{
    const struct served preview = {
        .file = JOB_PREVIEW, .type = "image/jpeg", .ending = "jpg", .size = -1};
    struct err err;
    int64_t size;
    int fd;

    /* It is written when the first block is stored; that it is not there yet is no error. */
    if (variant->send == send_thumbnail && job->row->blocks > 0 &&
        !job_files_open_read(jobs_files(api->jobs), job->row->id, JOB_PREVIEW, &fd, &size, &err)) {
        send_opened(req, job, &preview, fd, size);
        return;
    }
    refuse_not_ready(req, job);
}

static void refuse_expired(struct http_request *req, const struct job *job)
{
    api_refuse(req, API_VIDEO_EXPIRED, "video_id", "The files of video '%s' were removed.",
               job->row->id);
}

static void send_failed(struct api *api, struct http_request *req, struct job *job,
                        const struct variant *variant, bool partial)
{
    if (!partial || variant->send != send_fragmented || job->row->blocks == 0) {
        stream_refuse_failed(req, job);
    } else if (job_is_expired(job)) {
        refuse_expired(req, job);
    } else {
        send_fragmented(api, req, job);
    }
}

static void content_of(struct api *api, struct http_request *req, struct job *job)
{
    const struct variant *variant = find_variant(req);
    bool stream;
    bool partial;

    if (!variant || !api_query_flag(req, "stream", &stream) ||
        !api_query_flag(req, "partial", &partial)) {
        return;
    }
    if (stream && variant->send != send_video && variant->send != send_fragmented) {
        api_refuse(req, API_CONFLICTING_PARAMETERS, "variant",
                   "stream=true is for the video, not for variant=%s.", variant->name);
    } else if (stream) {
        stream_of(api, req, job);
    } else if (job->deleted) {
        api_refuse_unknown_video(req, job->row->id);
    } else if (job_status(job) == STATUS_FAILED) {
        send_failed(api, req, job, variant, partial);
    } else if (job_is_expired(job)) {
        refuse_expired(req, job);
    } else if (job_status(job) == STATUS_COMPLETED) {
        variant->send(api, req, job);
    } else {
        send_unfinished(api, req, job, variant);
    }
}

void content_get(struct api *api, struct http_request *req, const char *id)
{
    api_with_job(api, req, id, content_of);
}
