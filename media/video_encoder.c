#include "media/video_encoder.h"

#include <libavcodec/avcodec.h>
#include <libavutil/opt.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "media/av_error.h"

struct video_encoder {
    struct video_encoder_options options; /* preset points into presets[] */
    AVCodecContext *codec;                /* of the block, or opened for the next one; or NULL */
    AVFrame *frame;
    AVPacket *packet;
    uint8_t *headers; /* owned */
    size_t headers_len;
    bool in_block;
    int64_t next_pts;   /* frames */
    int64_t next_index; /* packets */
    int64_t block_start;
};

static const char *const presets[] = {"ultrafast", "superfast", "veryfast", "faster",  "fast",
                                      "medium",    "slow",      "slower",   "veryslow"};

static const char *find_preset(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
        if (strcmp(presets[i], name) == 0) {
            return presets[i];
        }
    }
    return NULL;
}

static int check_options(struct video_encoder_options *o, struct err *err)
{
    if (o->width < VIDEO_ENCODER_MIN_SIDE || o->width > VIDEO_ENCODER_MAX_SIDE ||
        o->width % 2 != 0 || o->height < VIDEO_ENCODER_MIN_SIDE ||
        o->height > VIDEO_ENCODER_MAX_SIDE || o->height % 2 != 0) {
        return err_set(err, ERR_INVALID,
                       "video size %dx%d: width and height must be even, %d to %d", o->width,
                       o->height, VIDEO_ENCODER_MIN_SIDE, VIDEO_ENCODER_MAX_SIDE);
    }
    if (o->fps_num < 1 || o->fps_den < 1 || o->fps_num > 1000000 || o->fps_num < o->fps_den ||
        o->fps_num / o->fps_den > 240 ||
        (o->fps_num / o->fps_den == 240 && o->fps_num % o->fps_den != 0)) {
        return err_set(err, ERR_INVALID, "frame rate %d/%d must be within 1 and 240", o->fps_num,
                       o->fps_den);
    }
    o->crf = o->crf == 0 ? VIDEO_ENCODER_DEFAULT_CRF : o->crf;
    if (o->crf < 1 || o->crf > 51) {
        return err_set(err, ERR_INVALID, "video quality (crf) %d must be 1 to 51", o->crf);
    }
    o->n_threads = o->n_threads == 0 ? 1 : o->n_threads;
    if (o->n_threads < 1 || o->n_threads > VIDEO_ENCODER_MAX_THREADS) {
        return err_set(err, ERR_INVALID, "encoder threads %d must be 1 to %d", o->n_threads,
                       VIDEO_ENCODER_MAX_THREADS);
    }
    const char *preset = o->preset ? o->preset : "veryfast";

    o->preset = find_preset(preset);
    if (!o->preset) {
        return err_set(err, ERR_INVALID, "encoder preset '%s' is not one of x264's", preset);
    }
    return ERR_OK;
}

static void set_fields(AVCodecContext *codec, const struct video_encoder_options *o)
{
    codec->width = o->width;
    codec->height = o->height;
    codec->pix_fmt = AV_PIX_FMT_YUV420P;
    codec->time_base = (AVRational){o->fps_den, o->fps_num};
    codec->framerate = (AVRational){o->fps_num, o->fps_den};
    codec->sample_aspect_ratio = (AVRational){1, 1};
    codec->max_b_frames = 2;
    /* One number for all blocks, not the block's length: x264 puts a one-picture GOP into other
     * parameter sets, and all blocks share one init segment. */
    codec->gop_size = VIDEO_ENCODER_MAX_GOP;
    codec->thread_count = o->n_threads;
    codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_CLOSED_GOP;
    codec->color_primaries = AVCOL_PRI_BT709;
    codec->color_trc = AVCOL_TRC_BT709;
    codec->colorspace = AVCOL_SPC_BT709;
    codec->color_range = AVCOL_RANGE_MPEG;
    codec->chroma_sample_location = AVCHROMA_LOC_LEFT;
}

/* sc_threshold 0: no further key frames at cuts; a block is one GOP. */
static int set_options(AVCodecContext *codec, const struct video_encoder_options *o)
{
#if defined(__x86_64__)
    static const char x264_params[] = "asm=sse2:scenecut=0";
#else
    static const char x264_params[] = "scenecut=0";
#endif
    int rc = av_opt_set(codec->priv_data, "preset", o->preset, 0);

    if (rc >= 0) {
        rc = av_opt_set(codec->priv_data, "profile", "high", 0);
    }
    if (rc >= 0) {
        rc = av_opt_set_double(codec->priv_data, "crf", o->crf, 0);
    }
    if (rc >= 0) {
        rc = av_opt_set_int(codec->priv_data, "forced-idr", 1, 0);
    }
    if (rc >= 0) {
        rc = av_opt_set(codec->priv_data, "x264-params", x264_params, 0);
    }
    return rc;
}

static int open_codec(struct video_encoder *enc, struct err *err)
{
    const AVCodec *x264 = avcodec_find_encoder_by_name("libx264");
    int rc;

    if (!x264) {
        return err_set(
            err, ERR_UNSUPPORTED,
            "this system's libavcodec has no libx264 encoder; install an FFmpeg with it");
    }
    enc->codec = avcodec_alloc_context3(x264);
    if (!enc->codec) {
        return err_set(err, ERR_NO_MEMORY, "video encoder");
    }
    set_fields(enc->codec, &enc->options);
    rc = set_options(enc->codec, &enc->options);
    if (rc >= 0) {
        rc = avcodec_open2(enc->codec, x264, NULL);
    }
    if (rc < 0) {
        avcodec_free_context(&enc->codec);
        return av_error_set(err, ERR_UNSUPPORTED, rc, "libx264 refuses %dx%d at %d/%d frames/s",
                            enc->options.width, enc->options.height, enc->options.fps_num,
                            enc->options.fps_den);
    }
    return ERR_OK;
}

static int keep_headers(struct video_encoder *enc, struct err *err)
{
    if (enc->codec->extradata_size <= 0) {
        return err_set(err, ERR_UNSUPPORTED, "libx264 gave no parameter sets");
    }
    enc->headers_len = (size_t)enc->codec->extradata_size;
    enc->headers = malloc(enc->headers_len);
    if (!enc->headers) {
        return err_set(err, ERR_NO_MEMORY, "video encoder");
    }
    memcpy(enc->headers, enc->codec->extradata, enc->headers_len);
    return ERR_OK;
}

int video_encoder_create(struct video_encoder **ret, const struct video_encoder_options *options,
                         struct err *err)
{
    struct video_encoder *enc = calloc(1, sizeof(*enc));
    int rc;

    av_error_init();
    if (!enc) {
        return err_set(err, ERR_NO_MEMORY, "video encoder");
    }
    enc->options = *options;
    rc = check_options(&enc->options, err);
    if (rc != ERR_OK) {
        goto out;
    }
    enc->frame = av_frame_alloc();
    enc->packet = av_packet_alloc();
    if (!enc->frame || !enc->packet) {
        rc = err_set(err, ERR_NO_MEMORY, "video encoder");
        goto out;
    }
    rc = open_codec(enc, err); /* serves the first block too */
    if (rc == ERR_OK) {
        rc = keep_headers(enc, err);
    }
    if (rc != ERR_OK) {
        goto out;
    }
    *ret = enc;
    enc = NULL;
out:
    video_encoder_free(enc);
    return rc;
}

void video_encoder_free(struct video_encoder *enc)
{
    if (!enc) {
        return;
    }
    avcodec_free_context(&enc->codec);
    av_packet_free(&enc->packet);
    av_frame_free(&enc->frame);
    free(enc->headers);
    free(enc);
}

const uint8_t *video_encoder_headers(const struct video_encoder *enc, size_t *ret_len)
{
    *ret_len = enc->headers_len;
    return enc->headers;
}

size_t video_encoder_frame_bytes(const struct video_encoder *enc)
{
    return (size_t)enc->options.width * (size_t)enc->options.height * 3 / 2;
}

int video_encoder_begin_block(struct video_encoder *enc, int64_t first_frame, struct err *err)
{
    CHECK_BUG(!enc->in_block);
    if (first_frame < 0) {
        return err_set(err, ERR_INVALID, "a block cannot start at frame %lld",
                       (long long)first_frame);
    }
    if (!enc->codec) {
        const int rc = open_codec(enc, err);

        if (rc != ERR_OK) {
            return rc;
        }
    }
    CHECK_BUG(enc->codec);
    if ((size_t)enc->codec->extradata_size != enc->headers_len ||
        memcmp(enc->codec->extradata, enc->headers, enc->headers_len) != 0) {
        avcodec_free_context(&enc->codec);
        return err_set(err, ERR_UNSUPPORTED, "libx264 changed its parameter sets between blocks");
    }
    enc->in_block = true;
    enc->block_start = first_frame;
    enc->next_pts = first_frame;
    enc->next_index = first_frame;
    return ERR_OK;
}

/* The start of the first 00 00 01 at or after p; end if there is none. */
static const uint8_t *find_start_code(const uint8_t *p, const uint8_t *end)
{
    for (; end - p >= 3; p++) {
        if (p[0] == 0 && p[1] == 0 && p[2] == 1) {
            return p;
        }
    }
    return end;
}

/* x264 puts its version and settings into an unregistered user data SEI before the first picture;
 * it would make the bytes depend on the build. Skips such SEI at the front. */
static const uint8_t *skip_version_sei(const uint8_t *data, const uint8_t *end)
{
    enum {
        NAL_SEI = 6,
        SEI_USER_DATA_UNREGISTERED = 5
    };

    for (;;) {
        const uint8_t *nal = find_start_code(data, end);
        const uint8_t *next;

        if (end - nal < 5 || (nal[3] & 0x1f) != NAL_SEI || nal[4] != SEI_USER_DATA_UNREGISTERED) {
            return data;
        }
        next = find_start_code(nal + 3, end);
        if (next == end) {
            return data; /* a packet must hold a picture */
        }
        data = next[-1] == 0 ? next - 1 : next;
    }
}

static int give_packet(struct video_encoder *enc, video_packet_fn fn, void *ctx, struct err *err)
{
    const AVPacket *in = enc->packet;
    const uint8_t *end = in->data + in->size;
    const uint8_t *data = skip_version_sei(in->data, end);
    const struct video_packet out = {.data = data,
                                     .len = (size_t)(end - data),
                                     .pts = in->pts,
                                     .index = enc->next_index,
                                     .key = (in->flags & AV_PKT_FLAG_KEY) != 0};

    enc->next_index++;
    return fn(ctx, &out, err);
}

/* Sends a frame, or NULL for the end, and hands out what comes back. */
static int encode(struct video_encoder *enc, const AVFrame *frame, video_packet_fn fn, void *ctx,
                  struct err *err)
{
    int av = avcodec_send_frame(enc->codec, frame);

    while (av >= 0) {
        int rc;

        av = avcodec_receive_packet(enc->codec, enc->packet);
        if (av == AVERROR(EAGAIN) || av == AVERROR_EOF) {
            return ERR_OK;
        }
        if (av < 0) {
            break;
        }
        rc = give_packet(enc, fn, ctx, err);
        av_packet_unref(enc->packet);
        if (rc != ERR_OK) {
            return rc;
        }
    }
    return av_error_set(err, ERR_IO, av, "libx264 failed near frame %lld",
                        (long long)enc->next_pts);
}

int video_encoder_frame(struct video_encoder *enc, const uint8_t *frame, video_packet_fn fn,
                        void *ctx, struct err *err)
{
    const int w = enc->options.width;
    const int h = enc->options.height;
    uint8_t *y = (uint8_t *)frame; /* AVFrame has no const; without a buffer ref it is copied */
    AVFrame *f = enc->frame;
    int rc;

    CHECK_BUG(enc->in_block);
    av_frame_unref(f);
    f->format = AV_PIX_FMT_YUV420P;
    f->width = w;
    f->height = h;
    f->data[0] = y;
    f->data[1] = y + (ptrdiff_t)w * h;
    f->data[2] = f->data[1] + (ptrdiff_t)(w / 2) * (h / 2);
    f->linesize[0] = w;
    f->linesize[1] = w / 2;
    f->linesize[2] = w / 2;
    f->color_range = AVCOL_RANGE_MPEG;
    f->pts = enc->next_pts;
    /* The encoder is fresh, so its first picture is an IDR anyway; this says that it must be. */
    f->pict_type = enc->next_pts == enc->block_start ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
    rc = encode(enc, f, fn, ctx, err);
    enc->next_pts++;
    return rc;
}

int video_encoder_end_block(struct video_encoder *enc, video_packet_fn fn, void *ctx,
                            struct err *err)
{
    int rc;

    CHECK_BUG(enc->in_block);
    if (enc->next_pts == enc->block_start) {
        rc = err_set(err, ERR_INVALID, "a video block without frames");
    } else {
        rc = encode(enc, NULL, fn, ctx, err);
    }
    if (rc == ERR_OK && enc->next_index != enc->next_pts) {
        rc = err_set(err, ERR_IO, "libx264 made %lld pictures of %lld frames",
                     (long long)(enc->next_index - enc->block_start),
                     (long long)(enc->next_pts - enc->block_start));
    }
    video_encoder_abort_block(enc);
    return rc;
}

void video_encoder_abort_block(struct video_encoder *enc)
{
    if (enc->in_block) {
        avcodec_free_context(&enc->codec);
        enc->in_block = false;
    }
}
