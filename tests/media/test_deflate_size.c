#include "media/deflate_size.h"

#include <libavcodec/avcodec.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/support/test.h"

enum {
    ALL = 1 << 30
};

/* Made with zlib 1.2.13. */
static const struct {
    const char *bytes;
    size_t len;
    uint64_t size;
} known[] = {
    {"\x78\xda\x03\x00\x00\x00\x00\x01", 8, 0},
    {"\x78\xda\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27", 11, 3}, /* "abc", fixed codes */
    {"\x78\xda\x4b\x4c\x1c\x05\xa3\x60\x14\x0c\x77\x00\x00\xf9\x87\x7a\x5f", 17, 1000}, /* copies */
    {"\x78\x01\x00\x02\x00\xfd\xffhi\x01\x01\x00\xfe\xff!\x05\xfa\x01\xf2", 19,
     3}, /* two stored blocks */
};

TEST(deflate_size_of_known_streams)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        EXPECT_INT(deflate_size((const uint8_t *)known[i].bytes, known[i].len, ALL), known[i].size);
    }
    EXPECT_INT(deflate_size((const uint8_t *)known[2].bytes, known[2].len, 100), 100);
}

TEST(deflate_size_refuses_bad_streams)
{
    static const char *const bad[] = {
        "\x79\xda\x4b\x4c\x4a\x06",         /* another method */
        "\x78\xdb\x4b\x4c\x4a\x06",         /* header checksum */
        "\x78\xf9\x4b\x4c\x4a\x06",         /* preset dictionary */
        "\x78\xda\x07\xff\xff\xff",         /* block type 3 */
        "\x78\xda\x01\x01\x01\xff\xff\xff", /* a stored length that is not its complement */
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(deflate_size((const uint8_t *)bad[i], 6, ALL), 0);
    }
    EXPECT_INT(deflate_size((const uint8_t *)"\x78", 1, ALL), 0);
    EXPECT_INT(deflate_size((const uint8_t *)"", 0, ALL), 0);
}

/* The compressed rows of a PNG that libavcodec (zlib) made of w x h random or smooth RGB pixels. */
static struct str make_rows(int w, int h, int noise, int level)
{
    AVCodecContext *codec = avcodec_alloc_context3(avcodec_find_encoder(AV_CODEC_ID_PNG));
    AVFrame *f = av_frame_alloc();
    AVPacket *packet = av_packet_alloc();
    struct str s;
    uint32_t random = 1;

    EXPECT(codec && f && packet);
    f->format = AV_PIX_FMT_RGB24;
    f->width = w;
    f->height = h;
    EXPECT(av_frame_get_buffer(f, 0) == 0);
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w * 3; x++) {
            random = random * 1664525 + 1013904223;
            f->data[0][y * f->linesize[0] + x] =
                (uint8_t)((x * x / 50 + y * 2) + (noise ? (int)(random >> 24) % noise : 0));
        }
    }
    codec->width = w;
    codec->height = h;
    codec->pix_fmt = AV_PIX_FMT_RGB24;
    codec->time_base = (AVRational){1, 1};
    codec->compression_level = level;
    EXPECT(avcodec_open2(codec, NULL, NULL) == 0);
    EXPECT(avcodec_send_frame(codec, f) == 0 && avcodec_receive_packet(codec, packet) == 0);
    str_init(&s, 1 << 24);
    for (int at = 8; at < packet->size;) {
        const uint8_t *p = packet->data + at;
        const size_t len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];

        if (memcmp(p + 4, "IDAT", 4) == 0) {
            EXPECT(str_append(&s, p + 8, len));
        }
        at += (int)len + 12;
    }
    av_packet_free(&packet);
    av_frame_free(&f);
    avcodec_free_context(&codec);
    return s;
}

TEST(deflate_size_of_what_zlib_makes)
{
    static const int noise[] = {0, 2, 5, 20, 100, 256};

    for (size_t i = 0; i < ARRAY_LEN(noise); i++) {
        for (int level = 0; level <= 9; level += 3) {
            struct str rows = make_rows(150, 101, noise[i], level);

            EXPECT_INT(deflate_size((const uint8_t *)rows.data, rows.len, ALL),
                       101 * (1 + 150 * 3));
            str_done(&rows);
        }
    }
}

TEST(deflate_size_is_less_when_cut_off)
{
    struct str rows = make_rows(40, 32, 5, 9);
    uint64_t last = 0;

    /* but for the checksum and the end code */
    for (size_t len = 0; len + 7 < rows.len; len += 5) {
        uint8_t *copy = test_alloc(len); /* so that ASan sees one byte too far */

        memcpy(copy, rows.data, len);
        const uint64_t size = deflate_size(copy, len, ALL);

        EXPECT(size >= last && size < (uint64_t)32 * (1 + 40 * 3));
        last = size;
        free(copy);
    }
    str_done(&rows);
}

TEST(deflate_size_survives_every_changed_byte)
{
    struct str rows = make_rows(40, 32, 5, 9);

    for (size_t at = 0; at < rows.len; at++) {
        for (int bit = 0; bit < 8; bit += 3) {
            rows.data[at] = (char)(rows.data[at] ^ (1 << bit));
            EXPECT(deflate_size((const uint8_t *)rows.data, rows.len, 100000) <= 100000);
            rows.data[at] = (char)(rows.data[at] ^ (1 << bit));
        }
    }
    str_done(&rows);
}
