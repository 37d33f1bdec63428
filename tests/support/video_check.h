/*
 * video_check.h - made-up pictures for the video tests, and a look at what was written with eyes
 * other than ours: libavformat's demuxer and libavcodec's decoder.
 */
#ifndef TESTS_SUPPORT_VIDEO_CHECK_H
#define TESTS_SUPPORT_VIDEO_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Picture `index` of an endless moving texture: planar I420, width * height * 3 / 2 bytes. Two
 * neighbours are 20 to 30 dB apart, so a picture that is out of place shows. */
void video_check_picture(uint8_t *i420, int width, int height, int64_t index);

struct video_check {
    int width, height;
    int64_t n_packets;
    int64_t n_keys;
    int64_t n_frames; /* decoded */
    bool first_is_key;
    bool bt709_limited_left; /* primaries, transfer, matrix; range; chroma site, each so tagged */
    bool damaged;            /* the demuxer or the decoder complained */
    double psnr_min;         /* dB, against video_check_picture(first_index + display order) */
    double start;            /* s, of the stream */
    double duration;         /* s, of the stream as the index says; of the file if it does not */
    double last_pts;         /* s, of the last picture shown, from the first one */
    int fps_num, fps_den;    /* average */
    char title[256];         /* the file's metadata; "" when missing */
    char comment[256];
    char encoder[256];
};

/* Decodes a whole MP4 in memory; ends the test when it cannot be opened. */
void video_check_decode(struct video_check *ret, const uint8_t *data, size_t len,
                        int64_t first_index);

/* The same of a file. */
void video_check_decode_file(struct video_check *ret, const char *path, int64_t first_index);

/* The whole file; ends the test on failure. Free it. */
uint8_t *video_check_load(const char *path, size_t *ret_len);

void video_check_store(const char *path, const void *data, size_t len);

#endif
