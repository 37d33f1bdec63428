/*
 * op_test.h - what every test of an operation does: guarded memory, and one run per thread count.
 *
 * Buffers have guard bytes in front and behind, NaN as f32, so that reading them shows in the
 * result; op_test_free() ends the test if one was written, or if a frozen buffer is not what it was.
 * Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_OP_TEST_H
#define TESTS_SUPPORT_OP_TEST_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "tests/support/test.h"

/* All bytes 0xFF: NaN as f32, so that what is never written shows. */
void *op_test_buffer(size_t bytes);

/* n floats from test_fill(). */
float *op_test_floats(int64_t n, uint64_t seed);

/* An input from now on: op_test_free() expects the bytes of this moment. */
void op_test_freeze(void *p);

/* Checks the guards and what was frozen, then frees. */
void op_test_free(void *p);

/* Rounds n floats to bf16 in place and returns a buffer of their upper halves. */
uint16_t *op_test_bf16(float *x, int64_t n);

/* The operation under test: calls op_...() on dev and ends the test if that fails. */
typedef void (*op_test_fn)(struct device *dev, void *ctx);

/* Runs fn dry and on 1, 2 and 3 threads; each run finds in `out` (from op_test_buffer) what is there
 * now. The dry run must leave it so; the others must agree in every bit. The last result stays. */
void op_test_run(op_test_fn fn, void *ctx, void *out);

/* The call is refused, and the sentence contains `text`. Uses the local `err`. */
#define EXPECT_REFUSED(call, text)                                                                 \
    do {                                                                                           \
        err.msg[0] = '\0';                                                                         \
        EXPECT_INT((call), ERR_INVALID);                                                           \
        EXPECT_CONTAINS(err.msg, (text));                                                          \
    } while (0)

#endif
