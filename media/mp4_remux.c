#include "media/mp4_remux.h"

#include <errno.h>
#include <fcntl.h>
#include <libavformat/avformat.h>
#include <libavutil/dict.h>
#include <libavutil/opt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "media/av_error.h"
#include "media/mp4_box.h"
#include "media/video_encoder.h"

enum {
    IO_BYTES = 256 * 1024,
    PATH_MAX_BYTES = 4096,
    MAX_TEMP_NAMES = 100,
};

/* One open file as libavformat sees it; several may share a descriptor, each has its place. */
struct file_io {
    int fd; /* borrowed */
    int64_t pos;
    int64_t end; /* a reader's last byte + 1, a writer's highest place */
    int error;   /* the first errno, 0: none */
};

struct remux {
    const char *src;
    const char *dst;
    int src_fd;
    int dst_fd;
    struct str temp; /* the name being written; empty when there is none */
    struct file_io in_file;
    struct file_io out_file;
    struct file_io back_file; /* the muxer reads its output again to move it behind the index */
    AVIOContext *in_io;
    AVIOContext *out_io;
    AVFormatContext *in;
    AVFormatContext *out;
    AVPacket *packet;
    int stream; /* of in */
    int64_t n_frames;
    int64_t frame_duration;
    int64_t first_dts;
    int64_t shift; /* the demuxer's offset of display times in this GOP */
};

static int file_read(void *opaque, uint8_t *data, int len)
{
    struct file_io *f = opaque;
    ssize_t n;

    if (f->pos >= f->end) {
        return AVERROR_EOF;
    }
    len = len < f->end - f->pos ? len : (int)(f->end - f->pos);
    do {
        n = pread(f->fd, data, (size_t)len, f->pos);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        f->error = f->error ? f->error : errno;
        return AVERROR(errno);
    }
    f->pos += n;
    return n == 0 ? AVERROR_EOF : (int)n;
}

static int file_write(void *opaque, uint8_t *data, int len)
{
    struct file_io *f = opaque;
    int done = 0;

    while (done < len) {
        const ssize_t n = pwrite(f->fd, data + done, (size_t)(len - done), f->pos);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            f->error = f->error ? f->error : (n < 0 ? errno : ENOSPC);
            return AVERROR(f->error);
        }
        f->pos += n;
        f->end = f->pos > f->end ? f->pos : f->end;
        done += (int)n;
    }
    return len;
}

static int64_t file_seek(void *opaque, int64_t offset, int whence)
{
    struct file_io *f = opaque;

    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE) {
        return f->end;
    }
    if (whence == SEEK_CUR) {
        offset += f->pos;
    } else if (whence == SEEK_END) {
        offset += f->end;
    } else if (whence != SEEK_SET) {
        return AVERROR(EINVAL);
    }
    if (offset < 0) {
        return AVERROR(EINVAL);
    }
    f->pos = offset;
    return offset;
}

static AVIOContext *io_create(struct file_io *file, bool writing)
{
    uint8_t *buffer = av_malloc(IO_BYTES);
    AVIOContext *io = NULL;

    if (buffer) {
        io = avio_alloc_context(buffer, IO_BYTES, writing, file, writing ? NULL : file_read,
                                writing ? file_write : NULL, file_seek);
    }
    if (!io) {
        av_free(buffer);
    }
    return io;
}

static void io_free(AVIOContext **io)
{
    if (*io) {
        av_freep(&(*io)->buffer);
        avio_context_free(io);
    }
}

/* The faststart pass opens its own output for reading; it gets the same descriptor. */
static int open_back(AVFormatContext *format, AVIOContext **ret, const char *url, int flags,
                     AVDictionary **options)
{
    struct remux *r = format->opaque;

    (void)url;
    (void)options;
    if (flags & AVIO_FLAG_WRITE) {
        return AVERROR(EINVAL);
    }
    r->back_file = (struct file_io){.fd = r->dst_fd, .end = r->out_file.end};
    *ret = io_create(&r->back_file, false);
    return *ret ? 0 : AVERROR(ENOMEM);
}

static int close_back(AVFormatContext *format, AVIOContext *io)
{
    (void)format;
    io_free(&io);
    return 0;
}

/*
 * Where the last box of the file ends that is of use: a file that was cut off may end in a piece of a
 * moof, which the demuxer refuses the whole file for. Of an mdat the pictures that are there count.
 */
static int64_t useful_end(int fd, int64_t size)
{
    int64_t at = 0;
    int64_t end = 0;
    uint8_t head[16] = {0};

    while (size - at >= 8 && pread(fd, head, sizeof(head), at) >= 8) {
        const bool is_mdat = memcmp(head + 4, "mdat", 4) == 0;
        uint64_t len = mp4_box_get32(head);

        if (len == 1) { /* 64-bit length */
            len = (uint64_t)mp4_box_get32(head + 8) << 32 | mp4_box_get32(head + 12);
        }
        if (len < 8 || len > (uint64_t)(size - at)) {
            return is_mdat ? size : end;
        }
        at += (int64_t)len;
        /* a moof is of no use without its mdat */
        end = memcmp(head + 4, "moof", 4) == 0 ? end : at;
    }
    return end;
}

static int open_source(struct remux *r, struct err *err)
{
    struct stat st;

    r->src_fd = open(r->src, O_RDONLY | O_CLOEXEC);
    if (r->src_fd < 0) {
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "open '%s': %m", r->src);
    }
    if (fstat(r->src_fd, &st) != 0) {
        return err_set(err, ERR_IO, "stat '%s': %m", r->src);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", r->src);
    }
    r->in_file = (struct file_io){.fd = r->src_fd, .end = useful_end(r->src_fd, st.st_size)};
    r->packet = av_packet_alloc();
    r->in_io = io_create(&r->in_file, false);
    r->in = avformat_alloc_context();
    if (!r->packet || !r->in_io || !r->in) {
        return err_set(err, ERR_NO_MEMORY, "remux '%s'", r->src);
    }
    return ERR_OK;
}

static int open_input(struct remux *r, struct err *err)
{
    int av;

    r->in->pb = r->in_io;
    r->in->flags |= AVFMT_FLAG_CUSTOM_IO;
    av = avformat_open_input(&r->in, NULL, av_find_input_format("mp4"), NULL); /* frees on error */
    if (av < 0) {
        return r->in_file.error
                   ? av_error_set_errno(err, ERR_IO, r->in_file.error, "read '%s'", r->src)
                   : av_error_set(err, ERR_FORMAT, av, "'%s' is not an MP4 file", r->src);
    }
    r->stream = -1;
    for (unsigned i = 0; i < r->in->nb_streams; i++) {
        if (r->in->streams[i]->codecpar->codec_id == AV_CODEC_ID_H264 && r->stream < 0) {
            r->stream = (int)i;
        }
    }
    if (r->stream < 0 || r->in->nb_streams != 1 || r->in->streams[0]->time_base.num != 1) {
        return err_set(err, ERR_FORMAT, "'%s' does not hold one H.264 video", r->src);
    }
    return ERR_OK;
}

/* The temporary file gets the mode of what it will replace, or of the source. */
static void keep_mode(const struct remux *r)
{
    struct stat st;

    if (stat(r->dst, &st) == 0 || fstat(r->src_fd, &st) == 0) {
        const int failed = fchmod(r->dst_fd, st.st_mode & 0777); /* not ours: umask's mode stays */

        (void)failed;
    }
}

static int open_temp(struct remux *r, struct err *err)
{
    for (int i = 0; i < MAX_TEMP_NAMES; i++) {
        r->temp.len = 0;
        if (!str_addf(&r->temp, "%s.%ld-%d.tmp", r->dst, (long)getpid(), i)) {
            return err_set(err, ERR_NO_MEMORY, "remux to '%s'", r->dst);
        }
        r->dst_fd = open(r->temp.data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (r->dst_fd >= 0) {
            r->out_file = (struct file_io){.fd = r->dst_fd};
            keep_mode(r);
            return ERR_OK;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    r->temp.len = 0; /* not ours to remove */
    return av_error_set_errno(err, ERR_IO, errno, "create a file beside '%s'", r->dst);
}

static int add_stream(struct remux *r)
{
    const AVStream *from = r->in->streams[r->stream];
    AVStream *to = avformat_new_stream(r->out, NULL);
    int av;

    if (!to) {
        return AVERROR(ENOMEM);
    }
    av = avcodec_parameters_copy(to->codecpar, from->codecpar);
    to->codecpar->codec_tag = 0;
    to->codecpar->bit_rate = 0; /* a guess of the demuxer; the muxer counts */
    to->time_base = from->time_base;
    to->avg_frame_rate = from->avg_frame_rate;
    return av;
}

static int write_header(struct remux *r, const struct mp4_tag *tags, int n_tags)
{
    const AVDictionaryEntry *e = NULL;
    AVDictionary *opts = NULL;
    int av = 0;

    while (av >= 0 && (e = av_dict_get(r->in->metadata, "", e, AV_DICT_IGNORE_SUFFIX)) != NULL) {
        const struct mp4_tag tag = {.key = e->key, .value = e->value};

        av = mp4_tags_set(&r->out->metadata, &tag, 1);
    }
    if (av >= 0) {
        av = mp4_tags_set(&r->out->metadata, tags, n_tags);
    }
    if (av >= 0) {
        av = av_dict_set(&opts, "movflags", "faststart", 0);
    }
    if (av >= 0) {
        av = av_dict_set_int(&opts, "movie_timescale", r->in->streams[r->stream]->time_base.den, 0);
    }
    if (av >= 0) {
        av = avformat_write_header(r->out, &opts);
    }
    av_dict_free(&opts);
    return av;
}

static int open_output(struct remux *r, const struct mp4_tag *tags, int n_tags, struct err *err)
{
    int av = avformat_alloc_output_context2(&r->out, NULL, "mp4", NULL);

    if (av < 0) {
        return av_error_set(err, ERR_UNSUPPORTED, av, "libavformat has no mp4 muxer");
    }
    r->out_io = io_create(&r->out_file, true);
    if (!r->out_io) {
        return err_set(err, ERR_NO_MEMORY, "remux to '%s'", r->dst);
    }
    r->out->pb = r->out_io;
    r->out->opaque = r;
    r->out->io_open = open_back;
    r->out->io_close2 = close_back;
    r->out->url = av_strdup("");
    r->out->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    r->out->avoid_negative_ts = AVFMT_AVOID_NEG_TS_DISABLED; /* the edit list does it */
    av = r->out->url ? add_stream(r) : AVERROR(ENOMEM);
    if (av >= 0) {
        av = write_header(r, tags, n_tags);
    }
    return av < 0 ? av_error_set(err, ERR_IO, av, "start '%s'", r->dst) : ERR_OK;
}

/*
 * The demuxer moves display times by the largest negative offset it has met so far, which may grow
 * when a later fragment comes. A fragment starts with a key frame whose two times are equal in the
 * file, so their difference there is that shift.
 */
static int write_packet(struct remux *r, struct err *err)
{
    const int64_t limit = INT64_MAX / 8; /* so that the sums below cannot overflow */
    AVPacket *p = r->packet;
    int64_t pts;
    int64_t dts;
    int av;

    if (p->pts < -limit || p->pts > limit || p->dts < -limit || p->dts > limit ||
        p->duration <= 0 || p->duration > limit / INT32_MAX || r->n_frames == INT32_MAX) {
        return err_set(err, ERR_FORMAT, "'%s', frame %lld: no usable time", r->src,
                       (long long)r->n_frames);
    }
    if (r->n_frames == 0) {
        r->frame_duration = p->duration;
        r->first_dts = p->dts;
    }
    if (p->flags & AV_PKT_FLAG_KEY) {
        r->shift = p->pts - p->dts;
    }
    pts = p->pts - r->shift - r->first_dts;
    dts = (r->n_frames - VIDEO_ENCODER_REORDER) * r->frame_duration;
    if (p->dts - r->first_dts != r->n_frames * r->frame_duration ||
        p->duration != r->frame_duration || pts < 0 || pts < dts) {
        return err_set(err, ERR_FORMAT, "'%s', frame %lld: time out of order", r->src,
                       (long long)r->n_frames);
    }
    p->pts = pts;
    p->dts = dts;
    p->pos = -1;
    p->stream_index = 0;
    av_packet_rescale_ts(p, r->in->streams[r->stream]->time_base, r->out->streams[0]->time_base);
    av = av_write_frame(r->out, p);
    if (av < 0) {
        return av_error_set(err, ERR_IO, av, "write '%s'", r->dst);
    }
    r->n_frames++;
    return ERR_OK;
}

static int copy_packets(struct remux *r, struct err *err)
{
    for (;;) {
        const int av = av_read_frame(r->in, r->packet);
        int rc = ERR_OK;

        if (r->in_file.error) {
            return av_error_set_errno(err, ERR_IO, r->in_file.error, "read '%s'", r->src);
        }
        if (av == AVERROR(ENOMEM)) {
            return err_set(err, ERR_NO_MEMORY, "remux '%s'", r->src);
        }
        if (av < 0 || (r->packet->flags & AV_PKT_FLAG_CORRUPT)) {
            break; /* the end, or a fragment that is cut off */
        }
        if (r->packet->stream_index == r->stream) {
            rc = write_packet(r, err);
        }
        av_packet_unref(r->packet);
        if (rc != ERR_OK) {
            return rc;
        }
    }
    if (r->n_frames == 0) {
        return err_set(err, ERR_FORMAT, "'%s' holds no complete picture", r->src);
    }
    return ERR_OK;
}

static int sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd;
    int rc = 0;

    if (!folder) {
        return ENOMEM;
    }
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0) {
        return errno;
    }
    /* Some file systems cannot sync a folder; they say EINVAL. */
    if (fsync(fd) != 0 && errno != EINVAL) {
        rc = errno;
    }
    close(fd);
    return rc;
}

static int finish(struct remux *r, struct err *err)
{
    int error;
    int av = av_write_trailer(r->out);

    avio_flush(r->out_io);
    if (r->out_file.error || r->back_file.error) {
        error = r->out_file.error ? r->out_file.error : r->back_file.error;
        return av_error_set_errno(err, ERR_IO, error, "write '%s'", r->dst);
    }
    if (av < 0) {
        return av_error_set(err, ERR_IO, av, "write '%s'", r->dst);
    }
    if (fsync(r->dst_fd) != 0) {
        return av_error_set_errno(err, ERR_IO, errno, "sync '%s'", r->dst);
    }
    error = close(r->dst_fd) != 0 ? errno : 0;
    r->dst_fd = -1;
    if (error) {
        return av_error_set_errno(err, ERR_IO, error, "close '%s'", r->dst);
    }
    if (rename(r->temp.data, r->dst) != 0) {
        return av_error_set_errno(err, ERR_IO, errno, "rename to '%s'", r->dst);
    }
    r->temp.len = 0;
    error = sync_folder(r->dst);
    return error ? av_error_set_errno(err, ERR_IO, error, "sync the folder of '%s'", r->dst)
                 : ERR_OK;
}

static void close_all(struct remux *r)
{
    avformat_free_context(r->out);
    io_free(&r->out_io);
    avformat_close_input(&r->in);
    io_free(&r->in_io);
    av_packet_free(&r->packet);
    if (r->dst_fd >= 0) {
        close(r->dst_fd);
    }
    if (r->temp.len > 0) {
        unlink(r->temp.data);
    }
    if (r->src_fd >= 0) {
        close(r->src_fd);
    }
    str_done(&r->temp);
}

int mp4_remux(const char *src, const char *dst, const struct mp4_tag *tags, int n_tags,
              struct mp4_remux_info *ret_info, struct err *err)
{
    char *target = realpath(dst, NULL); /* through a symbolic link, which stays; NULL: a new file */
    struct remux r = {.src = src, .dst = target ? target : dst, .src_fd = -1, .dst_fd = -1};
    int rc;

    av_error_init();
    str_init(&r.temp, PATH_MAX_BYTES);
    rc = open_source(&r, err);
    if (rc == ERR_OK) {
        rc = open_input(&r, err);
    }
    if (rc == ERR_OK) {
        rc = open_temp(&r, err);
    }
    if (rc == ERR_OK) {
        rc = open_output(&r, tags, n_tags, err);
    }
    if (rc == ERR_OK) {
        rc = copy_packets(&r, err);
    }
    if (rc == ERR_OK) {
        rc = finish(&r, err);
    }
    if (rc == ERR_OK && ret_info) {
        ret_info->n_frames = r.n_frames;
        ret_info->seconds =
            (double)(r.n_frames * r.frame_duration) / r.in->streams[r.stream]->time_base.den;
        ret_info->bytes = r.out_file.end;
    }
    close_all(&r);
    free(target);
    return rc;
}
