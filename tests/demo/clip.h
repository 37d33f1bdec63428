/*
 * clip.h - reading a clip of 96x64 pixels: FILE.rgb as it is, anything else through ffmpeg.
 */
#ifndef TESTS_DEMO_CLIP_H
#define TESTS_DEMO_CLIP_H

#include <stdint.h>

#include "base/err.h"

struct clip {
    int n_frames;
    uint8_t *frames; /* owned: [n_frames, SCENE_HEIGHT, SCENE_WIDTH, 3] */
};

/* At least one frame. Errors name the file and what is wrong with it. */
MUST_CHECK int clip_open(struct clip *ret, const char *file, struct err *err);

void clip_close(struct clip *c);

#endif
