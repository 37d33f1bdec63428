/*
 * captions.h - the list of captions with what each one's video has to show (captions.tsv).
 */
#ifndef TESTS_DEMO_CAPTIONS_H
#define TESTS_DEMO_CAPTIONS_H

#include "base/err.h"
#include "tests/demo/scene.h"

enum {
    CAPTIONS_MAX = 100, /* files are NN.mp4 */
    CAPTION_BYTES = 128,
};

struct caption {
    char text[CAPTION_BYTES];
    struct scene
        scene; /* in the middle: what the caption does not say. Of two objects the second is not told */
};

struct captions {
    int n;
    struct caption of[CAPTIONS_MAX];
};

/* Reads "caption TAB shape TAB colour TAB background TAB pattern TAB motion" lines, with "TAB 2" behind
 * where two objects are meant; those that begin with # are comments. Errors name file and line. */
MUST_CHECK int captions_read(struct captions *ret, const char *file, struct err *err);

#endif
