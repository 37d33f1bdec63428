/*
 * sha256.h - SHA-256 of bytes and of files, through libavutil. Any thread.
 */
#ifndef MEDIA_SHA256_H
#define MEDIA_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SHA256_BYTES = 32,
    SHA256_HEX = 65, /* lower case, with the NUL */
};

struct sha256;

/* NULL when out of memory. */
struct sha256 *sha256_create(void);
void sha256_free(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t len);
/* Once; then only sha256_free. */
void sha256_final(struct sha256 *s, char ret_hex[SHA256_HEX]);

/* Of a file, and its size. Errors: ERR_NOT_FOUND, ERR_IO, ERR_NO_MEMORY. */
MUST_CHECK int sha256_file(const char *path, char ret_hex[SHA256_HEX], int64_t *ret_bytes,
                           struct err *err);

#endif
