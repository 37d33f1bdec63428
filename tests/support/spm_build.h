/*
 * spm_build.h - SentencePiece model files for tests, piece by piece, right or wrong.
 *
 * The bytes are written by hand after sentencepiece_model.proto, apart from the engine's own
 * writing. Whatever fails ends the test.
 */
#ifndef TESTS_SUPPORT_SPM_BUILD_H
#define TESTS_SUPPORT_SPM_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum spm_build_type {
    SPM_BUILD_NORMAL = 1,
    SPM_BUILD_UNKNOWN = 2,
    SPM_BUILD_CONTROL = 3,
    SPM_BUILD_USER = 4,
    SPM_BUILD_UNUSED = 5,
    SPM_BUILD_BYTE = 6,
};

/* Ids of what spm_build_begin puts in: <pad> 0, <eos> 1, <bos> 2, <unk> 3, then byte b at 4 + b. */
enum {
    SPM_BUILD_FIRST_BYTE = 4,
    SPM_BUILD_FIRST = 260
};

/* An empty file; then pieces, in the order of their ids; then the specs. free with str_done. */
void spm_build_init(struct str *file);

/* The four special pieces and the 256 bytes. */
void spm_build_begin(struct str *file);

void spm_build_piece(struct str *file, const char *text, size_t len, float score, int type);

/* trainer_spec and normalizer_spec as Gemma has them. */
void spm_build_end(struct str *file);

/* Raw fields: a length-delimited one and a varint. */
void spm_build_bytes(struct str *file, uint32_t number, const void *data, size_t len);
void spm_build_varint(struct str *file, uint32_t number, uint64_t value);

#endif
