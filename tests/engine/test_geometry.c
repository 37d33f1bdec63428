#include "engine/geometry.h"

#include <stdlib.h>

#include "base/size.h"
#include "tests/support/test.h"

static const struct transformer_config wan_transformer = {.patch_size = 2, .sample_size = 30};
static const struct transformer_config ltx2_transformer = {.patch_size = 1, .sample_size = 22};
static const struct vae_config wan_vae = {.kind = VAE_WAN, .stride_t = 4, .stride_s = 8};
static const struct vae_config ltx2_vae = {.kind = VAE_LTX2, .stride_t = 8, .stride_s = 32};

/* ---- buckets (MODEL 1.4) ---- */

struct bin {
    double ratio;
    int64_t height, width;
};

static const struct bin bins_480[] = {
    {0.5, 448, 896},  {0.57, 480, 832}, {0.68, 528, 768}, {0.78, 560, 720},
    {1.0, 624, 624},  {1.13, 672, 592}, {1.29, 720, 560}, {1.46, 768, 528},
    {1.67, 816, 496}, {1.75, 832, 480}, {2.0, 896, 448},
};

static const struct bin bins_720[] = {
    {0.5, 672, 1344},  {0.57, 704, 1280}, {0.68, 800, 1152}, {0.78, 832, 1088},
    {1.0, 960, 960},   {1.13, 1024, 896}, {1.29, 1088, 832}, {1.46, 1152, 800},
    {1.67, 1248, 736}, {1.75, 1280, 704}, {2.0, 1344, 672},
};

static void expect_bucket(int64_t sample_size, int64_t width, int64_t height,
                          const struct bin *want)
{
    struct trained_size sizes[MODEL_MAX_SIZES];
    const int n = geometry_published_sizes(sample_size, sizes);
    const struct trained_size *nearest;

    EXPECT_INT(n, 11);
    nearest = geometry_nearest(sizes, n, width, height);
    EXPECT_INT(nearest->width, want->width);
    EXPECT_INT(nearest->height, want->height);
}

TEST(geometry_buckets_are_the_published_tables)
{
    for (size_t i = 0; i < ARRAY_LEN(bins_480); i++) {
        /* the size itself, and any of exactly the key's ratio */
        expect_bucket(30, bins_480[i].width, bins_480[i].height, &bins_480[i]);
        expect_bucket(30, 10000, (int64_t)(bins_480[i].ratio * 10000 + 0.5), &bins_480[i]);
        expect_bucket(22, bins_720[i].width, bins_720[i].height, &bins_720[i]);
        expect_bucket(22, 10000, (int64_t)(bins_720[i].ratio * 10000 + 0.5), &bins_720[i]);
    }
}

TEST(geometry_bucket_is_the_nearest_and_the_first_of_a_tie)
{
    expect_bucket(30, 512, 960, &bins_480[9]); /* 1.875: as far from 1.75 as from 2.0 */
    expect_bucket(30, 1000, 1876, &bins_480[10]);
    expect_bucket(30, 1000, 624, &bins_480[1]); /* 0.625 would be the middle of 0.57 and 0.68 */
    expect_bucket(30, 1000, 626, &bins_480[2]);
    expect_bucket(22, 1920, 1080, &bins_720[1]);
    expect_bucket(22, 1080, 1920, &bins_720[9]);
    expect_bucket(30, 100, 1, &bins_480[0]);
    expect_bucket(30, 1, 100, &bins_480[10]);
}

TEST(geometry_has_no_bucket_for_other_models)
{
    static const int64_t other[] = {0, -1, 16, 29, 31, 64};
    struct trained_size sizes[MODEL_MAX_SIZES];

    for (size_t i = 0; i < ARRAY_LEN(other); i++) {
        EXPECT_INT(geometry_published_sizes(other[i], sizes), 0);
    }
}

/* ---- sizes ---- */

struct size_case {
    const struct transformer_config *transformer;
    const struct vae_config *vae;
    int64_t width, height;
    bool exact;
    int64_t gen_width, gen_height;
};

TEST(geometry_size_finds_what_is_generated)
{
    static const struct transformer_config no_table = {.patch_size = 2, .sample_size = 16};
    static const struct size_case cases[] = {
        {&wan_transformer, &wan_vae, 832, 480, false, 832, 480},
        {&wan_transformer, &wan_vae, 640, 360, false, 832, 480},
        {&wan_transformer, &wan_vae, 500, 500, false, 624, 624},
        {&wan_transformer, &wan_vae, 50, 38, true, 64, 48},
        {&wan_transformer, &wan_vae, 32, 32, true, 32, 32},
        {&wan_transformer, &wan_vae, 34, 32, true, 48, 32},
        {&no_table, &wan_vae, 50, 38, false, 64, 48},
        {&ltx2_transformer, &ltx2_vae, 1280, 704, false, 1280, 704},
        {&ltx2_transformer, &ltx2_vae, 1920, 1080, false, 1280, 704},
        {&ltx2_transformer, &ltx2_vae, 1920, 1080, true, 1920, 1088},
        {&ltx2_transformer, &ltx2_vae, 66, 64, true, 96, 64},
        {&ltx2_transformer, &ltx2_vae, 32, 32, true, 64, 64}, /* its padding needs two cells */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct size_case *c = &cases[i];
        struct trained_size sizes[MODEL_MAX_SIZES];
        struct geometry_size s;
        int n;
        struct err err;

        n = c->exact ? 0 : geometry_published_sizes(c->transformer->sample_size, sizes);
        EXPECT_OK(geometry_size(&s, c->transformer, c->vae, sizes, n, c->width, c->height, &err));
        EXPECT_INT(s.width, c->width);
        EXPECT_INT(s.height, c->height);
        EXPECT_INT(s.gen_width, c->gen_width);
        EXPECT_INT(s.gen_height, c->gen_height);
        EXPECT_INT(s.latent_width, c->gen_width / c->vae->stride_s);
        EXPECT_INT(s.latent_height, c->gen_height / c->vae->stride_s);
    }
}

TEST(geometry_size_goes_to_a_models_own_sizes)
{
    static const struct trained_size own[] = {{2.0 / 3, 64, 96}, {1.5, 96, 64}};
    static const struct trained_size odd = {.ratio = 1, .width = 40, .height = 40};
    struct geometry_size s;
    struct err err = {0};

    EXPECT_OK(geometry_size(&s, &wan_transformer, &wan_vae, own, 2, 1280, 720, &err));
    EXPECT(s.gen_width == 96 && s.gen_height == 64 && s.width == 1280 && s.height == 720);
    EXPECT_OK(geometry_size(&s, &wan_transformer, &wan_vae, own, 2, 720, 1280, &err));
    EXPECT(s.gen_width == 64 && s.gen_height == 96);
    EXPECT_INT(geometry_size(&s, &wan_transformer, &wan_vae, &odd, 1, 64, 64, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "64x64 goes to 40x40, which is not in multiples of 16");
}

/* Every size that is allowed is covered by what is generated, in whole tokens. */
TEST(geometry_exact_sizes_are_the_next_whole_tokens)
{
    for (int64_t w = SIDE_MIN; w <= 200; w += 2) {
        for (int64_t h = div_ceil(w, 4) * 2; h <= 2 * w; h += 6) {
            struct geometry_size s;
            struct err err;

            if (h < SIDE_MIN) {
                continue;
            }
            EXPECT_OK(geometry_size(&s, &wan_transformer, &wan_vae, NULL, 0, w, h, &err));
            EXPECT(s.gen_width % 16 == 0 && s.gen_width >= w && s.gen_width < w + 16);
            EXPECT(s.gen_height % 16 == 0 && s.gen_height >= h && s.gen_height < h + 16);
        }
    }
}

TEST(geometry_size_names_what_is_wrong)
{
    static const struct {
        int64_t width, height;
        const char *part;
    } bad[] = {
        {0, 0, "a side outside 32..1920"},
        {-832, 480, "a side outside"},
        {832, -480, "a side outside"},
        {30, 32, "a side outside"},
        {1922, 1080, "a side outside"},
        {INT64_MAX, INT64_MAX, "a side outside"},
        {INT64_MIN, 480, "a side outside"},
        {INT64_MAX, 480, "a side outside"},
        {833, 480, "must be even"},
        {832, 481, "must be even"},
        {964, 480, "aspect ratio outside 0.5..2"},
        {480, 962, "aspect ratio"},
        {1920, 1090, "more than 2088960 pixels"},
        {1920, 1920, "pixels"},
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct geometry_size s = {.width = -7};
        struct err err = {0};

        EXPECT_INT(geometry_size(&s, &wan_transformer, &wan_vae, NULL, 0, bad[i].width,
                                 bad[i].height, &err),
                   ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "size: ");
        EXPECT_CONTAINS(err.msg, bad[i].part);
        EXPECT_INT(s.width, -7);
    }
}

TEST(geometry_size_takes_its_limits)
{
    static const int64_t good[][2] = {{32, 32},   {32, 64},    {64, 32},     {960, 480},
                                      {480, 960}, {1920, 960}, {1920, 1088}, {1088, 1920}};

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct geometry_size s;
        struct err err;

        EXPECT_OK(
            geometry_size(&s, &wan_transformer, &wan_vae, NULL, 0, good[i][0], good[i][1], &err));
    }
}

/* ---- lengths ---- */

TEST(geometry_frames_are_checked)
{
    static const int64_t bad[] = {0, -1, FRAMES_MAX + 1, INT64_MIN, INT64_MAX};
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(geometry_check_frames(bad[i], &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "frames: ");
        EXPECT_CONTAINS(err.msg, "1..14400");
    }
    EXPECT_OK(geometry_check_frames(1, &err));
    EXPECT_OK(geometry_check_frames(FRAMES_MAX, &err));
}

TEST(geometry_latent_frames_are_the_fewest_that_suffice)
{
    for (int64_t stride = 4; stride <= 8; stride += 4) {
        for (int64_t f = 1; f <= 200; f++) {
            const int64_t t = geometry_latent_frames(f, stride);

            EXPECT(1 + stride * (t - 1) >= f);
            EXPECT(t == 1 || 1 + stride * (t - 2) < f);
        }
    }
    EXPECT_INT(geometry_latent_frames(81, 4), 21);
    EXPECT_INT(geometry_latent_frames(81, 8), 11);
    EXPECT_INT(geometry_latent_frames(961, 4), 241);
}

/* Blocks lie side by side in latent frames and in pictures, and leave nothing out. */
static void check_tiling(int64_t pictures, int64_t stride, int64_t per_block)
{
    const int64_t total = geometry_latent_frames(pictures, stride);
    const int64_t n = geometry_block_count(total, per_block);
    int64_t latent = 0;
    int64_t picture = 0;

    EXPECT(n >= 1);
    for (int64_t i = 0; i < n; i++) {
        const struct geometry_block b = geometry_block(pictures, stride, per_block, i);

        EXPECT_INT(b.first, latent);
        EXPECT_INT(b.first_picture, picture);
        EXPECT(b.n_pictures >= 1 && b.n_pictures <= b.count * stride);
        if (n == 1) {
            EXPECT_INT(b.count, total);
        } else if (i == 0) {
            EXPECT(b.count >= per_block && b.count < 2 * per_block);
        } else {
            EXPECT_INT(b.count, per_block);
        }
        latent += b.count;
        picture += b.n_pictures;
    }
    EXPECT_INT(latent, total);
    EXPECT_INT(picture, pictures);
}

TEST(geometry_blocks_tile_every_video)
{
    for (int64_t f = 1; f <= 200; f++) {
        for (int64_t per_block = 1; per_block <= 12; per_block++) {
            check_tiling(f, 4, per_block);
            check_tiling(f, 8, per_block);
        }
        check_tiling(f, 8, 1024);
    }
    check_tiling(FRAMES_MAX, 4, 10);
    check_tiling(FRAMES_MAX - 1, 8, 7);
}

/* The examples of MODEL 4.1. */
TEST(geometry_first_block_takes_the_remainder)
{
    EXPECT_INT(geometry_block_count(241, 10), 24);
    EXPECT_INT(geometry_block(961, 4, 10, 0).count, 11);
    for (int64_t i = 1; i < 24; i++) {
        EXPECT_INT(geometry_block(961, 4, 10, i).count, 10);
        EXPECT_INT(geometry_block(961, 4, 10, i).n_pictures, 40);
    }
    EXPECT_INT(geometry_block(961, 4, 10, 0).n_pictures, 41);
    EXPECT_INT(geometry_block_count(21, 10), 2);
    EXPECT_INT(geometry_block(81, 4, 10, 0).count, 11);
    EXPECT_INT(geometry_block(81, 4, 10, 1).count, 10);
    EXPECT_INT(geometry_block_count(20, 10), 2);
    EXPECT_INT(geometry_block(77, 4, 10, 0).count, 10);
    EXPECT_INT(geometry_block_count(19, 10), 1);
    EXPECT_INT(geometry_block(73, 4, 10, 0).count, 19);
    EXPECT_INT(geometry_block_count(3, 10), 1);
    EXPECT_INT(geometry_block(9, 4, 10, 0).count, 3);
}
