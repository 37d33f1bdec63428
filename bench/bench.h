/*
 * bench.h - measurements of the engine, one function per thing measured.
 *
 * Each prints one line and returns its figure. sgemm_gflops is what the device's matrix product
 * reaches, measured in the same run, so that the figures of different machines compare.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "kernels/device.h"

/* The Wan decoder in its steady state, in GFLOP/s. Writes and removes a file of weights under /tmp.
 * */
MUST_CHECK int bench_wan_decode(struct device *dev, double sgemm_gflops, double *ret_gflops,
                                struct err *err);

#endif
