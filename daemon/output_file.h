/*
 * output_file.h - the file `sanad generate` writes: it grows by whole parts and is playable at any
 * moment; at the end it is remuxed in place. "-" is standard output, which only grows.
 *
 * A part that could not be written whole (disk full) is cut off again. One thread at a time.
 */
#ifndef DAEMON_OUTPUT_FILE_H
#define DAEMON_OUTPUT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "media/mp4_tags.h"

/* {.path = PATH, .fd = -1} to begin with. Nothing is created before the first part is there. */
struct output_file {
    const char *path; /* borrowed */
    int fd;           /* -1: not open */
    bool regular;     /* can be cut, remuxed and removed */
    int64_t size;     /* whole parts; after finish: of the file */
};

/* Creates or empties the file at the first call. Errors: ERR_NO_SPACE (disk full, file size limit),
 * ERR_IO; both name the path. */
MUST_CHECK int output_file_append(struct output_file *f, const uint8_t *data, size_t len,
                                  struct err *err);

/* Closes; a regular file becomes a normal MP4 with its index in front. */
MUST_CHECK int output_file_finish(struct output_file *f, struct err *err);

/* Closes and leaves what is there. Safe at any time. */
void output_file_close(struct output_file *f);

/* Closes and removes a regular file. */
void output_file_remove(struct output_file *f);

#endif
