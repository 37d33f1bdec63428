#include "kernels/device.h"

#include <cblas.h>
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/convert.h"
#include "kernels/cuda_api.h"

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
    if (dev->kind == DEVICE_CUDA) {
        dev->cuda->close(dev);
    }
    if (dev->plugin) {
        dlclose(dev->plugin);
    }
    thread_pool_free(dev->pool);
    free(dev->scratch);
    *dev = (struct device){.kind = DEVICE_CPU};
}

/* ---- memory ---- */

int device_alloc(struct device *dev, size_t bytes, void **ret, struct err *err)
{
    void *p = NULL;

    if (dev->kind == DEVICE_CUDA) {
        return dev->cuda->alloc(dev, bytes, ret, err);
    }
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
    if (dev->kind == DEVICE_CUDA) {
        dev->cuda->free(dev, p);
    } else {
        free(p);
    }
}

int device_host_alloc(struct device *dev, size_t bytes, void **ret, struct err *err)
{
    return dev->kind == DEVICE_CUDA ? dev->cuda->host_alloc(dev, bytes, ret, err)
                                    : device_alloc(dev, bytes, ret, err);
}

void device_host_free(struct device *dev, void *p)
{
    if (dev->kind == DEVICE_CUDA) {
        dev->cuda->host_free(dev, p);
    } else {
        free(p);
    }
}

size_t device_describe(struct device *dev, char *text, size_t size)
{
    if (dev->kind == DEVICE_CUDA) {
        return dev->cuda->describe(dev, text, size);
    }
    if (size > 0) {
        text[0] = '\0';
    }
    return 0;
}

void device_memory(struct device *dev, struct device_memory *ret)
{
    *ret = (struct device_memory){0};
    if (dev->kind == DEVICE_CUDA) {
        dev->cuda->memory(dev, ret);
    }
}

/* Does a call go to the plugin? */
static bool is_async(const struct device *dev)
{
    return dev->kind == DEVICE_CUDA && !dev->dry_run;
}

/* ---- copies ---- */

int device_upload_as(struct device *dev, const struct tensor *to, const void *from,
                     enum dtype from_dtype, struct err *err)
{
    const bool floats =
        (to->dtype == DTYPE_F32 || to->dtype == DTYPE_BF16) &&
        (from_dtype == DTYPE_F32 || from_dtype == DTYPE_BF16 || from_dtype == DTYPE_F16);

    if (to->dtype != from_dtype && !floats) {
        return err_set(err, ERR_INVALID, "upload: %s from %s", dtype_name(to->dtype),
                       dtype_name(from_dtype));
    }
    if (is_async(dev)) {
        return dev->cuda->upload(dev, to, from, from_dtype, err);
    }
    if (dev->dry_run) {
        return ERR_OK;
    }
    convert_floats(to->data, to->dtype, from, from_dtype, tensor_count(to));
    return ERR_OK;
}

int device_upload(struct device *dev, const struct tensor *to, const void *from, struct err *err)
{
    return device_upload_as(dev, to, from, to->dtype, err);
}

int device_download(struct device *dev, void *to, const struct tensor *from, struct err *err)
{
    if (is_async(dev)) {
        return dev->cuda->download(dev, to, from, err);
    }
    if (dev->dry_run) {
        return ERR_OK;
    }
    memcpy(to, from->data, tensor_bytes(from));
    return ERR_OK;
}

int device_download_start(struct device *dev, void *to, const struct tensor *from, struct err *err)
{
    return is_async(dev) ? dev->cuda->download_start(dev, to, from, err)
                         : device_download(dev, to, from, err);
}

/* ---- streams, marks and graphs: only a GPU has them ---- */

void device_select(struct device *dev, enum device_stream stream)
{
    if (is_async(dev)) {
        dev->cuda->select(dev, stream);
    }
}

int device_mark(struct device *dev, enum device_mark mark, struct err *err)
{
    return is_async(dev) ? dev->cuda->mark(dev, mark, err) : ERR_OK;
}

int device_follow(struct device *dev, enum device_mark mark, struct err *err)
{
    return is_async(dev) ? dev->cuda->follow(dev, mark, err) : ERR_OK;
}

int device_wait(struct device *dev, enum device_mark mark, struct err *err)
{
    return is_async(dev) ? dev->cuda->wait(dev, mark, err) : ERR_OK;
}

int device_graph_begin(struct device *dev, uint64_t key, bool *ret_replayed, struct err *err)
{
    *ret_replayed = false;
    return is_async(dev) ? dev->cuda->graph_begin(dev, key, ret_replayed, err) : ERR_OK;
}

int device_graph_end(struct device *dev, struct err *err)
{
    return is_async(dev) ? dev->cuda->graph_end(dev, err) : ERR_OK;
}

void device_graph_abort(struct device *dev)
{
    if (is_async(dev)) {
        dev->cuda->graph_abort(dev);
    }
}

void device_graphs_clear(struct device *dev)
{
    if (dev->kind == DEVICE_CUDA) {
        dev->cuda->graphs_clear(dev);
    }
}

/* ---- for CPU operations ---- */

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
