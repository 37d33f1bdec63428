/*
 * support.h - what several checkers need: memory of one case, a planned workspace, latents.
 */
#ifndef TESTS_GOLDEN_RUNNER_SUPPORT_H
#define TESTS_GOLDEN_RUNNER_SUPPORT_H

#include "base/arena.h"
#include "engine/transformer.h"
#include "kernels/workspace.h"
#include "tests/golden_runner/golden.h"

/* Opened by golden_bench_open, closed by golden_bench_close; both accept half-open. */
struct golden_bench {
    struct golden_case *c;
    struct arena arena;
    struct workspace ws;
    struct transformer *tf;
};

MUST_CHECK int golden_bench_open(struct golden_bench *b, struct golden_case *c, bool transformer,
                                 struct err *err);
void golden_bench_close(struct golden_bench *b);

/* Memory of the case; never NULL (ends the program when there is none). */
float *golden_floats(struct golden_bench *b, int64_t n);

/* Runs fn twice: planned on a dry device, then for real in the planned workspace. */
typedef int (*golden_run_fn)(struct golden_bench *b, void *ctx, struct err *err);
MUST_CHECK int golden_run(struct golden_bench *b, golden_run_fn fn, void *ctx, struct err *err);

/* A host tensor (F32, or I32 as it is) in the workspace: as F32, or as activations. */
MUST_CHECK int golden_place(struct golden_bench *b, const struct tensor *host, struct tensor *ret,
                            struct err *err);
MUST_CHECK int golden_place_act(struct golden_bench *b, const struct tensor *host,
                                struct tensor *ret, struct err *err);

/* A tensor of the device as F32 in host memory of the case. Not in a dry run. */
MUST_CHECK int golden_host(struct golden_bench *b, const struct tensor *t, struct tensor *ret,
                           struct err *err);

/* Compares a tensor of the device with output `name`, row by row as it is; nothing in a dry run. */
MUST_CHECK int golden_compare_tensor(struct golden_bench *b, const char *name,
                                     const struct tensor *t, struct err *err);

/* Item `index` of the batch in input `name` [B, C, T, H, W], as [T, H, W, C] in host memory. */
MUST_CHECK int golden_latents(struct golden_bench *b, const char *name, int64_t index,
                              struct tensor *ret, struct err *err);

/* Prompt `index` of embeddings `y` [B, L, caption] where `mask` [B, L] is 1: [n, caption]. */
MUST_CHECK int golden_text(struct golden_bench *b, const char *y, const char *mask, int64_t index,
                           struct tensor *ret, struct err *err);

/* The picture `in.image01` [1, 3, H, W] in [0, 1], as [1, H, W, 3] in [-1, 1]; data NULL if the case
 * has none. */
MUST_CHECK int golden_image(struct golden_bench *b, struct tensor *ret, struct err *err);

/* Compares a block's own state with the outputs PREFIX.layerN.{vk,k_sum,temporal} that there are. */
MUST_CHECK int golden_compare_state(struct golden_bench *b, const char *prefix,
                                    const struct transformer_state *state, struct err *err);

/* An integer array of the params; returns its length, at most max. */
int golden_ints(const struct golden_case *c, const char *key, int64_t *out, int max);

/* Compares items[n] ([T, H, W, C] each, on the host) with output `name` [n, C, T, H, W]. */
MUST_CHECK int golden_compare_latents(struct golden_bench *b, const char *name,
                                      const struct tensor *items, int64_t n, struct err *err);

/* The same for items on the device; nothing in a dry run. */
MUST_CHECK int golden_compare_on_device(struct golden_bench *b, const char *name,
                                        const struct tensor *items, int64_t n, struct err *err);

#endif
