#include "engine/history.h"

#include "base/err.h"
#include "kernels/elementwise.h"

int history_init(struct history *h, struct transformer *tf, struct workspace *ws, int64_t hw,
                 int64_t window, struct err *err)
{
    int rc;

    *h = (struct history){.tf = tf, .window = window};
    if (window != -1 && (window < 1 || window > HISTORY_MAX_WINDOW)) {
        return err_set(err, ERR_INVALID, "history_blocks: %lld is neither -1 nor in 1..%d",
                       (long long)window, HISTORY_MAX_WINDOW);
    }
    rc = transformer_state_alloc(tf, ws, hw, &h->sum, err);
    if (rc == ERR_OK) {
        rc = transformer_state_alloc(tf, ws, hw, &h->own, err);
    }
    for (int64_t i = 0; i < window && rc == ERR_OK; i++) {
        rc = transformer_state_alloc(tf, ws, hw, &h->ring[i], err);
    }
    return rc;
}

const struct transformer_state *history_read(const struct history *h)
{
    return h->blocks > 0 ? &h->sum : NULL;
}

/* sum = the ring's states of blocks [first, end), oldest first. */
static int sum_ring(struct history *h, int64_t first, int64_t end, struct err *err)
{
    int rc = transformer_state_copy(h->tf, &h->sum, &h->ring[first % h->window], err);

    for (int64_t i = first + 1; i < end && rc == ERR_OK; i++) {
        rc = transformer_state_add(h->tf, &h->sum, &h->sum, &h->ring[i % h->window], err);
    }
    return rc;
}

static int add_own(struct history *h, struct err *err)
{
    const int64_t end = h->blocks + 1;
    int rc;

    if (h->window > 0) {
        rc = transformer_state_copy(h->tf, &h->ring[h->blocks % h->window], &h->own, err);
        return rc != ERR_OK ? rc : sum_ring(h, end > h->window ? end - h->window : 0, end, err);
    }
    if (h->blocks == 0) {
        return transformer_state_copy(h->tf, &h->sum, &h->own, err);
    }
    return transformer_state_add(h->tf, &h->sum, &h->sum, &h->own, err);
}

int history_push(struct history *h, struct err *err)
{
    int rc = add_own(h, err);

    if (rc == ERR_OK) { /* always the last block's, whatever the window */
        rc = op_copy(transformer_device(h->tf), &h->sum.tail, &h->own.tail, err);
    }
    h->blocks++;
    return rc;
}

static int add_state(const struct transformer_state *s, const struct tensor **ret, int n)
{
    ret[n] = &s->s;
    ret[n + 1] = &s->k_sum;
    ret[n + 2] = &s->tail;
    return n + 3;
}

int history_tensors(const struct history *h, int64_t blocks,
                    const struct tensor *ret[HISTORY_MAX_TENSORS])
{
    int n = 0;

    if (blocks > 0) {
        n = add_state(&h->sum, ret, n);
    }
    for (int64_t i = 0; i < h->window && i < blocks; i++) {
        n = add_state(&h->ring[i], ret, n);
    }
    return n;
}
