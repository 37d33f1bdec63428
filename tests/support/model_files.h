/*
 * model_files.h - model directories for tests: copies of the golden ones, and files with a true
 * header and a hole for data.
 *
 * Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_MODEL_FILES_H
#define TESTS_SUPPORT_MODEL_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/str.h"

/* "DIR/NAME"; lives as long as the program. */
const char *files_path(const char *dir, const char *name);

/* Makes a folder of test_dir(); its parents must be there. Returns its path. */
const char *files_dir(const char *name);

/* The whole file, NUL-terminated; free() it. */
char *files_read(const char *path, size_t *ret_len);

void files_write(const char *path, const void *data, size_t len);

/* A file of LEN bytes that begins with `data` and is a hole after it. */
void files_write_sparse(const char *path, const void *data, size_t len, uint64_t file_len);

/* Copies a folder with all its files and folders; `to` must not exist. */
void files_copy_dir(const char *from, const char *to);

/* In a file, puts `to` for the first `from`, which must be there. */
void files_replace(const char *path, const char *from, const char *to);

/* The same in memory; free() the result. */
char *text_replace(const char *text, const char *from, const char *to);

/* A .safetensors file as its header grows tensor by tensor. */
struct header_writer {
    struct str text;
    uint64_t data_bytes;
};

void header_init(struct header_writer *w);
void header_done(struct header_writer *w);

/* dtype: "F32", ...; element_bytes: its size. */
void header_add(struct header_writer *w, const char *name, const char *dtype, int element_bytes,
                int rank, const int64_t *dims);

/* Writes length, header and a hole of the data's size. */
void header_write_sparse(struct header_writer *w, const char *path);

#endif
