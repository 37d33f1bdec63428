#include "engine/spm_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/spm_build.h"
#include "tests/support/test.h"

static struct err err;

static int read_file(const struct str *file, struct spm_model *ret)
{
    return spm_model_read(ret, file->data, file->len, "test.model", &err);
}

/* Reads the file, which must be refused with `part` in the sentence; frees it. */
static void expect_refused(struct str *file, int code, const char *part)
{
    struct spm_model model;
    const int rc = read_file(file, &model);

    str_done(file);
    EXPECT_INT(rc, code);
    EXPECT_CONTAINS(err.msg, "test.model");
    EXPECT_CONTAINS(err.msg, part);
}

/* A whole file with one more piece. */
static void with_piece(struct str *file, const char *text, size_t len, float score, int type)
{
    spm_build_begin(file);
    spm_build_piece(file, text, len, score, type);
    spm_build_end(file);
}

TEST(spm_model_reads_pieces_and_special_ids)
{
    struct spm_model model;
    struct str file;

    with_piece(&file, "ab", 2, -1, SPM_BUILD_NORMAL);
    EXPECT_OK(read_file(&file, &model));
    EXPECT_INT(model.n_pieces, 261);
    EXPECT_INT(model.special[SPM_PAD], 0);
    EXPECT_INT(model.special[SPM_EOS], 1);
    EXPECT_INT(model.special[SPM_BOS], 2);
    EXPECT_INT(model.special[SPM_UNK], 3);
    spm_model_done(&model);
    str_done(&file);
}

TEST(spm_model_writes_what_it_checked_and_nothing_else)
{
    struct spm_model model;
    struct spm_model again;
    struct str file;

    with_piece(&file, "secret piece", 12, -1, SPM_BUILD_NORMAL);
    spm_build_bytes(&file, 4, "self test", 9);
    spm_build_bytes(&file, 5, "denormalizer", 12);
    spm_build_varint(&file, 300, 77);
    EXPECT_OK(read_file(&file, &model));
    EXPECT(memmem(model.proto.data, model.proto.len, "secret piece", 12));
    EXPECT(!memmem(model.proto.data, model.proto.len, "self test", 9));
    EXPECT(!memmem(model.proto.data, model.proto.len, "denormalizer", 12));
    EXPECT(!memmem(model.proto.data, model.proto.len, "tokenizer", 9));
    /* What it writes it reads, to the same bytes. */
    EXPECT_OK(read_file(&model.proto, &again));
    EXPECT(again.proto.len == model.proto.len);
    EXPECT(memcmp(again.proto.data, model.proto.data, model.proto.len) == 0);
    spm_model_done(&again);
    spm_model_done(&model);
    str_done(&file);
}

TEST(spm_model_accepts_the_golden_files)
{
    static const char *const path[] = {"tests/golden/tiny-480p/tokenizer/tokenizer.model",
                                       "tests/golden/tiny-720p/tokenizer/tokenizer.model"};
    static const int64_t pieces[] = {1200, 1100};

    for (size_t i = 0; i < ARRAY_LEN(path); i++) {
        struct spm_model model;
        size_t len;
        char *data = files_read(path[i], &len);

        EXPECT_OK(spm_model_read(&model, data, len, path[i], &err));
        EXPECT_INT(model.n_pieces, pieces[i]);
        EXPECT_INT(model.special[SPM_BOS], 2);
        spm_model_done(&model);
        free(data);
    }
}

TEST(spm_model_refuses_bad_pieces)
{
    static char longest[513];
    struct spm_model model;
    struct str file;

    with_piece(&file, "", 0, 0, SPM_BUILD_NORMAL);
    expect_refused(&file, ERR_FORMAT, "piece 260 is empty");
    memset(longest, 'x', sizeof(longest));
    with_piece(&file, longest, 513, 0, SPM_BUILD_NORMAL);
    expect_refused(&file, ERR_FORMAT, "longer than 512");
    with_piece(&file, longest, 512, 0, SPM_BUILD_NORMAL);
    EXPECT_OK(read_file(&file, &model));
    spm_model_done(&model);
    str_done(&file);
    with_piece(&file, "a\0b", 3, 0, SPM_BUILD_NORMAL);
    expect_refused(&file, ERR_FORMAT, "has a NUL");
    with_piece(&file, "\xc3", 1, 0, SPM_BUILD_NORMAL);
    expect_refused(&file, ERR_FORMAT, "not UTF-8");
    with_piece(&file, "a", 1, NAN, SPM_BUILD_NORMAL);
    expect_refused(&file, ERR_FORMAT, "score");
    with_piece(&file, "a", 1, -INFINITY, SPM_BUILD_NORMAL);
    expect_refused(&file, ERR_FORMAT, "score");
    with_piece(&file, "a", 1, 0, SPM_BUILD_UNUSED);
    expect_refused(&file, ERR_FORMAT, "type");
    with_piece(&file, "a", 1, 0, 7);
    expect_refused(&file, ERR_FORMAT, "type");
    with_piece(&file, "<0xgg>", 6, 0, SPM_BUILD_BYTE);
    expect_refused(&file, ERR_FORMAT, "<0xNN>");
    with_piece(&file, "<0x0>", 5, 0, SPM_BUILD_BYTE);
    expect_refused(&file, ERR_FORMAT, "<0xNN>");
}

TEST(spm_model_refuses_a_set_of_pieces_that_is_not_whole)
{
    struct str file;

    with_piece(&file, "<unk2>", 6, 0, SPM_BUILD_UNKNOWN);
    expect_refused(&file, ERR_UNSUPPORTED, "one unknown piece");
    spm_build_init(&file);
    spm_build_piece(&file, "<unk>", 5, 0, SPM_BUILD_UNKNOWN);
    spm_build_end(&file);
    expect_refused(&file, ERR_UNSUPPORTED, "256 byte pieces");
    spm_build_begin(&file);
    memcpy(memmem(file.data, file.len, "<bos>", 5), "<b0s>", 5);
    spm_build_end(&file);
    expect_refused(&file, ERR_UNSUPPORTED, "no piece <bos>");
}

/* User-defined runs of newlines: the longest has n, so n of them match there. */
static void with_chain(struct str *file, size_t n)
{
    char text[128];

    memset(text, '\n', sizeof(text));
    spm_build_begin(file);
    for (size_t i = n; i > 0; i--) {
        spm_build_piece(file, text, i, 0, SPM_BUILD_USER);
    }
    spm_build_piece(file, "\n\t", 2, 0, SPM_BUILD_USER); /* on a branch of its own */
    spm_build_end(file);
}

TEST(spm_model_refuses_more_prefixes_than_the_library_holds)
{
    struct spm_model model;
    struct str file;

    with_chain(&file, 64);
    EXPECT_OK(read_file(&file, &model));
    spm_model_done(&model);
    str_done(&file);
    with_chain(&file, 65);
    expect_refused(&file, ERR_UNSUPPORTED, "begin one another");
}

TEST(spm_model_limits_user_defined_text)
{
    char text[512];
    struct str file;

    memset(text, 'x', sizeof(text));
    spm_build_begin(&file);
    for (int i = 0; i < 2049; i++) {
        text[0] = (char)('a' + i % 26);
        text[1] = (char)('a' + i / 26 % 26);
        text[2] = (char)('a' + i / 676);
        spm_build_piece(&file, text, sizeof(text), 0, SPM_BUILD_USER);
    }
    spm_build_end(&file);
    expect_refused(&file, ERR_FORMAT, "1 MiB");
}

/* A whole file whose specs are the given bytes; NULL leaves a spec out. */
static void with_specs(struct str *file, const struct str *trainer, const struct str *normalizer)
{
    spm_build_begin(file);
    if (trainer) {
        spm_build_bytes(file, 2, trainer->data, trainer->len);
    }
    if (normalizer) {
        spm_build_bytes(file, 3, normalizer->data, normalizer->len);
    }
}

TEST(spm_model_refuses_other_kinds_of_models)
{
    /* Fields of trainer_spec, then of normalizer_spec, that differ from Gemma's. */
    static const struct {
        uint32_t trainer[2][2];
        uint32_t normalizer[3][2];
        const char *part;
    } bad[] = {
        {{{35, 1}, {3, 1}}, {{3, 0}, {4, 0}, {5, 1}}, "model_type"},
        {{{35, 1}, {4, 9}}, {{3, 0}, {4, 0}, {5, 1}}, "model_type"},
        {{{35, 0}, {3, 2}}, {{3, 0}, {4, 0}, {5, 1}}, "byte_fallback"},
        {{{24, 1}, {3, 2}}, {{3, 0}, {4, 0}, {5, 1}}, "byte_fallback"},
        {{{35, 1}, {3, 2}}, {{3, 1}, {4, 0}, {5, 1}}, "add_dummy_prefix"},
        {{{35, 1}, {3, 2}}, {{9, 0}, {4, 0}, {5, 1}}, "add_dummy_prefix"},
        {{{35, 1}, {3, 2}}, {{3, 0}, {4, 1}, {5, 1}}, "remove_extra_whitespaces"},
        {{{35, 1}, {3, 2}}, {{3, 0}, {4, 0}, {5, 0}}, "escape_whitespaces"},
    };
    struct str trainer;
    struct str normalizer;
    struct str file;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        spm_build_init(&trainer);
        spm_build_init(&normalizer);
        for (int j = 0; j < 2; j++) {
            spm_build_varint(&trainer, bad[i].trainer[j][0], bad[i].trainer[j][1]);
        }
        for (int j = 0; j < 3; j++) {
            spm_build_varint(&normalizer, bad[i].normalizer[j][0], bad[i].normalizer[j][1]);
        }
        with_specs(&file, &trainer, &normalizer);
        str_done(&trainer);
        str_done(&normalizer);
        expect_refused(&file, ERR_UNSUPPORTED, bad[i].part);
    }
}

TEST(spm_model_refuses_missing_and_doubled_specs_and_character_maps)
{
    struct str trainer;
    struct str normalizer;
    struct str file;

    spm_build_init(&trainer);
    spm_build_varint(&trainer, 3, 2);
    spm_build_varint(&trainer, 35, 1);
    spm_build_init(&normalizer);
    spm_build_varint(&normalizer, 3, 0);
    spm_build_varint(&normalizer, 4, 0);
    with_specs(&file, &trainer, NULL);
    expect_refused(&file, ERR_UNSUPPORTED, "missing");
    with_specs(&file, NULL, &normalizer);
    expect_refused(&file, ERR_UNSUPPORTED, "missing");
    with_specs(&file, &trainer, &normalizer);
    spm_build_bytes(&file, 2, trainer.data, trainer.len);
    expect_refused(&file, ERR_FORMAT, "trainer_spec");
    with_specs(&file, &trainer, &normalizer);
    spm_build_bytes(&file, 3, normalizer.data, normalizer.len);
    expect_refused(&file, ERR_FORMAT, "normalizer_spec");
    spm_build_bytes(&normalizer, 2, "\x04\0\0\0abcd", 8);
    with_specs(&file, &trainer, &normalizer);
    expect_refused(&file, ERR_UNSUPPORTED, "precompiled_charsmap");
    spm_build_varint(&trainer, 24, 1);
    with_specs(&file, &trainer, &normalizer);
    expect_refused(&file, ERR_UNSUPPORTED, "treat_whitespace_as_suffix");
    str_done(&trainer);
    str_done(&normalizer);
}

TEST(spm_model_refuses_damaged_bytes)
{
    static const char *const bytes[] = {
        "\x0a",                 /* a piece without its length */
        "\x0a\x05xyz",          /* a piece longer than the file */
        "\x08\x01",             /* field 1 as a number */
        "\x0b",                 /* a group */
        "\x07",                 /* no such wire type */
        "\x02\x01\x61",         /* field 0 */
        "\x21\x01\x02",         /* 64 bits cut short */
        "\x25\x01\x02",         /* 32 bits cut short */
        "\x0a\x03\x0a\x05\x61", /* a piece whose text is longer than it */
        "\x0a\x02\x08\x01",     /* a piece whose text is a number */
        "\x0a\x02\x10\x01",     /* ... whose score is */
        "\x0a\x03\x1a\x01\x61", /* ... whose type is text */
        /* a varint without end */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    struct spm_model model;

    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        EXPECT_INT(spm_model_read(&model, bytes[i], strlen(bytes[i]), "x", &err), ERR_FORMAT);
    }
    EXPECT_INT(spm_model_read(&model, "", 0, "x", &err), ERR_UNSUPPORTED);
}

TEST(spm_model_refuses_a_file_cut_anywhere)
{
    struct spm_model model;
    struct str file;

    with_piece(&file, "ab", 2, -1, SPM_BUILD_NORMAL);
    for (size_t len = 0; len < file.len; len++) {
        /* A copy of its own size, so that reading on would be noticed. */
        char *part = test_alloc(len + 1);

        memcpy(part, file.data, len);
        EXPECT(spm_model_read(&model, part, len, "x", &err) != ERR_OK);
        free(part);
    }
    str_done(&file);
}

TEST(spm_model_survives_failing_allocations)
{
    struct spm_model model;
    struct str file;
    int rc;

    with_chain(&file, 64);
    for (long n = 1;; n++) {
        alloc_fail_at(n);
        rc = read_file(&file, &model);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
    spm_model_done(&model);
    str_done(&file);
}
