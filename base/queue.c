#include "base/queue.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/size.h"

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t not_empty;
    pthread_cond_t not_full;
    size_t capacity;
    size_t first;
    size_t count;
    bool closed;
    void *item[];
};

int queue_create(struct queue **ret, size_t capacity, struct err *err)
{
    struct queue *q = NULL;
    size_t bytes;

    CHECK_BUG(capacity > 0);
    if (size_mul(&bytes, capacity, sizeof(q->item[0])) && size_add(&bytes, bytes, sizeof(*q))) {
        q = calloc(1, bytes);
    }
    if (!q) {
        return err_set(err, ERR_NO_MEMORY, "queue of %zu items", capacity);
    }
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->not_empty, NULL);
    pthread_cond_init(&q->not_full, NULL);
    q->capacity = capacity;
    *ret = q;
    return ERR_OK;
}

void queue_free(struct queue *q)
{
    if (!q) {
        return;
    }
    CHECK_BUG(q->count == 0);
    pthread_cond_destroy(&q->not_full);
    pthread_cond_destroy(&q->not_empty);
    pthread_mutex_destroy(&q->mutex);
    free(q);
}

static bool push_locked(struct queue *q, void *item)
{
    if (q->closed || q->count == q->capacity) {
        return false;
    }
    q->item[(q->first + q->count) % q->capacity] = item;
    q->count++;
    pthread_cond_signal(&q->not_empty);
    return true;
}

bool queue_push(struct queue *q, void *item)
{
    bool done;

    pthread_mutex_lock(&q->mutex);
    while (!q->closed && q->count == q->capacity) {
        pthread_cond_wait(&q->not_full, &q->mutex);
    }
    done = push_locked(q, item);
    pthread_mutex_unlock(&q->mutex);
    return done;
}

bool queue_try_push(struct queue *q, void *item)
{
    bool done;

    pthread_mutex_lock(&q->mutex);
    done = push_locked(q, item);
    pthread_mutex_unlock(&q->mutex);
    return done;
}

void *queue_pop(struct queue *q)
{
    void *item = NULL;

    pthread_mutex_lock(&q->mutex);
    while (!q->closed && q->count == 0) {
        pthread_cond_wait(&q->not_empty, &q->mutex);
    }
    if (q->count > 0) {
        item = q->item[q->first];
        q->first = (q->first + 1) % q->capacity;
        q->count--;
        pthread_cond_signal(&q->not_full);
    }
    pthread_mutex_unlock(&q->mutex);
    return item;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->mutex);
    q->closed = true;
    pthread_cond_broadcast(&q->not_empty);
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->mutex);
}
