#include "media/yuv_rgb.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

enum {
    MAX = 24
};

static void fill(uint8_t *data, int n, uint64_t seed)
{
    float f[MAX * MAX];

    test_fill(f, n, seed);
    for (int i = 0; i < n; i++) {
        data[i] = (uint8_t)(f[i] * 127 + 128);
    }
}

/* One pixel, by the formula in double. */
static void reference(double *rgb, double y, double cb, double cr, bool full)
{
    if (!full) {
        y = (y - 16) * 255 / 219;
        cb = (cb - 128) * 255 / 224 + 128;
        cr = (cr - 128) * 255 / 224 + 128;
    }
    rgb[0] = y + 1.402 * (cr - 128);
    rgb[1] = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128);
    rgb[2] = y + 1.772 * (cb - 128);
    for (int i = 0; i < 3; i++) {
        rgb[i] = rgb[i] < 0 ? 0 : rgb[i] > 255 ? 255 : rgb[i];
    }
}

/* The chroma at (x, y): linear between samples that lie at the centres of their cells. */
static double chroma(const uint8_t *plane, int w, int h, double x, double y)
{
    const int x0 = (int)floor(x);
    const int y0 = (int)floor(y);
    double sum = 0;

    for (int j = 0; j < 2; j++) {
        for (int i = 0; i < 2; i++) {
            const int cx = x0 + i < 0 ? 0 : x0 + i > w - 1 ? w - 1 : x0 + i;
            const int cy = y0 + j < 0 ? 0 : y0 + j > h - 1 ? h - 1 : y0 + j;

            sum += (i ? x - x0 : 1 - (x - x0)) * (j ? y - y0 : 1 - (y - y0)) *
                   plane[(ptrdiff_t)cy * w + cx];
        }
    }
    return sum;
}

static void check(int w, int h, int sx, int sy, bool full)
{
    const int cw = (w + (1 << sx) - 1) >> sx;
    const int ch = (h + (1 << sy) - 1) >> sy;
    uint8_t y[MAX * MAX];
    uint8_t c[2][MAX * MAX];
    uint8_t rgb[MAX * MAX * 3 + 1];
    const ptrdiff_t end = (ptrdiff_t)w * h * 3;
    struct err err;

    fill(y, w * h, 1);
    fill(c[0], cw * ch, 2);
    fill(c[1], cw * ch, 3);
    rgb[end] = 77; /* a guard */
    const struct yuv_picture p = {.width = w,
                                  .height = h,
                                  .plane = {y, c[0], c[1]},
                                  .line = {w, cw, cw},
                                  .shift_x = sx,
                                  .shift_y = sy,
                                  .full_range = full};

    EXPECT_OK(yuv_rgb_convert(rgb, &p, &err));
    EXPECT_INT(rgb[end], 77);
    for (int j = 0; j < h; j++) {
        for (int i = 0; i < w; i++) {
            const double x_at = sx == 2 ? i >> 2 : (i + 0.5) / (1 << sx) - 0.5;
            const double y_at = (j + 0.5) / (1 << sy) - 0.5;
            const uint8_t *got = rgb + ((ptrdiff_t)j * w + i) * 3;
            double want[3];

            reference(want, y[j * w + i], chroma(c[0], cw, ch, x_at, y_at),
                      chroma(c[1], cw, ch, x_at, y_at), full);
            for (int k = 0; k < 3; k++) {
                /* chroma is rounded to 8 bits before (1/2 * 1.8 * 1.14), the result after (1/2) */
                EXPECT(fabs(got[k] - want[k]) <= 1.6);
            }
        }
    }
}

TEST(yuv_rgb_matches_interpolation_in_double)
{
    static const int sizes[][2] = {{1, 1}, {2, 2}, {3, 5}, {8, 8}, {17, 9}, {24, 23}};
    static const int shifts[][2] = {{0, 0}, {1, 0}, {1, 1}, {0, 1}, {2, 0}};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (size_t j = 0; j < ARRAY_LEN(shifts); j++) {
            check(sizes[i][0], sizes[i][1], shifts[j][0], shifts[j][1], true);
            check(sizes[i][0], sizes[i][1], shifts[j][0], shifts[j][1], false);
        }
    }
}

/* libjpeg: R = Y + 1.402 (Cr - 128), rounded; black and white of limited range are 16 and 235. */
TEST(yuv_rgb_gives_the_known_colours)
{
    static const struct {
        uint8_t yuv[3];
        bool full;
        uint8_t rgb[3];
    } known[] = {{{0, 128, 128}, true, {0, 0, 0}},        {{255, 128, 128}, true, {255, 255, 255}},
                 {{16, 128, 128}, false, {0, 0, 0}},      {{235, 128, 128}, false, {255, 255, 255}},
                 {{76, 85, 255}, true, {254, 0, 0}},      {{150, 44, 21}, true, {0, 255, 1}},
                 {{29, 255, 107}, true, {0, 0, 254}},     {{0, 128, 128}, false, {0, 0, 0}},
                 {{255, 255, 255}, true, {255, 121, 255}}};
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        const uint8_t *v = known[i].yuv;
        const struct yuv_picture p = {.width = 1,
                                      .height = 1,
                                      .plane = {&v[0], &v[1], &v[2]},
                                      .line = {1, 1, 1},
                                      .full_range = known[i].full};
        uint8_t rgb[3];

        EXPECT_OK(yuv_rgb_convert(rgb, &p, &err));
        for (int k = 0; k < 3; k++) {
            EXPECT_INT(rgb[k], known[i].rgb[k]);
        }
    }
}

/* (3 * 100 + 200 + 1) >> 2 = 125, (3 * 200 + 100 + 1) >> 2 = 175; red is 1.402 times that. */
TEST(yuv_rgb_interpolates_chroma_as_libjpeg)
{
    static const uint8_t y[4] = {100, 100, 100, 100};
    static const uint8_t cb[2] = {128, 128};
    static const uint8_t cr[2] = {100, 200};
    static const uint8_t red[4] = {61, 96, 166, 201};
    const struct yuv_picture p = {.width = 4,
                                  .height = 1,
                                  .plane = {y, cb, cr},
                                  .line = {4, 2, 2},
                                  .shift_x = 1,
                                  .full_range = true};
    uint8_t rgb[12];
    struct err err;

    EXPECT_OK(yuv_rgb_convert(rgb, &p, &err));
    for (int x = 0; x < 4; x++) {
        EXPECT_INT(rgb[(ptrdiff_t)x * 3], red[x]);
    }
}

TEST(yuv_rgb_survives_every_allocation_failure)
{
    static const uint8_t v[3] = {1, 2, 3};
    const struct yuv_picture p = {
        .width = 1, .height = 1, .plane = {&v[0], &v[1], &v[2]}, .line = {1, 1, 1}};
    uint8_t rgb[3];
    struct err err;
    int rc;

    for (long n = 1;; n++) {
        alloc_fail_at(n);
        rc = yuv_rgb_convert(rgb, &p, &err);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
}
