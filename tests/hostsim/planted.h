/*
 * planted.h - small programs for the simulator, each twice: right, and with a bug that is known.
 *
 * Each runs in a process of its own. It returns 0 when its result is right; it was caught when the result is
 * wrong, or the simulator (or ASan) stopped it.
 */
#ifndef TESTS_HOSTSIM_PLANTED_H
#define TESTS_HOSTSIM_PLANTED_H

#include "kernels/cuda_kernel.cuh"

enum {
    IN_FORWARD = 1,
    IN_BACKWARD = 2,
    IN_PERMUTED = 4,
    IN_ALL = 7,
};

struct planted {
    const char *name;
    int (*right)();
    int (*wrong)();
    unsigned caught;     /* in these orders; the others may miss it */
    const char *message; /* what is said then; NULL: the result is wrong */
};

extern const struct planted planted_kernels[], planted_warps[], planted_streams[], planted_api[];
extern const int n_planted_kernels, n_planted_warps, n_planted_streams, n_planted_api;

/* These want something in the environment. */
int planted_memory_limits(); /* SANAD_HOSTSIM_MEMORY: 1 MiB */
int planted_third_launch();  /* SANAD_HOSTSIM_FAIL: 3 */
int planted_lost_or_not();   /* 0: the device was lost within four launches; 3: it was not */

/* Device memory that holds values; pinned memory. */
float *planted_upload(const float *values, int n);
float *planted_zeros(int n);

/* Waits; how many of n floats on the device are not as wanted. Negative: CUDA said something is wrong. */
int planted_compare(const float *device, const float *want, int n);

#endif
