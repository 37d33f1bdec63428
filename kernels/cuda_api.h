/*
 * cuda_api.h - what the daemon and libsanad_cuda.so know of each other.
 *
 * The CUDA backend is a plugin: nvcc's objects, a static cudart, and base/err.c and kernels/tensor.c of
 * its own. It exports one function, sanad_cuda_get(), which returns a table or NULL when the versions
 * differ. Nothing of CUDA is linked into the daemon, which so builds and runs where there is none.
 *
 * The shapes were checked by op_NAME() before a backend is called (kernels/NAME.c); a backend checks only
 * what it cannot do. All operations are issued to the device's selected stream and return at once; an error
 * of the device shows in a later call as ERR_DEVICE, which names the failing call. After ERR_DEVICE
 * everything on the device is lost and the process should end.
 *
 * Any thread for sanad_cuda_get and probe; the rest is for the engine thread.
 */
#ifndef KERNELS_CUDA_API_H
#define KERNELS_CUDA_API_H

#include "kernels/cuda_ops.h"
#include "kernels/device.h"

C_BEGIN

enum {
    CUDA_API_VERSION = 1,
    CUDA_LAYOUT_NUMBERS = 20,
    CUDA_MAX_DEVICES = 16
};

/* What is there. Found without creating a context. */
struct cuda_probe {
    int n_devices;
    struct {
        char name[64];
        int major, minor; /* compute capability */
        size_t bytes;     /* of memory */
    } devices[CUDA_MAX_DEVICES];
};

struct cuda_api {
    uint32_t version;                     /* CUDA_API_VERSION */
    uint32_t size;                        /* sizeof(struct cuda_api) */
    uint32_t layout[CUDA_LAYOUT_NUMBERS]; /* cuda_layout.h's CUDA_LAYOUT where this was built */
    const char *build;                    /* "CUDA 13.0, sm_90a, ptx_80"; or "host simulator" */

    /* Errors: ERR_NOT_FOUND: no driver, driver too old (says which it needs), no GPU. */
    int (*probe)(struct cuda_probe *ret, struct err *err);

    /* Fills dev (kind, name, act, gpu). Errors: ERR_INVALID (no such device), ERR_UNSUPPORTED (its
     * compute capability is not in this build), ERR_DEVICE, ERR_NO_MEMORY. */
    int (*open)(struct device *dev, const struct device_cuda_options *options, struct err *err);
    void (*close)(struct device *dev);

    /* device.h's functions of the same names. */
    int (*alloc)(struct device *dev, size_t bytes, void **ret, struct err *err);
    void (*free)(struct device *dev, void *p);
    int (*host_alloc)(struct device *dev, size_t bytes, void **ret, struct err *err);
    void (*host_free)(struct device *dev, void *p);
    int (*upload)(struct device *dev, const struct tensor *to, const void *from,
                  enum dtype from_dtype, struct err *err);
    int (*download)(struct device *dev, void *to, const struct tensor *from, struct err *err);
    int (*download_start)(struct device *dev, void *to, const struct tensor *from, struct err *err);
    void (*select)(struct device *dev, enum device_stream stream);
    int (*mark)(struct device *dev, enum device_mark mark, struct err *err);
    int (*follow)(struct device *dev, enum device_mark mark, struct err *err);
    int (*wait)(struct device *dev, enum device_mark mark, struct err *err);
    int (*graph_begin)(struct device *dev, uint64_t key, bool *ret_replayed, struct err *err);
    int (*graph_end)(struct device *dev, struct err *err);
    void (*graph_abort)(struct device *dev);
    void (*graphs_clear)(struct device *dev);
    void (*memory)(struct device *dev, struct device_memory *ret);
    size_t (*describe)(struct device *dev, char *text, size_t size);

    struct cuda_ops ops;
};

typedef const struct cuda_api *(*cuda_get_fn)(uint32_t version);

/* The plugin's only exported symbol. */
const struct cuda_api *sanad_cuda_get(uint32_t version);

/* The program's side. ERR_UNSUPPORTED: NULL, or of a plugin that was built from other sources. */
MUST_CHECK int cuda_table_check(const struct cuda_api *table, struct err *err);

C_END

#endif
