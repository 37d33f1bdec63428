/*
 * tokenizer.h - UTF-8 text to Gemma's token ids.
 *
 * tokenizer.model is a SentencePiece BPE model; libsentencepiece does the pieces. Special tokens
 * that are written in the text ("<bos>") become those tokens, as with Hugging Face's tokenizer,
 * unless asked otherwise; user-defined pieces (runs of newlines, <start_of_turn>, ...) are the
 * library's business. MODEL 2.1.
 *
 * The file is hostile until checked, see spm_model.h. Encoding: any thread.
 */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tokenizer;

#define TOKENIZER_FILE_MAX ((size_t)64 << 20)
#define TOKENIZER_TEXT_MAX ((size_t)1 << 20)

/* Zeroed is empty; the ids are owned. */
struct token_list {
    int32_t *ids;
    int64_t n;
    int64_t capacity;
};

void token_list_done(struct token_list *list);

/* Errors: ERR_NOT_FOUND, ERR_IO, ERR_FORMAT (not a SentencePiece model, damaged, over 64 MiB),
 * ERR_UNSUPPORTED (another kind of model), ERR_NO_MEMORY. All name the file. */
MUST_CHECK int tokenizer_open(struct tokenizer **ret, const char *path, struct err *err);

/* The same from bytes, which are not needed afterwards; name is for messages. */
MUST_CHECK int tokenizer_open_memory(struct tokenizer **ret, const void *data, size_t size,
                                     const char *name, struct err *err);

/* Accepts NULL. */
void tokenizer_close(struct tokenizer *t);

/* Ids are in [0, vocab_size). */
int64_t tokenizer_vocab_size(const struct tokenizer *t);

struct tokenizer_options {
    bool no_bos;     /* leave out the <bos> in front */
    bool no_special; /* <bos>, <eos>, <pad> and <unk> in the text are ordinary characters */
};

/* Appends the ids of text[0, len) to ret; NULs are characters like others. options may be NULL:
 * all off, as Hugging Face encodes. On an error ret keeps what it had.
 * Errors: ERR_INVALID (not UTF-8: names the byte; over 1 MiB), ERR_FORMAT (the model contradicts
 * itself), ERR_NO_MEMORY. */
MUST_CHECK int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                                const struct tokenizer_options *options, struct token_list *ret,
                                struct err *err);

#endif
