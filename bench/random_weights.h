/*
 * random_weights.h - a component with made-up weights, for measuring without model files.
 */
#ifndef BENCH_RANDOM_WEIGHTS_H
#define BENCH_RANDOM_WEIGHTS_H

#include "engine/model_expect.h"
#include "engine/weights.h"

/* Calls fn for every tensor of the component that `config` describes. */
typedef bool (*random_weights_fn)(void *config, model_expect_fn fn, void *ctx);

/* Writes a file under /tmp, maps it and removes its name. Vectors are ones; matrices and kernels are
 * random, of a scale that keeps the size of what they multiply. F32. */
MUST_CHECK int random_weights_open(struct weights **ret, random_weights_fn enumerate, void *config,
                                   struct err *err);

#endif
