/*
 * device.h - what computes: the CPU, or a GPU through the CUDA plugin (cuda_api.h).
 *
 * An operation is a trio: op.h states the contract, op.c holds op_NAME() (checks the shapes once,
 * then DEVICE_CALL) and NAME_cpu(), op.cu holds NAME_cuda(). DEVICE_CALL is the one place where a
 * backend is chosen.
 *
 * The CPU device has a pool of threads, and for each thread a piece of scratch memory of constant
 * size, so that no operation allocates. Work is cut by shape, never by the number of threads: the
 * same inputs give the same bytes with any number of threads.
 *
 * A GPU device works asynchronously: operations are issued to the selected stream in order and return
 * before they are done. What has to wait says so below. On the CPU everything is done at once, and
 * streams, marks and graphs cost nothing.
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
    DEVICE_CUDA,
};

/* Scratch of one CPU thread. Operations choose their tiles so as to fit. */
#define DEVICE_SCRATCH_BYTES ((size_t)8 << 20)

struct device {
    enum device_kind kind;
    enum dtype act; /* what activations and large weights are stored in: F32; BF16 on a GPU */
    char name[96];  /* for people: "cpu, 2 threads"; "cuda:0, NVIDIA H200, bf16" */
    bool frugal;    /* a small GPU: weights that are read once per video stay in host memory */
    bool dry_run;   /* operations check their shapes and do nothing else */
    struct thread_pool *pool;    /* owned; CPU */
    char *scratch;               /* owned; n_threads * DEVICE_SCRATCH_BYTES */
    const struct cuda_api *cuda; /* the plugin's table; NULL on the CPU */
    struct cuda_gpu *gpu;        /* owned by the plugin */
    void *plugin;                /* owned; dlopen's handle */
};

/* n_threads 0: one per core this process may use. The device is caller's storage.
 * Errors: ERR_INVALID n_threads outside 0..1024, ERR_NO_MEMORY. */
MUST_CHECK int device_open_cpu(struct device *dev, int n_threads, struct err *err);

/* Where weights that are read once per video (the text encoder's) are kept. */
enum device_frugal {
    DEVICE_FRUGAL_AUTO, /* on the host where the GPU may use less than DEVICE_FRUGAL_BYTES */
    DEVICE_FRUGAL_NO,
    DEVICE_FRUGAL_YES,
};

/* The published models, their text encoder and one 480p video take about 14 GB together. */
#define DEVICE_FRUGAL_BYTES ((size_t)15 << 30)

struct device_cuda_options {
    int index; /* of the GPU, as CUDA counts them */
    bool f32;  /* F32 activations and weights instead of BF16: slow, to compare with */
    enum device_frugal frugal;
    bool deterministic;  /* GEMM algorithms by fixed rule, never by measuring */
    size_t memory_limit; /* bytes that may be taken of the GPU's memory; 0: all */
    const char *plugin;  /* file to load; NULL: $SANAD_CUDA_PLUGIN, beside the program, lib/sanad */
    const char *algos;   /* file where measured GEMM algorithms are kept; NULL: not kept */
    const char *cublaslt; /* library to load; NULL: $SANAD_CUBLASLT, libcublasLt.so.13 or .12 */
};

/* Loads the plugin and opens a GPU. Errors: ERR_NOT_FOUND: no plugin (lists where it looked), no
 * driver, no GPU; ERR_UNSUPPORTED: of another version, or built for other GPUs; ERR_INVALID index;
 * ERR_DEVICE. */
MUST_CHECK int device_open_cuda(struct device *dev, const struct device_cuda_options *options,
                                struct err *err);

/* Accepts a zeroed struct. Everything allocated on the device must be freed before. */
void device_close(struct device *dev);

/* Device memory, 64-byte aligned (256 on a GPU), contents undefined. device_free accepts NULL.
 * Errors: ERR_NO_MEMORY (CPU), ERR_NO_VRAM (GPU; says how much is free). */
MUST_CHECK int device_alloc(struct device *dev, size_t bytes, void **ret, struct err *err);
void device_free(struct device *dev, void *p);

/* Host memory that device_download_start() can copy to while other work goes on. NULL is accepted. */
MUST_CHECK int device_host_alloc(struct device *dev, size_t bytes, void **ret, struct err *err);
void device_host_free(struct device *dev, void *p);

/* Copies between host memory and a tensor; all its bytes. Do nothing in a dry run. After an upload
 * `from` may be reused at once; it may be read by later operations of the same stream. A download waits
 * for the selected stream and reports what op_check_finite() found on it until then. */
MUST_CHECK int device_upload(struct device *dev, const struct tensor *to, const void *from,
                             struct err *err);
MUST_CHECK int device_download(struct device *dev, void *to, const struct tensor *from,
                               struct err *err);

/* An upload from another float type (F32, BF16, F16) to F32 or BF16, rounded to nearest even. */
MUST_CHECK int device_upload_as(struct device *dev, const struct tensor *to, const void *from,
                                enum dtype from_dtype, struct err *err);

/* A download to memory of device_host_alloc() that is complete when a mark behind it was waited for. */
MUST_CHECK int device_download_start(struct device *dev, void *to, const struct tensor *from,
                                     struct err *err);

/* The stream that operations, copies and marks go to from now on; main at first. */
enum device_stream {
    DEVICE_STREAM_MAIN,   /* text, denoising */
    DEVICE_STREAM_DECODE, /* latents to pictures, beside the next block's denoising */
    DEVICE_STREAM_COPY,   /* pictures to the host */
    DEVICE_STREAMS
};
void device_select(struct device *dev, enum device_stream stream);

/* Remembers how far the selected stream has been issued. follow: the selected stream goes on only when
 * the mark is reached; the host does not wait. wait: the host waits, and is told of what
 * op_check_finite() found before (ERR_NUMERIC) and of a lost device (ERR_DEVICE). A mark never set is
 * reached. Nothing happens in a dry run. */
enum device_mark {
    DEVICE_MARK_LATENTS, /* a block's latents are clean */
    DEVICE_MARK_STEP_A,  /* denoising steps, in turn */
    DEVICE_MARK_STEP_B,
    DEVICE_MARK_FRAMES_A, /* pictures are on the host, in turn */
    DEVICE_MARK_FRAMES_B,
    DEVICE_MARK_YUV_A, /* pictures are converted, in turn */
    DEVICE_MARK_YUV_B,
    DEVICE_MARKS
};
MUST_CHECK int device_mark(struct device *dev, enum device_mark mark, struct err *err);
MUST_CHECK int device_follow(struct device *dev, enum device_mark mark, struct err *err);
MUST_CHECK int device_wait(struct device *dev, enum device_mark mark, struct err *err);

/*
 * A sequence of operations that is the same each time, down to its addresses, is recorded once under a
 * key and replayed as one. Between begin and end there may be operations only: no copies to or from the
 * host, no marks, no select, no op_check_finite (whose text would be that of the recording).
 *
 *   rc = device_graph_begin(dev, key, &replayed, err);
 *   if (rc == ERR_OK && !replayed) {
 *       rc = the operations;
 *       if (rc == ERR_OK) { rc = device_graph_end(dev, err); } else { device_graph_abort(dev); }
 *   }
 *
 * On the CPU, in a dry run, and key 0: nothing is recorded. clear: forgets all graphs; before memory
 * that they use is freed.
 */
MUST_CHECK int device_graph_begin(struct device *dev, uint64_t key, bool *ret_replayed,
                                  struct err *err);
MUST_CHECK int device_graph_end(struct device *dev, struct err *err);
void device_graph_abort(struct device *dev);
void device_graphs_clear(struct device *dev);

/* Bytes. The CPU has 0 everywhere. */
struct device_memory {
    size_t total, free;
    size_t used, peak; /* by device_alloc() of this device */
};
void device_memory(struct device *dev, struct device_memory *ret);

/* What the name does not say, in lines: of a GPU, which library multiplies, and which algorithm it has for each
 * product so far. Cut to size, always ended; returns the length the whole has. "" for the CPU. */
size_t device_describe(struct device *dev, char *text, size_t size);

/* For CPU operations: runs fn over the tasks; each thread's scratch. */
void device_parallel(struct device *dev, int64_t n_tasks, thread_pool_fn fn, void *ctx);
void *device_scratch(struct device *dev, int thread);

/* A shape error names the operation, the argument and what it has. */
int device_shape_err(struct err *err, const char *op, const char *arg, const struct tensor *t);

C_END

#endif
