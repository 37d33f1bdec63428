#include "engine/geometry.h"

#include <math.h>
#include <string.h>

#include "base/macros.h"
#include "base/size.h"

/* ASPECT_RATIO_480_BIN and ASPECT_RATIO_720_BIN of diffusers' pipeline_sana_video.py. */
static const struct trained_size bins_480[] = {
    {0.5, 448, 896},  {0.57, 480, 832}, {0.68, 528, 768}, {0.78, 560, 720},
    {1.0, 624, 624},  {1.13, 672, 592}, {1.29, 720, 560}, {1.46, 768, 528},
    {1.67, 816, 496}, {1.75, 832, 480}, {2.0, 896, 448},
};
static const struct trained_size bins_720[] = {
    {0.5, 672, 1344},  {0.57, 704, 1280}, {0.68, 800, 1152}, {0.78, 832, 1088},
    {1.0, 960, 960},   {1.13, 1024, 896}, {1.29, 1088, 832}, {1.46, 1152, 800},
    {1.67, 1248, 736}, {1.75, 1280, 704}, {2.0, 1344, 672},
};

_Static_assert(sizeof(bins_480) == sizeof(bins_720), "one count for both tables");
_Static_assert(ARRAY_LEN(bins_480) <= MODEL_MAX_SIZES, "a table fits");

int geometry_published_sizes(int64_t sample_size, struct trained_size ret[MODEL_MAX_SIZES])
{
    const struct trained_size *table = sample_size == 30   ? bins_480
                                       : sample_size == 22 ? bins_720
                                                           : NULL;

    if (!table) {
        return 0;
    }
    memcpy(ret, table, sizeof(bins_480));
    return (int)ARRAY_LEN(bins_480);
}

const struct trained_size *geometry_nearest(const struct trained_size *sizes, int n, int64_t width,
                                            int64_t height)
{
    const double ratio = (double)height / (double)width;
    const struct trained_size *best = sizes;

    for (int i = 1; i < n; i++) {
        if (fabs(sizes[i].ratio - ratio) < fabs(best->ratio - ratio)) {
            best = &sizes[i];
        }
    }
    return best;
}

static int check_size(int64_t width, int64_t height, struct err *err)
{
    if (width < SIDE_MIN || height < SIDE_MIN || width > SIDE_MAX || height > SIDE_MAX) {
        return err_set(err, ERR_INVALID, "size: %lldx%lld has a side outside %d..%d",
                       (long long)width, (long long)height, SIDE_MIN, SIDE_MAX);
    }
    if (width % 2 != 0 || height % 2 != 0) {
        return err_set(err, ERR_INVALID, "size: %lldx%lld: width and height must be even",
                       (long long)width, (long long)height);
    }
    if (width > 2 * height || height > 2 * width) {
        return err_set(err, ERR_INVALID, "size: %lldx%lld has an aspect ratio outside 0.5..2",
                       (long long)width, (long long)height);
    }
    if (width * height > PIXELS_MAX) {
        return err_set(err, ERR_INVALID, "size: %lldx%lld has more than %d pixels",
                       (long long)width, (long long)height, PIXELS_MAX);
    }
    return ERR_OK;
}

int geometry_size(struct geometry_size *ret, const struct transformer_config *transformer,
                  const struct vae_config *vae, const struct trained_size *sizes, int n_sizes,
                  int64_t width, int64_t height, struct err *err)
{
    const int64_t unit = vae->stride_s * transformer->patch_size;
    struct geometry_size size = {.width = width, .height = height};
    const int rc = check_size(width, height, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (n_sizes > 0) {
        const struct trained_size *trained = geometry_nearest(sizes, n_sizes, width, height);

        if (trained->width % unit != 0 || trained->height % unit != 0) {
            return err_set(err, ERR_INVALID,
                           "size: %lldx%lld goes to %lldx%lld, which is not in multiples of %lld",
                           (long long)width, (long long)height, (long long)trained->width,
                           (long long)trained->height, (long long)unit);
        }
        size.gen_width = trained->width;
        size.gen_height = trained->height;
    } else {
        size.gen_width = div_ceil(width, unit) * unit;
        size.gen_height = div_ceil(height, unit) * unit;
    }
    if (vae->kind == VAE_LTX2) { /* its reflecting pad needs two cells each way */
        size.gen_width = size.gen_width < 2 * unit ? 2 * unit : size.gen_width;
        size.gen_height = size.gen_height < 2 * unit ? 2 * unit : size.gen_height;
    }
    size.latent_width = size.gen_width / vae->stride_s;
    size.latent_height = size.gen_height / vae->stride_s;
    *ret = size;
    return ERR_OK;
}

int64_t geometry_latent_frames(int64_t frames, int64_t stride_t)
{
    return 1 + div_ceil(frames - 1, stride_t);
}

int geometry_check_frames(int64_t frames, struct err *err)
{
    if (frames < 1 || frames > FRAMES_MAX) {
        return err_set(err, ERR_INVALID, "frames: %lld is not in 1..%d", (long long)frames,
                       FRAMES_MAX);
    }
    return ERR_OK;
}

int64_t geometry_block_count(int64_t latent_frames, int64_t per_block)
{
    return latent_frames < per_block ? 1 : latent_frames / per_block;
}

struct geometry_block geometry_block(int64_t pictures, int64_t stride_t, int64_t per_block,
                                     int64_t index)
{
    const int64_t total = geometry_latent_frames(pictures, stride_t);
    const int64_t rest = total < per_block ? 0 : total % per_block;
    struct geometry_block b;
    int64_t end_picture;

    b.first = index == 0 ? 0 : index * per_block + rest;
    b.count = index == 0 ? per_block + rest : per_block;
    if (b.first + b.count > total) { /* fewer latent frames than one block */
        b.count = total - b.first;
    }
    b.first_picture = b.first == 0 ? 0 : 1 + stride_t * (b.first - 1);
    end_picture = 1 + stride_t * (b.first + b.count - 1);
    b.n_pictures = (end_picture < pictures ? end_picture : pictures) - b.first_picture;
    return b;
}
