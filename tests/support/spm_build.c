#include "tests/support/spm_build.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/test.h"

static void put(struct str *file, const void *data, size_t len)
{
    EXPECT(str_append(file, data, len));
}

static void put_varint(struct str *file, uint64_t value)
{
    do {
        const uint8_t byte = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));

        put(file, &byte, 1);
        value >>= 7;
    } while (value > 0);
}

void spm_build_init(struct str *file)
{
    str_init(file, (size_t)256 << 20);
}

void spm_build_bytes(struct str *file, uint32_t number, const void *data, size_t len)
{
    put_varint(file, (uint64_t)number << 3 | 2);
    put_varint(file, len);
    put(file, data, len);
}

void spm_build_varint(struct str *file, uint32_t number, uint64_t value)
{
    put_varint(file, (uint64_t)number << 3);
    put_varint(file, value);
}

void spm_build_piece(struct str *file, const char *text, size_t len, float score, int type)
{
    static const char score_tag = 2 << 3 | 5;
    struct str piece;

    spm_build_init(&piece);
    spm_build_bytes(&piece, 1, text, len);
    put(&piece, &score_tag, 1);
    put(&piece, &score, sizeof(score)); /* the machines that we run on are little-endian */
    spm_build_varint(&piece, 3, (uint64_t)type);
    spm_build_bytes(file, 1, piece.data, piece.len);
    str_done(&piece);
}

void spm_build_begin(struct str *file)
{
    char text[8];

    spm_build_init(file);
    spm_build_piece(file, "<pad>", 5, 0, SPM_BUILD_CONTROL);
    spm_build_piece(file, "<eos>", 5, 0, SPM_BUILD_CONTROL);
    spm_build_piece(file, "<bos>", 5, 0, SPM_BUILD_CONTROL);
    spm_build_piece(file, "<unk>", 5, 0, SPM_BUILD_UNKNOWN);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(text, sizeof(text), "<0x%02X>", i);
        spm_build_piece(file, text, 6, 0, SPM_BUILD_BYTE);
    }
}

void spm_build_end(struct str *file)
{
    struct str spec;

    spm_build_init(&spec);
    spm_build_bytes(&spec, 2, "tokenizer", 9);
    spm_build_varint(&spec, 3, 2);
    spm_build_varint(&spec, 4, 1000);
    spm_build_varint(&spec, 35, 1);
    spm_build_bytes(file, 2, spec.data, spec.len);
    str_done(&spec);
    spm_build_init(&spec);
    spm_build_bytes(&spec, 1, "identity", 8);
    spm_build_bytes(&spec, 2, "", 0);
    spm_build_varint(&spec, 3, 0);
    spm_build_varint(&spec, 4, 0);
    spm_build_bytes(file, 3, spec.data, spec.len);
    str_done(&spec);
}
