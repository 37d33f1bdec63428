#include "media/preview.h"

#include <stdlib.h>
#include <string.h>

#include "media/image.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

/* One colour, in BT.709 limited range: black, white, red and blue of ITU-R BT.709 bars. */
static const uint8_t colour[4][3] = {
    {16, 128, 128}, {235, 128, 128}, {63, 102, 240}, {32, 240, 118}};
static const uint8_t rgb[4][3] = {{0, 0, 0}, {255, 255, 255}, {255, 0, 0}, {0, 0, 255}};

static uint8_t *plain_frame(int w, int h, const uint8_t *yuv)
{
    const size_t luma = (size_t)w * (size_t)h;
    uint8_t *f = test_alloc(luma * 3 / 2);

    memset(f, yuv[0], luma);
    memset(f + luma, yuv[1], luma / 4);
    memset(f + luma * 5 / 4, yuv[2], luma / 4);
    return f;
}

static void expect_near(const uint8_t *got, const uint8_t *want)
{
    for (int k = 0; k < 3; k++) {
        EXPECT(abs(got[k] - want[k]) <= 4);
    }
}

TEST(preview_thumbnail_keeps_shape_and_colour)
{
    for (int i = 0; i < 4; i++) {
        uint8_t *frame = plain_frame(832, 480, colour[i]);
        const uint8_t *frames[1] = {frame};
        struct preview_layout layout;
        struct image image;
        struct str jpeg;
        struct err err;

        str_init(&jpeg, 1 << 20);
        EXPECT_OK(preview_sheet(&jpeg, &layout, frames, 1, 832, 480, 320, &err));
        EXPECT_INT(layout.columns * layout.rows, 1);
        EXPECT_OK(image_read(&image, (const uint8_t *)jpeg.data, jpeg.len, &err));
        EXPECT_INT(image.width, 320);
        EXPECT_INT(image.height, 184);
        EXPECT_INT(image.width, layout.tile_width);
        expect_near(image.rgb + (ptrdiff_t)(92 * 320 + 160) * 3, rgb[i]);
        image_done(&image);
        str_done(&jpeg);
        free(frame);
    }
}

TEST(preview_thumbnail_is_never_enlarged)
{
    uint8_t *frame = test_alloc(64 * 48 * 3 / 2);
    const uint8_t *frames[1] = {frame};
    struct image image;
    struct str jpeg;
    struct err err;

    video_check_picture(frame, 64, 48, 0);
    str_init(&jpeg, 1 << 20);
    EXPECT_OK(preview_sheet(&jpeg, NULL, frames, 1, 64, 48, 512, &err));
    EXPECT_OK(image_read(&image, (const uint8_t *)jpeg.data, jpeg.len, &err));
    EXPECT_INT(image.width, 64);
    EXPECT_INT(image.height, 48);
    image_done(&image);
    str_done(&jpeg);
    free(frame);
}

TEST(preview_sheet_puts_frames_in_rows)
{
    static const int n_frames[] = {2, 5, 25};
    static const int grid[][2] = {{2, 1}, {3, 2}, {5, 5}};
    uint8_t *made[PREVIEW_MAX_TILES];

    for (int i = 0; i < PREVIEW_MAX_TILES; i++) {
        made[i] = plain_frame(96, 64, colour[i % 4]);
    }
    for (size_t t = 0; t < ARRAY_LEN(n_frames); t++) {
        const uint8_t *frames[PREVIEW_MAX_TILES];
        struct preview_layout l;
        struct image image;
        struct str jpeg;
        struct err err;

        for (int i = 0; i < n_frames[t]; i++) {
            frames[i] = made[i];
        }
        str_init(&jpeg, 1 << 20);
        EXPECT_OK(preview_sheet(&jpeg, &l, frames, n_frames[t], 96, 64, 48, &err));
        EXPECT_INT(l.columns, grid[t][0]);
        EXPECT_INT(l.rows, grid[t][1]);
        EXPECT_INT(l.tile_width, 48);
        EXPECT_INT(l.tile_height, 32);
        EXPECT_OK(image_read(&image, (const uint8_t *)jpeg.data, jpeg.len, &err));
        EXPECT_INT(image.width, 48 * l.columns);
        EXPECT_INT(image.height, 32 * l.rows);
        for (int i = 0; i < l.columns * l.rows; i++) {
            const int x = i % l.columns * 48 + 24;
            const int y = i / l.columns * 32 + 16;

            /* left-over places are black */
            expect_near(image.rgb + ((ptrdiff_t)y * image.width + x) * 3,
                        rgb[i < n_frames[t] ? i % 4 : 0]);
        }
        image_done(&image);
        str_done(&jpeg);
    }
    for (int i = 0; i < PREVIEW_MAX_TILES; i++) {
        free(made[i]);
    }
}

TEST(preview_webp_keeps_shape_and_colour)
{
    for (int i = 0; i < 4; i++) {
        uint8_t *frame = plain_frame(832, 480, colour[i]);
        struct image image;
        struct str webp;
        struct err err;

        str_init(&webp, 1 << 20);
        EXPECT_OK(preview_webp(&webp, frame, 832, 480, 320, &err));
        EXPECT(webp.len > 12 && memcmp(webp.data + 8, "WEBP", 4) == 0);
        EXPECT_OK(image_read(&image, (const uint8_t *)webp.data, webp.len, &err));
        EXPECT_INT(image.width, 320);
        EXPECT_INT(image.height, 184);
        expect_near(image.rgb + (ptrdiff_t)(92 * 320 + 160) * 3, rgb[i]);
        image_done(&image);
        str_done(&webp);
        free(frame);
    }
}

TEST(preview_webp_is_the_picture_that_the_jpeg_is)
{
    uint8_t *frame = test_alloc(320 * 192 * 3 / 2);
    const uint8_t *frames[1] = {frame};
    struct image image[2];
    struct str file[3];
    struct err err;
    double sum = 0;

    video_check_picture(frame, 320, 192, 5);
    for (int i = 0; i < 3; i++) {
        str_init(&file[i], 1 << 20);
    }
    EXPECT_OK(preview_sheet(&file[0], NULL, frames, 1, 320, 192, 320, &err));
    EXPECT_OK(preview_webp(&file[1], frame, 320, 192, 320, &err));
    EXPECT_OK(preview_webp(&file[2], frame, 320, 192, 320, &err));
    EXPECT_INT(file[1].len, file[2].len);
    EXPECT(memcmp(file[1].data, file[2].data, file[1].len) == 0);
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(image_read(&image[i], (const uint8_t *)file[i].data, file[i].len, &err));
    }
    for (ptrdiff_t i = 0; i < (ptrdiff_t)320 * 192 * 3; i++) {
        sum += abs(image[0].rgb[i] - image[1].rgb[i]);
    }
    EXPECT(sum / (320 * 192 * 3) < 4);
    for (int i = 0; i < 3; i++) {
        str_done(&file[i]);
    }
    image_done(&image[0]);
    image_done(&image[1]);
    free(frame);
}

TEST(preview_same_frames_give_the_same_bytes)
{
    uint8_t *frame = test_alloc(832 * 480 * 3 / 2);
    const uint8_t *frames[1] = {frame};
    struct str jpeg[2];
    struct err err;

    video_check_picture(frame, 832, 480, 3);
    for (int i = 0; i < 2; i++) {
        str_init(&jpeg[i], 1 << 20);
        EXPECT_OK(preview_sheet(&jpeg[i], NULL, frames, 1, 832, 480, 512, &err));
    }
    EXPECT_INT(jpeg[0].len, jpeg[1].len);
    EXPECT(memcmp(jpeg[0].data, jpeg[1].data, jpeg[0].len) == 0);
    EXPECT(memmem(jpeg[0].data, jpeg[0].len, "Lavc", 4) == NULL);
    str_done(&jpeg[0]);
    str_done(&jpeg[1]);
    free(frame);
}

TEST(preview_refuses_what_is_out_of_range)
{
    static const int bad[][4] = {{0, 64, 64, 64},  {26, 64, 64, 64}, {1, 63, 64, 64},
                                 {1, 64, 14, 64},  {1, 64, 64, 15},  {1, 64, 64, 2049},
                                 {1, 8194, 64, 64}};
    const uint8_t *frames[1] = {NULL};
    struct str jpeg;
    struct err err;

    str_init(&jpeg, 100);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(
            preview_sheet(&jpeg, NULL, frames, bad[i][0], bad[i][1], bad[i][2], bad[i][3], &err),
            ERR_INVALID);
    }
    EXPECT_INT(preview_webp(&jpeg, NULL, 63, 64, 64, &err), ERR_INVALID);
    EXPECT_INT(jpeg.len, 0);
}

TEST(preview_survives_every_allocation_failure)
{
    uint8_t *frame = plain_frame(64, 48, colour[2]);
    const uint8_t *frames[1] = {frame};
    struct str jpeg;
    struct err err;
    int rc;

    for (long n = 1;; n++) {
        str_init(&jpeg, 1 << 20);
        alloc_fail_at(n);
        rc = preview_sheet(&jpeg, NULL, frames, 1, 64, 48, 32, &err);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
        str_done(&jpeg);
    }
    EXPECT_OK(rc);
    str_done(&jpeg);
    /* a string that is too small */
    str_init(&jpeg, 10);
    EXPECT_INT(preview_sheet(&jpeg, NULL, frames, 1, 64, 48, 32, &err), ERR_NO_MEMORY);
    str_done(&jpeg);
    free(frame);
}
