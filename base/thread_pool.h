/*
 * thread_pool.h - "do these n independent tasks", on a fixed number of threads.
 *
 * The calling thread works too. Tasks are handed out in order, one at a time, so which thread runs
 * a task depends on chance: a task must write only its own outputs and use only its own thread's
 * scratch, and then the result does not depend on the number of threads. One caller at a time.
 */
#ifndef BASE_THREAD_POOL_H
#define BASE_THREAD_POOL_H

#include <stdint.h>

#include "base/err.h"

struct thread_pool;

/* task in [0, n_tasks), thread in [0, n_threads). */
typedef void (*thread_pool_fn)(void *ctx, int64_t task, int thread);

MUST_CHECK int thread_pool_create(struct thread_pool **ret, int n_threads, struct err *err);

/* Accepts NULL. */
void thread_pool_free(struct thread_pool *pool);

int thread_pool_size(const struct thread_pool *pool);

/* Returns when all tasks are done. */
void thread_pool_run(struct thread_pool *pool, int64_t n_tasks, thread_pool_fn fn, void *ctx);

#endif
