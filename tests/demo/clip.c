#include "tests/demo/clip.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/demo/scene.h"

enum {
    MAX_FRAMES = 14400, /* what the engine makes at most */
};

/* ffmpeg writes PPM pictures: unlike raw frames they say their size. */
static const char ppm_head[] = "P6\n96 64\n255\n";
static_assert(SCENE_WIDTH == 96 && SCENE_HEIGHT == 64, "ppm_head has the size");

static int grow(struct clip *c, int *capacity, struct err *err)
{
    const int wanted = *capacity > 0 ? *capacity * 2 : 64;
    uint8_t *frames = realloc(c->frames, (size_t)wanted * SCENE_VALUES);

    if (!frames) {
        return err_set(err, ERR_NO_MEMORY, "%d frames", wanted);
    }
    c->frames = frames;
    *capacity = wanted;
    return ERR_OK;
}

/* Frames up to the end of the file, each after the bytes of head. */
static int read_frames(struct clip *c, FILE *f, const char *head, struct err *err)
{
    const size_t head_bytes = strlen(head);
    char got[32];
    int capacity = 0;
    size_t bytes = 0;

    for (;;) {
        if (c->n_frames == capacity && grow(c, &capacity, err) != ERR_OK) {
            return err->code;
        }
        if (fread(got, 1, head_bytes, f) == head_bytes && memcmp(got, head, head_bytes) != 0) {
            return err_set(err, ERR_FORMAT, "the frames are not of %dx%d", SCENE_WIDTH,
                           SCENE_HEIGHT);
        }
        bytes = fread(c->frames + (size_t)c->n_frames * SCENE_VALUES, 1, SCENE_VALUES, f);
        if (bytes < SCENE_VALUES) {
            break;
        }
        if (++c->n_frames == MAX_FRAMES) {
            return err_set(err, ERR_FORMAT, "%d frames or more", MAX_FRAMES);
        }
    }
    if (ferror(f)) {
        return err_set(err, ERR_IO, "read: %m");
    }
    if (bytes > 0) {
        return err_set(err, ERR_FORMAT, "%zu bytes after %d frames of %dx%d are none", bytes,
                       c->n_frames, SCENE_WIDTH, SCENE_HEIGHT);
    }
    return ERR_OK;
}

static int read_raw(struct clip *c, const char *file, struct err *err)
{
    FILE *f = fopen(file, "rbe");
    int rc;

    if (!f) {
        return err_set(err, ERR_IO, "open: %m");
    }
    rc = read_frames(c, f, "", err);
    fclose(f);
    return rc;
}

/* "file:" in front of the name, so that it is never an option or a protocol. */
static int start_ffmpeg(pid_t *ret_pid, FILE **ret_out, const char *file, struct err *err)
{
    char name[4096];
    char *const argv[] = {"ffmpeg",     "-nostdin", "-v",  "error",    "-i",    name, "-f",
                          "image2pipe", "-c:v",     "ppm", "-pix_fmt", "rgb24", "-",  NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    int rc;

    if (snprintf(name, sizeof(name), "file:%s", file) >= (int)sizeof(name)) {
        return err_set(err, ERR_INVALID, "the name is too long");
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return err_set(err, ERR_IO, "pipe: %m");
    }
    *ret_out = fdopen(ends[0], "rb");
    if (!*ret_out) {
        close(ends[0]);
        close(ends[1]);
        return err_set(err, ERR_IO, "fdopen: %m");
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    rc = posix_spawnp(ret_pid, "ffmpeg", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (rc != 0) {
        fclose(*ret_out);
        return err_set(err, ERR_IO, "ffmpeg: %s", strerror(rc));
    }
    return ERR_OK;
}

static int read_by_ffmpeg(struct clip *c, const char *file, struct err *err)
{
    FILE *f = NULL;
    pid_t pid = 0;
    int status = 0;
    int rc = start_ffmpeg(&pid, &f, file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = read_frames(c, f, ppm_head, err);
    fclose(f); /* ends ffmpeg if it has more to say */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (rc == ERR_OK && status != 0) {
        rc = err_set(err, ERR_FORMAT, "ffmpeg could not read it");
    }
    return rc;
}

int clip_open(struct clip *ret, const char *file, struct err *err)
{
    const size_t len = strlen(file);
    struct clip c = {0};
    int rc;

    rc = len > 4 && strcmp(file + len - 4, ".rgb") == 0 ? read_raw(&c, file, err)
                                                        : read_by_ffmpeg(&c, file, err);
    if (rc == ERR_OK && c.n_frames == 0) {
        rc = err_set(err, ERR_FORMAT, "no frames");
    }
    if (rc != ERR_OK) {
        err_prefix(err, "%s", file);
        clip_close(&c);
        return rc;
    }
    *ret = c;
    return ERR_OK;
}

void clip_close(struct clip *c)
{
    free(c->frames);
    *c = (struct clip){0};
}
