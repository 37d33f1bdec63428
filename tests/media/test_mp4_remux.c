#include "media/mp4_remux.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "media/fmp4.h"
#include "media/mp4_box.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

enum {
    W = 96,
    H = 64
};

static int append(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len, struct err *err)
{
    (void)part;
    return str_append(ctx, data, len) ? ERR_OK : err_set(err, ERR_NO_MEMORY, "test data");
}

static const char *path(int which)
{
    static char paths[3][300];
    static const char *const names[] = {"fragments.mp4", "video.mp4", "other.mp4"};

    snprintf(paths[which], sizeof(paths[which]), "%s/%s", test_dir(), names[which]);
    return paths[which];
}

/* Writes a fragmented video to path(0); returns its bytes. */
static struct str make_source(const int *sizes, int n, int fps_num, int fps_den)
{
    static const struct mp4_tag tags[] = {
        {"title", "A cat"}, {"comment", "{}"}, {"encoder", "sanad 1"}};
    const struct fmp4_options o = {
        .video = {.width = W, .height = H, .fps_num = fps_num, .fps_den = fps_den},
        .tags = tags,
        .n_tags = ARRAY_LEN(tags),
    };
    static uint8_t frame[W * H * 3 / 2];
    struct fmp4 *w;
    struct str file;
    struct err err;

    str_init(&file, 1 << 26);
    EXPECT_OK(fmp4_open(&w, &o, append, &file, &err));
    for (int b = 0; b < n; b++) {
        EXPECT_OK(fmp4_begin_block(w, &err));
        for (int i = 0; i < sizes[b]; i++) {
            video_check_picture(frame, W, H, fmp4_n_frames(w));
            EXPECT_OK(fmp4_frame(w, frame, &err));
        }
        EXPECT_OK(fmp4_end_block(w, &err));
    }
    fmp4_free(w);
    video_check_store(path(0), file.data, file.len);
    return file;
}

static void expect_same_file(const char *p, const void *data, size_t len)
{
    size_t got_len;
    uint8_t *got = video_check_load(p, &got_len);

    EXPECT_INT(got_len, len);
    EXPECT(memcmp(got, data, len) == 0);
    free(got);
}

static void expect_files_in_dir(int want)
{
    DIR *d = opendir(test_dir());
    int n = 0;

    EXPECT(d);
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    EXPECT_INT(n - 2, want);
}

static void clean(struct str *file)
{
    for (int i = 0; i < 3; i++) {
        unlink(path(i));
    }
    str_done(file);
    expect_files_in_dir(0);
}

/* All facts of a finished file. */
static void expect_video(const char *p, int64_t n, int fps_num, int fps_den)
{
    const double frame = (double)fps_den / fps_num;
    struct video_check c;
    size_t len;
    size_t moov_len;
    uint8_t *data = video_check_load(p, &len);
    const uint8_t *moov = mp4_box_find(data, len, "moov", &moov_len);
    const uint8_t *mdat = mp4_box_find(data, len, "mdat", &moov_len);

    EXPECT(moov && mdat && moov < mdat);
    EXPECT(!mp4_box_find(data, len, "moof", &moov_len));
    EXPECT(!mp4_box_find(data, len, "moov.mvex", &moov_len));
    video_check_decode(&c, data, len, 0);
    free(data);
    EXPECT_INT(c.n_frames, n);
    EXPECT_INT(c.n_packets, n);
    EXPECT(!c.damaged);
    EXPECT(c.psnr_min > 38);
    EXPECT(c.bt709_limited_left);
    EXPECT(c.start == 0);
    EXPECT((int64_t)(c.duration / frame * 1000 + 0.5) == n * 1000);
    EXPECT((int64_t)(c.last_pts / frame * 1000 + 0.5) == (n - 1) * 1000);
    EXPECT_INT((int64_t)c.fps_num * fps_den, (int64_t)c.fps_den * fps_num);
}

/* Blocks of one frame have no B pictures: the demuxer learns of the reordering later. */
TEST(mp4_remux_makes_a_normal_file_of_any_blocks)
{
    static const struct {
        int sizes[4];
        int n;
        int num, den;
    } video[] = {{{12, 13, 5, 1}, 4, 16, 1},
                 {{1, 12, 12, 3}, 4, 16, 1},
                 {{1}, 1, 16, 1},
                 {{2}, 1, 16, 1},
                 {{1, 1, 1, 1}, 4, 24000, 1001},
                 {{1, 10, 10}, 3, 24000, 1001},
                 {{9, 12}, 2, 2997, 125},
                 {{3, 12}, 2, 1, 1}};

    for (size_t i = 0; i < ARRAY_LEN(video); i++) {
        struct str file = make_source(video[i].sizes, video[i].n, video[i].num, video[i].den);
        struct mp4_remux_info info;
        struct stat st;
        struct err err;
        int64_t n = 0;

        for (int b = 0; b < video[i].n; b++) {
            n += video[i].sizes[b];
        }
        EXPECT_OK(mp4_remux(path(0), path(1), NULL, 0, &info, &err));
        EXPECT_INT(info.n_frames, n);
        EXPECT_INT((int64_t)(info.seconds * 1e6 + 0.5),
                   (int64_t)(n * 1e6 * video[i].den / video[i].num + 0.5));
        EXPECT(stat(path(1), &st) == 0 && st.st_size == info.bytes);
        expect_video(path(1), n, video[i].num, video[i].den);
        expect_same_file(path(0), file.data, file.len);
        expect_files_in_dir(2);
        clean(&file);
    }
}

TEST(mp4_remux_keeps_and_replaces_tags)
{
    static const int sizes[] = {3};
    static const struct mp4_tag more[] = {{"comment", "{\"n\":1}"}, {"artist", "somebody"}};
    struct str file = make_source(sizes, 1, 16, 1);
    struct video_check c;
    struct err err;

    EXPECT_OK(mp4_remux(path(0), path(1), more, 2, NULL, &err));
    video_check_decode_file(&c, path(1), 0);
    EXPECT_STR(c.title, "A cat");
    EXPECT_STR(c.comment, "{\"n\":1}");
    EXPECT_STR(c.encoder, "sanad 1");
    clean(&file);
}

TEST(mp4_remux_twice_gives_the_same_bytes)
{
    static const int sizes[] = {1, 12};
    struct str file = make_source(sizes, 2, 16, 1);
    struct err err;
    size_t len;

    EXPECT_OK(mp4_remux(path(0), path(1), NULL, 0, NULL, &err));
    EXPECT_OK(mp4_remux(path(0), path(2), NULL, 0, NULL, &err));
    uint8_t *data = video_check_load(path(1), &len);

    EXPECT(memmem(data, len, "Lavf", 4) == NULL);
    expect_same_file(path(2), data, len);
    /* in place, and of its own result */
    EXPECT_OK(mp4_remux(path(0), path(0), NULL, 0, NULL, &err));
    expect_same_file(path(0), data, len);
    EXPECT_OK(mp4_remux(path(0), path(0), NULL, 0, NULL, &err));
    expect_same_file(path(0), data, len);
    free(data);
    clean(&file);
}

TEST(mp4_remux_of_a_cut_file_keeps_the_complete_pictures)
{
    static const int sizes[] = {4, 4};
    struct str file = make_source(sizes, 2, 16, 1);
    struct mp4_remux_info info;
    struct err err;
    int64_t last = 8;

    /* every 41st length from the whole file down to nothing */
    for (size_t len = file.len; len > 41; len -= 41) {
        video_check_store(path(0), file.data, len);
        if (mp4_remux(path(0), path(1), NULL, 0, &info, &err) != ERR_OK) {
            EXPECT_INT(err.code, ERR_FORMAT);
            EXPECT(last <= 1);
            last = 0;
            continue;
        }
        EXPECT(info.n_frames <= last && info.n_frames >= last - 1);
        if (info.n_frames != last && info.n_frames % 4 == 0) {
            expect_video(path(1), info.n_frames, 16, 1);
        }
        last = info.n_frames;
    }
    EXPECT_INT(last, 0);
    clean(&file);
}

TEST(mp4_remux_refuses_what_is_no_video)
{
    static const int sizes[] = {3};
    struct str file = make_source(sizes, 1, 16, 1);
    char missing[400];
    struct err err;

    snprintf(missing, sizeof(missing), "%s/missing.mp4", test_dir());
    EXPECT_INT(mp4_remux(missing, path(1), NULL, 0, NULL, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "missing.mp4");
    EXPECT_INT(mp4_remux(test_dir(), path(1), NULL, 0, NULL, &err), ERR_FORMAT);
    snprintf(missing, sizeof(missing), "%s/no/such/folder.mp4", test_dir());
    EXPECT_INT(mp4_remux(path(0), missing, NULL, 0, NULL, &err), ERR_IO);
    EXPECT_CONTAINS(err.msg, "folder.mp4");
    video_check_store(path(0), "", 0);
    EXPECT_INT(mp4_remux(path(0), path(1), NULL, 0, NULL, &err), ERR_FORMAT);
    video_check_store(path(0), "hello, I am text and nothing else", 33);
    EXPECT_INT(mp4_remux(path(0), path(1), NULL, 0, NULL, &err), ERR_FORMAT);
    expect_files_in_dir(1);
    clean(&file);
}

/* A fragment missing in the middle is not papered over. */
TEST(mp4_remux_refuses_a_gap)
{
    static const int sizes[] = {3, 4, 5};
    struct str file = make_source(sizes, 3, 16, 1);
    struct str gap;
    struct err err;
    const uint8_t *p = (const uint8_t *)file.data;
    size_t at[9];

    at[0] = 0; /* ftyp moov (moof mdat) (moof mdat) (moof mdat) */
    for (int i = 0; i < 8; i++) {
        at[i + 1] = at[i] + mp4_box_get32(p + at[i]);
    }
    EXPECT_INT(at[8], file.len);
    str_init(&gap, 1 << 26);
    EXPECT(str_append(&gap, p, at[4]) && str_append(&gap, p + at[6], at[8] - at[6]));
    video_check_store(path(0), gap.data, gap.len);
    EXPECT_INT(mp4_remux(path(0), path(1), NULL, 0, NULL, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "frame 3");
    /* the last two alone are a video, from 0 on */
    str_done(&gap);
    EXPECT(str_append(&gap, p, at[2]) && str_append(&gap, p + at[4], at[8] - at[4]));
    video_check_store(path(0), gap.data, gap.len);
    EXPECT_OK(mp4_remux(path(0), path(1), NULL, 0, NULL, &err));
    struct video_check c;

    video_check_decode_file(&c, path(1), 3);
    EXPECT_INT(c.n_frames, 9);
    EXPECT(c.start == 0 && c.psnr_min > 38);
    str_done(&gap);
    clean(&file);
}

TEST(mp4_remux_on_a_full_disk_leaves_all_as_it_was)
{
    static const int sizes[] = {12, 12};
    struct str file = make_source(sizes, 2, 16, 1);
    struct rlimit old;
    struct err err;

    EXPECT(getrlimit(RLIMIT_FSIZE, &old) == 0);
    signal(SIGXFSZ, SIG_IGN);
    video_check_store(path(1), "old", 3);
    /* at every stage: no byte, within the pictures, within the index, just short of the end */
    for (size_t limit = 0; limit < file.len - 500; limit += file.len / 7) {
        const struct rlimit few = {.rlim_cur = limit, .rlim_max = old.rlim_max};

        EXPECT(setrlimit(RLIMIT_FSIZE, &few) == 0);
        const int rc = mp4_remux(path(0), path(1), NULL, 0, NULL, &err);

        EXPECT(setrlimit(RLIMIT_FSIZE, &old) == 0);
        EXPECT_INT(rc, ERR_NO_SPACE);
        EXPECT_CONTAINS(err.msg, "video.mp4");
        expect_same_file(path(0), file.data, file.len);
        expect_same_file(path(1), "old", 3);
        expect_files_in_dir(2);
    }
    EXPECT_OK(mp4_remux(path(0), path(1), NULL, 0, NULL, &err));
    expect_video(path(1), 24, 16, 1);
    clean(&file);
}

TEST(mp4_remux_survives_every_allocation_failure)
{
    static const int sizes[] = {3};
    struct str file = make_source(sizes, 1, 16, 1);
    struct err err;
    int rc;

    for (long n = 1;; n++) {
        alloc_fail_at(n);
        rc = mp4_remux(path(0), path(1), NULL, 0, NULL, &err);
        if (!alloc_fail_stop()) {
            break;
        }
        if (rc != ERR_OK) { /* the folder's sync comes after the rename */
            EXPECT_INT(rc, ERR_NO_MEMORY);
        }
    }
    EXPECT_OK(rc);
    clean(&file);
}
