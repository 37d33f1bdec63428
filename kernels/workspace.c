#include "kernels/workspace.h"

#include <math.h>

#include "base/size.h"
#include "kernels/elementwise.h"

/* Planned tensors have addresses from here on; nobody looks behind them. */
#define PLAN_BASE ((char *)(uintptr_t)4096)

enum {
    WORKSPACE_ALIGN = 256 /* what matrix libraries on a GPU like best */
};

/* A multiple of WORKSPACE_ALIGN, so that rounding up stays within it. */
#define USED_MAX (SIZE_MAX / 2 - (WORKSPACE_ALIGN - 1))

void workspace_init(struct workspace *ws, struct device *dev)
{
    *ws = (struct workspace){.dev = dev};
}

int workspace_commit(struct workspace *ws, size_t limit, struct err *err)
{
    void *base;
    int rc;

    CHECK_BUG(!ws->base);
    if (limit > 0 && ws->peak > limit) {
        return err_set(err, ERR_NO_VRAM,
                       "the plan needs %zu MiB of working memory, the limit is %zu MiB",
                       (ws->peak >> 20) + 1, limit >> 20);
    }
    rc = device_alloc(ws->dev, ws->peak, &base, err);
    if (rc != ERR_OK) {
        return err_prefix(err, "working memory of the session");
    }
    ws->base = base;
    ws->capacity = ws->peak;
    ws->used = 0;
    return ERR_OK;
}

void workspace_done(struct workspace *ws)
{
    if (ws->dev) {
        device_graphs_clear(ws->dev);
        device_free(ws->dev, ws->base);
    }
    *ws = (struct workspace){.dev = ws->dev};
}

static void poison(const struct workspace *ws, const struct tensor *t)
{
#ifdef SANAD_POISON
    if (ws->dev->kind == DEVICE_CPU && t->dtype == DTYPE_F32) {
        for (int64_t i = 0; i < tensor_count(t); i++) {
            ((float *)t->data)[i] = NAN;
        }
    }
#else
    (void)ws;
    (void)t;
#endif
}

int workspace_tensor(struct workspace *ws, struct tensor *ret, enum dtype dtype, int rank,
                     const int64_t *dims, struct err *err)
{
    int64_t count = 1;
    size_t bytes;

    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0 || !count_mul(&count, count, dims[i])) {
            return err_set(err, ERR_INVALID, "a tensor of the plan has too many elements");
        }
    }
    if (!size_mul(&bytes, (size_t)count, dtype_size(dtype)) || bytes > USED_MAX - ws->used) {
        return err_set(err, ERR_NO_VRAM, "the plan is larger than the address space");
    }
    *ret = tensor_make((ws->base ? ws->base : PLAN_BASE) + ws->used, dtype, rank, dims);
    ws->used += (bytes + WORKSPACE_ALIGN - 1) & ~(size_t)(WORKSPACE_ALIGN - 1);
    if (ws->base) {
        CHECK_BUG(ws->used <= ws->capacity); /* the run must be the run that was planned */
        poison(ws, ret);
    } else if (ws->used > ws->peak) {
        ws->peak = ws->used;
    }
    return ERR_OK;
}

int workspace_as_act(struct workspace *ws, const struct tensor *x, struct tensor *ret,
                     struct err *err)
{
    int rc;

    if (x->dtype == ws->dev->act) {
        *ret = *x;
        return ERR_OK;
    }
    rc = workspace_tensor(ws, ret, ws->dev->act, x->rank, x->dim, err);
    return rc != ERR_OK ? rc : op_cast(ws->dev, ret, x, err);
}

size_t workspace_mark(const struct workspace *ws)
{
    return ws->used;
}

void workspace_rewind(struct workspace *ws, size_t mark)
{
    CHECK_BUG(mark <= ws->used);
    ws->used = mark;
}
