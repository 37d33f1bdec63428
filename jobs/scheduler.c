#include "jobs/scheduler.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_CLIENTS = 4096 /* remembered; the one served longest ago is forgotten */
};

struct served {
    char *client; /* owned */
    uint64_t turn;
};

struct scheduler {
    struct served *served; /* owned [n] */
    int n, capacity;
    uint64_t turn; /* of the last start */
};

int scheduler_create(struct scheduler **ret, struct err *err)
{
    struct scheduler *s = calloc(1, sizeof(*s));

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "scheduler");
    }
    *ret = s;
    return ERR_OK;
}

void scheduler_free(struct scheduler *s)
{
    if (!s) {
        return;
    }
    for (int i = 0; i < s->n; i++) {
        free(s->served[i].client);
    }
    free(s->served);
    free(s);
}

static struct served *find(const struct scheduler *s, const char *client)
{
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->served[i].client, client) == 0) {
            return &s->served[i];
        }
    }
    return NULL;
}

/* 0: never. */
static uint64_t last_turn(const struct scheduler *s, const char *client)
{
    const struct served *v = find(s, client);

    return v ? v->turn : 0;
}

/* Is a to run before b? Of equals the one that comes first in the list, which is in order of age. */
static bool goes_before(const struct scheduler_job *a, uint64_t turn_a,
                        const struct scheduler_job *b, uint64_t turn_b)
{
    if (a->priority != b->priority) {
        return a->priority > b->priority;
    }
    if (a->begun != b->begun) {
        return a->begun;
    }
    return turn_a < turn_b;
}

int scheduler_pick(const struct scheduler *s, const struct scheduler_job *jobs, int n)
{
    uint64_t best_turn = 0;
    int best = -1;

    for (int i = 0; i < n; i++) {
        const uint64_t turn = last_turn(s, jobs[i].client);

        if (best < 0 || goes_before(&jobs[i], turn, &jobs[best], best_turn)) {
            best = i;
            best_turn = turn;
        }
    }
    return best;
}

static struct served *forget_oldest(struct scheduler *s)
{
    struct served *oldest = &s->served[0];

    for (int i = 1; i < s->n; i++) {
        if (s->served[i].turn < oldest->turn) {
            oldest = &s->served[i];
        }
    }
    free(oldest->client);
    return oldest;
}

static struct served *new_place(struct scheduler *s)
{
    if (s->n == MAX_CLIENTS) {
        return forget_oldest(s);
    }
    if (s->n == s->capacity) {
        const int capacity = s->capacity ? 2 * s->capacity : 16;
        struct served *grown = realloc(s->served, (size_t)capacity * sizeof(*grown));

        if (!grown) {
            return NULL;
        }
        s->served = grown;
        s->capacity = capacity;
    }
    return &s->served[s->n++];
}

void scheduler_served(struct scheduler *s, const char *client)
{
    struct served *v = find(s, client);

    if (!v) {
        char *copy = strdup(client);

        v = copy ? new_place(s) : NULL;
        if (!v) {
            free(copy);
            return;
        }
        v->client = copy;
    }
    v->turn = ++s->turn;
}

/* The turns that the clients of the list would have while it is worked off. */
static void order_with_turns(const struct scheduler_job *jobs, int n, uint64_t *turn, bool *taken,
                             int *ret_order)
{
    uint64_t next = UINT64_MAX / 2;

    for (int k = 0; k < n; k++) {
        int best = -1;

        for (int i = 0; i < n; i++) {
            if (!taken[i] &&
                (best < 0 || goes_before(&jobs[i], turn[i], &jobs[best], turn[best]))) {
                best = i;
            }
        }
        taken[best] = true;
        ret_order[k] = best;
        next++;
        for (int i = 0; i < n; i++) {
            if (strcmp(jobs[i].client, jobs[best].client) == 0) {
                turn[i] = next;
            }
        }
    }
}

void scheduler_order(const struct scheduler *s, const struct scheduler_job *jobs, int n,
                     int *ret_order)
{
    uint64_t *turn = calloc((size_t)n + 1, sizeof(*turn));
    bool *taken = calloc((size_t)n + 1, sizeof(*taken));

    for (int i = 0; i < n; i++) {
        ret_order[i] = i;
    }
    if (turn && taken) {
        for (int i = 0; i < n; i++) {
            turn[i] = last_turn(s, jobs[i].client);
        }
        order_with_turns(jobs, n, turn, taken, ret_order);
    }
    free(taken);
    free(turn);
}
