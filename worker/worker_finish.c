/*
 * worker_finish.c - all blocks are made: the download file, its digest and its previews.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "media/mp4_remux.h"
#include "media/sha256.h"
#include "media/video_previews.h"
#include "worker/worker_internal.h"

enum {
    PATH_BYTES = 4096
};

struct paths {
    const char *fragments, *video;
    const char *thumbnail_jpeg, *thumbnail_webp, *spritesheet; /* NULL: not wanted */
};

static int parse(struct paths *ret, const cJSON *root, struct err *err)
{
    struct json_fields f;

    json_fields_init(&f, root, "paths", err);
    *ret = (struct paths){.fragments = json_text(&f, "fragments"),
                          .video = json_text(&f, "video"),
                          .thumbnail_jpeg = json_text_or(&f, "thumbnail_jpeg", NULL),
                          .thumbnail_webp = json_text_or(&f, "thumbnail_webp", NULL),
                          .spritesheet = json_text_or(&f, "spritesheet", NULL)};
    return f.rc;
}

/* ---- a durable file ---- */

static int write_error(const char *what, const char *path, struct err *err)
{
    const bool full = errno == ENOSPC || errno == EFBIG || errno == EDQUOT;

    return err_set(err, full ? ERR_NO_SPACE : ERR_IO, "%s '%s': %m", what, path);
}

static int write_bytes(const char *path, const struct str *data, struct err *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    size_t done = 0;
    int rc = ERR_OK;

    if (fd < 0) {
        return write_error("open", path, err);
    }
    while (rc == ERR_OK && done < data->len) {
        const ssize_t n = write(fd, data->data + done, data->len - done);

        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            rc = write_error("write", path, err);
        }
    }
    if (rc == ERR_OK && fsync(fd) != 0) {
        rc = write_error("sync", path, err);
    }
    if (close(fd) != 0 && rc == ERR_OK) {
        rc = write_error("close", path, err);
    }
    return rc;
}

static int sync_folder(const char *path, struct err *err)
{
    char copy[PATH_BYTES]; /* dirname() writes to it */
    int rc = ERR_OK;
    int fd;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, ERR_IO, "open the folder of '%s': %m", path);
    }
    if (fsync(fd) != 0 && errno != EINVAL) { /* some file systems cannot sync a folder */
        rc = err_set(err, ERR_IO, "sync the folder of '%s': %m", path);
    }
    close(fd);
    return rc;
}

/* Appears whole or not at all. NULL path: not wanted. */
static int store(const char *path, const struct str *data, struct err *err)
{
    char temp[PATH_BYTES];
    int rc;

    if (!path) {
        return ERR_OK;
    }
    if (snprintf(temp, sizeof(temp), "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof(temp)) {
        return err_set(err, ERR_INVALID, "'%.100s...': path of more than %d bytes", path,
                       PATH_BYTES);
    }
    rc = write_bytes(temp, data, err);
    if (rc == ERR_OK && rename(temp, path) != 0) {
        rc = write_error("rename to", path, err);
    }
    if (rc != ERR_OK) {
        unlink(temp);
        return rc;
    }
    return sync_folder(path, err);
}

/* ---- FINISH ---- */

static int store_previews(const struct paths *p, const struct video_previews *previews,
                          struct err *err)
{
    int rc = store(p->thumbnail_jpeg, &previews->thumbnail_jpeg, err);

    if (rc == ERR_OK) {
        rc = store(p->thumbnail_webp, &previews->thumbnail_webp, err);
    }
    return rc != ERR_OK ? rc : store(p->spritesheet, &previews->spritesheet, err);
}

/* The member of FINISHED that says what is where on the sheet. */
static void describe_sheet(const struct video_previews *p, char *ret, size_t size)
{
    snprintf(ret, size, ",\"sprite\":{\"cols\":%d,\"rows\":%d,\"w\":%d,\"h\":%d,\"interval\":%.9g}",
             p->sheet.columns, p->sheet.rows, p->sheet.tile_width, p->sheet.tile_height,
             p->interval);
}

static int make_previews(const struct paths *p, char *ret_sheet, size_t size, struct err *err)
{
    struct video_previews previews;
    int rc = video_previews(&previews, p->video, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = store_previews(p, &previews, err);
    if (p->spritesheet) {
        describe_sheet(&previews, ret_sheet, size);
    }
    video_previews_done(&previews);
    return rc;
}

static int finish(const struct paths *p, char ret_json[WORKER_FINISHED_MAX], struct err *err)
{
    char sheet[WORKER_FINISHED_MAX / 2] = "";
    char digest[SHA256_HEX];
    struct mp4_remux_info info;
    int64_t bytes = 0;
    int rc = mp4_remux(p->fragments, p->video, NULL, 0, &info, err);

    if (rc == ERR_OK) {
        rc = sha256_file(p->video, digest, &bytes, err);
    }
    if (rc == ERR_OK && (p->thumbnail_jpeg || p->thumbnail_webp || p->spritesheet)) {
        rc = make_previews(p, sheet, sizeof(sheet), err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    snprintf(ret_json, WORKER_FINISHED_MAX,
             "{\"bytes\":%lld,\"sha256\":\"%s\",\"frames\":%lld,\"seconds\":%.9g%s}",
             (long long)bytes, digest, (long long)info.n_frames, info.seconds, sheet);
    return ERR_OK;
}

int worker_finish(const char *json, size_t len, char ret_json[WORKER_FINISHED_MAX], struct err *err)
{
    cJSON *root = NULL;
    struct paths paths;
    int rc = json_parse_object(&root, json, len, WORKER_MAX_VALUES, "paths", err);

    if (rc == ERR_OK) {
        rc = parse(&paths, root, err);
    }
    if (rc == ERR_OK) {
        rc = finish(&paths, ret_json, err);
    }
    cJSON_Delete(root);
    return rc;
}
