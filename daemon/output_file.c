#include "daemon/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/mp4_remux.h"

static int open_file(struct output_file *f, struct err *err)
{
    struct stat st;

    if (strcmp(f->path, "-") == 0) {
        f->fd = STDOUT_FILENO;
        return ERR_OK;
    }
    f->fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (f->fd < 0) {
        return err_set(err, ERR_IO, "open '%s' for writing: %m", f->path);
    }
    f->regular = fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode);
    return ERR_OK;
}

/* Cuts a part that is not whole off again, and says what happened. */
static int write_error(struct output_file *f, int e, struct err *err)
{
    const bool full = e == ENOSPC || e == EFBIG || e == EDQUOT;

    if (f->regular && ftruncate(f->fd, f->size) != 0) {
        return err_set(err, ERR_IO, "cut '%s' back to its last whole fragment: %m", f->path);
    }
    errno = e;
    return err_set(err, full ? ERR_NO_SPACE : ERR_IO, "write '%s': %m", f->path);
}

int output_file_append(struct output_file *f, const uint8_t *data, size_t len, struct err *err)
{
    size_t done = 0;
    int rc = f->fd < 0 ? open_file(f, err) : ERR_OK;

    while (rc == ERR_OK && done < len) {
        const ssize_t n = write(f->fd, data + done, len - done);

        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            rc = write_error(f, errno, err);
        }
    }
    f->size += rc == ERR_OK ? (int64_t)len : 0;
    return rc;
}

int output_file_finish(struct output_file *f, struct err *err)
{
    const int fd = f->fd;
    struct mp4_remux_info info;
    int rc;

    if (fd <= STDOUT_FILENO) {
        return ERR_OK;
    }
    f->fd = -1;
    if (close(fd) != 0) {
        return err_set(err, ERR_IO, "close '%s': %m", f->path);
    }
    if (!f->regular) {
        return ERR_OK;
    }
    rc = mp4_remux(f->path, f->path, NULL, 0, &info, err);
    f->size = rc == ERR_OK ? info.bytes : f->size;
    return rc;
}

void output_file_close(struct output_file *f)
{
    if (f->fd > STDOUT_FILENO) {
        close(f->fd);
    }
    f->fd = -1;
}

void output_file_remove(struct output_file *f)
{
    const bool remove_it = f->fd >= 0 && f->regular;

    output_file_close(f);
    if (remove_it) {
        unlink(f->path);
    }
}
