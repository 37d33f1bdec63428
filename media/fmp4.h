/*
 * fmp4.h - a video as fragmented MP4 while it is being made: init segment, then one fragment
 * (moof + mdat) per block. What the sink gets, concatenated, is the file.
 *
 * Each fragment starts with an IDR picture and decodes with the init segment alone; its base time
 * (tfdt) is its first frame. Composition offsets are relative to the decoding order starting at
 * that frame and may be negative (trun version 1), so that players show frame 0 at time 0 without
 * an edit list. When the number of frames is known in advance, the durations in the init segment
 * (mvhd, tkhd, mdhd) are set to it: a browser then shows the right length from the start.
 *
 * Bytes depend on the options and the frames only. A writer opened with the position of an
 * interrupted one (first_frame, first_fragment) gives the same init segment and goes on with the
 * same bytes.
 *
 * Memory: one block's packets. One thread at a time.
 */
#ifndef MEDIA_FMP4_H
#define MEDIA_FMP4_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "media/mp4_tags.h"
#include "media/video_encoder.h"

enum fmp4_part {
    FMP4_INIT,     /* ftyp + moov; always the first */
    FMP4_FRAGMENT, /* moof + mdat */
};

/* data is borrowed during the call. Anything but ERR_OK comes out of the call that caused it. */
typedef int (*fmp4_sink_fn)(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                            struct err *err);

struct fmp4_options {
    struct video_encoder_options video;
    int64_t total_frames;       /* of the whole video; 0: not known */
    int64_t first_frame;        /* frames written before this writer; 0: a new video */
    int64_t first_fragment;     /* fragments written before this writer */
    const struct mp4_tag *tags; /* borrowed during open; in the init segment */
    int n_tags;
};

struct fmp4;

/* Gives the init segment to the sink at once (a resumed writer too: the same bytes again).
 * Errors: ERR_INVALID (names the option), ERR_UNSUPPORTED, ERR_NO_MEMORY, and the sink's. */
MUST_CHECK int fmp4_open(struct fmp4 **ret, const struct fmp4_options *options, fmp4_sink_fn sink,
                         void *ctx, struct err *err);

/* Accepts NULL. An unfinished block is dropped; nothing is given to the sink. */
void fmp4_free(struct fmp4 *w);

/*
 * A block: begin, its frames, end, which gives its fragment to the sink. After an error of any of these
 * calls the writer can only be freed. Errors besides those named: ERR_NO_MEMORY, ERR_IO (a library
 * failed) and, at the end, the sink's.
 */

/* Starts the next block. Not inside a block. */
MUST_CHECK int fmp4_begin_block(struct fmp4 *w, struct err *err);

/* The next frame, planar I420 as in video_encoder_frame; copied. Inside a block.
 * ERR_INVALID for more than total_frames frames. */
MUST_CHECK int fmp4_frame(struct fmp4 *w, const uint8_t *i420, struct err *err);

/* Gives the block's fragment to the sink. ERR_INVALID for a block without frames. */
MUST_CHECK int fmp4_end_block(struct fmp4 *w, struct err *err);

/* Frames and fragments so far, first_frame and first_fragment included. */
int64_t fmp4_n_frames(const struct fmp4 *w);
int64_t fmp4_n_fragments(const struct fmp4 *w);

enum {
    FMP4_CODEC_STRING = 16
};

/* The RFC 6381 codec string, such as "avc1.64001e", of an init segment (from its avcC box).
 * ERR_FORMAT when there is none. Any thread. */
MUST_CHECK int fmp4_codec_string(const uint8_t *init, size_t len, char ret[FMP4_CODEC_STRING],
                                 struct err *err);

#endif
