#include "media/image_resize.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

static struct image make_image(int width, int height, uint64_t seed)
{
    const int64_t n = (int64_t)width * height * 3;
    struct image image = {.width = width, .height = height, .rgb = test_alloc((size_t)n)};
    float *f = test_alloc((size_t)n * sizeof(*f));

    test_fill(f, n, seed);
    for (int64_t i = 0; i < n; i++) {
        image.rgb[i] = (uint8_t)((f[i] + 1) * 127.9F);
    }
    free(f);
    return image;
}

/* The numbers behind `before`, at most max; returns how many. */
static int numbers(const char *text, const char *before, long long *ret, int max)
{
    const char *at = strstr(text, before);
    char *end;
    int n = 0;

    EXPECT(at);
    at += strlen(before);
    while (n < max) {
        ret[n++] = strtoll(at, &end, 10);
        EXPECT(end != at);
        if (*end != ',') {
            break;
        }
        at = end + 1;
    }
    return n;
}

/* "NAME":{"dtype":..,"shape":[..],"data_offsets":[from,to]} of a safetensors file in memory. */
static const uint8_t *tensor(const uint8_t *file, const char *name, long long dims[4],
                             size_t *ret_len)
{
    uint64_t header_len;
    long long offsets[2] = {0};
    const char *at = memmem(file + 8, 4096, name, strlen(name));

    memcpy(&header_len, file, 8);
    EXPECT(at);
    EXPECT(numbers(at, "\"shape\":[", dims, 4) >= 3);
    EXPECT_INT(numbers(at, "\"data_offsets\":[", offsets, 2), 2);
    *ret_len = (size_t)(offsets[1] - offsets[0]);
    return file + 8 + header_len + offsets[0];
}

/* Reference pictures as diffusers prepares them: PIL resize, then x / 255 * 2 - 1, [1, 3, H, W]. */
static void check_golden(const char *path)
{
    size_t len;
    size_t n;
    uint8_t *file = video_check_load(path, &len);
    long long in[4] = {0};
    long long out[4] = {0};
    const uint8_t *rgb = tensor(file, "\"in.rgb_hwc\"", in, &n);
    struct image src = {.width = (int)in[1], .height = (int)in[0], .rgb = test_alloc(n)};
    struct image got;
    struct err err;

    memcpy(src.rgb, rgb, n);
    EXPECT_INT(n, in[0] * in[1] * 3);
    const uint8_t *want = tensor(file, "\"out.image\"", out, &n);
    const int h = (int)out[2];
    const int w = (int)out[3];

    EXPECT_INT(n, 4LL * 3 * h * w);
    EXPECT_OK(image_resize(&got, &src, w, h, &err));
    EXPECT_INT(got.width, w);
    EXPECT_INT(got.height, h);
    for (int i = 0; i < 3 * h * w; i++) {
        const int c = i / (h * w);
        float v;

        memcpy(&v, want + (ptrdiff_t)i * 4, 4);
        EXPECT((float)got.rgb[i % (h * w) * 3 + c] / 255.0F * 2.0F - 1.0F == v);
    }
    image_done(&got);
    free(src.rgb);
    free(file);
}

TEST(image_resize_equals_the_golden_cases)
{
    check_golden("tests/golden/cases/misc.image_preprocess0.safetensors");
    check_golden("tests/golden/cases/misc.image_preprocess1.safetensors");
}

/* FNV-1a over the bytes: sums of what Pillow 9.4 made of the same pictures. */
static uint64_t hash(const struct image *image)
{
    uint64_t h = 0xcbf29ce484222325U;

    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height * 3; i++) {
        h = (h ^ image->rgb[i]) * 0x100000001b3U;
    }
    return h;
}

/* A picture that can be made anywhere: byte i is (i * i + i / 7) mod 251. */
static struct image formula_image(int width, int height)
{
    struct image image = make_image(width, height, 1);

    for (uint64_t i = 0; i < (uint64_t)width * (uint64_t)height * 3; i++) {
        image.rgb[i] = (uint8_t)((i * i + i / 7) % 251);
    }
    return image;
}

TEST(image_resize_equals_pillow)
{
    static const struct {
        int from[2], to[2];
        uint64_t hash;
    } known[] = {
        {{64, 48}, {208, 120}, 0x38e0a8b20b32bd49U}, {{208, 120}, {64, 48}, 0xa0fcc64c1d3acec1U},
        {{33, 47}, {100, 47}, 0xea622470bb7c5a92U},  {{33, 47}, {33, 9}, 0xa27c3e36583ebdd9U},
        {{1, 1}, {17, 5}, 0x890fd6161e42c866U},      {{50, 2}, {1, 1}, 0xc00bbd198039f34aU},
        {{300, 7}, {3, 70}, 0x98a2725f1cb82b44U},    {{2, 300}, {31, 3}, 0xe7faa8c6ad390f24U},
    };
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        struct image src = formula_image(known[i].from[0], known[i].from[1]);
        struct image got;

        EXPECT_OK(image_resize(&got, &src, known[i].to[0], known[i].to[1], &err));
        if (hash(&got) != known[i].hash) {
            test_fail(__FILE__, __LINE__, "%dx%d to %dx%d differs", known[i].from[0],
                      known[i].from[1], known[i].to[0], known[i].to[1]);
        }
        image_done(&got);
        image_done(&src);
    }
}

TEST(image_resize_of_one_colour_is_that_colour)
{
    struct image src = make_image(37, 53, 1);
    struct image got;
    struct err err;

    for (int i = 0; i < 37 * 53; i++) {
        memcpy(src.rgb + (ptrdiff_t)i * 3, "\x00\x80\xff", 3);
    }
    EXPECT_OK(image_resize(&got, &src, 100, 20, &err));
    for (int i = 0; i < 100 * 20; i++) {
        EXPECT(memcmp(got.rgb + (ptrdiff_t)i * 3, "\x00\x80\xff", 3) == 0);
    }
    image_done(&got);
    image_done(&src);
}

TEST(image_resize_to_the_same_size_copies)
{
    struct image src = make_image(33, 21, 2);
    struct image got;
    struct err err;

    EXPECT_OK(image_resize(&got, &src, 33, 21, &err));
    EXPECT(got.rgb != src.rgb);
    EXPECT(memcmp(got.rgb, src.rgb, (size_t)33 * 21 * 3) == 0);
    image_done(&got);
    image_done(&src);
}

TEST(image_resize_refuses_sides_out_of_range)
{
    static const int bad[][2] = {{0, 5}, {5, 0}, {-1, 5}, {8193, 5}, {5, 8193}};
    struct image src = make_image(4, 4, 3);
    struct image none = {.width = 0, .height = 4, .rgb = src.rgb};
    struct image got;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(image_resize(&got, &src, bad[i][0], bad[i][1], &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "8192");
    }
    EXPECT_INT(image_resize(&got, &none, 5, 5, &err), ERR_INVALID);
    image_done(&src);
}

TEST(image_resize_survives_every_allocation_failure)
{
    struct image src = make_image(9, 7, 4);
    struct image got;
    struct err err;
    int rc;

    for (long n = 1;; n++) {
        alloc_fail_at(n);
        rc = image_resize(&got, &src, 12, 5, &err);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
    image_done(&got);
    image_done(&src);
}
