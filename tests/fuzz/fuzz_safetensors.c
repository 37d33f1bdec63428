/*
 * fuzz_safetensors.c - the header of a weights file. What is accepted must lie inside the bytes and
 * be found by its name.
 */
#include "base/err.h"
#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *st = NULL;
    struct err err;

    if (safetensors_open_memory(&st, data, size, "fuzz", &err) != ERR_OK) {
        return 0;
    }
    for (size_t i = 0; i < safetensors_count(st); i++) {
        const struct safetensors_entry *e = safetensors_at(st, i);
        const uint8_t *first = e->tensor.data;
        const size_t bytes = tensor_bytes(&e->tensor);

        CHECK_BUG(safetensors_find(st, e->name) == e);
        CHECK_BUG(first >= data && bytes <= size && first + bytes <= data + size);
    }
    safetensors_close(st);
    return 0;
}
