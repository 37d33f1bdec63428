/*
 * device_choice.h - from what users say of the device ("auto", "cuda:1") to an open one.
 *
 * auto takes the first GPU, and the CPU where there is no plugin, no driver, no GPU, or none this build has
 * code for. A GPU that is there and fails is an error, not a reason for the CPU. Any thread.
 */
#ifndef WORKER_DEVICE_CHOICE_H
#define WORKER_DEVICE_CHOICE_H

#include "kernels/device.h"

struct device_choice {
    const char *device;       /* "auto", "cpu", "cuda", "cuda:N"; NULL: auto */
    const char *precision;    /* on a GPU: "bf16", "f32"; NULL: bf16 */
    const char *text_encoder; /* its weights on a GPU: "auto", "gpu", "host"; NULL: auto */
    int64_t threads;          /* of the CPU; 0: one per core */
    int64_t vram_limit;       /* bytes for the model and its work on a GPU; 0: none */
    bool deterministic;       /* on a GPU: nothing that is measured decides */
    const char *algos;        /* see struct device_cuda_options; NULL: not kept */
};

/* Can it be meant? ERR_INVALID "device: 'x' is ..." or "precision: ...". */
MUST_CHECK int device_choice_check(const struct device_choice *choice, struct err *err);

/* Opens it, and logs in one line what was chosen and why. Errors: those of device_choice_check,
 * device_open_cpu and device_open_cuda. */
MUST_CHECK int device_choice_open(struct device *dev, const struct device_choice *choice,
                                  struct err *err);

#endif
