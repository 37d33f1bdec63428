#include "kernels/cuda_gpu.cuh"
#include "kernels/cuda_layout.h"

#define OP_MEMBER(name, args) name##_cuda,

static const struct cuda_api api = {
    CUDA_API_VERSION,
    sizeof(struct cuda_api),
    CUDA_LAYOUT,
    SANAD_CUDA_BUILD,
    cuda_probe,
    cuda_open,
    cuda_close,
    cuda_alloc,
    cuda_free,
    cuda_host_alloc,
    cuda_host_free,
    cuda_upload,
    cuda_download,
    cuda_download_start,
    cuda_select,
    cuda_mark,
    cuda_follow,
    cuda_wait,
    cuda_graph_begin,
    cuda_graph_end,
    cuda_graph_abort,
    cuda_graphs_clear,
    cuda_memory,
    cuda_describe,
    {CUDA_OPS(OP_MEMBER)},
};

extern "C" __attribute__((visibility("default"))) const struct cuda_api *
sanad_cuda_get(uint32_t version)
{
    return version == CUDA_API_VERSION ? &api : NULL;
}
