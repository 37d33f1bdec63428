#include "kernels/tensor.h"

#include <stdio.h>

#include "base/err.h"

size_t dtype_size(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
    case DTYPE_I32:
        return 4;
    case DTYPE_BF16:
    case DTYPE_F16:
        return 2;
    case DTYPE_I64:
        return 8;
    case DTYPE_U8:
        return 1;
    }
    CHECK_BUG(!"dtype");
}

const char *dtype_name(enum dtype dtype)
{
    static const char *const name[] = {"F32", "BF16", "F16", "I32", "I64", "U8"};

    return name[dtype];
}

struct tensor tensor_make(void *data, enum dtype dtype, int rank, const int64_t *dims)
{
    struct tensor t = {.data = data, .dtype = dtype, .rank = rank};

    CHECK_BUG(rank >= 0 && rank <= TENSOR_MAX_RANK);
    for (int i = 0; i < TENSOR_MAX_RANK; i++) {
        t.dim[i] = i < rank ? dims[i] : 1;
    }
    return t;
}

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->rank; i++) {
        n *= t->dim[i];
    }
    return n;
}

size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

struct tensor tensor_slice(const struct tensor *t, int64_t first, int64_t n)
{
    struct tensor s = *t;

    CHECK_BUG(t->rank > 0 && first >= 0 && n >= 0 && first + n <= t->dim[0]);
    s.dim[0] = 1;
    s.data = (char *)t->data + (size_t)first * tensor_bytes(&s);
    s.dim[0] = n;
    return s;
}

struct tensor tensor_reshape(const struct tensor *t, int rank, const int64_t *dims)
{
    const struct tensor r = tensor_make(t->data, t->dtype, rank, dims);

    CHECK_BUG(tensor_count(&r) == tensor_count(t));
    return r;
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    return tensor_is(a, b->dtype, b->rank, b->dim);
}

bool tensor_is(const struct tensor *t, enum dtype dtype, int rank, const int64_t *dims)
{
    if (t->dtype != dtype || t->rank != rank) {
        return false;
    }
    for (int i = 0; i < rank; i++) {
        if (dims[i] != -1 && dims[i] != t->dim[i]) {
            return false;
        }
    }
    return true;
}

const char *tensor_describe(const struct tensor *t, char text[TENSOR_TEXT_MAX])
{
    size_t n = (size_t)snprintf(text, TENSOR_TEXT_MAX, "%s[", dtype_name(t->dtype));

    for (int i = 0; i < t->rank && n < TENSOR_TEXT_MAX; i++) {
        n += (size_t)snprintf(text + n, TENSOR_TEXT_MAX - n, i ? ", %lld" : "%lld",
                              (long long)t->dim[i]);
    }
    if (n < TENSOR_TEXT_MAX) {
        snprintf(text + n, TENSOR_TEXT_MAX - n, "]");
    }
    return text;
}
