#include "bench/random_weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"

enum {
    HEADER_MAX = 1 << 20,
    PATH_LEN = 256
};

/* A .safetensors file under construction: its header, then its data in the same order. */
struct writer {
    struct str header;
    FILE *file;
    int64_t offset;
    uint64_t random;
};

static bool add_header(void *ctx, const char *name, int rank, const int64_t *dims)
{
    struct writer *w = ctx;
    int64_t n = 1;
    int64_t end;

    str_addf(&w->header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", w->offset > 0 ? "," : "{",
             name);
    for (int i = 0; i < rank; i++) {
        str_addf(&w->header, i > 0 ? ",%lld" : "%lld", (long long)dims[i]);
        n *= dims[i];
    }
    end = w->offset + 4 * n;
    str_addf(&w->header, "],\"data_offsets\":[%lld,%lld]}", (long long)w->offset, (long long)end);
    w->offset = end;
    return !w->header.failed;
}

/* Vectors are ones; kernels are random and keep the size of what they multiply. */
static bool add_data(void *ctx, const char *name, int rank, const int64_t *dims)
{
    struct writer *w = ctx;
    int64_t n = 1;
    int64_t fan_in = 1;

    (void)name;
    for (int i = 0; i < rank; i++) {
        n *= dims[i];
        fan_in *= i > 0 ? dims[i] : 1;
    }
    for (int64_t i = 0; i < n; i++) {
        const float unit = (float)(int32_t)(w->random >> 32) / 2147483648.0F;
        const float value = fan_in == 1 ? 1.0F : unit * sqrtf(3.0F / (float)fan_in);

        w->random = w->random * 6364136223846793005U + 1442695040888963407U;
        if (fwrite(&value, sizeof(value), 1, w->file) != 1) {
            return false;
        }
    }
    return true;
}

static int write_weights(const char *path, random_weights_fn enumerate, void *config,
                         struct err *err)
{
    struct writer w = {.random = 1};
    uint64_t len;
    bool ok;

    str_init(&w.header, HEADER_MAX);
    w.file = fopen(path, "wbe");
    if (!w.file) {
        return err_set(err, ERR_IO, "%s: %m", path);
    }
    ok = enumerate(config, add_header, &w) && str_add(&w.header, "}");
    len = w.header.len;
    ok = ok && fwrite(&len, sizeof(len), 1, w.file) == 1 &&
         fwrite(str_get(&w.header), 1, len, w.file) == len;
    ok = ok && enumerate(config, add_data, &w);
    str_done(&w.header);
    if (fclose(w.file) != 0 || !ok) {
        return err_set(err, ERR_IO, "%s: cannot write", path);
    }
    return ERR_OK;
}

int random_weights_open(struct weights **ret, random_weights_fn enumerate, void *config,
                        struct err *err)
{
    char dir[] = "/tmp/sanad-bench-XXXXXX";
    char path[PATH_LEN];
    int rc;

    if (!mkdtemp(dir)) {
        return err_set(err, ERR_IO, "mkdtemp %s: %m", dir);
    }
    snprintf(path, sizeof(path), "%s/diffusion_pytorch_model.safetensors", dir);
    rc = write_weights(path, enumerate, config, err);
    if (rc == ERR_OK) {
        rc = weights_open(ret, dir, "diffusion_pytorch_model", NULL, err);
    }
    unlink(path); /* the mapping stays */
    rmdir(dir);
    return rc;
}
