#include "base/size.h"

#include "tests/support/test.h"

TEST(size_mul_and_add_notice_overflow)
{
    size_t r = 0;

    EXPECT(size_mul(&r, 6, 7) && r == 42);
    EXPECT(size_mul(&r, SIZE_MAX, 1) && r == SIZE_MAX);
    EXPECT(size_mul(&r, 0, SIZE_MAX) && r == 0);
    EXPECT(!size_mul(&r, SIZE_MAX / 2 + 1, 2));
    EXPECT(!size_mul(&r, (size_t)1 << 32, (size_t)1 << 32));
    EXPECT(size_add(&r, SIZE_MAX - 1, 1) && r == SIZE_MAX);
    EXPECT(!size_add(&r, SIZE_MAX, 1));
}

TEST(size_count_mul_notices_overflow)
{
    int64_t r = 0;

    EXPECT(count_mul(&r, -6, 7) && r == -42);
    EXPECT(count_mul(&r, INT64_MAX, 1) && r == INT64_MAX);
    EXPECT(!count_mul(&r, INT64_MAX / 2 + 1, 2));
    EXPECT(!count_mul(&r, INT64_MIN, -1));
}

TEST(size_div_ceil_rounds_up)
{
    EXPECT_INT(div_ceil(0, 5), 0);
    EXPECT_INT(div_ceil(1, 5), 1);
    EXPECT_INT(div_ceil(5, 5), 1);
    EXPECT_INT(div_ceil(6, 5), 2);
    EXPECT_INT(div_ceil(7, 1), 7);
}
