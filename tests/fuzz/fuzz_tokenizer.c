/*
 * The bytes of a tokenizer.model file: opened, and if they are accepted, used.
 */
#include <string.h>

#include "engine/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A model may contradict itself, which is an error; ids that come out are pieces. */
static void encode(const struct tokenizer *tokenizer)
{
    static const char text[] =
        "A cat  walks, 2024 <bos><b>\n\n\n\xc3\xa9\xf0\x9f\xa4\x96 the end\t";
    struct token_list list = {0};
    struct err err;

    if (tokenizer_encode(tokenizer, text, strlen(text), NULL, &list, &err) != ERR_OK) {
        list.n = 0;
    }
    for (int64_t i = 0; i < list.n; i++) {
        CHECK_BUG(list.ids[i] >= 0 && list.ids[i] < tokenizer_vocab_size(tokenizer));
    }
    token_list_done(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *tokenizer = NULL;
    struct err err;

    if (tokenizer_open_memory(&tokenizer, data, size, "fuzz", &err) == ERR_OK) {
        encode(tokenizer);
        tokenizer_close(tokenizer);
    }
    return 0;
}
