/*
 * Recorded sequences. The first run of a key is an ordinary one: scratch grows, GEMM algorithms are found, kernels
 * are loaded, none of which may happen in a recording. The second is recorded and launched, the others launched.
 */
#include "kernels/cuda_gpu.cuh"

#include <string.h>

int cuda_not_in_graph(const struct cuda_gpu *gpu, const char *what, struct err *err)
{
    return gpu->graph_state == CUDA_GRAPH_CAPTURE
               ? err_set(err, ERR_INVALID, "cuda: %s inside a graph", what)
               : ERR_OK;
}

static struct cuda_recording *find(struct cuda_gpu *gpu, uint64_t key)
{
    for (int i = 0; i < CUDA_GRAPHS; i++) {
        if (gpu->recording[i].key == key) {
            return &gpu->recording[i];
        }
    }
    return NULL;
}

/* The GPU may still run it: then it goes afterwards. */
static void drop(struct cuda_recording *r)
{
    if (r->exec) {
        cudaGraphExecDestroy(r->exec);
    }
    memset(r, 0, sizeof(*r));
}

/* A place for a new key: a free one, or that of the sequence that was not used for longest. */
static struct cuda_recording *make_room(struct cuda_gpu *gpu)
{
    struct cuda_recording *oldest = &gpu->recording[0];

    for (int i = 1; i < CUDA_GRAPHS; i++) {
        if (gpu->recording[i].used < oldest->used) {
            oldest = &gpu->recording[i];
        }
    }
    drop(oldest);
    return oldest;
}

int cuda_graph_begin(struct device *dev, uint64_t key, bool *ret_replayed, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    struct cuda_recording *r = key != 0 ? find(gpu, key) : NULL;
    int rc;

    CHECK_BUG(gpu->graph_state == CUDA_GRAPH_NONE);
    *ret_replayed = false;
    if (key == 0) {
        return ERR_OK;
    }
    gpu->graph_key = key;
    if (!r) {
        gpu->graph_state = CUDA_GRAPH_FIRST_RUN;
        return ERR_OK;
    }
    r->used = ++gpu->graph_clock;
    if (r->exec) {
        *ret_replayed = true;
        return CUDA_CALL(cudaGraphLaunch(r->exec, gpu->stream[gpu->selected]), err);
    }
    rc = CUDA_CALL(
        cudaStreamBeginCapture(gpu->stream[gpu->selected], cudaStreamCaptureModeThreadLocal), err);
    if (rc == ERR_OK) {
        gpu->graph_state = CUDA_GRAPH_CAPTURE;
    }
    return rc;
}

static int end_capture(struct cuda_gpu *gpu, struct err *err)
{
    const cudaStream_t stream = gpu->stream[gpu->selected];
    struct cuda_recording *r = find(gpu, gpu->graph_key);
    cudaGraph_t graph = NULL;
    int rc = CUDA_CALL(cudaStreamEndCapture(stream, &graph), err);

    CHECK_BUG(r);
    if (rc == ERR_OK) {
        rc = CUDA_CALL(cudaGraphInstantiate(&r->exec, graph, 0), err);
        cudaGraphDestroy(graph);
    }
    return rc == ERR_OK ? CUDA_CALL(cudaGraphLaunch(r->exec, stream), err) : rc;
}

int cuda_graph_end(struct device *dev, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    const enum cuda_graph_state state = gpu->graph_state;

    gpu->graph_state = CUDA_GRAPH_NONE;
    if (state == CUDA_GRAPH_FIRST_RUN) {
        struct cuda_recording *r = make_room(gpu);

        r->key = gpu->graph_key;
        r->used = ++gpu->graph_clock;
    }
    return state == CUDA_GRAPH_CAPTURE ? end_capture(gpu, err) : ERR_OK;
}

void cuda_graph_abort(struct device *dev)
{
    struct cuda_gpu *gpu = dev->gpu;
    cudaGraph_t graph = NULL;

    if (gpu->graph_state == CUDA_GRAPH_CAPTURE) {
        if (cudaStreamEndCapture(gpu->stream[gpu->selected], &graph) == cudaSuccess && graph) {
            cudaGraphDestroy(graph);
        }
        (void)cudaGetLastError();
    }
    gpu->graph_state = CUDA_GRAPH_NONE;
}

void cuda_graphs_clear(struct device *dev)
{
    struct cuda_gpu *gpu = dev->gpu;

    for (int i = 0; i < CUDA_GRAPHS; i++) {
        drop(&gpu->recording[i]);
    }
}
