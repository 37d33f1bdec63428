#include "media/fmp4.h"

#include <inttypes.h>
#include <libavformat/avformat.h>
#include <libavutil/dict.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "media/av_error.h"
#include "media/mp4_box.h"

enum {
    IO_BYTES = 64 * 1024,
    FRAGMENT_MAX_BYTES = 1 << 30,
    MIN_TIMESCALE = 10000, /* libavformat doubles anything below by itself */
};

/*
 * As with the encoder, every block gets a fresh muxer, whose init segment is thrown away: a muxer
 * remembers what it has seen (once a block had B pictures, all later ones get a table of offsets), and
 * a resumed video must have the same bytes.
 */
struct fmp4 {
    struct video_encoder_options video;
    struct video_encoder *encoder;
    AVFormatContext *format; /* of the block; or NULL */
    AVIOContext *io;
    AVPacket *packet;
    fmp4_sink_fn sink;
    void *sink_ctx;
    struct str pending; /* what the muxer wrote since the last part */
    int64_t timescale;
    int64_t frame_duration; /* in 1/timescale s */
    int64_t total_frames;
    int64_t n_frames;
    int64_t n_fragments;
};

static int collect(void *opaque, uint8_t *data, int len)
{
    struct str *pending = opaque;

    return str_append(pending, data, (size_t)len) ? len : AVERROR(ENOMEM);
}

static int flush(struct fmp4 *w, struct err *err)
{
    avio_flush(w->io);
    if (w->pending.failed) {
        return err_set(err, ERR_NO_MEMORY, "a video fragment is over %d MiB, or memory ran out",
                       FRAGMENT_MAX_BYTES >> 20);
    }
    return ERR_OK;
}

static int give(struct fmp4 *w, enum fmp4_part part, struct err *err)
{
    const int rc =
        w->sink(w->sink_ctx, part, (const uint8_t *)w->pending.data, w->pending.len, err);

    w->pending.len = 0;
    return rc;
}

static int set_time_base(struct fmp4 *w, const struct fmp4_options *o, struct err *err)
{
    w->timescale = o->video.fps_num;
    w->frame_duration = o->video.fps_den;
    while (w->timescale < MIN_TIMESCALE) {
        w->timescale *= 10;
        w->frame_duration *= 10;
    }
    if (o->total_frames < 0 || o->first_frame < 0 || o->first_fragment < 0 ||
        o->first_fragment >= INT32_MAX || o->total_frames > UINT32_MAX / w->frame_duration ||
        o->first_frame > UINT32_MAX / w->frame_duration ||
        (o->first_frame > 0) != (o->first_fragment > 0) || o->first_fragment > o->first_frame) {
        return err_set(err, ERR_INVALID,
                       "no video has %" PRId64 " frames, or goes on at frame %" PRId64
                       " after %" PRId64 " fragments",
                       o->total_frames, o->first_frame, o->first_fragment);
    }
    if (o->total_frames > 0 && o->first_frame >= o->total_frames) {
        return err_set(err, ERR_INVALID, "frame %" PRId64 " is past the video's %" PRId64 " frames",
                       o->first_frame, o->total_frames);
    }
    return ERR_OK;
}

static int add_stream(struct fmp4 *w)
{
    const struct video_encoder_options *video = &w->video;
    AVStream *st = avformat_new_stream(w->format, NULL);
    size_t len;
    const uint8_t *headers = video_encoder_headers(w->encoder, &len);

    if (!st) {
        return AVERROR(ENOMEM);
    }
    st->time_base = (AVRational){1, (int)w->timescale};
    st->avg_frame_rate = (AVRational){video->fps_num, video->fps_den};
    st->codecpar->codec_type = AVMEDIA_TYPE_VIDEO;
    st->codecpar->codec_id = AV_CODEC_ID_H264;
    st->codecpar->format = AV_PIX_FMT_YUV420P;
    st->codecpar->width = video->width;
    st->codecpar->height = video->height;
    st->codecpar->sample_aspect_ratio = (AVRational){1, 1};
    st->codecpar->color_primaries = AVCOL_PRI_BT709;
    st->codecpar->color_trc = AVCOL_TRC_BT709;
    st->codecpar->color_space = AVCOL_SPC_BT709;
    st->codecpar->color_range = AVCOL_RANGE_MPEG;
    st->codecpar->chroma_location = AVCHROMA_LOC_LEFT;
    st->codecpar->extradata = av_mallocz(len + AV_INPUT_BUFFER_PADDING_SIZE);
    if (!st->codecpar->extradata) {
        return AVERROR(ENOMEM);
    }
    memcpy(st->codecpar->extradata, headers, len);
    st->codecpar->extradata_size = (int)len;
    return 0;
}

/*
 * empty_moov: the init segment comes first; frag_custom: a fragment is what lies between two
 * flushes; frag_discont with use_editlist=0: time starts at 0, not at the first packet, so that a
 * resumed writer keeps the video's clock; avoid_negative_ts must then not move it either.
 */
static int write_header(struct fmp4 *w, const struct mp4_tag *tags, int n_tags)
{
    AVDictionary *opts = NULL;
    int rc = av_dict_set(&opts, "movflags",
                         "empty_moov+default_base_moof+frag_custom+frag_discont+"
                         "negative_cts_offsets+skip_trailer",
                         0);

    if (rc >= 0) {
        rc = av_dict_set_int(&opts, "use_editlist", 0, 0);
    }
    if (rc >= 0) {
        rc = av_dict_set_int(&opts, "fragment_index", w->n_fragments + 1, 0);
    }
    if (rc >= 0) {
        rc = av_dict_set_int(&opts, "movie_timescale", w->timescale, 0);
    }
    if (rc >= 0) {
        rc = avformat_init_output(w->format, &opts);
    }
    if (rc >= 0) {
        rc = mp4_tags_set(&w->format->metadata, tags, n_tags);
    }
    if (rc >= 0) {
        rc = avformat_write_header(w->format, NULL);
    }
    av_dict_free(&opts);
    return rc < 0 ? rc : 0;
}

/* Without a trailer the muxer has nothing to say at the end (skip_trailer). */
static void close_muxer(struct fmp4 *w)
{
    avformat_free_context(w->format);
    w->format = NULL;
    if (w->io) {
        av_freep(&w->io->buffer);
        avio_context_free(&w->io);
    }
}

/* Leaves the init segment in w->pending. */
static int open_muxer(struct fmp4 *w, const struct mp4_tag *tags, int n_tags, struct err *err)
{
    int rc = avformat_alloc_output_context2(&w->format, NULL, "mp4", NULL);
    uint8_t *buffer = av_malloc(IO_BYTES);

    if (rc < 0 || !buffer) {
        av_free(buffer);
        return rc < 0 ? av_error_set(err, ERR_UNSUPPORTED, rc, "libavformat has no mp4 muxer")
                      : err_set(err, ERR_NO_MEMORY, "mp4 writer");
    }
    w->io = avio_alloc_context(buffer, IO_BYTES, 1, &w->pending, NULL, collect, NULL);
    if (!w->io) {
        av_free(buffer);
        return err_set(err, ERR_NO_MEMORY, "mp4 writer");
    }
    w->io->seekable = 0;
    w->format->pb = w->io;
    w->format->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT | AVFMT_FLAG_FLUSH_PACKETS;
    w->format->avoid_negative_ts = AVFMT_AVOID_NEG_TS_DISABLED;
    w->pending.len = 0;
    rc = add_stream(w);
    if (rc >= 0) {
        rc = write_header(w, tags, n_tags);
    }
    return rc < 0 ? av_error_set(err, ERR_UNSUPPORTED, rc, "mp4 writer") : flush(w, err);
}

/* total_frames into mvhd, tkhd and mdhd, all in the track's time scale. */
static int patch_durations(const struct fmp4 *w, struct err *err)
{
    static const char *const path[] = {"moov.mvhd", "moov.trak.tkhd", "moov.trak.mdia.mdhd"};
    static const size_t offset[] = {16, 20, 16}; /* of the duration in a version 0 box's body */
    const uint64_t duration = (uint64_t)(w->total_frames * w->frame_duration);
    uint8_t *init = (uint8_t *)w->pending.data;

    for (int i = 0; i < 3; i++) {
        size_t len;
        const uint8_t *body = mp4_box_find(init, w->pending.len, path[i], &len);

        if (!body || len < offset[i] + 4 || body[0] != 0) {
            return err_set(err, ERR_UNSUPPORTED, "libavformat's init segment has no plain %s",
                           path[i]);
        }
        mp4_box_put32(init + (body - init) + offset[i], (uint32_t)duration);
    }
    return ERR_OK;
}

int fmp4_open(struct fmp4 **ret, const struct fmp4_options *options, fmp4_sink_fn sink, void *ctx,
              struct err *err)
{
    struct fmp4 *w = calloc(1, sizeof(*w));
    int rc;

    av_error_init();
    if (!w) {
        return err_set(err, ERR_NO_MEMORY, "mp4 writer");
    }
    str_init(&w->pending, FRAGMENT_MAX_BYTES);
    w->sink = sink;
    w->sink_ctx = ctx;
    w->video = options->video;
    w->video.preset = NULL; /* borrowed until the encoder is made */
    w->total_frames = options->total_frames;
    w->n_frames = options->first_frame;
    w->n_fragments = options->first_fragment;
    rc = video_encoder_create(&w->encoder, &options->video, err); /* checks the frame rate */
    if (rc == ERR_OK) {
        rc = set_time_base(w, options, err);
    }
    if (rc == ERR_OK) {
        w->packet = av_packet_alloc();
        rc = w->packet ? open_muxer(w, options->tags, options->n_tags, err)
                       : err_set(err, ERR_NO_MEMORY, "mp4 writer");
    }
    if (rc == ERR_OK && w->total_frames > 0) {
        rc = patch_durations(w, err);
    }
    close_muxer(w);
    if (rc == ERR_OK) {
        rc = give(w, FMP4_INIT, err);
    }
    if (rc == ERR_OK) {
        *ret = w;
        w = NULL;
    }
    fmp4_free(w);
    return rc;
}

void fmp4_free(struct fmp4 *w)
{
    if (!w) {
        return;
    }
    close_muxer(w);
    av_packet_free(&w->packet);
    video_encoder_free(w->encoder);
    str_done(&w->pending);
    free(w);
}

int fmp4_begin_block(struct fmp4 *w, struct err *err)
{
    int rc;

    CHECK_BUG(!w->format);
    if (w->n_frames > UINT32_MAX / w->frame_duration || w->n_fragments >= INT32_MAX) {
        return err_set(err, ERR_INVALID, "the video is too long for its time scale");
    }
    rc = open_muxer(w, NULL, 0, err);
    w->pending.len = 0; /* the init segment, once more */
    return rc == ERR_OK ? video_encoder_begin_block(w->encoder, w->n_frames, err) : rc;
}

static int mux_packet(void *ctx, const struct video_packet *in, struct err *err)
{
    struct fmp4 *w = ctx;
    AVPacket *out = w->packet;
    int rc;

    if (in->len > INT32_MAX) {
        return err_set(err, ERR_IO, "a coded picture of %zu bytes", in->len);
    }
    av_packet_unref(out);
    out->data = (uint8_t *)in->data; /* the muxer copies what is not reference counted */
    out->size = (int)in->len;
    out->stream_index = 0;
    out->pts = in->pts * w->frame_duration;
    /* So that no decoding time is after its display time; the muxer takes the difference that the
     * first picture has off again (negative_cts_offsets). */
    out->dts = (in->index - VIDEO_ENCODER_REORDER) * w->frame_duration;
    out->duration = w->frame_duration;
    out->flags = in->key ? AV_PKT_FLAG_KEY : 0;
    rc = av_write_frame(w->format, out);
    return rc < 0 ? av_error_set(err, ERR_IO, rc, "mp4 writer, frame %" PRId64, in->pts) : ERR_OK;
}

int fmp4_frame(struct fmp4 *w, const uint8_t *i420, struct err *err)
{
    int rc;

    if (w->total_frames > 0 && w->n_frames >= w->total_frames) {
        return err_set(err, ERR_INVALID,
                       "the video was announced with %" PRId64 " frames, here is one more",
                       w->total_frames);
    }
    rc = video_encoder_frame(w->encoder, i420, mux_packet, w, err);
    if (rc == ERR_OK) {
        w->n_frames++;
    }
    return rc;
}

int fmp4_end_block(struct fmp4 *w, struct err *err)
{
    int rc = video_encoder_end_block(w->encoder, mux_packet, w, err);
    int av;

    if (rc != ERR_OK) {
        return rc;
    }
    av = av_write_frame(w->format, NULL); /* closes the fragment */
    if (av < 0) {
        return av_error_set(err, ERR_IO, av, "mp4 writer, fragment %" PRId64, w->n_fragments);
    }
    rc = flush(w, err);
    if (rc == ERR_OK) {
        rc = give(w, FMP4_FRAGMENT, err);
    }
    if (rc == ERR_OK) {
        w->n_fragments++;
    }
    close_muxer(w);
    return rc;
}

int64_t fmp4_n_frames(const struct fmp4 *w)
{
    return w->n_frames;
}

int64_t fmp4_n_fragments(const struct fmp4 *w)
{
    return w->n_fragments;
}

int fmp4_codec_string(const uint8_t *init, size_t len, char ret[FMP4_CODEC_STRING], struct err *err)
{
    /* stsd: version, flags, entry count (8 bytes), then avc1, whose boxes follow 78 bytes of fixed
     * fields (ISO/IEC 14496-12 12.1.3, 14496-15 5.4.2) */
    enum {
        STSD_HEAD = 8,
        AVC1_HEAD = 78
    };
    size_t stsd_len;
    size_t avc1_len;
    size_t avcc_len;
    const uint8_t *stsd = mp4_box_find(init, len, "moov.trak.mdia.minf.stbl.stsd", &stsd_len);
    const uint8_t *avc1 = NULL;
    const uint8_t *avcc = NULL;

    if (stsd && stsd_len > STSD_HEAD) {
        avc1 = mp4_box_find(stsd + STSD_HEAD, stsd_len - STSD_HEAD, "avc1", &avc1_len);
    }
    if (avc1 && avc1_len > AVC1_HEAD) {
        avcc = mp4_box_find(avc1 + AVC1_HEAD, avc1_len - AVC1_HEAD, "avcC", &avcc_len);
    }
    if (!avcc || avcc_len < 4) {
        return err_set(err, ERR_FORMAT, "the init segment has no avcC box");
    }
    snprintf(ret, FMP4_CODEC_STRING, "avc1.%02x%02x%02x", avcc[1], avcc[2], avcc[3]);
    return ERR_OK;
}
