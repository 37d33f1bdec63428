/*
 * alloc_fail.h - fail the n-th allocation (SQLite's and curl's torture tests).
 *
 * Test programs are linked with --wrap=malloc and its kin, so every allocation made from the
 * project's own objects counts; what libraries allocate inside themselves does not, cJSON
 * excepted (its hooks are set by alloc_fail_hook_cjson).
 *
 *   for (long n = 1;; n++) {
 *       alloc_fail_at(n);
 *       rc = thing_open(&thing, &err);
 *       if (!alloc_fail_stop()) { break; }       the n-th was never reached: all were tried
 *       EXPECT(rc == ERR_NO_MEMORY);
 *   }
 */
#ifndef TESTS_SUPPORT_ALLOC_FAIL_H
#define TESTS_SUPPORT_ALLOC_FAIL_H

#include <stdbool.h>

/* The n-th allocation from now, counted from 1, returns NULL; all others succeed. */
void alloc_fail_at(long n);

/* Ends the countdown; was an allocation failed? */
bool alloc_fail_stop(void);

/* cJSON's allocations count too from now on. */
void alloc_fail_hook_cjson(void);

#endif
