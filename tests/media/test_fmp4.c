#include "media/fmp4.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "media/mp4_box.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

enum {
    W = 96,
    H = 64,
    MAX_PARTS = 16
};

static const struct mp4_tag tags[] = {
    {"title", "A calico cat \xc3\xa9"},
    {"comment", "{\"seed\":42,\"model\":\"tiny\"}"},
    {"encoder", "sanad 1.2.3"},
    {"no_such_field", "left out"},
};

static struct fmp4_options options(int64_t total)
{
    return (struct fmp4_options){
        .video = {.width = W, .height = H, .fps_num = 16, .fps_den = 1},
        .total_frames = total,
        .tags = tags,
        .n_tags = ARRAY_LEN(tags),
    };
}

/* What the sink got. */
struct parts {
    struct str part[MAX_PARTS];
    int n;
    int fail_at; /* the part that is refused, from 1 */
};

static int take(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len, struct err *err)
{
    struct parts *p = ctx;

    EXPECT(p->n < MAX_PARTS);
    EXPECT((part == FMP4_INIT) == (p->n == 0));
    if (p->fail_at == p->n + 1) {
        return err_set(err, ERR_NO_SPACE, "no room");
    }
    str_init(&p->part[p->n], 1 << 24);
    if (!str_append(&p->part[p->n], data, len)) {
        return err_set(err, ERR_NO_MEMORY, "test data");
    }
    p->n++;
    return ERR_OK;
}

static void parts_done(struct parts *p)
{
    for (int i = 0; i < p->n; i++) {
        str_done(&p->part[i]);
    }
    *p = (struct parts){0};
}

static const uint8_t *bytes(const struct str *s)
{
    return (const uint8_t *)s->data;
}

static int write_block(struct fmp4 *w, int n, int width, int height, struct err *err)
{
    uint8_t *frame = test_alloc((size_t)width * (size_t)height * 3 / 2);
    int rc = fmp4_begin_block(w, err);

    for (int i = 0; i < n && rc == ERR_OK; i++) {
        video_check_picture(frame, width, height, fmp4_n_frames(w));
        rc = fmp4_frame(w, frame, err);
    }
    rc = rc == ERR_OK ? fmp4_end_block(w, err) : rc;
    free(frame);
    return rc;
}

/* A video of the blocks sizes[from..n); options say where it starts. */
static void write_video(struct parts *p, const struct fmp4_options *o, const int *sizes, int from,
                        int n)
{
    struct fmp4 *w;
    struct err err;

    *p = (struct parts){0};
    EXPECT_OK(fmp4_open(&w, o, take, p, &err));
    for (int b = from; b < n; b++) {
        EXPECT_OK(write_block(w, sizes[b], o->video.width, o->video.height, &err));
    }
    EXPECT_INT(fmp4_n_fragments(w), n);
    EXPECT_INT(p->n, n - from + 1);
    fmp4_free(w);
}

static void join(struct str *ret, const struct parts *p)
{
    str_init(ret, 1 << 26);
    for (int i = 0; i < p->n; i++) {
        EXPECT(str_append(ret, p->part[i].data, p->part[i].len));
    }
}

static uint64_t get64(const uint8_t *p)
{
    return (uint64_t)mp4_box_get32(p) << 32 | mp4_box_get32(p + 4);
}

static const uint8_t *box(const struct str *s, const char *path, size_t min_len)
{
    size_t len = 0;
    const uint8_t *body = mp4_box_find(bytes(s), s->len, path, &len);

    if (!body || len < min_len) {
        test_fail(__FILE__, __LINE__, "no %s of %zu bytes", path, min_len);
    }
    return body;
}

TEST(fmp4_whole_file_decodes_to_what_went_in)
{
    static const int sizes[] = {1, 12, 13, 5};
    const struct fmp4_options o = options(31);
    struct video_check c;
    struct parts p;
    struct str file;

    write_video(&p, &o, sizes, 0, 4);
    join(&file, &p);
    video_check_decode(&c, bytes(&file), file.len, 0);
    EXPECT_INT(c.n_frames, 31);
    EXPECT_INT(c.n_packets, 31);
    EXPECT_INT(c.n_keys, 4);
    EXPECT(c.first_is_key && !c.damaged);
    EXPECT(c.psnr_min > 38);
    EXPECT(c.bt709_limited_left);
    EXPECT_INT(c.width, W);
    EXPECT_INT(c.height, H);
    EXPECT_STR(c.title, "A calico cat \xc3\xa9");
    EXPECT_STR(c.comment, "{\"seed\":42,\"model\":\"tiny\"}");
    EXPECT_STR(c.encoder, "sanad 1.2.3");
    EXPECT(memmem(file.data, file.len, "left out", 8) == NULL);
    EXPECT(memmem(file.data, file.len, "Lavf", 4) == NULL);
    str_done(&file);
    parts_done(&p);
}

TEST(fmp4_each_fragment_decodes_with_init_alone)
{
    static const int sizes[] = {3, 12, 1, 7};
    const struct fmp4_options o = options(0);
    struct parts p;
    int64_t first = 0;

    write_video(&p, &o, sizes, 0, 4);
    for (int b = 0; b < 4; b++) {
        const struct parts two = {.part = {p.part[0], p.part[1 + b]}, .n = 2};
        struct video_check c;
        struct str file;

        join(&file, &two);
        video_check_decode(&c, bytes(&file), file.len, first);
        EXPECT_INT(c.n_frames, sizes[b]);
        EXPECT_INT(c.n_keys, 1);
        EXPECT(c.first_is_key && !c.damaged);
        EXPECT(c.psnr_min > 38);
        first += sizes[b];
        str_done(&file);
    }
    parts_done(&p);
}

/* The boxes, byte by byte: one moof and one mdat, counted, on the clock, with an IDR first whose two
 * times are equal. */
TEST(fmp4_fragments_are_numbered_and_continuous)
{
    static const int sizes[] = {1, 12, 5, 1};
    const struct fmp4_options o = options(0);
    struct parts p;
    uint64_t first = 0;

    write_video(&p, &o, sizes, 0, 4);
    for (int b = 0; b < 4; b++) {
        const struct str *f = &p.part[1 + b];
        const uint8_t *moof = box(f, "moof", 60);
        const uint8_t *mfhd = box(f, "moof.mfhd", 8);
        const uint8_t *tfdt = box(f, "moof.traf.tfdt", 12);
        const uint8_t *trun = box(f, "moof.traf.trun", 16);
        const uint8_t *mdat = box(f, "mdat", 10);
        const size_t moof_len = mp4_box_get32(bytes(f));

        EXPECT(moof == bytes(f) + 8);
        EXPECT(mdat == bytes(f) + moof_len + 8);
        EXPECT_INT(moof_len + mp4_box_get32(bytes(f) + moof_len), f->len);
        EXPECT_INT(mp4_box_get32(mfhd + 4), b + 1);
        EXPECT_INT(tfdt[0], 1);
        EXPECT_INT(get64(tfdt + 4), first * 1000);
        EXPECT_INT(mp4_box_get32(trun + 4), sizes[b]);
        EXPECT_INT(mp4_box_get32(trun + 8), moof_len + 8); /* data offset */
        EXPECT_INT(mp4_box_get32(trun + 12), 0x02000000);  /* the first is a sync sample */
        EXPECT_INT(mdat[4] & 0x1f, 5);                     /* IDR slice */
        first += (uint64_t)sizes[b];
    }
    parts_done(&p);
}

TEST(fmp4_init_tells_the_duration_when_it_is_known)
{
    static const int sizes[] = {3, 4};
    const struct fmp4_options known = options(7);
    const struct fmp4_options unknown = options(0);
    struct parts p[2];

    write_video(&p[0], &known, sizes, 0, 2);
    write_video(&p[1], &unknown, sizes, 0, 2);
    for (int i = 0; i < 2; i++) {
        const struct str *init = &p[i].part[0];
        const uint32_t want = i == 0 ? 7000 : 0;

        EXPECT_INT(mp4_box_get32(box(init, "moov.mvhd", 20) + 12), 16000);
        EXPECT_INT(mp4_box_get32(box(init, "moov.mvhd", 20) + 16), want);
        EXPECT_INT(mp4_box_get32(box(init, "moov.trak.tkhd", 24) + 20), want);
        EXPECT_INT(mp4_box_get32(box(init, "moov.trak.mdia.mdhd", 20) + 12), 16000);
        EXPECT_INT(mp4_box_get32(box(init, "moov.trak.mdia.mdhd", 20) + 16), want);
    }
    /* nothing but the durations differs */
    EXPECT_INT(p[0].part[0].len, p[1].part[0].len);
    EXPECT_INT(p[0].part[1].len, p[1].part[1].len);
    EXPECT(memcmp(p[0].part[1].data, p[1].part[1].data, p[1].part[1].len) == 0);
    parts_done(&p[0]);
    parts_done(&p[1]);
}

TEST(fmp4_keeps_rational_frame_rates_exact)
{
    static const struct {
        int num, den;
        uint32_t timescale, frame;
    } rate[] = {{16, 1, 16000, 1000},
                {24000, 1001, 24000, 1001},
                {30000, 1001, 30000, 1001},
                {2997, 125, 29970, 1250},
                {1, 1, 10000, 10000},
                {240, 1, 24000, 100},
                {1000000, 41667, 1000000, 41667}};
    static const int sizes[] = {5, 8};

    for (size_t i = 0; i < ARRAY_LEN(rate); i++) {
        struct fmp4_options o = options(13);
        struct video_check c;
        struct parts p;
        struct str file;

        o.video.fps_num = rate[i].num;
        o.video.fps_den = rate[i].den;
        write_video(&p, &o, sizes, 0, 2);
        EXPECT_INT(mp4_box_get32(box(&p.part[0], "moov.trak.mdia.mdhd", 20) + 12),
                   rate[i].timescale);
        EXPECT_INT(mp4_box_get32(box(&p.part[0], "moov.trak.mdia.mdhd", 20) + 16),
                   13 * rate[i].frame);
        EXPECT_INT(get64(box(&p.part[2], "moof.traf.tfdt", 12) + 4), 5 * rate[i].frame);
        join(&file, &p);
        video_check_decode(&c, bytes(&file), file.len, 0);
        EXPECT_INT(c.n_frames, 13);
        EXPECT(c.psnr_min > 38);
        EXPECT_INT((int64_t)(c.last_pts * rate[i].num * 1000 / rate[i].den + 0.5), 12000);
        str_done(&file);
        parts_done(&p);
    }
}

TEST(fmp4_resumed_video_has_the_same_bytes)
{
    static const int sizes[] = {1, 12, 9, 2, 10};
    const struct fmp4_options o = options(34);
    struct parts whole;

    write_video(&whole, &o, sizes, 0, 5);
    for (int from = 1; from < 5; from++) {
        struct fmp4_options later = options(34);
        struct parts p;

        for (int b = 0; b < from; b++) {
            later.first_frame += sizes[b];
        }
        later.first_fragment = from;
        write_video(&p, &later, sizes, from, 5);
        EXPECT_INT(p.part[0].len, whole.part[0].len);
        EXPECT(memcmp(p.part[0].data, whole.part[0].data, p.part[0].len) == 0);
        for (int b = from; b < 5; b++) {
            EXPECT_INT(p.part[1 + b - from].len, whole.part[1 + b].len);
            EXPECT(memcmp(p.part[1 + b - from].data, whole.part[1 + b].data,
                          whole.part[1 + b].len) == 0);
        }
        parts_done(&p);
    }
    parts_done(&whole);
}

TEST(fmp4_same_video_twice_is_the_same_file)
{
    static const int sizes[] = {3, 12};
    const struct fmp4_options o = options(15);
    struct parts p[2];
    struct str file[2];

    for (int i = 0; i < 2; i++) {
        write_video(&p[i], &o, sizes, 0, 2);
        join(&file[i], &p[i]);
    }
    EXPECT_INT(file[0].len, file[1].len);
    EXPECT(memcmp(file[0].data, file[1].data, file[0].len) == 0);
    for (int i = 0; i < 2; i++) {
        str_done(&file[i]);
        parts_done(&p[i]);
    }
}

TEST(fmp4_one_frame_makes_a_video)
{
    static const int sizes[] = {1};
    const struct fmp4_options o = options(1);
    struct video_check c;
    struct parts p;
    struct str file;

    write_video(&p, &o, sizes, 0, 1);
    join(&file, &p);
    video_check_decode(&c, bytes(&file), file.len, 0);
    EXPECT_INT(c.n_frames, 1);
    EXPECT(c.psnr_min > 38);
    EXPECT_INT((int64_t)(c.duration * 10000 + 0.5), 625);
    str_done(&file);
    parts_done(&p);
}

TEST(fmp4_partial_file_decodes_what_is_there)
{
    static const int sizes[] = {12, 12, 12};
    const struct fmp4_options o = options(36);
    struct video_check c;
    struct parts p;
    struct str file;

    write_video(&p, &o, sizes, 0, 3);
    join(&file, &p);
    /* cut inside the last fragment, half way through its pictures */
    video_check_decode(&c, bytes(&file), file.len - p.part[3].len / 2, 0);
    EXPECT(c.n_frames >= 25 && c.n_frames < 36);
    /* cut inside its moof: nothing of it is there */
    video_check_decode(&c, bytes(&file), file.len - p.part[3].len + 50, 0);
    EXPECT_INT(c.n_frames, 24);
    EXPECT(c.psnr_min > 38);
    str_done(&file);
    parts_done(&p);
}

TEST(fmp4_codec_string_comes_from_avcc)
{
    static const int sizes[] = {1};
    struct fmp4_options o = options(1);
    struct parts p;
    struct err err;
    char codec[FMP4_CODEC_STRING];

    o.video.width = 832;
    o.video.height = 480;
    write_video(&p, &o, sizes, 0, 1);
    EXPECT_OK(fmp4_codec_string(bytes(&p.part[0]), p.part[0].len, codec, &err));
    EXPECT_STR(codec, "avc1.64001e");

    /* hostile: cut anywhere, and any byte changed */
    for (size_t len = 0; len < p.part[0].len; len++) {
        uint8_t *copy = test_alloc(len);

        memcpy(copy, p.part[0].data, len);
        EXPECT_INT(fmp4_codec_string(copy, len, codec, &err), ERR_FORMAT);
        free(copy);
    }
    for (size_t i = 0; i < p.part[0].len; i++) {
        const char old = p.part[0].data[i];

        p.part[0].data[i] = (char)0xff;
        (void)!fmp4_codec_string(bytes(&p.part[0]), p.part[0].len, codec, &err);
        p.part[0].data[i] = old;
    }
    parts_done(&p);
}

TEST(fmp4_refuses_impossible_positions)
{
    static const struct {
        int64_t total, frame, fragment;
    } bad[] = {{-1, 0, 0},        {0, -1, 1},        {0, 5, -1},        {0, 5, 0},
               {0, 0, 1},         {10, 10, 1},       {0, 1LL << 40, 1}, {0, 3, 4},
               {1LL << 40, 0, 0}, {INT64_MAX, 0, 0}, {0, 3, 1LL << 33}};
    struct parts p = {0};
    struct fmp4 *w;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct fmp4_options o = options(bad[i].total);

        o.first_frame = bad[i].frame;
        o.first_fragment = bad[i].fragment;
        EXPECT_INT(fmp4_open(&w, &o, take, &p, &err), ERR_INVALID);
        EXPECT_INT(p.n, 0);
    }
}

TEST(fmp4_refuses_more_frames_than_announced)
{
    const struct fmp4_options o = options(3);
    struct parts p = {0};
    struct fmp4 *w;
    struct err err;

    EXPECT_OK(fmp4_open(&w, &o, take, &p, &err));
    EXPECT_INT(write_block(w, 4, W, H, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "3 frames");
    fmp4_free(w); /* inside a block: nothing of it comes out */
    EXPECT_INT(p.n, 1);
    parts_done(&p);
}

TEST(fmp4_refuses_an_empty_block)
{
    const struct fmp4_options o = options(0);
    struct parts p = {0};
    struct fmp4 *w;
    struct err err;

    EXPECT_OK(fmp4_open(&w, &o, take, &p, &err));
    EXPECT_INT(write_block(w, 0, W, H, &err), ERR_INVALID);
    EXPECT_INT(p.n, 1);
    fmp4_free(w);
    parts_done(&p);
}

TEST(fmp4_passes_on_the_sinks_error)
{
    const struct fmp4_options o = options(0);
    struct parts p = {.fail_at = 1};
    struct fmp4 *w;
    struct err err;

    EXPECT_INT(fmp4_open(&w, &o, take, &p, &err), ERR_NO_SPACE);
    p.fail_at = 2;
    EXPECT_OK(fmp4_open(&w, &o, take, &p, &err));
    EXPECT_INT(write_block(w, 2, W, H, &err), ERR_NO_SPACE);
    EXPECT_STR(err.msg, "no room");
    fmp4_free(w);
    parts_done(&p);
}

TEST(fmp4_survives_every_allocation_failure)
{
    const struct fmp4_options o = options(4);
    struct parts p = {0};
    struct fmp4 *w;
    struct err err;
    int rc;

    for (long n = 1;; n++) {
        w = NULL;
        alloc_fail_at(n);
        rc = fmp4_open(&w, &o, take, &p, &err);
        rc = rc == ERR_OK ? fmp4_begin_block(w, &err) : rc;
        if (rc == ERR_OK) {
            static uint8_t frame[W * H * 3 / 2];

            rc = fmp4_frame(w, frame, &err);
        }
        rc = rc == ERR_OK ? fmp4_end_block(w, &err) : rc;
        fmp4_free(w);
        parts_done(&p);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
}
