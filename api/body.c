#include "api/body.h"

#include "api/api_internal.h"
#include "api/header.h"

static void finish(struct body *b, bool ok, const struct api_error *e)
{
    b->done(b, ok ? NULL : e);
}

static void too_large_error(struct api_error *e, size_t max)
{
    api_fail(e, API_PAYLOAD_TOO_LARGE, "", "The body is larger than the limit of %zu bytes.", max);
}

static void on_too_large(struct http_request *req)
{
    struct body *b = http_user(req);
    struct api_error e;

    too_large_error(&e, b->api->limits.json_body);
    finish(b, false, &e);
}

/* Without a content type, or with curl's default one, JSON is recognised by its first character; no field
 * of a form begins with it. */
static bool looks_like_json(const char *data, size_t len)
{
    size_t i = 0;

    while (i < len && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n')) {
        i++;
    }
    return i < len && data[i] == '{';
}

static void on_body(struct http_request *req, const char *data, size_t len)
{
    const char *type = http_header(req, "Content-Type");
    struct body *b = http_user(req);
    struct api_error e;
    bool ok;

    if (len == 0) {
        ok = fields_from_json(&b->fields, "{}", 2, &e);
    } else if (header_is_type(type, "application/json") || looks_like_json(data, len)) {
        ok = fields_from_json(&b->fields, data, len, &e);
    } else if (type) {
        ok = fields_from_urlencoded(&b->fields, data, len, &e);
    } else {
        ok = api_fail(&e, API_UNSUPPORTED_MEDIA_TYPE, "",
                      "The body has no Content-Type and is no JSON object.");
    }
    finish(b, ok, &e);
}

static bool on_part(struct http_request *req, const void *data, size_t len)
{
    struct body *b = http_user(req);

    b->refused = !multipart_feed(b->multipart, data, len);
    return !b->refused;
}

static void on_parts_end(struct http_request *req, bool complete)
{
    struct body *b = http_user(req);
    struct api_error e;
    bool ok;

    if (!complete && !b->refused) {
        too_large_error(&e, b->api->limits.multipart_body);
        ok = false;
    } else {
        ok = multipart_finish(b->multipart, &b->fields, &e);
    }
    finish(b, ok, &e);
}

void body_read(struct body *b, struct api *api, struct http_request *req,
               void (*done)(struct body *b, const struct api_error *e))
{
    const char *type = http_header(req, "Content-Type");
    struct api_error e;

    *b = (struct body){.api = api, .done = done};
    http_set_user(req, b);
    if (header_is_type(type, "multipart/form-data")) {
        const char *spool_dir = job_files_spool_dir(jobs_files(api->jobs));

        if (!jobs_has_space(api->jobs)) { /* what is uploaded goes to the disk first */
            api_fail(&e, API_INSUFFICIENT_STORAGE, "", "There is no space left for another video.");
            finish(b, false, &e);
            return;
        }
        if (!multipart_open(&b->multipart, type, spool_dir, api->limits.upload, &e)) {
            finish(b, false, &e);
            return;
        }
        http_stream_body(req, api->limits.multipart_body, on_part, on_parts_end);
    } else if (!type || header_is_type(type, "application/json") ||
               header_is_type(type, "application/x-www-form-urlencoded")) {
        http_read_body(req, api->limits.json_body, on_body, on_too_large);
    } else {
        api_fail(&e, API_UNSUPPORTED_MEDIA_TYPE, "",
                 "Content-Type '%s' is not taken: send multipart/form-data, application/json or "
                 "application/x-www-form-urlencoded.",
                 type);
        finish(b, false, &e);
    }
}

void body_done(struct body *b)
{
    multipart_free(b->multipart);
    b->multipart = NULL;
    fields_done(&b->fields);
}
