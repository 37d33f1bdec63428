/*
 * noise.cu - Philox and Box-Muller, in double as on the CPU: near u = 1 the logarithm of an f32
 * would miss.
 *
 * A thread makes the four normals of a counter and writes those that are asked for. A block of
 * latents (1M numbers) costs 100 MFLOP in double: about 100 us even where double is slow.
 */
#include "kernels/noise.h"

#include "kernels/cuda_map.cuh"

static __device__ __forceinline__ uint32_t high_half(uint64_t x)
{
    return (uint32_t)(x >> 32);
}

static __device__ __forceinline__ void philox(uint32_t c[4], uint64_t seed)
{
    uint32_t k[2] = {(uint32_t)seed, high_half(seed)};

#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * c[0];
        const uint64_t b = (uint64_t)0xCD9E8D57 * c[2];

        c[0] = high_half(b) ^ c[1] ^ k[0];
        c[1] = (uint32_t)b;
        c[2] = high_half(a) ^ c[3] ^ k[1];
        c[3] = (uint32_t)a;
        k[0] += 0x9E3779B9;
        k[1] += 0xBB67AE85;
    }
}

/* i counts the counters from that of number `first`. */
struct noise_op {
    float *y;
    int64_t n, first;
    uint64_t seed, stream;

    __device__ __forceinline__ void at(int64_t i) const
    {
        const uint64_t group = (uint64_t)(first / 4 + i);
        const int64_t place = i * 4 - first % 4; /* in y, of the counter's first number */
        uint32_t word[4] = {(uint32_t)group, high_half(group), (uint32_t)stream, high_half(stream)};

        philox(word, seed);
#pragma unroll
        for (int k = 0; k < 4; k += 2) {
            const double radius = sqrt(-2.0 * log(((double)word[k] + 0.5) / 4294967296.0));
            double c, s;

            cos_sin_turns(((double)word[k + 1] + 0.5) / 4294967296.0, &c, &s);
            put(place + k, radius * c);
            put(place + k + 1, radius * s);
        }
    }

    __device__ __forceinline__ void put(int64_t place, double x) const
    {
        if (place >= 0 && place < n) {
            y[place] = (float)x;
        }
    }
};

int noise_cuda(struct device *dev, const struct tensor *y, uint64_t seed, uint64_t stream,
               int64_t first, struct err *err)
{
    const int64_t n = tensor_count(y);
    const struct noise_op op = {(float *)y->data, n, first, seed, stream};
    const int64_t counters = n > 0 ? (first + n - 1) / 4 - first / 4 + 1 : 0;

    return cuda_each(dev, op, counters, "noise", err);
}
