/*
 * image_file.h - the bytes of a file that may be a reference picture. Any thread; reads the disk.
 */
#ifndef MEDIA_IMAGE_FILE_H
#define MEDIA_IMAGE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Free *ret. Errors: ERR_NOT_FOUND, ERR_IO, ERR_FORMAT (not a regular file), ERR_INVALID (over
 * IMAGE_MAX_BYTES), ERR_NO_MEMORY. They do not name the path: the caller puts it in front where it may
 * be seen. */
MUST_CHECK int image_file_read(uint8_t **ret, size_t *ret_len, const char *path, struct err *err);

#endif
