/*
 * The bytes of a tokenizer.model file: opened, and if they are accepted, used.
 */
#include <string.h>

#include "engine/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "A cat  walks, 2024 <bos><b>\n\n\n\xc3\xa9\xf0\x9f\xa4\x96 the end\t";
    struct tokenizer *tokenizer = NULL;
    struct token_list list = {0};
    struct err err;

    if (tokenizer_open_memory(&tokenizer, data, size, "fuzz", &err) != ERR_OK) {
        return 0;
    }
    /* A model may contradict itself, but ids are pieces. */
    if (tokenizer_encode(tokenizer, text, strlen(text), NULL, &list, &err) == ERR_OK) {
        for (int64_t i = 0; i < list.n; i++) {
            CHECK_BUG(list.ids[i] >= 0 && list.ids[i] < tokenizer_vocab_size(tokenizer));
        }
    }
    token_list_done(&list);
    tokenizer_close(tokenizer);
    return 0;
}
