#include "media/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <libavutil/mem.h>
#include <libavutil/sha.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 * 1024
};

struct sha256 {
    struct AVSHA *sha; /* owned */
};

struct sha256 *sha256_create(void)
{
    struct sha256 *s = calloc(1, sizeof(*s));

    if (!s) {
        return NULL;
    }
    s->sha = av_sha_alloc();
    if (!s->sha || av_sha_init(s->sha, 8 * SHA256_BYTES) < 0) {
        sha256_free(s);
        return NULL;
    }
    return s;
}

void sha256_free(struct sha256 *s)
{
    if (s) {
        av_free(s->sha);
        free(s);
    }
}

void sha256_update(struct sha256 *s, const void *data, size_t len)
{
    av_sha_update(s->sha, data, len);
}

void sha256_final(struct sha256 *s, char ret_hex[SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_BYTES];

    av_sha_final(s->sha, digest);
    for (int i = 0; i < SHA256_BYTES; i++) {
        *ret_hex++ = digits[digest[i] >> 4];
        *ret_hex++ = digits[digest[i] & 15];
    }
    *ret_hex = '\0';
}

static int add_file(struct sha256 *s, int fd, uint8_t *buffer, int64_t *ret_bytes, const char *path,
                    struct err *err)
{
    *ret_bytes = 0;
    for (;;) {
        const ssize_t n = read(fd, buffer, READ_BYTES);

        if (n == 0) {
            return ERR_OK;
        }
        if (n > 0) {
            sha256_update(s, buffer, (size_t)n);
            *ret_bytes += n;
        } else if (errno != EINTR) {
            return err_set(err, ERR_IO, "read '%s': %m", path);
        }
    }
}

int sha256_file(const char *path, char ret_hex[SHA256_HEX], int64_t *ret_bytes, struct err *err)
{
    struct sha256 *s = NULL;
    uint8_t *buffer = NULL;
    struct stat st;
    int rc;
    /* not blocking: a path may name a pipe, which the check refuses */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "open '%s': %m", path);
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = err_set(err, ERR_IO, "'%s' is not a regular file", path);
        goto out;
    }
    s = sha256_create();
    buffer = malloc(READ_BYTES);
    if (!s || !buffer) {
        rc = err_set(err, ERR_NO_MEMORY, "digest of '%s'", path);
        goto out;
    }
    rc = add_file(s, fd, buffer, ret_bytes, path, err);
    if (rc == ERR_OK) {
        sha256_final(s, ret_hex);
    }
out:
    free(buffer);
    sha256_free(s);
    close(fd);
    return rc;
}
