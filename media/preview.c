#include "media/preview.h"

#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "media/av_error.h"

enum {
    JPEG_QUALITY = 3, /* the quantiser scale, 2 best to 31 */
    SCALE_FLAGS =
        SWS_AREA | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND | SWS_BITEXACT,
};

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
                                 int to_height, enum AVPixelFormat to)
{
    const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
    const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
    const bool to_rgb = to == AV_PIX_FMT_RGB24;
    struct SwsContext *sws =
        sws_getContext(width, height, from, to_width, to_height, to, SCALE_FLAGS, NULL, NULL, NULL);

    /* video in: limited range; JPEG out: full range */
    if (sws && sws_setColorspaceDetails(sws, bt709, !to_rgb, bt601, 1, 0, 1 << 16, 1 << 16) < 0) {
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
    struct SwsContext *sws =
        scaler(width, height, AV_PIX_FMT_YUV420P, l->tile_width, l->tile_height, AV_PIX_FMT_RGB24);
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

static int to_jpeg_frame(AVFrame *frame, const uint8_t *rgb, struct err *err)
{
    const uint8_t *in[4] = {rgb};
    const int line[4] = {frame->width * 3};
    struct SwsContext *sws = scaler(frame->width, frame->height, AV_PIX_FMT_RGB24, frame->width,
                                    frame->height, AV_PIX_FMT_YUVJ420P);
    int av = sws ? av_frame_get_buffer(frame, 0) : AVERROR(ENOMEM);

    if (av >= 0) {
        av = sws_scale(sws, in, line, 0, frame->height, frame->data, frame->linesize);
    }
    sws_freeContext(sws);
    return av < 0 ? av_error_set(err, ERR_UNSUPPORTED, av, "preview") : ERR_OK;
}

static int encode_jpeg(struct str *ret, AVFrame *frame, struct err *err)
{
    const AVCodec *encoder = avcodec_find_encoder(AV_CODEC_ID_MJPEG);
    AVCodecContext *codec = encoder ? avcodec_alloc_context3(encoder) : NULL;
    AVPacket *packet = av_packet_alloc();
    int rc = ERR_OK;
    int av = AVERROR(ENOMEM);

    if (!encoder) {
        rc = err_set(err, ERR_UNSUPPORTED, "this system's libavcodec has no JPEG encoder");
        goto out;
    }
    if (codec && packet) {
        codec->width = frame->width;
        codec->height = frame->height;
        codec->pix_fmt = AV_PIX_FMT_YUVJ420P;
        codec->color_range = AVCOL_RANGE_JPEG;
        codec->time_base = (AVRational){1, 1};
        codec->thread_count = 1;
        codec->flags |= AV_CODEC_FLAG_QSCALE | AV_CODEC_FLAG_BITEXACT;
        codec->global_quality = FF_QP2LAMBDA * JPEG_QUALITY;
        frame->quality = codec->global_quality;
        av = avcodec_open2(codec, encoder, NULL);
    }
    if (av >= 0) {
        av = avcodec_send_frame(codec, frame);
    }
    if (av >= 0) {
        av = avcodec_receive_packet(codec, packet);
    }
    if (av < 0) {
        rc = av_error_set(err, ERR_UNSUPPORTED, av, "preview");
    } else if (!str_append(ret, packet->data, (size_t)packet->size)) {
        rc = err_set(err, ERR_NO_MEMORY, "a preview of %d bytes", packet->size);
    }
out:
    avcodec_free_context(&codec);
    av_packet_free(&packet);
    return rc;
}

int preview_sheet(struct str *ret, struct preview_layout *ret_layout, const uint8_t *const *frames,
                  int n, int width, int height, int max_side, struct err *err)
{
    struct preview_layout l;
    AVFrame *frame = NULL;
    uint8_t *rgb = NULL;
    int rc;

    av_error_init();
    if (n < 1 || n > PREVIEW_MAX_TILES || width < 16 || width > 8192 || width % 2 != 0 ||
        height < 16 || height > 8192 || height % 2 != 0 || max_side < 16 || max_side > 2048) {
        return err_set(err, ERR_INVALID, "no preview of %d frames of %dx%d at %d pixels", n, width,
                       height, max_side);
    }
    l = plan(n, width, height, max_side);
    rgb = calloc((size_t)l.columns * (size_t)l.tile_width,
                 (size_t)l.rows * (size_t)l.tile_height * 3); /* black */
    frame = av_frame_alloc();
    if (!rgb || !frame) {
        rc = err_set(err, ERR_NO_MEMORY, "preview");
        goto out;
    }
    frame->format = AV_PIX_FMT_YUVJ420P;
    frame->width = l.columns * l.tile_width;
    frame->height = l.rows * l.tile_height;
    frame->color_range = AVCOL_RANGE_JPEG;
    rc = draw_tiles(rgb, &l, frames, n, width, height, err);
    rc = rc == ERR_OK ? to_jpeg_frame(frame, rgb, err) : rc;
    rc = rc == ERR_OK ? encode_jpeg(ret, frame, err) : rc;
    if (rc == ERR_OK && ret_layout) {
        *ret_layout = l;
    }
out:
    av_frame_free(&frame);
    free(rgb);
    return rc;
}
