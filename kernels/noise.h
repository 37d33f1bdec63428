/*
 * noise.h - standard normal noise as a pure function of (seed, stream, index)
 *
 *   y[i] = normal(seed, stream, first + i)      y  [any]  f32  out
 *
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC11):
 * key = seed, counter = (index / 4, stream); its four words give four normals by Box-Muller, the
 * uniforms being (word + 0.5) / 2^32. Nothing runs on, so any piece of any stream can be made at
 * any time: an interrupted job continues with the same noise.
 *
 * Errors: ERR_INVALID dtype, or indices outside 0..2^63-1. Engine thread; noise_normal and
 * noise_philox any thread.
 */
#ifndef KERNELS_NOISE_H
#define KERNELS_NOISE_H

#include "kernels/device.h"

C_BEGIN

MUST_CHECK int op_noise(struct device *dev, const struct tensor *y, uint64_t seed, uint64_t stream,
                        int64_t first, struct err *err);

/* The generator itself: ten rounds on counter[4] with key[2]. */
void noise_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* One number, for tests and tools. */
float noise_normal(uint64_t seed, uint64_t stream, int64_t index);

C_END

#endif
