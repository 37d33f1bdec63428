/*
 * check.h - the checker: says by plain image analysis what a clip shows.
 *
 * It knows the domain (palettes, patterns, outlines) but nothing of how the clip was made. The
 * order: background (colour and pattern), objects in front of it, their colour, outline and motion.
 * test_check.c has it look at drawn clips, where it has to be right always. Any thread.
 */
#ifndef TESTS_DEMO_CHECK_H
#define TESTS_DEMO_CHECK_H

#include <stdint.h>

#include "base/err.h"
#include "tests/demo/scene.h"

struct seen {
    int value[N_ATTRIBUTES]; /* of the attribute's enum, or SCENE_NOTHING; of objects the count */
};

/* What n >= 2 frames of rgb24 show. Shape, colour and motion are SCENE_NOTHING if there is nothing
 * in front of the background. Fails only without memory. */
MUST_CHECK int check_describe(struct seen *ret, const uint8_t *frames, int n, struct err *err);

/* What should be seen of a scene. */
struct seen check_expected(const struct scene *s);

#endif
