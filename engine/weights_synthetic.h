/*
 * weights_synthetic.h - numbers that stand for any weight: to measure a model without its files
 *
 * A cycle of 2^24 BF16 numbers, mapped again and again behind itself, so that a tensor of any size is a view
 * into it. A tensor begins at a place that its name decides. Matrices are uniform with a standard deviation of
 * 0.02, which keeps activations near 1; norms ("norm", "gamma", "std" in the name) are uniform in 0.9..1.1.
 *
 * The numbers are part of the contract, so that another program can make the same model
 * (bench/gpu/pytorch.py): with u(i) = (splitmix64(i) >> 40) / 2^24 in [0, 1), i in [0, 2^24),
 *   matrix[i] = bf16((2 u(i) - 1) * 0.0346410162),   norm[i] = bf16(1 + 0.1 (2 u(i) - 1))
 * and element k of tensor NAME is number (place + k) mod 2^24, place = fnv1a64(NAME) mod 2^18 * 64.
 *
 * Created by one thread; views may be read by any until it is freed.
 */
#ifndef ENGINE_WEIGHTS_SYNTHETIC_H
#define ENGINE_WEIGHTS_SYNTHETIC_H

#include "base/err.h"
#include "kernels/tensor.h"

struct weights_synthetic;

/* Errors: ERR_NO_MEMORY, ERR_IO (no anonymous file). */
MUST_CHECK int weights_synthetic_create(struct weights_synthetic **ret, struct err *err);

/* Accepts NULL. */
void weights_synthetic_free(struct weights_synthetic *s);

/* A BF16 view. Errors: ERR_INVALID: more than 2^30 elements, or a dimension that is not given. */
MUST_CHECK int weights_synthetic_get(const struct weights_synthetic *s, const char *name, int rank,
                                     const int64_t *dims, struct tensor *ret, struct err *err);

#endif
