#include "media/image.h"

#include <libavcodec/avcodec.h>
#include <libavutil/adler32.h>
#include <libavutil/crc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "tests/media/sample_images.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

enum {
    W = 40,
    H = 32
}; /* of the samples */

static const uint8_t field[4][3] = {{220, 30, 40}, {30, 200, 60}, {20, 60, 230}, {250, 250, 250}};

static void add(struct str *s, const void *data, size_t len)
{
    EXPECT(str_append(s, data, len));
}

static void add_be32(struct str *s, uint32_t v)
{
    const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    add(s, b, 4);
}

static const uint8_t *bytes(const struct str *s)
{
    return (const uint8_t *)s->data;
}

static const uint8_t *pixel(const struct image *image, int x, int y)
{
    return image->rgb + ((ptrdiff_t)y * image->width + x) * 3;
}

/* The fields' middles, which no compression blurs. */
static void expect_fields(const struct image *image, int tolerance)
{
    const int w = image->width;
    const int h = image->height;

    for (int i = 0; i < 4; i++) {
        const uint8_t *p = pixel(image, i % 2 * w / 2 + w / 4, i / 2 * h / 2 + h / 4);

        for (int k = 0; k < 3; k++) {
            EXPECT(abs(p[k] - field[i][k]) <= tolerance);
        }
    }
}

static void expect_refused(const void *data, size_t len, int code, const char *part)
{
    struct image image;
    struct err err;
    /* exactly as long as said, so that ASan sees one byte too far */
    uint8_t *copy = test_alloc(len);

    if (len > 0) {
        memcpy(copy, data, len);
    }
    EXPECT_INT(image_read(&image, copy, len, &err), code);
    EXPECT_CONTAINS(err.msg, part);
    free(copy);
}

/* ---- PNG, written by hand: stored deflate blocks ---- */

static void png_chunk(struct str *s, const char *name, const void *body, size_t len)
{
    const AVCRC *table = av_crc_get_table(AV_CRC_32_IEEE_LE);
    const size_t start = s->len + 4;

    add_be32(s, (uint32_t)len);
    add(s, name, 4);
    add(s, body, len);
    add_be32(s, av_crc(table, UINT32_MAX, bytes(s) + start, len + 4) ^ UINT32_MAX);
}

static void png_start(struct str *s, uint32_t width, uint32_t height, int depth, int type,
                      int interlace)
{
    struct str head;
    const uint8_t rest[5] = {(uint8_t)depth, (uint8_t)type, 0, 0, (uint8_t)interlace};

    str_init(s, 1 << 24);
    str_init(&head, 64);
    add(s, "\x89PNG\r\n\x1a\n", 8);
    add_be32(&head, width);
    add_be32(&head, height);
    add(&head, rest, 5);
    png_chunk(s, "IHDR", head.data, head.len);
    str_done(&head);
}

static void png_end(struct str *s, const uint8_t *raw, size_t len)
{
    struct str z;
    size_t at = 0;

    str_init(&z, 1 << 24);
    add(&z, "\x78\x01", 2);
    do {
        const size_t n = len - at > 65535 ? 65535 : len - at;
        const uint8_t head[5] = {at + n == len, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n,
                                 (uint8_t)(~n >> 8)};

        add(&z, head, 5);
        add(&z, raw + at, n);
        at += n;
    } while (at < len);
    add_be32(&z, av_adler32_update(1, raw, (unsigned)len));
    png_chunk(s, "IDAT", z.data, z.len);
    png_chunk(s, "IEND", "", 0);
    str_done(&z);
}

struct png_type {
    int depth, type, samples;
};

static const struct png_type png_types[] = {
    {1, 0, 1}, {2, 0, 1}, {4, 0, 1}, {8, 0, 1}, {16, 0, 1}, {8, 2, 3}, {16, 2, 3}, {1, 3, 1},
    {2, 3, 1}, {4, 3, 1}, {8, 3, 1}, {8, 4, 2}, {16, 4, 2}, {8, 6, 4}, {16, 6, 4}};

/* Random picture of w x h: samples [h, w, t->samples], one byte each (of 16 bits the upper). */
static uint8_t *random_samples(int n, int depth)
{
    float *f = test_alloc((size_t)n * sizeof(*f));
    uint8_t *s = test_alloc((size_t)n);

    test_fill(f, n, 5);
    for (int i = 0; i < n; i++) {
        s[i] = (uint8_t)((int)((f[i] + 1) * 128) & (depth >= 8 ? 255 : (1 << depth) - 1));
    }
    free(f);
    return s;
}

/* Samples of a row, packed: depth bits each, the first uppermost. */
struct packer {
    struct str *raw;
    int depth;
    int bits;
    int n_bits;
};

static void pack(struct packer *p, uint8_t v)
{
    if (p->depth >= 8) {
        add(p->raw, &v, 1);
        add(p->raw, "\x5a", p->depth == 16); /* the lower byte */
        return;
    }
    p->bits = p->bits << p->depth | v;
    p->n_bits += p->depth;
    if (p->n_bits == 8) {
        const uint8_t b = (uint8_t)p->bits;

        add(p->raw, &b, 1);
        p->bits = p->n_bits = 0;
    }
}

/* One pass (of 1, or of Adam7's 7) in PNG's row format: filter byte 0, samples packed. */
static void png_pass(struct str *raw, const uint8_t *s, int w, int h, const struct png_type *t,
                     const int pass[4])
{
    for (int y = pass[1]; y < h; y += pass[3]) {
        struct packer p = {.raw = raw, .depth = t->depth};

        if (pass[0] >= w) {
            return;
        }
        add(raw, "", 1);
        for (int x = pass[0]; x < w; x += pass[2]) {
            for (int k = 0; k < t->samples; k++) {
                pack(&p, s[((ptrdiff_t)y * w + x) * t->samples + k]);
            }
        }
        while (p.n_bits > 0) {
            pack(&p, 0);
        }
    }
}

static uint8_t palette(int index, int k)
{
    return (uint8_t)(index * 7 + k * 50);
}

static uint8_t png_expected(const uint8_t *s, const struct png_type *t, int pixel, int k)
{
    switch (t->type) {
    case 3:
        return palette(s[pixel], k);
    case 2:
    case 6:
        return s[(ptrdiff_t)pixel * t->samples + k];
    default:
        return (uint8_t)(s[(ptrdiff_t)pixel * t->samples] * 255 /
                         (t->depth >= 8 ? 255 : (1 << t->depth) - 1));
    }
}

/* A PNG of random samples; the last `missing` bytes of the rows are left out. */
static struct str make_png(const uint8_t *samples, int w, int h, const struct png_type *t,
                           int interlace, size_t missing)
{
    static const int whole[4] = {0, 0, 1, 1};
    static const int adam7[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                    {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
    struct str raw;
    struct str png;

    str_init(&raw, 1 << 24);
    if (interlace) {
        for (int i = 0; i < 7; i++) {
            png_pass(&raw, samples, w, h, t, adam7[i]);
        }
    } else {
        png_pass(&raw, samples, w, h, t, whole);
    }
    png_start(&png, (uint32_t)w, (uint32_t)h, t->depth, t->type, interlace);
    if (t->type == 3) {
        uint8_t colours[768];

        for (int i = 0; i < 768; i++) {
            colours[i] = palette(i / 3, i % 3);
        }
        png_chunk(&png, "PLTE", colours, (size_t)3 << t->depth);
        png_chunk(&png, "tRNS", "\0\x80", 2); /* alpha is dropped */
    }
    png_end(&png, bytes(&raw), raw.len - missing);
    str_done(&raw);
    return png;
}

TEST(image_reads_every_kind_of_png_exactly)
{
    enum {
        PW = 37,
        PH = 33
    };
    struct err err;

    for (size_t i = 0; i < 2 * ARRAY_LEN(png_types); i++) {
        const struct png_type *t = &png_types[i / 2];
        uint8_t *s = random_samples(PW * PH * t->samples, t->depth);
        struct str png = make_png(s, PW, PH, t, (int)(i % 2), 0);
        struct image image;

        EXPECT_OK(image_read(&image, bytes(&png), png.len, &err));
        EXPECT_INT(image.width, PW);
        EXPECT_INT(image.height, PH);
        for (int p = 0; p < PW * PH * 3; p++) {
            EXPECT_INT(image.rgb[p], png_expected(s, t, p / 3, p % 3));
        }
        image_done(&image);
        str_done(&png);
        free(s);
    }
}

/* A valid file whose compressed rows end too early: libavcodec would make up the rest. */
TEST(image_refuses_png_with_rows_missing)
{
    for (size_t i = 0; i < 2 * ARRAY_LEN(png_types); i++) {
        const struct png_type *t = &png_types[i / 2];
        uint8_t *s = random_samples(W * H * t->samples, t->depth);

        for (size_t missing = 1; missing < 6; missing += 4) {
            struct str png = make_png(s, W, H, t, (int)(i % 2), missing);

            expect_refused(png.data, png.len, ERR_FORMAT, "damaged");
            str_done(&png);
        }
        free(s);
    }
}

TEST(image_refuses_png_that_is_not_well_formed)
{
    static const struct png_type t = {8, 2, 3};
    uint8_t *s = random_samples(W * H * 3, 8);
    struct str png = make_png(s, W, H, &t, 0, 0);
    struct str bad;

    /* a checksum */
    png.data[png.len - 20] ^= 1;
    expect_refused(png.data, png.len, ERR_FORMAT, "checksum");
    str_done(&png);
    free(s);
    /* no IDAT; an IDAT first; IHDR twice; IHDR of another length */
    png_start(&bad, W, H, 8, 2, 0);
    png_chunk(&bad, "IEND", "", 0);
    expect_refused(bad.data, bad.len, ERR_FORMAT, "IDAT");
    bad.len = 8;
    png_chunk(&bad, "IDAT", "", 0);
    expect_refused(bad.data, bad.len, ERR_FORMAT, "IHDR");
    str_done(&bad);
    png_start(&bad, W, H, 8, 2, 0);
    add(&bad, bytes(&bad) + 8, 25);
    expect_refused(bad.data, bad.len, ERR_FORMAT, "IHDR");
    bad.len = 8;
    png_chunk(&bad, "IHDR", "0123456789ab", 12);
    expect_refused(bad.data, bad.len, ERR_FORMAT, "IHDR");
    str_done(&bad);
    /* a depth that colour type 2 does not have */
    png_start(&bad, W, H, 3, 2, 0);
    png_end(&bad, (const uint8_t *)"", 0);
    expect_refused(bad.data, bad.len, ERR_FORMAT, "damaged");
    str_done(&bad);
}

/* Of an animated PNG the default picture; other chunks are not even looked at. */
TEST(image_reads_the_default_picture_of_an_animated_png)
{
    struct str png;
    struct image image;
    struct err err;
    const size_t head = 8 + 25; /* magic, IHDR */

    str_init(&png, 1 << 20);
    add(&png, sample_png, head);
    png_chunk(&png, "acTL", "\0\0\0\2\0\0\0\0", 8);
    png_chunk(&png, "fcTL", "\0\0\0\0\0\0\0\x28\0\0\0\x20\0\0\0\0\0\0\0\0\0\1\0\2\0\0", 26);
    png_chunk(&png, "zTXt", "hostile\0\0not compressed at all", 30);
    png_chunk(&png, "iCCP", "hostile\0\0not compressed at all", 30);
    png.data[png.len - 1] ^= 1; /* its checksum is of no interest either */
    add(&png, sample_png + head, sizeof(sample_png) - head - 12);
    png_chunk(&png, "fdAT", "\0\0\0\1garbage", 11);
    png_chunk(&png, "IEND", "", 0);
    add(&png, "behind the end", 14);
    EXPECT_OK(image_read(&image, bytes(&png), png.len, &err));
    EXPECT_INT(image.width, W);
    expect_fields(&image, 0);
    image_done(&image);
    str_done(&png);
}

/* ---- JPEG through libavcodec's encoder ---- */

/* Smooth planes; returns the file. */
static struct str make_jpeg(int w, int h, enum AVPixelFormat format, int sx, int sy)
{
    AVCodecContext *codec = avcodec_alloc_context3(avcodec_find_encoder(AV_CODEC_ID_MJPEG));
    AVFrame *f = av_frame_alloc();
    AVPacket *packet = av_packet_alloc();
    struct str s;

    EXPECT(codec && f && packet);
    f->format = format;
    f->width = w;
    f->height = h;
    EXPECT(av_frame_get_buffer(f, 0) == 0);
    for (int p = 0; p < 3; p++) {
        for (int y = 0; y < (p ? (h + sy) >> sy : h); y++) {
            for (int x = 0; x < (p ? (w + sx) >> sx : w); x++) {
                const double fx = p ? ((x + 0.5) * (1 << sx)) : x + 0.5;
                const double fy = p ? ((y + 0.5) * (1 << sy)) : y + 0.5;

                f->data[p][y * f->linesize[p] + x] =
                    (uint8_t)(128 + 60 * sin(fx / 15 + p) * cos(fy / 11 - p) + 0.5);
            }
        }
    }
    codec->width = w;
    codec->height = h;
    codec->pix_fmt = format;
    codec->time_base = (AVRational){1, 1};
    codec->flags |= AV_CODEC_FLAG_QSCALE;
    codec->global_quality = FF_QP2LAMBDA;
    f->quality = FF_QP2LAMBDA;
    EXPECT(avcodec_open2(codec, NULL, NULL) == 0);
    EXPECT(avcodec_send_frame(codec, f) == 0 && avcodec_receive_packet(codec, packet) == 0);
    str_init(&s, 1 << 24);
    add(&s, packet->data, (size_t)packet->size);
    av_packet_free(&packet);
    av_frame_free(&f);
    avcodec_free_context(&codec);
    return s;
}

/* dB against the formula that make_jpeg's planes follow, through BT.601 full range. */
static double jpeg_psnr(const struct image *image)
{
    double sum = 0;

    for (int y = 0; y < image->height; y++) {
        for (int x = 0; x < image->width; x++) {
            double v[3];
            double want[3];

            for (int p = 0; p < 3; p++) {
                v[p] = 60 * sin((x + 0.5) / 15 + p) * cos((y + 0.5) / 11 - p);
            }
            want[0] = 128 + v[0] + 1.402 * v[2];
            want[1] = 128 + v[0] - 0.344136 * v[1] - 0.714136 * v[2];
            want[2] = 128 + v[0] + 1.772 * v[1];
            for (int k = 0; k < 3; k++) {
                const double d = pixel(image, x, y)[k] - fmin(fmax(want[k], 0), 255);

                sum += d * d;
            }
        }
    }
    return 10 * log10(255.0 * 255 * image->width * image->height * 3 / sum);
}

TEST(image_reads_jpeg_of_every_chroma_layout)
{
    static const struct {
        enum AVPixelFormat format;
        int sx, sy;
    } layout[] = {
        {AV_PIX_FMT_YUVJ444P, 0, 0}, {AV_PIX_FMT_YUVJ422P, 1, 0}, {AV_PIX_FMT_YUVJ420P, 1, 1}};

    for (size_t i = 0; i < ARRAY_LEN(layout); i++) {
        struct str jpeg = make_jpeg(101, 75, layout[i].format, layout[i].sx, layout[i].sy);
        struct image image;
        struct err err;

        EXPECT_OK(image_read(&image, bytes(&jpeg), jpeg.len, &err));
        EXPECT_INT(image.width, 101);
        EXPECT_INT(image.height, 75);
        EXPECT(jpeg_psnr(&image) > 44);
        image_done(&image);
        str_done(&jpeg);
    }
}

TEST(image_reads_the_samples)
{
    static const struct {
        const uint8_t *data;
        size_t len;
        int tolerance;
    } sample[] = {{sample_png, sizeof(sample_png), 0},
                  {sample_png_palette, sizeof(sample_png_palette), 0},
                  {sample_jpeg, sizeof(sample_jpeg), 2},
                  {sample_jpeg_progressive, sizeof(sample_jpeg_progressive), 2},
                  {sample_webp, sizeof(sample_webp), 3},
                  {sample_webp_lossless, sizeof(sample_webp_lossless), 0}};
    struct image image;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(sample); i++) {
        EXPECT_OK(image_read(&image, sample[i].data, sample[i].len, &err));
        EXPECT_INT(image.width, W);
        EXPECT_INT(image.height, H);
        expect_fields(&image, sample[i].tolerance);
        image_done(&image);
    }
    EXPECT_OK(image_read(&image, sample_jpeg_gray, sizeof(sample_jpeg_gray), &err));
    for (int k = 0; k < 3; k++) {
        EXPECT(abs(image.rgb[k] - 88) <= 2); /* 0.299 220 + 0.587 30 + 0.114 40 */
    }
    image_done(&image);
}

/* Puts bytes behind the SOI. */
static struct str jpeg_with(const uint8_t *jpeg, size_t len, const void *segment, size_t n)
{
    struct str s;

    str_init(&s, 1 << 24);
    add(&s, jpeg, 2);
    add(&s, segment, n);
    add(&s, jpeg + 2, len - 2);
    return s;
}

/* Adobe's marker with transform 0: the components are R, G and B. */
TEST(image_reads_rgb_jpeg_as_it_is)
{
    static const uint8_t adobe[] = "\xff\xee\0\x0e"
                                   "Adobe\0\x64\0\0\0\0\0";
    struct image image;
    struct err err;
    /* without the JFIF marker, which says YCbCr */
    const size_t jfif = 2 + 16;
    struct str s;

    EXPECT(memcmp(sample_jpeg_progressive + 2, "\xff\xe0\0\x10JFIF", 8) == 0);
    str_init(&s, 1 << 20);
    add(&s, sample_jpeg_progressive, 2);
    add(&s, adobe, 16);
    add(&s, sample_jpeg_progressive + 2 + jfif, sizeof(sample_jpeg_progressive) - 2 - jfif);
    EXPECT_OK(image_read(&image, bytes(&s), s.len, &err));
    /* the first field's Y, Cb, Cr */
    EXPECT(abs(image.rgb[0] - 88) <= 2 && abs(image.rgb[1] - 101) <= 2 &&
           abs(image.rgb[2] - 222) <= 2);
    image_done(&image);
    str_done(&s);
}

TEST(image_applies_exif_orientation)
{
    /* which field comes to the upper left, upper right, lower left, lower right */
    static const int want[8][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {3, 2, 1, 0}, {2, 3, 0, 1},
                                   {0, 2, 1, 3}, {2, 0, 3, 1}, {3, 1, 2, 0}, {1, 3, 0, 2}};
    struct err err;

    for (int o = 1; o <= 8; o++) {
        uint8_t exif[] = "\xff\xe1\0\x22"
                         "Exif\0\0MM\0\x2a\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0o\0\0\0\0\0\0";
        struct image image;

        exif[29] = (uint8_t)o;
        struct str s = jpeg_with(sample_jpeg_progressive, sizeof(sample_jpeg_progressive), exif,
                                 sizeof(exif) - 1);

        EXPECT_INT(s.len, sizeof(sample_jpeg_progressive) + 36);
        EXPECT_OK(image_read(&image, bytes(&s), s.len, &err));
        EXPECT_INT(image.width, o >= 5 ? H : W);
        EXPECT_INT(image.height, o >= 5 ? W : H);
        for (int i = 0; i < 4; i++) {
            const int x = i % 2 ? image.width - 3 : 2;
            const int y = i / 2 ? image.height - 3 : 2;

            for (int k = 0; k < 3; k++) {
                EXPECT(abs(pixel(&image, x, y)[k] - field[want[o - 1][i]][k]) <= 2);
            }
        }
        image_done(&image);
        str_done(&s);
    }
}

TEST(image_applies_orientation_of_png_and_webp)
{
    struct image image;
    struct err err;

    EXPECT_OK(
        image_read(&image, sample_png_exif, sizeof(sample_png_exif), &err)); /* 3: half a turn */
    EXPECT_INT(image.width, W);
    EXPECT(memcmp(image.rgb, field[3], 3) == 0);
    EXPECT(memcmp(pixel(&image, W - 1, H - 1), field[0], 3) == 0);
    image_done(&image);
    EXPECT_OK(
        image_read(&image, sample_webp_exif, sizeof(sample_webp_exif), &err)); /* 6: a quarter */
    EXPECT_INT(image.width, H);
    EXPECT_INT(image.height, W);
    for (int k = 0; k < 3; k++) {
        EXPECT(abs(image.rgb[k] - field[2][k]) <= 3);
    }
    image_done(&image);
}

TEST(image_refuses_what_it_says_it_refuses)
{
    uint8_t copy[sizeof(sample_jpeg)];
    const uint8_t *sof = memmem(sample_jpeg, sizeof(sample_jpeg), "\xff\xc0\0\x11\x08", 5);
    static const uint8_t markers[] = {0xc3, 0xc5, 0xc9, 0xca, 0xcf, 0xde};

    expect_refused(sample_jpeg_cmyk, sizeof(sample_jpeg_cmyk), ERR_UNSUPPORTED, "CMYK");
    expect_refused(sample_webp_animated, sizeof(sample_webp_animated), ERR_UNSUPPORTED, "animated");
    EXPECT(sof);
    memcpy(copy, sample_jpeg, sizeof(copy));
    copy[sof - sample_jpeg + 4] = 12; /* bits */
    expect_refused(copy, sizeof(copy), ERR_UNSUPPORTED, "12 bits");
    copy[sof - sample_jpeg + 4] = 8;
    for (size_t i = 0; i < sizeof(markers); i++) {
        copy[sof - sample_jpeg + 1] = markers[i];
        expect_refused(copy, sizeof(copy), ERR_UNSUPPORTED, "arithmetic");
    }
    expect_refused("GIF89a0123456789", 16, ERR_FORMAT, "not a PNG");
    expect_refused("", 0, ERR_FORMAT, "not a PNG");
    expect_refused("RIFF\0\0\0\0WAVE", 12, ERR_FORMAT, "not a PNG");
}

/* ---- limits, from the header alone ---- */

static void expect_png_size(uint32_t w, uint32_t h, const char *part)
{
    struct str png;

    png_start(&png, w, h, 8, 2, 0);
    png_end(&png, (const uint8_t *)"", 0);
    expect_refused(png.data, png.len, ERR_INVALID, part);
    str_done(&png);
}

TEST(image_refuses_sizes_over_the_limits_before_decoding)
{
    uint8_t jpeg[sizeof(sample_jpeg)];
    uint8_t webp[sizeof(sample_webp_exif)];
    const uint8_t *sof = memmem(sample_jpeg, sizeof(sample_jpeg), "\xff\xc0\0\x11\x08", 5);

    expect_png_size(60000, 60000, "60000x60000");
    expect_png_size(0, 0, "must be");
    expect_png_size(0, 64, "32 to 8192");
    expect_png_size(64, 0, "32 to 8192");
    expect_png_size(31, 64, "32 to 8192");
    expect_png_size(64, 31, "32 to 8192");
    expect_png_size(8193, 64, "32 to 8192");
    expect_png_size(64, 8193, "32 to 8192");
    expect_png_size(8000, 5001, "40 megapixels");
    expect_png_size(0xffffffff, 0xffffffff, "4294967295x4294967295");

    memcpy(jpeg, sample_jpeg, sizeof(jpeg));
    memset(jpeg + (sof - sample_jpeg) + 5, 0xea, 4); /* 60138 */
    expect_refused(jpeg, sizeof(jpeg), ERR_INVALID, "60138x60138");
    memset(jpeg + (sof - sample_jpeg) + 5, 0, 2);
    expect_refused(jpeg, sizeof(jpeg), ERR_INVALID, "must be");

    memcpy(webp, sample_webp_exif, sizeof(webp));
    memset(webp + 24, 0xff, 6); /* VP8X: 16777216 x 16777216 */
    expect_refused(webp, sizeof(webp), ERR_INVALID, "16777216x16777216");
    memset(webp + 24, 0, 6);
    expect_refused(webp, sizeof(webp), ERR_INVALID, "1x1");
    memcpy(webp, sample_webp,
           sizeof(webp) < sizeof(sample_webp) ? sizeof(webp) : sizeof(sample_webp));
    memset(webp + 26, 0xff, 4); /* VP8: 16383 x 16383 */
    expect_refused(webp, sizeof(sample_webp), ERR_INVALID, "16383x16383");
    memset(webp + 26, 0, 4);
    expect_refused(webp, sizeof(sample_webp), ERR_INVALID, "0x0");
}

TEST(image_reads_the_largest_it_allows)
{
    static const struct png_type grey = {1, 0, 1};
    enum {
        LW = 8192,
        LH = 4882
    }; /* 39,993,344 */
    struct image image;
    struct err err;
    struct str raw;
    struct str png;

    str_init(&raw, 1 << 23);
    str_init(&png, 1 << 23);
    for (int y = 0; y < LH; y++) {
        uint8_t row[1 + LW / 8] = {0};

        memset(row + 1, y % 2 ? 0xff : 0, sizeof(row) - 1);
        add(&raw, row, sizeof(row));
    }
    png_start(&png, LW, LH, grey.depth, grey.type, 0);
    png_end(&png, bytes(&raw), raw.len);
    EXPECT_OK(image_read(&image, bytes(&png), png.len, &err));
    EXPECT_INT(image.rgb[((size_t)LW * (LH - 1) + LW - 1) * 3], 255);
    EXPECT_INT(image.rgb[((size_t)LW * (LH - 2) + LW - 1) * 3], 0);
    image_done(&image);
    str_done(&png);
    str_done(&raw);
}

TEST(image_refuses_another_size_than_the_header_says)
{
    uint8_t webp[sizeof(sample_webp_exif)];

    memcpy(webp, sample_webp_exif, sizeof(webp));
    webp[24]++; /* the canvas one wider than the picture */
    expect_refused(webp, sizeof(webp), ERR_FORMAT, "size its header says");
}

TEST(image_refuses_a_jpeg_of_endless_scans)
{
    const uint8_t *jpeg = sample_jpeg_progressive;
    const size_t len = sizeof(sample_jpeg_progressive);
    const uint8_t *sos = memmem(jpeg, len, "\xff\xda", 2);
    struct str s;

    EXPECT(sos);
    str_init(&s, 1 << 20);
    add(&s, jpeg, (size_t)(sos - jpeg));
    for (int i = 0; i < 101; i++) {
        add(&s, sos, 20);
    }
    add(&s, "\xff\xd9", 2);
    expect_refused(s.data, s.len, ERR_INVALID, "scans");
    str_done(&s);
}

/* ---- hostile bytes ---- */

struct sample {
    const uint8_t *data;
    size_t len;
};

static const struct sample samples[] = {
    {sample_png, sizeof(sample_png)},
    {sample_png_exif, sizeof(sample_png_exif)},
    {sample_png_palette, sizeof(sample_png_palette)},
    {sample_jpeg, sizeof(sample_jpeg)},
    {sample_jpeg_progressive, sizeof(sample_jpeg_progressive)},
    {sample_jpeg_gray, sizeof(sample_jpeg_gray)},
    {sample_webp, sizeof(sample_webp)},
    {sample_webp_lossless, sizeof(sample_webp_lossless)},
    {sample_webp_exif, sizeof(sample_webp_exif)},
};

TEST(image_refuses_every_prefix)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        for (size_t len = 0; len < samples[i].len; len++) {
            expect_refused(samples[i].data, len, ERR_FORMAT, len < 12 ? "" : "cut off");
        }
    }
}

/* The container is whole, what is in it is not. (A VP8 decoder runs on into zeros for a while.) */
TEST(image_refuses_compressed_data_that_end_early)
{
    for (size_t cut = 5; cut < 60; cut += 5) {
        struct str jpeg;

        str_init(&jpeg, 1 << 20);
        add(&jpeg, sample_jpeg, sizeof(sample_jpeg) - 2 - cut);
        add(&jpeg, "\xff\xd9", 2);
        expect_refused(jpeg.data, jpeg.len, ERR_FORMAT, "damaged");
        str_done(&jpeg);
    }
    for (size_t half = 10; half < 60; half += 2) {
        uint8_t webp[sizeof(sample_webp)];

        memcpy(webp, sample_webp, sizeof(webp));
        webp[4] = (uint8_t)(12 + half);
        webp[16] = (uint8_t)half;
        expect_refused(webp, 20 + half, ERR_FORMAT, "damaged");
    }
}

/* Each byte as 0, 255 and with one bit changed: an image or an error, nothing else; and what is read
 * does not depend on what was in memory before. */
TEST(image_survives_every_changed_byte)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        uint8_t *copy = test_alloc(samples[i].len);

        for (size_t at = 0; at < samples[i].len * 3; at++) {
            struct image image = {0};
            struct err err;

            memcpy(copy, samples[i].data, samples[i].len);
            copy[at / 3] = at % 3 == 0 ? 0 : at % 3 == 1 ? 255 : copy[at / 3] ^ 16;
            if (image_read(&image, copy, samples[i].len, &err) == ERR_OK) {
                EXPECT(image.width >= IMAGE_MIN_SIDE && image.width <= IMAGE_MAX_SIDE);
                EXPECT(image.height >= IMAGE_MIN_SIDE && image.height <= IMAGE_MAX_SIDE);
            }
            image_done(&image);
        }
        free(copy);
    }
}

TEST(image_ignores_bytes_behind_the_end)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct image image;
        struct err err;
        struct str s;

        str_init(&s, 1 << 20);
        add(&s, samples[i].data, samples[i].len);
        add(&s, "\xff\xd8\xff\xe1 more", 9);
        EXPECT_OK(image_read(&image, bytes(&s), s.len, &err));
        image_done(&image);
        str_done(&s);
    }
}

/* ---- files ---- */

TEST(image_read_file_reads_and_names_the_file)
{
    char path[300];
    struct image image;
    struct err err;
    FILE *f;

    snprintf(path, sizeof(path), "%s/picture", test_dir());
    EXPECT_INT(image_read_file(&image, path, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, path);
    EXPECT_INT(image_read_file(&image, test_dir(), &err), ERR_FORMAT);
    f = fopen(path, "wbe");
    EXPECT(f && fwrite(sample_png, 1, sizeof(sample_png), f) == sizeof(sample_png) &&
           fclose(f) == 0);
    EXPECT_OK(image_read_file(&image, path, &err));
    expect_fields(&image, 0);
    image_done(&image);
    EXPECT(truncate(path, 100) == 0);
    EXPECT_INT(image_read_file(&image, path, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, path);
    EXPECT_CONTAINS(err.msg, "cut off");
    EXPECT(truncate(path, 0) == 0);
    EXPECT_INT(image_read_file(&image, path, &err), ERR_FORMAT);
    EXPECT(truncate(path, IMAGE_MAX_BYTES + 1) == 0);
    EXPECT_INT(image_read_file(&image, path, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "20 MiB");
    unlink(path);
    EXPECT(mkfifo(path, 0600) == 0); /* must not wait for a writer */
    EXPECT_INT(image_read_file(&image, path, &err), ERR_FORMAT);
}

TEST(image_refuses_too_many_bytes)
{
    uint8_t *data = test_alloc(IMAGE_MAX_BYTES + 1);
    struct image image;
    struct err err;

    memset(data, 0, IMAGE_MAX_BYTES + 1);
    memcpy(data, sample_png, sizeof(sample_png));
    EXPECT_INT(image_read(&image, data, IMAGE_MAX_BYTES + 1, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "20 MiB");
    EXPECT_OK(image_read(&image, data, IMAGE_MAX_BYTES, &err));
    image_done(&image);
    free(data);
}

TEST(image_survives_every_allocation_failure)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct image image;
        struct err err;
        int rc;

        for (long n = 1;; n++) {
            alloc_fail_at(n);
            rc = image_read(&image, samples[i].data, samples[i].len, &err);
            if (!alloc_fail_stop()) {
                break;
            }
            EXPECT_INT(rc, ERR_NO_MEMORY);
        }
        EXPECT_OK(rc);
        image_done(&image);
    }
}
