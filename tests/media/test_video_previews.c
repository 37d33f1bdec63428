#include "media/video_previews.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "media/fmp4.h"
#include "media/image.h"
#include "media/mp4_box.h"
#include "media/mp4_remux.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

enum {
    W = 96,
    H = 64,
    FPS = 16
};

static int append(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len, struct err *err)
{
    (void)part;
    return str_append(ctx, data, len) ? ERR_OK : err_set(err, ERR_NO_MEMORY, "test data");
}

static const char *path(const char *name)
{
    return files_path(test_dir(), name);
}

/* Brightness says which picture it is: 16 + 3 * index, a little texture apart. */
static void draw_picture(uint8_t *frame, int64_t index)
{
    memset(frame, (int)(16 + 3 * (index % 70)), (size_t)W * H);
    memset(frame + (size_t)W * H, 128, (size_t)W * H / 2);
}

/* Blocks [first, end) of a video whose blocks have these sizes; a writer that goes on. */
static void write_blocks(struct str *file, const int *sizes, int first, int end)
{
    static uint8_t frame[W * H * 3 / 2];
    struct fmp4_options o = {.video = {.width = W, .height = H, .fps_num = FPS, .fps_den = 1}};
    const size_t before = file->len;
    struct fmp4 *w;
    struct err err;

    for (int b = 0; b < first; b++) {
        o.first_frame += sizes[b];
    }
    o.first_fragment = first;
    EXPECT_OK(fmp4_open(&w, &o, append, file, &err));
    if (first > 0) {
        file->len = before; /* the same init segment */
    }
    for (int b = first; b < end; b++) {
        EXPECT_OK(fmp4_begin_block(w, &err));
        for (int i = 0; i < sizes[b]; i++) {
            draw_picture(frame, fmp4_n_frames(w));
            EXPECT_OK(fmp4_frame(w, frame, &err));
        }
        EXPECT_OK(fmp4_end_block(w, &err));
    }
    fmp4_free(w);
}

static const char *write_video(const char *name, const int *sizes, int n)
{
    const char *p = path(name);
    struct str file;

    str_init(&file, 1 << 26);
    write_blocks(&file, sizes, 0, n);
    files_write(p, file.data, file.len);
    str_done(&file);
    return p;
}

static struct image read_picture(const struct str *s)
{
    struct image image;
    struct err err;

    EXPECT_OK(image_read(&image, (const uint8_t *)s->data, s->len, &err));
    return image;
}

/* Full range brightness of limited range y. */
static void expect_brightness(const struct image *image, int x, int y, int64_t index)
{
    const double want = (16 + 3 * (double)(index % 70) - 16) * 255 / 219;
    const uint8_t *rgb = image->rgb + ((ptrdiff_t)y * image->width + x) * 3;

    for (int k = 0; k < 3; k++) {
        EXPECT(fabs(rgb[k] - want) < 3); /* one picture more is 3.5 */
    }
}

static void expect_previews(const char *p, int64_t n_frames, int columns, int rows)
{
    const int tiles = n_frames < 25 ? (int)n_frames : 25;
    struct video_previews v;
    struct image image;
    struct err err;

    EXPECT_OK(video_previews(&v, p, &err));
    EXPECT_INT(v.sheet.columns, columns);
    EXPECT_INT(v.sheet.rows, rows);
    EXPECT(fabs(v.interval - (double)n_frames / tiles / FPS) < 1e-6);
    image = read_picture(&v.spritesheet);
    EXPECT_INT(image.width, columns * W);
    EXPECT_INT(image.height, rows * H);
    for (int i = 0; i < tiles; i++) {
        expect_brightness(&image, i % columns * W + W / 2, i / columns * H + H / 2,
                          i * n_frames / tiles);
    }
    image_done(&image);
    image = read_picture(&v.thumbnail_jpeg);
    EXPECT(image.width == W && image.height == H);
    expect_brightness(&image, 10, 10, 0);
    image_done(&image);
    image = read_picture(&v.thumbnail_webp);
    EXPECT(image.width == W && image.height == H);
    expect_brightness(&image, 10, 10, 0);
    EXPECT(memcmp(v.thumbnail_webp.data + 8, "WEBP", 4) == 0);
    image_done(&image);
    video_previews_done(&v);
}

/* Both kinds of file, of lengths on both sides of the number of tiles. */
TEST(video_previews_show_the_pictures_at_their_places)
{
    static const struct {
        int sizes[4], n;
        int columns, rows;
    } cases[] = {
        {{1}, 1, 1, 1},
        {{2}, 1, 2, 1},
        {{5, 4, 4}, 3, 4, 4},
        {{9, 8, 8}, 3, 5, 5},
        {{9, 8, 8, 1}, 4, 5, 5},
        {{13, 12, 12, 3}, 4, 5, 5},
        {{40, 12, 1, 17}, 4, 5, 5},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *source = write_video("fragments.mp4", cases[i].sizes, cases[i].n);
        const char *video = path("video.mp4");
        int64_t n_frames = 0;
        struct err err;

        for (int b = 0; b < cases[i].n; b++) {
            n_frames += cases[i].sizes[b];
        }
        expect_previews(source, n_frames, cases[i].columns, cases[i].rows);
        EXPECT_OK(mp4_remux(source, video, NULL, 0, NULL, &err));
        expect_previews(video, n_frames, cases[i].columns, cases[i].rows);
        unlink(source);
        unlink(video);
    }
}

static bool same_bytes(const struct str *a, const struct str *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

static bool same_previews(const struct video_previews *a, const struct video_previews *b)
{
    return same_bytes(&a->thumbnail_jpeg, &b->thumbnail_jpeg) &&
           same_bytes(&a->thumbnail_webp, &b->thumbnail_webp) &&
           same_bytes(&a->spritesheet, &b->spritesheet) && a->interval == b->interval;
}

/* An interrupted video, and the download file, have the previews of the undisturbed one. */
TEST(video_previews_do_not_depend_on_how_the_file_came_about)
{
    static const int sizes[] = {13, 12, 12, 3};
    const char *p[3] = {write_video("whole.mp4", sizes, 4), path("resumed.mp4"), path("video.mp4")};
    struct video_previews v[3];
    struct str file;
    struct err err;

    str_init(&file, 1 << 26);
    write_blocks(&file, sizes, 0, 1);
    write_blocks(&file, sizes, 1, 3);
    write_blocks(&file, sizes, 3, 4);
    files_write(p[1], file.data, file.len);
    str_done(&file);
    EXPECT_OK(mp4_remux(p[1], p[2], NULL, 0, NULL, &err));
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(video_previews(&v[i], p[i], &err));
        EXPECT(same_previews(&v[0], &v[i]));
    }
    for (int i = 0; i < 3; i++) {
        video_previews_done(&v[i]);
        unlink(p[i]);
    }
}

TEST(video_previews_take_a_name_for_a_file)
{
    static const int sizes[] = {3};
    struct video_previews v;
    struct err err;
    char *old = get_current_dir_name();
    const char *p;

    EXPECT(old && chdir(test_dir()) == 0);
    p = write_video("concat:a|b %d.mp4", sizes, 1);
    EXPECT_OK(video_previews(&v, "concat:a|b %d.mp4", &err));
    video_previews_done(&v);
    unlink(p);
    EXPECT(chdir(old) == 0);
    free(old);
}

static void expect_refused(const char *p, int code)
{
    struct video_previews v;
    struct err err = {0};

    EXPECT_INT(video_previews(&v, p, &err), code);
    EXPECT_CONTAINS(err.msg, p);
}

TEST(video_previews_refuse_what_is_no_video)
{
    static const int sizes[] = {5};
    const char *p = write_video("video.mp4", sizes, 1);
    size_t moov_len;
    size_t len;
    char *data = files_read(p, &len);
    const uint8_t *moov = mp4_box_find((uint8_t *)data, len, "moov", &moov_len);

    expect_refused(path("none.mp4"), ERR_NOT_FOUND);
    expect_refused(test_dir(), ERR_FORMAT);
    files_write(p, data, (size_t)((const char *)moov - data) + moov_len); /* no fragment */
    expect_refused(p, ERR_FORMAT);
    files_write(p, data, 40);
    expect_refused(p, ERR_FORMAT);
    files_write(p, "", 0);
    expect_refused(p, ERR_FORMAT);
    files_write(p, "not a video at all, but long enough to be probed", 48);
    expect_refused(p, ERR_FORMAT);
    free(data);
    unlink(p);
}

/* Any damage is an error or a picture, never more. */
TEST(video_previews_survive_damage)
{
    static const int sizes[] = {5, 4};
    const char *p = write_video("video.mp4", sizes, 2);
    int refused = 0;
    size_t len;
    char *data = files_read(p, &len);

    for (size_t at = 0; at < len; at += 5) {
        struct video_previews v;
        struct err err;

        data[at] ^= 0x55;
        files_write(p, data, len);
        data[at] ^= 0x55;
        if (video_previews(&v, p, &err) == ERR_OK) {
            video_previews_done(&v);
        } else {
            refused++;
        }
    }
    EXPECT(refused > 10);
    free(data);
    unlink(p);
}

TEST(video_previews_survive_every_failed_allocation)
{
    static const int sizes[] = {5, 4};
    const char *p = write_video("video.mp4", sizes, 2);
    bool fired = true;
    long n;

    for (n = 1; fired; n++) {
        struct video_previews v;
        struct err err;
        int rc;

        alloc_fail_at(n);
        rc = video_previews(&v, p, &err);
        fired = alloc_fail_stop();
        EXPECT_INT(rc, fired ? ERR_NO_MEMORY : ERR_OK);
        if (rc == ERR_OK) {
            video_previews_done(&v);
        }
    }
    EXPECT(n > 12);
    unlink(p);
}
