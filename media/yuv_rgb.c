#include "media/yuv_rgb.h"

#include <stdlib.h>

/* 16.16 fixed point. R = y_scale (Y - y_zero) + r_cr (Cr - 128), and so on. */
struct matrix {
    int y_zero, y_scale;
    int r_cr, g_cb, g_cr, b_cb;
};

static const struct matrix full = {0, 65536, 91881, -22554, -46802, 116130};
/* the same, Y times 255/219, chroma times 255/224 */
static const struct matrix limited = {16, 76309, 104597, -25675, -53279, 132201};

/*
 * One row of chroma at full width into out[0..n << shift_x). near and far are the chroma rows above
 * and below the luma row y, of n columns; s is scratch of n + 2.
 */
static void chroma_row(uint8_t *restrict out, uint16_t *restrict s, const uint8_t *near,
                       const uint8_t *far, int n, int y, const struct yuv_picture *p)
{
    /* what is added before the division by 16 rounds up and down in turn */
    const int by_row = p->shift_y == 0 ? 0 : y % 2 ? 8 : 4;
    const int even = p->shift_y ? 8 : 4;
    const int odd = p->shift_y ? 7 : 8;

    s++; /* so that s[-1] and s[n] repeat the ends */
    for (int c = 0; c < n; c++) {
        s[c] = (uint16_t)(3 * near[c] + far[c]);
    }
    s[-1] = s[0];
    s[n] = s[n - 1];
    if (p->shift_x == 0) {
        for (int c = 0; c < n; c++) {
            out[c] = (uint8_t)((4 * s[c] + by_row) >> 4);
        }
    } else if (p->shift_x == 1) {
        for (int c = 0; c < n; c++) {
            *out++ = (uint8_t)((3 * s[c] + s[c - 1] + even) >> 4);
            *out++ = (uint8_t)((3 * s[c] + s[c + 1] + odd) >> 4);
        }
    } else {
        for (int x = 0; x < n << p->shift_x; x++) {
            out[x] = (uint8_t)((4 * s[x >> p->shift_x] + by_row) >> 4);
        }
    }
}

static uint8_t clip(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 << 16 ? 255 : v >> 16);
}

static void rgb_row(uint8_t *restrict rgb, const uint8_t *luma, const uint8_t *cb,
                    const uint8_t *cr, int width, const struct matrix *m)
{
    for (int x = 0; x < width; x++, rgb += 3) {
        const int y = (luma[x] - m->y_zero) * m->y_scale + 32768;
        const int u = cb[x] - 128;
        const int v = cr[x] - 128;

        rgb[0] = clip(y + m->r_cr * v);
        rgb[1] = clip(y + m->g_cb * u + m->g_cr * v);
        rgb[2] = clip(y + m->b_cb * u);
    }
}

int yuv_rgb_convert(uint8_t *rgb, const struct yuv_picture *p, struct err *err)
{
    const int n = (p->width + (1 << p->shift_x) - 1) >> p->shift_x;
    const int last = ((p->height + (1 << p->shift_y) - 1) >> p->shift_y) - 1;
    const ptrdiff_t full_width = (ptrdiff_t)n << p->shift_x;
    uint8_t *rows = calloc(2, (size_t)full_width);
    uint16_t *sums = calloc((size_t)n + 2, sizeof(*sums));
    int rc = ERR_OK;

    if (!rows || !sums) {
        rc = err_set(err, ERR_NO_MEMORY, "image conversion");
        goto out;
    }
    for (int y = 0; y < p->height; y++) {
        const int c = y >> p->shift_y;
        int d = c; /* the farther row */

        if (p->shift_y == 1) {
            d = y % 2 ? (c < last ? c + 1 : c) : (c > 0 ? c - 1 : c);
        }
        for (int i = 0; i < 2; i++) {
            chroma_row(rows + i * full_width, sums, p->plane[1 + i] + c * p->line[1 + i],
                       p->plane[1 + i] + d * p->line[1 + i], n, y, p);
        }
        rgb_row(rgb + (ptrdiff_t)y * p->width * 3, p->plane[0] + y * p->line[0], rows,
                rows + full_width, p->width, p->full_range ? &full : &limited);
    }
out:
    free(sums);
    free(rows);
    return rc;
}
