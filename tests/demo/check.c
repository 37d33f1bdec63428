#include "tests/demo/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/demo/check_mask.h"

#define THRESHOLD 0.22F /* of the largest channel difference, for a pixel to be foreground */
#define MIN_AREA  60    /* pixels of an object */

/* The lower median of what was counted. */
static int median(const int *count, int total)
{
    int value = 0;

    for (int below = count[0]; below <= (total - 1) / 2; below += count[value]) {
        value++;
    }
    return value;
}

/* The median over time: objects that move vanish from it. */
static void still_picture(float *ret, const uint8_t *frames, int n)
{
    for (int i = 0; i < SCENE_VALUES; i++) {
        int count[256] = {0};

        for (int f = 0; f < n; f++) {
            count[frames[(size_t)f * SCENE_VALUES + (size_t)i]]++;
        }
        ret[i] = (float)median(count, n) / 255;
    }
}

static double difference(const float *a, const float *b)
{
    double sum = 0;

    for (int i = 0; i < SCENE_VALUES; i += 3) {
        sum += fminf(fabsf(a[i] - b[i]) + fabsf(a[i + 1] - b[i + 1]) + fabsf(a[i + 2] - b[i + 2]),
                     0.6F); /* an object that stands counts little */
    }
    return sum;
}

/* Draws the background that is nearest to the clip. */
static void find_background(float *ret_picture, struct seen *seen, const uint8_t *frames, int n)
{
    float still[SCENE_VALUES];
    double best = INFINITY;
    enum background background = 0;
    enum pattern pattern = 0;

    still_picture(still, frames, n);
    for (int i = 0; i < N_BACKGROUNDS * N_PATTERNS; i++) {
        double d;

        scene_draw_background(ret_picture, i / N_PATTERNS, i % N_PATTERNS);
        d = difference(still, ret_picture);
        if (d < best) {
            best = d;
            background = i / N_PATTERNS;
            pattern = i % N_PATTERNS;
        }
    }
    scene_draw_background(ret_picture, background, pattern);
    seen->value[ATTRIBUTE_BACKGROUND] = (int)background;
    seen->value[ATTRIBUTE_PATTERN] = (int)pattern;
}

/* Each pixel takes the value if one of its 3x3 neighbours has it. */
static void spread(uint8_t *mask, uint8_t value)
{
    uint8_t old[SCENE_PIXELS];

    memcpy(old, mask, sizeof(old));
    for (int i = 0; i < SCENE_PIXELS; i++) {
        const int x = i % SCENE_WIDTH;
        const int left = x > 0 ? -1 : 0;
        const int right = x < SCENE_WIDTH - 1 ? 1 : 0;

        for (int row = i - SCENE_WIDTH; row <= i + SCENE_WIDTH; row += SCENE_WIDTH) {
            if (row < 0 || row >= SCENE_PIXELS) {
                continue;
            }
            if (old[row + left] == value || old[row] == value || old[row + right] == value) {
                mask[i] = value;
            }
        }
    }
}

/* Returns the area. What is thinner than 3 pixels is removed: edges that the decoder left a little
 * beside their place. */
static int find_foreground(uint8_t *mask, const uint8_t *frame, const float *background)
{
    int area = 0;

    for (int i = 0; i < SCENE_PIXELS; i++) {
        float d = 0;

        for (int c = 0; c < 3; c++) {
            d = fmaxf(d, fabsf((float)frame[3 * i + c] / 255 - background[3 * i + c]));
        }
        mask[i] = d > THRESHOLD;
    }
    spread(mask, 0);
    spread(mask, 1);
    for (int i = 0; i < SCENE_PIXELS; i++) {
        area += mask[i];
    }
    return area;
}

/* Clears the region that pixel i belongs to, on the torus and over corners; returns its area. */
static int take_region(uint8_t *mask, int i)
{
    int waiting[SCENE_PIXELS];
    int n = 0;
    int area = 0;

    mask[i] = 0;
    waiting[n++] = i;
    while (n > 0) {
        const int at = waiting[--n];

        area++;
        for (int k = 0; k < 9; k++) {
            const int x = (at % SCENE_WIDTH + SCENE_WIDTH + k % 3 - 1) % SCENE_WIDTH;
            const int y = (at / SCENE_WIDTH + SCENE_HEIGHT + k / 3 - 1) % SCENE_HEIGHT;
            const int next = y * SCENE_WIDTH + x;

            if (mask[next]) {
                mask[next] = 0;
                waiting[n++] = next;
            }
        }
    }
    return area;
}

static int count_objects(const uint8_t *mask)
{
    uint8_t rest[SCENE_PIXELS];
    int n = 0;

    memcpy(rest, mask, sizeof(rest));
    for (int i = 0; i < SCENE_PIXELS; i++) {
        n += rest[i] && take_region(rest, i) >= MIN_AREA;
    }
    return n;
}

/* The palette colour nearest to the object's median. */
static enum colour find_colour(const uint8_t *frames, const uint8_t *mask, int n)
{
    int count[3][256] = {{0}};
    int total = 0;
    enum colour best = 0;
    float best_distance = INFINITY;

    for (size_t i = 0; i < (size_t)n * SCENE_PIXELS; i++) {
        for (int c = 0; mask[i] && c < 3; c++) {
            count[c][frames[3 * i + (size_t)c]]++;
        }
        total += mask[i];
    }
    for (int k = 0; k < N_COLOURS; k++) {
        float d = 0;

        for (int c = 0; c < 3; c++) {
            const float e = (float)median(count[c], total) / 255 - scene_colour_rgb[k][c];

            d += e * e;
        }
        if (d < best_distance) {
            best_distance = d;
            best = k;
        }
    }
    return best;
}

int check_describe(struct seen *ret, const uint8_t *frames, int n, struct err *err)
{
    uint8_t *mask = calloc((size_t)n, SCENE_PIXELS);
    int *area = calloc((size_t)n, sizeof(*area));
    double *xy = calloc((size_t)n, 2 * sizeof(*xy));
    float background[SCENE_VALUES];
    int n_empty = 0;
    int rc = ERR_OK;

    CHECK_BUG(n >= 2);
    if (!mask || !area || !xy) {
        rc = err_set(err, ERR_NO_MEMORY, "the masks of %d frames", n);
        goto out;
    }
    for (int a = 0; a < N_ATTRIBUTES; a++) {
        ret->value[a] = SCENE_NOTHING;
    }
    find_background(background, ret, frames, n);
    for (int f = 0; f < n; f++) {
        area[f] = find_foreground(mask + (size_t)f * SCENE_PIXELS,
                                  frames + (size_t)f * SCENE_VALUES, background);
        n_empty += area[f] < MIN_AREA;
    }
    ret->value[ATTRIBUTE_OBJECTS] = count_objects(mask + (size_t)(n / 2) * SCENE_PIXELS);
    if (n_empty * 5 <= n) {
        struct track t = {.n = n, .mask = mask, .area = area, .x = xy, .y = xy + n};

        track_follow(&t);
        ret->value[ATTRIBUTE_COLOUR] = (int)find_colour(frames, mask, n);
        ret->value[ATTRIBUTE_SHAPE] = (int)track_shape(&t);
        ret->value[ATTRIBUTE_MOTION] = (int)track_motion(&t);
    }
out:
    free(xy);
    free(area);
    free(mask);
    return rc;
}

struct seen check_expected(const struct scene *s)
{
    return (struct seen){{
        [ATTRIBUTE_SHAPE] = (int)s->shape[0],
        [ATTRIBUTE_COLOUR] = (int)s->colour[0],
        [ATTRIBUTE_BACKGROUND] = (int)s->background,
        [ATTRIBUTE_PATTERN] = (int)s->pattern,
        [ATTRIBUTE_MOTION] = (int)s->motion,
        [ATTRIBUTE_OBJECTS] = s->n_objects,
    }};
}
