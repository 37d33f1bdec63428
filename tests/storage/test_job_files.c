#include "storage/job_files.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

static struct err err;

struct bed {
    char dir[400];
    struct job_files *f;
};

static void bed_open(struct bed *b)
{
    snprintf(b->dir, sizeof(b->dir), "%s/files-XXXXXX", test_dir());
    EXPECT(mkdtemp(b->dir));
    EXPECT_OK(job_files_open(&b->f, b->dir, true, &err));
    EXPECT_OK(job_files_make(b->f, "video_a", &err));
}

static void bed_close(struct bed *b)
{
    job_files_close(b->f);
}

/* "DIR/NAME" */
static const char *at(const struct bed *b, const char *name)
{
    static char path[600];

    snprintf(path, sizeof(path), "%s/%s", b->dir, name);
    return path;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    EXPECT(f && fwrite(text, 1, strlen(text), f) == strlen(text) && fclose(f) == 0);
}

/* The file's text; "-" when there is none. */
static const char *text_of(const struct bed *b, const char *name)
{
    static char text[256];
    FILE *f = fopen(at(b, name), "rb");
    size_t n;

    if (!f) {
        return "-";
    }
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    return text;
}

static bool exists(const struct bed *b, const char *name)
{
    struct stat st;

    return lstat(at(b, name), &st) == 0;
}

static int append(struct bed *b, enum job_file file, int64_t offset, const char *text)
{
    return job_files_append(b->f, "video_a", file, offset, text, strlen(text), &err);
}

static int replace(struct bed *b, enum job_file file, int64_t version, const char *text)
{
    return job_files_write(b->f, "video_a", file, version, text, strlen(text), &err);
}

TEST(job_files_have_paths)
{
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      "../x",
                                      "a/b",
                                      "a b",
                                      "a.b",
                                      "\xc3\xa4",
                                      ("12345678901234567890123456789012"
                                       "123456789012345678901234567890123")};
    char path[JOB_PATH_SIZE] = "untouched";
    struct bed b;

    bed_open(&b);
    EXPECT_OK(job_files_path(b.f, "video_a", JOB_VIDEO, 0, path, &err));
    EXPECT_STR(path, at(&b, "videos/video_a/video.mp4"));
    EXPECT_OK(job_files_path(b.f, "video_a", JOB_STATE, 12, path, &err));
    EXPECT_STR(path, at(&b, "videos/video_a/state.12"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(job_files_path(b.f, bad[i], JOB_VIDEO, 0, path, &err), ERR_INVALID);
        EXPECT_INT(job_files_make(b.f, bad[i], &err), ERR_INVALID);
        EXPECT_INT(job_files_remove(b.f, bad[i], &err), ERR_INVALID);
    }
    EXPECT_INT(job_files_path(b.f, "video_a", JOB_STATE, 0, path, &err), ERR_INVALID);
    EXPECT_INT(job_files_path(b.f, "video_a", JOB_VIDEO, 1, path, &err), ERR_INVALID);
    EXPECT_INT(job_files_path(b.f, "video_a", JOB_FILE_COUNT, 0, path, &err), ERR_INVALID);
    EXPECT_STR(path, at(&b, "videos/video_a/state.12"));
    EXPECT_INT(append(&b, JOB_STATE, 0, "x"), ERR_INVALID);
    EXPECT_OK(job_files_make(b.f, "video_a", &err)); /* again */
    bed_close(&b);
}

TEST(job_files_long_paths_are_refused)
{
    char dir[JOB_PATH_SIZE + 8];
    char path[JOB_PATH_SIZE];
    struct job_files *f = NULL;
    size_t len;

    snprintf(dir, sizeof(dir), "%s/long", test_dir());
    EXPECT(mkdir(dir, 0700) == 0);
    for (len = strlen(dir); len < JOB_PATH_SIZE - 1; len += 2) { /* the same folder, at length */
        memcpy(dir + len, "/.", 3);
    }
    EXPECT_OK(job_files_open(&f, dir, false, &err));
    EXPECT_INT(job_files_path(f, "video_a", JOB_VIDEO, 0, path, &err), ERR_INVALID);
    job_files_close(f);
}

TEST(job_files_append_trusts_nothing_behind_the_offset)
{
    struct bed b;

    bed_open(&b);
    EXPECT_OK(append(&b, JOB_FRAGMENTS, 0, "init"));
    EXPECT_OK(append(&b, JOB_FRAGMENTS, 4, "first"));
    EXPECT_OK(append(&b, JOB_FRAGMENTS, 9, "crashed before its commit"));
    EXPECT_OK(append(&b, JOB_FRAGMENTS, 9, "second"));
    EXPECT_STR(text_of(&b, "videos/video_a/fragments.mp4"), "initfirstsecond");
    EXPECT_INT(append(&b, JOB_FRAGMENTS, 16, "gap"), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, at(&b, "videos/video_a/fragments.mp4"));
    EXPECT_INT(append(&b, JOB_LATENTS, 1, "gap"), ERR_FORMAT);
    EXPECT(!exists(&b, "videos/video_a/latents"));
    EXPECT_STR(text_of(&b, "videos/video_a/fragments.mp4"), "initfirstsecond");
    EXPECT_OK(append(&b, JOB_FRAGMENTS, 0, ""));
    EXPECT_STR(text_of(&b, "videos/video_a/fragments.mp4"), "");
    EXPECT_INT(append(&b, JOB_FRAGMENTS, -1, "x"), ERR_INVALID);
    EXPECT_INT(job_files_append(b.f, "video_b", JOB_FRAGMENTS, 0, "x", 1, &err), ERR_NOT_FOUND);
    bed_close(&b);
}

TEST(job_files_write_replaces_whole)
{
    struct bed b;

    bed_open(&b);
    EXPECT_OK(replace(&b, JOB_VIDEO, 0, "a long first one"));
    put(at(&b, "videos/video_a/video.mp4.tmp"), "of a crash");
    EXPECT_OK(replace(&b, JOB_VIDEO, 0, "short"));
    EXPECT_STR(text_of(&b, "videos/video_a/video.mp4"), "short");
    EXPECT(!exists(&b, "videos/video_a/video.mp4.tmp"));
    EXPECT_OK(replace(&b, JOB_STATE, 3, "three"));
    EXPECT_OK(replace(&b, JOB_STATE, 4, "four"));
    EXPECT_STR(text_of(&b, "videos/video_a/state.3"), "three");
    job_files_drop_states(b.f, "video_a", 4);
    EXPECT(!exists(&b, "videos/video_a/state.3"));
    EXPECT_STR(text_of(&b, "videos/video_a/state.4"), "four");
    EXPECT_STR(text_of(&b, "videos/video_a/video.mp4"), "short");
    job_files_drop_states(b.f, "video_a", 0);
    EXPECT(!exists(&b, "videos/video_a/state.4"));
    job_files_drop_states(b.f, "video_none", 0);
    bed_close(&b);
}

TEST(job_files_follow_no_links)
{
    struct bed b;
    int64_t size;
    int fd = -1;

    bed_open(&b);
    put(at(&b, "secret"), "secret");
    EXPECT(symlink("../../secret", at(&b, "videos/video_a/latents")) == 0);
    EXPECT(symlink("..", at(&b, "videos/video_link")) == 0);
    EXPECT_INT(append(&b, JOB_LATENTS, 0, "x"), ERR_IO);
    EXPECT_INT(job_files_open_read(b.f, "video_a", JOB_LATENTS, &fd, &size, &err), ERR_IO);
    EXPECT_INT(job_files_append(b.f, "video_link", JOB_VIDEO, 0, "x", 1, &err), ERR_IO);
    EXPECT_INT(job_files_remove(b.f, "video_link", &err), ERR_IO);
    EXPECT_OK(job_files_write(b.f, "video_a", JOB_LATENTS, 0, "mine", 4, &err)); /* replaces it */
    EXPECT_STR(text_of(&b, "videos/video_a/latents"), "mine");
    EXPECT_STR(text_of(&b, "secret"), "secret");
    EXPECT(mkfifo(at(&b, "videos/video_a/preview.jpg"), 0600) == 0);
    EXPECT_INT(job_files_open_read(b.f, "video_a", JOB_PREVIEW, &fd, &size, &err), ERR_IO);
    EXPECT_INT(fd, -1);
    bed_close(&b);
}

TEST(job_files_adopt_uploads)
{
    struct bed b;
    char spooled[600];

    bed_open(&b);
    snprintf(spooled, sizeof(spooled), "%sup-1", job_files_spool_dir(b.f));
    put(spooled, "picture");
    EXPECT_OK(job_files_adopt(b.f, "video_a", JOB_REFERENCE, spooled, &err));
    EXPECT_STR(text_of(&b, "videos/video_a/reference"), "picture");
    EXPECT(!exists(&b, "spool/up-1"));
    EXPECT_INT(job_files_adopt(b.f, "video_a", JOB_REFERENCE, spooled, &err), ERR_NOT_FOUND);
    EXPECT(symlink("../videos/video_a/reference", spooled) == 0);
    EXPECT_INT(job_files_adopt(b.f, "video_a", JOB_REFERENCE, spooled, &err), ERR_IO);
    EXPECT_INT(job_files_adopt(b.f, "video_a", JOB_REFERENCE, at(&b, "spool"), &err), ERR_IO);
    EXPECT_STR(text_of(&b, "videos/video_a/reference"), "picture");
    put(at(&b, "spool/up-2"), "left by a crash");
    job_files_close(b.f);
    EXPECT_OK(job_files_open(&b.f, b.dir, true, &err));
    EXPECT(!exists(&b, "spool/up-1") && !exists(&b, "spool/up-2")); /* emptied */
    EXPECT_STR(text_of(&b, "videos/video_a/reference"), "picture");
    bed_close(&b);
}

TEST(job_files_are_read_and_measured)
{
    struct bed b;
    char got[8] = "";
    int64_t size = -1;
    int fd = -1;

    bed_open(&b);
    EXPECT_OK(job_files_size(b.f, "video_a", &size, &err));
    EXPECT_INT(size, 0);
    EXPECT_OK(replace(&b, JOB_VIDEO, 0, "12345"));
    EXPECT_OK(append(&b, JOB_LATENTS, 0, "123"));
    EXPECT_OK(job_files_size(b.f, "video_a", &size, &err));
    EXPECT_INT(size, 8);
    EXPECT_OK(job_files_open_read(b.f, "video_a", JOB_VIDEO, &fd, &size, &err));
    EXPECT_INT(size, 5);
    EXPECT(read(fd, got, sizeof(got)) == 5 && memcmp(got, "12345", 5) == 0);
    EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    EXPECT_INT(job_files_open_read(b.f, "video_a", JOB_PREVIEW, &fd, &size, &err), ERR_NOT_FOUND);
    EXPECT_INT(job_files_open_read(b.f, "video_b", JOB_VIDEO, &fd, &size, &err), ERR_NOT_FOUND);
    EXPECT_INT(job_files_size(b.f, "video_b", &size, &err), ERR_NOT_FOUND);
    EXPECT_OK(job_files_free_space(b.f, &size, &err));
    EXPECT(size > 0);
    bed_close(&b);
}

TEST(job_files_trim_and_remove)
{
    static const char *const kept[] = {"fragments.mp4", "reference",      "video.mp4",
                                       "thumbnail.jpg", "thumbnail.webp", "spritesheet.jpg"};
    struct bed b;
    char name[64];

    bed_open(&b);
    for (int file = 0; file < JOB_FILE_COUNT; file++) {
        EXPECT_OK(replace(&b, (enum job_file)file, file == JOB_STATE ? 9 : 0, "x"));
    }
    put(at(&b, "videos/video_a/video.mp4.tmp"), "x");
    EXPECT_OK(job_files_trim(b.f, "video_a", &err));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        snprintf(name, sizeof(name), "videos/video_a/%s", kept[i]);
        EXPECT_STR(text_of(&b, name), "x");
    }
    EXPECT(!exists(&b, "videos/video_a/latents") && !exists(&b, "videos/video_a/state.9"));
    EXPECT(!exists(&b, "videos/video_a/preview.jpg") &&
           !exists(&b, "videos/video_a/video.mp4.tmp"));
    EXPECT_OK(job_files_remove(b.f, "video_a", &err));
    EXPECT(!exists(&b, "videos/video_a"));
    EXPECT_OK(job_files_remove(b.f, "video_a", &err)); /* none: no error */
    EXPECT_INT(job_files_trim(b.f, "video_a", &err), ERR_NOT_FOUND);
    bed_close(&b);
}

TEST(job_files_recover_cuts_to_what_counts)
{
    struct bed b;
    struct job_row row = {.id = "video_a",
                          .state = JOB_QUEUED,
                          .fragment_bytes = 9,
                          .latent_bytes = 4,
                          .state_version = 2};

    bed_open(&b);
    EXPECT_OK(append(&b, JOB_FRAGMENTS, 0, "initfirst+half a bl"));
    EXPECT_OK(append(&b, JOB_LATENTS, 0, "1234more"));
    EXPECT_OK(replace(&b, JOB_STATE, 1, "one"));
    EXPECT_OK(replace(&b, JOB_STATE, 2, "two"));
    EXPECT_OK(replace(&b, JOB_STATE, 3, "three"));
    put(at(&b, "videos/video_a/state.4.tmp"), "half");
    EXPECT_OK(job_files_recover(b.f, &row, &err));
    EXPECT_STR(text_of(&b, "videos/video_a/fragments.mp4"), "initfirst");
    EXPECT_STR(text_of(&b, "videos/video_a/latents"), "1234");
    EXPECT_STR(text_of(&b, "videos/video_a/state.2"), "two");
    EXPECT(!exists(&b, "videos/video_a/state.1") && !exists(&b, "videos/video_a/state.3") &&
           !exists(&b, "videos/video_a/state.4.tmp"));
    EXPECT_OK(job_files_recover(b.f, &row, &err)); /* again */
    row.fragment_bytes = 10;
    EXPECT_INT(job_files_recover(b.f, &row, &err), ERR_FORMAT);
    row.fragment_bytes = 9;
    row.latent_bytes = 5;
    EXPECT_INT(job_files_recover(b.f, &row, &err), ERR_FORMAT);
    row.latent_bytes = 4;
    row.state_version = 5;
    EXPECT_INT(job_files_recover(b.f, &row, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "state.5");
    row.state = JOB_COMPLETED; /* trimmed: only the fragments count */
    EXPECT_OK(job_files_trim(b.f, "video_a", &err));
    EXPECT_OK(job_files_recover(b.f, &row, &err));
    bed_close(&b);
}

TEST(job_files_recover_a_job_without_files)
{
    struct bed b;
    struct job_row row = {.id = "video_b"};

    bed_open(&b);
    EXPECT_OK(job_files_recover(b.f, &row, &err)); /* the crash came before the folder */
    EXPECT(exists(&b, "videos/video_b"));
    row.fragment_bytes = 1;
    EXPECT_INT(job_files_recover(b.f, &row, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "missing");
    bed_close(&b);
}

static bool is_a(void *ctx, const char *id)
{
    int *calls = ctx;

    (*calls)++;
    return strcmp(id, "video_a") == 0;
}

TEST(job_files_sweep_removes_what_nobody_knows)
{
    struct bed b;
    int calls = 0;
    int n = -1;

    bed_open(&b);
    EXPECT_OK(job_files_make(b.f, "video_b", &err));
    EXPECT_OK(job_files_make(b.f, "video_c", &err));
    put(at(&b, "videos/video_b/video.mp4"), "x");
    put(at(&b, "videos/a_file"), "not ours");
    EXPECT(mkdir(at(&b, "videos/lost+found"), 0700) == 0);
    EXPECT_OK(job_files_sweep(b.f, is_a, &calls, &n, &err));
    EXPECT_INT(n, 2);
    EXPECT_INT(calls, 3);
    EXPECT(exists(&b, "videos/video_a") && exists(&b, "videos/a_file") &&
           exists(&b, "videos/lost+found"));
    EXPECT(!exists(&b, "videos/video_b") && !exists(&b, "videos/video_c"));
    bed_close(&b);
}

TEST(job_files_open_says_what_is_wrong)
{
    struct job_files *f = NULL;
    struct bed b;
    char path[500];

    bed_open(&b);
    EXPECT_INT(job_files_open(&f, "/nonexistent/dir", true, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "/nonexistent/dir");
    snprintf(path, sizeof(path), "%s/file", b.dir);
    put(path, "x");
    EXPECT_INT(job_files_open(&f, path, true, &err), ERR_IO);
    EXPECT(!f);
    bed_close(&b);
    job_files_close(NULL);
}

/* ---- no space ---- */

/* In a child. Returns 0, or the step that failed: `data` fits, twice as much does not. */
static int fill(struct job_files *f, char *data, size_t len)
{
    struct err e;
    int64_t size = -1;
    int fd = -1;

    if (job_files_append(f, "video_a", JOB_FRAGMENTS, 0, data, len, &e) != ERR_OK) {
        return 1;
    }
    if (job_files_append(f, "video_a", JOB_FRAGMENTS, (int64_t)len, data, len, &e) !=
            ERR_NO_SPACE ||
        !strstr(e.msg, "fragments.mp4")) {
        return 2;
    }
    if (job_files_open_read(f, "video_a", JOB_FRAGMENTS, &fd, &size, &e) != ERR_OK ||
        close(fd) != 0 || size != (int64_t)len) {
        return 3; /* the half that was written is cut off again */
    }
    if (job_files_append(f, "video_a", JOB_FRAGMENTS, 0, data, 1, &e) != ERR_OK ||
        job_files_write(f, "video_a", JOB_VIDEO, 0, data, len / 2, &e) != ERR_OK) {
        return 4;
    }
    if (job_files_write(f, "video_a", JOB_VIDEO, 0, data, 2 * len, &e) != ERR_NO_SPACE ||
        !strstr(e.msg, "video.mp4")) {
        return 5;
    }
    if (job_files_size(f, "video_a", &size, &e) != ERR_OK || size != (int64_t)(len / 2) + 1) {
        return 6; /* the old one stays, and no temporary file */
    }
    return 0;
}

static int fill_limited(struct bed *b)
{
    const struct rlimit limit = {.rlim_cur = 150000, .rlim_max = RLIM_INFINITY};
    char *data = calloc(1, 200000);
    int step;

    signal(SIGXFSZ, SIG_IGN);
    if (!data || setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return 90;
    }
    step = fill(b->f, data, 100000);
    free(data);
    return step;
}

/* A file system of 256 KiB, which nobody but this child sees; without the right to make one there is
 * nothing to try. */
static int fill_tmpfs(struct bed *b)
{
    char *data = calloc(1, 400000);
    struct job_files *f = NULL;
    struct err e;
    int step;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", b->dir, "tmpfs", 0, "size=256k") != 0) {
        free(data);
        return 0;
    }
    if (!data || job_files_open(&f, b->dir, true, &e) != ERR_OK ||
        job_files_make(f, "video_a", &e) != ERR_OK) {
        return 91;
    }
    step = fill(f, data, 200000);
    job_files_close(f);
    free(data);
    return step;
}

static int in_child(struct bed *b, int (*fn)(struct bed *b))
{
    const pid_t pid = fork();
    int status;

    EXPECT(pid >= 0);
    if (pid == 0) {
        _exit(fn(b));
    }
    EXPECT(waitpid(pid, &status, 0) == pid);
    EXPECT(WIFEXITED(status));
    return WEXITSTATUS(status);
}

TEST(job_files_survive_a_full_disk)
{
    struct bed b;

    bed_open(&b);
    EXPECT_INT(in_child(&b, fill_limited), 0);
    EXPECT_INT(in_child(&b, fill_tmpfs), 0);
    EXPECT_OK(replace(&b, JOB_VIDEO, 0, "and then there was space again"));
    bed_close(&b);
}

TEST(job_files_open_survives_every_failed_allocation)
{
    char dir[400];
    bool failed = true;

    snprintf(dir, sizeof(dir), "%s/alloc", test_dir());
    for (long n = 1; failed; n++) {
        struct job_files *f = NULL;
        int rc;

        alloc_fail_at(n);
        rc = job_files_open(&f, dir, false, &err);
        failed = alloc_fail_stop();
        EXPECT_INT(rc, failed ? ERR_NO_MEMORY : ERR_OK);
        job_files_close(f);
    }
}
