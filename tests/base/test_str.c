#include "base/str.h"

#include <stdint.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

TEST(str_is_empty_before_the_first_append)
{
    struct str s;

    str_init(&s, 10);
    EXPECT_STR(str_get(&s), "");
    EXPECT_INT(s.len, 0);
    EXPECT(str_append(&s, NULL, 0));
    EXPECT_STR(str_get(&s), "");
    EXPECT(!s.failed);
    str_done(&s);
}

TEST(str_appends_bytes_text_and_formats)
{
    struct str s;

    str_init(&s, 100);
    EXPECT(str_append(&s, "a\0b", 3));
    EXPECT(str_add(&s, "cd"));
    EXPECT(str_addf(&s, "[%d %s]", -5, "x"));
    EXPECT(str_add(&s, ""));
    EXPECT(str_addf(&s, "%s", ""));
    EXPECT_INT(s.len, 11);
    EXPECT(memcmp(s.data, "a\0bcd[-5 x]", 12) == 0); /* with the NUL */
    str_done(&s);
}

TEST(str_grows_a_byte_at_a_time)
{
    struct str s;

    str_init(&s, 5000);
    for (int i = 0; i < 5000; i++) {
        const char c = (char)('a' + i % 26);

        EXPECT(i % 2 ? str_append(&s, &c, 1) : str_addf(&s, "%c", c));
        EXPECT_INT(s.len, i + 1);
        EXPECT(s.data[s.len] == '\0');
        EXPECT(s.capacity > s.len);
    }
    for (int i = 0; i < 5000; i++) {
        EXPECT(s.data[i] == (char)('a' + i % 26));
    }
    EXPECT(!str_add(&s, "!"));
    EXPECT_INT(s.len, 5000);
    str_done(&s);
}

TEST(str_stops_at_its_maximum_and_stays_failed)
{
    struct str s;

    str_init(&s, 5);
    EXPECT(str_add(&s, "abc"));
    EXPECT(str_add(&s, "de")); /* exactly full */
    EXPECT(!s.failed);
    EXPECT(!str_add(&s, "f"));
    EXPECT(s.failed);
    EXPECT_STR(str_get(&s), "abcde");
    EXPECT(!str_append(&s, "", 0));
    EXPECT(!str_addf(&s, "%s", ""));
    EXPECT_STR(str_get(&s), "abcde");
    str_done(&s);
    EXPECT(!s.failed); /* usable again, with the same maximum */
    EXPECT_STR(str_get(&s), "");
    EXPECT(!str_addf(&s, "%s", "abcdef"));
    EXPECT_STR(str_get(&s), "");
    str_done(&s);
}

TEST(str_of_maximum_zero_holds_nothing)
{
    struct str s;

    str_init(&s, 0);
    EXPECT(str_add(&s, ""));
    EXPECT(!str_add(&s, "a"));
    EXPECT_STR(str_get(&s), "");
    str_done(&s);
}

TEST(str_refuses_lengths_that_would_overflow)
{
    struct str s;

    str_init(&s, SIZE_MAX);
    EXPECT(str_add(&s, "abc"));
    EXPECT(!str_append(&s, "x", SIZE_MAX)); /* over the maximum, before anything is read */
    EXPECT_STR(str_get(&s), "abc");
    str_done(&s);
}

static bool build(struct str *s)
{
    return str_add(s, "head ") && str_addf(s, "%0100d", 7) && str_addf(s, "%0200d", 8) &&
           str_add(s, " tail");
}

/* Builds with the n-th allocation failing; false when there was none to fail. */
static bool build_failing_at(long n)
{
    static const size_t kept[] = {0, 5, 105}; /* what stood when the n-th allocation failed */
    struct str s;
    bool done;
    bool failed;

    str_init(&s, 1000);
    alloc_fail_at(n);
    done = build(&s);
    failed = alloc_fail_stop();
    EXPECT(done == !failed);
    EXPECT(s.failed == failed);
    if (failed) {
        EXPECT((size_t)n <= ARRAY_LEN(kept));
        EXPECT_INT(strlen(str_get(&s)), kept[n - 1]);
        EXPECT(!str_add(&s, "more"));
    } else {
        EXPECT_INT(s.len, 5 + 100 + 200 + 5);
    }
    str_done(&s);
    return failed;
}

TEST(str_survives_every_failed_allocation)
{
    long n = 1;

    while (build_failing_at(n)) {
        n++;
    }
    EXPECT_INT(n, 4);
}
