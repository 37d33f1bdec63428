#include "storage/store_thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct task_list {
    struct store_task *first;
    struct store_task *last;
};

struct store_thread {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t posted_one;
    pthread_cond_t finished_one;
    struct task_list posted;   /* under the mutex, as are the two below */
    struct task_list finished; /* waits for dispatch */
    bool closing;
    int pending; /* of the loop thread */
    struct store *store;
    struct job_files *files;
    void (*wake)(void *ctx);
    void *ctx;
};

static void add(struct task_list *list, struct store_task *task)
{
    task->next = NULL;
    if (list->last) {
        list->last->next = task;
    } else {
        list->first = task;
    }
    list->last = task;
}

static struct store_task *take(struct task_list *list)
{
    struct store_task *task = list->first;

    if (task) {
        list->first = task->next;
        if (!list->first) {
            list->last = NULL;
        }
    }
    return task;
}

/* NULL: nothing comes any more. */
static struct store_task *next_task(struct store_thread *t)
{
    struct store_task *task;

    pthread_mutex_lock(&t->mutex);
    while (!t->posted.first && !t->closing) {
        pthread_cond_wait(&t->posted_one, &t->mutex);
    }
    task = take(&t->posted);
    pthread_mutex_unlock(&t->mutex);
    return task;
}

static void *run(void *arg)
{
    struct store_thread *t = arg;
    struct store_task *task;

    while ((task = next_task(t)) != NULL) {
        bool was_empty;

        task->run(task, t->store, t->files);
        pthread_mutex_lock(&t->mutex);
        was_empty = !t->finished.first;
        add(&t->finished, task);
        pthread_cond_signal(&t->finished_one);
        pthread_mutex_unlock(&t->mutex);
        if (was_empty) { /* else a wake is still on its way */
            t->wake(t->ctx);
        }
    }
    return NULL;
}

int store_thread_open(struct store_thread **ret, struct store *store, struct job_files *files,
                      void (*wake)(void *ctx), void *ctx, struct err *err)
{
    struct store_thread *t = calloc(1, sizeof(*t));
    int failed;

    if (!t) {
        return err_set(err, ERR_NO_MEMORY, "the storage thread");
    }
    t->store = store;
    t->files = files;
    t->wake = wake;
    t->ctx = ctx;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->posted_one, NULL);
    pthread_cond_init(&t->finished_one, NULL);
    failed = pthread_create(&t->thread, NULL, run, t);
    if (failed) {
        pthread_cond_destroy(&t->finished_one);
        pthread_cond_destroy(&t->posted_one);
        pthread_mutex_destroy(&t->mutex);
        free(t);
        return err_set(err, ERR_NO_MEMORY, "the storage thread: %s", strerror(failed));
    }
    *ret = t;
    return ERR_OK;
}

static void wait_for_one(struct store_thread *t)
{
    pthread_mutex_lock(&t->mutex);
    while (!t->finished.first) {
        pthread_cond_wait(&t->finished_one, &t->mutex);
    }
    pthread_mutex_unlock(&t->mutex);
}

void store_thread_close(struct store_thread *t)
{
    if (!t) {
        return;
    }
    while (t->pending > 0) { /* what their done posts, too */
        wait_for_one(t);
        store_thread_dispatch(t);
    }
    pthread_mutex_lock(&t->mutex);
    t->closing = true;
    pthread_cond_signal(&t->posted_one);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->finished_one);
    pthread_cond_destroy(&t->posted_one);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

void store_thread_post(struct store_thread *t, struct store_task *task)
{
    t->pending++;
    pthread_mutex_lock(&t->mutex);
    add(&t->posted, task);
    pthread_cond_signal(&t->posted_one);
    pthread_mutex_unlock(&t->mutex);
}

static struct store_task *next_finished(struct store_thread *t)
{
    struct store_task *task;

    pthread_mutex_lock(&t->mutex);
    task = take(&t->finished);
    pthread_mutex_unlock(&t->mutex);
    return task;
}

void store_thread_dispatch(struct store_thread *t)
{
    struct store_task *task;

    while ((task = next_finished(t)) != NULL) {
        t->pending--;
        task->done(task);
    }
}

int store_thread_pending(const struct store_thread *t)
{
    return t->pending;
}
