/*
 * tokenizer_spm.h - libsentencepiece behind C functions; for tokenizer.c only.
 *
 * No C++ exception leaves these functions: std::bad_alloc becomes ERR_NO_MEMORY, anything else
 * ERR_FORMAT with the library's own words. The model must have gone through spm_model_read().
 */
#ifndef ENGINE_TOKENIZER_SPM_H
#define ENGINE_TOKENIZER_SPM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

C_BEGIN

struct spm;

MUST_CHECK int spm_open(struct spm **ret, const void *proto, size_t size, struct err *err);

/* Accepts NULL. */
void spm_close(struct spm *spm);

/* Calls emit for the ids of text[0, len), in order; it returns false to say that memory ran out. */
MUST_CHECK int spm_encode(const struct spm *spm, const char *text, size_t len,
                          bool (*emit)(void *ctx, int32_t id), void *ctx, struct err *err);

C_END

#endif
