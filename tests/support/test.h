/*
 * test.h - one test program per source file, one process each.
 *
 *   TEST(str_append_stops_at_its_maximum) { EXPECT(...); }
 *
 * registers itself. Exit status 0 passed, 1 failed, 77 skipped (TEST_NO_SKIP=1 turns a skip into a
 * failure). A failed EXPECT prints where and what, and ends that test. The last line is
 * "N passed, N failed, N skipped".
 */
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/macros.h"

typedef void (*test_fn)(void);

struct test {
    const char *name;
    test_fn fn;
    struct test *next;
};

void test_register(struct test *t);

/* Both end the running test. */
__attribute__((noreturn)) void test_fail(const char *file, int line, const char *format, ...)
    PRINTF_LIKE(3, 4);
__attribute__((noreturn)) void test_skip(const char *why);

#define TEST(test_name)                                                                            \
    static void test_name(void);                                                                   \
    __attribute__((constructor)) static void register_##test_name(void)                            \
    {                                                                                              \
        static struct test t = {.name = #test_name, .fn = (test_name)};                            \
        test_register(&t);                                                                         \
    }                                                                                              \
    static void test_name(void)

/* One expression, so that it adds nothing to the nesting of a test. */
#define EXPECT(cond) ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, "expected %s", #cond))

#define EXPECT_INT(got, want)                                                                      \
    test_expect_int(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))
void test_expect_int(const char *file, int line, const char *what, long long got, long long want);

#define EXPECT_STR(got, want) test_expect_str(__FILE__, __LINE__, #got, (got), (want))
void test_expect_str(const char *file, int line, const char *what, const char *got,
                     const char *want);

/* `text` contains `part`. */
#define EXPECT_CONTAINS(text, part) test_expect_contains(__FILE__, __LINE__, (text), (part))
void test_expect_contains(const char *file, int line, const char *text, const char *part);

/* The call returns ERR_OK; else its sentence is printed. Uses the local `err`. */
#define EXPECT_OK(call)                                                                            \
    ((call) == ERR_OK ? (void)0 : test_fail(__FILE__, __LINE__, "%s: %s", #call, err.msg))

/* max|got - want| <= atol + rtol * max|want| over n floats; NaN never passes. */
#define EXPECT_CLOSE(got, want, n, atol, rtol)                                                     \
    test_expect_close(__FILE__, __LINE__, #got, (got), (want), (n), (atol), (rtol))
void test_expect_close(const char *file, int line, const char *what, const float *got,
                       const float *want, int64_t n, double atol, double rtol);

/* Deterministic test data in [-1, 1). */
void test_fill(float *data, int64_t n, uint64_t seed);

/* A fresh empty folder under TMPDIR; removed when the program ends. */
const char *test_dir(void);

/* malloc that ends the test when there is no memory; for test data. */
void *test_alloc(size_t bytes);

#endif
