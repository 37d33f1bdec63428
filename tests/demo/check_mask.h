/*
 * check_mask.h - where an object is in each frame, and what its outline and motion are.
 *
 * The picture is a torus: what leaves at one edge enters at the opposite one. Any thread.
 */
#ifndef TESTS_DEMO_CHECK_MASK_H
#define TESTS_DEMO_CHECK_MASK_H

#include <stdint.h>

#include "tests/demo/scene.h"

/* One object over time; the arrays are the caller's. */
struct track {
    int n;               /* frames */
    const uint8_t *mask; /* [n, SCENE_HEIGHT, SCENE_WIDTH]: 1 where the object is */
    const int *area;     /* [n] pixels */
    double *x;           /* [n] its centre, unwrapped: beyond the edge when it has left there */
    double *y;
};

/* Fills x and y. */
void track_follow(struct track *t);

/* The shape that overlaps best on average over some frames. */
enum shape track_shape(const struct track *t);

/* n >= 2. */
enum motion track_motion(const struct track *t);

/* From the centre in frame f to each column and row, the shorter way around. */
struct offsets {
    float dx[SCENE_WIDTH];
    float dy[SCENE_HEIGHT];
};

void track_offsets(struct offsets *ret, const struct track *t, int f);

#endif
