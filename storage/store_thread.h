/*
 * store_thread.h - the one thread that talks to the store and to the job's files.
 *
 * Tasks run in the order in which they were posted; their done is called on the loop thread, in the same
 * order. Posting gives the task away until done. The number of waiting tasks is not limited here: whoever
 * accepts work from outside limits it (connections, queue capacity).
 */
#ifndef STORAGE_STORE_THREAD_H
#define STORAGE_STORE_THREAD_H

#include "storage/job_files.h"
#include "storage/store.h"

struct store_task {
    /* Storage thread. */
    void (*run)(struct store_task *task, struct store *store, struct job_files *files);
    /* Loop thread, from store_thread_dispatch. */
    void (*done)(struct store_task *task);
    struct store_task *next; /* of the thread */
};

struct store_thread;

/* wake(ctx) is called on the storage thread when there is something to dispatch (uv_async_send). Borrows
 * store and files. */
MUST_CHECK int store_thread_open(struct store_thread **ret, struct store *store,
                                 struct job_files *files, void (*wake)(void *ctx), void *ctx,
                                 struct err *err);

/* Runs what was posted, then ends the thread; the last completions are dispatched here. Accepts NULL. */
void store_thread_close(struct store_thread *t);

/* Loop thread. */
void store_thread_post(struct store_thread *t, struct store_task *task);

/* Loop thread: calls done of all finished tasks, also of those that finish meanwhile. */
void store_thread_dispatch(struct store_thread *t);

/* Tasks posted and not yet dispatched. Loop thread. */
int store_thread_pending(const struct store_thread *t);

#endif
