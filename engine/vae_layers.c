#include "engine/vae_layers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "kernels/convert.h"

enum {
    NAME_MAX_LEN = 160
};

/* from [rows, ci, taps] as stored -> to [rows, taps, ci] */
static void taps_before_channels(float *to, const struct tensor *from, int64_t ci, int64_t taps,
                                 float *row)
{
    const int64_t n = ci * taps;
    const size_t row_bytes = (size_t)n * dtype_size(from->dtype);

    for (int64_t r = 0; r < from->dim[0]; r++) {
        convert_to_f32(row, (const char *)from->data + (size_t)r * row_bytes, from->dtype, n);
        for (int64_t i = 0; i < ci; i++) {
            for (int64_t k = 0; k < taps; k++) {
                to[r * n + k * ci + i] = row[i * taps + k];
            }
        }
    }
}

static int load_kernel(struct vae_loader *ld, struct tensor *ret, const struct vae_conv_shape *s,
                       const char *name)
{
    const bool flat = s->kt == 0;
    const int64_t stored5[] = {s->co, s->ci, s->kt, s->k, s->k};
    const int64_t stored4[] = {s->co, s->ci, s->k, s->k};
    const int64_t dims[] = {s->co, flat ? 1 : s->kt, s->k, s->k, s->ci};
    const int64_t taps = dims[1] * s->k * s->k;
    struct tensor t;
    float *row;
    float *all;
    int rc = weights_get(ld->weights, name, flat ? 4 : 5, flat ? stored4 : stored5, &t, ld->err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (taps == 1) { /* nothing to rearrange */
        t = tensor_reshape(&t, 5, dims);
        return weight_pool_act(ld->pool, &t, ret, ld->err);
    }
    row = malloc((size_t)(s->ci * taps) * sizeof(float));
    all = malloc((size_t)tensor_count(&t) * sizeof(float));
    if (row && all) {
        taps_before_channels(all, &t, s->ci, taps, row);
        rc = weight_pool_copy(ld->pool, ld->pool->dev->act, 5, dims, all, ret, ld->err);
    } else {
        rc = err_set(ld->err, ERR_NO_MEMORY, "%s", name);
    }
    free(all);
    free(row);
    return rc;
}

static int load_vector(struct vae_loader *ld, struct tensor *ret, int64_t n, int ones,
                       const char *name)
{
    const int64_t dims[] = {n, 1, 1, 1};
    struct tensor t;
    int rc = weights_get(ld->weights, name, 1 + ones, dims, &t, ld->err);

    if (rc == ERR_OK) {
        t = TENSOR_RESHAPE(&t, n);
        rc = weight_pool_f32(ld->pool, &t, ret, ld->err);
    }
    return rc;
}

int vae_load_conv(struct vae_loader *ld, struct vae_conv *ret, struct vae_conv_shape shape,
                  const char *format, ...)
{
    char name[NAME_MAX_LEN];
    char full[NAME_MAX_LEN + 8];
    va_list args;
    int rc;

    va_start(args, format);
    vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    snprintf(full, sizeof(full), "%s.weight", name);
    rc = load_kernel(ld, &ret->weight, &shape, full);
    if (rc == ERR_OK) {
        snprintf(full, sizeof(full), "%s.bias", name);
        rc = load_vector(ld, &ret->bias, shape.co, 0, full);
    }
    return rc;
}

int vae_load_vector(struct vae_loader *ld, struct tensor *ret, int64_t n, int ones,
                    const char *format, ...)
{
    char name[NAME_MAX_LEN];
    va_list args;

    CHECK_BUG(ones >= 0 && ones <= 3);
    va_start(args, format);
    vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    return load_vector(ld, ret, n, ones, name);
}

void vae_ignore(struct vae_loader *ld, const char *begin)
{
    for (size_t i = 0; i < weights_tensor_count(ld->weights); i++) {
        const char *name = weights_at(ld->weights, i)->name;

        if (strncmp(name, begin, strlen(begin)) == 0) {
            weights_ignore(ld->weights, name);
        }
    }
}

struct vae_conv vae_conv_part(const struct vae_conv *conv, int64_t first, int64_t n)
{
    return (struct vae_conv){
        .weight = tensor_slice(&conv->weight, first, n),
        .bias = tensor_slice(&conv->bias, first, n),
    };
}
