#include "media/image_probe.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/media/sample_images.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

static const struct {
    const uint8_t *data;
    size_t len;
    const char *type;
    enum image_probe_problem problem;
} samples[] = {
    {sample_png, sizeof(sample_png), "image/png", IMAGE_PROBE_OK},
    {sample_png_exif, sizeof(sample_png_exif), "image/png", IMAGE_PROBE_OK},
    {sample_png_palette, sizeof(sample_png_palette), "image/png", IMAGE_PROBE_OK},
    {sample_jpeg, sizeof(sample_jpeg), "image/jpeg", IMAGE_PROBE_OK},
    {sample_jpeg_progressive, sizeof(sample_jpeg_progressive), "image/jpeg", IMAGE_PROBE_OK},
    {sample_jpeg_gray, sizeof(sample_jpeg_gray), "image/jpeg", IMAGE_PROBE_OK},
    {sample_jpeg_cmyk, sizeof(sample_jpeg_cmyk), "image/jpeg", IMAGE_PROBE_BAD},
    {sample_webp, sizeof(sample_webp), "image/webp", IMAGE_PROBE_OK},
    {sample_webp_lossless, sizeof(sample_webp_lossless), "image/webp", IMAGE_PROBE_OK},
    {sample_webp_exif, sizeof(sample_webp_exif), "image/webp", IMAGE_PROBE_OK}, /* turned */
};

/* Type, size and verdict are those of image_read. */
TEST(image_probe_sees_what_image_read_reads)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct image image = {0};
        struct image_probe probe;
        struct err err;
        struct err probe_err;
        const int rc = image_probe(&probe, samples[i].data, samples[i].len, &probe_err);

        EXPECT_INT(image_read(&image, samples[i].data, samples[i].len, &err), rc);
        EXPECT_STR(probe.type, samples[i].type);
        EXPECT_INT(probe.problem, samples[i].problem);
        if (rc == ERR_OK) {
            EXPECT_INT(probe.width, image.width);
            EXPECT_INT(probe.height, image.height);
        } else {
            EXPECT_STR(probe_err.msg, err.msg);
        }
        image_done(&image);
    }
}

TEST(image_probe_refuses_what_is_cut_off)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        for (size_t len = 0; len < samples[i].len; len++) {
            uint8_t *copy = test_alloc(len + 1); /* so that reading past the end is seen */
            struct image_probe probe;
            struct err err = {0};

            memcpy(copy, samples[i].data, len);
            EXPECT(image_probe(&probe, copy, len, &err) != ERR_OK);
            EXPECT(err.msg[0] != '\0');
            EXPECT_INT(probe.problem, probe.type ? IMAGE_PROBE_BAD : IMAGE_PROBE_NOT_AN_IMAGE);
            EXPECT(probe.type || len < 12);
            free(copy);
        }
    }
}

TEST(image_probe_knows_what_is_no_image)
{
    static const char *const others[] = {"", "GIF89a", "<svg></svg>", "RIFF1234WAVEfmt ",
                                         "%PDF-1.7"};
    struct image_probe probe;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        EXPECT_INT(image_probe(&probe, (const uint8_t *)others[i], strlen(others[i]), &err),
                   ERR_FORMAT);
        EXPECT_INT(probe.problem, IMAGE_PROBE_NOT_AN_IMAGE);
        EXPECT(!probe.type);
    }
}

/* Sizes in a WebP's header. */
TEST(image_probe_names_the_limit)
{
    static const struct {
        int width, height;
        enum image_probe_problem problem;
    } cases[] = {
        {8193, 100, IMAGE_PROBE_TOO_LARGE},
        {100, 8193, IMAGE_PROBE_TOO_LARGE},
        {8000, 8000, IMAGE_PROBE_TOO_LARGE},
        {16383, 16383, IMAGE_PROBE_TOO_LARGE},
        {31, 64, IMAGE_PROBE_BAD},
        {64, 31, IMAGE_PROBE_BAD},
        {0, 64, IMAGE_PROBE_BAD},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t copy[sizeof(sample_webp)];
        struct image_probe probe;
        struct err err;

        memcpy(copy, sample_webp, sizeof(copy));
        EXPECT(memcmp(copy + 12, "VP8 ", 4) == 0);
        copy[26] = (uint8_t)cases[i].width;
        copy[27] = (uint8_t)(cases[i].width >> 8);
        copy[28] = (uint8_t)cases[i].height;
        copy[29] = (uint8_t)(cases[i].height >> 8);
        EXPECT_INT(image_probe(&probe, copy, sizeof(copy), &err), ERR_INVALID);
        EXPECT_INT(probe.problem, cases[i].problem);
        EXPECT_INT(probe.width, cases[i].width);
        EXPECT_INT(probe.height, cases[i].height);
        EXPECT_CONTAINS(err.msg, "each side must be 32 to 8192 pixels");
    }
}

TEST(image_probe_refuses_too_many_bytes)
{
    const char *path = files_path(test_dir(), "large");
    uint8_t *data = test_alloc(IMAGE_MAX_BYTES + 1);
    struct image_probe probe;
    struct err err;

    memset(data, 0, IMAGE_MAX_BYTES + 1);
    memcpy(data, sample_png, sizeof(sample_png));
    EXPECT_INT(image_probe(&probe, data, IMAGE_MAX_BYTES + 1, &err), ERR_INVALID);
    EXPECT_INT(probe.problem, IMAGE_PROBE_TOO_LARGE);
    EXPECT_STR(probe.type, "image/png");
    EXPECT_CONTAINS(err.msg, "20 MiB");
    files_write_sparse(path, data, 8, IMAGE_MAX_BYTES + 1);
    EXPECT_INT(image_probe_file(&probe, path, &err), ERR_INVALID);
    EXPECT_INT(probe.problem, IMAGE_PROBE_TOO_LARGE);
    EXPECT_CONTAINS(err.msg, "20 MiB");
    EXPECT(!strstr(err.msg, path)); /* where we keep it is not the client's business */
    unlink(path);
    free(data);
}

TEST(image_probe_reads_files)
{
    const char *path = files_path(test_dir(), "picture");
    struct image_probe probe;
    struct err err;

    EXPECT_INT(image_probe_file(&probe, path, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, path);
    EXPECT_INT(probe.problem, IMAGE_PROBE_OK);
    EXPECT_INT(image_probe_file(&probe, test_dir(), &err), ERR_FORMAT);
    EXPECT_INT(probe.problem, IMAGE_PROBE_NOT_AN_IMAGE);
    files_write(path, sample_jpeg, sizeof(sample_jpeg));
    EXPECT_OK(image_probe_file(&probe, path, &err));
    EXPECT_STR(probe.type, "image/jpeg");
    files_write(path, sample_jpeg, sizeof(sample_jpeg) / 2);
    EXPECT_INT(image_probe_file(&probe, path, &err), ERR_FORMAT);
    EXPECT_INT(probe.problem, IMAGE_PROBE_BAD);
    EXPECT(!strstr(err.msg, path));
    unlink(path);
}

TEST(image_probe_survives_every_failed_allocation)
{
    const char *path = files_path(test_dir(), "picture");
    bool fired = true;
    long n;

    files_write(path, sample_webp, sizeof(sample_webp));
    for (n = 1; fired; n++) {
        struct image_probe probe;
        struct err err;
        int rc;

        alloc_fail_at(n);
        rc = image_probe_file(&probe, path, &err);
        fired = alloc_fail_stop();
        EXPECT_INT(rc, fired ? ERR_NO_MEMORY : ERR_OK);
        EXPECT_INT(probe.problem, IMAGE_PROBE_OK);
    }
    EXPECT(n > 2);
    unlink(path);
}
