#include "engine/prompt.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model_dir.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

static const char model_path[] = "tests/golden/tiny-480p";
static const char tokenizer_path[] = "tests/golden/tiny-480p/tokenizer/tokenizer.model";

static struct err err;

static const struct prompt_options lower = {.chi = CHI_NONE, .lower_case = true};
static const struct prompt_options plain = {.chi = CHI_NONE, .lower_case = false};

static void expect_prepared(const char *text, const struct prompt_options *options,
                            const char *want)
{
    struct str s;

    str_init(&s, 1 << 20);
    EXPECT_OK(prompt_prepare(text, strlen(text), options, &s, &err));
    EXPECT_STR(str_get(&s), want);
    str_done(&s);
}

/* ---- the instruction ---- */

TEST(prompt_chi_of_videos_is_the_recorded_one)
{
    size_t len;
    char *json = files_read("tests/golden/chi.json", &len);
    cJSON *root = cJSON_Parse(json);
    const cJSON *lines = cJSON_GetObjectItemCaseSensitive(root, "complex_human_instruction");
    const cJSON *line;
    struct str want;

    str_init(&want, 1 << 20);
    EXPECT_INT(cJSON_GetArraySize(lines), 8);
    cJSON_ArrayForEach(line, lines)
    {
        EXPECT(str_add(&want, want.len > 0 ? "\n" : "") && str_add(&want, line->valuestring));
    }
    EXPECT_STR(prompt_chi_text(CHI_VIDEO), str_get(&want));
    str_done(&want);
    cJSON_Delete(root);
    free(json);
}

TEST(prompt_chi_of_images_has_its_own_wording)
{
    const char *chi = prompt_chi_text(CHI_IMAGE);
    int lines = 1;

    for (const char *p = chi; *p; p++) {
        lines += *p == '\n';
    }
    EXPECT_INT(lines, 8);
    EXPECT_INT(strlen(chi), 1057);
    EXPECT_CONTAINS(chi, "an \"Enhanced prompt\" that");
    EXPECT_CONTAINS(chi, "suitable for image generation. Evaluate the level of detail in the user "
                         "prompt:\n");
    EXPECT_CONTAINS(chi,
                    "textures, and spatial relationships to create vivid and concrete scenes.");
    EXPECT_CONTAINS(chi,
                    "white cat curled up in a round shape, sleeping peacefully on a warm sunny "
                    "windowsill, surrounded by pots of blooming red flowers.\n");
    EXPECT_CONTAINS(chi,
                    "glowing street lamps, a diverse crowd of people in colorful clothing, and "
                    "a double-decker bus passing by towering glass skyscrapers.\n");
    EXPECT_STR(chi + strlen(chi) - 15, ":\nUser Prompt: ");
    EXPECT_STR(prompt_chi_text(CHI_NONE), "");
}

/* ---- preparing the text ---- */

TEST(prompt_prepare_lowers_and_strips_as_python_does)
{
    static const char *const text[][2] = {
        {"", ""},
        {" \t\n\v\f\r ", ""},
        {"  A Busy City STREET, 4K!! \n", "a busy city street, 4k!!"},
        {"\x1c\xc2\x85\xc2\xa0\xe1\x9a\x80\xe2\x80\x80\xe2\x80\x8a\xe2\x80\xa8\xe2\x80\xa9"
         "A\xe2\x80\xaf\xe2\x81\x9f\xe3\x80\x80\x1f",
         "a"},
        {"\xe2\x80\x8b ", "\xe2\x80\x8b"}, /* U+200B is no space */
        {"\xe1\xa0\x8e", "\xe1\xa0\x8e"},  /* nor is U+180E */
        {"\xc3\x89T\xc3\x89 \xc3\x9f", "\xc3\xa9t\xc3\xa9 \xc3\x9f"},
        {"\xc4\xb0", "i\xcc\x87"},                                /* U+0130 */
        {"\xc8\xba", "\xe2\xb1\xa5"},                             /* 2 bytes become 3 */
        {"\xce\xa3", "\xcf\x83"},                                 /* sigma alone */
        {"\xce\x91\xce\xa3", "\xce\xb1\xcf\x82"},                 /* final */
        {"\xce\x91\xce\xa3\xce\x91", "\xce\xb1\xcf\x83\xce\xb1"}, /* not final */
        {"\xce\x91\xce\xa3'B", "\xce\xb1\xcf\x83'b"},             /* behind the apostrophe, B */
        {"\xce\x91'\xce\xa3' ", "\xce\xb1'\xcf\x82'"},            /* behind it, nothing */
        {"\xce\x91\xce\xa3 \xce\x91", "\xce\xb1\xcf\x82 \xce\xb1"},
        {"\xce\x91\xce\xa3\xce\xa3", "\xce\xb1\xcf\x83\xcf\x82"},
        {"\xca\xb0\xce\xa3", "\xca\xb0\xcf\x83"}, /* only case-ignorable before */
    };

    for (size_t i = 0; i < ARRAY_LEN(text); i++) {
        expect_prepared(text[i][0], &lower, text[i][1]);
    }
}

TEST(prompt_prepare_plain_strips_only)
{
    expect_prepared("", &plain, "");
    expect_prepared("\t A Busy CITY \xce\x91\xce\xa3 \xe3\x80\x80", &plain,
                    "A Busy CITY \xce\x91\xce\xa3");
}

TEST(prompt_prepare_adds_the_motion_score)
{
    struct prompt_options o = lower;

    o.motion_score = 30;
    expect_prepared(" A Cat", &o, "a cat motion score: 30.");
    expect_prepared("A Cat ", &o, "a cat  motion score: 30."); /* as a plain + in Python */
    expect_prepared("", &o, "motion score: 30.");
    o.lower_case = false;
    expect_prepared(" A Cat ", &o, "A Cat motion score: 30.");
    o.motion_score = 100;
    expect_prepared("A", &o, "A motion score: 100.");
}

TEST(prompt_prepare_refuses_what_is_not_text)
{
    static const struct {
        const char *text;
        size_t len;
        const char *part;
    } bad[] = {
        {"ab\xff", 3, "not UTF-8 at byte 2"},       {"a\xc3", 2, "not UTF-8 at byte 1"},
        {"\xed\xa0\x80", 3, "not UTF-8 at byte 0"}, {"ab\xc0\x80", 4, "not UTF-8 at byte 2"},
        {"abc\0d", 5, "NUL character at byte 3"},
    };
    struct str s;

    str_init(&s, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(prompt_prepare(bad[i].text, bad[i].len, &lower, &s, &err), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, bad[i].part);
    }
    EXPECT_INT(s.len, 0);
    str_done(&s);
}

TEST(prompt_prepare_limits_code_points)
{
    const size_t n = PROMPT_MAX_CHARACTERS;
    char *text = test_alloc(4 * n + 5);
    struct str s;

    for (size_t i = 0; i < 4 * (n + 1); i++) {
        text[i] = "\xf0\x9f\xa4\x96"[i % 4];
    }
    str_init(&s, 1 << 20);
    EXPECT_OK(prompt_prepare(text, 4 * n, &lower, &s, &err));
    EXPECT_INT(s.len, 4 * n);
    EXPECT_INT(prompt_prepare(text, 4 * n + 4, &lower, &s, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "32000");
    memset(text, 'x', n + 1);
    EXPECT_INT(prompt_prepare(text, n + 1, &lower, &s, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "32001 characters, the limit is 32000");
    str_done(&s);
    free(text);
}

/* ---- tokens ---- */

static void tokenize(const char *text, enum chi_wording chi, int64_t max_tokens,
                     struct prompt_tokens *ret)
{
    const struct prompt_options options = {
        .chi = chi, .lower_case = true, .max_tokens = max_tokens};
    struct tokenizer *t = NULL;

    EXPECT_OK(tokenizer_open(&t, tokenizer_path, &err));
    EXPECT_OK(prompt_tokenize(t, text, strlen(text), &options, ret, &err));
    tokenizer_close(t);
}

/* The golden fixtures: 339 tokens with <bos>. */
enum {
    N_CHI = 339
};

TEST(prompt_tokenize_gathers_behind_the_instruction)
{
    struct prompt_tokens tokens;

    tokenize("", CHI_VIDEO, 24, &tokens);
    EXPECT_INT(tokens.list.n, N_CHI);
    EXPECT_INT(tokens.gather_start, N_CHI - 1);
    EXPECT_INT(tokens.n_valid, 2);
    EXPECT(!tokens.truncated);
    prompt_tokens_done(&tokens);
    tokenize("", CHI_NONE, 24, &tokens);
    EXPECT_INT(tokens.list.n, 1);
    EXPECT_INT(tokens.gather_start, 1);
    EXPECT_INT(tokens.n_valid, 1);
    prompt_tokens_done(&tokens);
}

TEST(prompt_tokenize_truncates_to_the_slots)
{
    static const char words[] = "abc abc abc abc abc abc abc abc abc abc abc abc abc abc";
    struct prompt_tokens all;
    struct prompt_tokens exact;
    struct prompt_tokens tokens;

    for (int chi = 0; chi < 2; chi++) {
        const enum chi_wording wording = chi ? CHI_VIDEO : CHI_NONE;

        tokenize(words, wording, 4000, &all);
        EXPECT(!all.truncated && all.n_valid > 20);
        tokenize(words, wording, all.n_valid, &exact);
        EXPECT(!exact.truncated && exact.list.n == all.list.n && exact.n_valid == all.n_valid);
        tokenize(words, wording, all.n_valid - 1, &tokens);
        EXPECT(tokens.truncated);
        EXPECT_INT(tokens.list.n, all.list.n - 1);
        EXPECT_INT(tokens.n_valid, all.n_valid - 1);
        EXPECT(memcmp(tokens.list.ids, all.list.ids, (size_t)tokens.list.n * 4) == 0);
        prompt_tokens_done(&tokens);
        tokenize(words, wording, 2, &tokens);
        EXPECT_INT(tokens.n_valid, 2);
        EXPECT_INT(tokens.list.n, chi ? N_CHI : 2);
        prompt_tokens_done(&tokens);
        prompt_tokens_done(&exact);
        prompt_tokens_done(&all);
    }
}

/* MODEL 13.2, invariant 11: the instruction's last space merges with the first word, so the first
 * token of a prompt that starts with a letter stands at n_chi - 1. */
TEST(prompt_tokenize_puts_the_first_word_at_the_gather_start)
{
    static const struct tokenizer_options raw = {.no_bos = true, .no_special = true};
    static const char *const text[] = {" the cat walks", " a", " zebra! 12"};
    struct tokenizer *t = NULL;
    struct token_list chi = {0};

    EXPECT_OK(tokenizer_open(&t, tokenizer_path, &err));
    EXPECT_OK(tokenizer_encode(t, prompt_chi_text(CHI_VIDEO), strlen(prompt_chi_text(CHI_VIDEO)),
                               NULL, &chi, &err));
    EXPECT_INT(chi.n, N_CHI);
    for (size_t i = 0; i < ARRAY_LEN(text); i++) {
        struct prompt_tokens tokens;
        struct token_list alone = {0};

        tokenize(text[i], CHI_VIDEO, 300, &tokens);
        EXPECT_OK(tokenizer_encode(t, text[i], strlen(text[i]), &raw, &alone, &err));
        EXPECT(memcmp(tokens.list.ids, chi.ids, (N_CHI - 1) * sizeof(*chi.ids)) == 0);
        EXPECT_INT(tokens.list.n, N_CHI - 1 + alone.n);
        EXPECT(memcmp(tokens.list.ids + N_CHI - 1, alone.ids,
                      (size_t)alone.n * sizeof(*alone.ids)) == 0);
        EXPECT_INT(tokens.n_valid, 1 + alone.n);
        token_list_done(&alone);
        prompt_tokens_done(&tokens);
    }
    token_list_done(&chi);
    tokenizer_close(t);
}

TEST(prompt_tokenize_refuses_slots_out_of_range)
{
    static const int64_t bad[] = {-1, 0, 1, PROMPT_MAX_TOKENS + 1, INT64_MAX};
    struct prompt_options options = lower;
    struct prompt_tokens tokens;
    struct tokenizer *t = NULL;

    EXPECT_OK(tokenizer_open(&t, tokenizer_path, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        options.max_tokens = bad[i];
        EXPECT_INT(prompt_tokenize(t, "a", 1, &options, &tokens, &err), ERR_INVALID);
    }
    options.max_tokens = 20;
    EXPECT_INT(prompt_tokenize(t, "a\0", 2, &options, &tokens, &err), ERR_INVALID);
    tokenizer_close(t);
}

TEST(prompt_tokenize_survives_failing_allocations)
{
    const struct prompt_options options = {
        .chi = CHI_VIDEO, .lower_case = true, .motion_score = 5, .max_tokens = 300};
    struct prompt_tokens tokens;
    struct tokenizer *t = NULL;
    int rc;

    EXPECT_OK(tokenizer_open(&t, tokenizer_path, &err));
    for (long n = 1;; n++) {
        alloc_fail_at(n);
        rc = prompt_tokenize(t, "A Cat", 5, &options, &tokens, &err);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
    prompt_tokens_done(&tokens);
    tokenizer_close(t);
}

/* ---- embeddings ---- */

/* One pass, dry or not; out and all are prompt_encode's and the encoder's own output. */
static void encode_both(struct text_encoder *enc, const struct prompt_tokens *tokens,
                        struct workspace *ws, struct tensor *out, struct tensor *all)
{
    const int64_t hidden = text_encoder_config(enc)->hidden_size;

    EXPECT_OK(WORKSPACE_F32(ws, out, &err, tokens->n_valid, hidden));
    EXPECT_OK(WORKSPACE_F32(ws, all, &err, tokens->list.n, hidden));
    EXPECT_OK(prompt_encode(enc, tokens, ws, out, &err));
    EXPECT_OK(text_encoder_forward(enc, tokens->list.ids, tokens->list.n, ws, all, NULL, &err));
}

/* Rows 0 and [gather_start, n) of the encoder's output are what prompt_encode gives. */
static void check_gather(struct text_encoder *enc, struct device *dev, const char *text,
                         enum chi_wording chi)
{
    const int64_t hidden = text_encoder_config(enc)->hidden_size;
    struct prompt_tokens tokens;
    struct workspace ws;
    struct tensor out;
    struct tensor all;
    struct tensor bad;
    const float *last;

    tokenize(text, chi, 24, &tokens);
    workspace_init(&ws, dev);
    dev->dry_run = true;
    encode_both(enc, &tokens, &ws, &out, &all);
    dev->dry_run = false;
    EXPECT_OK(workspace_commit(&ws, 0, &err));
    encode_both(enc, &tokens, &ws, &out, &all);
    EXPECT(memcmp(out.data, all.data, (size_t)hidden * sizeof(float)) == 0);
    last = (const float *)all.data + tokens.gather_start * hidden;
    EXPECT(memcmp((const float *)out.data + hidden, last,
                  (size_t)((tokens.n_valid - 1) * hidden) * sizeof(float)) == 0);
    bad = tensor_slice(&all, 0, tokens.list.n - 1);
    if (chi != CHI_NONE) {
        EXPECT_INT(prompt_encode(enc, &tokens, &ws, &bad, &err), ERR_INVALID);
    }
    workspace_done(&ws);
    prompt_tokens_done(&tokens);
}

TEST(prompt_encode_gathers_bos_and_the_prompt)
{
    struct model_dir *dir = NULL;
    struct text_encoder *enc = NULL;
    struct device dev;

    EXPECT_OK(device_open_cpu(&dev, 0, &err));
    EXPECT_OK(model_dir_open(&dir, model_path, &err));
    EXPECT_OK(text_encoder_open(&enc, &dir->text_encoder, dir->text_encoder_weights, &dev, &err));
    check_gather(enc, &dev, "A cat walking on grass", CHI_VIDEO);
    check_gather(enc, &dev, "", CHI_IMAGE);
    check_gather(enc, &dev, "blurry", CHI_NONE);
    check_gather(enc, &dev, "", CHI_NONE);
    text_encoder_close(enc);
    model_dir_close(dir);
    device_close(&dev);
}
