#include "engine/weights_synthetic.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/size.h"

enum {
    NUMBERS = 1 << 24,
    PLACES = 1 << 18,
    PLACE_STEP = NUMBERS / PLACES,
    MAX_COUNT = 1 << 30
};

/* The cycle, and as often again as the largest tensor needs. */
#define CYCLE_BYTES ((size_t)NUMBERS * 2)
#define MAPPINGS    ((size_t)MAX_COUNT / NUMBERS + 1)

struct weights_synthetic {
    char *matrix, *norm; /* owned mappings */
};

static uint64_t splitmix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static uint16_t to_bf16(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static void fill(uint16_t *to, float offset, float scale)
{
    for (uint64_t i = 0; i < NUMBERS; i++) {
        const float u = (float)(splitmix64(i) >> 40) / 16777216.0F;

        to[i] = to_bf16(offset + scale * (2.0F * u - 1.0F));
    }
}

/* The cycle's file at `base`, again and again. */
static bool map_all(char *base, int fd)
{
    for (size_t i = 0; i < MAPPINGS; i++) {
        void *at = base + i * CYCLE_BYTES;

        if (mmap(at, CYCLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != at) {
            return false;
        }
    }
    return true;
}

static int make_cycle(char **ret, float offset, float scale, struct err *err)
{
    const size_t bytes = MAPPINGS * CYCLE_BYTES;
    void *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int fd;
    bool ok;

    if (base == MAP_FAILED) {
        return err_set(err, ERR_NO_MEMORY, "synthetic weights: %zu MiB of addresses", bytes >> 20);
    }
    *ret = base; /* the caller unmaps it */
    fd = memfd_create("sanad-weights", MFD_CLOEXEC);
    if (fd < 0) {
        return err_set(err, ERR_IO, "synthetic weights: memfd_create: %m");
    }
    ok = ftruncate(fd, (off_t)CYCLE_BYTES) == 0 && map_all(base, fd);
    close(fd);
    if (!ok) {
        return err_set(err, ERR_NO_MEMORY, "synthetic weights: %zu MiB: %m", CYCLE_BYTES >> 20);
    }
    fill(base, offset, scale);
    return ERR_OK;
}

int weights_synthetic_create(struct weights_synthetic **ret, struct err *err)
{
    struct weights_synthetic *s = calloc(1, sizeof(*s));
    int rc;

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "synthetic weights");
    }
    rc = make_cycle(&s->matrix, 0.0F, 0.0346410162F, err);
    if (rc == ERR_OK) {
        rc = make_cycle(&s->norm, 1.0F, 0.1F, err);
    }
    if (rc != ERR_OK) {
        weights_synthetic_free(s);
        return rc;
    }
    *ret = s;
    return ERR_OK;
}

void weights_synthetic_free(struct weights_synthetic *s)
{
    if (!s) {
        return;
    }
    if (s->matrix) {
        munmap(s->matrix, MAPPINGS * CYCLE_BYTES);
    }
    if (s->norm) {
        munmap(s->norm, MAPPINGS * CYCLE_BYTES);
    }
    free(s);
}

static uint64_t place_of(const char *name)
{
    return hash_bytes(HASH_START, name, strlen(name)) % PLACES * PLACE_STEP;
}

int weights_synthetic_get(const struct weights_synthetic *s, const char *name, int rank,
                          const int64_t *dims, struct tensor *ret, struct err *err)
{
    const bool is_norm = strstr(name, "norm") || strstr(name, "gamma") || strstr(name, "std");
    char *base = is_norm ? s->norm : s->matrix;
    int64_t count = 1;

    for (int i = 0; i < rank; i++) {
        if (dims[i] < 1 || !count_mul(&count, count, dims[i]) || count > MAX_COUNT) {
            return err_set(err, ERR_INVALID, "synthetic weights: tensor %s has no fitting shape",
                           name);
        }
    }
    *ret = tensor_make(base + place_of(name) * 2, DTYPE_BF16, rank, dims);
    return ERR_OK;
}
