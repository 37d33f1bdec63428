/*
 * hls_playlist.h - the texts of HLS (RFC 8216): playlists of a video, names of its segments. One block is one
 * segment.
 *
 * A media playlist only ever grows: each one begins with what the one before said.
 *
 * Pure; any thread.
 */
#ifndef API_HLS_PLAYLIST_H
#define API_HLS_PLAYLIST_H

#include "base/str.h"
#include "jobs/model_facts.h"
#include "storage/job_row.h"

enum {
    HLS_MAX_BYTES = 1 << 20 /* of a playlist: more than the longest video has */
};

struct hls_media {
    const struct job_block *blocks; /* [n] */
    int n;
    double fps;
    int64_t longest_frames; /* of the longest block that is planned */
    bool ended;             /* there will be no more blocks */
};

struct hls_master {
    const struct job_block *blocks; /* [n]: those that are there */
    int n;
    double fps;
    int64_t width, height;
    const char *codec;
};

/* Pictures of the longest block of a video of so many, or a little more: known before anything is made. */
int64_t hls_longest_block(const struct model_facts *facts, int64_t frames);

/* Append a playlist. False: out of memory, or too long. */
bool hls_write_media(struct str *out, const struct hls_media *m);
bool hls_write_master(struct str *out, const struct hls_master *m);

/* "seg-00012.m4s", as a playlist has it and not otherwise. */
bool hls_segment_index(const char *name, size_t len, int64_t *ret);

#endif
