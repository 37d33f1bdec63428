/*
 * scene.h - the domain of the demonstration model: clips of one or two moving shapes in front of a
 * background, 96x64 pixels, 16 frames a second.
 *
 * The same domain as tools/train_demo/data.py, with the same numbers and orders. Every motion is
 * stationary: straight ones leave at one edge and enter at the opposite one, the others are periodic.
 * Pictures are [SCENE_HEIGHT, SCENE_WIDTH, 3]. Any thread.
 */
#ifndef TESTS_DEMO_SCENE_H
#define TESTS_DEMO_SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCENE_WIDTH = 96,
    SCENE_HEIGHT = 64,
    SCENE_FPS = 16,
    SCENE_PIXELS = SCENE_WIDTH * SCENE_HEIGHT,
    SCENE_VALUES = SCENE_PIXELS * 3, /* of a picture: bytes of an rgb24 frame, too */
};

enum shape {
    SHAPE_CIRCLE,
    SHAPE_SQUARE,
    SHAPE_TRIANGLE,
    SHAPE_STAR,
    N_SHAPES,
};

enum colour {
    COLOUR_RED,
    COLOUR_GREEN,
    COLOUR_BLUE,
    COLOUR_YELLOW,
    COLOUR_ORANGE,
    COLOUR_PURPLE,
    COLOUR_WHITE,
    COLOUR_BLACK,
    N_COLOURS,
};

enum background {
    BACKGROUND_RED,
    BACKGROUND_GREEN,
    BACKGROUND_BLUE,
    BACKGROUND_YELLOW,
    BACKGROUND_WHITE,
    BACKGROUND_BLACK,
    BACKGROUND_GRAY,
    N_BACKGROUNDS,
};

enum pattern {
    PATTERN_PLAIN,
    PATTERN_GRADIENT,
    PATTERN_CHECKER,
    N_PATTERNS,
};

enum motion {
    MOTION_RIGHT,
    MOTION_LEFT,
    MOTION_UP,
    MOTION_DOWN,
    MOTION_DIAGONAL,
    N_HEADINGS, /* those above are straight */
    MOTION_BOUNCE = N_HEADINGS,
    MOTION_ORBIT,
    MOTION_PULSE,
    MOTION_SPIN,
    MOTION_STILL,
    N_MOTIONS,
};

/* What can be said about a clip, in the order of the columns of captions.tsv. */
enum attribute {
    ATTRIBUTE_SHAPE,
    ATTRIBUTE_COLOUR,
    ATTRIBUTE_BACKGROUND,
    ATTRIBUTE_PATTERN,
    ATTRIBUTE_MOTION,
    ATTRIBUTE_OBJECTS, /* how many */
    N_ATTRIBUTES,
};

enum {
    SCENE_NOTHING = -1, /* no value: the motion of an empty picture */
    SCENE_NAME = 16,    /* bytes for the name of a value */
};

enum scene_size {
    SIZE_SMALL,
    SIZE_NORMAL,
    SIZE_LARGE,
    N_SIZES,
};

enum scene_speed {
    SPEED_SLOW,
    SPEED_NORMAL,
    SPEED_QUICK,
    N_SPEEDS,
};

struct scene {
    int n_objects;         /* 0 to 2; two are half a picture apart and never meet */
    enum shape shape[2];   /* of each object */
    enum colour colour[2]; /* of each object */
    enum background background;
    enum pattern pattern;
    enum motion motion; /* of all objects */
    enum scene_size size;
    enum scene_speed speed; /* straight motions only */
    float x, y;             /* around which it moves, or the place at time 0; y is down */
    float phase;            /* of a period, 0 to 1 */
};

extern const float scene_colour_rgb[N_COLOURS][3];
extern const float scene_heading[N_HEADINGS][2];

const char *attribute_name(enum attribute a);

/* The value of an attribute with this name, or SCENE_NOTHING. Not for objects. */
int attribute_find(enum attribute a, const char *name);

/* "red", "bounce", "2", "nothing". Returns ret. */
const char *attribute_value_name(char ret[SCENE_NAME], enum attribute a, int value);

/* One combination in eleven is never trained on; tests use only these. */
bool scene_held_out(enum shape shape, enum colour colour, enum motion motion);

/* A turning circle shows nothing, nor does an object on its own colour. */
bool scene_possible(enum shape shape, enum colour colour, enum background background,
                    enum motion motion);

/* Pixels from an object's centre to its outline, more or less; and of an orbit around that. */
float scene_radius(enum scene_size size);
float scene_orbit_radius(enum scene_size size);

/* What of a shape does not depend on the pixel: sectors around the centre, each with one edge. */
struct outline {
    int n_sectors; /* 0: a circle */
    float middle[5][2];
    float nx, ny; /* the edge's normal, seen from the sector's middle */
    float edge;   /* and its distance at radius 1 */
};

void outline_init(struct outline *o, enum shape shape, float angle);

/* Signed distance in pixels, negative inside. dx, dy: from the centre, y down. */
float outline_distance(const struct outline *o, float dx, float dy, float r);

/* The area at radius 1. */
float outline_area(enum shape shape);

/* The angle after which it looks the same. */
float outline_period(enum shape shape);

/* d, moved by multiples of size into [-size/2, size/2). */
float scene_wrapped(float d, float size);

/* A picture in [0, 1]. */
void scene_draw_background(float *ret, enum background background, enum pattern pattern);

/* n frames of rgb24 from frame `first` on. */
void scene_render(uint8_t *ret, const struct scene *s, int first, int n);

#endif
