/*
 * queue.h - a bounded queue of pointers between threads; pushing gives the pointer away.
 *
 * After queue_close() pushes are refused, and pops return what is left, then NULL. The maker
 * drains and frees what is left before queue_free(). Any thread.
 */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct queue;

MUST_CHECK int queue_create(struct queue **ret, size_t capacity, struct err *err);

/* Accepts NULL. The queue must be empty and unused. */
void queue_free(struct queue *q);

/* Waits while full. False when the queue is closed: the caller keeps item. */
MUST_CHECK bool queue_push(struct queue *q, void *item);

/* Does not wait. False when full or closed: the caller keeps item. */
MUST_CHECK bool queue_try_push(struct queue *q, void *item);

/* Waits while empty. NULL when closed and empty. */
void *queue_pop(struct queue *q);

/* Wakes everybody; idempotent. */
void queue_close(struct queue *q);

#endif
