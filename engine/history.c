#include "engine/history.h"

#include "base/err.h"
#include "kernels/elementwise.h"

static int64_t ring_size(const struct history *h)
{
    return h->window > 0 ? h->window + (h->revisable ? 1 : 0) : 0;
}

int history_init(struct history *h, struct transformer *tf, struct workspace *ws, int64_t hw,
                 int64_t window, bool revisable, struct err *err)
{
    int rc;

    *h = (struct history){.tf = tf, .window = window, .revisable = revisable};
    if (window != -1 && (window < 1 || window > HISTORY_MAX_WINDOW)) {
        return err_set(err, ERR_INVALID, "history_blocks: %lld is neither -1 nor in 1..%d",
                       (long long)window, HISTORY_MAX_WINDOW);
    }
    rc = transformer_state_alloc(tf, ws, hw, &h->sum, err);
    if (rc == ERR_OK) {
        rc = transformer_state_alloc(tf, ws, hw, &h->own, err);
    }
    if (rc == ERR_OK && revisable) {
        rc = transformer_state_alloc(tf, ws, hw, &h->before, err);
    }
    for (int64_t i = 0; i < ring_size(h) && rc == ERR_OK; i++) {
        rc = transformer_state_alloc(tf, ws, hw, &h->ring[i], err);
    }
    return rc;
}

const struct transformer_state *history_read(const struct history *h)
{
    return h->blocks > 0 ? &h->sum : NULL;
}

const struct transformer_state *history_before(const struct history *h)
{
    CHECK_BUG(h->revisable && h->blocks > 0);
    return h->blocks > 1 ? &h->before : NULL;
}

/* to = ring states of blocks [first, end), oldest first; the tail of the newest. */
static int sum_ring(struct history *h, const struct transformer_state *to, int64_t first,
                    int64_t end, struct err *err)
{
    const int64_t size = ring_size(h);
    int rc = transformer_state_copy(h->tf, to, &h->ring[first % size], err);

    for (int64_t i = first + 1; i < end && rc == ERR_OK; i++) {
        rc = transformer_state_add(h->tf, to, to, &h->ring[i % size], err);
    }
    return rc;
}

static int copy_tail(struct history *h, const struct transformer_state *to, struct device *dev,
                     struct err *err)
{
    return op_copy(dev, &to->tail, &h->own.tail, err);
}

/* The window before block `block`. */
static int64_t window_first(const struct history *h, int64_t block)
{
    return block > h->window ? block - h->window : 0;
}

static int push_window(struct history *h, struct device *dev, struct err *err)
{
    int rc = transformer_state_copy(h->tf, &h->ring[h->blocks % ring_size(h)], &h->own, err);

    if (rc == ERR_OK) {
        rc = sum_ring(h, &h->sum, window_first(h, h->blocks + 1), h->blocks + 1, err);
    }
    return rc != ERR_OK ? rc : copy_tail(h, &h->sum, dev, err);
}

static int push_all(struct history *h, struct device *dev, struct err *err)
{
    int rc;

    if (h->blocks == 0) {
        return transformer_state_copy(h->tf, &h->sum, &h->own, err);
    }
    rc = transformer_state_add(h->tf, &h->sum, &h->sum, &h->own, err);
    return rc != ERR_OK ? rc : copy_tail(h, &h->sum, dev, err);
}

int history_push(struct history *h, struct err *err)
{
    struct device *dev = transformer_device(h->tf);
    int rc = ERR_OK;

    if (h->revisable && h->blocks > 0) {
        rc = transformer_state_copy(h->tf, &h->before, &h->sum, err);
    }
    if (rc == ERR_OK) {
        rc = h->window > 0 ? push_window(h, dev, err) : push_all(h, dev, err);
    }
    h->blocks++;
    return rc;
}

int history_replace(struct history *h, struct err *err)
{
    int rc = ERR_OK;

    CHECK_BUG(h->revisable && h->blocks > 0);
    h->blocks--;
    if (h->blocks > 0) {
        rc = transformer_state_copy(h->tf, &h->sum, &h->before, err);
    }
    if (rc == ERR_OK) {
        struct device *dev = transformer_device(h->tf);

        rc = h->window > 0 ? push_window(h, dev, err) : push_all(h, dev, err);
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

int history_tensors(const struct history *h, const struct tensor **ret)
{
    const int64_t size = ring_size(h);
    int n = 0;

    if (h->blocks == 0) {
        return 0;
    }
    n = add_state(&h->sum, ret, n);
    n = add_state(&h->own, ret, n);
    if (h->revisable && h->blocks > 1) {
        n = add_state(&h->before, ret, n);
    }
    for (int64_t i = 0; i < size && i < h->blocks; i++) {
        n = add_state(&h->ring[i], ret, n);
    }
    return n;
}
