#include "tests/support/cuda_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "kernels/convert.h"

enum {
    MAX_PAIRS = 64,
    MAX_DOWNLOADS = 64,
    GUARD = 256, /* bytes on either side; keeps the tensor aligned */
    FILL = 0xFF  /* NaN as F32 and BF16 */
};

/* What belongs to a pair. */
struct slot {
    struct cuda_pair pair;
    char *base;      /* device memory, guards included */
    size_t bytes;    /* of the tensor on the GPU */
    char *start_gpu; /* its bytes before a run, on the host */
    char *start_cpu;
    char *first; /* its bytes after the first run */
};

static struct {
    struct device cpu, gpu;
    struct slot slots[MAX_PAIRS];
    int n_slots;
    void *downloads[MAX_DOWNLOADS];
    int n_downloads;
} lab;

static struct err err;

struct device *cuda_test_device(int side)
{
    return side == CUDA_CPU ? &lab.cpu : &lab.gpu;
}

/* A view of n bytes of device memory. */
static struct tensor bytes_at(void *p, size_t n)
{
    return TENSOR_OF(p, DTYPE_U8, (int64_t)n);
}

static void upload(void *to, const void *from, size_t n)
{
    const struct tensor t = bytes_at(to, n);

    EXPECT_OK(device_upload(&lab.gpu, &t, from, &err));
}

static void download(void *to, void *from, size_t n)
{
    const struct tensor t = bytes_at(from, n);

    EXPECT_OK(device_download(&lab.gpu, to, &t, &err));
}

static void round_to_bf16(uint16_t *to, float *x, int64_t n)
{
    convert_round_bf16(x, n);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &x[i], sizeof(bits));
        to[i] = (uint16_t)(bits >> 16);
    }
}

/* The guards stay filled; the tensor gets start_gpu. */
static void reset_gpu(struct slot *s)
{
    char *all = test_alloc(s->bytes + 2 * (size_t)GUARD);

    memset(all, FILL, s->bytes + 2 * (size_t)GUARD);
    memcpy(all + GUARD, s->start_gpu, s->bytes);
    upload(s->base, all, s->bytes + 2 * (size_t)GUARD);
    free(all);
}

/* cpu and gpu: the numbers on each side; taken over. */
static struct cuda_pair add_pair(enum dtype dtype, bool output, char *cpu, char *gpu, int rank,
                                 const int64_t *dims)
{
    const bool is_float = dtype == DTYPE_F32 || dtype == DTYPE_BF16;
    struct slot *s = &lab.slots[lab.n_slots];
    void *base = NULL;

    EXPECT(lab.n_slots < MAX_PAIRS);
    s->pair = (struct cuda_pair){.output = output, .slot = lab.n_slots++};
    s->pair.on[CUDA_CPU] = tensor_make(cpu, is_float ? DTYPE_F32 : dtype, rank, dims);
    s->pair.on[CUDA_GPU] = tensor_make(NULL, dtype, rank, dims);
    s->bytes = tensor_bytes(&s->pair.on[CUDA_GPU]);
    s->start_gpu = gpu;
    s->start_cpu = test_alloc(tensor_bytes(&s->pair.on[CUDA_CPU]) + 1);
    memcpy(s->start_cpu, cpu, tensor_bytes(&s->pair.on[CUDA_CPU]));
    EXPECT_OK(device_alloc(&lab.gpu, s->bytes + 2 * (size_t)GUARD, &base, &err));
    s->base = base;
    s->pair.on[CUDA_GPU].data = s->base + GUARD;
    reset_gpu(s);
    return s->pair;
}

static int64_t count(int rank, const int64_t *dims)
{
    const struct tensor t = tensor_make(NULL, DTYPE_F32, rank, dims);

    return tensor_count(&t);
}

static struct cuda_pair floats_pair(enum dtype dtype, float *cpu, bool output, int rank,
                                    const int64_t *dims)
{
    const int64_t n = count(rank, dims);
    char *gpu = test_alloc((size_t)n * sizeof(float) + 1);

    if (dtype == DTYPE_BF16) {
        round_to_bf16((uint16_t *)(void *)gpu, cpu, n);
    } else {
        memcpy(gpu, cpu, (size_t)n * sizeof(float));
    }
    return add_pair(dtype, output, (char *)cpu, gpu, rank, dims);
}

static struct cuda_pair random_pair(enum dtype dtype, uint64_t seed, double scale, bool output,
                                    int rank, const int64_t *dims)
{
    const int64_t n = count(rank, dims);
    float *x = test_alloc((size_t)n * sizeof(*x) + 1);

    test_fill(x, n, seed);
    for (int64_t i = 0; i < n; i++) {
        x[i] *= (float)scale;
    }
    return floats_pair(dtype, x, output, rank, dims);
}

struct cuda_pair cuda_pair_random(enum dtype dtype, uint64_t seed, double scale, int rank,
                                  const int64_t *dims)
{
    return random_pair(dtype, seed, scale, false, rank, dims);
}

struct cuda_pair cuda_pair_inout(enum dtype dtype, uint64_t seed, double scale, int rank,
                                 const int64_t *dims)
{
    return random_pair(dtype, seed, scale, true, rank, dims);
}

struct cuda_pair cuda_pair_from(enum dtype dtype, const float *values, int rank,
                                const int64_t *dims)
{
    const size_t bytes = (size_t)count(rank, dims) * sizeof(float);
    float *x = test_alloc(bytes + 1);

    memcpy(x, values, bytes);
    return floats_pair(dtype, x, false, rank, dims);
}

static struct cuda_pair bytes_pair(enum dtype dtype, const void *values, bool output, int rank,
                                   const int64_t *dims)
{
    const size_t bytes = (size_t)count(rank, dims) * dtype_size(dtype);
    char *cpu = test_alloc(bytes + 1);
    char *gpu = test_alloc(bytes + 1);

    if (values) {
        memcpy(cpu, values, bytes);
    } else {
        memset(cpu, FILL, bytes);
    }
    memcpy(gpu, cpu, bytes);
    return add_pair(dtype, output, cpu, gpu, rank, dims);
}

struct cuda_pair cuda_pair_i32(const int32_t *values, int rank, const int64_t *dims)
{
    return bytes_pair(DTYPE_I32, values, false, rank, dims);
}

struct cuda_pair cuda_pair_output(enum dtype dtype, int rank, const int64_t *dims)
{
    if (dtype == DTYPE_BF16) {
        const int64_t n = count(rank, dims);
        char *cpu = test_alloc((size_t)n * sizeof(float) + 1);
        char *gpu = test_alloc((size_t)n * sizeof(uint16_t) + 1);

        memset(cpu, FILL, (size_t)n * sizeof(float));
        memset(gpu, FILL, (size_t)n * sizeof(uint16_t));
        return add_pair(dtype, true, cpu, gpu, rank, dims);
    }
    return bytes_pair(dtype, NULL, true, rank, dims);
}

/* ---- runs ---- */

static void check_guards(const struct slot *s)
{
    char guard[GUARD];

    for (int behind = 0; behind < 2; behind++) {
        download(guard, behind ? s->base + GUARD + s->bytes : s->base, GUARD);
        for (int i = 0; i < GUARD; i++) {
            EXPECT((unsigned char)guard[i] == FILL);
        }
    }
}

/* Inputs must be what they were; of outputs the bytes are kept, or compared with those kept. */
static void check_after(struct slot *s, bool expect_start)
{
    char *now = test_alloc(s->bytes + 1);

    check_guards(s);
    download(now, s->pair.on[CUDA_GPU].data, s->bytes);
    if (expect_start || !s->pair.output) {
        EXPECT(memcmp(now, s->start_gpu, s->bytes) == 0);
    } else if (s->first) {
        EXPECT(memcmp(now, s->first, s->bytes) == 0);
    }
    if (!expect_start && !s->first) {
        s->first = now;
        now = NULL;
    }
    free(now);
}

static void run_gpu(cuda_test_fn fn, void *ctx, bool dry)
{
    for (int i = 0; i < lab.n_slots; i++) {
        reset_gpu(&lab.slots[i]);
    }
    lab.gpu.dry_run = dry;
    fn(&lab.gpu, ctx, CUDA_GPU);
    lab.gpu.dry_run = false;
    for (int i = 0; i < lab.n_slots; i++) {
        check_after(&lab.slots[i], dry);
    }
}

void cuda_test_run(cuda_test_fn fn, void *ctx)
{
    for (int i = 0; i < lab.n_slots; i++) {
        struct slot *s = &lab.slots[i];

        memcpy(s->pair.on[CUDA_CPU].data, s->start_cpu, tensor_bytes(&s->pair.on[CUDA_CPU]));
        free(s->first);
        s->first = NULL;
    }
    fn(&lab.cpu, ctx, CUDA_CPU);
    run_gpu(fn, ctx, true);
    run_gpu(fn, ctx, false);
    run_gpu(fn, ctx, false);
}

/* ---- results ---- */

const float *cuda_pair_download(const struct cuda_pair *pair)
{
    const struct tensor *t = &pair->on[CUDA_GPU];
    const int64_t n = tensor_count(t);
    char *raw = test_alloc(tensor_bytes(t) + 1);
    float *ret = test_alloc((size_t)n * sizeof(*ret) + 1);

    download(raw, t->data, tensor_bytes(t));
    if (t->dtype == DTYPE_U8) {
        for (int64_t i = 0; i < n; i++) {
            ret[i] = (float)(unsigned char)raw[i];
        }
    } else {
        convert_to_f32(ret, raw, t->dtype, n);
    }
    free(raw);
    EXPECT(lab.n_downloads < MAX_DOWNLOADS);
    lab.downloads[lab.n_downloads++] = ret;
    return ret;
}

static float reference(const struct cuda_pair *pair, int64_t i)
{
    const struct tensor *t = &pair->on[CUDA_CPU];

    return t->dtype == DTYPE_U8 ? (float)((const uint8_t *)t->data)[i]
                                : ((const float *)t->data)[i];
}

double cuda_pair_distance(const struct cuda_pair *pair)
{
    const float *got = cuda_pair_download(pair);
    double error = 0;
    double norm = 0;

    for (int64_t i = 0; i < tensor_count(&pair->on[CUDA_CPU]); i++) {
        const double want = (double)reference(pair, i);
        const double difference = (double)got[i] - want;

        if (isnan(want) != 0 || isinf(want) != 0) {
            EXPECT((isnan(want) != 0) == (isnan(got[i]) != 0));
            continue;
        }
        EXPECT(!isnan(got[i]));
        error += difference * difference;
        norm += want * want;
    }
    return norm > 0 ? sqrt(error / norm) : sqrt(error);
}

void cuda_pair_expect(const struct cuda_pair *pair, double tolerance)
{
    const double distance = cuda_pair_distance(pair);

    if (!(distance <= tolerance)) {
        test_fail(__FILE__, __LINE__, "relative distance %.3g, at most %.3g expected", distance,
                  tolerance);
    }
}

/* ---- modes ---- */

static void free_all(void)
{
    for (int i = 0; i < lab.n_slots; i++) {
        struct slot *s = &lab.slots[i];

        device_free(&lab.gpu, s->base);
        free(s->pair.on[CUDA_CPU].data);
        free(s->start_gpu);
        free(s->start_cpu);
        free(s->first);
        *s = (struct slot){0};
    }
    for (int i = 0; i < lab.n_downloads; i++) {
        free(lab.downloads[i]);
    }
    lab.n_slots = 0;
    lab.n_downloads = 0;
}

static void run_mode(void (*fn)(enum dtype act), enum dtype act)
{
    const struct device_cuda_options options = {.f32 = act == DTYPE_F32, .deterministic = true};

    memset(&lab, 0, sizeof(lab)); /* a test that failed left it as it was */
    EXPECT_OK(device_open_cpu(&lab.cpu, 1, &err));
    EXPECT_OK(device_open_cuda(&lab.gpu, &options, &err));
    EXPECT_INT(lab.gpu.act, act);
    fn(act);
    free_all();
    device_close(&lab.gpu);
    device_close(&lab.cpu);
}

void cuda_test_both(void (*fn)(enum dtype act))
{
    run_mode(fn, DTYPE_F32);
    run_mode(fn, DTYPE_BF16);
}
