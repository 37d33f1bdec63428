/*
 * cuda_gpu.cuh - the inside of a GPU device: cuda_device.cu, cuda_memory.cu, cuda_transfer.cu, cuda_mark.cu
 * and cuda_graph.cu. Operations see cuda_device.cuh only.
 *
 * Everything is made in open and in the first use, and owned by struct cuda_gpu. Engine thread.
 */
#ifndef KERNELS_CUDA_GPU_CUH
#define KERNELS_CUDA_GPU_CUH

#include "kernels/cuda_api.h"
#include "kernels/cuda_device.cuh"

enum {
    CUDA_ALIGN = 256,
    CUDA_GRAPHS = 64,
    CUDA_STAGES = 256, /* texts of op_check_finite that are remembered */
    CUDA_STAGE_TEXT = 112,
    CUDA_RING_MAX = 64
};

/* Pinned memory that copies pass through, in turn: while one piece is copied, the next is filled. */
struct cuda_ring {
    size_t slot_bytes;
    int n, next;
    char *memory; /* NULL: not made yet */
    cudaEvent_t free[CUDA_RING_MAX];
};

struct cuda_block {
    void *p;
    size_t bytes;
};

/* A sequence of operations. Its first run is an ordinary one, after which nothing of it has to be
 * allocated or looked up any more; the second is recorded. */
struct cuda_recording {
    uint64_t key; /* 0: a free place */
    uint64_t used;
    cudaGraphExec_t exec; /* NULL: ran once */
};

enum cuda_graph_state {
    CUDA_GRAPH_NONE,
    CUDA_GRAPH_FIRST_RUN,
    CUDA_GRAPH_CAPTURE
};

struct cuda_gpu {
    int multiprocessors;
    char place[16]; /* "cuda:0" */
    cudaStream_t stream[DEVICE_STREAMS];
    enum device_stream selected;
    cudaEvent_t mark[DEVICE_MARKS];
    bool marked[DEVICE_MARKS];

    /* Memory. */
    struct cuda_block *blocks; /* owned [n_blocks]: what alloc gave */
    size_t n_blocks, cap_blocks;
    size_t used, peak; /* of what alloc gave */
    size_t held;       /* by everything; at most limit, unless that is 0 */
    size_t limit;
    void *scratch[DEVICE_STREAMS];
    size_t scratch_bytes[DEVICE_STREAMS];

    /* Copies. */
    struct cuda_ring large, small;

    /* What op_check_finite found: the device's word, and its copy on the host for each mark and for downloads. */
    uint32_t *stage_word;
    uint32_t *stage_seen; /* pinned [DEVICE_MARKS + 1] */
    uint32_t next_stage;
    char stage[CUDA_STAGES][CUDA_STAGE_TEXT];

    /* Graphs. */
    struct cuda_recording recording[CUDA_GRAPHS];
    enum cuda_graph_state graph_state;
    uint64_t graph_key;
    uint64_t graph_clock;

    struct cuda_blas *blas; /* owned; NULL: not there */
};

/* `return CUDA_CALL(f(...), err)`: the failing call is named. */
#define CUDA_CALL(call, err) cuda_check((call), #call, (err))

/* ---- the functions of struct cuda_api, each in the file named ---- */

/* cuda_device.cu */
int cuda_probe(struct cuda_probe *ret, struct err *err);
int cuda_open(struct device *dev, const struct device_cuda_options *options, struct err *err);
void cuda_close(struct device *dev);
void cuda_select(struct device *dev, enum device_stream stream);
size_t cuda_describe(struct device *dev, char *text, size_t size);

/* cuda_memory.cu */
int cuda_alloc(struct device *dev, size_t bytes, void **ret, struct err *err);
void cuda_free(struct device *dev, void *p);
int cuda_host_alloc(struct device *dev, size_t bytes, void **ret, struct err *err);
void cuda_host_free(struct device *dev, void *p);
void cuda_memory(struct device *dev, struct device_memory *ret);

/* cuda_transfer.cu */
int cuda_upload(struct device *dev, const struct tensor *to, const void *from,
                enum dtype from_dtype, struct err *err);
int cuda_download(struct device *dev, void *to, const struct tensor *from, struct err *err);
int cuda_download_start(struct device *dev, void *to, const struct tensor *from, struct err *err);

/* cuda_mark.cu */
int cuda_mark(struct device *dev, enum device_mark mark, struct err *err);
int cuda_follow(struct device *dev, enum device_mark mark, struct err *err);
int cuda_wait(struct device *dev, enum device_mark mark, struct err *err);

/* cuda_graph.cu */
int cuda_graph_begin(struct device *dev, uint64_t key, bool *ret_replayed, struct err *err);
int cuda_graph_end(struct device *dev, struct err *err);
void cuda_graph_abort(struct device *dev);
void cuda_graphs_clear(struct device *dev);

/* ---- between the files ---- */

/* Device memory, for alloc and for what the device needs itself. *ret is NULL on failure. ERR_NO_VRAM. */
int cuda_take(struct cuda_gpu *gpu, size_t bytes, void **ret, struct err *err);
void cuda_give_back(struct cuda_gpu *gpu, void *p, size_t bytes);
void cuda_memory_done(struct cuda_gpu *gpu);

void cuda_transfer_init(struct cuda_gpu *gpu);
void cuda_transfer_done(struct cuda_gpu *gpu);

int cuda_marks_init(struct cuda_gpu *gpu, struct err *err);
void cuda_marks_done(struct cuda_gpu *gpu);

/* Copies the stage word behind what the selected stream was given; slot: a mark, or DEVICE_MARKS. */
int cuda_stage_copy(struct cuda_gpu *gpu, int slot, struct err *err);
/* ... and what it says, once the copy is complete: ERR_OK or ERR_NUMERIC. */
int cuda_stage_report(struct cuda_gpu *gpu, int slot, struct err *err);

/* ERR_INVALID inside a graph. */
int cuda_not_in_graph(const struct cuda_gpu *gpu, const char *what, struct err *err);

#endif
