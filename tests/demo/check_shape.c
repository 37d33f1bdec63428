#include <math.h>

#include "base/macros.h"
#include "tests/demo/check_mask.h"

enum {
    FRAMES = 6,
    TURNS = 8, /* angles that are tried within one sector */
};

/* Intersection over union of the object and an outline that lies a little beside its centre. */
static float overlap(const struct track *t, int f, const struct offsets *from,
                     const struct outline *o, float r, const float shift[2])
{
    const uint8_t *mask = t->mask + (size_t)f * SCENE_PIXELS;
    int inside = 0;
    int both = 0;

    for (int y = 0; y < SCENE_HEIGHT; y++) {
        for (int x = 0; x < SCENE_WIDTH; x++, mask++) {
            const bool in =
                outline_distance(o, from->dx[x] - shift[0], from->dy[y] - shift[1], r) < 0;

            inside += in;
            both += in && *mask;
        }
    }
    return (float)both / (float)(inside + t->area[f] - both);
}

/* With the shape of the same area, over turns and a few small shifts. */
static float best_overlap(const struct track *t, int f, enum shape shape)
{
    static const float shifts[][2] = {{0, 0}, {0, 1.5F}, {0, -1.5F}, {1.5F, 0}, {-1.5F, 0}};
    const float r = sqrtf((float)t->area[f] / outline_area(shape));
    const int turns = shape == SHAPE_CIRCLE ? 1 : TURNS;
    struct offsets from;
    float best = 0;

    track_offsets(&from, t, f);
    for (int turn = 0; turn < turns; turn++) {
        struct outline o;

        outline_init(&o, shape, (float)turn / (float)turns * outline_period(shape));
        for (size_t k = 0; k < ARRAY_LEN(shifts); k++) {
            best = fmaxf(best, overlap(t, f, &from, &o, r, shifts[k]));
        }
    }
    return best;
}

enum shape track_shape(const struct track *t)
{
    const int n = t->n < FRAMES ? t->n : FRAMES;
    enum shape best = 0;
    float best_score = -1;

    for (int shape = 0; shape < N_SHAPES; shape++) {
        float score = 0;

        for (int k = 0; k < n; k++) {
            const int f = k * (t->n - 1) / (n - 1);

            score += t->area[f] > 0 ? best_overlap(t, f, shape) : 0; /* may be empty once */
        }
        if (score > best_score) {
            best_score = score;
            best = shape;
        }
    }
    return best;
}
