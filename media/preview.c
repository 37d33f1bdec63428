#include "media/preview.h"

#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "media/av_error.h"

enum {
    JPEG_QUALITY = 3,  /* the quantiser scale, 2 best to 31 */
    WEBP_QUALITY = 82, /* of 100 */
    SCALE_FLAGS =
        SWS_AREA | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND | SWS_BITEXACT,
};

struct format {
    const char *name;
    const char *encoder; /* of libavcodec */
    enum AVPixelFormat pixels;
    bool full_range;
    int quality; /* the encoder's global_quality */
};

static const struct format jpeg = {"JPEG", "mjpeg", AV_PIX_FMT_YUVJ420P, true,
                                   FF_QP2LAMBDA *JPEG_QUALITY};
static const struct format webp = {"WebP", "libwebp", AV_PIX_FMT_YUV420P, false,
                                   FF_QP2LAMBDA *WEBP_QUALITY};

/* The largest even sides with the frame's shape that fit. */
static struct preview_layout plan(int n, int width, int height, int max_side)
{
    struct preview_layout l = {.columns = 1};
    const int side = width > height ? width : height;
    const int limit = side < max_side ? side : max_side;

    while (l.columns * l.columns < n) {
        l.columns++;
    }
    l.rows = (n + l.columns - 1) / l.columns;
    l.tile_width = (width * limit / side) & ~1;
    l.tile_height = (height * limit / side) & ~1;
    l.tile_width = l.tile_width < 2 ? 2 : l.tile_width;
    l.tile_height = l.tile_height < 2 ? 2 : l.tile_height;
    return l;
}

static struct SwsContext *scaler(int width, int height, enum AVPixelFormat from, int to_width,
                                 int to_height, enum AVPixelFormat to, bool full_range)
{
    const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
    const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
    const bool to_rgb = to == AV_PIX_FMT_RGB24;
    struct SwsContext *sws =
        sws_getContext(width, height, from, to_width, to_height, to, SCALE_FLAGS, NULL, NULL, NULL);

    /* video in: limited range */
    if (sws &&
        sws_setColorspaceDetails(sws, bt709, !to_rgb, bt601, full_range, 0, 1 << 16, 1 << 16) < 0) {
        sws_freeContext(sws);
        sws = NULL;
    }
    return sws;
}

static int draw_tiles(uint8_t *rgb, const struct preview_layout *l, const uint8_t *const *frames,
                      int n, int width, int height, struct err *err)
{
    const int line[4] = {width, width / 2, width / 2};
    const int out_line[4] = {l->columns * l->tile_width * 3};
    struct SwsContext *sws = scaler(width, height, AV_PIX_FMT_YUV420P, l->tile_width,
                                    l->tile_height, AV_PIX_FMT_RGB24, true);
    int rc = ERR_OK;

    if (!sws) {
        return err_set(err, ERR_NO_MEMORY, "preview");
    }
    for (int i = 0; i < n && rc == ERR_OK; i++) {
        const ptrdiff_t luma = (ptrdiff_t)width * height;
        const uint8_t *in[4] = {frames[i], frames[i] + luma, frames[i] + luma + luma / 4};
        uint8_t *out[4] = {rgb + (ptrdiff_t)(i / l->columns) * l->tile_height * out_line[0] +
                           (ptrdiff_t)(i % l->columns) * l->tile_width * 3};
        const int av = sws_scale(sws, in, line, 0, height, out, out_line);

        if (av != l->tile_height) {
            rc = av_error_set(err, ERR_UNSUPPORTED, av, "preview");
        }
    }
    sws_freeContext(sws);
    return rc;
}

static int from_rgb(AVFrame *frame, const struct format *format, const uint8_t *rgb,
                    struct err *err)
{
    const uint8_t *in[4] = {rgb};
    const int line[4] = {frame->width * 3};
    struct SwsContext *sws = scaler(frame->width, frame->height, AV_PIX_FMT_RGB24, frame->width,
                                    frame->height, format->pixels, format->full_range);
    int av;

    frame->format = format->pixels;
    frame->color_range = format->full_range ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
    frame->quality = format->quality;
    av = sws ? av_frame_get_buffer(frame, 0) : AVERROR(ENOMEM);
    if (av >= 0) {
        av = sws_scale(sws, in, line, 0, frame->height, frame->data, frame->linesize);
    }
    sws_freeContext(sws);
    return av < 0 ? av_error_set(err, ERR_UNSUPPORTED, av, "preview") : ERR_OK;
}

/* One picture in, one packet out; or libav's code. */
static int run_encoder(AVCodecContext *codec, const AVCodec *encoder, const struct format *format,
                       const AVFrame *frame, AVPacket *packet)
{
    int av;

    codec->width = frame->width;
    codec->height = frame->height;
    codec->pix_fmt = format->pixels;
    codec->color_range = frame->color_range;
    codec->time_base = (AVRational){1, 1};
    codec->thread_count = 1;
    codec->flags |= AV_CODEC_FLAG_QSCALE | AV_CODEC_FLAG_BITEXACT;
    codec->global_quality = format->quality;
    av = avcodec_open2(codec, encoder, NULL);
    if (av >= 0) {
        av = avcodec_send_frame(codec, frame);
    }
    return av < 0 ? av : avcodec_receive_packet(codec, packet);
}

static int encode(struct str *ret, const struct format *format, const AVFrame *frame,
                  struct err *err)
{
    const AVCodec *encoder = avcodec_find_encoder_by_name(format->encoder);
    AVCodecContext *codec = NULL;
    AVPacket *packet = NULL;
    int rc = ERR_OK;
    int av = AVERROR(ENOMEM);

    if (!encoder) {
        return err_set(err, ERR_UNSUPPORTED, "this system's libavcodec has no %s encoder (%s)",
                       format->name, format->encoder);
    }
    codec = avcodec_alloc_context3(encoder);
    packet = av_packet_alloc();
    if (codec && packet) {
        av = run_encoder(codec, encoder, format, frame, packet);
    }
    if (av < 0) {
        rc = av_error_set(err, ERR_UNSUPPORTED, av, "preview");
    } else if (!str_append(ret, packet->data, (size_t)packet->size)) {
        rc = err_set(err, ERR_NO_MEMORY, "a preview of %d bytes", packet->size);
    }
    avcodec_free_context(&codec);
    av_packet_free(&packet);
    return rc;
}

struct source {
    const uint8_t *const *frames;
    int n;
    int width;
    int height;
};

static int make(struct str *ret, const struct format *format, struct preview_layout *l,
                const struct source *in, int max_side, struct err *err)
{
    AVFrame *frame = NULL;
    uint8_t *rgb = NULL;
    int rc;

    av_error_init();
    if (in->n < 1 || in->n > PREVIEW_MAX_TILES || in->width < 16 || in->width > 8192 ||
        in->width % 2 != 0 || in->height < 16 || in->height > 8192 || in->height % 2 != 0 ||
        max_side < 16 || max_side > 2048) {
        return err_set(err, ERR_INVALID, "no preview of %d frames of %dx%d at %d pixels", in->n,
                       in->width, in->height, max_side);
    }
    *l = plan(in->n, in->width, in->height, max_side);
    rgb = calloc((size_t)l->columns * (size_t)l->tile_width,
                 (size_t)l->rows * (size_t)l->tile_height * 3); /* black */
    frame = av_frame_alloc();
    if (!rgb || !frame) {
        rc = err_set(err, ERR_NO_MEMORY, "preview");
        goto out;
    }
    frame->width = l->columns * l->tile_width;
    frame->height = l->rows * l->tile_height;
    rc = draw_tiles(rgb, l, in->frames, in->n, in->width, in->height, err);
    rc = rc == ERR_OK ? from_rgb(frame, format, rgb, err) : rc;
    rc = rc == ERR_OK ? encode(ret, format, frame, err) : rc;
out:
    av_frame_free(&frame);
    free(rgb);
    return rc;
}

int preview_sheet(struct str *ret, struct preview_layout *ret_layout, const uint8_t *const *frames,
                  int n, int width, int height, int max_side, struct err *err)
{
    const struct source in = {.frames = frames, .n = n, .width = width, .height = height};
    struct preview_layout layout;
    const int rc = make(ret, &jpeg, &layout, &in, max_side, err);

    if (rc == ERR_OK && ret_layout) {
        *ret_layout = layout;
    }
    return rc;
}

int preview_webp(struct str *ret, const uint8_t *frame, int width, int height, int max_side,
                 struct err *err)
{
    const struct source in = {.frames = &frame, .n = 1, .width = width, .height = height};
    struct preview_layout layout;

    return make(ret, &webp, &layout, &in, max_side, err);
}
