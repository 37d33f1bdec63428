#include "api/router.h"

#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"
#include "jobs/video_id.h"

static void not_offered(struct api *api, struct http_request *req, const char *id)
{
    (void)api;
    (void)id;
    api_refuse(req, API_UNSUPPORTED_OPERATION, "", "%s is not offered by this build yet.",
               http_path(req));
}

static void no_characters(struct api *api, struct http_request *req, const char *id)
{
    (void)api;
    (void)id;
    api_refuse(req, API_UNKNOWN_URL, "", "There is no such character: this server keeps none.");
}

static const struct route routes[] = {
    {HTTP_GET, "/v1/videos", videos_list},
    {HTTP_POST, "/v1/videos", videos_create},
    {HTTP_POST, "/v1/videos/stream", videos_create_stream},
    {HTTP_POST, "/v1/videos/cancel", videos_cancel_many},
    {HTTP_POST, "/v1/videos/sync", not_offered},
    {HTTP_POST, "/v1/videos/edits", not_offered},
    {HTTP_POST, "/v1/videos/extensions", not_offered},
    {HTTP_POST, "/v1/videos/characters", not_offered},
    {HTTP_GET, "/v1/videos/characters/{id}", no_characters},
    {HTTP_GET, "/v1/videos/{id}", videos_retrieve},
    {HTTP_POST, "/v1/videos/{id}", videos_update},
    {HTTP_DELETE, "/v1/videos/{id}", videos_delete},
    {HTTP_POST, "/v1/videos/{id}/cancel", videos_cancel},
    {HTTP_GET, "/v1/videos/{id}/content", content_get},
    {HTTP_GET, "/v1/videos/{id}/stream", stream_get},
    {HTTP_GET, "/v1/videos/{id}/events", events_of_video},
    {HTTP_GET, "/v1/videos/{id}/hls/index.m3u8", hls_index},
    {HTTP_GET, "/v1/videos/{id}/hls/master.m3u8", hls_master},
    {HTTP_GET, "/v1/videos/{id}/hls/init.mp4", hls_init},
    {HTTP_GET, "/v1/videos/{id}/hls/{segment}", hls_segment},
    {HTTP_POST, "/v1/videos/{id}/remix", not_offered},
    {HTTP_POST, "/v1/videos/{id}/token", not_offered},
    {HTTP_GET, "/v1/events", events_of_all},
    {HTTP_GET, "/v1/queue", queue_get},
    {HTTP_POST, "/v1/queue/pause", queue_pause},
    {HTTP_POST, "/v1/queue/resume", queue_resume},
    {HTTP_GET, "/v1/models", models_list},
    {HTTP_GET, "/v1/models/{model}", models_retrieve},
    {HTTP_GET, "/healthz", health_live},
    {HTTP_GET, "/health", health_live},
    {HTTP_GET, "/live", health_live},
    {HTTP_GET, "/readyz", health_ready},
    {HTTP_GET, "/ready", health_ready},
    {HTTP_GET, "/version", health_version},
};

/* Compares segment by segment; *ret_id is set to where the path has its {id} or {model}, the first in braces;
 * NULL without one. */
static bool matches(const char *pattern, const char *path, const char **ret_id, size_t *ret_len)
{
    *ret_id = NULL;
    *ret_len = 0;
    for (;;) {
        const size_t want = strcspn(pattern, "/");
        const size_t got = strcspn(path, "/");

        if (pattern[0] == '{') {
            if (got == 0) {
                return false;
            }
            if (!*ret_id) {
                *ret_id = path;
                *ret_len = got;
            }
        } else if (want != got || memcmp(pattern, path, got) != 0) {
            return false;
        }
        pattern += want;
        path += got;
        if (*pattern == '\0' || *path == '\0') {
            /* equal, but for a slash at the path's end */
            return *pattern == '\0' && (*path == '\0' || strcmp(path, "/") == 0);
        }
        pattern++;
        path++;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* False: too long, or a '%' that is none, or a control character. */
static bool decode(const char *s, size_t len, char ret[ROUTER_ID_SIZE])
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        int c = (unsigned char)s[i];

        if (c == '%') {
            const int high = i + 2 < len ? hex_digit(s[i + 1]) : -1;
            const int low = high >= 0 ? hex_digit(s[i + 2]) : -1;

            if (low < 0) {
                return false;
            }
            c = high * 16 + low;
            i += 2;
        }
        if (n + 1 >= ROUTER_ID_SIZE || c < 0x20 || c == 0x7f) {
            return false;
        }
        ret[n++] = (char)c;
    }
    ret[n] = '\0';
    return n > 0;
}

static void allow(struct router_match *match, enum http_method method)
{
    static const char *const names[] = {
        [HTTP_GET] = "GET, HEAD", [HTTP_POST] = "POST", [HTTP_DELETE] = "DELETE"};
    const size_t len = strlen(match->allow);

    snprintf(match->allow + len, sizeof(match->allow) - len, "%s%s", len > 0 ? ", " : "",
             names[method]);
}

/* first: the pattern; what belongs to it stands behind it. */
static enum router_outcome pick(const struct route *first, enum http_method method,
                                struct router_match *ret)
{
    const struct route *const end = routes + ARRAY_LEN(routes);

    if (method == HTTP_HEAD) {
        method = HTTP_GET;
    }
    for (const struct route *r = first; r < end && strcmp(r->pattern, first->pattern) == 0; r++) {
        allow(ret, r->method);
        if (r->method == method) {
            ret->route = r;
        }
    }
    return ret->route ? ROUTER_FOUND : ROUTER_WRONG_METHOD;
}

enum router_outcome router_find(enum http_method method, const char *path, struct router_match *ret)
{
    const char *id;
    size_t len;

    *ret = (struct router_match){0};
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *r = &routes[i];
        enum router_outcome outcome;

        if (!matches(r->pattern, path, &id, &len)) {
            continue;
        }
        outcome = pick(r, method, ret);
        if (outcome == ROUTER_FOUND && id && !decode(id, len, ret->id)) {
            ret->id[0] = '\0';
        }
        if (outcome == ROUTER_FOUND && strstr(r->pattern, "{id}") &&
            !video_id_acceptable(ret->id)) {
            return ROUTER_BAD_VIDEO;
        }
        if (outcome == ROUTER_FOUND && strstr(r->pattern, "{model}") && ret->id[0] == '\0') {
            return ROUTER_BAD_MODEL;
        }
        return outcome;
    }
    return ROUTER_UNKNOWN_URL;
}
