/*
 * Errors as CUDA keeps them: the last one until somebody asks, and one that broke the context forever.
 */
#include "tests/hostsim/hostsim_sim.h"

static const struct {
    cudaError_t code;
    const char *name;
    bool sticky;
    const char *text;
} errors[] = {
#define ROW(name, code, sticky, text) {name, #name, sticky, text},
    HOSTSIM_ERRORS(ROW)};

static cudaError_t last_error, lost;

static int find(cudaError_t code)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i].code == code) {
            return (int)i;
        }
    }
    return -1;
}

const char *cudaGetErrorName(cudaError_t code)
{
    const int i = find(code);

    return i < 0 ? "unrecognized error code" : errors[i].name;
}

const char *cudaGetErrorString(cudaError_t code)
{
    const int i = find(code);

    return i < 0 ? "unrecognized error code" : errors[i].text;
}

cudaError_t hostsim_error(cudaError_t code)
{
    if (code == cudaSuccess || code == cudaErrorNotReady) {
        return code;
    }
    if (lost == cudaSuccess && errors[find(code)].sticky) {
        lost = code;
    }
    last_error = code;
    return code;
}

cudaError_t hostsim_lost()
{
    return lost;
}

cudaError_t cudaPeekAtLastError()
{
    return lost != cudaSuccess ? lost : last_error;
}

cudaError_t cudaGetLastError()
{
    const cudaError_t code = cudaPeekAtLastError();

    last_error = cudaSuccess;
    return code;
}
