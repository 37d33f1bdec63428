#include "daemon/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RETRY_MS = 20
};

static int make(const char *path, struct err *err)
{
    if (mkdir(path, 0750) == 0 || errno == EEXIST) {
        return ERR_OK;
    }
    return err_set(err, errno == ENOSPC ? ERR_NO_SPACE : ERR_IO, "data_dir: create folder '%s': %m",
                   path);
}

/* With all folders above it. */
static int make_all(const char *path, struct err *err)
{
    char part[PATH_MAX];
    int rc = ERR_OK;

    if (strlen(path) >= sizeof(part)) {
        return err_set(err, ERR_INVALID, "data_dir: the path is longer than %d bytes", PATH_MAX);
    }
    for (size_t i = 1; path[i] != '\0' && rc == ERR_OK; i++) {
        if (path[i] == '/') {
            memcpy(part, path, i);
            part[i] = '\0';
            rc = make(part, err);
        }
    }
    return rc == ERR_OK ? make(path, err) : rc;
}

static int lock(int fd, const char *path, int wait_ms, struct err *err)
{
    for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited += RETRY_MS) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return err_set(err, ERR_IO, "data_dir: lock '%s': %m", path);
        }
        if (waited >= wait_ms) {
            return err_set(err, ERR_BUSY,
                           "data_dir: another sanad works in this folder (it holds '%s')", path);
        }
        poll(NULL, 0, RETRY_MS);
    }
    return ERR_OK;
}

int data_dir_open(const char *path, int wait_ms, int *ret_lock_fd, struct err *err)
{
    char file[PATH_MAX + 8];
    int fd;
    int rc = make_all(path, err);

    if (rc != ERR_OK) {
        return rc;
    }
    snprintf(file, sizeof(file), "%s/lock", path);
    fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0) {
        return err_set(err, errno == ENOSPC ? ERR_NO_SPACE : ERR_IO, "data_dir: open '%s': %m",
                       file);
    }
    rc = lock(fd, file, wait_ms, err);
    if (rc != ERR_OK) {
        close(fd);
        return rc;
    }
    *ret_lock_fd = fd;
    return ERR_OK;
}
