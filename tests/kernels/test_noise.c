#include "kernels/noise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/op_test.h"

TEST(noise_philox_gives_the_published_vectors)
{
    /* kat_vectors of Random123 1.x: counter, key, result of philox4x32-10. */
    static const uint32_t kat[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
         0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
         0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    uint32_t out[5] = {0, 0, 0, 0, 77};

    for (size_t i = 0; i < ARRAY_LEN(kat); i++) {
        noise_philox(kat[i], kat[i] + 4, out);
        EXPECT(memcmp(out, kat[i] + 6, 4 * sizeof(out[0])) == 0);
    }
    EXPECT(out[4] == 77);
}

/* Number `lane` of a group by Box-Muller, from the generator's words. */
static double box_muller(const uint32_t word[4], int lane)
{
    const double u = ldexp((double)word[lane & 2] + 0.5, -32);
    const double v = ldexp((double)word[(lane & 2) + 1] + 0.5, -32);
    const double radius = sqrt(-2 * log(u));
    const double angle = 8 * atan(1) * v;

    return radius * (lane & 1 ? sin(angle) : cos(angle));
}

TEST(noise_is_box_muller_of_the_generator)
{
    static const uint64_t seed[] = {0, 1, 0x123456789abcdef0, UINT64_MAX};
    static const uint64_t stream[] = {0, 5, 0xfedcba9876543210};
    static const int64_t index[] = {0, 1, 2, 3, 4, 1000003, ((int64_t)1 << 34) + 5, INT64_MAX};

    for (size_t i = 0; i < 96; i++) {
        const uint64_t s = seed[i % 4];
        const uint64_t t = stream[i / 4 % 3];
        const int64_t at = index[i / 12];
        const uint64_t group = (uint64_t)at / 4;
        const uint32_t counter[] = {(uint32_t)group, (uint32_t)(group >> 32), (uint32_t)t,
                                    (uint32_t)(t >> 32)};
        const uint32_t key[] = {(uint32_t)s, (uint32_t)(s >> 32)};
        uint32_t word[4];

        noise_philox(counter, key, word);
        EXPECT(fabs((double)noise_normal(s, t, at) - box_muller(word, (int)(at % 4))) <= 5e-7);
    }
}

struct noise_run {
    struct tensor y;
    uint64_t seed, stream;
    int64_t first;
};

static void run(struct device *dev, void *ctx)
{
    const struct noise_run *r = ctx;
    struct err err;

    EXPECT_OK(op_noise(dev, &r->y, r->seed, r->stream, r->first, &err));
}

/* A piece of a stream is what the scalar function says, on any number of threads. */
static void check_piece(int64_t first, int64_t n)
{
    float *y = op_test_buffer((size_t)n * sizeof(*y));
    struct noise_run r = {.y = TENSOR_F32(y, n), .seed = 42, .stream = 7, .first = first};
    int64_t wrong = 0;

    op_test_run(run, &r, y);
    for (int64_t i = 0; i < n; i++) {
        wrong += y[i] != noise_normal(42, 7, first + i);
    }
    EXPECT_INT(wrong, 0);
    op_test_free(y);
}

TEST(noise_of_any_piece_is_the_piece_of_the_whole)
{
    static const int64_t first[] = {0, 1, 2, 3, 16383, ((int64_t)1 << 40) + 3};
    static const int64_t n[] = {0, 1, 5, 31, 257, 40001};

    for (size_t i = 0; i < ARRAY_LEN(first) * ARRAY_LEN(n); i++) {
        check_piece(first[i / ARRAY_LEN(n)], n[i % ARRAY_LEN(n)]);
    }
    check_piece(INT64_MAX - 31, 31); /* the end of a stream */
}

enum {
    MANY = 1000000
};

static float *make_many(uint64_t seed, uint64_t stream)
{
    float *y = op_test_buffer(MANY * sizeof(*y));
    struct noise_run r = {.y = TENSOR_F32(y, MANY), .seed = seed, .stream = stream};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    run(&dev, &r);
    device_close(&dev);
    return y;
}

TEST(noise_has_the_moments_of_a_standard_normal)
{
    /* Bounds of five standard errors for a million numbers. */
    float *y = make_many(20260823, 3);
    double m[5] = {0};
    double inside = 0;
    double largest = 0;

    for (int i = 0; i < MANY; i++) {
        const double x = (double)y[i];

        m[1] += x / MANY;
        m[2] += x * x / MANY;
        m[3] += x * x * x / MANY;
        m[4] += x * x * x * x / MANY;
        inside += fabs(x) < 1 ? 1.0 / MANY : 0;
        largest = fmax(largest, fabs(x));
    }
    EXPECT(fabs(m[1]) <= 5 * 1e-3);
    EXPECT(fabs(m[2] - 1) <= 5 * sqrt(2.0 / MANY));
    EXPECT(fabs(m[3]) <= 5 * sqrt(15.0 / MANY));
    EXPECT(fabs(m[4] - 3) <= 5 * sqrt(96.0 / MANY));
    EXPECT(fabs(inside - 0.682689492) <= 5 * sqrt(0.6827 * 0.3173 / MANY));
    EXPECT(largest > 4 && largest < 6.8); /* sqrt(-2 ln(2^-33)) = 6.76 */
    op_test_free(y);
}

static double correlation(const float *a, const float *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum / (double)n;
}

TEST(noise_of_other_seeds_streams_and_places_is_unrelated)
{
    const double bound = 5 * 1e-3; /* five standard errors */
    float *y = make_many(1, 0);
    float *other_seed = make_many(2, 0);
    float *other_stream = make_many(1, 1);
    float *high_seed = make_many(1 + ((uint64_t)1 << 32), 0);
    float *high_stream = make_many(1, (uint64_t)1 << 32);

    EXPECT(fabs(correlation(y, other_seed, MANY)) <= bound);
    EXPECT(fabs(correlation(y, other_stream, MANY)) <= bound);
    EXPECT(fabs(correlation(y, high_seed, MANY)) <= bound);
    EXPECT(fabs(correlation(y, high_stream, MANY)) <= bound);
    for (int lag = 1; lag <= 4; lag++) {
        EXPECT(fabs(correlation(y, y + lag, MANY - lag)) <= bound);
    }
    op_test_free(y);
    op_test_free(other_seed);
    op_test_free(other_stream);
    op_test_free(high_seed);
    op_test_free(high_stream);
}

TEST(noise_refuses_what_does_not_fit)
{
    float data[4] = {0};
    struct tensor y = TENSOR_F32(data, 4);
    struct tensor ints = TENSOR_OF(data, DTYPE_I32, 4);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_REFUSED(op_noise(&dev, &ints, 0, 0, 0, &err), "noise: y is I32[4]");
    EXPECT_REFUSED(op_noise(&dev, &y, 0, 0, -1, &err), "noise: first index -1");
    EXPECT_REFUSED(op_noise(&dev, &y, 0, 0, INT64_MAX - 3, &err), "noise: first index");
    device_close(&dev);
}
