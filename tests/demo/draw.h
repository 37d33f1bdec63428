/*
 * draw.h - first pictures for image-to-video: each caption's object, drawn at some place beside the middle.
 */
#ifndef TESTS_DEMO_DRAW_H
#define TESTS_DEMO_DRAW_H

#include "tests/demo/captions.h"

/* DIR/NN.rgb: rgb24 of 96x64 for caption NN. */
MUST_CHECK int draw_first_pictures(const struct captions *captions, const char *dir,
                                   struct err *err);

#endif
