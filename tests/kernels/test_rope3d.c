#include "kernels/rope3d.h"

#include <math.h>

#include "tests/support/op_test.h"

TEST(rope3d_splits_a_head_into_t_h_w)
{
    EXPECT_INT(rope3d_hw_pairs(112), 18);
    EXPECT_INT(rope3d_t_pairs(112), 20);
    EXPECT_INT(rope3d_hw_pairs(12), 2);
    EXPECT_INT(rope3d_t_pairs(12), 2);
    EXPECT_INT(rope3d_hw_pairs(2), 0);
    EXPECT_INT(rope3d_t_pairs(2), 1);
    for (int64_t d = 2; d <= 256; d += 2) {
        EXPECT_INT(2 * (rope3d_t_pairs(d) + 2 * rope3d_hw_pairs(d)), d);
    }
}

TEST(rope3d_of_known_angles)
{
    /* Two pairs: frequencies 1 and 1 / 100. */
    float table[3 * 2 * 2 + 1];

    table[12] = 77;
    rope3d_fill(table, 0, 3, 2);
    EXPECT(table[0] == 1 && table[1] == 0 && table[2] == 1 && table[3] == 0);
    EXPECT_CLOSE(table + 4, ((float[]){0.54030231F, 0.84147098F, 0.99995F, 0.00999983F}), 4, 6e-8,
                 0);
    EXPECT_CLOSE(table + 8, ((float[]){-0.41614684F, 0.9092974F, 0.99980001F, 0.01999867F}), 4,
                 6e-8, 0);
    EXPECT(table[12] == 77);
}

/* Largest difference from the formula, with the frequency as exp(-ln(10000) 2j / d). */
static double worst(const float *table, int64_t first, int64_t n, int64_t pairs)
{
    double max = 0;

    for (int64_t i = 0; i < n * pairs; i++) {
        const int64_t position = first + i / pairs;
        const int64_t j = i % pairs;
        const double frequency = exp(-log(10000.0) * 2 * (double)j / (2 * (double)pairs));
        const double angle = (double)position * frequency;

        max = fmax(max, fabs((double)table[2 * i] - cos(angle)));
        max = fmax(max, fabs((double)table[2 * i + 1] - sin(angle)));
    }
    return max;
}

TEST(rope3d_keeps_f32_precision_far_out)
{
    static const int64_t pairs[] = {1, 2, 18, 20, 31};
    static const int64_t first[] = {0, 1, 257, 100000};

    for (size_t i = 0; i < ARRAY_LEN(pairs) * ARRAY_LEN(first); i++) {
        const int64_t p = pairs[i % ARRAY_LEN(pairs)];
        const int64_t start = first[i / ARRAY_LEN(pairs)];
        float *table = op_test_buffer((size_t)(31 * p) * 2 * sizeof(*table));

        rope3d_fill(table, start, 31, p);
        EXPECT(worst(table, start, 31, p) <= 6e-8);
        op_test_free(table);
    }
}

TEST(rope3d_positions_are_absolute)
{
    /* A block that starts at 5 has the rows of a table that starts at 0. */
    float whole[40];
    float part[13];

    part[12] = 77;
    rope3d_fill(whole, 0, 10, 2);
    rope3d_fill(part, 5, 3, 2);
    EXPECT_CLOSE(part, whole + 20, 12, 0, 0);
    rope3d_fill(part, 6, 0, 2); /* nothing */
    EXPECT_CLOSE(part, whole + 20, 12, 0, 0);
    EXPECT(part[12] == 77);
}
