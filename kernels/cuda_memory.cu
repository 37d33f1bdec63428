/*
 * Device memory. cudaMalloc waits for the whole GPU, so everything is allocated before work begins: tensors by
 * plan (workspace.c), scratch by the first run of each sequence.
 */
#include "kernels/cuda_gpu.cuh"

#include <stdlib.h>

static double mib(size_t bytes)
{
    return (double)bytes / 1048576.0;
}

static int no_vram(const struct cuda_gpu *gpu, size_t bytes, struct err *err)
{
    size_t free_bytes = 0;
    size_t total = 0;

    (void)cudaGetLastError();
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) {
        (void)cudaGetLastError();
    }
    return err_set(err, ERR_NO_VRAM, "%s: %.1f MiB are needed, %.1f of %.1f MiB are free",
                   gpu->place, mib(bytes), mib(free_bytes), mib(total));
}

static int over_limit(const struct cuda_gpu *gpu, size_t bytes, struct err *err)
{
    return err_set(err, ERR_NO_VRAM,
                   "%s: %.1f MiB are needed, %.1f of the limit of %.1f MiB are left", gpu->place,
                   mib(bytes), mib(gpu->limit - gpu->held), mib(gpu->limit));
}

int cuda_take(struct cuda_gpu *gpu, size_t bytes, void **ret, struct err *err)
{
    void *p = NULL;
    int rc = cuda_not_in_graph(gpu, "device memory", err);
    cudaError_t code;

    *ret = NULL;
    if (rc != ERR_OK) {
        return rc;
    }
    if (gpu->limit > 0 && bytes > gpu->limit - gpu->held) {
        return over_limit(gpu, bytes, err);
    }
    if (bytes > SIZE_MAX - CUDA_ALIGN) {
        return no_vram(gpu, bytes, err);
    }
    code = cudaMalloc(&p, (bytes + CUDA_ALIGN) & ~(size_t)(CUDA_ALIGN - 1));
    if (code == cudaErrorMemoryAllocation) {
        return no_vram(gpu, bytes, err);
    }
    rc = cuda_check(code, "cudaMalloc", err);
    if (rc == ERR_OK) {
        gpu->held += bytes;
        *ret = p;
    }
    return rc;
}

/* cudaFree waits for work that may still use it. When it fails the device is lost, and the next call that can say
 * so does. */
void cuda_give_back(struct cuda_gpu *gpu, void *p, size_t bytes)
{
    if (p) {
        gpu->held -= bytes;
        if (cudaFree(p) != cudaSuccess) {
            (void)cudaGetLastError();
        }
    }
}

static int remember(struct cuda_gpu *gpu, struct err *err)
{
    const size_t cap = gpu->cap_blocks ? 2 * gpu->cap_blocks : 64;
    struct cuda_block *blocks;

    if (gpu->n_blocks < gpu->cap_blocks) {
        return ERR_OK;
    }
    blocks = (struct cuda_block *)realloc(gpu->blocks, cap * sizeof(*blocks));
    if (!blocks) {
        return err_set(err, ERR_NO_MEMORY, "list of %zu pieces of device memory", cap);
    }
    gpu->blocks = blocks;
    gpu->cap_blocks = cap;
    return ERR_OK;
}

int cuda_alloc(struct device *dev, size_t bytes, void **ret, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    void *p = NULL;
    int rc = remember(gpu, err);

    if (rc == ERR_OK) {
        rc = cuda_take(gpu, bytes, &p, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    gpu->blocks[gpu->n_blocks].p = p;
    gpu->blocks[gpu->n_blocks].bytes = bytes;
    gpu->n_blocks++;
    gpu->used += bytes;
    gpu->peak = gpu->used > gpu->peak ? gpu->used : gpu->peak;
    *ret = p;
    return ERR_OK;
}

/* What came last goes first, as a rule. */
void cuda_free(struct device *dev, void *p)
{
    struct cuda_gpu *gpu = dev->gpu;
    size_t i = gpu->n_blocks;

    if (!p) {
        return;
    }
    while (i > 0 && gpu->blocks[i - 1].p != p) {
        i--;
    }
    CHECK_BUG(i > 0);
    gpu->used -= gpu->blocks[i - 1].bytes;
    cuda_give_back(gpu, p, gpu->blocks[i - 1].bytes);
    gpu->blocks[i - 1] = gpu->blocks[--gpu->n_blocks];
}

int cuda_host_alloc(struct device *dev, size_t bytes, void **ret, struct err *err)
{
    void *p = NULL;
    const cudaError_t code = cudaHostAlloc(&p, bytes > 0 ? bytes : 1, cudaHostAllocDefault);

    (void)dev;
    if (code == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return err_set(err, ERR_NO_MEMORY, "%.1f MiB of pinned host memory", mib(bytes));
    }
    if (code == cudaSuccess) {
        *ret = p;
    }
    return cuda_check(code, "cudaHostAlloc", err);
}

void cuda_host_free(struct device *dev, void *p)
{
    (void)dev;
    if (p && cudaFreeHost(p) != cudaSuccess) {
        (void)cudaGetLastError();
    }
}

void cuda_memory(struct device *dev, struct device_memory *ret)
{
    const struct cuda_gpu *gpu = dev->gpu;

    if (cudaMemGetInfo(&ret->free, &ret->total) != cudaSuccess) {
        (void)cudaGetLastError();
        ret->free = 0;
        ret->total = 0;
    }
    if (gpu->limit > 0 && ret->free > gpu->limit - gpu->held) {
        ret->free = gpu->limit - gpu->held;
    }
    ret->used = gpu->used;
    ret->peak = gpu->peak;
}

/* ---- scratch ---- */

/* At first so much that at usual sizes it is enough for good. */
static const size_t min_scratch = (size_t)16 << 20;

static int grow_scratch(struct device *dev, size_t bytes, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    const int s = gpu->selected;
    int rc = cuda_not_in_graph(gpu, "more scratch memory", err);

    if (rc == ERR_OK) {
        rc = CUDA_CALL(cudaStreamSynchronize(gpu->stream[s]), err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    cuda_graphs_clear(dev); /* they use the old memory */
    cuda_give_back(gpu, gpu->scratch[s], gpu->scratch_bytes[s]);
    gpu->scratch_bytes[s] = 0;
    rc = cuda_take(gpu, bytes, &gpu->scratch[s], err);
    if (rc != ERR_OK) {
        return err_prefix(err, "scratch memory");
    }
    gpu->scratch_bytes[s] = bytes;
    return ERR_OK;
}

int cuda_scratch(struct device *dev, size_t bytes, void **ret, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;

    if (bytes > gpu->scratch_bytes[gpu->selected]) {
        const int rc = grow_scratch(dev, bytes > min_scratch ? bytes : min_scratch, err);

        if (rc != ERR_OK) {
            return rc;
        }
    }
    *ret = gpu->scratch[gpu->selected];
    return ERR_OK;
}

void cuda_memory_done(struct cuda_gpu *gpu)
{
    for (int i = 0; i < DEVICE_STREAMS; i++) {
        cuda_give_back(gpu, gpu->scratch[i], gpu->scratch_bytes[i]);
    }
    free(gpu->blocks);
}
