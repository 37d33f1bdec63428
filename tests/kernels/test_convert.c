#include "kernels/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/op_test.h"

static uint32_t bits_of(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

static float of_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

/* IEEE 754 binary16 in double arithmetic. */
static double half_value(uint32_t bits)
{
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = (int)(bits >> 10 & 31);
    const double fraction = (double)(bits & 1023) / 1024;

    if (exponent == 0) {
        return sign * ldexp(fraction, -14);
    }
    return sign * ldexp(1 + fraction, exponent - 15);
}

TEST(convert_f16_is_exact_for_all_bit_patterns)
{
    int wrong = 0;

    for (uint32_t bits = 0; bits < 65536; bits++) {
        const float f = convert_f16((uint16_t)bits);
        const bool special = (bits & 0x7c00) == 0x7c00;

        if (special) {
            wrong += bits & 1023 ? !isnan(f) : f != (bits & 0x8000 ? -INFINITY : INFINITY);
        } else {
            wrong += (double)f != half_value(bits) || !!signbit(f) != (bits >> 15);
        }
    }
    EXPECT_INT(wrong, 0);
    EXPECT(convert_f16(0x3c00) == 1 && convert_f16(0xc000) == -2);
    EXPECT(convert_f16(0x7bff) == 65504 && convert_f16(0x0001) == 0x1p-24F);
}

TEST(convert_bf16_is_the_upper_half)
{
    static const uint16_t half[] = {0x3f80, 0xc000, 0x0001, 0x7f80, 0x8000};
    float *got = op_test_buffer(ARRAY_LEN(half) * sizeof(*got));

    convert_to_f32(got, half, DTYPE_BF16, (int64_t)ARRAY_LEN(half));
    EXPECT(got[0] == 1 && got[1] == -2 && got[3] == INFINITY);
    for (size_t i = 0; i < ARRAY_LEN(half); i++) {
        EXPECT_INT(bits_of(got[i]), (uint32_t)half[i] << 16);
    }
    op_test_free(got);
}

static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

/* n elements at an odd address give the same as each alone. */
static void check_unaligned(enum dtype type, int64_t n)
{
    const size_t size = dtype_size(type);
    unsigned char *from = op_test_buffer((size_t)n * size + 1);
    float *to = op_test_buffer((size_t)n * sizeof(*to));
    int wrong = 0;

    for (size_t i = 0; i < (size_t)n * size + 1; i++) {
        from[i] = (unsigned char)(i * 37 + i / 64);
    }
    op_test_freeze(from);
    convert_to_f32(to, from + 1, type, n);
    for (int64_t i = 0; i < n; i++) {
        uint32_t raw = 0; /* little endian */
        uint32_t want;

        memcpy(&raw, from + 1 + (size_t)i * size, size);
        want = type == DTYPE_F32    ? raw
               : type == DTYPE_BF16 ? raw << 16
                                    : bits_of(convert_f16((uint16_t)raw));
        wrong += bits_of(to[i]) != want;
    }
    EXPECT_INT(wrong, 0);
    op_test_free(from);
    op_test_free(to);
}

TEST(convert_reads_unaligned_elements_of_every_float_type)
{
    static const int64_t n[] = {0, 1, 31, 257};

    for (size_t t = 0; t < ARRAY_LEN(types) * ARRAY_LEN(n); t++) {
        check_unaligned(types[t % ARRAY_LEN(types)], n[t / ARRAY_LEN(types)]);
    }
}

TEST(convert_rounds_to_the_nearest_bf16_ties_to_even)
{
    static const uint32_t cases[][2] = {
        {0x3f800000, 0x3f800000}, /* exact */
        {0x3f807fff, 0x3f800000}, /* below the middle */
        {0x3f808000, 0x3f800000}, /* the middle, even below */
        {0x3f808001, 0x3f810000}, /* above */
        {0x3f818000, 0x3f820000}, /* the middle, even above */
        {0xbf818000, 0xbf820000}, /* and negative */
        {0x3fffffff, 0x40000000}, /* into the next binade */
        {0x7f7fffff, 0x7f800000}, /* the largest float becomes infinity */
        {0x7f800000, 0x7f800000}, {0x00008000, 0x00000000},
        {0x00018000, 0x00020000}, {0x80000000, 0x80000000},
    };
    float x[ARRAY_LEN(cases)];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        x[i] = of_bits(cases[i][0]);
    }
    convert_round_bf16(x, (int64_t)ARRAY_LEN(cases));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        EXPECT_INT(bits_of(x[i]), cases[i][1]);
    }
}

TEST(convert_rounding_keeps_nan)
{
    float x[] = {NAN, of_bits(0x7f800001), of_bits(0x7fffffff), of_bits(0xffffffff)};

    convert_round_bf16(x, 4); /* none may carry over into infinity or zero */
    EXPECT(isnan(x[0]) && isnan(x[1]) && isnan(x[2]) && isnan(x[3]));
}

TEST(convert_rounding_errs_by_half_an_ulp_at_most)
{
    enum {
        N = 10007
    };
    float *x = op_test_floats(N, 1);
    float *y = op_test_floats(N, 1);
    int wrong = 0;

    convert_round_bf16(y, N);
    for (int i = 0; i < N; i++) {
        wrong += (bits_of(y[i]) & 0xffff) != 0;
        wrong += !(fabs((double)y[i] - (double)x[i]) <= fabs((double)x[i]) * 0x1p-8);
    }
    EXPECT_INT(wrong, 0);
    op_test_free(x);
    op_test_free(y);
}

/* The nearest of the two bf16 that a float lies between, ties to the even one, in double arithmetic. */
static uint16_t nearest_bf16(float f)
{
    const uint32_t u = bits_of(f);
    const uint16_t down = (uint16_t)(u >> 16); /* toward zero */
    const double low = (double)of_bits((uint32_t)down << 16);
    const double high = (down & 0x7fff) == 0x7f7f ? copysign(0x1p128, (double)f)
                                                  : (double)of_bits((uint32_t)(down + 1) << 16);
    const double below = fabs((double)f - low);
    const double above = fabs(high - (double)f);

    return below < above || (below == above && down % 2 == 0) ? down : (uint16_t)(down + 1);
}

TEST(convert_floats_rounds_to_the_nearest_bf16)
{
    enum {
        N = 100000
    };
    float *from = test_alloc(N * sizeof(*from));
    uint16_t *to = test_alloc(N * sizeof(*to));
    int wrong = 0;

    for (uint32_t i = 0; i < N; i++) { /* every exponent; many ties and their neighbours */
        const uint32_t upper = i * 40503U << 16;

        from[i] = of_bits(i % 3 == 0 ? upper | 0x8000 : i % 3 == 1 ? upper | 0x7fff : upper + i);
    }
    convert_floats(to, DTYPE_BF16, from, DTYPE_F32, N);
    for (int i = 0; i < N; i++) {
        if (isnan(from[i])) {
            wrong += (to[i] & 0x7fff) <= 0x7f80;
        } else if (isinf(from[i])) {
            wrong += to[i] != bits_of(from[i]) >> 16;
        } else {
            wrong += to[i] != nearest_bf16(from[i]);
        }
    }
    EXPECT_INT(wrong, 0);
    free(from);
    free(to);
}

TEST(convert_floats_takes_f16_by_way_of_f32)
{
    enum {
        N = 65536
    };
    uint16_t *from = test_alloc(N * sizeof(*from));
    uint16_t *to = test_alloc(N * sizeof(*to));
    uint16_t *want = test_alloc(N * sizeof(*want));
    float *f32 = test_alloc(N * sizeof(*f32));

    for (int i = 0; i < N; i++) {
        from[i] = (uint16_t)i;
    }
    convert_floats(f32, DTYPE_F32, from, DTYPE_F16, N);
    convert_floats(want, DTYPE_BF16, f32, DTYPE_F32, N);
    convert_floats(to, DTYPE_BF16, from, DTYPE_F16, N);
    EXPECT(memcmp(to, want, N * sizeof(*to)) == 0);
    convert_floats(to, DTYPE_F16, from, DTYPE_F16, N);
    EXPECT(memcmp(to, from, N * sizeof(*to)) == 0);
    free(from);
    free(to);
    free(want);
    free(f32);
}
