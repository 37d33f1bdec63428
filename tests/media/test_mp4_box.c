#include "media/mp4_box.h"

#include "tests/support/test.h"

/* aaaa { bbbb { 1 byte }, cccc { dddd {} } }, eeee { 2 bytes } */
static const uint8_t file[] = {0,   0, 0, 33, 'a', 'a', 'a', 'a', 0,   0, 0, 9, 'b', 'b', 'b', 'b',
                               7,   0, 0, 0,  16,  'c', 'c', 'c', 'c', 0, 0, 0, 8,   'd', 'd', 'd',
                               'd', 0, 0, 0,  10,  'e', 'e', 'e', 'e', 1, 2};

static const uint8_t *find(size_t len, const char *path, size_t want_len)
{
    size_t got = 999;
    const uint8_t *body = mp4_box_find(file, len, path, &got);

    EXPECT_INT(body ? got : 999, body ? want_len : 999);
    return body;
}

TEST(mp4_box_find_follows_the_path)
{
    EXPECT(find(sizeof(file), "aaaa", 25) == file + 8);
    EXPECT(find(sizeof(file), "aaaa.bbbb", 1) == file + 16);
    EXPECT(find(sizeof(file), "aaaa.cccc", 8) == file + 25);
    EXPECT(find(sizeof(file), "aaaa.cccc.dddd", 0) == file + 33);
    EXPECT(find(sizeof(file), "eeee", 2) == file + 41);
    EXPECT(!find(sizeof(file), "bbbb", 0));
    EXPECT(!find(sizeof(file), "aaaa.eeee", 0));
    EXPECT(!find(sizeof(file), "aaaa.bbbb.cccc", 0));
}

TEST(mp4_box_find_trusts_no_length)
{
    uint8_t bad[16] = {0, 0, 0, 17, 'a', 'a', 'a', 'a'};
    size_t len;

    for (size_t n = 0; n < 33; n++) {
        EXPECT(!find(n, "aaaa", 0));
    }
    EXPECT(!find(42, "eeee", 0));
    EXPECT(!mp4_box_find(bad, sizeof(bad), "aaaa", &len)); /* longer than the file */
    bad[3] = 7;
    EXPECT(!mp4_box_find(bad, sizeof(bad), "aaaa", &len)); /* shorter than its own head */
    bad[3] = 0;
    EXPECT(!mp4_box_find(bad, sizeof(bad), "bbbb", &len)); /* would not go on */
    bad[0] = 0xff;
    EXPECT(!mp4_box_find(bad, sizeof(bad), "aaaa", &len));
}

TEST(mp4_box_numbers_are_big_endian)
{
    uint8_t b[4];

    mp4_box_put32(b, 0xfedcba98U);
    EXPECT_INT(b[0], 0xfe);
    EXPECT_INT(b[3], 0x98);
    EXPECT_INT(mp4_box_get32(b), 0xfedcba98U);
}
