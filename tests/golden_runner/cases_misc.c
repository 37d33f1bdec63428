/*
 * Checkers of what stands around the model: size buckets, resize and crop, reference images.
 */
#include <string.h>

#include "engine/geometry.h"
#include "kernels/resize.h"
#include "media/image_resize.h"
#include "tests/golden_runner/support.h"

static int check_bins(struct golden_bench *b, struct err *err)
{
    struct trained_size sizes[MODEL_MAX_SIZES];
    struct tensor bins;
    float *got;
    int rc = golden_tensor(b->c, "out.bins", &bins, err);

    if (rc != ERR_OK) {
        return rc;
    }
    got = golden_floats(b, tensor_count(&bins));
    for (int64_t i = 0; i < bins.dim[0]; i++) {
        int64_t row[6]; /* height, width, 480 height, width, 720 height, width */
        int64_t made[4];

        memcpy(row, (const int64_t *)bins.data + i * 6, sizeof(row));
        for (int64_t j = 0; j < 4; j += 2) {
            const int n = geometry_published_sizes(j == 0 ? 30 : 22, sizes);
            const struct trained_size *nearest = geometry_nearest(sizes, n, row[1], row[0]);

            made[j] = nearest->height;
            made[j + 1] = nearest->width;
        }
        for (int j = 0; j < 6; j++) {
            got[i * 6 + j] = (float)(j < 2 ? row[j] : made[j - 2]);
        }
    }
    return golden_compare(b->c, "out.bins", got, tensor_count(&bins), err);
}

/* in.video and outputs are [1, 3, F, H, W]. */
struct resize_check {
    const char *name;
    struct tensor in, want;
};

static int run_resize(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct resize_check *k = ctx;
    struct tensor in;
    struct tensor out;
    int rc = golden_place(b, &k->in, &in, err);

    if (rc == ERR_OK) {
        rc = workspace_tensor(&b->ws, &out, DTYPE_F32, k->want.rank, k->want.dim, err);
    }
    if (rc == ERR_OK) {
        rc = op_resize_crop(b->c->dev, &out, &in, err);
    }
    return rc != ERR_OK ? rc : golden_compare_on_device(b, k->name, &out, 1, err);
}

static int check_resize(struct golden_bench *b, const char *name, struct err *err)
{
    struct resize_check k = {.name = name};
    int rc = golden_latents(b, "in.video", 0, &k.in, err);

    if (rc == ERR_OK) {
        rc = golden_latents(b, name, 0, &k.want, err);
    }
    return rc != ERR_OK ? rc : golden_run(b, run_resize, &k, err);
}

/* A reference picture: Pillow's Lanczos in 8 bits, then [-1, 1]. */
static int check_image(struct golden_bench *b, struct err *err)
{
    struct image source = {0};
    struct image resized = {0};
    struct tensor rgb;
    int64_t to[2];
    float *last;
    float *first;
    int64_t n;
    int rc = golden_tensor(b->c, "in.rgb_hwc", &rgb, err);

    if (rc != ERR_OK || golden_ints(b->c, "resize_to_HW", to, 2) != 2) {
        return rc != ERR_OK ? rc : golden_mismatch(err, "no resize_to_HW");
    }
    source = (struct image){.width = (int)rgb.dim[1], .height = (int)rgb.dim[0], .rgb = rgb.data};
    rc = image_resize(&resized, &source, (int)to[1], (int)to[0], err);
    if (rc != ERR_OK) {
        return rc;
    }
    n = to[0] * to[1] * 3;
    last = golden_floats(b, n);
    first = golden_floats(b, n);
    for (int64_t i = 0; i < n; i++) {
        last[i] = (float)resized.rgb[i] / 255.0F * 2.0F - 1.0F;
    }
    image_done(&resized);
    golden_to_channels_first(first, last, 3, to[0] * to[1]);
    return golden_compare(b->c, "out.image", first, n, err);
}

int golden_misc(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK && safetensors_find(c->data, "in.rgb_hwc")) {
        rc = check_image(&b, err);
    } else if (rc == ERR_OK) {
        rc = check_bins(&b, err);
        if (rc == ERR_OK) {
            rc = check_resize(&b, "out.resized_w18_h24", err);
        }
        if (rc == ERR_OK) {
            rc = check_resize(&b, "out.resized_w40_h16", err);
        }
    }
    golden_bench_close(&b);
    return rc;
}
