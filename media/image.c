#include "media/image.h"

#include <libavcodec/avcodec.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/size.h"
#include "media/av_error.h"
#include "media/image_container.h"
#include "media/image_file.h"
#include "media/yuv_rgb.h"

/* Where red, green and blue are in a pixel whose samples lie together; of 16 bits the upper byte. */
struct packed_format {
    enum AVPixelFormat format;
    int step; /* bytes */
    int r, g, b;
};

static const struct packed_format packed_formats[] = {
    {AV_PIX_FMT_RGB24, 3, 0, 1, 2},    {AV_PIX_FMT_BGR24, 3, 2, 1, 0},
    {AV_PIX_FMT_RGBA, 4, 0, 1, 2},     {AV_PIX_FMT_ARGB, 4, 1, 2, 3},
    {AV_PIX_FMT_BGRA, 4, 2, 1, 0},     {AV_PIX_FMT_GRAY8, 1, 0, 0, 0},
    {AV_PIX_FMT_YA8, 2, 0, 0, 0},      {AV_PIX_FMT_GRAY16BE, 2, 0, 0, 0},
    {AV_PIX_FMT_YA16BE, 4, 0, 0, 0},   {AV_PIX_FMT_RGB48BE, 6, 0, 2, 4},
    {AV_PIX_FMT_RGBA64BE, 8, 0, 2, 4},
};

/* JPEG's own formats, and WebP's. */
static const struct {
    enum AVPixelFormat format;
    int shift_x, shift_y;
} yuv_formats[] = {
    {AV_PIX_FMT_YUVJ420P, 1, 1}, {AV_PIX_FMT_YUVJ422P, 1, 0}, {AV_PIX_FMT_YUVJ444P, 0, 0},
    {AV_PIX_FMT_YUVJ440P, 0, 1}, {AV_PIX_FMT_YUVJ411P, 2, 0}, {AV_PIX_FMT_YUV420P, 1, 1},
};

static void packed_to_rgb(uint8_t *rgb, const AVFrame *f, const struct packed_format *p)
{
    for (int y = 0; y < f->height; y++) {
        const uint8_t *in = f->data[0] + (ptrdiff_t)y * f->linesize[0];

        for (int x = 0; x < f->width; x++, in += p->step, rgb += 3) {
            rgb[0] = in[p->r];
            rgb[1] = in[p->g];
            rgb[2] = in[p->b];
        }
    }
}

static void palette_to_rgb(uint8_t *rgb, const AVFrame *f)
{
    uint32_t palette[256]; /* 0xAARRGGBB in the machine's order */

    memcpy(palette, f->data[1], sizeof(palette));
    for (int y = 0; y < f->height; y++) {
        const uint8_t *in = f->data[0] + (ptrdiff_t)y * f->linesize[0];

        for (int x = 0; x < f->width; x++, rgb += 3) {
            rgb[0] = (uint8_t)(palette[in[x]] >> 16);
            rgb[1] = (uint8_t)(palette[in[x]] >> 8);
            rgb[2] = (uint8_t)palette[in[x]];
        }
    }
}

/* One bit a pixel, from the upper bit on, 1 is white. */
static void bits_to_rgb(uint8_t *rgb, const AVFrame *f)
{
    for (int y = 0; y < f->height; y++) {
        const uint8_t *in = f->data[0] + (ptrdiff_t)y * f->linesize[0];

        for (int x = 0; x < f->width; x++, rgb += 3) {
            memset(rgb, in[x / 8] >> (7 - x % 8) & 1 ? 255 : 0, 3);
        }
    }
}

/* Planes G, B, R. */
static void planar_to_rgb(uint8_t *rgb, const AVFrame *f)
{
    for (int y = 0; y < f->height; y++) {
        const uint8_t *g = f->data[0] + (ptrdiff_t)y * f->linesize[0];
        const uint8_t *b = f->data[1] + (ptrdiff_t)y * f->linesize[1];
        const uint8_t *r = f->data[2] + (ptrdiff_t)y * f->linesize[2];

        for (int x = 0; x < f->width; x++, rgb += 3) {
            rgb[0] = r[x];
            rgb[1] = g[x];
            rgb[2] = b[x];
        }
    }
}

static int yuv_to_rgb(uint8_t *rgb, const AVFrame *f, bool full_range, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(yuv_formats); i++) {
        if (f->format == (int)yuv_formats[i].format) {
            const struct yuv_picture p = {
                .width = f->width,
                .height = f->height,
                .plane = {f->data[0], f->data[1], f->data[2]},
                .line = {f->linesize[0], f->linesize[1], f->linesize[2]},
                .shift_x = yuv_formats[i].shift_x,
                .shift_y = yuv_formats[i].shift_y,
                .full_range = full_range,
            };

            return yuv_rgb_convert(rgb, &p, err);
        }
    }
    return err_set(err, ERR_UNSUPPORTED, "the image's pixel layout (libav %d) is not supported",
                   f->format);
}

static int frame_to_rgb(struct image *image, const AVFrame *f, bool full_range, struct err *err)
{
    size_t bytes;

    if (!size_mul(&bytes, (size_t)f->width * 3, (size_t)f->height)) {
        return err_set(err, ERR_NO_MEMORY, "image of %dx%d", f->width, f->height);
    }
    image->rgb = malloc(bytes);
    if (!image->rgb) {
        return err_set(err, ERR_NO_MEMORY, "image of %dx%d", f->width, f->height);
    }
    image->width = f->width;
    image->height = f->height;
    for (size_t i = 0; i < ARRAY_LEN(packed_formats); i++) {
        if (f->format == (int)packed_formats[i].format) {
            packed_to_rgb(image->rgb, f, &packed_formats[i]);
            return ERR_OK;
        }
    }
    switch (f->format) {
    case AV_PIX_FMT_PAL8:
        palette_to_rgb(image->rgb, f);
        return ERR_OK;
    case AV_PIX_FMT_MONOBLACK:
        bits_to_rgb(image->rgb, f);
        return ERR_OK;
    case AV_PIX_FMT_GBRP:
        planar_to_rgb(image->rgb, f);
        return ERR_OK;
    default:
        return yuv_to_rgb(image->rgb, f, full_range, err);
    }
}

/* EXIF 2.32, 4.6.4: which way the stored rows and columns run. */
static int orient(struct image *image, int orientation, struct err *err)
{
    const int w = image->width;
    const int h = image->height;
    const bool turned = orientation >= 5; /* rows become columns */
    const int out_w = turned ? h : w;
    const int out_h = turned ? w : h;
    const bool flip_x =
        orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool flip_y =
        orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    uint8_t *rgb;
    uint8_t *out;

    if (orientation == 1) {
        return ERR_OK;
    }
    rgb = malloc((size_t)w * (size_t)h * 3);
    if (!rgb) {
        return err_set(err, ERR_NO_MEMORY, "image of %dx%d", w, h);
    }
    out = rgb;
    for (int y = 0; y < out_h; y++) {
        for (int x = 0; x < out_w; x++, out += 3) {
            const int in_x = turned ? y : x;
            const int in_y = turned ? x : y;
            const size_t at = (size_t)(flip_y ? h - 1 - in_y : in_y) * (size_t)w +
                              (size_t)(flip_x ? w - 1 - in_x : in_x);

            memcpy(out, image->rgb + at * 3, 3);
        }
    }
    free(image->rgb);
    *image = (struct image){.width = out_w, .height = out_h, .rgb = rgb};
    return ERR_OK;
}

/* The decoder's buffer, every byte of it set: see read_twice. */
static int get_filled_buffer(AVCodecContext *codec, AVFrame *frame, int flags)
{
    const int *fill = codec->opaque;
    const int av = avcodec_default_get_buffer2(codec, frame, flags);

    for (int i = 0; av >= 0 && i < AV_NUM_DATA_POINTERS && frame->buf[i]; i++) {
        memset(frame->buf[i]->data, *fill, frame->buf[i]->size);
    }
    return av;
}

static int open_decoder(AVCodecContext **ret, enum image_format format, int *fill, struct err *err)
{
    static const enum AVCodecID ids[] = {AV_CODEC_ID_PNG, AV_CODEC_ID_MJPEG, AV_CODEC_ID_WEBP};
    const AVCodec *decoder = avcodec_find_decoder(ids[format]);
    int av;

    if (!decoder) {
        return err_set(err, ERR_UNSUPPORTED, "this system's libavcodec has no %s decoder",
                       image_format_name(format));
    }
    *ret = avcodec_alloc_context3(decoder);
    if (!*ret) {
        return err_set(err, ERR_NO_MEMORY, "image decoder");
    }
    (*ret)->thread_count = 1;
    (*ret)->max_pixels = IMAGE_MAX_PIXELS;
    (*ret)->opaque = fill;
    (*ret)->get_buffer2 = get_filled_buffer;
    (*ret)->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
    av = avcodec_open2(*ret, decoder, NULL);
    return av < 0 ? av_error_set(err, ERR_UNSUPPORTED, av, "image decoder") : ERR_OK;
}

/* libavcodec's decoder, one packet in, one frame out. */
static int decode(AVFrame *frame, const struct image_container *c, int fill, struct err *err)
{
    const char *name = image_format_name(c->format);
    AVCodecContext *codec = NULL;
    AVPacket *packet = av_packet_alloc();
    int av = packet ? av_new_packet(packet, (int)c->bare.len) : AVERROR(ENOMEM);
    int rc;

    if (av < 0) {
        rc = err_set(err, ERR_NO_MEMORY, "image decoder");
        goto out;
    }
    memcpy(packet->data, c->bare.data, c->bare.len);
    rc = open_decoder(&codec, c->format, &fill, err);
    if (rc != ERR_OK) {
        goto out;
    }
    av = avcodec_send_packet(codec, packet);
    if (av >= 0) {
        av = avcodec_send_packet(codec, NULL);
    }
    if (av >= 0) {
        av = avcodec_receive_frame(codec, frame);
    }
    if (av < 0) {
        rc = av_error_set(err, ERR_FORMAT, av, "the %s image is damaged", name);
    } else if (frame->width != c->width || frame->height != c->height) {
        rc =
            err_set(err, ERR_FORMAT, "the %s image is damaged: %dx%d pixels, its header says %dx%d",
                    name, frame->width, frame->height, c->width, c->height);
    } else if (frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT)) {
        rc = err_set(err, ERR_FORMAT, "the %s image is damaged", name);
    }
out:
    avcodec_free_context(&codec);
    av_packet_free(&packet);
    return rc;
}

static int decode_to_rgb(struct image *image, const struct image_container *c, int fill,
                         struct err *err)
{
    AVFrame *frame = av_frame_alloc();
    int rc;

    if (!frame) {
        return err_set(err, ERR_NO_MEMORY, "image");
    }
    rc = decode(frame, c, fill, err);
    if (rc == ERR_OK) {
        rc = frame_to_rgb(image, frame, c->format == IMAGE_JPEG, err);
    }
    av_frame_free(&frame);
    return rc;
}

/*
 * libavcodec says nothing when compressed data end early: the rest of the picture is what was in the
 * buffer before. So decode into two buffers of different contents; pixels that differ were not in the
 * file.
 */
static int read_twice(struct image *image, const struct image_container *c, struct err *err)
{
    struct image again = {0};
    int rc = decode_to_rgb(image, c, 0x00, err);

    if (rc == ERR_OK) {
        rc = decode_to_rgb(&again, c, 0xff, err);
    }
    if (rc != ERR_OK) {
        goto out;
    }
    CHECK_BUG(image->rgb && again.rgb);
    if (memcmp(image->rgb, again.rgb, (size_t)image->width * (size_t)image->height * 3) != 0) {
        rc = err_set(err, ERR_FORMAT, "the %s image is damaged: its data do not fill the picture",
                     image_format_name(c->format));
    }
out:
    image_done(&again);
    return rc;
}

int image_read(struct image *ret, const uint8_t *data, size_t len, struct err *err)
{
    struct image image = {0};
    struct image_container c;
    int rc;

    av_error_init();
    rc = image_container_read(&c, data, len, err);
    if (rc == ERR_OK) {
        rc = read_twice(&image, &c, err);
    }
    if (rc == ERR_OK) {
        rc = orient(&image, c.orientation, err);
    }
    if (rc == ERR_OK) {
        *ret = image;
        image.rgb = NULL;
    }
    image_done(&image);
    image_container_done(&c);
    return rc;
}

int image_read_file(struct image *ret, const char *path, struct err *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int rc = image_file_read(&data, &len, path, err);

    if (rc == ERR_OK) {
        rc = image_read(ret, data, len, err);
    }
    free(data);
    return rc == ERR_OK ? rc : err_prefix(err, "'%s'", path);
}

void image_done(struct image *image)
{
    free(image->rgb);
    *image = (struct image){0};
}
