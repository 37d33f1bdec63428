/*
 * mp4_tags.h - a file's own description: iTunes fields in moov/udta/meta. Any thread.
 */
#ifndef MEDIA_MP4_TAGS_H
#define MEDIA_MP4_TAGS_H

struct AVDictionary;

/* "title", "comment", "encoder", "date", "artist", "copyright" and others that libavformat's mp4
 * muxer knows; unknown keys are left out of the file. UTF-8. */
struct mp4_tag {
    const char *key;
    const char *value;
};

/* Adds to, and replaces in, a muxer's metadata; 0, or libav's negative code. */
int mp4_tags_set(struct AVDictionary **dict, const struct mp4_tag *tags, int n_tags);

#endif
