/*
 * video_encoder.h - H.264 of a video, block by block, through libavcodec's libx264.
 *
 * Every block gets a fresh x264 context that is flushed at its end. So a block starts with an IDR
 * picture, is complete when it ends, needs nothing from the blocks before it, and its bytes depend
 * on its frames, its position and the options only: an interrupted video goes on with the same
 * bytes. Against one zero-latency encoder this needs about 1.8 times fewer bytes at equal PSNR,
 * because lookahead, macroblock tree and B pictures work inside the block; it costs 2 to 5 ms a
 * block.
 *
 * Bytes are pinned further: x264's SSE2 path (AVX2 and AVX-512 round differently), a stated number
 * of threads, no version string in the stream (x264's SEI is removed). Same options, same frames:
 * same bytes on any x86-64 machine with the same libx264.
 *
 * Stream: High profile, 8-bit 4:2:0, BT.709 primaries, transfer and matrix, limited range, chroma
 * sited left, constant frame rate, at most two B pictures in a row, closed GOPs; a block longer
 * than VIDEO_ENCODER_MAX_GOP frames gets further IDR pictures.
 *
 * One thread at a time.
 */
#ifndef MEDIA_VIDEO_ENCODER_H
#define MEDIA_VIDEO_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    VIDEO_ENCODER_MIN_SIDE = 16,
    VIDEO_ENCODER_MAX_SIDE = 8192,
    VIDEO_ENCODER_MAX_GOP = 4096,
    VIDEO_ENCODER_DEFAULT_CRF = 18,
    VIDEO_ENCODER_MAX_THREADS = 16,
    /* A picture is decoded at most this many places after its place in display order: two B
     * pictures in a row. */
    VIDEO_ENCODER_REORDER = 2,
};

struct video_encoder_options {
    int width;   /* even, VIDEO_ENCODER_MIN_SIDE..VIDEO_ENCODER_MAX_SIDE */
    int height;  /* likewise */
    int fps_num; /* frames per second = fps_num / fps_den, within 1..240; fps_num <= 1000000 */
    int fps_den;
    int crf;            /* constant rate factor 1..51, lower is better; 0: the default */
    const char *preset; /* an x264 preset; NULL: "veryfast". Borrowed during create. */
    int n_threads;      /* 1..VIDEO_ENCODER_MAX_THREADS; 0: 1. The bytes depend on it. */
};

/* One coded picture. */
struct video_packet {
    const uint8_t *data; /* Annex B, parameter sets not included; borrowed during the call */
    size_t len;
    int64_t pts;   /* in frames, from the start of the video */
    int64_t index; /* its number in decoding order, from the start of the video */
    bool key;      /* IDR */
};

/* Anything but ERR_OK ends the block with that error. */
typedef int (*video_packet_fn)(void *ctx, const struct video_packet *packet, struct err *err);

struct video_encoder;

/* Errors: ERR_INVALID (names the option), ERR_UNSUPPORTED (libavcodec without libx264),
 * ERR_NO_MEMORY. */
MUST_CHECK int video_encoder_create(struct video_encoder **ret,
                                    const struct video_encoder_options *options, struct err *err);

/* Accepts NULL, and an encoder inside a block. */
void video_encoder_free(struct video_encoder *enc);

/* SPS and PPS, Annex B, the same for every block. Owned by the encoder. */
const uint8_t *video_encoder_headers(const struct video_encoder *enc, size_t *ret_len);

/* Bytes of one frame: width * height * 3 / 2. */
size_t video_encoder_frame_bytes(const struct video_encoder *enc);

/* The next frame is number `first_frame` of the video, and starts a block. Not inside a block. */
MUST_CHECK int video_encoder_begin_block(struct video_encoder *enc, int64_t first_frame,
                                         struct err *err);

/* frame: planar I420, Y [height, width], then U and V [height/2, width/2] each, u8, no padding;
 * copied. Calls fn for every packet that is ready, maybe none. Inside a block only.
 * Errors: ERR_NO_MEMORY, ERR_IO (libx264 failed), and what fn returns; then end the block by
 * video_encoder_abort_block. */
MUST_CHECK int video_encoder_frame(struct video_encoder *enc, const uint8_t *frame,
                                   video_packet_fn fn, void *ctx, struct err *err);

/* The remaining packets of the block: as many as frames went in. The block is over whatever is
 * returned. Errors as above, and ERR_INVALID for a block without frames. */
MUST_CHECK int video_encoder_end_block(struct video_encoder *enc, video_packet_fn fn, void *ctx,
                                       struct err *err);

/* Forgets the block; allowed when there is none. */
void video_encoder_abort_block(struct video_encoder *enc);

#endif
