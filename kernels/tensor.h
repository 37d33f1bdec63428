/*
 * tensor.h - a view of contiguous numbers: pointer, type, dimensions.
 *
 * Plain data, passed by const pointer; it owns nothing and borrows the memory it points to.
 * Dimensions run from slow to fast. The pointer is a device pointer: only kernels/ look behind it.
 */
#ifndef KERNELS_TENSOR_H
#define KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

C_BEGIN

enum {
    TENSOR_MAX_RANK = 6
};

enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_U8,
};

struct tensor {
    void *data;
    enum dtype dtype;
    int rank;
    int64_t dim[TENSOR_MAX_RANK]; /* dim[rank..] are 1 */
};

/* Bytes of one element. */
size_t dtype_size(enum dtype dtype);

/* "F32", "BF16", ... as in safetensors headers. */
const char *dtype_name(enum dtype dtype);

struct tensor tensor_make(void *data, enum dtype dtype, int rank, const int64_t *dims);

/* TENSOR_F32(p, 3, 4) is a [3, 4] view; TENSOR_OF likewise with any type. */
#define TENSOR_OF(data, dtype, ...)                                                                \
    tensor_make((data), (dtype), (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),  \
                (const int64_t[]){__VA_ARGS__})
#define TENSOR_F32(data, ...) TENSOR_OF((data), DTYPE_F32, __VA_ARGS__)

int64_t tensor_count(const struct tensor *t);
size_t tensor_bytes(const struct tensor *t);

/* Rows [first, first + n) of dimension 0. */
struct tensor tensor_slice(const struct tensor *t, int64_t first, int64_t n);

/* The same memory with other dimensions of the same product. */
#define TENSOR_RESHAPE(t, ...)                                                                     \
    tensor_reshape((t), (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),           \
                   (const int64_t[]){__VA_ARGS__})
struct tensor tensor_reshape(const struct tensor *t, int rank, const int64_t *dims);

bool tensor_same_shape(const struct tensor *a, const struct tensor *b);

/* True if t is of that type and shape; a dimension of -1 fits any. */
#define TENSOR_IS(t, type, ...)                                                                    \
    tensor_is((t), (type), (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),        \
              (const int64_t[]){__VA_ARGS__})
bool tensor_is(const struct tensor *t, enum dtype dtype, int rank, const int64_t *dims);

/* "F32[3, 4]" into text, for error messages; returns text. */
enum {
    TENSOR_TEXT_MAX = 128
};
const char *tensor_describe(const struct tensor *t, char text[TENSOR_TEXT_MAX]);

C_END

#endif
