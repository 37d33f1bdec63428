#include "kernels/device.h"

#include <cblas.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    DEVICE_MAX_THREADS = 1024,
    DEVICE_ALIGN = 64
};

static int cores_of_this_process(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    return CPU_COUNT(&set);
}

/* OpenBLAS maps a buffer of this size for each thread that calls it, and when it gets none it tries
 * again for ever. So ask the system first, where an error can still be one. */
#define BLAS_BUFFER_BYTES ((size_t)128 << 20)

static int check_blas_memory(int n_threads, struct err *err)
{
    const size_t bytes = ((size_t)n_threads + 1) * BLAS_BUFFER_BYTES;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED) {
        return err_set(err, ERR_NO_MEMORY,
                       "%zu MiB of address space for the matrix library on %d threads: %m",
                       bytes >> 20, n_threads);
    }
    munmap(p, bytes);
    return ERR_OK;
}

int device_open_cpu(struct device *dev, int n_threads, struct err *err)
{
    int rc;

    if (n_threads < 0 || n_threads > DEVICE_MAX_THREADS) {
        return err_set(err, ERR_INVALID, "threads: %d is not in 0..%d", n_threads,
                       DEVICE_MAX_THREADS);
    }
    if (n_threads == 0) {
        n_threads = cores_of_this_process();
    }
    *dev = (struct device){.kind = DEVICE_CPU};
    snprintf(dev->name, sizeof(dev->name), "cpu, %d thread%s", n_threads, n_threads > 1 ? "s" : "");
    rc = thread_pool_create(&dev->pool, n_threads, err);
    if (rc != ERR_OK) {
        return rc;
    }
    dev->scratch = aligned_alloc(DEVICE_ALIGN, (size_t)n_threads * DEVICE_SCRATCH_BYTES);
    if (!dev->scratch) {
        device_close(dev);
        return err_set(err, ERR_NO_MEMORY, "scratch of %d threads", n_threads);
    }
    /* The pool cuts the work; each piece is one single-threaded BLAS call. */
    openblas_set_num_threads(1);
    rc = check_blas_memory(n_threads, err);
    if (rc != ERR_OK) {
        device_close(dev);
    }
    return rc;
}

void device_close(struct device *dev)
{
    thread_pool_free(dev->pool);
    free(dev->scratch);
    *dev = (struct device){.kind = DEVICE_CPU};
}

int device_alloc(struct device *dev, size_t bytes, void **ret, struct err *err)
{
    void *p = NULL;

    (void)dev;
    if (bytes <= SIZE_MAX - DEVICE_ALIGN) {
        p = aligned_alloc(DEVICE_ALIGN, (bytes + DEVICE_ALIGN) & ~(size_t)(DEVICE_ALIGN - 1));
    }
    if (!p) {
        return err_set(err, ERR_NO_MEMORY, "%.1f MiB on the cpu device", (double)bytes / 1048576.0);
    }
    *ret = p;
    return ERR_OK;
}

void device_free(struct device *dev, void *p)
{
    (void)dev;
    free(p);
}

int device_upload(struct device *dev, const struct tensor *to, const void *from, struct err *err)
{
    (void)err;
    if (!dev->dry_run) {
        memcpy(to->data, from, tensor_bytes(to));
    }
    return ERR_OK;
}

int device_download(struct device *dev, void *to, const struct tensor *from, struct err *err)
{
    (void)err;
    if (!dev->dry_run) {
        memcpy(to, from->data, tensor_bytes(from));
    }
    return ERR_OK;
}

void device_parallel(struct device *dev, int64_t n_tasks, thread_pool_fn fn, void *ctx)
{
    thread_pool_run(dev->pool, n_tasks, fn, ctx);
}

void *device_scratch(struct device *dev, int thread)
{
    return dev->scratch + (size_t)thread * DEVICE_SCRATCH_BYTES;
}

int device_shape_err(struct err *err, const char *op, const char *arg, const struct tensor *t)
{
    char text[TENSOR_TEXT_MAX];

    return err_set(err, ERR_INVALID, "%s: %s is %s", op, arg, tensor_describe(t, text));
}
