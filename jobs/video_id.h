/*
 * video_id.h - "video_" + 26 lower-case Crockford base32 characters: 48 bits of time in ms, 80 random bits
 * (a ULID). Sortable by creation, not guessable. Two of the same millisecond are in order, too: the
 * generator counts up.
 *
 * Loop thread.
 */
#ifndef JOBS_VIDEO_ID_H
#define JOBS_VIDEO_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    VIDEO_ID_LENGTH = 32,
    VIDEO_ID_MAX = 64, /* accepted in paths */
};

struct video_id_generator {
    int64_t last_ms;
    uint8_t random[10];
};

/* Errors: ERR_IO (no random numbers). Never the same twice, never lower than the one before. */
MUST_CHECK int video_id_next(struct video_id_generator *g, int64_t now_ms,
                             char ret[VIDEO_ID_LENGTH + 1], struct err *err);

/* [A-Za-z0-9_-]{1,64}: may be looked up. */
bool video_id_acceptable(const char *id);

#endif
