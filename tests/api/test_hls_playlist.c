#include "api/hls_playlist.h"

#include <stdio.h>
#include <string.h>

#include "engine/geometry.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

#define HEAD(target)                                                                               \
    "#EXTM3U\n"                                                                                    \
    "#EXT-X-VERSION:7\n"                                                                           \
    "#EXT-X-TARGETDURATION:" target "\n"                                                           \
    "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n"                                                 \
    "#EXT-X-MEDIA-SEQUENCE:0\n"                                                                    \
    "#EXT-X-PLAYLIST-TYPE:EVENT\n"                                                                 \
    "#EXT-X-INDEPENDENT-SEGMENTS\n"                                                                \
    "#EXT-X-START:TIME-OFFSET=0\n"                                                                 \
    "#EXT-X-MAP:URI=\"init.mp4\"\n"

static const struct job_block blocks[] = {
    {.index = 0, .frames = 17, .bytes = 17000},
    {.index = 1, .frames = 12, .bytes = 24000},
    {.index = 2, .frames = 11, .bytes = 11000},
};

/* The caller ends it. */
static struct str media_of(struct hls_media m)
{
    struct str out;

    str_init(&out, HLS_MAX_BYTES);
    EXPECT(hls_write_media(&out, &m));
    return out;
}

static void expect_media(struct hls_media m, const char *text)
{
    struct str out = media_of(m);

    EXPECT_STR(str_get(&out), text);
    str_done(&out);
}

TEST(a_playlist_without_segments_has_a_head)
{
    const struct hls_media m = {.fps = 16, .longest_frames = 17};

    expect_media(m, HEAD("2"));
}

TEST(segments_are_listed_and_the_end_is_told)
{
    struct hls_media m = {.blocks = blocks, .n = 3, .fps = 16, .longest_frames = 17};

    expect_media(m, HEAD("2") "#EXTINF:1.06250,\nseg-00000.m4s\n#EXTINF:0.75000,\nseg-00001.m4s\n"
                              "#EXTINF:0.68750,\nseg-00002.m4s\n");
    m.n = 1;
    m.ended = true;
    expect_media(m, HEAD("2") "#EXTINF:1.06250,\nseg-00000.m4s\n#EXT-X-ENDLIST\n");
    m.n = 0;
    expect_media(m, HEAD("2") "#EXT-X-ENDLIST\n");
}

TEST(a_longer_playlist_begins_with_the_shorter_one)
{
    struct hls_media m = {.blocks = blocks, .fps = 23.976, .longest_frames = 17};
    struct str last = media_of(m);

    for (m.n = 1; m.n <= 3; m.n++) {
        struct str next;

        m.ended = m.n == 3;
        next = media_of(m);
        EXPECT(next.len > last.len);
        EXPECT(memcmp(next.data, last.data, last.len) == 0);
        str_done(&last);
        last = next;
    }
    str_done(&last);
}

TEST(the_target_is_whole_seconds_and_at_least_one)
{
    struct hls_media m = {.fps = 16, .longest_frames = 16};

    expect_media(m, HEAD("1"));
    m.longest_frames = 17;
    expect_media(m, HEAD("2"));
    m.longest_frames = 1;
    expect_media(m, HEAD("1"));
    m.longest_frames = 0;
    expect_media(m, HEAD("1"));
    m.fps = 1;
    m.longest_frames = 14400;
    expect_media(m, HEAD("14400"));
}

TEST(no_segment_is_longer_than_the_target)
{
    const struct hls_media m = {.blocks = blocks, .n = 2, .fps = 8, .longest_frames = 8};

    expect_media(m, HEAD("3") "#EXTINF:2.12500,\nseg-00000.m4s\n#EXTINF:1.50000,\nseg-00001.m4s\n");
}

TEST(a_playlist_of_the_longest_video_has_room)
{
    static struct job_block many[14400];
    const struct hls_media m = {.blocks = many, .n = ARRAY_LEN(many), .fps = 0.001, .ended = true};
    struct str out;

    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        many[i] = (struct job_block){.index = 99000 + (int64_t)i, .frames = 1, .bytes = 1};
    }
    out = media_of(m);
    EXPECT(strstr(str_get(&out), "\nseg-113399.m4s\n#EXT-X-ENDLIST\n") != NULL);
    str_done(&out);
}

TEST(the_master_says_what_is_there)
{
    struct hls_master m = {
        .blocks = blocks, .n = 3, .fps = 16, .width = 832, .height = 480, .codec = "avc1.64001e"};
    struct str out;

    str_init(&out, HLS_MAX_BYTES);
    EXPECT(hls_write_master(&out, &m));
    /* the second block: 24000 bytes in 0.75 s; together 52000 in 2.5 s */
    EXPECT_STR(str_get(&out), "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n"
                              "#EXT-X-STREAM-INF:BANDWIDTH=256000,AVERAGE-BANDWIDTH=166400,"
                              "CODECS=\"avc1.64001e\",RESOLUTION=832x480,FRAME-RATE=16.000\n"
                              "index.m3u8\n");
    str_done(&out);
    m.n = 0;
    m.fps = 23.976;
    str_init(&out, HLS_MAX_BYTES);
    EXPECT(hls_write_master(&out, &m));
    EXPECT(strstr(str_get(&out), "BANDWIDTH=1149007,AVERAGE-BANDWIDTH=1149007,") != NULL);
    EXPECT(strstr(str_get(&out), "FRAME-RATE=23.976\n") != NULL);
    str_done(&out);
}

/* ---- the longest block ---- */

static int64_t longest_of(int64_t frames, int64_t stride, int64_t per_block)
{
    const int64_t total = geometry_latent_frames(frames, stride);
    const int64_t n = geometry_block_count(total, per_block);
    int64_t longest = 0;

    for (int64_t i = 0; i < n; i++) {
        const struct geometry_block b = geometry_block(frames, stride, per_block, i);

        longest = b.n_pictures > longest ? b.n_pictures : longest;
    }
    return longest;
}

static void compare_with_the_engine(int64_t stride, int64_t per_block)
{
    const struct model_facts facts = {.causal = true,
                                      .frame_multiple = (int)stride,
                                      .frame_offset = 1,
                                      .block_frames = per_block * stride};

    for (int64_t frames = 1; frames <= 400; frames++) {
        EXPECT_INT(hls_longest_block(&facts, frames), longest_of(frames, stride, per_block));
    }
}

TEST(the_longest_block_is_the_one_that_the_engine_plans)
{
    for (int64_t per_block = 1; per_block <= 11; per_block++) {
        compare_with_the_engine(4, per_block);
        compare_with_the_engine(8, per_block);
    }
}

TEST(a_clip_that_is_decoded_whole_is_one_block)
{
    struct model_facts facts = {
        .frame_multiple = 8, .frame_offset = 1, .block_frames = 81, .default_frames = 81};

    EXPECT_INT(hls_longest_block(&facts, 81), 81);
    EXPECT_INT(hls_longest_block(&facts, 400), 400);
    facts.block_frames = 64; /* by sanad.json: divides */
    facts.default_frames = 64;
    EXPECT_INT(hls_longest_block(&facts, 400), 400);
}

/* ---- names ---- */

TEST(names_of_segments)
{
    static const struct {
        const char *name;
        int64_t index; /* -1: none */
    } rows[] = {
        {"seg-00000.m4s", 0},
        {"seg-00012.m4s", 12},
        {"seg-99999.m4s", 99999},
        {"seg-100000.m4s", 100000},
        {"seg-999999999999.m4s", 999999999999},
        {"seg-9999999999999.m4s", -1},
        {"seg-99999999999999999999999.m4s", -1},
        {"seg-0.m4s", -1},
        {"seg-000012.m4s", -1},
        {"seg-.m4s", -1},
        {"seg.m4s", -1},
        {"seg-0000x.m4s", -1},
        {"seg--0001.m4s", -1},
        {"seg-00001.mp4", -1},
        {"sEg-00001.m4s", -1},
        {"seg-00001.m4sx", -1},
        {"init.mp4", -1},
        {"", -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t index = -1;

        EXPECT(hls_segment_index(rows[i].name, strlen(rows[i].name), &index) ==
               (rows[i].index >= 0));
        EXPECT_INT(index, rows[i].index);
    }
    for (size_t len = 0; len < strlen("seg-00001.m4s"); len++) {
        int64_t index;

        EXPECT(!hls_segment_index("seg-00001.m4s", len, &index));
    }
}

TEST(out_of_memory_is_told)
{
    const struct hls_media media = {.blocks = blocks, .n = 3, .fps = 16, .ended = true};
    const struct hls_master master = {.blocks = blocks, .n = 3, .fps = 16, .codec = "avc1.64001e"};

    for (long n = 1;; n++) {
        struct str out;
        bool ok;
        bool failed;

        str_init(&out, HLS_MAX_BYTES);
        alloc_fail_at(n);
        ok = hls_write_media(&out, &media) && hls_write_master(&out, &master);
        failed = alloc_fail_stop();
        EXPECT(ok == !failed);
        str_done(&out);
        if (!failed) {
            EXPECT(n > 1);
            break;
        }
    }
}
