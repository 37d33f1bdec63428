#include "storage/job_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/job_files_internal.h"

const char *const job_files_names[JOB_FILE_COUNT] = {
    [JOB_FRAGMENTS] = "fragments.mp4",
    [JOB_LATENTS] = "latents",
    [JOB_STATE] = "state",
    [JOB_REFERENCE] = "reference",
    [JOB_VIDEO] = "video.mp4",
    [JOB_THUMBNAIL_JPEG] = "thumbnail.jpg",
    [JOB_THUMBNAIL_WEBP] = "thumbnail.webp",
    [JOB_SPRITESHEET] = "spritesheet.jpg",
    [JOB_PREVIEW] = "preview.jpg",
};

/* ---- names and errors ---- */

int job_files_error(const struct job_files *f, const char *id, const char *name, const char *doing,
                    struct err *err)
{
    const enum err_code code = errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? ERR_NO_SPACE
                               : errno == ENOENT                                    ? ERR_NOT_FOUND
                               : errno == ENOMEM                                    ? ERR_NO_MEMORY
                                                                                    : ERR_IO;

    return err_set(err, code, "%s '%s/videos/%s%s%s': %m", doing, f->dir, id, *name ? "/" : "",
                   name);
}

static int check_id(const char *id, struct err *err)
{
    return job_id_valid(id) ? ERR_OK
                            : err_set(err, ERR_INVALID, "'%.80s' is not the id of a job", id);
}

void job_files_state_name(char name[JOB_NAME_SIZE], int64_t version)
{
    if (version > 0) {
        snprintf(name, JOB_NAME_SIZE, "%s%" PRId64, JOB_STATE_PREFIX, version);
    } else {
        name[0] = '\0';
    }
}

/* JOB_STATE has a version, and only that. */
static int file_name(char name[JOB_NAME_SIZE], enum job_file file, int64_t version, struct err *err)
{
    if ((unsigned)file >= JOB_FILE_COUNT || (file == JOB_STATE ? version <= 0 : version != 0)) {
        return err_set(err, ERR_INVALID, "there is no file %d with version %" PRId64, (int)file,
                       version);
    }
    if (file == JOB_STATE) {
        job_files_state_name(name, version);
    } else {
        snprintf(name, JOB_NAME_SIZE, "%s", job_files_names[file]);
    }
    return ERR_OK;
}

int job_files_path(const struct job_files *f, const char *id, enum job_file file, int64_t version,
                   char ret[JOB_PATH_SIZE], struct err *err)
{
    char path[JOB_PATH_SIZE];
    char name[JOB_NAME_SIZE];
    int rc = check_id(id, err);
    int n;

    if (rc == ERR_OK) {
        rc = file_name(name, file, version, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    n = snprintf(path, sizeof(path), "%s/videos/%s/%s", f->dir, id, name);
    if (n < 0 || n >= JOB_PATH_SIZE) {
        return err_set(err, ERR_INVALID, "the path of '%s' in '%s' is over %d bytes", name, f->dir,
                       JOB_PATH_SIZE - 1);
    }
    memcpy(ret, path, (size_t)n + 1);
    return ERR_OK;
}

/* ---- folders ---- */

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool job_files_sync(const struct job_files *f, int fd)
{
    return !f->fsync || fsync(fd) == 0;
}

int job_files_open_folder(const struct job_files *f, const char *id, int *ret, struct err *err)
{
    const int rc = check_id(id, err);
    int fd;

    if (rc != ERR_OK) {
        return rc;
    }
    fd = open_folder(f->videos, id);
    if (fd < 0) {
        return job_files_error(f, id, "", "open folder", err);
    }
    *ret = fd;
    return ERR_OK;
}

int job_files_visit(int dir_fd, job_files_visit_fn visit, void *ctx)
{
    const int fd = open_folder(dir_fd, "."); /* closedir closes it; its position is its own */
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int rc = 0;

    if (!dir) {
        const int saved_errno = errno;

        if (fd >= 0) {
            close(fd);
        }
        errno = saved_errno;
        return -1;
    }
    while (rc == 0) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe): a stream of our own */
        if (!entry) {
            rc = errno ? -1 : 0;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = visit(ctx, dir_fd, entry->d_name);
        }
    }
    if (rc != 0) {
        const int saved_errno = errno;

        closedir(dir);
        errno = saved_errno;
        return rc;
    }
    closedir(dir);
    return 0;
}

int job_files_unlink(void *ctx, int dir_fd, const char *name)
{
    (void)ctx;
    return unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT ? 0 : -1;
}

/* ---- opening ---- */

static bool make_folder(int at, const char *name)
{
    return mkdirat(at, name, 0700) == 0 || errno == EEXIST;
}

/* -1 with errno. */
static int make_and_open(int at, const char *name)
{
    return make_folder(at, name) ? open_folder(at, name) : -1;
}

static int open_folders(struct job_files *f, struct err *err)
{
    int dir;

    if (!make_folder(AT_FDCWD, f->dir)) {
        return job_files_error(f, "", "", "make folder of", err);
    }
    dir = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* its owner may use a link */
    if (dir < 0) {
        return job_files_error(f, "", "", "open folder of", err);
    }
    f->videos = make_and_open(dir, "videos");
    f->spool_fd = f->videos >= 0 ? make_and_open(dir, "spool") : -1;
    if (f->spool_fd < 0 || job_files_visit(f->spool_fd, job_files_unlink, NULL) != 0 ||
        !job_files_sync(f, dir)) {
        job_files_error(f, "", "", "open beside", err);
    } else {
        err->code = ERR_OK;
    }
    close(dir);
    return err->code;
}

int job_files_open(struct job_files **ret, const char *dir, bool fsync, struct err *err)
{
    struct job_files *f = calloc(1, sizeof(*f));
    int rc;

    if (!f) {
        return err_set(err, ERR_NO_MEMORY, "the videos in '%s'", dir);
    }
    f->fsync = fsync;
    f->videos = f->spool_fd = -1;
    f->dir = strdup(dir);
    f->spool = malloc(strlen(dir) + sizeof("/spool/"));
    if (f->dir && f->spool) {
        snprintf(f->spool, strlen(dir) + sizeof("/spool/"), "%s/spool/", dir);
        rc = open_folders(f, err);
    } else {
        rc = err_set(err, ERR_NO_MEMORY, "the videos in '%s'", dir);
    }
    if (rc != ERR_OK) {
        job_files_close(f);
        return rc;
    }
    *ret = f;
    return ERR_OK;
}

void job_files_close(struct job_files *f)
{
    if (!f) {
        return;
    }
    if (f->videos >= 0) {
        close(f->videos);
    }
    if (f->spool_fd >= 0) {
        close(f->spool_fd);
    }
    free(f->dir);
    free(f->spool);
    free(f);
}

const char *job_files_spool_dir(const struct job_files *f)
{
    return f->spool;
}

int job_files_make(struct job_files *f, const char *id, struct err *err)
{
    const int rc = check_id(id, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (!make_folder(f->videos, id) || !job_files_sync(f, f->videos)) {
        return job_files_error(f, id, "", "make folder", err);
    }
    return ERR_OK;
}

/* ---- writing ---- */

static bool write_all(int fd, const char *data, size_t len, int64_t offset)
{
    while (len > 0) {
        const ssize_t n = pwrite(fd, data, len, offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return false;
        }
        data += n;
        len -= (size_t)n;
        offset += n;
    }
    return true;
}

/* The size of a regular file. */
static bool file_size(int fd, int64_t *ret)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return false;
    }
    *ret = st.st_size;
    return true;
}

int job_files_cut(const struct job_files *f, const char *id, const char *name, int fd, int64_t size,
                  struct err *err)
{
    int64_t have;

    if (!file_size(fd, &have)) {
        return job_files_error(f, id, name, "look at", err);
    }
    if (have < size) {
        return err_set(err, ERR_FORMAT,
                       "'%s/videos/%s/%s' has %" PRId64 " bytes; %" PRId64 " were stored", f->dir,
                       id, name, have, size);
    }
    if (have > size && (ftruncate(fd, size) != 0 || !job_files_sync(f, fd))) {
        return job_files_error(f, id, name, "cut", err);
    }
    return ERR_OK;
}

struct span {
    int64_t offset;
    const void *data;
    size_t len;
};

static int append_to(const struct job_files *f, const char *id, const char *name, int dir,
                     const struct span *span, struct err *err)
{
    const int fd = openat(
        dir, name,
        O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (span->offset == 0 ? O_CREAT : 0), 0600);
    int rc;

    if (fd < 0 && errno == ENOENT && span->offset > 0) {
        return err_set(err, ERR_FORMAT,
                       "'%s/videos/%s/%s' is missing; %" PRId64 " bytes were stored", f->dir, id,
                       name, span->offset);
    }
    if (fd < 0) {
        return job_files_error(f, id, name, "open", err);
    }
    rc = job_files_cut(f, id, name, fd, span->offset, err);
    if (rc == ERR_OK &&
        (!write_all(fd, span->data, span->len, span->offset) || !job_files_sync(f, fd) ||
         (span->offset == 0 && !job_files_sync(f, dir)))) { /* its name is new */
        rc = job_files_error(f, id, name, "write", err);
        (void)!ftruncate(fd, span->offset); /* gives the space back */
    }
    close(fd);
    return rc;
}

int job_files_append(struct job_files *f, const char *id, enum job_file file, int64_t offset,
                     const void *data, size_t len, struct err *err)
{
    const struct span span = {.offset = offset, .data = data, .len = len};
    char name[JOB_NAME_SIZE];
    int dir = -1;
    int rc = file_name(name, file, 0, err);

    if (rc == ERR_OK && offset < 0) {
        rc = err_set(err, ERR_INVALID, "job '%s': offset %" PRId64, id, offset);
    }
    if (rc == ERR_OK) {
        rc = job_files_open_folder(f, id, &dir, err);
    }
    if (rc == ERR_OK) {
        rc = append_to(f, id, name, dir, &span, err);
        close(dir);
    }
    return rc;
}

/* A new file with everything in it, synced. */
static bool write_new(const struct job_files *f, int dir, const char *name, const void *data,
                      size_t len)
{
    const int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool done;
    int saved_errno;

    if (fd < 0) {
        return false;
    }
    done = write_all(fd, data, len, 0) && job_files_sync(f, fd);
    saved_errno = errno;
    close(fd);
    errno = saved_errno;
    return done;
}

static int replace(const struct job_files *f, const char *id, int dir, const char *name,
                   const void *data, size_t len, struct err *err)
{
    char tmp[JOB_NAME_SIZE + sizeof(JOB_TEMPORARY)];
    int rc = ERR_OK;

    snprintf(tmp, sizeof(tmp), "%s%s", name, JOB_TEMPORARY);
    unlinkat(dir, tmp, 0); /* of a crash */
    if (!write_new(f, dir, tmp, data, len) || renameat(dir, tmp, dir, name) != 0 ||
        !job_files_sync(f, dir)) {
        rc = job_files_error(f, id, name, "write", err);
        unlinkat(dir, tmp, 0);
    }
    return rc;
}

int job_files_write(struct job_files *f, const char *id, enum job_file file, int64_t version,
                    const void *data, size_t len, struct err *err)
{
    char name[JOB_NAME_SIZE];
    int dir = -1;
    int rc = file_name(name, file, version, err);

    if (rc == ERR_OK) {
        rc = job_files_open_folder(f, id, &dir, err);
    }
    if (rc == ERR_OK) {
        rc = replace(f, id, dir, name, data, len, err);
        close(dir);
    }
    return rc;
}

/* Only a regular file may come in, and only with its bytes on the disk. */
static int check_upload(const struct job_files *f, const char *from, struct err *err)
{
    const int fd = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int64_t size;
    bool good;

    if (fd < 0) {
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "open '%s': %m", from);
    }
    good = file_size(fd, &size) && job_files_sync(f, fd);
    if (!good) {
        err_set(err, ERR_IO, "upload '%s': %m", from);
    }
    close(fd);
    return good ? ERR_OK : err->code;
}

int job_files_adopt(struct job_files *f, const char *id, enum job_file file, const char *from,
                    struct err *err)
{
    char name[JOB_NAME_SIZE];
    int dir = -1;
    int rc = file_name(name, file, 0, err);

    if (rc == ERR_OK) {
        rc = check_upload(f, from, err);
    }
    if (rc == ERR_OK) {
        rc = job_files_open_folder(f, id, &dir, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    if (renameat(AT_FDCWD, from, dir, name) != 0 || !job_files_sync(f, dir)) {
        rc = job_files_error(f, id, name, "move an upload to", err);
    }
    close(dir);
    return rc;
}

/* ---- reading ---- */

int job_files_open_read(const struct job_files *f, const char *id, enum job_file file, int *ret_fd,
                        int64_t *ret_size, struct err *err)
{
    char name[JOB_NAME_SIZE];
    int64_t size = 0;
    int dir = -1;
    int fd;
    int rc = file_name(name, file, 0, err);

    if (rc == ERR_OK) {
        rc = job_files_open_folder(f, id, &dir, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || !file_size(fd, &size)) {
        rc = job_files_error(f, id, name, "open", err);
    }
    close(dir);
    if (rc != ERR_OK) {
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    *ret_fd = fd;
    *ret_size = size;
    return ERR_OK;
}

static int add_size(void *ctx, int dir_fd, const char *name)
{
    int64_t *sum = ctx;
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? 0 : -1;
    }
    *sum += S_ISREG(st.st_mode) ? st.st_size : 0;
    return 0;
}

int job_files_size(const struct job_files *f, const char *id, int64_t *ret, struct err *err)
{
    int64_t sum = 0;
    int dir = -1;
    int rc = job_files_open_folder(f, id, &dir, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (job_files_visit(dir, add_size, &sum) != 0) {
        rc = job_files_error(f, id, "", "list", err);
    }
    close(dir);
    if (rc == ERR_OK) {
        *ret = sum;
    }
    return rc;
}

int job_files_free_space(const struct job_files *f, int64_t *ret, struct err *err)
{
    struct statvfs st;

    if (fstatvfs(f->videos, &st) != 0) {
        return job_files_error(f, "", "", "ask for the space of", err);
    }
    *ret = (int64_t)st.f_bavail * (int64_t)st.f_frsize;
    return ERR_OK;
}
