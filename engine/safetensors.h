/*
 * safetensors.h - one .safetensors file, mapped: u64 LE header length, JSON header, raw tensors.
 *
 * The header is hostile until checked: length against the file, JSON depth and size, dtype and
 * shape against data_offsets, ranges inside the file and not overlapping. Tensor data is not
 * touched at open. Format: huggingface/safetensors README.
 */
#ifndef ENGINE_SAFETENSORS_H
#define ENGINE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/tensor.h"

struct safetensors;

struct safetensors_entry {
    const char *name;     /* borrowed until safetensors_close */
    struct tensor tensor; /* data points into the read-only mapping; may be unaligned */
};

/* Maps and checks PATH. Errors: ERR_NOT_FOUND, ERR_IO, ERR_FORMAT (names file and tensor),
 * ERR_UNSUPPORTED (a dtype outside F32 BF16 F16 I32 I64 U8), ERR_NO_MEMORY. */
MUST_CHECK int safetensors_open(struct safetensors **ret, const char *path, struct err *err);

/* The same checks on bytes that the caller keeps alive (fuzzing, tests). `name` is for messages. */
MUST_CHECK int safetensors_open_memory(struct safetensors **ret, const void *data, size_t size,
                                       const char *name, struct err *err);

/* Accepts NULL. */
void safetensors_close(struct safetensors *st);

size_t safetensors_count(const struct safetensors *st);
const struct safetensors_entry *safetensors_at(const struct safetensors *st, size_t i);

/* NULL when there is none. */
const struct safetensors_entry *safetensors_find(const struct safetensors *st, const char *name);

const char *safetensors_path(const struct safetensors *st);

#endif
