#include "media/image_resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 8 bits of sample and 2 of headroom in a signed sum of 32 bits; the rest is the weights' fraction. */
enum {
    WEIGHT_BITS = 32 - 8 - 2
};

#define LANCZOS_SUPPORT 3.0

/* How each sample along one direction is made. */
struct kernel {
    int n;        /* output samples */
    int taps;     /* places for weights of each */
    int *first;   /* [n] input sample of the first weight */
    int *count;   /* [n] weights in use */
    int *weights; /* [n, taps] of 2^WEIGHT_BITS */
};

static double sinc(double x)
{
    return x == 0.0 ? 1.0 : sin(x * M_PI) / (x * M_PI);
}

static double lanczos(double x)
{
    return x >= -LANCZOS_SUPPORT && x < LANCZOS_SUPPORT ? sinc(x) * sinc(x / 3) : 0.0;
}

static void kernel_done(struct kernel *k)
{
    free(k->first);
    free(k->count);
    free(k->weights);
}

/* The weights of one output sample; w is scratch of k->taps. */
static void kernel_row(struct kernel *k, int i, int in, double *w)
{
    const double scale = (double)in / k->n;
    const double stretch = scale < 1.0 ? 1.0 : scale;
    const double support = LANCZOS_SUPPORT * stretch;
    const double centre = (i + 0.5) * scale;
    const double inverse = 1.0 / stretch;
    int first = (int)(centre - support + 0.5);
    int end = (int)(centre + support + 0.5);
    double sum = 0.0;

    first = first < 0 ? 0 : first;
    end = end > in ? in : end;
    for (int j = 0; j < end - first; j++) {
        w[j] = lanczos((j + first - centre + 0.5) * inverse);
        sum += w[j];
    }
    for (int j = 0; j < end - first; j++) {
        const double v = (sum != 0.0 ? w[j] / sum : w[j]) * (1 << WEIGHT_BITS);

        k->weights[(ptrdiff_t)i * k->taps + j] = (int)(v < 0 ? v - 0.5 : v + 0.5);
    }
    k->first[i] = first;
    k->count[i] = end - first;
}

static int kernel_init(struct kernel *k, int in, int out, struct err *err)
{
    const double scale = (double)in / out;
    double *w;

    k->n = out;
    k->taps = (int)ceil(LANCZOS_SUPPORT * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
    k->first = calloc((size_t)out, sizeof(*k->first));
    k->count = calloc((size_t)out, sizeof(*k->count));
    k->weights = calloc((size_t)out * (size_t)k->taps, sizeof(*k->weights));
    w = calloc((size_t)k->taps, sizeof(*w));
    if (!k->first || !k->count || !k->weights || !w) {
        free(w);
        return err_set(err, ERR_NO_MEMORY, "image resize from %d to %d", in, out);
    }
    for (int i = 0; i < out; i++) {
        kernel_row(k, i, in, w);
    }
    free(w);
    return ERR_OK;
}

static uint8_t round_to_byte(int sum)
{
    const int v = sum >> WEIGHT_BITS;

    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* out [h, k->n, 3] from in [h, width, 3] */
static void along_rows(uint8_t *out, const uint8_t *in, int width, int h, const struct kernel *k)
{
    for (int y = 0; y < h; y++, in += (ptrdiff_t)width * 3) {
        for (int x = 0; x < k->n; x++, out += 3) {
            const int *w = k->weights + (ptrdiff_t)x * k->taps;
            const uint8_t *p = in + (ptrdiff_t)k->first[x] * 3;
            int r = 1 << (WEIGHT_BITS - 1);
            int g = r;
            int b = r;

            for (int j = 0; j < k->count[x]; j++, p += 3) {
                r += p[0] * w[j];
                g += p[1] * w[j];
                b += p[2] * w[j];
            }
            out[0] = round_to_byte(r);
            out[1] = round_to_byte(g);
            out[2] = round_to_byte(b);
        }
    }
}

/* out [k->n, row] from in [h, row]; sums is scratch of `row` bytes' sums. */
static void along_columns(uint8_t *out, const uint8_t *in, ptrdiff_t row, int *sums,
                          const struct kernel *k)
{
    for (int y = 0; y < k->n; y++, out += row) {
        const int *w = k->weights + (ptrdiff_t)y * k->taps;
        const uint8_t *p = in + k->first[y] * row;

        for (ptrdiff_t x = 0; x < row; x++) {
            sums[x] = 1 << (WEIGHT_BITS - 1);
        }
        for (int j = 0; j < k->count[y]; j++, p += row) {
            for (ptrdiff_t x = 0; x < row; x++) {
                sums[x] += p[x] * w[j];
            }
        }
        for (ptrdiff_t x = 0; x < row; x++) {
            out[x] = round_to_byte(sums[x]);
        }
    }
}

static int image_create(struct image *ret, int width, int height, struct err *err)
{
    ret->rgb = malloc((size_t)width * (size_t)height * 3);
    if (!ret->rgb) {
        return err_set(err, ERR_NO_MEMORY, "image of %dx%d", width, height);
    }
    ret->width = width;
    ret->height = height;
    return ERR_OK;
}

static int resize_width(struct image *ret, const struct image *src, int width, struct err *err)
{
    struct kernel k = {0};
    int rc = image_create(ret, width, src->height, err);

    if (rc == ERR_OK && width == src->width) {
        memcpy(ret->rgb, src->rgb, (size_t)width * (size_t)src->height * 3);
    } else if (rc == ERR_OK) {
        rc = kernel_init(&k, src->width, width, err);
        if (rc == ERR_OK) {
            along_rows(ret->rgb, src->rgb, src->width, src->height, &k);
        }
    }
    kernel_done(&k);
    return rc;
}

static int resize_height(struct image *ret, const struct image *src, int height, struct err *err)
{
    const ptrdiff_t row = (ptrdiff_t)src->width * 3;
    struct kernel k = {0};
    int *sums = calloc((size_t)row, sizeof(*sums));
    int rc;

    if (!sums) {
        return err_set(err, ERR_NO_MEMORY, "image resize");
    }
    rc = image_create(ret, src->width, height, err);
    if (rc == ERR_OK) {
        rc = kernel_init(&k, src->height, height, err);
    }
    if (rc == ERR_OK) {
        along_columns(ret->rgb, src->rgb, row, sums, &k);
    }
    kernel_done(&k);
    free(sums);
    return rc;
}

int image_resize(struct image *ret, const struct image *src, int width, int height, struct err *err)
{
    struct image wide = {0};
    struct image out = {0};
    int rc;

    if (width < 1 || width > IMAGE_MAX_SIDE || height < 1 || height > IMAGE_MAX_SIDE ||
        src->width < 1 || src->width > IMAGE_MAX_SIDE || src->height < 1 ||
        src->height > IMAGE_MAX_SIDE) {
        return err_set(err, ERR_INVALID, "resize of %dx%d to %dx%d: each side must be 1 to %d",
                       src->width, src->height, width, height, IMAGE_MAX_SIDE);
    }
    rc = resize_width(&wide, src, width, err);
    if (rc == ERR_OK && height == src->height) {
        out = wide;
        wide = (struct image){0};
    } else if (rc == ERR_OK) {
        CHECK_BUG(wide.width == width);
        rc = resize_height(&out, &wide, height, err);
    }
    if (rc == ERR_OK) {
        *ret = out;
        out = (struct image){0};
    }
    image_done(&wide);
    image_done(&out);
    return rc;
}
