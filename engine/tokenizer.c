#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <unistr.h>

#include "engine/json_read.h"
#include "engine/spm_model.h"
#include "engine/tokenizer_spm.h"

struct tokenizer {
    struct spm *spm; /* owned */
    int64_t n_pieces;
    int32_t special[SPM_SPECIALS];
};

void token_list_done(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){0};
}

static bool emit_id(void *ctx, int32_t id)
{
    struct token_list *list = ctx;

    if (list->n == list->capacity) {
        const int64_t capacity = list->capacity ? 2 * list->capacity : 64;
        int32_t *ids = realloc(list->ids, (size_t)capacity * sizeof(*ids));

        if (!ids) {
            return false;
        }
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->n++] = id;
    return true;
}

int tokenizer_open(struct tokenizer **ret, const char *path, struct err *err)
{
    char *data;
    size_t size;
    int rc = json_read_file(&data, &size, path, TOKENIZER_FILE_MAX, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = tokenizer_open_memory(ret, data, size, path, err);
    free(data);
    return rc;
}

int tokenizer_open_memory(struct tokenizer **ret, const void *data, size_t size, const char *name,
                          struct err *err)
{
    struct tokenizer *t = NULL;
    struct spm_model model;
    int rc;

    if (size > TOKENIZER_FILE_MAX) {
        return err_set(err, ERR_FORMAT, "%s: %zu bytes, the limit is %zu", name, size,
                       TOKENIZER_FILE_MAX);
    }
    rc = spm_model_read(&model, data, size, name, err);
    if (rc != ERR_OK) {
        return rc;
    }
    t = calloc(1, sizeof(*t));
    if (!t) {
        rc = err_set(err, ERR_NO_MEMORY, "%s", name);
        goto out;
    }
    t->n_pieces = model.n_pieces;
    memcpy(t->special, model.special, sizeof(t->special));
    rc = spm_open(&t->spm, model.proto.data, model.proto.len, err);
    if (rc != ERR_OK) {
        err_prefix(err, "%s", name);
        goto out;
    }
    *ret = t;
    t = NULL;
out:
    spm_model_done(&model);
    tokenizer_close(t);
    return rc;
}

void tokenizer_close(struct tokenizer *t)
{
    if (t) {
        spm_close(t->spm);
        free(t);
    }
}

int64_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->n_pieces;
}

/* The special token that text begins with, or SPM_SPECIALS. */
static enum spm_special special_at(const char *text, size_t len)
{
    for (int i = 0; i < SPM_SPECIALS; i++) {
        const char *special = spm_special_text((enum spm_special)i);
        const size_t n = strlen(special);

        if (len >= n && memcmp(text, special, n) == 0) {
            return (enum spm_special)i;
        }
    }
    return SPM_SPECIALS;
}

/* Where the next special token is, or len. */
static size_t next_special(const char *text, size_t len, enum spm_special *ret)
{
    size_t at = 0;

    *ret = SPM_SPECIALS;
    while (at < len) {
        const char *bracket = memchr(text + at, '<', len - at);

        if (!bracket) {
            return len;
        }
        at = (size_t)(bracket - text);
        *ret = special_at(bracket, len - at);
        if (*ret != SPM_SPECIALS) {
            return at;
        }
        at++;
    }
    return len;
}

static int encode_split(const struct tokenizer *t, const char *text, size_t len,
                        struct token_list *ret, struct err *err)
{
    while (len > 0) {
        enum spm_special special;
        const size_t n = next_special(text, len, &special);
        const int rc = n > 0 ? spm_encode(t->spm, text, n, emit_id, ret, err) : ERR_OK;
        size_t skip = n;

        if (rc != ERR_OK) {
            return rc;
        }
        if (special != SPM_SPECIALS) {
            skip += strlen(spm_special_text(special));
            if (!emit_id(ret, t->special[special])) {
                return err_set(err, ERR_NO_MEMORY, "tokenizer: %lld ids", (long long)ret->n);
            }
        }
        text += skip;
        len -= skip;
    }
    return ERR_OK;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                     const struct tokenizer_options *options, struct token_list *ret,
                     struct err *err)
{
    static const struct tokenizer_options all_off;
    const int64_t n_before = ret->n;
    const uint8_t *bad;
    int rc = ERR_OK;

    options = options ? options : &all_off;
    if (len > TOKENIZER_TEXT_MAX) {
        return err_set(err, ERR_INVALID, "text: %zu bytes, the limit is %zu", len,
                       TOKENIZER_TEXT_MAX);
    }
    bad = u8_check((const uint8_t *)text, len);
    if (bad) {
        return err_set(err, ERR_INVALID, "text: not UTF-8 at byte %zu",
                       (size_t)(bad - (const uint8_t *)text));
    }
    if (!options->no_bos && !emit_id(ret, t->special[SPM_BOS])) {
        rc = err_set(err, ERR_NO_MEMORY, "tokenizer: %lld ids", (long long)ret->n);
    }
    if (rc == ERR_OK) {
        rc = options->no_special ? spm_encode(t->spm, text, len, emit_id, ret, err)
                                 : encode_split(t, text, len, ret, err);
    }
    if (rc != ERR_OK) {
        ret->n = n_before;
    }
    return rc;
}
