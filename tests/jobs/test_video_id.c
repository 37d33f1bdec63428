#include "jobs/video_id.h"

#include <string.h>

#include "tests/support/test.h"

TEST(video_id_is_a_ulid)
{
    struct video_id_generator g = {0};
    char id[VIDEO_ID_LENGTH + 1];
    struct err err;

    EXPECT_OK(
        video_id_next(&g, 1469922850259, id, &err)); /* the example of the ULID specification */
    EXPECT_INT(strlen(id), VIDEO_ID_LENGTH);
    EXPECT(strncmp(id, "video_01arz3ndek", 16) == 0);
    EXPECT_INT(strspn(id + 6, "0123456789abcdefghjkmnpqrstvwxyz"), 26);
    EXPECT(video_id_acceptable(id));
}

TEST(video_id_never_falls)
{
    struct video_id_generator g = {0};
    char last[VIDEO_ID_LENGTH + 1] = "";
    struct err err;

    for (int i = 0; i < 10000; i++) {
        char id[VIDEO_ID_LENGTH + 1];
        const int64_t now =
            1795225815000 + (i / 100) - (i % 7 == 0 ? 5000 : 0); /* clocks go back */

        EXPECT_OK(video_id_next(&g, now, id, &err));
        EXPECT(strcmp(last, id) < 0);
        memcpy(last, id, sizeof(last));
    }
}

TEST(video_id_goes_on_when_the_random_part_is_full)
{
    struct video_id_generator g = {.last_ms = 1795225815000};
    struct video_id_generator same = {.last_ms = 1795225815000};
    char before[VIDEO_ID_LENGTH + 1];
    char id[VIDEO_ID_LENGTH + 1];
    struct err err;

    memset(g.random, 0xff, sizeof(g.random));
    same.random[0] = 0xff;
    EXPECT_OK(video_id_next(&same, 1795225815000, before, &err));
    EXPECT_OK(video_id_next(&g, 1795225815000, id, &err));
    EXPECT_INT(g.last_ms, 1795225815001);
    EXPECT(strcmp(before, id) < 0);
}

TEST(video_id_encodes_all_bits)
{
    struct video_id_generator g = {.last_ms = 0xffffffffffff};
    char id[VIDEO_ID_LENGTH + 1];
    struct err err;

    memset(g.random, 0xff, sizeof(g.random));
    g.random[5] = 0; /* room to count up without touching what is in front */
    EXPECT_OK(video_id_next(&g, 0, id, &err));
    EXPECT(strncmp(id, "video_7zzzzzzzzzzzzzzzzz", 24) == 0);
}

TEST(video_id_accepts_ids_of_paths)
{
    static const char *const no[] = {"", "a b", "a/b", "../x", "\xc3\xa4", "a.b", "a?"};
    char longest[VIDEO_ID_MAX + 2];

    memset(longest, 'a', sizeof(longest));
    longest[VIDEO_ID_MAX + 1] = '\0';
    EXPECT(!video_id_acceptable(longest));
    longest[VIDEO_ID_MAX] = '\0';
    EXPECT(video_id_acceptable(longest));
    EXPECT(video_id_acceptable("A-z_09"));
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        EXPECT(!video_id_acceptable(no[i]));
    }
}
