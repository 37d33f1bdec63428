#include "media/video_encoder.h"

#include <dlfcn.h>
#include <libavcodec/avcodec.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

enum {
    W = 96,
    H = 64
};

static const struct video_encoder_options plain = {
    .width = W, .height = H, .fps_num = 16, .fps_den = 1};

/* The library's lookup goes through here, so that a system without libx264 can be had. */
static bool no_x264;

const AVCodec *avcodec_find_encoder_by_name(const char *name)
{
    const AVCodec *(*real)(const char *) = NULL;

    *(void **)&real = dlsym(RTLD_NEXT, "avcodec_find_encoder_by_name");
    return no_x264 ? NULL : real(name);
}

/* What came out: all bytes, and what each packet was. */
struct packets {
    struct str bytes;
    int n;
    int n_keys;
    int n_sei;
    int64_t pts[128];
    int64_t index[128];
    int first_nal;
    bool first_is_key;
    int fail_at; /* the packet that is refused, from 1 */
};

static void packets_init(struct packets *p)
{
    *p = (struct packets){0};
    str_init(&p->bytes, 1 << 24);
}

static int take(void *ctx, const struct video_packet *in, struct err *err)
{
    struct packets *p = ctx;

    if (p->fail_at == p->n + 1) {
        return err_set(err, ERR_CANCELLED, "enough");
    }
    EXPECT(p->n < 128);
    EXPECT(in->len > 5);
    for (size_t i = 0; i + 3 < in->len; i++) {
        if (in->data[i] == 0 && in->data[i + 1] == 0 && in->data[i + 2] == 1) {
            const int nal = in->data[i + 3] & 0x1f;

            p->first_nal = p->n == 0 && p->first_nal == 0 ? nal : p->first_nal;
            p->n_sei += nal == 6;
        }
    }
    p->first_is_key = p->n == 0 ? in->key : p->first_is_key;
    p->n_keys += in->key;
    p->pts[p->n] = in->pts;
    p->index[p->n] = in->index;
    p->n++;
    EXPECT(str_append(&p->bytes, in->data, in->len));
    return ERR_OK;
}

static int encode_block(struct video_encoder *enc, struct packets *p, int64_t first, int n,
                        struct err *err)
{
    uint8_t *frame = test_alloc(video_encoder_frame_bytes(enc));
    int rc = video_encoder_begin_block(enc, first, err);

    for (int i = 0; i < n && rc == ERR_OK; i++) {
        video_check_picture(frame, W, H, first + i);
        rc = video_encoder_frame(enc, frame, take, p, err);
        memset(frame, 0, video_encoder_frame_bytes(enc)); /* it must have been copied */
    }
    rc = rc == ERR_OK ? video_encoder_end_block(enc, take, p, err) : rc;
    free(frame);
    return rc;
}

TEST(video_encoder_block_is_complete_and_starts_with_idr)
{
    static const int sizes[] = {1, 2, 3, 5, 13, 40};
    struct video_encoder *enc;
    struct packets p;
    struct err err;
    int64_t first = 0;

    EXPECT_OK(video_encoder_create(&enc, &plain, &err));
    EXPECT_INT(video_encoder_frame_bytes(enc), W * H * 3 / 2);
    for (size_t b = 0; b < ARRAY_LEN(sizes); b++) {
        bool seen[64] = {false};

        packets_init(&p);
        EXPECT_OK(encode_block(enc, &p, first, sizes[b], &err));
        EXPECT_INT(p.n, sizes[b]);
        EXPECT_INT(p.n_keys, 1);
        EXPECT(p.first_is_key);
        EXPECT_INT(p.first_nal, 5); /* IDR slice; parameter sets are in the headers */
        EXPECT_INT(p.n_sei, 0);
        EXPECT_INT(p.pts[0], first);
        for (int i = 0; i < p.n; i++) {
            EXPECT_INT(p.index[i], first + i);
            EXPECT(p.pts[i] >= first && p.pts[i] < first + sizes[b]);
            EXPECT(!seen[p.pts[i] - first]);
            EXPECT(p.pts[i] >= p.index[i] - VIDEO_ENCODER_REORDER);
            seen[p.pts[i] - first] = true;
        }
        first += sizes[b];
        str_done(&p.bytes);
    }
    video_encoder_free(enc);
}

TEST(video_encoder_headers_are_sps_and_pps)
{
    struct video_encoder *enc;
    struct err err;
    size_t len;

    EXPECT_OK(video_encoder_create(&enc, &plain, &err));
    const uint8_t *h = video_encoder_headers(enc, &len);

    EXPECT(len > 10);
    EXPECT(memcmp(h, "\0\0\0\1\x67\x64", 6) == 0); /* SPS, profile 100: High */
    EXPECT(memmem(h, len, "\0\0\0\1\x68", 5) != NULL);
    EXPECT(memmem(h, len, "x264", 4) == NULL);
    video_encoder_free(enc);
}

TEST(video_encoder_bytes_depend_on_the_block_only)
{
    struct video_encoder *enc;
    struct packets all;
    struct packets alone;
    struct err err;

    EXPECT_OK(video_encoder_create(&enc, &plain, &err));
    packets_init(&all);
    EXPECT_OK(encode_block(enc, &all, 0, 7, &err));
    const size_t start = all.bytes.len;

    EXPECT_OK(encode_block(enc, &all, 7, 12, &err));
    video_encoder_free(enc);

    EXPECT_OK(video_encoder_create(&enc, &plain, &err));
    packets_init(&alone);
    EXPECT_OK(encode_block(enc, &alone, 7, 12, &err));
    video_encoder_free(enc);
    EXPECT_INT(alone.bytes.len, all.bytes.len - start);
    EXPECT(memcmp(alone.bytes.data, all.bytes.data + start, alone.bytes.len) == 0);
    EXPECT(memmem(all.bytes.data, all.bytes.len, "x264 - core", 11) == NULL);
    str_done(&all.bytes);
    str_done(&alone.bytes);
}

TEST(video_encoder_two_threads_give_the_same_bytes_twice)
{
    struct video_encoder_options o = plain;
    struct packets p[2];
    struct err err;

    o.n_threads = 2;
    for (int run = 0; run < 2; run++) {
        struct video_encoder *enc;

        packets_init(&p[run]);
        EXPECT_OK(video_encoder_create(&enc, &o, &err));
        EXPECT_OK(encode_block(enc, &p[run], 0, 20, &err));
        video_encoder_free(enc);
    }
    EXPECT_INT(p[0].bytes.len, p[1].bytes.len);
    EXPECT(memcmp(p[0].bytes.data, p[1].bytes.data, p[0].bytes.len) == 0);
    str_done(&p[0].bytes);
    str_done(&p[1].bytes);
}

TEST(video_encoder_lower_crf_makes_more_bytes)
{
    size_t len[2];
    struct err err;

    for (int i = 0; i < 2; i++) {
        struct video_encoder_options o = plain;
        struct video_encoder *enc;
        struct packets p;

        o.crf = i == 0 ? 0 : 30; /* 0: the default, 18 */
        packets_init(&p);
        EXPECT_OK(video_encoder_create(&enc, &o, &err));
        EXPECT_OK(encode_block(enc, &p, 0, 8, &err));
        len[i] = p.bytes.len;
        str_done(&p.bytes);
        video_encoder_free(enc);
    }
    EXPECT(len[0] > len[1] * 3 / 2);
}

TEST(video_encoder_refuses_options_by_name)
{
    static const struct {
        struct video_encoder_options o;
        const char *part;
    } bad[] = {
        {{.width = 97, .height = 64, .fps_num = 16, .fps_den = 1}, "97x64"},
        {{.width = 96, .height = 63, .fps_num = 16, .fps_den = 1}, "96x63"},
        {{.width = 14, .height = 64, .fps_num = 16, .fps_den = 1}, "14x64"},
        {{.width = 96, .height = 8194, .fps_num = 16, .fps_den = 1}, "96x8194"},
        {{.width = -96, .height = 64, .fps_num = 16, .fps_den = 1}, "-96x64"},
        {{.width = 96, .height = 64, .fps_num = 0, .fps_den = 1}, "frame rate 0/1"},
        {{.width = 96, .height = 64, .fps_num = 16, .fps_den = 0}, "frame rate 16/0"},
        {{.width = 96, .height = 64, .fps_num = 1, .fps_den = 2}, "frame rate 1/2"},
        {{.width = 96, .height = 64, .fps_num = 481, .fps_den = 2}, "frame rate 481/2"},
        {{.width = 96, .height = 64, .fps_num = 16, .fps_den = 1, .crf = 52}, "crf"},
        {{.width = 96, .height = 64, .fps_num = 16, .fps_den = 1, .crf = -1}, "crf"},
        {{.width = 96, .height = 64, .fps_num = 16, .fps_den = 1, .n_threads = 17}, "threads"},
        {{.width = 96, .height = 64, .fps_num = 16, .fps_den = 1, .preset = "warp"}, "warp"},
    };
    struct video_encoder *enc;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(video_encoder_create(&enc, &bad[i].o, &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, bad[i].part);
    }
}

TEST(video_encoder_says_when_libx264_is_missing)
{
    struct video_encoder *enc;
    struct err err;

    no_x264 = true;
    EXPECT_INT(video_encoder_create(&enc, &plain, &err), ERR_UNSUPPORTED);
    no_x264 = false;
    EXPECT_CONTAINS(err.msg, "libx264");
}

TEST(video_encoder_passes_on_the_callers_error_and_goes_on)
{
    struct video_encoder *enc;
    struct packets p;
    struct packets want;
    struct err err;

    EXPECT_OK(video_encoder_create(&enc, &plain, &err));
    packets_init(&p);
    p.fail_at = 2;
    EXPECT_INT(encode_block(enc, &p, 0, 6, &err), ERR_CANCELLED);
    EXPECT_STR(err.msg, "enough");
    video_encoder_abort_block(enc);
    video_encoder_abort_block(enc); /* there is none now */
    str_done(&p.bytes);

    packets_init(&p);
    EXPECT_OK(encode_block(enc, &p, 0, 6, &err));
    video_encoder_free(enc);
    packets_init(&want);
    EXPECT_OK(video_encoder_create(&enc, &plain, &err));
    EXPECT_OK(encode_block(enc, &want, 0, 6, &err));
    EXPECT_OK(video_encoder_begin_block(enc, 6, &err));
    video_encoder_free(enc); /* inside a block */
    EXPECT_INT(p.bytes.len, want.bytes.len);
    EXPECT(memcmp(p.bytes.data, want.bytes.data, want.bytes.len) == 0);
    str_done(&p.bytes);
    str_done(&want.bytes);
}

TEST(video_encoder_refuses_an_empty_block)
{
    struct video_encoder *enc;
    struct packets p;
    struct err err;

    packets_init(&p);
    EXPECT_OK(video_encoder_create(&enc, &plain, &err));
    EXPECT_INT(video_encoder_begin_block(enc, -1, &err), ERR_INVALID);
    EXPECT_OK(video_encoder_begin_block(enc, 0, &err));
    EXPECT_INT(video_encoder_end_block(enc, take, &p, &err), ERR_INVALID);
    EXPECT_INT(p.n, 0);
    EXPECT_OK(encode_block(enc, &p, 0, 2, &err));
    EXPECT_INT(p.n, 2);
    str_done(&p.bytes);
    video_encoder_free(enc);
}

TEST(video_encoder_survives_every_allocation_failure)
{
    struct video_encoder *enc;
    struct err err;
    int rc;

    for (long n = 1;; n++) {
        alloc_fail_at(n);
        rc = video_encoder_create(&enc, &plain, &err);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
    video_encoder_free(enc);
}
