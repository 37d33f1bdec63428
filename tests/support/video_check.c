#include "tests/support/video_check.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

enum {
    IO_BYTES = 4096
};

static uint8_t to_byte(double v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5);
}

void video_check_picture(uint8_t *i420, int width, int height, int64_t index)
{
    const double t = (double)index;
    uint8_t *p = i420;

    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            *p++ = to_byte(125 + 45 * sin((x + 2 * t) / 9) + 35 * sin((y - 1.5 * t) / 7) +
                           20 * sin((x + y + 3 * t) / 4));
        }
    }
    for (int plane = 0; plane < 2; plane++) {
        for (int y = 0; y < height / 2; y++) {
            for (int x = 0; x < width / 2; x++) {
                *p++ = to_byte(128 + 50 * sin((plane ? x : y) / 8.0 + t / 10));
            }
        }
    }
}

struct memory {
    const uint8_t *data;
    size_t len;
    size_t at;
};

static int memory_read(void *opaque, uint8_t *out, int len)
{
    struct memory *m = opaque;
    size_t n = m->len - m->at;

    n = n < (size_t)len ? n : (size_t)len;
    if (n == 0) {
        return AVERROR_EOF;
    }
    memcpy(out, m->data + m->at, n);
    m->at += n;
    return (int)n;
}

static int64_t memory_seek(void *opaque, int64_t offset, int whence)
{
    struct memory *m = opaque;

    if (whence == AVSEEK_SIZE) {
        return (int64_t)m->len;
    }
    if (whence != SEEK_SET || offset < 0 || (size_t)offset > m->len) {
        return AVERROR(EINVAL);
    }
    m->at = (size_t)offset;
    return offset;
}

static double plane_error(const uint8_t *got, int line, const uint8_t *want, int width, int height)
{
    double sum = 0;

    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const double d = (double)got[y * line + x] - want[y * width + x];

            sum += d * d;
        }
    }
    return sum;
}

static double frame_psnr(const AVFrame *f, int64_t index)
{
    const int w = f->width;
    const int h = f->height;
    const ptrdiff_t luma = (ptrdiff_t)w * h;
    uint8_t *want = test_alloc((size_t)luma * 3 / 2);
    double sum;

    video_check_picture(want, w, h, index);
    sum = plane_error(f->data[0], f->linesize[0], want, w, h) +
          plane_error(f->data[1], f->linesize[1], want + luma, w / 2, h / 2) +
          plane_error(f->data[2], f->linesize[2], want + luma * 5 / 4, w / 2, h / 2);
    free(want);
    return sum == 0 ? 99 : 10 * log10(255.0 * 255.0 * w * h * 1.5 / sum);
}

static void take_frame(struct video_check *c, const AVFrame *f, AVRational time_base,
                       int64_t first_index, int64_t *first_pts)
{
    const double psnr = frame_psnr(f, first_index + c->n_frames);

    if (c->n_frames == 0) {
        *first_pts = f->pts;
        c->width = f->width;
        c->height = f->height;
        c->psnr_min = psnr;
    }
    c->psnr_min = psnr < c->psnr_min ? psnr : c->psnr_min;
    c->last_pts = (double)(f->pts - *first_pts) * av_q2d(time_base);
    c->damaged = c->damaged || f->decode_error_flags != 0 || (f->flags & AV_FRAME_FLAG_CORRUPT);
    c->n_frames++;
}

static void tag(char *ret, size_t size, const AVFormatContext *in, const char *key)
{
    const AVDictionaryEntry *e = av_dict_get(in->metadata, key, NULL, 0);

    snprintf(ret, size, "%s", e ? e->value : "");
}

static void stream_facts(struct video_check *c, const AVFormatContext *in)
{
    const AVStream *st = in->streams[0];
    const AVCodecParameters *p = st->codecpar;

    c->start =
        st->start_time == AV_NOPTS_VALUE ? -1 : (double)st->start_time * av_q2d(st->time_base);
    c->duration = st->duration > 0 ? (double)st->duration * av_q2d(st->time_base)
                                   : (double)in->duration / AV_TIME_BASE;
    c->fps_num = st->avg_frame_rate.num;
    c->fps_den = st->avg_frame_rate.den;
    c->bt709_limited_left =
        p->color_primaries == AVCOL_PRI_BT709 && p->color_trc == AVCOL_TRC_BT709 &&
        p->color_space == AVCOL_SPC_BT709 && p->color_range == AVCOL_RANGE_MPEG &&
        p->chroma_location == AVCHROMA_LOC_LEFT && p->format == AV_PIX_FMT_YUV420P;
    tag(c->title, sizeof(c->title), in, "title");
    tag(c->comment, sizeof(c->comment), in, "comment");
    tag(c->encoder, sizeof(c->encoder), in, "encoder");
}

static void drain(struct video_check *c, AVCodecContext *codec, AVFrame *frame,
                  const AVPacket *packet, AVRational time_base, int64_t first_index,
                  int64_t *first_pts)
{
    if (avcodec_send_packet(codec, packet) < 0) {
        c->damaged = true;
        return;
    }
    while (avcodec_receive_frame(codec, frame) == 0) {
        take_frame(c, frame, time_base, first_index, first_pts);
    }
}

static void decode(struct video_check *c, AVFormatContext *in, int64_t first_index)
{
    AVCodecContext *codec = avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_H264));
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    const AVRational time_base = in->streams[0]->time_base;
    int64_t first_pts = 0;

    EXPECT(codec && packet && frame);
    EXPECT(avcodec_parameters_to_context(codec, in->streams[0]->codecpar) >= 0);
    codec->thread_count = 1;
    EXPECT(avcodec_open2(codec, NULL, NULL) >= 0);
    while (av_read_frame(in, packet) >= 0) {
        const bool key = (packet->flags & AV_PKT_FLAG_KEY) != 0;

        if (packet->flags & AV_PKT_FLAG_CORRUPT) {
            c->damaged = true;
            break;
        }
        c->first_is_key = c->n_packets == 0 ? key : c->first_is_key;
        c->n_packets++;
        c->n_keys += key;
        drain(c, codec, frame, packet, time_base, first_index, &first_pts);
        av_packet_unref(packet);
    }
    drain(c, codec, frame, NULL, time_base, first_index, &first_pts);
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&codec);
}

void video_check_decode(struct video_check *ret, const uint8_t *data, size_t len,
                        int64_t first_index)
{
    struct memory m = {.data = data, .len = len};
    AVFormatContext *in = avformat_alloc_context();
    AVIOContext *io =
        avio_alloc_context(av_malloc(IO_BYTES), IO_BYTES, 0, &m, memory_read, NULL, memory_seek);

    av_log_set_level(AV_LOG_QUIET);
    *ret = (struct video_check){0};
    EXPECT(in && io);
    in->pb = io;
    EXPECT(avformat_open_input(&in, NULL, NULL, NULL) == 0);
    EXPECT(avformat_find_stream_info(in, NULL) >= 0);
    EXPECT_INT(in->nb_streams, 1);
    stream_facts(ret, in);
    decode(ret, in, first_index);
    avformat_close_input(&in);
    av_freep(&io->buffer);
    avio_context_free(&io);
}

void video_check_decode_file(struct video_check *ret, const char *path, int64_t first_index)
{
    size_t len;
    uint8_t *data = video_check_load(path, &len);

    video_check_decode(ret, data, len, first_index);
    free(data);
}

uint8_t *video_check_load(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "rbe");
    uint8_t *data;
    long len;

    if (!f || fseek(f, 0, SEEK_END) != 0 || (len = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) != 0) {
        test_fail(__FILE__, __LINE__, "read %s: %m", path);
    }
    data = test_alloc((size_t)len);
    if (fread(data, 1, (size_t)len, f) != (size_t)len || fclose(f) != 0) {
        test_fail(__FILE__, __LINE__, "read %s: %m", path);
    }
    *ret_len = (size_t)len;
    return data;
}

void video_check_store(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wbe");

    if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0) {
        test_fail(__FILE__, __LINE__, "write %s: %m", path);
    }
}
