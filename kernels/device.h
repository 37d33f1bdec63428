/*
 * device.h - what computes: today the CPU, with room for a GPU backend beside it.
 *
 * An operation is a trio: op.h states the contract, op.c holds op_NAME() (checks the shapes once,
 * then DEVICE_CALL) and NAME_cpu(), and the GPU implementation will stand in op.cu. DEVICE_CALL is
 * the one place where a backend is chosen.
 *
 * The CPU device has a pool of threads, and for each thread a piece of scratch memory of constant
 * size, so that no operation allocates. Work is cut by shape, never by the number of threads: the
 * same inputs give the same bytes with any number of threads.
 *
 * A device is used by one thread, the engine thread. Pointers in tensors are device pointers.
 */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/thread_pool.h"
#include "kernels/tensor.h"

C_BEGIN

enum device_kind {
    DEVICE_CPU,
};

/* Scratch of one CPU thread. Operations choose their tiles so as to fit. */
#define DEVICE_SCRATCH_BYTES ((size_t)8 << 20)

struct device {
    enum device_kind kind;
    char name[64];            /* for people: "cpu, 2 threads" */
    bool dry_run;             /* operations check their shapes and do nothing else */
    struct thread_pool *pool; /* owned; CPU */
    char *scratch;            /* owned; n_threads * DEVICE_SCRATCH_BYTES */
};

/* n_threads 0: one per core this process may use. The device is caller's storage.
 * Errors: ERR_INVALID n_threads outside 0..1024, ERR_NO_MEMORY. */
MUST_CHECK int device_open_cpu(struct device *dev, int n_threads, struct err *err);

/* Accepts a zeroed struct. Everything allocated on the device must be freed before. */
void device_close(struct device *dev);

/* Device memory, 64-byte aligned, contents undefined. device_free accepts NULL. */
MUST_CHECK int device_alloc(struct device *dev, size_t bytes, void **ret, struct err *err);
void device_free(struct device *dev, void *p);

/* Copies between host memory and a tensor; all its bytes. Do nothing in a dry run. */
MUST_CHECK int device_upload(struct device *dev, const struct tensor *to, const void *from,
                             struct err *err);
MUST_CHECK int device_download(struct device *dev, void *to, const struct tensor *from,
                               struct err *err);

/* For CPU operations: runs fn over the tasks; each thread's scratch. */
void device_parallel(struct device *dev, int64_t n_tasks, thread_pool_fn fn, void *ctx);
void *device_scratch(struct device *dev, int thread);

#define DEVICE_CALL(dev, op, ...) ((dev)->dry_run ? ERR_OK : op##_cpu(__VA_ARGS__))

/* A shape error names the operation, the argument and what it has. */
int device_shape_err(struct err *err, const char *op, const char *arg, const struct tensor *t);

C_END

#endif
