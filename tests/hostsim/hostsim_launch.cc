/*
 * What streams do when it is their turn: kernels, copies, fills. And the calls that issue them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/hostsim/hostsim_sim.h"

/* ---- kernels ---- */

struct func {
    struct func *next;
    const void *func;
    int max_shared;
};
static struct func *funcs;

static int max_shared_of(const void *func)
{
    for (const struct func *f = funcs; f != NULL; f = f->next) {
        if (f->func == func) {
            return f->max_shared;
        }
    }
    return HOSTSIM_DEFAULT_SHARED;
}

cudaError_t cudaFuncSetAttribute(const void *func, enum cudaFuncAttribute attr, int value)
{
    HOSTSIM_TRY_ALIVE();
    struct func *f = funcs;

    if (attr == cudaFuncAttributePreferredSharedMemoryCarveout) {
        return cudaSuccess;
    }
    if (func == NULL || attr != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        value > HOSTSIM_MAX_SHARED) {
        return hostsim_error(func == NULL ? cudaErrorInvalidDeviceFunction : cudaErrorInvalidValue);
    }
    while (f != NULL && f->func != func) {
        f = f->next;
    }
    if (f == NULL) {
        f = (struct func *)malloc(sizeof(*f));
        if (f == NULL) {
            return hostsim_error(cudaErrorMemoryAllocation);
        }
        *f = {funcs, func, 0};
        funcs = f;
    }
    f->max_shared = value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *ret, const void *func)
{
    HOSTSIM_TRY_ALIVE();
    if (func == NULL) {
        return hostsim_error(cudaErrorInvalidDeviceFunction);
    }
    *ret = {};
    ret->maxThreadsPerBlock = HOSTSIM_MAX_THREADS;
    ret->numRegs = 64;
    ret->binaryVersion = 90;
    ret->ptxVersion = 90;
    ret->maxDynamicSharedSizeBytes = max_shared_of(func);
    return cudaSuccess;
}

static cudaError_t check_launch(const struct hostsim_kernel *k)
{
    const uint64_t threads = (uint64_t)k->block.x * k->block.y * k->block.z;

    if (threads == 0 || threads > HOSTSIM_MAX_THREADS || k->block.z > 64 || k->grid.x == 0 ||
        k->grid.y == 0 || k->grid.z == 0 || k->grid.x > 0x7fffffff || k->grid.y > 65535 ||
        k->grid.z > 65535) {
        return cudaErrorInvalidConfiguration;
    }
    if (k->shared > (size_t)max_shared_of(k->func)) {
        return cudaErrorInvalidValue;
    }
    if (threads % 32 != 0) {
        hostsim_bug("kernel %s: a block of %u threads is not a multiple of 32", k->name,
                    (unsigned)threads);
    }
    return cudaSuccess;
}

void hostsim_launch(const struct hostsim_kernel *kernel, const void *args, size_t args_bytes,
                    cudaStream_t stream)
{
    struct CUstream_st *s = hostsim_stream(stream);
    struct hostsim_work *w;

    if (hostsim_lost() != cudaSuccess) {
        return;
    }
    const cudaError_t code = s == NULL ? cudaErrorInvalidResourceHandle : check_launch(kernel);

    if (code != cudaSuccess) {
        (void)hostsim_error(code);
        return;
    }
    w = hostsim_work_create(HOSTSIM_WORK_KERNEL, args_bytes);
    w->kernel = *kernel;
    memcpy(w->extra, args, args_bytes);
    (void)hostsim_issue(s, w);
}

/* Is this the launch that SANAD_HOSTSIM_FAIL asks for? */
static bool shall_fail(uint64_t number)
{
    const struct hostsim_config *config = hostsim_config_get();
    int fd;

    if (number != config->fail_at) {
        return false;
    }
    if (config->fail_once == NULL) {
        return true;
    }
    fd = open(config->fail_once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

void hostsim_run_work(const struct hostsim_work *w)
{
    static uint64_t number;
    const void *from = w->from == NULL ? w->extra : w->from;

    if (hostsim_lost() != cudaSuccess) {
        return;
    }
    switch (w->kind) {
    case HOSTSIM_WORK_KERNEL:
        if (shall_fail(++number)) {
            (void)hostsim_error(cudaErrorIllegalAddress);
            return;
        }
        hostsim_run_kernel(&w->kernel, w->extra, number);
        return;
    case HOSTSIM_WORK_COPY:
        memmove(w->to, from, w->bytes);
        return;
    case HOSTSIM_WORK_SET:
        memset(w->to, w->value, w->bytes);
        return;
    default:
        hostsim_bug("work of kind %d", w->kind);
    }
}

/* ---- copies ---- */

/* What kind of memory the two sides are; an error when that is not what `kind` says, or a side on the device
 * reaches over the end of its allocation. */
static cudaError_t check_copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                              enum hostsim_memory *ret_to, enum hostsim_memory *ret_from)
{
    bool to_inside, from_inside;

    *ret_to = hostsim_memory_of(to, bytes, &to_inside);
    *ret_from = hostsim_memory_of(from, bytes, &from_inside);
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;

    if ((*ret_to != HOSTSIM_PAGEABLE && !to_inside) ||
        (*ret_from != HOSTSIM_PAGEABLE && !from_inside)) {
        return cudaErrorInvalidValue;
    }
    if (kind != cudaMemcpyDefault && (to_device != (*ret_to == HOSTSIM_DEVICE) ||
                                      from_device != (*ret_from == HOSTSIM_DEVICE))) {
        return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}

static cudaError_t issue_copy(struct CUstream_st *s, void *to, const void *from, size_t bytes,
                              bool staged)
{
    struct hostsim_work *w = hostsim_work_create(HOSTSIM_WORK_COPY, staged ? bytes : 0);

    w->to = to;
    w->from = from;
    w->bytes = bytes;
    if (staged) {
        memcpy(w->extra, from, bytes);
        w->from = NULL;
    }
    return hostsim_issue(s, w);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = hostsim_stream(stream);
    enum hostsim_memory to_kind, from_kind;

    if (s == NULL) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    if (bytes == 0) {
        return cudaSuccess;
    }
    cudaError_t code = check_copy(to, from, bytes, kind, &to_kind, &from_kind);

    if (code != cudaSuccess) {
        return hostsim_error(code);
    }
    const bool pageable = to_kind == HOSTSIM_PAGEABLE || from_kind == HOSTSIM_PAGEABLE;

    if (pageable && s->capture != NULL) {
        s->invalidated = true;
        return hostsim_error(cudaErrorStreamCaptureUnsupported);
    }
    code = pageable ? hostsim_forbid_capture() : cudaSuccess;
    if (code == cudaSuccess) {
        code = issue_copy(s, to, from, bytes, from_kind == HOSTSIM_PAGEABLE);
    }
    /* To memory that is not pinned, CUDA returns when it is there. */
    if (code == cudaSuccess && to_kind == HOSTSIM_PAGEABLE) {
        code = hostsim_drain(s);
    }
    return code;
}

/* Returns when the host's memory may be reused; what goes to the device may still be under way, and other
 * streams that do not block must not count on it. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    HOSTSIM_TRY_ALIVE();
    enum hostsim_memory to_kind, from_kind;
    cudaError_t code = check_copy(to, from, bytes, kind, &to_kind, &from_kind);

    if (code != cudaSuccess) {
        return hostsim_error(code);
    }
    code = hostsim_forbid_capture();
    if (code != cudaSuccess || bytes == 0) {
        return code;
    }
    code = issue_copy(hostsim_stream(NULL), to, from, bytes, from_kind == HOSTSIM_PAGEABLE);
    if (code == cudaSuccess && (to_kind != HOSTSIM_DEVICE || from_kind == HOSTSIM_PINNED)) {
        code = hostsim_drain(hostsim_stream(NULL));
    }
    return code;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    HOSTSIM_TRY_ALIVE();
    struct CUstream_st *s = hostsim_stream(stream);
    struct hostsim_work *w;
    bool inside;

    if (s == NULL) {
        return hostsim_error(cudaErrorInvalidResourceHandle);
    }
    if (bytes == 0) {
        return cudaSuccess;
    }
    if (hostsim_memory_of(to, bytes, &inside) == HOSTSIM_PAGEABLE || !inside) {
        return hostsim_error(cudaErrorInvalidValue);
    }
    w = hostsim_work_create(HOSTSIM_WORK_SET, 0);
    w->to = to;
    w->value = value;
    w->bytes = bytes;
    return hostsim_issue(s, w);
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    const cudaError_t code = hostsim_forbid_capture();

    return code != cudaSuccess ? code : cudaMemsetAsync(to, value, bytes, NULL);
}

/* ---- allocation ---- */

static cudaError_t allocate(void **ret, enum hostsim_memory kind, size_t bytes)
{
    HOSTSIM_TRY_ALIVE();
    const cudaError_t code = hostsim_forbid_capture();

    if (code != cudaSuccess) {
        return code;
    }
    *ret = NULL;
    if (bytes > 0) {
        *ret = hostsim_memory_alloc(kind, bytes);
    }
    return *ret == NULL && bytes > 0 ? hostsim_error(cudaErrorMemoryAllocation) : cudaSuccess;
}

/* CUDA waits for the whole device before memory goes. Even a lost device gives it back. */
static cudaError_t release(enum hostsim_memory kind, void *p)
{
    const cudaError_t code = hostsim_forbid_capture();

    if (p == NULL || code != cudaSuccess) {
        return p == NULL ? hostsim_lost() : code;
    }
    (void)hostsim_drain_all();
    if (!hostsim_memory_free(kind, p)) {
        return hostsim_error(cudaErrorInvalidValue);
    }
    return hostsim_lost();
}

cudaError_t cudaMalloc(void **ret, size_t bytes)
{
    return allocate(ret, HOSTSIM_DEVICE, bytes);
}

cudaError_t cudaFree(void *p)
{
    return release(HOSTSIM_DEVICE, p);
}

cudaError_t cudaHostAlloc(void **ret, size_t bytes, unsigned flags)
{
    (void)flags;
    return allocate(ret, HOSTSIM_PINNED, bytes);
}

cudaError_t cudaMallocHost(void **ret, size_t bytes)
{
    return allocate(ret, HOSTSIM_PINNED, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    return release(HOSTSIM_PINNED, p);
}

cudaError_t cudaHostGetDevicePointer(void **ret, void *host, unsigned flags)
{
    HOSTSIM_TRY_ALIVE();
    bool inside;

    if (flags != 0 || hostsim_memory_of(host, 1, &inside) != HOSTSIM_PINNED) {
        return hostsim_error(cudaErrorInvalidValue);
    }
    *ret = host;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *ret_free, size_t *ret_total)
{
    HOSTSIM_TRY_ALIVE();
    *ret_total = hostsim_config_get()->memory;
    *ret_free = hostsim_config_get()->memory - hostsim_memory_used();
    return cudaSuccess;
}
