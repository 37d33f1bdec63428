/*
 * jobs_fixture.h - jobs/ with a real store in a temporary folder, a device that does what the test says, and a
 * clock that the test moves.
 */
#ifndef TESTS_SUPPORT_JOBS_FIXTURE_H
#define TESTS_SUPPORT_JOBS_FIXTURE_H

#include "jobs/jobs_internal.h"

enum {
    FIXTURE_MAX_EVENTS = 512,
    FIXTURE_INIT_BYTES = 7,
};

struct fixture {
    char dir[64];
    struct store *store;
    struct job_files *files;
    struct store_thread *storage;
    struct jobs *jobs;
    struct jobs_device *device;
    struct jobs_limits limits;
    bool no_prepare; /* the device does not answer PREPARE */
    int prepares, starts, finishes, pauses, cancels;
    struct job *told;    /* the job of the last start or finish */
    int64_t first_block; /* asked for by the last start */
    int64_t first_seq;   /* the newest event before this life */
    /* The last answer. */
    int answers;
    enum jobs_outcome outcome;
    char id[JOB_ID_SIZE];
};

/* Opens everything in a new folder, with a device that is ready. */
void fixture_open(struct fixture *f);
/* Ends without any order, as a crash would, and opens again. */
void fixture_crash(struct fixture *f);
void fixture_close(struct fixture *f);

extern int64_t fixture_now_ms;

/* Runs the storage thread and all completions until nothing is under way. */
void fixture_settle(struct fixture *f);

/* A job of `blocks` blocks of 4 frames; settles; returns it. */
struct job *fixture_create(struct fixture *f, const char *client, int priority, int blocks);
void fixture_answer(void *ctx, enum jobs_outcome outcome, struct job *job);

/* The device reports; settles. */
void fixture_block(struct fixture *f, struct job *job, int64_t index);
void fixture_rendered(struct fixture *f, struct job *job);
void fixture_finished(struct fixture *f, struct job *job);
/* All of it from `from` on. */
void fixture_complete(struct fixture *f, struct job *job, int64_t from, int64_t blocks);

/* Types of all events of a job in this life, joined by blanks, without "video.": "queued in_progress block". */
void fixture_events(const struct fixture *f, const char *id, char *ret, size_t size);

#endif
