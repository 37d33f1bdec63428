#include <complex.h>
#include <math.h>

#include "tests/demo/check_mask.h"

#define SHIFT   6.0  /* pixels a second: slower is no straight motion */
#define STRAY   3.0  /* pixels: farther from a straight line is none */
#define PULSE   0.07 /* of the size: more is no constant one */
#define TURNING 60.0 /* degrees a second */

/* The number whose angle is the object's place on the circle that x is, or y. */
static double complex centre(const uint8_t *mask, bool is_y)
{
    const int size = is_y ? SCENE_HEIGHT : SCENE_WIDTH;
    int count[SCENE_WIDTH] = {0};
    double complex sum = 0;

    for (int i = 0; i < SCENE_PIXELS; i++) {
        count[is_y ? i / SCENE_WIDTH : i % SCENE_WIDTH] += mask[i];
    }
    for (int i = 0; i < size; i++) {
        sum += count[i] * cexp(I * 2 * M_PI * (i + 0.5) / size);
    }
    return sum;
}

void track_follow(struct track *t)
{
    double complex old[2] = {1, 1};
    double angle[2] = {0, 0};

    for (int f = 0; f < t->n; f++) {
        for (int is_y = 0; is_y < 2; is_y++) {
            const double complex z = centre(t->mask + (size_t)f * SCENE_PIXELS, is_y);

            angle[is_y] += carg(z * conj(old[is_y]));
            old[is_y] = z;
        }
        t->x[f] = angle[0] * SCENE_WIDTH / (2 * M_PI);
        t->y[f] = angle[1] * SCENE_HEIGHT / (2 * M_PI);
    }
}

void track_offsets(struct offsets *ret, const struct track *t, int f)
{
    for (int x = 0; x < SCENE_WIDTH; x++) {
        ret->dx[x] = scene_wrapped((float)x + 0.5F - (float)t->x[f], SCENE_WIDTH);
    }
    for (int y = 0; y < SCENE_HEIGHT; y++) {
        ret->dy[y] = scene_wrapped((float)y + 0.5F - (float)t->y[f], SCENE_HEIGHT);
    }
}

/* The k-th angular moment: its angle turns k times as fast as the outline. */
static double complex moment(const struct track *t, int f, int k)
{
    const uint8_t *mask = t->mask + (size_t)f * SCENE_PIXELS;
    struct offsets from;
    double complex m = 0;
    double weight = 0;

    track_offsets(&from, t, f);
    for (int i = 0; i < SCENE_PIXELS; i++) {
        if (mask[i]) {
            const double dx = from.dx[i % SCENE_WIDTH];
            const double dy = from.dy[i / SCENE_WIDTH];

            m += (dx * dx + dy * dy) * cexp(I * k * atan2(dy, dx));
            weight += dx * dx + dy * dy;
        }
    }
    return m / fmax(weight, 1);
}

/* Degrees a second that the outline turns, by the moment that is strongest. */
static double turning(const struct track *t)
{
    double best_strength = 0;
    double best = 0;

    for (int k = 3; k <= 5; k++) {
        double complex old = 0;
        double complex step = 0;
        double strength = 0;

        for (int f = 0; f < t->n; f++) {
            const double complex m = moment(t, f, k);

            step += m * conj(old);
            strength += creal(m * conj(m));
            old = m;
        }
        if (strength > best_strength) {
            best_strength = strength;
            best = fabs(carg(step)) / k * SCENE_FPS * 180 / M_PI;
        }
    }
    return best;
}

/* The relative deviation of the object's size: 0 for a constant one. */
static double pulsing(const struct track *t)
{
    double mean = 0;
    double square = 0;

    for (int f = 0; f < t->n; f++) {
        mean += sqrt(t->area[f]) / t->n;
    }
    for (int f = 0; f < t->n; f++) {
        square += (sqrt(t->area[f]) - mean) * (sqrt(t->area[f]) - mean);
    }
    return sqrt(square / (t->n - 1)) / mean;
}

struct line {
    double speed; /* pixels a second */
    double stray; /* pixels, the deviation from it */
};

static struct line straight(const double *p, int n)
{
    double mean = 0;
    double slope = 0;
    double weight = 0;
    double square = 0;

    for (int f = 0; f < n; f++) {
        mean += p[f] / n;
    }
    for (int f = 0; f < n; f++) {
        const double time = f - (n - 1) / 2.0;

        slope += time * (p[f] - mean);
        weight += time * time;
    }
    slope /= weight;
    for (int f = 0; f < n; f++) {
        const double d = p[f] - mean - slope * (f - (n - 1) / 2.0);

        square += d * d;
    }
    return (struct line){.speed = slope * SCENE_FPS, .stray = sqrt(square / (n - 1))};
}

static enum motion heading(double vx, double vy)
{
    enum motion best = 0;
    double best_along = -INFINITY;

    for (int m = 0; m < N_HEADINGS; m++) {
        const double along = vx * scene_heading[m][0] + vy * scene_heading[m][1];

        if (along > best_along) {
            best_along = along;
            best = m;
        }
    }
    return best;
}

enum motion track_motion(const struct track *t)
{
    const struct line x = straight(t->x, t->n);
    const struct line y = straight(t->y, t->n);
    const bool moves = hypot(x.speed, y.speed) > SHIFT;

    if (y.stray > STRAY && x.stray > STRAY) {
        return MOTION_ORBIT;
    }
    if (y.stray > STRAY) {
        return MOTION_BOUNCE;
    }
    if (moves) {
        return heading(x.speed, y.speed);
    }
    if (pulsing(t) > PULSE) {
        return MOTION_PULSE;
    }
    return turning(t) > TURNING ? MOTION_SPIN : MOTION_STILL;
}
