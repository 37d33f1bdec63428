/*
 * cuda_test.h - one operation on two devices: the CPU in F32 as reference, and the plugin's device (a GPU or
 * the host simulator) that $SANAD_CUDA_PLUGIN or the usual search names.
 *
 * A pair is the same tensor on both. Inputs are rounded to the GPU's type before both get them, so that what is
 * compared is the operation's own error. GPU memory is guarded on both sides and begins as NaN.
 *
 *   static void run(struct device *dev, void *ctx, int side) {     side: CUDA_CPU or CUDA_GPU
 *       struct thing *t = ctx;
 *       EXPECT_OK(op_silu(dev, &t->y.on[side], &t->x.on[side], &err));
 *   }
 *   CUDA_TEST(silu) {                                              runs for both modes: dtype F32 and BF16
 *       struct thing t = {.x = cuda_pair_random(act, 1, 1.0, 2, dims), .y = cuda_pair_output(act, 2, dims)};
 *       cuda_test_run(run, &t);                                    CPU once, GPU twice with equal bits
 *       cuda_pair_expect(&t.y, act == DTYPE_BF16 ? 4e-3 : 1e-5);
 *   }
 *
 * Everything made is freed, and guards are checked, at the end of each mode. Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_CUDA_TEST_H
#define TESTS_SUPPORT_CUDA_TEST_H

#include <stdint.h>

#include "kernels/device.h"
#include "tests/support/test.h"

enum {
    CUDA_CPU,
    CUDA_GPU
};

struct cuda_pair {
    struct tensor
        on[2]; /* on[CUDA_CPU] is F32 (or the integer type), on[CUDA_GPU] of the type asked for */
    bool output;
    int slot; /* cuda_test.c's */
};

/* Uniform in (-scale, scale). */
struct cuda_pair cuda_pair_random(enum dtype dtype, uint64_t seed, double scale, int rank,
                                  const int64_t *dims);
/* From F32 numbers; they are rounded to dtype. */
struct cuda_pair cuda_pair_from(enum dtype dtype, const float *values, int rank,
                                const int64_t *dims);
struct cuda_pair cuda_pair_i32(const int32_t *values, int rank, const int64_t *dims);
/* NaN on both sides: to be written. dtype may be U8 (0xFF then). */
struct cuda_pair cuda_pair_output(enum dtype dtype, int rank, const int64_t *dims);
/* In and out: the random input is there again before each of the runs. */
struct cuda_pair cuda_pair_inout(enum dtype dtype, uint64_t seed, double scale, int rank,
                                 const int64_t *dims);

#define CUDA_DIMS(...)                                                                             \
    (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])             \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

typedef void (*cuda_test_fn)(struct device *dev, void *ctx, int side);

/* CPU once; GPU dry (writes nothing), then twice from the same start: outputs equal in every bit. */
void cuda_test_run(cuda_test_fn fn, void *ctx);

/* Relative L2 distance of the GPU's result from the CPU's is at most `tolerance`; no NaN. Elements whose
 * reference is NaN must be NaN. */
void cuda_pair_expect(const struct cuda_pair *pair, double tolerance);
double cuda_pair_distance(const struct cuda_pair *pair);

/* The GPU's numbers as F32; malloc'ed, freed with the mode. */
const float *cuda_pair_download(const struct cuda_pair *pair);

/* The device of the mode that runs. */
struct device *cuda_test_device(int side);

/* A test that runs twice; `act` is the mode's activation type. */
#define CUDA_TEST(name)                                                                            \
    static void cuda_test_##name(enum dtype act);                                                  \
    TEST(name)                                                                                     \
    {                                                                                              \
        cuda_test_both(cuda_test_##name);                                                          \
    }                                                                                              \
    static void cuda_test_##name(enum dtype act)
void cuda_test_both(void (*fn)(enum dtype act));

#endif
