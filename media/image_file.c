#include "media/image_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/image.h"

static int read_bytes(int fd, uint8_t *data, size_t len, struct err *err)
{
    size_t done = 0;

    while (done < len) {
        const ssize_t n = read(fd, data + done, len - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_set(err, ERR_IO, "read: %m");
        }
        if (n == 0) {
            return err_set(err, ERR_IO, "it became shorter while it was read");
        }
        done += (size_t)n;
    }
    return ERR_OK;
}

static int check_file(int fd, size_t *ret_len, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return err_set(err, ERR_IO, "stat: %m");
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ERR_FORMAT, "not a regular file");
    }
    if (st.st_size > IMAGE_MAX_BYTES) {
        return err_set(err, ERR_INVALID, "the image has %lld bytes, more than %d MiB",
                       (long long)st.st_size, IMAGE_MAX_BYTES >> 20);
    }
    *ret_len = (size_t)st.st_size;
    return ERR_OK;
}

int image_file_read(uint8_t **ret, size_t *ret_len, const char *path, struct err *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int rc;
    /* not blocking: a path may name a pipe, which the check refuses */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "open: %m");
    }
    rc = check_file(fd, &len, err);
    if (rc != ERR_OK) {
        goto out;
    }
    data = malloc(len + 1);
    if (!data) {
        rc = err_set(err, ERR_NO_MEMORY, "an image of %zu bytes", len);
        goto out;
    }
    rc = read_bytes(fd, data, len, err);
    if (rc == ERR_OK) {
        *ret = data;
        *ret_len = len;
        data = NULL;
    }
out:
    free(data);
    close(fd);
    return rc;
}
