#include "storage/store_thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/sqlite_store.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/store_contract.h"
#include "tests/support/test.h"

static struct err err;

/* A loop that is woken through a pipe, as uv_async_send would. */
struct loop {
    int fds[2];
    pthread_t thread;
    struct store_thread *t;
    int n_done; /* of the loop thread, as is `failed` */
    bool failed;
};

static void wake(void *ctx)
{
    const struct loop *loop = ctx;

    if (write(loop->fds[1], "", 1) != 1) {
        abort();
    }
}

static void loop_open(struct loop *loop, struct store *store)
{
    *loop = (struct loop){.thread = pthread_self()};
    EXPECT(pipe(loop->fds) == 0);
    EXPECT_OK(store_thread_open(&loop->t, store, NULL, wake, loop, &err));
}

static void loop_close(struct loop *loop)
{
    store_thread_close(loop->t);
    close(loop->fds[0]);
    close(loop->fds[1]);
}

/* Until nothing is pending. */
static void loop_run(struct loop *loop)
{
    char c;

    while (store_thread_pending(loop->t) > 0) {
        EXPECT(read(loop->fds[0], &c, 1) == 1);
        store_thread_dispatch(loop->t);
    }
}

struct count_task {
    struct store_task task;
    struct loop *loop;
    int number;
    int *runs; /* of the storage thread until done */
    int run_as;
    int posts; /* so many more are posted by done, one after the other */
};

static void count_run(struct store_task *task, struct store *store, struct job_files *files)
{
    struct count_task *c = CONTAINER_OF(task, struct count_task, task);

    (void)files;
    if (pthread_equal(pthread_self(), c->loop->thread) || store) {
        abort();
    }
    c->run_as = (*c->runs)++;
}

static void count_done(struct store_task *task)
{
    struct count_task *c = CONTAINER_OF(task, struct count_task, task);

    if (!pthread_equal(pthread_self(), c->loop->thread) || c->run_as != c->loop->n_done) {
        c->loop->failed = true;
    }
    c->loop->n_done++;
    if (c->posts > 0) {
        c->posts--;
        store_thread_post(c->loop->t, task);
    }
}

enum {
    TASKS = 5000
};

/* runs is counted by the tasks. NOLINTNEXTLINE(readability-non-const-parameter) */
static struct count_task *make_tasks(struct loop *loop, int *runs)
{
    struct count_task *tasks = test_alloc(TASKS * sizeof(*tasks));

    for (int i = 0; i < TASKS; i++) {
        tasks[i] = (struct count_task){.task = {.run = count_run, .done = count_done},
                                       .loop = loop,
                                       .number = i,
                                       .runs = runs};
    }
    return tasks;
}

TEST(store_thread_runs_and_finishes_in_order)
{
    struct loop loop;
    struct count_task *tasks;
    int runs = 0;

    loop_open(&loop, NULL);
    tasks = make_tasks(&loop, &runs);
    for (int i = 0; i < TASKS; i++) {
        store_thread_post(loop.t, &tasks[i].task);
        if (i % 100 == 0) {
            store_thread_dispatch(loop.t);
        }
        EXPECT_INT(store_thread_pending(loop.t), i + 1 - loop.n_done);
    }
    loop_run(&loop);
    EXPECT_INT(loop.n_done, TASKS);
    EXPECT(!loop.failed);
    for (int i = 0; i < TASKS; i++) {
        EXPECT_INT(tasks[i].run_as, i);
    }
    loop_close(&loop);
    free(tasks);
}

TEST(store_thread_done_may_post)
{
    struct loop loop;
    struct count_task task;
    int runs = 0;

    loop_open(&loop, NULL);
    task = (struct count_task){
        .task = {.run = count_run, .done = count_done}, .loop = &loop, .runs = &runs, .posts = 99};
    store_thread_post(loop.t, &task.task);
    loop_run(&loop);
    EXPECT_INT(runs, 100);
    EXPECT(!loop.failed);
    loop_close(&loop);
}

TEST(store_thread_close_runs_what_was_posted)
{
    struct loop loop;
    struct count_task *tasks;
    int runs = 0;

    loop_open(&loop, NULL);
    tasks = make_tasks(&loop, &runs);
    tasks[TASKS - 1].posts = 10; /* even what the last one posts while closing */
    for (int i = 0; i < TASKS; i++) {
        store_thread_post(loop.t, &tasks[i].task);
    }
    store_thread_close(loop.t);
    loop.t = NULL;
    EXPECT_INT(loop.n_done, TASKS + 10);
    EXPECT_INT(runs, TASKS + 10);
    EXPECT(!loop.failed);
    loop_close(&loop); /* accepts NULL */
    free(tasks);
}

TEST(store_thread_closes_idle)
{
    for (int i = 0; i < 50; i++) {
        struct loop loop;

        loop_open(&loop, NULL);
        EXPECT_INT(store_thread_pending(loop.t), 0);
        store_thread_dispatch(loop.t);
        loop_close(&loop);
    }
}

/* ---- with a store ---- */

struct create_task {
    struct store_task task;
    struct job_row *row; /* owned */
    int64_t seq;
    int rc;
    struct err err;
};

static void create_run(struct store_task *task, struct store *store, struct job_files *files)
{
    struct create_task *c = CONTAINER_OF(task, struct create_task, task);
    struct store_event e = store_contract_event("video.queued", c->row->id, "{}");
    struct store_events events = {.event = &e, .n = 1};
    enum store_created outcome;
    char id[JOB_ID_SIZE];

    (void)files;
    c->rc = store_create(store, c->row, NULL, &events, &outcome, id, &c->err);
    c->seq = e.seq;
}

static void create_done(struct store_task *task)
{
    struct create_task *c = CONTAINER_OF(task, struct create_task, task);

    job_row_free(c->row);
    c->row = NULL;
}

TEST(store_thread_works_on_the_store)
{
    struct create_task tasks[50];
    struct store *store = NULL;
    struct loop loop;
    char path[500];
    char id[32];

    snprintf(path, sizeof(path), "%s/thread.db", test_dir());
    EXPECT_OK(sqlite_store_open(&store, path, &err));
    loop_open(&loop, store);
    for (size_t i = 0; i < ARRAY_LEN(tasks); i++) {
        snprintf(id, sizeof(id), "video_%d", (int)(i % 40)); /* the last ten are taken */
        tasks[i] = (struct create_task){.task = {.run = create_run, .done = create_done},
                                        .row = store_contract_row(id)};
        store_thread_post(loop.t, &tasks[i].task);
    }
    loop_run(&loop);
    for (size_t i = 0; i < ARRAY_LEN(tasks); i++) {
        EXPECT_INT(tasks[i].rc, i < 40 ? ERR_OK : ERR_INVALID);
        EXPECT(i == 0 || i >= 40 || tasks[i].seq == tasks[i - 1].seq + 1);
        EXPECT(!tasks[i].row);
    }
    loop_close(&loop);
    store_close(store);
}

TEST(store_thread_open_survives_failed_allocations)
{
    struct store_thread *t = NULL;

    alloc_fail_at(1);
    EXPECT_INT(store_thread_open(&t, NULL, NULL, wake, NULL, &err), ERR_NO_MEMORY);
    EXPECT(alloc_fail_stop());
    EXPECT(!t);
}
