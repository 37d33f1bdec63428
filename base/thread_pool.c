/*
 * Workers sleep on a condition variable between runs and take tasks from an atomic counter. After
 * a run they spin for a few microseconds before sleeping: one step of a small model is hundreds of
 * short runs, and a futex wake-up costs more than some of them.
 */
#include "base/thread_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    SPIN_ROUNDS = 2000
};

struct worker {
    struct thread_pool *pool;
    pthread_t thread;
    int index;
};

struct thread_pool {
    pthread_mutex_t mutex;
    pthread_cond_t start;
    pthread_cond_t done;
    int n_threads;
    int n_started;              /* threads that exist and must be joined, without the caller */
    atomic_uint_fast64_t epoch; /* grows with every run; written under the mutex */
    atomic_int n_busy;          /* workers still inside the current run */
    atomic_bool stop;
    atomic_int_fast64_t next;
    int64_t n_tasks;
    thread_pool_fn fn;
    void *ctx;
    struct worker worker[];
};

static void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void work(struct thread_pool *pool, int thread)
{
    for (;;) {
        const int64_t task = atomic_fetch_add(&pool->next, 1);

        if (task >= pool->n_tasks) {
            return;
        }
        pool->fn(pool->ctx, task, thread);
    }
}

static void wait_for_run(struct thread_pool *pool, uint_fast64_t seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load(&pool->epoch) != seen || atomic_load(&pool->stop)) {
            return;
        }
        cpu_pause();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->epoch) == seen && !atomic_load(&pool->stop)) {
        pthread_cond_wait(&pool->start, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct thread_pool *pool = w->pool;
    uint_fast64_t seen = 0;

    for (;;) {
        wait_for_run(pool, seen);
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
        seen = atomic_load(&pool->epoch);
        work(pool, w->index);
        if (atomic_fetch_sub(&pool->n_busy, 1) == 1) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

int thread_pool_create(struct thread_pool **ret, int n_threads, struct err *err)
{
    struct thread_pool *pool;

    CHECK_BUG(n_threads > 0);
    pool = calloc(1, sizeof(*pool) + (size_t)n_threads * sizeof(pool->worker[0]));
    if (!pool) {
        return err_set(err, ERR_NO_MEMORY, "pool of %d threads", n_threads);
    }
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->start, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->n_threads = n_threads;
    for (int i = 1; i < n_threads; i++) {
        pool->worker[i] = (struct worker){.pool = pool, .index = i};
        if (pthread_create(&pool->worker[i].thread, NULL, worker_main, &pool->worker[i]) != 0) {
            thread_pool_free(pool);
            return err_set(err, ERR_NO_MEMORY, "thread %d of %d could not be started", i,
                           n_threads);
        }
        pool->n_started = i;
    }
    *ret = pool;
    return ERR_OK;
}

void thread_pool_free(struct thread_pool *pool)
{
    if (!pool) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i <= pool->n_started; i++) {
        pthread_join(pool->worker[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

int thread_pool_size(const struct thread_pool *pool)
{
    return pool->n_threads;
}

static void wait_until_done(struct thread_pool *pool)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load(&pool->n_busy) == 0) {
            return;
        }
        cpu_pause();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->n_busy) > 0) {
        pthread_cond_wait(&pool->done, &pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}

void thread_pool_run(struct thread_pool *pool, int64_t n_tasks, thread_pool_fn fn, void *ctx)
{
    if (n_tasks <= 1 || pool->n_threads == 1) {
        for (int64_t i = 0; i < n_tasks; i++) {
            fn(ctx, i, 0);
        }
        return;
    }
    pool->fn = fn;
    pool->ctx = ctx;
    pool->n_tasks = n_tasks;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->n_busy, pool->n_threads - 1);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->epoch, 1);
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->mutex);
    work(pool, 0);
    wait_until_done(pool);
}
