/*
 * preview.h - small pictures of a video: a thumbnail as JPEG or WebP, and a JPEG sheet of up to 5x5
 * pictures.
 *
 * Source frames are as the encoder gets them: planar I420, BT.709, limited range. The JPEG is a
 * JFIF one, BT.601, full range, 4:2:0; the WebP is lossy. Same frames, same bytes.
 *
 * Any thread; not for the loop thread.
 */
#ifndef MEDIA_PREVIEW_H
#define MEDIA_PREVIEW_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    PREVIEW_MAX_TILES = 25
};

struct preview_layout {
    int columns;
    int rows;
    int tile_width; /* pixels */
    int tile_height;
};

/*
 * n (1..PREVIEW_MAX_TILES) frames of width x height (even, 16..8192), each made as large as fits into
 * max_side x max_side (16..2048) without enlarging it, in rows from the upper left; places that are
 * left over are black. A thumbnail is a sheet of one. ret: JPEG bytes are appended, so it must be
 * initialised by the caller, who owns it. ret_layout may be NULL.
 *
 * Errors: ERR_INVALID, ERR_UNSUPPORTED (libavcodec without a JPEG encoder), ERR_NO_MEMORY (also when
 * ret's maximum is too small).
 */
MUST_CHECK int preview_sheet(struct str *ret, struct preview_layout *ret_layout,
                             const uint8_t *const *frames, int n, int width, int height,
                             int max_side, struct err *err);

/* One frame as WebP; otherwise as a sheet of one. ERR_UNSUPPORTED: libavcodec without libwebp. */
MUST_CHECK int preview_webp(struct str *ret, const uint8_t *frame, int width, int height,
                            int max_side, struct err *err);

#endif
