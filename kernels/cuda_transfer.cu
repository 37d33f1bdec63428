/*
 * Copies between host memory and the GPU. Only pinned memory is copied asynchronously, so all others pass through
 * a ring of pinned pieces: large ones for weights (while one is on its way the next is read from the mapped file
 * and converted), small ones for the tables of a step, which are many and must never wait behind weights.
 */
#include "kernels/cuda_gpu.cuh"

#include <string.h>

#include "kernels/convert.h"

enum {
    LARGE_SLOTS = 4,
    SMALL_SLOTS = CUDA_RING_MAX
};

static const size_t large_bytes = (size_t)16 << 20;
static const size_t small_bytes = (size_t)64 << 10;

void cuda_transfer_init(struct cuda_gpu *gpu)
{
    gpu->large.slot_bytes = large_bytes;
    gpu->large.n = LARGE_SLOTS;
    gpu->small.slot_bytes = small_bytes;
    gpu->small.n = SMALL_SLOTS;
}

static void ring_done(struct cuda_ring *ring)
{
    for (int i = 0; i < ring->n; i++) {
        if (ring->free[i]) {
            cudaEventDestroy(ring->free[i]);
            ring->free[i] = NULL;
        }
    }
    if (ring->memory) {
        cudaFreeHost(ring->memory);
        ring->memory = NULL;
    }
}

void cuda_transfer_done(struct cuda_gpu *gpu)
{
    ring_done(&gpu->large);
    ring_done(&gpu->small);
}

static int ring_make(struct cuda_ring *ring, struct err *err)
{
    void *p = NULL;
    int rc =
        CUDA_CALL(cudaHostAlloc(&p, (size_t)ring->n * ring->slot_bytes, cudaHostAllocDefault), err);

    ring->memory = (char *)p;
    for (int i = 0; i < ring->n && rc == ERR_OK; i++) {
        rc = CUDA_CALL(cudaEventCreateWithFlags(&ring->free[i],
                                                cudaEventDisableTiming | cudaEventBlockingSync),
                       err);
    }
    if (rc != ERR_OK) {
        ring_done(ring);
        return err_prefix(err, "pinned memory for copies");
    }
    return ERR_OK;
}

/* The next piece that no copy uses any more; *ret_slot is for ring_used(). */
static int ring_take(struct cuda_ring *ring, int *ret_slot, char **ret, struct err *err)
{
    int rc = ring->memory ? ERR_OK : ring_make(ring, err);

    if (rc != ERR_OK) {
        return rc;
    }
    *ret_slot = ring->next;
    *ret = ring->memory + (size_t)ring->next * ring->slot_bytes;
    rc = CUDA_CALL(cudaEventSynchronize(ring->free[ring->next]), err); /* never recorded: at once */
    ring->next = (ring->next + 1) % ring->n;
    return rc;
}

static int ring_used(struct cuda_ring *ring, int slot, cudaStream_t stream, struct err *err)
{
    return CUDA_CALL(cudaEventRecord(ring->free[slot], stream), err);
}

/* ---- up ---- */

int cuda_upload(struct device *dev, const struct tensor *to, const void *from,
                enum dtype from_dtype, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    const cudaStream_t stream = gpu->stream[gpu->selected];
    const size_t size = dtype_size(to->dtype);
    const int64_t n = tensor_count(to);
    struct cuda_ring *ring = (size_t)n * size <= small_bytes ? &gpu->small : &gpu->large;
    const int64_t step = (int64_t)(ring->slot_bytes / size);
    int rc = cuda_not_in_graph(gpu, "an upload", err);

    for (int64_t i = 0; i < n && rc == ERR_OK; i += step) {
        const int64_t m = n - i < step ? n - i : step;
        char *piece = NULL;
        int slot = 0;

        rc = ring_take(ring, &slot, &piece, err);
        if (rc != ERR_OK) {
            break;
        }
        convert_floats(piece, to->dtype, (const char *)from + (size_t)i * dtype_size(from_dtype),
                       from_dtype, m);
        rc = CUDA_CALL(cudaMemcpyAsync((char *)to->data + (size_t)i * size, piece, (size_t)m * size,
                                       cudaMemcpyHostToDevice, stream),
                       err);
        if (rc == ERR_OK) {
            rc = ring_used(ring, slot, stream, err);
        }
    }
    return rc;
}

/* ---- down ---- */

/* A piece that is on its way. */
struct piece {
    char *at, *to;
    size_t bytes;
    int slot;
};

static int start_piece(struct cuda_gpu *gpu, struct cuda_ring *ring, struct piece *p,
                       const char *from, struct err *err)
{
    const cudaStream_t stream = gpu->stream[gpu->selected];
    int rc = ring_take(ring, &p->slot, &p->at, err);

    if (rc == ERR_OK) {
        rc = CUDA_CALL(cudaMemcpyAsync(p->at, from, p->bytes, cudaMemcpyDeviceToHost, stream), err);
    }
    return rc == ERR_OK ? ring_used(ring, p->slot, stream, err) : rc;
}

static int finish_piece(const struct cuda_ring *ring, const struct piece *p, struct err *err)
{
    const int rc =
        p->bytes > 0 ? CUDA_CALL(cudaEventSynchronize(ring->free[p->slot]), err) : ERR_OK;

    if (rc == ERR_OK && p->bytes > 0) {
        memcpy(p->to, p->at, p->bytes);
    }
    return rc;
}

/* While a piece is copied out of the ring, the next one comes in. The stage word goes first. */
int cuda_download(struct device *dev, void *to, const struct tensor *from, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    const size_t bytes = tensor_bytes(from);
    struct cuda_ring *ring = bytes <= small_bytes ? &gpu->small : &gpu->large;
    struct piece last = {};
    int rc = cuda_not_in_graph(gpu, "a download", err);

    if (rc == ERR_OK) {
        rc = cuda_stage_copy(gpu, DEVICE_MARKS, err);
    }
    for (size_t i = 0; i < bytes && rc == ERR_OK; i += ring->slot_bytes) {
        struct piece next = {};

        next.bytes = bytes - i < ring->slot_bytes ? bytes - i : ring->slot_bytes;
        next.to = (char *)to + i;
        rc = start_piece(gpu, ring, &next, (const char *)from->data + i, err);
        if (rc == ERR_OK) {
            rc = finish_piece(ring, &last, err);
        }
        last = next;
    }
    if (rc == ERR_OK) {
        rc = finish_piece(ring, &last, err);
    }
    if (rc == ERR_OK && bytes == 0) {
        rc = CUDA_CALL(cudaStreamSynchronize(gpu->stream[gpu->selected]), err);
    }
    return rc == ERR_OK ? cuda_stage_report(gpu, DEVICE_MARKS, err) : rc;
}

int cuda_download_start(struct device *dev, void *to, const struct tensor *from, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    const int rc = cuda_not_in_graph(gpu, "a download", err);

    if (rc != ERR_OK) {
        return rc;
    }
    return CUDA_CALL(cudaMemcpyAsync(to, from->data, tensor_bytes(from), cudaMemcpyDeviceToHost,
                                     gpu->stream[gpu->selected]),
                     err);
}
