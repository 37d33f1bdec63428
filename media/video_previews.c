/*
 * Two passes over the file: the first one counts pictures, the second one decodes the groups of
 * pictures (a block of fmp4.h each: closed, in display order from its IDR picture on) that hold a
 * chosen one. So there is no seeking, which fragments without an index do not allow.
 */
#include "media/video_previews.h"

#include <errno.h>
#include <fcntl.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/av_error.h"

enum {
    THUMBNAIL_SIDE = 640,
    TILE_SIDE = 240,
    PREVIEW_MAX_BYTES = 16 << 20,
    PATH_MAX_BYTES = 4096,
    MIN_SIDE = 16,
    MAX_SIDE = 8192,
};

struct previewer {
    const char *path;
    struct str url;
    AVFormatContext *in;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    int width, height;

    /* Of the first pass. */
    int64_t n_frames;
    double seconds;
    int64_t *groups; /* owned; number of the first picture of each */
    int64_t n_groups, capacity;

    /* Of the second pass. */
    int64_t shown;    /* pictures of this group that came out, from its first one's number on */
    int64_t read;     /* packets */
    int64_t group;    /* in work */
    bool wanted;      /* its packets are decoded */
    int n_tiles, got; /* chosen pictures, and how many of them are there */
    uint8_t *tiles[PREVIEW_MAX_TILES];
};

/* ---- the file ---- */

static int check_file(const char *path, struct err *err)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "open '%s': %m", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    }
    if (access(path, R_OK) != 0) {
        return err_set(err, ERR_IO, "open '%s': %m", path);
    }
    return ERR_OK;
}

static int file_error(const struct previewer *p, int av, struct err *err)
{
    return av_error_set(err, av == AVERROR(EIO) ? ERR_IO : ERR_FORMAT, av, "previews of '%s'",
                        p->path);
}

static int open_file(struct previewer *p, struct err *err)
{
    AVDictionary *options = NULL;
    const AVCodecParameters *video;
    int av = av_dict_set(&options, "ignore_editlist", "1", 0); /* every picture counts */

    avformat_close_input(&p->in);
    if (av >= 0) {
        av = avformat_open_input(&p->in, p->url.data, av_find_input_format("mp4"), &options);
    }
    av_dict_free(&options);
    if (av < 0) {
        return file_error(p, av, err);
    }
    video = p->in->nb_streams == 1 ? p->in->streams[0]->codecpar : NULL;
    if (!video || video->codec_id != AV_CODEC_ID_H264) {
        return err_set(err, ERR_FORMAT, "'%s' does not hold one H.264 video", p->path);
    }
    if (video->width < MIN_SIDE || video->width > MAX_SIDE || video->width % 2 != 0 ||
        video->height < MIN_SIDE || video->height > MAX_SIDE || video->height % 2 != 0) {
        return err_set(err, ERR_FORMAT, "'%s' is a video of %dx%d", p->path, video->width,
                       video->height);
    }
    p->width = video->width;
    p->height = video->height;
    return ERR_OK;
}

/* ERR_OK with an empty packet at the end. */
static int next_packet(struct previewer *p, struct err *err)
{
    int av;

    av_packet_unref(p->packet);
    av = av_read_frame(p->in, p->packet);
    if (av == AVERROR_EOF) {
        av_packet_unref(p->packet);
        return ERR_OK;
    }
    return av < 0 ? file_error(p, av, err) : ERR_OK;
}

/* ---- first pass ---- */

static int add_group(struct previewer *p, struct err *err)
{
    if (p->n_groups == p->capacity) {
        const int64_t capacity = p->capacity ? 2 * p->capacity : 64;
        int64_t *groups = realloc(p->groups, (size_t)capacity * sizeof(*groups));

        if (!groups) {
            return err_set(err, ERR_NO_MEMORY, "previews of '%s'", p->path);
        }
        p->groups = groups;
        p->capacity = capacity;
    }
    p->groups[p->n_groups++] = p->n_frames;
    return ERR_OK;
}

static int count(struct previewer *p, struct err *err)
{
    int64_t ticks = 0;
    int rc = next_packet(p, err);

    while (rc == ERR_OK && p->packet->size > 0) {
        if (p->packet->flags & AV_PKT_FLAG_KEY) {
            rc = add_group(p, err);
        } else if (p->n_groups == 0) {
            rc = err_set(err, ERR_FORMAT, "'%s' does not begin with a key picture", p->path);
        }
        p->n_frames++;
        ticks += p->packet->duration;
        if (rc == ERR_OK) {
            rc = next_packet(p, err);
        }
    }
    if (rc == ERR_OK && p->n_frames == 0) {
        rc = err_set(err, ERR_FORMAT, "'%s' has no pictures", p->path);
    }
    p->seconds = (double)ticks * av_q2d(p->in->streams[0]->time_base);
    return rc;
}

/* ---- second pass ---- */

static int open_decoder(struct previewer *p, struct err *err)
{
    const AVCodec *decoder = avcodec_find_decoder(AV_CODEC_ID_H264);
    int av;

    if (!decoder) {
        return err_set(err, ERR_UNSUPPORTED, "this system's libavcodec has no H.264 decoder");
    }
    p->codec = avcodec_alloc_context3(decoder);
    p->frame = av_frame_alloc();
    if (!p->codec || !p->frame) {
        return err_set(err, ERR_NO_MEMORY, "previews of '%s'", p->path);
    }
    av = avcodec_parameters_to_context(p->codec, p->in->streams[0]->codecpar);
    p->codec->thread_count = 1;
    p->codec->flags |= AV_CODEC_FLAG_BITEXACT;
    p->codec->err_recognition = AV_EF_EXPLODE;
    if (av >= 0) {
        av = avcodec_open2(p->codec, decoder, NULL);
    }
    return av < 0 ? file_error(p, av, err) : ERR_OK;
}

/* Number of the chosen picture i. */
static int64_t chosen(const struct previewer *p, int i)
{
    return i * p->n_frames / p->n_tiles;
}

static int keep_frame(struct previewer *p, struct err *err)
{
    const AVFrame *f = p->frame;
    uint8_t *out;

    if (f->format != AV_PIX_FMT_YUV420P || f->width != p->width || f->height != p->height ||
        f->decode_error_flags != 0 || (f->flags & AV_FRAME_FLAG_CORRUPT)) {
        return err_set(err, ERR_FORMAT, "'%s': a damaged picture", p->path);
    }
    out = malloc((size_t)p->width * (size_t)p->height / 2 * 3);
    if (!out) {
        return err_set(err, ERR_NO_MEMORY, "previews of '%s'", p->path);
    }
    p->tiles[p->got++] = out;
    for (int plane = 0; plane < 3; plane++) {
        const int width = plane == 0 ? p->width : p->width / 2;
        const int height = plane == 0 ? p->height : p->height / 2;

        for (int y = 0; y < height; y++, out += width) {
            memcpy(out, f->data[plane] + (ptrdiff_t)y * f->linesize[plane], (size_t)width);
        }
    }
    return ERR_OK;
}

/* packet NULL: all that the decoder still has. */
static int decode(struct previewer *p, const AVPacket *packet, struct err *err)
{
    int rc = ERR_OK;
    int av = avcodec_send_packet(p->codec, packet);

    while (av >= 0 && rc == ERR_OK) {
        av = avcodec_receive_frame(p->codec, p->frame);
        if (av >= 0 && p->got < p->n_tiles && chosen(p, p->got) == p->groups[p->group] + p->shown) {
            rc = keep_frame(p, err);
        }
        p->shown += av >= 0;
    }
    if (rc == ERR_OK && av != AVERROR(EAGAIN) && av != AVERROR_EOF) {
        rc = file_error(p, av, err);
    }
    return rc;
}

static int end_group(struct previewer *p, struct err *err)
{
    int rc = ERR_OK;

    if (p->wanted) {
        rc = decode(p, NULL, err);
        avcodec_flush_buffers(p->codec);
    }
    return rc;
}

static bool group_has_chosen(const struct previewer *p)
{
    const int64_t end = p->group + 1 < p->n_groups ? p->groups[p->group + 1] : p->n_frames;

    return p->got < p->n_tiles && chosen(p, p->got) < end;
}

static int take_packet(struct previewer *p, struct err *err)
{
    int rc = ERR_OK;

    if (p->group + 1 < p->n_groups && p->read == p->groups[p->group + 1]) {
        rc = end_group(p, err);
        p->group++;
        p->shown = 0;
        p->wanted = group_has_chosen(p);
    }
    if (rc == ERR_OK && p->wanted) {
        rc = decode(p, p->packet, err);
    }
    p->read++;
    return rc;
}

static int decode_chosen(struct previewer *p, struct err *err)
{
    int rc = next_packet(p, err);

    p->n_tiles = p->n_frames < PREVIEW_MAX_TILES ? (int)p->n_frames : PREVIEW_MAX_TILES;
    p->wanted = true; /* the first picture is always chosen */
    while (rc == ERR_OK && p->packet->size > 0 && p->got < p->n_tiles) {
        rc = take_packet(p, err);
        if (rc == ERR_OK) {
            rc = next_packet(p, err);
        }
    }
    if (rc == ERR_OK && p->got < p->n_tiles) {
        rc = end_group(p, err);
    }
    if (rc == ERR_OK && p->got < p->n_tiles) {
        rc = err_set(err, ERR_FORMAT, "'%s': picture %lld is missing", p->path,
                     (long long)chosen(p, p->got));
    }
    return rc;
}

/* ---- pictures ---- */

static int draw(struct video_previews *ret, const struct previewer *p, struct err *err)
{
    const uint8_t *const *tiles = (const uint8_t *const *)p->tiles;
    int rc = preview_sheet(&ret->thumbnail_jpeg, NULL, tiles, 1, p->width, p->height,
                           THUMBNAIL_SIDE, err);

    if (rc == ERR_OK) {
        rc = preview_webp(&ret->thumbnail_webp, tiles[0], p->width, p->height, THUMBNAIL_SIDE, err);
    }
    if (rc == ERR_OK) {
        rc = preview_sheet(&ret->spritesheet, &ret->sheet, tiles, p->n_tiles, p->width, p->height,
                           TILE_SIDE, err);
    }
    ret->interval = p->seconds / p->n_tiles;
    return rc;
}

static int read_video(struct previewer *p, struct err *err)
{
    int rc = check_file(p->path, err);

    if (rc != ERR_OK) {
        return rc;
    }
    p->packet = av_packet_alloc();
    if (!p->packet || !str_addf(&p->url, "file:%s", p->path)) { /* whatever the name looks like */
        return err_set(err, ERR_NO_MEMORY, "previews of '%s'", p->path);
    }
    rc = open_file(p, err);
    if (rc == ERR_OK) {
        rc = count(p, err);
    }
    if (rc == ERR_OK) {
        rc = open_file(p, err); /* from the start */
    }
    if (rc == ERR_OK) {
        rc = open_decoder(p, err);
    }
    return rc != ERR_OK ? rc : decode_chosen(p, err);
}

static void previewer_done(struct previewer *p)
{
    for (int i = 0; i < PREVIEW_MAX_TILES; i++) {
        free(p->tiles[i]);
    }
    free(p->groups);
    av_frame_free(&p->frame);
    av_packet_free(&p->packet);
    avcodec_free_context(&p->codec);
    avformat_close_input(&p->in);
    str_done(&p->url);
}

int video_previews(struct video_previews *ret, const char *path, struct err *err)
{
    struct video_previews previews = {0};
    struct previewer p = {.path = path};
    int rc;

    av_error_init();
    str_init(&p.url, PATH_MAX_BYTES);
    str_init(&previews.thumbnail_jpeg, PREVIEW_MAX_BYTES);
    str_init(&previews.thumbnail_webp, PREVIEW_MAX_BYTES);
    str_init(&previews.spritesheet, PREVIEW_MAX_BYTES);
    rc = read_video(&p, err);
    if (rc == ERR_OK) {
        rc = draw(&previews, &p, err);
    }
    previewer_done(&p);
    if (rc != ERR_OK) {
        video_previews_done(&previews);
        return rc;
    }
    *ret = previews;
    return ERR_OK;
}

void video_previews_done(struct video_previews *p)
{
    str_done(&p->thumbnail_jpeg);
    str_done(&p->thumbnail_webp);
    str_done(&p->spritesheet);
}
