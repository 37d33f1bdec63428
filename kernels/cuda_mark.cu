/*
 * Marks are events that the host sleeps on. With each mark the word of op_check_finite is copied to the host, so
 * that waiting for a mark tells what went wrong before it and costs no round trip of its own.
 */
#include "kernels/cuda_gpu.cuh"

#include <stdio.h>
#include <string.h>

enum {
    SLOTS = DEVICE_MARKS + 1
};

#define NO_STAGE UINT32_MAX

int cuda_marks_init(struct cuda_gpu *gpu, struct err *err)
{
    void *p = NULL;
    int rc = cuda_take(gpu, sizeof(uint32_t), &p, err);

    gpu->stage_word = (uint32_t *)p;
    p = NULL;
    if (rc == ERR_OK) {
        rc = CUDA_CALL(cudaHostAlloc(&p, SLOTS * sizeof(uint32_t), cudaHostAllocDefault), err);
        gpu->stage_seen = (uint32_t *)p;
    }
    for (int i = 0; i < DEVICE_MARKS && rc == ERR_OK; i++) {
        rc = CUDA_CALL(
            cudaEventCreateWithFlags(&gpu->mark[i], cudaEventDisableTiming | cudaEventBlockingSync),
            err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    memset(gpu->stage_seen, 0xff, SLOTS * sizeof(uint32_t));
    rc = CUDA_CALL(
        cudaMemsetAsync(gpu->stage_word, 0xff, sizeof(uint32_t), gpu->stream[DEVICE_STREAM_MAIN]),
        err);
    return rc == ERR_OK ? CUDA_CALL(cudaStreamSynchronize(gpu->stream[DEVICE_STREAM_MAIN]), err)
                        : rc;
}

void cuda_marks_done(struct cuda_gpu *gpu)
{
    for (int i = 0; i < DEVICE_MARKS; i++) {
        if (gpu->mark[i]) {
            cudaEventDestroy(gpu->mark[i]);
        }
    }
    if (gpu->stage_seen) {
        cudaFreeHost(gpu->stage_seen);
    }
    cuda_give_back(gpu, gpu->stage_word, sizeof(uint32_t));
}

/* ---- stages ---- */

/* A graph would keep the number, and so the text, of its recording. */
uint32_t cuda_stage(struct device *dev, const char *stage)
{
    struct cuda_gpu *gpu = dev->gpu;

    CHECK_BUG(gpu->graph_state == CUDA_GRAPH_NONE);
    snprintf(gpu->stage[gpu->next_stage % CUDA_STAGES], CUDA_STAGE_TEXT, "%s", stage);
    return gpu->next_stage++;
}

uint32_t *cuda_stage_word(const struct device *dev)
{
    return dev->gpu->stage_word;
}

int cuda_stage_copy(struct cuda_gpu *gpu, int slot, struct err *err)
{
    return CUDA_CALL(cudaMemcpyAsync(&gpu->stage_seen[slot], gpu->stage_word, sizeof(uint32_t),
                                     cudaMemcpyDeviceToHost, gpu->stream[gpu->selected]),
                     err);
}

/* What is still under way may belong to what failed: it is waited for and its findings dropped. */
static int forget_stages(struct cuda_gpu *gpu, struct err *err)
{
    const cudaStream_t stream = gpu->stream[gpu->selected];
    int rc = CUDA_CALL(cudaDeviceSynchronize(), err);

    if (rc == ERR_OK) {
        rc = CUDA_CALL(cudaMemsetAsync(gpu->stage_word, 0xff, sizeof(uint32_t), stream), err);
    }
    if (rc == ERR_OK) {
        rc = CUDA_CALL(cudaStreamSynchronize(stream), err);
    }
    memset(gpu->stage_seen, 0xff, SLOTS * sizeof(uint32_t));
    return rc;
}

int cuda_stage_report(struct cuda_gpu *gpu, int slot, struct err *err)
{
    const uint32_t n = gpu->stage_seen[slot];
    int rc;

    if (n == NO_STAGE) {
        return ERR_OK;
    }
    rc = forget_stages(gpu, err);
    if (rc != ERR_OK) {
        return rc;
    }
    return err_set(err, ERR_NUMERIC, "%s produced NaN or infinity",
                   gpu->next_stage - n <= CUDA_STAGES ? gpu->stage[n % CUDA_STAGES]
                                                      : "an earlier stage");
}

/* ---- marks ---- */

int cuda_mark(struct device *dev, enum device_mark mark, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    int rc = cuda_not_in_graph(gpu, "a mark", err);

    if (rc == ERR_OK) {
        rc = cuda_stage_copy(gpu, mark, err);
    }
    if (rc == ERR_OK) {
        rc = CUDA_CALL(cudaEventRecord(gpu->mark[mark], gpu->stream[gpu->selected]), err);
    }
    gpu->marked[mark] |= rc == ERR_OK;
    return rc;
}

int cuda_follow(struct device *dev, enum device_mark mark, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    const int rc = cuda_not_in_graph(gpu, "a mark", err);

    if (rc != ERR_OK || !gpu->marked[mark]) {
        return rc;
    }
    return CUDA_CALL(cudaStreamWaitEvent(gpu->stream[gpu->selected], gpu->mark[mark], 0), err);
}

int cuda_wait(struct device *dev, enum device_mark mark, struct err *err)
{
    struct cuda_gpu *gpu = dev->gpu;
    int rc = cuda_not_in_graph(gpu, "a mark", err);

    if (rc != ERR_OK || !gpu->marked[mark]) {
        return rc;
    }
    rc = CUDA_CALL(cudaEventSynchronize(gpu->mark[mark]), err);
    return rc == ERR_OK ? cuda_stage_report(gpu, mark, err) : rc;
}
