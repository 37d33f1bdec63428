/*
 * workspace.h - the activation arena of a session: sizes first, then one allocation.
 *
 * While planning, tensors get addresses but no memory, and the peak is recorded; the whole
 * pipeline runs once on a device in dry_run. workspace_commit() then allocates exactly the peak, and
 * the same calls in the same order fit without any further allocation. Mark and rewind between
 * stages. A plan over `limit` is ERR_NO_VRAM before the job starts, never in its middle.
 *
 * In debug builds (SANAD_POISON) a new F32 tensor is filled with NaN, so that reading what was
 * never written shows. Engine thread.
 */
#ifndef KERNELS_WORKSPACE_H
#define KERNELS_WORKSPACE_H

#include "kernels/device.h"

C_BEGIN

struct workspace {
    struct device *dev; /* borrowed */
    char *base;         /* owned device memory; NULL while planning */
    size_t capacity;
    size_t used;
    size_t peak;
};

/* Starts planning. */
void workspace_init(struct workspace *ws, struct device *dev);

/* Allocates the planned peak; ERR_NO_VRAM names the bytes needed and the limit (0: none). */
MUST_CHECK int workspace_commit(struct workspace *ws, size_t limit, struct err *err);

void workspace_done(struct workspace *ws);

/* A tensor that lives until the workspace is rewound to before it. */
#define WORKSPACE_F32(ws, ret, err, ...)                                                           \
    workspace_tensor((ws), (ret), DTYPE_F32,                                                       \
                     (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),              \
                     (const int64_t[]){__VA_ARGS__}, (err))
MUST_CHECK int workspace_tensor(struct workspace *ws, struct tensor *ret, enum dtype dtype,
                                int rank, const int64_t *dims, struct err *err);

/* The same for activations: of the type that the device keeps them in (dev->act). */
#define WORKSPACE_ACT(ws, ret, err, ...)                                                           \
    workspace_tensor((ws), (ret), (ws)->dev->act,                                                  \
                     (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),              \
                     (const int64_t[]){__VA_ARGS__}, (err))

/* x (F32) as activations: x itself where they are F32, else a copy in the workspace. */
MUST_CHECK int workspace_as_act(struct workspace *ws, const struct tensor *x, struct tensor *ret,
                                struct err *err);

size_t workspace_mark(const struct workspace *ws);
void workspace_rewind(struct workspace *ws, size_t mark);

C_END

#endif
