/*
 * mp4_remux.h - a finished fragmented file becomes a normal MP4: index (moov) first, the coded
 * pictures copied as they are, display from time 0 on, exact duration.
 *
 * For files that fmp4.h wrote, in full or from some fragment on, and for its own results. A last fragment that is not complete gives what is there. The result
 * appears under its name whole or not at all: it is written beside it (DST.PID-N.tmp), synced to
 * disk and renamed; the source is only read. Bytes depend on the source and the tags only. Memory:
 * the index (some 150 bytes a frame), not the pictures.
 *
 * Any thread; not for the loop thread (reads and writes the whole file).
 */
#ifndef MEDIA_MP4_REMUX_H
#define MEDIA_MP4_REMUX_H

#include <stdint.h>

#include "base/err.h"
#include "media/mp4_tags.h"

struct mp4_remux_info {
    int64_t n_frames;
    double seconds;
    int64_t bytes;
};

/*
 * src and dst may be the same path. tags: added to, and replacing, the source's own; n_tags may be
 * 0. ret_info may be NULL.
 *
 * Errors: ERR_NOT_FOUND, ERR_IO (names the file), ERR_FORMAT (not such a file, or no complete
 * picture in it), ERR_NO_SPACE (disk full or file size limit), ERR_NO_MEMORY, ERR_UNSUPPORTED. After
 * an error dst is as it was.
 */
MUST_CHECK int mp4_remux(const char *src, const char *dst, const struct mp4_tag *tags, int n_tags,
                         struct mp4_remux_info *ret_info, struct err *err);

#endif
