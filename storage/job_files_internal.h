/*
 * job_files_internal.h - what the two files of job_files.h share: job_files.c opens, writes and reads;
 * job_files_recover.c removes and recovers.
 */
#ifndef STORAGE_JOB_FILES_INTERNAL_H
#define STORAGE_JOB_FILES_INTERNAL_H

#include "storage/job_files.h"

enum {
    JOB_NAME_SIZE = 64
};

#define JOB_TEMPORARY    ".tmp"
#define JOB_STATE_PREFIX "state."

struct job_files {
    char *dir;   /* owned, as is spool */
    char *spool; /* path */
    int videos;  /* descriptors of folders */
    int spool_fd;
    bool fsync;
};

extern const char *const job_files_names[JOB_FILE_COUNT];

/* The snapshot's file; "" for version 0, which is none. */
void job_files_state_name(char name[JOB_NAME_SIZE], int64_t version);

/* errno as a sentence about a job's folder, or its file `name` if that is not "". */
int job_files_error(const struct job_files *f, const char *id, const char *name, const char *doing,
                    struct err *err);

/* False with errno. True without a sync if the store was opened so. */
MUST_CHECK bool job_files_sync(const struct job_files *f, int fd);

/* *ret: the job's folder, to be closed. ERR_INVALID, ERR_NOT_FOUND. */
MUST_CHECK int job_files_open_folder(const struct job_files *f, const char *id, int *ret,
                                     struct err *err);

/* Cuts the file back to size and syncs. ERR_FORMAT when it is shorter. */
MUST_CHECK int job_files_cut(const struct job_files *f, const char *id, const char *name, int fd,
                             int64_t size, struct err *err);

/* visit for everything in the folder but "." and ".."; stops when it returns another value than 0, and
 * returns that, or -1 with errno. */
typedef int (*job_files_visit_fn)(void *ctx, int dir_fd, const char *name);
MUST_CHECK int job_files_visit(int dir_fd, job_files_visit_fn visit, void *ctx);

/* A visit that removes files. */
int job_files_unlink(void *ctx, int dir_fd, const char *name);

#endif
