#include "kernels/noise.h"

#include <math.h>

#include "base/size.h"
#include "kernels/dispatch.h"

enum {
    CHUNK = 1 << 14
};

void noise_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k[2] = {key[0], key[1]};

    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * c[0];
        const uint64_t b = (uint64_t)0xCD9E8D57 * c[2];

        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k[0];
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k[1];
        c[3] = (uint32_t)a;
        k[0] += 0x9E3779B9;
        k[1] += 0xBB67AE85;
    }
    for (int i = 0; i < 4; i++) {
        out[i] = c[i];
    }
}

/* The four normals of counter (group, stream). */
static void normal4(uint64_t seed, uint64_t stream, uint64_t group, float out[4])
{
    const uint32_t counter[4] = {(uint32_t)group, (uint32_t)(group >> 32), (uint32_t)stream,
                                 (uint32_t)(stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t word[4];

    noise_philox(counter, key, word);
    for (int i = 0; i < 4; i += 2) {
        const double u = ((double)word[i] + 0.5) / 4294967296.0;
        const double angle = 6.283185307179586 * (((double)word[i + 1] + 0.5) / 4294967296.0);
        const double radius = sqrt(-2.0 * log(u));

        out[i] = (float)(radius * cos(angle));
        out[i + 1] = (float)(radius * sin(angle));
    }
}

float noise_normal(uint64_t seed, uint64_t stream, int64_t index)
{
    float four[4];

    normal4(seed, stream, (uint64_t)index / 4, four);
    return four[(uint64_t)index % 4];
}

struct noise_job {
    float *y;
    int64_t n, first;
    uint64_t seed, stream;
};

static void noise_task(void *ctx, int64_t task, int thread)
{
    const struct noise_job *job = ctx;
    const int64_t end = (task + 1) * CHUNK < job->n ? (task + 1) * CHUNK : job->n;
    int64_t have = -1; /* the group in four[] */
    float four[4];

    (void)thread;
    for (int64_t i = task * CHUNK; i < end; i++) {
        const int64_t index = job->first + i;

        if (index / 4 != have) {
            have = index / 4;
            normal4(job->seed, job->stream, (uint64_t)have, four);
        }
        job->y[i] = four[index % 4];
    }
}

static int noise_cpu(struct device *dev, const struct tensor *y, uint64_t seed, uint64_t stream,
                     int64_t first, struct err *err)
{
    struct noise_job job = {.y = y->data, .n = tensor_count(y), .first = first, .seed = seed};

    (void)err;
    job.stream = stream;
    device_parallel(dev, div_ceil(job.n, CHUNK), noise_task, &job);
    return ERR_OK;
}

int op_noise(struct device *dev, const struct tensor *y, uint64_t seed, uint64_t stream,
             int64_t first, struct err *err)
{
    if (y->dtype != DTYPE_F32) {
        return device_shape_err(err, "noise", "y", y);
    }
    if (first < 0 || first > INT64_MAX - tensor_count(y)) {
        return err_set(err, ERR_INVALID, "noise: first index %lld", (long long)first);
    }
    return DEVICE_CALL(dev, noise, y, seed, stream, first, err);
}
