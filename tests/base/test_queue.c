#include "base/queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

TEST(queue_hands_out_in_the_order_of_pushing)
{
    struct queue *q = NULL;
    struct err err;
    int item[7];

    EXPECT_OK(queue_create(&q, 3, &err));
    for (int round = 0; round < 5; round++) { /* around the ring more than once */
        EXPECT(queue_push(q, &item[0]));
        EXPECT(queue_try_push(q, &item[1]));
        EXPECT(queue_pop(q) == &item[0]);
        EXPECT(queue_push(q, &item[2]));
        EXPECT(queue_push(q, &item[3]));
        EXPECT(!queue_try_push(q, &item[4])); /* full */
        EXPECT(queue_pop(q) == &item[1]);
        EXPECT(queue_pop(q) == &item[2]);
        EXPECT(queue_pop(q) == &item[3]);
    }
    queue_free(q);
    queue_free(NULL);
}

TEST(queue_when_closed_refuses_pushes_and_gives_what_is_left)
{
    struct queue *q = NULL;
    struct err err;
    int item[2];

    EXPECT_OK(queue_create(&q, 4, &err));
    EXPECT(queue_push(q, &item[0]));
    EXPECT(queue_push(q, &item[1]));
    queue_close(q);
    queue_close(q);
    EXPECT(!queue_push(q, &item[0]));
    EXPECT(!queue_try_push(q, &item[0]));
    EXPECT(queue_pop(q) == &item[0]);
    EXPECT(queue_pop(q) == &item[1]);
    EXPECT(!queue_pop(q));
    EXPECT(!queue_pop(q));
    queue_free(q);
}

enum {
    PRODUCERS = 4,
    CONSUMERS = 3,
    PER_PRODUCER = 3000
};

struct traffic {
    struct queue *q;
    int item[PRODUCERS][PER_PRODUCER]; /* its producer's number, and how often it was taken */
    atomic_int next_producer;
    atomic_int next_consumer;
    int taken[CONSUMERS];
    bool out_of_order[CONSUMERS];
    atomic_int refused;
};

static struct traffic traffic;

static void *produce(void *arg)
{
    const int me = atomic_fetch_add(&traffic.next_producer, 1);

    for (int i = 0; i < PER_PRODUCER; i++) {
        if (!queue_push(traffic.q, &traffic.item[me][i])) {
            atomic_fetch_add(&traffic.refused, 1);
        }
    }
    return arg;
}

/* Items of one producer reach one consumer in order; each is written by whoever popped it. */
static void *consume(void *arg)
{
    const int me = atomic_fetch_add(&traffic.next_consumer, 1);
    int *last[PRODUCERS] = {NULL};
    int *item;

    while ((item = queue_pop(traffic.q)) != NULL) {
        const long producer = (item - &traffic.item[0][0]) / PER_PRODUCER;

        if (last[producer] && item <= last[producer]) {
            traffic.out_of_order[me] = true;
        }
        last[producer] = item;
        ++*item;
        traffic.taken[me]++;
    }
    return arg;
}

static bool all_taken_once(const int *item)
{
    for (int i = 0; i < PER_PRODUCER; i++) {
        if (item[i] != 1) {
            return false;
        }
    }
    return true;
}

TEST(queue_loses_and_doubles_nothing_between_threads)
{
    pthread_t producer[PRODUCERS];
    pthread_t consumer[CONSUMERS];
    struct err err;
    int taken = 0;

    EXPECT_OK(queue_create(&traffic.q, 5, &err));
    for (int i = 0; i < CONSUMERS; i++) {
        EXPECT(pthread_create(&consumer[i], NULL, consume, NULL) == 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        EXPECT(pthread_create(&producer[i], NULL, produce, NULL) == 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        EXPECT(pthread_join(producer[i], NULL) == 0);
    }
    queue_close(traffic.q);
    for (int i = 0; i < CONSUMERS; i++) {
        EXPECT(pthread_join(consumer[i], NULL) == 0);
        EXPECT(!traffic.out_of_order[i]);
        taken += traffic.taken[i];
    }
    EXPECT_INT(taken, PRODUCERS * PER_PRODUCER);
    EXPECT_INT(traffic.refused, 0);
    for (int i = 0; i < PRODUCERS; i++) {
        EXPECT(all_taken_once(traffic.item[i]));
    }
    queue_free(traffic.q);
}

static void *pop_one(void *q)
{
    return queue_pop(q);
}

static void *push_one(void *q)
{
    return queue_push(q, q) ? q : NULL;
}

static void a_moment(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};

    nanosleep(&pause, NULL);
}

TEST(queue_close_wakes_whoever_waits)
{
    pthread_t thread[4];
    struct queue *empty = NULL;
    struct queue *full = NULL;
    struct err err;
    int item;

    EXPECT_OK(queue_create(&empty, 1, &err));
    EXPECT_OK(queue_create(&full, 1, &err));
    EXPECT(queue_push(full, &item));
    for (int i = 0; i < 4; i++) {
        EXPECT(pthread_create(&thread[i], NULL, i < 2 ? pop_one : push_one, i < 2 ? empty : full) ==
               0);
    }
    a_moment(); /* most runs find them asleep; each order must work */
    queue_close(empty);
    queue_close(full);
    for (int i = 0; i < 4; i++) {
        void *result = &item;

        EXPECT(pthread_join(thread[i], &result) == 0);
        EXPECT(result == NULL);
    }
    EXPECT(queue_pop(full) == &item);
    queue_free(full);
    queue_free(empty);
}

TEST(queue_push_waits_for_room_and_pop_for_an_item)
{
    struct queue *q = NULL;
    struct err err;
    pthread_t thread;
    void *result = NULL;
    int item;

    EXPECT_OK(queue_create(&q, 1, &err));
    EXPECT(pthread_create(&thread, NULL, pop_one, q) == 0);
    a_moment();
    EXPECT(queue_push(q, &item));
    EXPECT(pthread_join(thread, &result) == 0);
    EXPECT(result == &item);
    EXPECT(queue_push(q, &item));
    EXPECT(pthread_create(&thread, NULL, push_one, q) == 0);
    a_moment();
    EXPECT(queue_pop(q) == &item);
    EXPECT(pthread_join(thread, &result) == 0);
    EXPECT(result == q);
    EXPECT(queue_pop(q) == q);
    queue_free(q);
}

TEST(queue_create_reports_what_it_cannot_get)
{
    struct queue *q = NULL;
    struct err err;

    alloc_fail_at(1);
    EXPECT_INT(queue_create(&q, 3, &err), ERR_NO_MEMORY);
    EXPECT(alloc_fail_stop());
    EXPECT(!q);
    EXPECT_STR(err.msg, "queue of 3 items");
    EXPECT_INT(queue_create(&q, SIZE_MAX / sizeof(void *) + 2, &err), ERR_NO_MEMORY);
    EXPECT_INT(queue_create(&q, SIZE_MAX / sizeof(void *), &err), ERR_NO_MEMORY);
    EXPECT(!q);
    alloc_fail_at(2);
    EXPECT_OK(queue_create(&q, 3, &err));
    EXPECT(!alloc_fail_stop()); /* one allocation is all */
    queue_free(q);
}
