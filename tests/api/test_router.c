#include "api/router.h"

#include <string.h>

#include "api/api_internal.h"
#include "tests/support/test.h"

static struct router_match match;

static route_fn found(enum http_method method, const char *path)
{
    EXPECT_INT(router_find(method, path, &match), ROUTER_FOUND);
    return match.route->handler;
}

#define ID "video_01jd3x8q6v7k2n9r5t4w8y0zab"

TEST(every_resource_has_its_handler)
{
    EXPECT(found(HTTP_GET, "/v1/videos") == videos_list);
    EXPECT(found(HTTP_POST, "/v1/videos") == videos_create);
    EXPECT(found(HTTP_GET, "/v1/videos/" ID) == videos_retrieve);
    EXPECT_STR(match.id, ID);
    EXPECT(found(HTTP_POST, "/v1/videos/" ID) == videos_update);
    EXPECT(found(HTTP_DELETE, "/v1/videos/" ID) == videos_delete);
    EXPECT(found(HTTP_POST, "/v1/videos/" ID "/cancel") == videos_cancel);
    EXPECT(found(HTTP_GET, "/v1/videos/" ID "/content") == content_get);
    EXPECT_STR(match.id, ID);
    EXPECT(found(HTTP_GET, "/v1/videos/" ID "/stream") == stream_get);
    EXPECT(found(HTTP_GET, "/v1/videos/" ID "/events") == events_of_video);
    EXPECT(found(HTTP_GET, "/v1/events") == events_of_all);
    EXPECT_STR(match.id, "");
    EXPECT(found(HTTP_GET, "/v1/queue") == queue_get);
    EXPECT(found(HTTP_POST, "/v1/queue/pause") == queue_pause);
    EXPECT(found(HTTP_GET, "/v1/models/a%2Fb") == models_retrieve);
    EXPECT_STR(match.id, "a/b");
    EXPECT(found(HTTP_GET, "/healthz") == health_live);
    EXPECT(found(HTTP_GET, "/ready") == health_ready);
    EXPECT(found(HTTP_GET, "/version") == health_version);
}

TEST(files_of_hls_are_found_by_their_names)
{
    EXPECT(found(HTTP_GET, "/v1/videos/" ID "/hls/index.m3u8") == hls_index);
    EXPECT(found(HTTP_GET, "/v1/videos/" ID "/hls/master.m3u8") == hls_master);
    EXPECT(found(HTTP_HEAD, "/v1/videos/" ID "/hls/init.mp4") == hls_init);
    EXPECT(found(HTTP_GET, "/v1/videos/" ID "/hls/seg-00000.m4s") == hls_segment);
    EXPECT_STR(match.id, ID); /* not the segment */
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/a%2Fb/hls/x", &match), ROUTER_BAD_VIDEO);
}

TEST(static_paths_win_over_ids)
{
    static const char *const names[] = {"sync",       "stream",     "edits",
                                        "extensions", "characters", "cancel"};
    char path[64];

    EXPECT(found(HTTP_POST, "/v1/videos/stream") == videos_create_stream);
    EXPECT(found(HTTP_POST, "/v1/videos/cancel") == videos_cancel_many);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "/v1/videos/%s", names[i]);
        EXPECT_INT(router_find(HTTP_POST, path, &match), ROUTER_FOUND);
        EXPECT_STR(match.id, "");
        EXPECT_INT(router_find(HTTP_GET, path, &match), ROUTER_WRONG_METHOD);
        EXPECT_STR(match.allow, "POST");
    }
}

TEST(a_trailing_slash_is_tolerated_once)
{
    EXPECT(found(HTTP_GET, "/v1/videos/") == videos_list);
    EXPECT(found(HTTP_GET, "/v1/videos/" ID "/") == videos_retrieve);
    EXPECT_STR(match.id, ID);
    EXPECT(found(HTTP_POST, "/v1/videos/" ID "/cancel/") == videos_cancel);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos//", &match), ROUTER_UNKNOWN_URL);
    EXPECT_INT(router_find(HTTP_GET, "/v1//videos", &match), ROUTER_UNKNOWN_URL);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos//content", &match), ROUTER_UNKNOWN_URL);
}

TEST(head_is_wherever_get_is)
{
    EXPECT(found(HTTP_HEAD, "/v1/videos/" ID "/content") == content_get);
    EXPECT(found(HTTP_HEAD, "/v1/models") == models_list);
    EXPECT_INT(router_find(HTTP_HEAD, "/v1/queue/pause", &match), ROUTER_WRONG_METHOD);
}

TEST(a_wrong_method_is_told_the_right_ones)
{
    EXPECT_INT(router_find(HTTP_DELETE, "/v1/videos", &match), ROUTER_WRONG_METHOD);
    EXPECT_STR(match.allow, "GET, HEAD, POST");
    EXPECT_INT(router_find(HTTP_PUT, "/v1/videos/" ID, &match), ROUTER_WRONG_METHOD);
    EXPECT_STR(match.allow, "GET, HEAD, POST, DELETE");
    EXPECT_INT(router_find(HTTP_OPTIONS, "/v1/videos/" ID "/content", &match), ROUTER_WRONG_METHOD);
    EXPECT_STR(match.allow, "GET, HEAD");
    EXPECT_INT(router_find(HTTP_OTHER, "/healthz", &match), ROUTER_WRONG_METHOD);
}

TEST(what_is_nowhere_is_unknown)
{
    static const char *const paths[] = {
        "",
        "/",
        "/v1",
        "/v1/video",
        "/v1/videosx",
        "/v1/videos/" ID "/hls",
        "/v1/videos/" ID "/hls/",
        "/v1/videos/" ID "/hls/index.m3u8/x",
        "/v1/videos/" ID "/contents",
        "/metrics",
        "/v1/videos/" ID "/content/x",
        "v1/videos",
    };

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        EXPECT_INT(router_find(HTTP_GET, paths[i], &match), ROUTER_UNKNOWN_URL);
        EXPECT_INT(router_find(HTTP_OPTIONS, paths[i], &match), ROUTER_UNKNOWN_URL);
    }
}

TEST(ids_are_decoded_once_and_checked)
{
    EXPECT(found(HTTP_GET, "/v1/videos/video%5F01") == videos_retrieve);
    EXPECT_STR(match.id, "video_01");
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/a%2Fb", &match), ROUTER_BAD_VIDEO);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/a%255F", &match), ROUTER_BAD_VIDEO);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/a%", &match), ROUTER_BAD_VIDEO);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/a%4", &match), ROUTER_BAD_VIDEO);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/a%4g", &match), ROUTER_BAD_VIDEO);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/%00", &match), ROUTER_BAD_VIDEO);
    EXPECT_INT(router_find(HTTP_GET, "/v1/videos/../content", &match), ROUTER_BAD_VIDEO);
    EXPECT_INT(router_find(HTTP_GET, "/v1/models/%00", &match), ROUTER_BAD_MODEL);
}

TEST(an_id_of_64_characters_is_the_longest)
{
    char path[128] = "/v1/videos/";
    const size_t len = strlen(path);

    memset(path + len, 'a', 64);
    EXPECT_INT(router_find(HTTP_GET, path, &match), ROUTER_FOUND);
    EXPECT_INT(strlen(match.id), 64);
    path[len + 64] = 'a';
    EXPECT_INT(router_find(HTTP_GET, path, &match), ROUTER_BAD_VIDEO);
}
