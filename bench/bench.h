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

/* The bundled model on the CPU, `sanad generate` from start to end: frames/s, and seconds to the first block. */
MUST_CHECK int bench_demo(const char *sanad, double *ret_fps, double *ret_first_block_s,
                          struct err *err);

/* ---- the daemon (bench_daemon.c) ---- */

struct bench_paths {
    const char *sanad; /* the binary */
    const char *model; /* a small model's directory */
};

/* From fork to the first 200 of /readyz, median; resident bytes of the idle daemon process. */
MUST_CHECK int bench_daemon_start(const struct bench_paths *paths, double *ret_ms,
                                  double *ret_idle_bytes, struct err *err);

/* GET /v1/videos/{id} by wrk on 32 connections, while that video is made. */
MUST_CHECK int bench_daemon_requests(const struct bench_paths *paths, double *ret_rate,
                                     double *ret_p99_ms, struct err *err);

/* Events of a video that is made, to 1000 readers: from the first one's to the last one's reception; p99. */
MUST_CHECK int bench_daemon_fanout(const struct bench_paths *paths, double *ret_p99_ms,
                                   struct err *err);

/* From a block's completion in the worker to its first byte at a viewer, median. */
MUST_CHECK int bench_daemon_block(const struct bench_paths *paths, double *ret_p50_ms,
                                  struct err *err);

#endif
