#include "tests/demo/scene.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"

#define PI      3.14159265358979323846F
#define DIAG    0.70710678118654752440F
#define SIN_36  0.58778525229247312917F
#define COS_36  0.80901699437494742410F
#define TIP     1.28F /* of a star of radius 1 */
#define NOTCH   0.62F
#define CHECKER 16 /* pixels of a cell */

#define RED                                                                                        \
    {                                                                                              \
        0.86F, 0.12F, 0.12F                                                                        \
    }
#define GREEN                                                                                      \
    {                                                                                              \
        0.10F, 0.66F, 0.20F                                                                        \
    }
#define BLUE                                                                                       \
    {                                                                                              \
        0.14F, 0.26F, 0.88F                                                                        \
    }
#define YELLOW                                                                                     \
    {                                                                                              \
        0.96F, 0.88F, 0.14F                                                                        \
    }
#define WHITE                                                                                      \
    {                                                                                              \
        0.97F, 0.97F, 0.97F                                                                        \
    }
#define BLACK                                                                                      \
    {                                                                                              \
        0.04F, 0.04F, 0.04F                                                                        \
    }

const float scene_colour_rgb[N_COLOURS][3] = {
    RED, GREEN, BLUE, YELLOW, {0.97F, 0.53F, 0.06F}, {0.56F, 0.16F, 0.70F}, WHITE, BLACK,
};
static const float background_rgb[N_BACKGROUNDS][3] = {
    RED, GREEN, BLUE, YELLOW, WHITE, BLACK, {0.50F, 0.50F, 0.50F},
};
const float scene_heading[N_HEADINGS][2] = {{1, 0}, {-1, 0}, {0, -1}, {0, 1}, {DIAG, DIAG}};

static const float radii[N_SIZES] = {12, 16, 22};
static const float speeds[N_SPEEDS] = {12, 24, 40}; /* pixels a second */

static const char *const shapes[] = {"circle", "square", "triangle", "star"};
static const char *const colours[] = {"red",    "green",  "blue",  "yellow",
                                      "orange", "purple", "white", "black"};
static const char *const backgrounds[] = {"red",   "green", "blue", "yellow",
                                          "white", "black", "gray"};
static const char *const patterns[] = {"plain", "gradient", "checker"};
static const char *const motions[] = {"right",  "left",  "up",    "down", "diagonal",
                                      "bounce", "orbit", "pulse", "spin", "still"};

static const struct {
    const char *name;
    const char *const *values;
    int n;
} attributes[N_ATTRIBUTES] = {
    [ATTRIBUTE_SHAPE] = {"shape", shapes, ARRAY_LEN(shapes)},
    [ATTRIBUTE_COLOUR] = {"colour", colours, ARRAY_LEN(colours)},
    [ATTRIBUTE_BACKGROUND] = {"background", backgrounds, ARRAY_LEN(backgrounds)},
    [ATTRIBUTE_PATTERN] = {"pattern", patterns, ARRAY_LEN(patterns)},
    [ATTRIBUTE_MOTION] = {"motion", motions, ARRAY_LEN(motions)},
    [ATTRIBUTE_OBJECTS] = {"objects", NULL, 0},
};

const char *attribute_name(enum attribute a)
{
    return attributes[a].name;
}

int attribute_find(enum attribute a, const char *name)
{
    for (int i = 0; i < attributes[a].n; i++) {
        if (strcmp(attributes[a].values[i], name) == 0) {
            return i;
        }
    }
    return SCENE_NOTHING;
}

const char *attribute_value_name(char ret[SCENE_NAME], enum attribute a, int value)
{
    if (a == ATTRIBUTE_OBJECTS) {
        snprintf(ret, SCENE_NAME, "%d", value);
    } else {
        snprintf(ret, SCENE_NAME, "%s",
                 value == SCENE_NOTHING ? "nothing" : attributes[a].values[value]);
    }
    return ret;
}

bool scene_held_out(enum shape shape, enum colour colour, enum motion motion)
{
    return ((int)shape * 7 + (int)colour * 3 + (int)motion * 5) % 11 == 0;
}

bool scene_possible(enum shape shape, enum colour colour, enum background background,
                    enum motion motion)
{
    return strcmp(colours[colour], backgrounds[background]) != 0 &&
           !(shape == SHAPE_CIRCLE && motion == MOTION_SPIN);
}

float scene_radius(enum scene_size size)
{
    return radii[size];
}

float scene_orbit_radius(enum scene_size size)
{
    return fminf(14, SCENE_HEIGHT / 2.0F - radii[size]);
}

/* ---- outlines ---- */

void outline_init(struct outline *o, enum shape shape, float angle)
{
    const float dx = NOTCH * COS_36 - TIP; /* a star's edge: from a tip to the next notch */
    const float dy = NOTCH * SIN_36;
    const float length = hypotf(dx, dy);
    float first = 0; /* where the first sector's middle points */

    *o = (struct outline){0};
    switch (shape) {
    case SHAPE_SQUARE:
        *o = (struct outline){.n_sectors = 4, .nx = 1, .edge = 0.86F};
        break;
    case SHAPE_TRIANGLE:
        *o = (struct outline){.n_sectors = 3, .nx = 1, .edge = 0.68F};
        first = PI / 2;
        break;
    case SHAPE_STAR:
        *o = (struct outline){
            .n_sectors = 5, .nx = dy / length, .ny = -dx / length, .edge = dy / length * TIP};
        first = -PI / 2;
        break;
    default:
        break;
    }
    for (int i = 0; i < o->n_sectors; i++) {
        const float a = angle + first + 2 * PI * (float)i / (float)o->n_sectors;

        o->middle[i][0] = cosf(a);
        o->middle[i][1] = sinf(a);
    }
}

float outline_distance(const struct outline *o, float dx, float dy, float r)
{
    float along = -INFINITY; /* in the sector whose middle is nearest */
    float across = 0;

    if (o->n_sectors == 0) {
        return sqrtf(dx * dx + dy * dy) - r;
    }
    for (int i = 0; i < o->n_sectors; i++) {
        const float u = dx * o->middle[i][0] + dy * o->middle[i][1];

        if (u > along) {
            along = u;
            across = dy * o->middle[i][0] - dx * o->middle[i][1];
        }
    }
    return o->nx * along + o->ny * fabsf(across) - o->edge * r;
}

float outline_area(enum shape shape)
{
    static const float area[N_SHAPES] = {
        [SHAPE_CIRCLE] = PI,
        [SHAPE_SQUARE] = 4 * 0.86F * 0.86F,
        [SHAPE_TRIANGLE] = 5.19615242F * 0.68F * 0.68F, /* 3 sqrt(3) */
        [SHAPE_STAR] = 5 * TIP * NOTCH * SIN_36,
    };

    return area[shape];
}

float outline_period(enum shape shape)
{
    struct outline o;

    outline_init(&o, shape, 0);
    return o.n_sectors > 0 ? 2 * PI / (float)o.n_sectors : 2 * PI;
}

/* ---- drawing ---- */

float scene_wrapped(float d, float size)
{
    return d - size * floorf(d / size + 0.5F);
}

/* The second colour of a gradient or a checker: darker, or lighter where it is nearly black. */
static void shade(float ret[3], const float rgb[3])
{
    const bool bright = fmaxf(rgb[0], fmaxf(rgb[1], rgb[2])) > 0.3F;

    for (int c = 0; c < 3; c++) {
        ret[c] = bright ? rgb[c] * 0.62F : rgb[c] + 0.26F;
    }
}

void scene_draw_background(float *ret, enum background background, enum pattern pattern)
{
    const float *a = background_rgb[background];
    float b[3];

    shade(b, a);
    for (int i = 0; i < SCENE_PIXELS; i++) {
        const int x = i % SCENE_WIDTH;
        const int y = i / SCENE_WIDTH;
        float mix = 0;

        if (pattern == PATTERN_GRADIENT) {
            mix = (float)y / (SCENE_HEIGHT - 1);
        } else if (pattern == PATTERN_CHECKER) {
            mix = (float)((x / CHECKER + y / CHECKER) % 2);
        }
        for (int c = 0; c < 3; c++) {
            ret[3 * i + c] = a[c] + (b[c] - a[c]) * mix;
        }
    }
}

struct pose {
    float x, y, r, angle;
};

static struct pose pose_at(const struct scene *s, float seconds)
{
    static const float period[N_MOTIONS] = {
        [MOTION_BOUNCE] = 1, [MOTION_ORBIT] = 2, [MOTION_PULSE] = 1, [MOTION_SPIN] = 2};
    struct pose p = {.x = s->x, .y = s->y, .r = radii[s->size]};
    const float turn = period[s->motion] > 0 ? seconds / period[s->motion] + s->phase : 0;
    const float circle = 2 * PI * (turn - floorf(turn));

    switch (s->motion) {
    case MOTION_BOUNCE:
        p.y -= fminf(26, SCENE_HEIGHT - 2 * p.r - 5) * fabsf(sinf(circle / 2));
        break;
    case MOTION_ORBIT:
        p.x += scene_orbit_radius(s->size) * cosf(circle);
        p.y += scene_orbit_radius(s->size) * sinf(circle);
        break;
    case MOTION_PULSE:
        p.r *= 1 + (s->size == SIZE_LARGE ? 0.2F : 0.35F) * sinf(circle);
        break;
    case MOTION_SPIN:
        p.angle = circle;
        break;
    case MOTION_STILL:
        break;
    default:
        p.x += scene_heading[s->motion][0] * speeds[s->speed] * seconds;
        p.y += scene_heading[s->motion][1] * speeds[s->speed] * seconds;
    }
    return p;
}

static void draw_object(float *picture, enum shape shape, enum colour colour, struct pose p)
{
    struct outline o;

    outline_init(&o, shape, p.angle);
    for (int i = 0; i < SCENE_PIXELS; i++) {
        const int x = i % SCENE_WIDTH;
        const int y = i / SCENE_WIDTH;
        const float dx = scene_wrapped((float)x + 0.5F - p.x, SCENE_WIDTH);
        const float dy = scene_wrapped((float)y + 0.5F - p.y, SCENE_HEIGHT);
        const float d = outline_distance(&o, dx, dy, p.r);
        const float alpha = fminf(fmaxf(0.5F - d, 0), 1);

        for (int c = 0; c < 3; c++) {
            float *v = &picture[3 * i + c];

            *v += (scene_colour_rgb[colour][c] - *v) * alpha;
        }
    }
}

void scene_render(uint8_t *ret, const struct scene *s, int first, int n)
{
    float picture[SCENE_VALUES];

    for (int f = 0; f < n; f++) {
        struct pose p = pose_at(s, (float)(first + f) / SCENE_FPS);

        scene_draw_background(picture, s->background, s->pattern);
        for (int i = 0; i < s->n_objects; i++) {
            draw_object(picture, s->shape[i], s->colour[i], p);
            p.x += SCENE_WIDTH / 2.0F;
        }
        for (int i = 0; i < SCENE_VALUES; i++) {
            *ret++ = (uint8_t)lrintf(picture[i] * 255);
        }
    }
}
