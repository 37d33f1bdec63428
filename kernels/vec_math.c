#include "kernels/vec_math.h"

void vec_silu(float *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = vec_silu1(in[i]);
    }
}

void vec_gelu_tanh(float *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = vec_gelu_tanh1(in[i]);
    }
}

/* Eight partial sums: a fixed order that the compiler can vectorise. */
double vec_sum(const float *x, int64_t n)
{
    double part[8] = {0};
    int64_t i = 0;

    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) {
            part[j] += (double)x[i + j];
        }
    }
    for (; i < n; i++) {
        part[i & 7] += (double)x[i];
    }
    return ((part[0] + part[4]) + (part[1] + part[5])) +
           ((part[2] + part[6]) + (part[3] + part[7]));
}

double vec_sum_squares(const float *x, int64_t n)
{
    double part[8] = {0};
    int64_t i = 0;

    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) {
            part[j] += (double)x[i + j] * (double)x[i + j];
        }
    }
    for (; i < n; i++) {
        part[i & 7] += (double)x[i] * (double)x[i];
    }
    return ((part[0] + part[4]) + (part[1] + part[5])) +
           ((part[2] + part[6]) + (part[3] + part[7]));
}
