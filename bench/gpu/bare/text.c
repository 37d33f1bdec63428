/*
 * Text on a bare machine: no tokenizer, and so no prompts. Models with synthetic weights have none either.
 */
#include <stdlib.h>

#include "bench/gpu/bare/unistr.h"
#include "engine/tokenizer.h"

static const char why[] = "this build has no tokenizer";

int tokenizer_open(struct tokenizer **ret, const char *path, struct err *err)
{
    (void)ret;
    return err_set(err, ERR_UNSUPPORTED, "%s: %s", path, why);
}

int tokenizer_open_memory(struct tokenizer **ret, const void *data, size_t size, const char *name,
                          struct err *err)
{
    (void)ret;
    (void)data;
    (void)size;
    return err_set(err, ERR_UNSUPPORTED, "%s: %s", name, why);
}

void tokenizer_close(struct tokenizer *t)
{
    CHECK_BUG(!t);
}

int64_t tokenizer_vocab_size(const struct tokenizer *t)
{
    (void)t;
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                     const struct tokenizer_options *options, struct token_list *ret,
                     struct err *err)
{
    (void)t;
    (void)text;
    (void)len;
    (void)options;
    (void)ret;
    return err_set(err, ERR_UNSUPPORTED, "%s", why);
}

void token_list_done(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){0};
}

const uint8_t *u8_check(const uint8_t *s, size_t n)
{
    (void)n;
    return s; /* not text */
}

const uint8_t *u8_next(ucs4_t *c, const uint8_t *s)
{
    (void)s;
    *c = 0;
    return NULL;
}

const uint8_t *u8_prev(ucs4_t *c, const uint8_t *s, const uint8_t *start)
{
    (void)s;
    (void)start;
    *c = 0;
    return NULL;
}

size_t u8_mbsnlen(const uint8_t *s, size_t n)
{
    (void)s;
    return n;
}

uint8_t *u8_tolower(const uint8_t *s, size_t n, const char *language, void *form,
                    uint8_t *to, /* NOLINT(readability-non-const-parameter): libunistring's */
                    size_t *length)
{
    (void)s;
    (void)n;
    (void)language;
    (void)form;
    (void)to;
    *length = 0;
    return NULL;
}

bool uc_is_property_cased(ucs4_t c)
{
    (void)c;
    return false;
}

bool uc_is_property_case_ignorable(ucs4_t c)
{
    (void)c;
    return false;
}
