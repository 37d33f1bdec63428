#include "tests/support/test.h"

#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct test *tests;
static jmp_buf end_of_test;
static char scratch_dir[256];
static char skip_reason[256];

void test_register(struct test *t)
{
    struct test **end = &tests;

    while (*end) {
        end = &(*end)->next;
    }
    *end = t;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;

    printf("    %s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    longjmp(end_of_test, 1);
}

void test_skip(const char *why)
{
    snprintf(skip_reason, sizeof(skip_reason), "%s", why);
    longjmp(end_of_test, 2);
}

void test_expect_int(const char *file, int line, const char *what, long long got, long long want)
{
    if (got != want) {
        test_fail(file, line, "%s is %lld, expected %lld", what, got, want);
    }
}

void test_expect_str(const char *file, int line, const char *what, const char *got,
                     const char *want)
{
    if (!got || strcmp(got, want) != 0) {
        test_fail(file, line, "%s is \"%s\", expected \"%s\"", what, got ? got : "(null)", want);
    }
}

void test_expect_contains(const char *file, int line, const char *text, const char *part)
{
    if (!text || !strstr(text, part)) {
        test_fail(file, line, "\"%s\" does not contain \"%s\"", text ? text : "(null)", part);
    }
}

void test_expect_close(const char *file, int line, const char *what, const float *got,
                       const float *want, int64_t n, double atol, double rtol)
{
    double max_want = 0;

    for (int64_t i = 0; i < n; i++) {
        max_want = fmax(max_want, fabs((double)want[i]));
    }
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - (double)want[i]) <= atol + rtol * max_want)) {
            test_fail(file, line, "%s[%lld] is %.9g, expected %.9g (max |expected| %.3g)", what,
                      (long long)i, (double)got[i], (double)want[i], max_want);
        }
    }
}

void test_fill(float *data, int64_t n, uint64_t seed)
{
    uint64_t s = seed * 0x9e3779b97f4a7c15U + 1;

    for (int64_t i = 0; i < n; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        data[i] = (float)((double)(s >> 11) / 4503599627370496.0 - 1.0);
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_dir(void)
{
    nftw(scratch_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_dir(void)
{
    if (scratch_dir[0] == '\0') {
        const char *tmp = getenv("TMPDIR");

        snprintf(scratch_dir, sizeof(scratch_dir), "%s/sanad-test-XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(scratch_dir)) {
            test_fail(__FILE__, __LINE__, "mkdtemp %s: %m", scratch_dir);
        }
        atexit(remove_dir);
    }
    return scratch_dir;
}

void *test_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);

    if (!p) {
        test_fail(__FILE__, __LINE__, "no memory for test data");
    }
    return p;
}

/* Returns 0 passed, 1 failed, 2 skipped. */
static int run_one(const struct test *t)
{
    const int how = setjmp(end_of_test);

    if (how == 0) {
        t->fn();
    }
    return how;
}

int main(int argc, char **argv)
{
    const char *no_skip = getenv("TEST_NO_SKIP");
    int count[3] = {0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (const struct test *t = tests; t; t = t->next) {
        int how;

        if (argc > 1 && !strstr(t->name, argv[1])) {
            continue;
        }
        how = run_one(t);
        if (how == 2 && no_skip && strcmp(no_skip, "1") == 0) {
            how = 1;
        }
        count[how]++;
        printf("%s %s%s%s\n",
               how == 0   ? "ok  "
               : how == 1 ? "FAIL"
                          : "skip",
               t->name, how == 2 ? ": " : "", how == 2 ? skip_reason : "");
    }
    printf("%d passed, %d failed, %d skipped\n", count[0], count[1], count[2]);
    if (count[1] > 0) {
        return 1;
    }
    return count[0] == 0 && count[2] > 0 ? 77 : 0;
}
