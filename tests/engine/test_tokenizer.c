#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/spm_build.h"
#include "tests/support/test.h"

static struct err err;

/* A vocabulary to reason about; ids from SPM_BUILD_FIRST on. "_" stands for U+2581. */
static const struct {
    const char *text;
    float score;
    int type;
} toy[] = {
    {"\n\n", 0, SPM_BUILD_USER},
    {"\n\n\n", 0, SPM_BUILD_USER},
    {"<b>", 0, SPM_BUILD_USER},
    {"ab", -1, SPM_BUILD_NORMAL},
    {"bc", -2, SPM_BUILD_NORMAL},
    {"abc", -3, SPM_BUILD_NORMAL},
    {"\xe2\x96\x81"
     "a",
     -4, SPM_BUILD_NORMAL},
    {"aa", -5, SPM_BUILD_NORMAL},
    {"\xe2\x96\x81", -6, SPM_BUILD_NORMAL},
    {"a", -7, SPM_BUILD_NORMAL},
    {"b", -8, SPM_BUILD_NORMAL},
    {"c", -9, SPM_BUILD_NORMAL},
    {"\n", -10, SPM_BUILD_NORMAL},
};

enum {
    NN = SPM_BUILD_FIRST,
    NNN,
    TAG_B,
    AB,
    BC,
    ABC,
    SPACE_A,
    AA,
    SPACE,
    A,
    B,
    C,
    N
};
enum {
    PAD,
    EOS,
    BOS,
    UNK
};

#define BYTE(b) (SPM_BUILD_FIRST_BYTE + (b))

static void build_toy(struct str *file)
{
    spm_build_begin(file);
    for (size_t i = 0; i < ARRAY_LEN(toy); i++) {
        spm_build_piece(file, toy[i].text, strlen(toy[i].text), toy[i].score, toy[i].type);
    }
    spm_build_end(file);
}

static struct tokenizer *open_toy(void)
{
    struct tokenizer *t = NULL;
    struct str file;

    build_toy(&file);
    EXPECT_OK(tokenizer_open_memory(&t, file.data, file.len, "toy", &err));
    str_done(&file);
    return t;
}

static void expect_ids(const char *text, size_t len, const struct tokenizer_options *options,
                       const int32_t *want, int64_t n)
{
    struct tokenizer *t = open_toy();
    struct token_list got = {0};

    EXPECT_OK(tokenizer_encode(t, text, len, options, &got, &err));
    EXPECT_INT(got.n, n);
    for (int64_t i = 0; i < n; i++) {
        EXPECT_INT(got.ids[i], want[i]);
    }
    token_list_done(&got);
    tokenizer_close(t);
}

static const struct tokenizer_options raw = {.no_bos = true, .no_special = true};

#define EXPECT_RAW(text, ...)                                                                      \
    expect_ids((text), sizeof(text) - 1, &raw, (const int32_t[]){__VA_ARGS__},                     \
               (int64_t)(sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)))
#define EXPECT_IDS(text, ...)                                                                      \
    expect_ids((text), sizeof(text) - 1, NULL, (const int32_t[]){__VA_ARGS__},                     \
               (int64_t)(sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)))

TEST(tokenizer_merges_the_best_pair_first)
{
    EXPECT_RAW("ab", AB);
    EXPECT_RAW("abc", ABC); /* ab before bc, then ab + c */
    EXPECT_RAW("bcb", BC, B);
    EXPECT_RAW("aaa", AA, A); /* leftmost */
    EXPECT_RAW("aab", A, AB);
}

TEST(tokenizer_keeps_spaces_and_adds_none)
{
    EXPECT_RAW("a", A);
    EXPECT_RAW(" a", SPACE_A);
    EXPECT_RAW("a  a ", A, SPACE, SPACE_A, SPACE);
    EXPECT_RAW("\xe2\x96\x81"
               "a",
               SPACE_A);
}

TEST(tokenizer_matches_user_defined_pieces_longest_first)
{
    EXPECT_RAW("a\nb", A, N, B);
    EXPECT_RAW("a\n\nb", A, NN, B);
    EXPECT_RAW("\n\n\n\n\n", NNN, NN);
    EXPECT_RAW("a<b>c", A, TAG_B, C);
}

TEST(tokenizer_falls_back_to_bytes)
{
    EXPECT_RAW("\xc3\xa9", BYTE(0xc3), BYTE(0xa9));
    EXPECT_RAW("a\xf0\x9f\xa4\x96", A, BYTE(0xf0), BYTE(0x9f), BYTE(0xa4), BYTE(0x96));
    EXPECT_RAW("a\0b", A, BYTE(0), B);
}

TEST(tokenizer_takes_written_special_tokens_as_such_unless_told)
{
    static const struct tokenizer_options plain = {.no_special = true};
    static const int32_t want[] = {BOS, BYTE('<'), B, BYTE('o'), BYTE('s'), BYTE('>')};

    EXPECT_IDS("", BOS);
    EXPECT_IDS("<bos>", BOS, BOS);
    EXPECT_IDS("a<pad>b<eos><unk>", BOS, A, PAD, B, EOS, UNK);
    EXPECT_IDS("<<bos><bo", BOS, BYTE('<'), BOS, BYTE('<'), B, BYTE('o'));
    EXPECT_IDS(" <eos> a", BOS, SPACE, EOS, SPACE_A);
    expect_ids("<bos>", 5, &plain, want, 6);
}

TEST(tokenizer_appends_and_keeps_the_list_on_errors)
{
    struct tokenizer *t = open_toy();
    struct token_list list = {0};
    char *big = test_alloc(TOKENIZER_TEXT_MAX + 1);

    EXPECT_OK(tokenizer_encode(t, "ab", 2, &raw, &list, &err));
    EXPECT_OK(tokenizer_encode(t, "c", 1, &raw, &list, &err));
    EXPECT_INT(list.n, 2);
    EXPECT_INT(list.ids[1], C);
    EXPECT_INT(tokenizer_encode(t, "ab\xff", 3, NULL, &list, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "not UTF-8 at byte 2");
    memset(big, 'a', TOKENIZER_TEXT_MAX + 1);
    EXPECT_INT(tokenizer_encode(t, big, TOKENIZER_TEXT_MAX + 1, NULL, &list, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "1048576");
    EXPECT_INT(list.n, 2);
    EXPECT_INT(tokenizer_vocab_size(t), SPM_BUILD_FIRST + 13);
    token_list_done(&list);
    tokenizer_close(t);
    free(big);
}

/* What ids stand for, byte by byte; the reverse of encoding for the toy vocabulary. */
static void decode(const struct token_list *list, struct str *out)
{
    for (int64_t i = 0; i < list->n; i++) {
        const int32_t id = list->ids[i];
        const uint8_t byte = (uint8_t)(id - SPM_BUILD_FIRST_BYTE);

        EXPECT(id >= SPM_BUILD_FIRST_BYTE && id < SPM_BUILD_FIRST + (int32_t)ARRAY_LEN(toy));
        EXPECT(id < SPM_BUILD_FIRST ? str_append(out, &byte, 1)
                                    : str_add(out, toy[id - SPM_BUILD_FIRST].text));
    }
}

/* n random characters, valid and mostly not in the vocabulary. */
static void random_text(struct str *text, int n, uint64_t *seed)
{
    static const char *const part[] = {
        "a",
        "b",
        "c",
        "\n",
        "<b>",
        "\t",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xe2\x96\x81",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "<",
        "bos>",
        "Z",
    };

    str_init(text, 4096);
    for (int i = 0; i < n; i++) {
        *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
        EXPECT(str_add(text, part[(*seed >> 33) % ARRAY_LEN(part)]));
    }
}

/* MODEL 13.2, invariant 10. */
TEST(tokenizer_round_trips_any_text)
{
    struct tokenizer *t = open_toy();
    uint64_t seed = 7;

    for (int round = 0; round < 200; round++) {
        struct token_list list = {0};
        struct str text;
        struct str back;

        random_text(&text, round % 40, &seed);
        str_init(&back, 4096);
        EXPECT_OK(tokenizer_encode(t, str_get(&text), text.len, &raw, &list, &err));
        decode(&list, &back);
        EXPECT_STR(str_get(&back), str_get(&text));
        token_list_done(&list);
        str_done(&text);
        str_done(&back);
    }
    tokenizer_close(t);
}

TEST(tokenizer_opens_files_and_names_them_in_errors)
{
    const char *missing = files_path(test_dir(), "missing.model");
    const char *huge = files_path(test_dir(), "huge.model");
    const char *bad = files_path(test_dir(), "bad.model");
    struct tokenizer *t = NULL;

    EXPECT_OK(tokenizer_open(&t, "tests/golden/tiny-480p/tokenizer/tokenizer.model", &err));
    EXPECT_INT(tokenizer_vocab_size(t), 1200);
    tokenizer_close(t);
    EXPECT_INT(tokenizer_open(&t, missing, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "missing.model");
    files_write_sparse(huge, "", 0, (uint64_t)TOKENIZER_FILE_MAX + 1);
    EXPECT_INT(tokenizer_open(&t, huge, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "huge.model");
    files_write(bad, "{}", 2);
    EXPECT_INT(tokenizer_open(&t, bad, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "bad.model");
    EXPECT_INT(tokenizer_open(&t, test_dir(), &err), ERR_FORMAT);
    EXPECT_INT(tokenizer_open_memory(&t, "", TOKENIZER_FILE_MAX + 1, "x", &err), ERR_FORMAT);
    tokenizer_close(NULL);
}

TEST(tokenizer_refuses_models_that_the_library_refuses)
{
    struct tokenizer *t = NULL;
    struct str file;

    spm_build_begin(&file);
    spm_build_piece(&file, "ab", 2, 0, SPM_BUILD_NORMAL);
    spm_build_piece(&file, "ab", 2, 0, SPM_BUILD_NORMAL);
    spm_build_end(&file);
    EXPECT_INT(tokenizer_open_memory(&t, file.data, file.len, "twice", &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "twice: ");
    EXPECT_CONTAINS(err.msg, "already defined");
    str_done(&file);
}

/* A control piece of one letter makes SentencePiece lose count of its text. */
TEST(tokenizer_reports_models_that_contradict_themselves)
{
    struct tokenizer *t = NULL;
    struct token_list list = {0};
    struct str file;

    spm_build_begin(&file);
    spm_build_piece(&file, "a", 1, 0, SPM_BUILD_CONTROL);
    spm_build_end(&file);
    EXPECT_OK(tokenizer_open_memory(&t, file.data, file.len, "odd", &err));
    EXPECT_INT(tokenizer_encode(t, "cab", 3, NULL, &list, &err), ERR_FORMAT);
    EXPECT_INT(list.n, 0);
    token_list_done(&list);
    tokenizer_close(t);
    str_done(&file);
}

TEST(tokenizer_survives_failing_allocations)
{
    struct token_list list = {0};
    struct tokenizer *t = NULL;
    struct str file;
    char text[300];
    int rc;

    memset(text, '\t', sizeof(text));
    build_toy(&file);
    for (long n = 1;; n++) {
        t = NULL;
        alloc_fail_at(n);
        rc = tokenizer_open_memory(&t, file.data, file.len, "toy", &err);
        if (rc == ERR_OK) {
            rc = tokenizer_encode(t, text, sizeof(text), NULL, &list, &err);
        }
        tokenizer_close(t);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
        EXPECT_INT(list.n, 0);
        token_list_done(&list);
    }
    EXPECT_OK(rc);
    EXPECT_INT(list.n, 301);
    token_list_done(&list);
    str_done(&file);
}
