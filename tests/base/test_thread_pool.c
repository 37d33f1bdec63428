#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

enum {
    MAX_TASKS = 1000,
    MAX_THREADS = 8
};

struct board {
    int64_t n_tasks;
    int n_threads;
    int done[MAX_TASKS]; /* plain on purpose: a race here is the pool's */
    int64_t of_thread[MAX_THREADS];
    atomic_int wrong;
    int64_t factor;
    int64_t result[MAX_TASKS];
};

static void mark(void *ctx, int64_t task, int thread)
{
    struct board *b = ctx;

    if (task < 0 || task >= b->n_tasks || thread < 0 || thread >= b->n_threads) {
        atomic_fetch_add(&b->wrong, 1);
        return;
    }
    b->done[task]++;
    b->of_thread[thread]++;
    b->result[task] = task * b->factor;
}

static void check_run(struct thread_pool *pool, int64_t n_tasks, int64_t factor)
{
    struct board b = {.n_tasks = n_tasks, .n_threads = thread_pool_size(pool), .factor = factor};
    int64_t sum = 0;

    thread_pool_run(pool, n_tasks, mark, &b);
    EXPECT_INT(b.wrong, 0);
    for (int64_t i = 0; i < MAX_TASKS; i++) {
        EXPECT_INT(b.done[i], i < n_tasks);
        EXPECT_INT(b.result[i], i < n_tasks ? i * factor : 0);
    }
    for (int i = 0; i < b.n_threads; i++) {
        sum += b.of_thread[i];
    }
    EXPECT_INT(sum, n_tasks);
}

TEST(thread_pool_does_every_task_once)
{
    static const int64_t count[] = {0, 1, 7, 1000};
    struct err err;

    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        struct thread_pool *pool = NULL;

        EXPECT_OK(thread_pool_create(&pool, threads, &err));
        EXPECT_INT(thread_pool_size(pool), threads);
        for (int round = 0; round < 40; round++) {
            check_run(pool, count[round % 4], round);
        }
        thread_pool_free(pool);
    }
}

static void count_one(void *ctx, int64_t task, int thread)
{
    int64_t *sum = ctx;

    sum[task * 8] += thread >= 0; /* own cache line, so that the loop below is about waking up */
}

TEST(thread_pool_runs_thousands_of_short_runs)
{
    enum {
        RUNS = 3000
    };
    int64_t sum[3 * 8] = {0};
    struct thread_pool *pool = NULL;
    struct err err;

    EXPECT_OK(thread_pool_create(&pool, 3, &err));
    for (int i = 0; i < RUNS; i++) {
        thread_pool_run(pool, 3, count_one, sum);
        EXPECT_INT(sum[0] + sum[8] + sum[16], 3 * (i + 1)); /* all are done when run returns */
    }
    thread_pool_free(pool);
}

static void spin(void *ctx, int64_t task, int thread)
{
    atomic_int *hits = ctx;

    (void)thread;
    for (volatile int i = 0; i < 20000 * (int)(1 + task % 3); i++) {
    }
    atomic_fetch_add(hits, 1);
}

TEST(thread_pool_sleeps_and_wakes_between_long_tasks)
{
    struct thread_pool *pool = NULL;
    atomic_int hits = 0;
    atomic_int alone = 0;
    struct err err;

    EXPECT_OK(thread_pool_create(&pool, 4, &err));
    for (int i = 1; i <= 50; i++) {
        thread_pool_run(pool, 5, spin, &hits);
        EXPECT_INT(hits, 5 * i);
        spin(&alone, 2, 0); /* long enough for the workers to fall asleep */
    }
    thread_pool_free(pool);
}

struct meeting {
    int n;
    atomic_int arrived;
    atomic_int done;
    atomic_bool late;
};

/* Comes back only when every task has begun, workers' tasks after the caller's. */
static void meet(void *ctx, int64_t task, int thread)
{
    const struct timespec pause = {.tv_nsec = 3000000};
    const int64_t deadline = clock_now_ns() + 20000000000; /* rather fail than hang */
    struct meeting *m = ctx;

    (void)task;
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < m->n) {
        if (clock_now_ns() > deadline) {
            atomic_store(&m->late, true);
            return;
        }
        sched_yield();
    }
    if (thread > 0) {
        nanosleep(&pause, NULL);
    }
    atomic_fetch_add(&m->done, 1);
}

TEST(thread_pool_uses_all_its_threads_and_waits_for_them)
{
    struct err err;

    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        struct thread_pool *pool = NULL;
        struct meeting m = {.n = threads};

        EXPECT_OK(thread_pool_create(&pool, threads, &err));
        thread_pool_run(pool, threads, meet, &m);
        EXPECT_INT(m.done, threads);
        EXPECT(!m.late);
        thread_pool_free(pool);
    }
}

TEST(thread_pool_lives_without_a_run)
{
    struct err err;

    for (int i = 0; i < 50; i++) {
        struct thread_pool *pool = NULL;

        EXPECT_OK(thread_pool_create(&pool, 1 + i % MAX_THREADS, &err));
        thread_pool_free(pool);
    }
    thread_pool_free(NULL);
}

TEST(thread_pool_create_survives_every_failed_allocation)
{
    struct thread_pool *pool = NULL;
    struct err err;

    alloc_fail_at(1);
    EXPECT_INT(thread_pool_create(&pool, 3, &err), ERR_NO_MEMORY);
    EXPECT(alloc_fail_stop());
    EXPECT_STR(err.msg, "pool of 3 threads");
    EXPECT(!pool);
    alloc_fail_at(2);
    EXPECT_OK(thread_pool_create(&pool, 3, &err));
    EXPECT(!alloc_fail_stop()); /* one allocation is all */
    thread_pool_free(pool);
}

TEST(thread_pool_create_reports_a_thread_that_does_not_start)
{
    /* A stack larger than the address space: pthread_create fails, whoever we are. */
    struct thread_pool *pool = NULL;
    pthread_attr_t normal;
    pthread_attr_t huge;
    struct err err;
    int rc;

    EXPECT(pthread_getattr_default_np(&normal) == 0);
    EXPECT(pthread_attr_init(&huge) == 0);
    EXPECT(pthread_attr_setstacksize(&huge, (size_t)1 << 47) == 0);
    EXPECT(pthread_setattr_default_np(&huge) == 0);
    rc = thread_pool_create(&pool, 3, &err);
    EXPECT(pthread_setattr_default_np(&normal) == 0);
    EXPECT_INT(rc, ERR_NO_MEMORY);
    EXPECT_STR(err.msg, "thread 1 of 3 could not be started");
    EXPECT(!pool);
    pthread_attr_destroy(&huge);
    pthread_attr_destroy(&normal);
}
