#include "worker/device_choice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum {
    MAX_INDEX = 15
};

static const char *name_of(const struct device_choice *c)
{
    return c->device ? c->device : "auto";
}

/* "cuda" is the first one; -1: not the name of a GPU. */
static int gpu_index(const char *name)
{
    char *end;
    long index;

    if (strcmp(name, "cuda") == 0) {
        return 0;
    }
    if (strncmp(name, "cuda:", 5) != 0 || name[5] < '0' || name[5] > '9') {
        return -1;
    }
    errno = 0;
    index = strtol(name + 5, &end, 10);
    return *end == '\0' && errno == 0 && index <= MAX_INDEX ? (int)index : -1;
}

static bool is_f32(const struct device_choice *c)
{
    return c->precision && strcmp(c->precision, "f32") == 0;
}

/* -1: no such word. */
static int frugal(const struct device_choice *c)
{
    static const char *const words[] = {
        [DEVICE_FRUGAL_AUTO] = "auto", [DEVICE_FRUGAL_NO] = "gpu", [DEVICE_FRUGAL_YES] = "host"};

    for (int i = 0; i < (int)ARRAY_LEN(words) && c->text_encoder; i++) {
        if (strcmp(c->text_encoder, words[i]) == 0) {
            return i;
        }
    }
    return c->text_encoder ? -1 : DEVICE_FRUGAL_AUTO;
}

int device_choice_check(const struct device_choice *c, struct err *err)
{
    const char *name = name_of(c);

    if (strcmp(name, "auto") != 0 && strcmp(name, "cpu") != 0 && gpu_index(name) < 0) {
        return err_set(err, ERR_INVALID,
                       "device: '%.40s' is none of auto, cpu, cuda and cuda:N (N in 0..%d)", name,
                       MAX_INDEX);
    }
    if (c->precision && strcmp(c->precision, "bf16") != 0 && !is_f32(c)) {
        return err_set(err, ERR_INVALID, "precision: '%.40s' is neither bf16 nor f32",
                       c->precision);
    }
    if (frugal(c) < 0) {
        return err_set(err, ERR_INVALID, "text-encoder: '%.40s' is none of auto, gpu and host",
                       c->text_encoder);
    }
    return ERR_OK;
}

static int open_gpu(struct device *dev, const struct device_choice *c, int index, struct err *err)
{
    const struct device_cuda_options options = {
        .index = index,
        .f32 = is_f32(c),
        .frugal = (enum device_frugal)frugal(c),
        .deterministic = c->deterministic,
        .memory_limit = (size_t)c->vram_limit,
        .algos = c->algos,
    };

    return device_open_cuda(dev, &options, err);
}

/* With what multiplies, for that may be slow. */
static void log_gpu(struct device *dev)
{
    char text[160];

    device_describe(dev, text, sizeof(text));
    text[strcspn(text, "\n")] = '\0';
    log_info("device: %s%s%s%s", dev->name, text[0] ? " (" : "", text, text[0] ? ")" : "");
}

static int open_best(struct device *dev, const struct device_choice *c, struct err *err)
{
    const int gpu = open_gpu(dev, c, 0, err);
    char why[sizeof(err->msg)];
    int rc = gpu;

    if (rc == ERR_OK) {
        log_gpu(dev);
        return rc;
    }
    if (rc != ERR_NOT_FOUND && rc != ERR_UNSUPPORTED) {
        return err_prefix(err, "a GPU is there, but (--device cpu does without)");
    }
    memcpy(why, err->msg, sizeof(why));
    rc = device_open_cpu(dev, (int)c->threads, err);
    if (rc == ERR_OK) {
        /* A plugin or a GPU that does not fit was meant to be used. */
        if (gpu == ERR_UNSUPPORTED) {
            log_warn("device: %s (%s)", dev->name, why);
        } else {
            log_info("device: %s (%s)", dev->name, why);
        }
    }
    return rc;
}

int device_choice_open(struct device *dev, const struct device_choice *c, struct err *err)
{
    const char *name = name_of(c);
    int rc = device_choice_check(c, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (strcmp(name, "auto") == 0) {
        return open_best(dev, c, err);
    }
    rc = strcmp(name, "cpu") == 0 ? device_open_cpu(dev, (int)c->threads, err)
                                  : open_gpu(dev, c, gpu_index(name), err);
    if (rc == ERR_OK) {
        log_gpu(dev);
    }
    return rc;
}
