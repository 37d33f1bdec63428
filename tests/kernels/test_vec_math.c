#include "kernels/vec_math.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/op_test.h"

static double exact_silu(double x)
{
    return x / (1.0 + exp(-x));
}

static double exact_gelu_tanh(double x)
{
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

/* Largest |got - want| / |unit| over n points of [low, high]. */
static double worst(float (*fn)(float), double (*want)(double), double (*unit)(double), double low,
                    double high, int n)
{
    double max = 0;

    for (int i = 0; i <= n; i++) {
        const float x = (float)(low + (high - low) * i / n);
        const double error = fabs((double)fn(x) - want((double)x));

        if (!(error <= max * fabs(unit((double)x)))) { /* NaN too, and stays */
            max = error / fabs(unit((double)x));
        }
    }
    return max;
}

TEST(vec_math_exp_is_exact_to_3e_7)
{
    EXPECT(worst(vec_exp1, exp, exp, -87, 88, 400000) <= 3e-7);
    EXPECT(worst(vec_exp1, exp, exp, -1, 1, 100000) <= 3e-7);
    EXPECT(vec_exp1(0) == 1);
}

TEST(vec_math_silu_is_exact_to_3e_7)
{
    EXPECT(worst(vec_silu1, exact_silu, exact_silu, -87, 88, 400001) <= 3e-7);
    EXPECT(worst(vec_silu1, exact_silu, exact_silu, -1.001, 1, 100000) <= 3e-7);
}

static double the_argument(double x)
{
    return x;
}

TEST(vec_math_gelu_is_exact_to_3e_7_of_its_argument)
{
    EXPECT(worst(vec_gelu_tanh1, exact_gelu_tanh, the_argument, -90, 90, 400001) <= 3e-7);
    EXPECT(worst(vec_gelu_tanh1, exact_gelu_tanh, the_argument, -6.001, 6, 100000) <= 3e-7);
    EXPECT(worst(vec_gelu_tanh1, exact_gelu_tanh, exact_gelu_tanh, 0.001, 90, 100000) <= 3e-7);
}

TEST(vec_math_tanh_is_exact_to_3e_7)
{
    EXPECT(worst(vec_tanh1, tanh, tanh, -90, 90, 400001) <= 3e-7);
    EXPECT(worst(vec_tanh1, tanh, tanh, -1.001, 1, 100000) <= 3e-7); /* both branches */
}

TEST(vec_math_saturates_without_infinity)
{
    EXPECT(vec_exp1(-87.4F) == 0 && vec_exp1(-100) == 0 && vec_exp1(-1e30F) == 0);
    EXPECT(vec_exp1(-INFINITY) == 0);
    EXPECT(fabs((double)vec_exp1(1000) / exp(88) - 1) <= 3e-7);
    EXPECT(vec_exp1(INFINITY) == vec_exp1(88));
    EXPECT(vec_silu1(0) == 0 && vec_gelu_tanh1(0) == 0 && vec_tanh1(0) == 0);
    EXPECT(fabsf(vec_silu1(-100)) < 1e-36F && fabsf(vec_gelu_tanh1(-100)) < 1e-36F);
    EXPECT(vec_silu1(100) == 100 && vec_gelu_tanh1(100) == 100);
    EXPECT(vec_silu1(3e38F) == 3e38F && vec_gelu_tanh1(3e38F) == 3e38F);
    EXPECT(vec_tanh1(100) == 1 && vec_tanh1(-100) == -1);
    EXPECT(vec_tanh1(INFINITY) == 1 && vec_tanh1(-INFINITY) == -1);
}

TEST(vec_math_never_turns_nan_or_infinity_into_a_number)
{
    EXPECT(isnan(vec_exp1(NAN)) && isnan(vec_exp1(-NAN)));
    EXPECT(isnan(vec_silu1(NAN)) && isnan(vec_silu1(-NAN)));
    EXPECT(isnan(vec_gelu_tanh1(NAN)) && isnan(vec_gelu_tanh1(-NAN)));
    EXPECT(isnan(vec_tanh1(NAN)) && isnan(vec_tanh1(-NAN)));
    EXPECT(vec_silu1(INFINITY) == INFINITY && vec_gelu_tanh1(INFINITY) == INFINITY);
    EXPECT(!isfinite(vec_silu1(-INFINITY)) && !isfinite(vec_gelu_tanh1(-INFINITY)));
}

/* Every element of a row is what the scalar function gives: no lane or tail is special. */
static void check_row(void (*row)(float *, const float *, int64_t), float (*one)(float), int64_t n)
{
    float *x = op_test_floats(n, 3);
    float *y = op_test_buffer((size_t)n * sizeof(*y));
    int64_t wrong = 0;

    for (int64_t i = 0; i < n; i++) {
        x[i] *= 20;
    }
    row(y, x, n);
    for (int64_t i = 0; i < n; i++) {
        wrong += y[i] != one(x[i]);
    }
    EXPECT_INT(wrong, 0);
    row(x, x, n); /* in place */
    for (int64_t i = 0; i < n; i++) {
        wrong += x[i] != y[i];
    }
    EXPECT_INT(wrong, 0);
    op_test_free(x);
    op_test_free(y);
}

TEST(vec_math_rows_are_the_scalars)
{
    static const int64_t n[] = {0, 1, 3, 4, 31, 257};

    for (size_t i = 0; i < ARRAY_LEN(n); i++) {
        check_row(vec_silu, vec_silu1, n[i]);
        check_row(vec_gelu_tanh, vec_gelu_tanh1, n[i]);
    }
}

static void check_sums(int64_t n)
{
    float *x = op_test_floats(n, (uint64_t)n);
    double sum = 0;
    double squares = 0;

    op_test_freeze(x);
    for (int64_t i = n - 1; i >= 0; i--) { /* another order on purpose */
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    EXPECT(fabs(vec_sum(x, n) - sum) <= 1e-13 * (double)n);
    EXPECT(fabs(vec_sum_squares(x, n) - squares) <= 1e-13 * (double)n);
    op_test_free(x);
}

TEST(vec_math_sums_in_double)
{
    static const int64_t n[] = {0, 1, 7, 8, 9, 31, 257, 100001};
    const float x[] = {16777216, 1}; /* their sum is no float */
    const float y[] = {3, -4, 12};

    for (size_t i = 0; i < ARRAY_LEN(n); i++) {
        check_sums(n[i]);
    }
    EXPECT(vec_sum(x, 2) == 16777217);
    EXPECT(vec_sum(y, 3) == 11);
    EXPECT(vec_sum_squares(y, 3) == 169);
}
