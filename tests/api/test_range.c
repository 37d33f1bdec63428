#include "api/range.h"

#include "tests/support/test.h"

static const struct {
    const char *header;
    int64_t size;
    enum range_kind kind;
    int64_t first, len;
} cases[] = {
    {NULL, 100, RANGE_WHOLE, 0, 100},
    {"bytes=0-1", 100, RANGE_PART, 0, 2},
    {"bytes=0-0", 1, RANGE_PART, 0, 1},
    {"bytes=10-19", 100, RANGE_PART, 10, 10},
    {"bytes=10-", 100, RANGE_PART, 10, 90},
    {"bytes=99-", 100, RANGE_PART, 99, 1},
    {"bytes=90-200", 100, RANGE_PART, 90, 10},
    {"bytes=-10", 100, RANGE_PART, 90, 10},
    {"bytes=-100", 100, RANGE_PART, 0, 100},
    {"bytes=-200", 100, RANGE_PART, 0, 100},
    {"Bytes= 5-6 ", 100, RANGE_PART, 5, 2},
    {"bytes=0-99999999999999999999999999", 100, RANGE_PART, 0, 100},
    {"bytes=-99999999999999999999999999", 100, RANGE_PART, 0, 100},
    {"bytes=100-", 100, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=100-200", 100, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=99999999999999999999999999-", 100, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-0", 100, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-5", 0, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=0-1,5-6", 100, RANGE_WHOLE, 0, 100},
    {"bytes=20-10", 100, RANGE_WHOLE, 0, 100},
    {"bytes=", 100, RANGE_WHOLE, 0, 100},
    {"bytes=-", 100, RANGE_WHOLE, 0, 100},
    {"bytes=5", 100, RANGE_WHOLE, 0, 100},
    {"bytes=a-b", 100, RANGE_WHOLE, 0, 100},
    {"bytes=1-2x", 100, RANGE_WHOLE, 0, 100},
    {"bytes=--5", 100, RANGE_WHOLE, 0, 100},
    {"items=0-1", 100, RANGE_WHOLE, 0, 100},
    {"", 100, RANGE_WHOLE, 0, 100},
};

TEST(ranges_are_read_as_rfc_9110_has_them)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t first = -1;
        int64_t len = -1;
        const enum range_kind kind = range_parse(cases[i].header, cases[i].size, &first, &len);

        if (kind != cases[i].kind ||
            (kind != RANGE_UNSATISFIABLE && (first != cases[i].first || len != cases[i].len))) {
            test_fail(__FILE__, __LINE__, "'%s' of %lld: kind %d, %lld + %lld",
                      cases[i].header ? cases[i].header : "(none)", (long long)cases[i].size,
                      (int)kind, (long long)first, (long long)len);
        }
    }
}
