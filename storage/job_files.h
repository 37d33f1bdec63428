/*
 * job_files.h - the bytes of a job: one folder each, DIR/videos/<id>/
 *
 *   fragments.mp4   init segment, then fragments; append only. What counts is said by the store.
 *   latents         fp32, append only: the checkpoint of a block-causal video
 *   state           the newest snapshot (bidirectional), replaced whole: state.<version>
 *   reference       the picture that was uploaded
 *   video.mp4       for download;  thumbnail.jpg, thumbnail.webp, spritesheet.jpg, preview.jpg
 *
 * Storage thread, but for the paths and job_files_open_*, which any thread may use. Ids are checked: an id
 * that is not [A-Za-z0-9_-]{1,64} has no path. Errors: ERR_IO, ERR_NO_SPACE (names the file), ERR_INVALID.
 */
#ifndef STORAGE_JOB_FILES_H
#define STORAGE_JOB_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

enum {
    JOB_PATH_SIZE = 1024
};

enum job_file {
    JOB_FRAGMENTS,
    JOB_LATENTS,
    JOB_STATE,
    JOB_REFERENCE,
    JOB_VIDEO,
    JOB_THUMBNAIL_JPEG,
    JOB_THUMBNAIL_WEBP,
    JOB_SPRITESHEET,
    JOB_PREVIEW,
    JOB_FILE_COUNT,
};

struct job_files;

/* Creates DIR and DIR/videos. fsync: false only for tests and throw-away servers. */
MUST_CHECK int job_files_open(struct job_files **ret, const char *dir, bool fsync, struct err *err);
void job_files_close(struct job_files *f);

/* version is for JOB_STATE only. */
MUST_CHECK int job_files_path(const struct job_files *f, const char *id, enum job_file file,
                              int64_t version, char ret[JOB_PATH_SIZE], struct err *err);

/* A folder for the job; durable. Not an error if it exists. */
MUST_CHECK int job_files_make(struct job_files *f, const char *id, struct err *err);

/* Writes at exactly `offset` (cutting off what is behind, adding what a crash left is never trusted) and
 * syncs. ERR_FORMAT when the file is shorter than offset. */
MUST_CHECK int job_files_append(struct job_files *f, const char *id, enum job_file file,
                                int64_t offset, const void *data, size_t len, struct err *err);

/* Replaces the whole file: temporary file, sync, rename, sync. version as above; older versions of
 * JOB_STATE are kept until job_files_drop_states. */
MUST_CHECK int job_files_write(struct job_files *f, const char *id, enum job_file file,
                               int64_t version, const void *data, size_t len, struct err *err);
void job_files_drop_states(struct job_files *f, const char *id, int64_t keep_version);

/* Moves an existing file (a spooled upload, on the same file system) into the job's folder; durable. */
MUST_CHECK int job_files_adopt(struct job_files *f, const char *id, enum job_file file,
                               const char *from, struct err *err);

/* Where uploads are spooled: DIR/spool/, emptied at open. */
const char *job_files_spool_dir(const struct job_files *f);

/* A descriptor for reading, O_CLOEXEC; and the file's size. ERR_NOT_FOUND. */
MUST_CHECK int job_files_open_read(const struct job_files *f, const char *id, enum job_file file,
                                   int *ret_fd, int64_t *ret_size, struct err *err);

/* Removes what a finished job does not need any more (latents, states, preview), or everything but what
 * counts. */
MUST_CHECK int job_files_trim(struct job_files *f, const char *id, struct err *err);

/* Removes the folder. Not an error if there is none. */
MUST_CHECK int job_files_remove(struct job_files *f, const char *id, struct err *err);

/* Bytes of all files of the job. */
MUST_CHECK int job_files_size(const struct job_files *f, const char *id, int64_t *ret,
                              struct err *err);

/* Bytes free on the file system. */
MUST_CHECK int job_files_free_space(const struct job_files *f, int64_t *ret, struct err *err);

/* Recovery: cuts fragments and latents back to what `row` says, ERR_FORMAT when they are shorter; removes
 * temporary files and other versions of the state. */
MUST_CHECK int job_files_recover(struct job_files *f, const struct job_row *row, struct err *err);

/* Recovery: removes folders for which known(ctx, id) is false. *ret_n: how many. */
MUST_CHECK int job_files_sweep(struct job_files *f, bool (*known)(void *ctx, const char *id),
                               void *ctx, int *ret_n, struct err *err);

#endif
