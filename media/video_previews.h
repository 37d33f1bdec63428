/*
 * video_previews.h - thumbnail and sprite sheet of a finished video, from its own file.
 *
 * The file is one that fmp4.h or mp4_remux.h wrote. Chosen frames are decoded again: so the previews do
 * not depend on whether the video was interrupted while it was made. Not for the loop thread.
 */
#ifndef MEDIA_VIDEO_PREVIEWS_H
#define MEDIA_VIDEO_PREVIEWS_H

#include "media/preview.h"

struct video_previews {
    struct str thumbnail_jpeg; /* owned: first frame, at most 640 pixels a side */
    struct str thumbnail_webp; /* owned */
    struct str
        spritesheet; /* owned: JPEG, up to 5x5 frames evenly spaced, tiles at most 240 pixels a side */
    struct preview_layout sheet;
    double interval; /* seconds between tiles */
};

/* Errors: ERR_NOT_FOUND, ERR_IO, ERR_FORMAT (not such a file), ERR_UNSUPPORTED (libavcodec without
 * libwebp, JPEG or H.264), ERR_NO_MEMORY. End ret by video_previews_done. */
MUST_CHECK int video_previews(struct video_previews *ret, const char *path, struct err *err);
void video_previews_done(struct video_previews *p);

#endif
