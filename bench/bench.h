/*
 * bench.h - measurements, one function per thing measured. Each returns its figure; the best of a
 * few repetitions. main.c prints them, with ratios taken in the same run, as a table and as JSON.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "kernels/device.h"

/* What single-threaded sgemm calls on all of the device's threads reach together, GFLOP/s. */
MUST_CHECK int bench_sgemm(struct device *dev, double *ret_gflops, struct err *err);

/* A forward of a transformer of the published width (2240) with two layers, GFLOP/s. */
MUST_CHECK int bench_transformer(struct device *dev, double *ret_gflops, struct err *err);

/* The Wan decoder of base 32 in its steady state, GFLOP/s. */
MUST_CHECK int bench_wan_decode(struct device *dev, double *ret_gflops, struct err *err);

/* H.264 at 832x480, veryfast, in frames/s. */
MUST_CHECK int bench_encoder(double *ret_fps, struct err *err);

/* Opening a model directory: milliseconds, and bytes copied out of the mapping. */
MUST_CHECK int bench_model_open(struct device *dev, const char *dir, double *ret_ms,
                                struct err *err);

/* Peak resident memory of `sanad generate` for a video of that many frames, in bytes. */
MUST_CHECK int bench_peak_memory(const char *sanad, const char *model, int frames,
                                 double *ret_bytes, struct err *err);

#endif
