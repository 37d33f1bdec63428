/*
 * prompt.h - what a user wrote, to the embeddings that the transformer attends to.
 *
 * Text -> motion suffix -> lower case and strip -> the "complex human instruction" (CHI) in front,
 * as one string -> tokens -> truncation -> Gemma 2 -> the rows of <bos> and of what follows the
 * CHI. Only valid tokens are kept: they are a prefix of the reference's max_tokens slots, and what
 * the reference has behind them is masked. MODEL 1.8, 2.2.
 *
 * Tokenizing and encoding are two calls, so that a dry run can plan the second.
 */
#ifndef ENGINE_PROMPT_H
#define ENGINE_PROMPT_H

#include "base/str.h"
#include "engine/model_config.h"
#include "engine/text_encoder.h"
#include "engine/tokenizer.h"

enum {
    PROMPT_MAX_CHARACTERS = 32000,
    PROMPT_MAX_TOKENS = 4096
};

struct prompt_options {
    enum chi_wording chi; /* CHI_NONE for a negative prompt, with any model */
    /* true: diffusers' way, the text with its suffix is lower-cased, then stripped.
     * false: NVlabs' way, the text is stripped, then gets its suffix. */
    bool lower_case;
    int motion_score;   /* > 0: " motion score: N." is added; 0 for a negative prompt */
    int64_t max_tokens; /* slots, 2..PROMPT_MAX_TOKENS; 300 for the published models */
};

struct prompt_tokens {
    struct token_list list; /* owned; all ids that go through the encoder, <bos> first */
    int64_t gather_start;   /* rows 0 and [gather_start, list.n) are the embeddings */
    int64_t n_valid;        /* how many rows that is: 1..max_tokens */
    bool truncated;         /* the text did not fit its slots */
};

/* The instruction's text, "" for CHI_NONE. */
const char *prompt_chi_text(enum chi_wording chi);

/* text[0, len) as the reference prepares it, appended to ret: suffix, lower case, strip.
 * Errors: ERR_INVALID (not UTF-8 or a NUL: names the byte; over PROMPT_MAX_CHARACTERS code points),
 * ERR_NO_MEMORY. They do not name the field: the caller puts its name in front. Any thread. */
MUST_CHECK int prompt_prepare(const char *text, size_t len, const struct prompt_options *options,
                              struct str *ret, struct err *err);

/* Errors: those of prompt_prepare and tokenizer_encode. Any thread. On success ret needs
 * prompt_tokens_done. */
MUST_CHECK int prompt_tokenize(const struct tokenizer *tokenizer, const char *text, size_t len,
                               const struct prompt_options *options, struct prompt_tokens *ret,
                               struct err *err);

/* A prompt for a model without a tokenizer (model_synthetic.h): as many tokens as an instruction and a prompt
 * that fills max_tokens. Ids are below vocab_size. Errors: ERR_NO_MEMORY. */
MUST_CHECK int prompt_synthetic(int64_t max_tokens, int64_t vocab_size, struct prompt_tokens *ret,
                                struct err *err);

/* Accepts a zeroed struct. */
void prompt_tokens_done(struct prompt_tokens *tokens);

/* out [n_valid, hidden_size] f32. Activations are taken from ws and given back. Runs dry. Errors:
 * ERR_INVALID (an id outside the encoder's vocabulary, shape of out). Engine thread. */
MUST_CHECK int prompt_encode(struct text_encoder *encoder, const struct prompt_tokens *tokens,
                             struct workspace *ws, const struct tensor *out, struct err *err);

#endif
