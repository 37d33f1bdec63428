#include "engine/prompt.h"

#include <stdlib.h>
#include <string.h>
#include <unicase.h>
#include <unictype.h>
#include <unistr.h>

#include "kernels/elementwise.h"

/* Lower case can be longer: U+0130 becomes "i" and U+0307, U+023A grows from 2 bytes to 3. */
enum {
    PREPARED_BYTES_MAX = 8 * PROMPT_MAX_CHARACTERS
};

/* The lists are inputs of the models, so every byte counts; each ends with a space.
 * Video wording: diffusers' SanaVideoPipeline. Image wording: NVlabs' training configurations. */
static const char chi_video[] =
    "Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions "
    "suitable for video generation. Evaluate the level of detail in the user prompt:\n"
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, "
    "motion, and temporal relationships to create vivid and dynamic scenes.\n"
    "- If the prompt is already detailed, refine and enhance the existing details slightly without "
    "overcomplicating.\n"
    "Here are examples of how to transform or refine prompts:\n"
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat slowly settling into a "
    "curled position, peacefully falling asleep on a warm sunny windowsill, with gentle sunlight "
    "filtering through surrounding pots of blooming red flowers.\n"
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, "
    "featuring glowing street lamps gradually lighting up, a diverse crowd of people in colorful "
    "clothing walking past, and a double-decker bus smoothly passing by towering glass "
    "skyscrapers.\n"
    "Please generate only the enhanced description for the prompt below and avoid including any "
    "additional commentary or evaluations:\n"
    "User Prompt: ";

static const char chi_image[] =
    "Given a user prompt, generate an \"Enhanced prompt\" that provides detailed visual "
    "descriptions suitable for image generation. Evaluate the level of detail in the user "
    "prompt:\n"
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, "
    "and spatial relationships to create vivid and concrete scenes.\n"
    "- If the prompt is already detailed, refine and enhance the existing details slightly without "
    "overcomplicating.\n"
    "Here are examples of how to transform or refine prompts:\n"
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round "
    "shape, sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red "
    "flowers.\n"
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, "
    "featuring glowing street lamps, a diverse crowd of people in colorful clothing, and a "
    "double-decker bus passing by towering glass skyscrapers.\n"
    "Please generate only the enhanced description for the prompt below and avoid including any "
    "additional commentary or evaluations:\n"
    "User Prompt: ";

const char *prompt_chi_text(enum chi_wording chi)
{
    switch (chi) {
    case CHI_VIDEO:
        return chi_video;
    case CHI_IMAGE:
        return chi_image;
    case CHI_NONE:
        return "";
    }
    CHECK_BUG(!"chi_wording");
}

/* What Python's str.isspace() accepts. */
static bool is_space(ucs4_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* text[*first, *end) without spaces around. */
static void strip(const uint8_t *text, size_t len, size_t *first, size_t *end)
{
    const uint8_t *p = text;
    const uint8_t *next;
    ucs4_t c;

    while ((next = u8_next(&c, p)) && next <= text + len && is_space(c)) {
        p = next;
    }
    *first = (size_t)(p - text);
    p = text + len;
    while (p > text + *first && u8_prev(&c, p, text) && is_space(c)) {
        p = u8_prev(&c, p, text);
    }
    *end = (size_t)(p - text);
}

static int check_text(const char *text, size_t len, struct err *err)
{
    const uint8_t *bad;
    const char *nul;
    size_t n;

    /* Before anything else is spent on it: a code point is at most 4 bytes. */
    if (len > (size_t)4 * PROMPT_MAX_CHARACTERS) {
        return err_set(err, ERR_INVALID, "%zu bytes, the limit is %d characters", len,
                       PROMPT_MAX_CHARACTERS);
    }
    bad = u8_check((const uint8_t *)text, len);
    if (bad) {
        return err_set(err, ERR_INVALID, "not UTF-8 at byte %zu",
                       (size_t)(bad - (const uint8_t *)text));
    }
    nul = memchr(text, 0, len);
    if (nul) {
        return err_set(err, ERR_INVALID, "a NUL character at byte %zu", (size_t)(nul - text));
    }
    n = u8_mbsnlen((const uint8_t *)text, len);
    if (n > PROMPT_MAX_CHARACTERS) {
        return err_set(err, ERR_INVALID, "%zu characters, the limit is %d", n,
                       PROMPT_MAX_CHARACTERS);
    }
    return ERR_OK;
}

static bool add_motion(struct str *s, int motion_score)
{
    return motion_score <= 0 || str_addf(s, " motion score: %d.", motion_score);
}

/* Is the capital sigma at text[at] the end of a word? Unicode 3.13, as Python has it: a cased letter
 * stands before it and none behind it, not counting what is case-ignorable. */
static bool is_final_sigma(const uint8_t *text, size_t at)
{
    const uint8_t *p = text + at;
    ucs4_t c = 0;

    do {
        p = u8_prev(&c, p, text);
    } while (p && uc_is_property_case_ignorable(c));
    if (!p || !uc_is_property_cased(c)) {
        return false;
    }
    p = text + at + 2;
    do {
        p = u8_next(&c, p);
    } while (p && uc_is_property_case_ignorable(c));
    return !p || !uc_is_property_cased(c);
}

/* Capital sigmas become small ones, final or not. libunistring has its own idea of a word's end,
 * which is not Python's where letters are case-ignorable, and in front of an apostrophe. */
static void lower_sigmas(struct str *s)
{
    static const char capital[] = "\xce\xa3"; /* U+03A3; small U+03C3, final U+03C2 */
    size_t at = 0;

    while (at + 2 <= s->len) {
        char *found = memmem(s->data + at, s->len - at, capital, 2);

        if (!found) {
            return;
        }
        at = (size_t)(found - s->data);
        memcpy(found, is_final_sigma((const uint8_t *)s->data, at) ? "\xcf\x82" : "\xcf\x83", 2);
        at += 2;
    }
}

/* diffusers: (text + suffix).lower().strip() */
static bool prepare_lower(const char *text, size_t len, int motion_score, struct str *ret)
{
    uint8_t *lower = NULL;
    size_t lower_len = 0;
    struct str s;
    size_t first;
    size_t end;
    bool ok;

    str_init(&s, ret->max);
    ok = str_append(&s, text, len) && add_motion(&s, motion_score);
    if (ok && s.len > 0) {
        lower_sigmas(&s);
        lower = u8_tolower((const uint8_t *)s.data, s.len, NULL, NULL, NULL, &lower_len);
        ok = lower != NULL;
    }
    if (ok && s.len > 0) {
        /* u8_next wants a terminator, which the library's result lacks. */
        s.len = 0;
        ok = str_append(&s, lower, lower_len);
        if (ok) {
            strip((const uint8_t *)s.data, s.len, &first, &end);
            ok = str_append(ret, s.data + first, end - first);
        }
    }
    free(lower);
    str_done(&s);
    return ok;
}

/* NVlabs: text.strip() + suffix */
static bool prepare_plain(const char *text, size_t len, int motion_score, struct str *ret)
{
    struct str s;
    size_t first;
    size_t end;
    bool ok;

    str_init(&s, ret->max);
    ok = str_append(&s, text, len);
    if (ok) {
        strip((const uint8_t *)s.data, s.len, &first, &end);
        ok = str_append(ret, s.data + first, end - first) && add_motion(ret, motion_score);
    }
    str_done(&s);
    return ok;
}

int prompt_prepare(const char *text, size_t len, const struct prompt_options *options,
                   struct str *ret, struct err *err)
{
    const int rc = check_text(text, len, err);
    bool ok;

    if (rc != ERR_OK) {
        return rc;
    }
    ok = options->lower_case ? prepare_lower(text, len, options->motion_score, ret)
                             : prepare_plain(text, len, options->motion_score, ret);
    return ok ? ERR_OK : err_set(err, ERR_NO_MEMORY, "text of %zu bytes", len);
}

/* Ids of the instruction alone, <bos> included; 1 for none. */
static int count_chi(const struct tokenizer *tokenizer, const char *chi, int64_t *ret,
                     struct err *err)
{
    struct token_list list = {0};
    const int rc = tokenizer_encode(tokenizer, chi, strlen(chi), NULL, &list, err);

    *ret = list.n;
    token_list_done(&list);
    return rc;
}

int prompt_tokenize(const struct tokenizer *tokenizer, const char *text, size_t len,
                    const struct prompt_options *options, struct prompt_tokens *ret,
                    struct err *err)
{
    const char *chi = prompt_chi_text(options->chi);
    const int64_t max_tokens = options->max_tokens;
    struct prompt_tokens tokens = {.truncated = false};
    int64_t n_chi;
    int64_t most;
    struct str s;
    int rc;

    if (max_tokens < 2 || max_tokens > PROMPT_MAX_TOKENS) {
        return err_set(err, ERR_INVALID, "max_tokens is %lld, expected 2..%d",
                       (long long)max_tokens, PROMPT_MAX_TOKENS);
    }
    str_init(&s, sizeof(chi_video) + sizeof(chi_image) + PREPARED_BYTES_MAX);
    if (!str_add(&s, chi)) {
        rc = err_set(err, ERR_NO_MEMORY, "text of %zu bytes", len);
        goto out;
    }
    rc = prompt_prepare(text, len, options, &s, err);
    if (rc != ERR_OK) {
        goto out;
    }
    rc = count_chi(tokenizer, chi, &n_chi, err);
    if (rc != ERR_OK) {
        goto out;
    }
    rc = tokenizer_encode(tokenizer, str_get(&s), s.len, NULL, &tokens.list, err);
    if (rc != ERR_OK) {
        goto out;
    }
    /* The instruction's last token, its final space, merges with the first word of the prompt: the
     * prompt begins at n_chi - 1. Both sides of the CHI share <bos>, hence the 2. */
    most = *chi ? n_chi + max_tokens - 2 : max_tokens;
    tokens.truncated = tokens.list.n > most;
    tokens.list.n = tokens.truncated ? most : tokens.list.n;
    tokens.gather_start = *chi ? n_chi - 1 : 1;
    tokens.n_valid = 1;
    if (tokens.list.n > tokens.gather_start) {
        tokens.n_valid += tokens.list.n - tokens.gather_start;
    }
    *ret = tokens;
    tokens = (struct prompt_tokens){.truncated = false};
out:
    prompt_tokens_done(&tokens);
    str_done(&s);
    return rc;
}

int prompt_synthetic(int64_t max_tokens, int64_t vocab_size, struct prompt_tokens *ret,
                     struct err *err)
{
    enum {
        INSTRUCTION = 200 /* about as long as the published one */
    };
    const int64_t n = INSTRUCTION + max_tokens - 1;
    int32_t *ids = calloc((size_t)n, sizeof(*ids));

    if (!ids) {
        return err_set(err, ERR_NO_MEMORY, "%lld tokens", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(i * 7919 % vocab_size); /* some order without a pattern */
    }
    *ret = (struct prompt_tokens){
        .list = {.ids = ids, .n = n, .capacity = n},
        .gather_start = INSTRUCTION,
        .n_valid = max_tokens,
    };
    return ERR_OK;
}

void prompt_tokens_done(struct prompt_tokens *tokens)
{
    token_list_done(&tokens->list);
    *tokens = (struct prompt_tokens){.truncated = false};
}

int prompt_encode(struct text_encoder *encoder, const struct prompt_tokens *tokens,
                  struct workspace *ws, const struct tensor *out, struct err *err)
{
    const int64_t n = tokens->list.n;
    const int64_t hidden_size = text_encoder_config(encoder)->hidden_size;
    const size_t mark = workspace_mark(ws);
    struct tensor hidden;
    struct tensor from;
    struct tensor to;
    int rc;

    if (!TENSOR_IS(out, DTYPE_F32, tokens->n_valid, hidden_size)) {
        return device_shape_err(err, "prompt", "out", out);
    }
    rc = WORKSPACE_F32(ws, &hidden, err, n, hidden_size);
    if (rc == ERR_OK) {
        rc = text_encoder_forward(encoder, tokens->list.ids, n, ws, &hidden, NULL, err);
    }
    if (rc == ERR_OK) {
        from = tensor_slice(&hidden, 0, 1);
        to = tensor_slice(out, 0, 1);
        rc = op_copy(ws->dev, &to, &from, err);
    }
    if (rc == ERR_OK && tokens->n_valid > 1) {
        from = tensor_slice(&hidden, tokens->gather_start, tokens->n_valid - 1);
        to = tensor_slice(out, 1, tokens->n_valid - 1);
        rc = op_copy(ws->dev, &to, &from, err);
    }
    workspace_rewind(ws, mark);
    return rc;
}
