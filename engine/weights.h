/*
 * weights.h - the tensors of one component (transformer, vae, text_encoder) of a model directory.
 *
 * A component is a folder with one .safetensors file, or shards with an index
 * (NAME.safetensors.index.json), as diffusers and transformers write them. Everything is mapped;
 * nothing is copied that need not be.
 *
 * A model's loader takes tensors by name with their exact shape. Each taken tensor is marked, so
 * that what was never taken can be reported. Keys with and without the prefix given at open are
 * the same key.
 *
 * Opened and read by one thread; the views may be read from any thread until weights_close.
 */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include "base/arena.h"
#include "engine/safetensors.h"
#include "kernels/device.h"

struct weights;

/* Opens DIR. stem: "diffusion_pytorch_model" or "model": STEM.safetensors, STEM.fp16.safetensors,
 * STEM.bf16.safetensors, or STEM.safetensors.index.json with its shards. prefix: optional key
 * prefix that is dropped where present ("model."), or NULL.
 * Errors: ERR_NOT_FOUND (no file, missing shard: named), ERR_FORMAT, ERR_IO, ERR_NO_MEMORY. */
MUST_CHECK int weights_open(struct weights **ret, const char *dir, const char *stem,
                            const char *prefix, struct err *err);

/* A component of synthetic weights (weights_synthetic.h): it has every tensor, in any shape, as BF16. Its
 * totals are 0. Errors: ERR_NO_MEMORY, ERR_IO. */
MUST_CHECK int weights_open_synthetic(struct weights **ret, struct err *err);

/* Accepts NULL. */
void weights_close(struct weights *w);

/* The component's folder, for messages. */
const char *weights_dir(const struct weights *w);

/* Finds a tensor by name and checks its shape; a dimension of -1 fits any. The view borrows the
 * mapping. Errors: ERR_FORMAT "DIR: tensor NAME is missing", "... has shape [..], expected [..]",
 * "... is I64, expected F32, BF16 or F16". */
#define WEIGHTS_GET(w, ret, err, name, ...)                                                        \
    weights_get((w), (name), (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),      \
                (const int64_t[]){__VA_ARGS__}, (ret), (err))
MUST_CHECK int weights_get(struct weights *w, const char *name, int rank, const int64_t *dims,
                           struct tensor *ret, struct err *err);

/* Is there such a tensor? Does not mark it. */
bool weights_has(const struct weights *w, const char *name);

/* Marks a tensor as known and deliberately unused. */
void weights_ignore(struct weights *w, const char *name);

/* Names of tensors nobody took, in file order: returns how many, writes at most max of them. */
size_t weights_unused(const struct weights *w, const char **names, size_t max);

/* Totals over the files. */
int64_t weights_parameter_count(const struct weights *w);
size_t weights_total_bytes(const struct weights *w);
size_t weights_tensor_count(const struct weights *w);
const struct safetensors_entry *weights_at(const struct weights *w, size_t i);

/*
 * What the engine computes with. The pool owns converted copies on the device; it borrows mapped
 * tensors where the device can read them as they lie (CPU, aligned). Freed before the weights.
 */
struct weight_pool {
    struct device *dev; /* borrowed */
    void **blocks;      /* owned device memory */
    size_t n_blocks;
    size_t capacity;
    size_t bytes; /* copied, in all */
};

void weight_pool_init(struct weight_pool *pool, struct device *dev);
void weight_pool_done(struct weight_pool *pool);

/* A large matrix: in its own type, mapped where possible; on a GPU as activations are (dev->act). Same
 * shape as `from`. */
MUST_CHECK int weight_pool_keep(struct weight_pool *pool, const struct tensor *from,
                                struct tensor *ret, struct err *err);

/* A small tensor (bias, norm, table) as F32: mapped if it is F32 and aligned, else converted. */
MUST_CHECK int weight_pool_f32(struct weight_pool *pool, const struct tensor *from,
                               struct tensor *ret, struct err *err);

/* A convolution's kernel as activations are (dev->act): mapped if it is of that type and the device
 * reads the mapping, else converted. */
MUST_CHECK int weight_pool_act(struct weight_pool *pool, const struct tensor *from,
                               struct tensor *ret, struct err *err);

/* A tensor that the loader rearranged on the host (a convolution's taps, a fused matrix): copied from
 * host[] into the pool as `dtype`: F32, or dev->act. */
MUST_CHECK int weight_pool_copy(struct weight_pool *pool, enum dtype dtype, int rank,
                                const int64_t *dims, const float *host, struct tensor *ret,
                                struct err *err);

#endif
