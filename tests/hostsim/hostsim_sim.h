/*
 * hostsim_sim.h - what the files of the simulator know of each other.
 */
#ifndef TESTS_HOSTSIM_HOSTSIM_SIM_H
#define TESTS_HOSTSIM_HOSTSIM_SIM_H

#include <stdint.h>

#include "tests/hostsim/hostsim.h"

#if defined(__SANITIZE_ADDRESS__)
#define HOSTSIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HOSTSIM_ASAN 1
#endif
#endif
#ifndef HOSTSIM_ASAN
#define HOSTSIM_ASAN 0
#endif

enum {
    HOSTSIM_MAX_THREADS = 1024,
    HOSTSIM_DEFAULT_SHARED = 48 << 10,
    HOSTSIM_MAX_SHARED = 227 << 10,
};

/* ---- hostsim_config.cc: the environment, read once ---- */

enum hostsim_order {
    HOSTSIM_FORWARD,
    HOSTSIM_BACKWARD,
    HOSTSIM_PERMUTED,
};

struct hostsim_config {
    enum hostsim_order order;
    size_t memory;         /* of the device, in bytes */
    uint64_t fail_at;      /* the kernel's number, from 1; 0: none */
    const char *fail_once; /* file that the one who fails creates; NULL: everyone fails */
};
const struct hostsim_config *hostsim_config_get();

/* splitmix64: the same numbers in every run. */
uint64_t hostsim_random(uint64_t *state);

/* Says what the program did wrong, and where; aborts. */
__attribute__((noreturn, format(printf, 1, 2))) void hostsim_bug(const char *format, ...);

/* ---- hostsim_fibers.cc ---- */

struct hostsim_thread;

/* Runs all blocks of a kernel to their end. number: counts launches, for the permuted order. */
void hostsim_run_kernel(const struct hostsim_kernel *kernel, const void *args, uint64_t number);

/* "kernel NAME, block (x,y,z), thread (x,y,z)" of the running thread; "the host" outside of kernels. */
const char *hostsim_where();

/* What a warp's lanes can meet for. */
enum hostsim_op {
    HOSTSIM_EXCHANGE,
    HOSTSIM_MMA,
    HOSTSIM_LDMATRIX,
    HOSTSIM_LDMATRIX_TRANS,
};

/* Is [p, p + bytes) the block's shared memory? */
bool hostsim_in_shared(const void *p, size_t bytes);

/* ---- hostsim_warp.cc: asynchronous copies of one thread ---- */

struct hostsim_copy {
    void *to;
    const void *from;
    bool valid;
    int group;
};
struct hostsim_copies {
    struct hostsim_copy *list; /* in the order they were asked for */
    int n, capacity;
    int committed; /* groups, so far */
};
struct hostsim_copies *hostsim_copies_get(); /* of the running thread */
bool hostsim_copy_early();                   /* shall this one happen at once? */

/* ---- hostsim_memory.cc ---- */

enum hostsim_memory {
    HOSTSIM_PAGEABLE, /* not ours */
    HOSTSIM_DEVICE,
    HOSTSIM_PINNED,
};
/* NULL: no memory. Filled with 0xFF, guarded on both sides. */
void *hostsim_memory_alloc(enum hostsim_memory kind, size_t bytes);
/* False: not an allocation of this kind. Stops the program when a guard was written to. */
bool hostsim_memory_free(enum hostsim_memory kind, void *p);
/* What p points to; whether `bytes` from there on are inside. */
enum hostsim_memory hostsim_memory_of(const void *p, size_t bytes, bool *ret_inside);
size_t hostsim_memory_used();                /* of the device */
void hostsim_memory_check();                 /* all guards */
void hostsim_memory_describe(const void *p); /* on stderr, for who touched it in vain */

/* ---- hostsim_error.cc ---- */

/* Remembers an error for cudaGetLastError, sticky ones forever; returns it. */
cudaError_t hostsim_error(cudaError_t code);
/* The sticky error, or cudaSuccess. */
cudaError_t hostsim_lost();
#define HOSTSIM_TRY_ALIVE()                                                                        \
    do {                                                                                           \
        if (hostsim_lost() != cudaSuccess) {                                                       \
            return hostsim_lost();                                                                 \
        }                                                                                          \
    } while (0)

/* ---- hostsim_streams.cc, hostsim_launch.cc ---- */

enum hostsim_work_kind {
    HOSTSIM_WORK_KERNEL,
    HOSTSIM_WORK_COPY,
    HOSTSIM_WORK_SET,
    HOSTSIM_WORK_RECORD,
    HOSTSIM_WORK_WAIT,
    HOSTSIM_WORK_GRAPH,
};

/* One piece of work in a stream or a graph, with `extra` bytes behind it: arguments, staged data. */
struct hostsim_work {
    struct hostsim_work *next;
    enum hostsim_work_kind kind;
    struct hostsim_kernel kernel;
    void *to;
    const void *from; /* NULL: the bytes behind */
    size_t bytes;
    int value;
    uint64_t id, number; /* record: event; wait: until stream `id` has done `number` */
    struct hostsim_graph *graph;
    alignas(16) unsigned char extra[];
};
struct hostsim_work *hostsim_work_create(enum hostsim_work_kind kind, size_t extra);

/* Recorded work; shared by the graph, what was instantiated from it, and launches under way. */
struct hostsim_graph {
    int refs;
    struct hostsim_work *head, **tail;
};
void hostsim_graph_unref(struct hostsim_graph *graph);

struct CUstream_st {
    struct CUstream_st *next;
    uint64_t id;
    unsigned flags;
    int priority;
    struct hostsim_work *head, **tail;
    uint64_t issued, done;
    struct hostsim_graph *capture; /* NULL: not capturing */
    enum cudaStreamCaptureMode mode;
    bool invalidated;
};

/* NULL and cudaStreamLegacy: the legacy stream. NULL is returned for what is no stream. */
struct CUstream_st *hostsim_stream(cudaStream_t stream);
/* Queues work, or records it when the stream captures; owns the work from now on. */
cudaError_t hostsim_issue(struct CUstream_st *stream, struct hostsim_work *work);
/* Runs what was issued to the stream; returns the sticky error. */
cudaError_t hostsim_drain(struct CUstream_st *stream);
cudaError_t hostsim_drain_all();
/* For calls that are forbidden while somebody captures: ends the capture and returns the error. */
cudaError_t hostsim_forbid_capture();
void hostsim_run_work(const struct hostsim_work *work);

#endif
