/*
 * Checkers of the text side: tokenizer, Gemma 2, and prompts from text to embeddings.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/json_read.h"
#include "engine/prompt.h"
#include "tests/golden_runner/support.h"

enum {
    PATH_LEN = 1024,
    JSON_MAX_BYTES = 16 << 20,
    JSON_MAX_VALUES = 1 << 20
};

static bool has_output(const struct golden_case *c, const char *name)
{
    return safetensors_find(c->data, name) != NULL;
}

/* ---- text encoder ---- */

struct encode_batch {
    struct text_encoder *encoder;
    const int64_t *ids;  /* [rows, width] */
    const int64_t *mask; /* [rows, width] */
    int64_t rows, width, hidden;
    float *last;   /* [rows, width, hidden] with zeros where mask is 0 */
    float *layer1; /* likewise, after layer 1 */
};

static int encode_row(struct golden_bench *b, const struct encode_batch *batch, int64_t row,
                      struct err *err)
{
    const size_t mark = workspace_mark(&b->ws);
    const int64_t *mask = batch->mask + row * batch->width;
    const int64_t offset = row * batch->width * batch->hidden;
    int32_t ids[4096];
    struct text_encoder_tap tap = {.layer = 1};
    struct tensor out;
    int64_t n = 0;
    int rc;

    while (n < batch->width && n < (int64_t)ARRAY_LEN(ids) && mask[n] == 1) {
        ids[n] = (int32_t)batch->ids[row * batch->width + n];
        n++;
    }
    rc = WORKSPACE_F32(&b->ws, &out, err, n, batch->hidden);
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &tap.to, err, n, batch->hidden);
    }
    if (rc == ERR_OK) {
        rc = text_encoder_forward(batch->encoder, ids, n, &b->ws, &out, &tap, err);
    }
    if (rc == ERR_OK) {
        rc = device_download(b->c->dev, batch->last + offset, &out, err);
    }
    if (rc == ERR_OK) {
        rc = device_download(b->c->dev, batch->layer1 + offset, &tap.to, err);
    }
    workspace_rewind(&b->ws, mark);
    return rc;
}

static int encode_batch(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct encode_batch *batch = ctx;
    int rc = ERR_OK;

    for (int64_t row = 0; row < batch->rows && rc == ERR_OK; row++) {
        rc = encode_row(b, batch, row, err);
    }
    return rc;
}

/* One variant of the encoder over the case's batch; layer1_name may be NULL. */
static int check_encoder(struct golden_bench *b, struct encode_batch *batch, bool softcap,
                         const char *last_name, const char *layer1_name, struct err *err)
{
    struct gemma2_config config = b->c->model->text_encoder;
    const int64_t n = batch->rows * batch->width * config.hidden_size;
    int rc;

    config.attn_logit_softcapping = softcap ? config.attn_logit_softcapping : 0;
    batch->hidden = config.hidden_size;
    batch->last = golden_floats(b, n);
    batch->layer1 = golden_floats(b, n);
    rc = text_encoder_open(&batch->encoder, &config, b->c->model->text_encoder_weights, b->c->dev,
                           err);
    if (rc != ERR_OK) {
        return rc;
    }
    text_encoder_round_rope_frequencies(batch->encoder, b->c->rope_bf16);
    rc = golden_run(b, encode_batch, batch, err);
    text_encoder_close(batch->encoder);
    if (rc == ERR_OK) {
        rc = golden_compare(b->c, last_name, batch->last, n, err);
    }
    if (rc == ERR_OK && layer1_name) {
        rc = golden_compare(b->c, layer1_name, batch->layer1, n, err);
    }
    return rc;
}

static int check_encoders(struct golden_bench *b, struct err *err)
{
    static const char no_softcap[] = "out.last_hidden_state_no_softcap";
    struct encode_batch batch = {0};
    struct tensor ids;
    struct tensor mask;
    int rc = golden_tensor(b->c, "in.input_ids", &ids, err);

    if (rc == ERR_OK) {
        rc = golden_tensor(b->c, "in.attention_mask", &mask, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    batch.ids = ids.data;
    batch.mask = mask.data;
    batch.rows = ids.dim[0];
    batch.width = ids.dim[1];
    rc = check_encoder(b, &batch, true, "out.last_hidden_state", "out.hidden_after_layer1", err);
    if (rc == ERR_OK && has_output(b->c, no_softcap)) {
        rc = check_encoder(b, &batch, false, no_softcap, NULL, err);
    }
    return rc;
}

int golden_text_encoder(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK) {
        rc = check_encoders(&b, err);
    }
    golden_bench_close(&b);
    return rc;
}

/* ---- tokenizer ---- */

/* One \uXXXX of a JSON string; the caller has checked the form. */
static unsigned hex4(const char *p)
{
    char text[5] = {p[0], p[1], p[2], p[3], '\0'};

    return (unsigned)strtoul(text, NULL, 16);
}

static bool add_utf8(struct str *out, unsigned c)
{
    uint8_t u[4];
    size_t n = 0;

    if (c < 0x80) {
        u[n++] = (uint8_t)c;
    } else if (c < 0x800) {
        u[n++] = (uint8_t)(0xc0 | c >> 6);
        u[n++] = (uint8_t)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        u[n++] = (uint8_t)(0xe0 | c >> 12);
        u[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
        u[n++] = (uint8_t)(0x80 | (c & 63));
    } else {
        u[n++] = (uint8_t)(0xf0 | c >> 18);
        u[n++] = (uint8_t)(0x80 | (c >> 12 & 63));
        u[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
        u[n++] = (uint8_t)(0x80 | (c & 63));
    }
    return str_append(out, u, n);
}

/* cJSON ends strings at \u0000, and the cases have one: the texts are read from the raw file, in
 * order. *at stands behind `"text":`; afterwards behind the string. */
static bool read_text(const char **at, struct str *out)
{
    static const char escapes[] = "\"\\/bfnrt";
    static const char meaning[] = "\"\\/\b\f\n\r\t";
    const char *p = strchr(*at, '"');
    bool ok = true;

    if (!p) {
        return false;
    }
    for (p++; ok && *p != '"' && *p != '\0'; p++) {
        const char *escape = p[0] == '\\' && p[1] != '\0' ? strchr(escapes, p[1]) : NULL;
        unsigned c;

        if (*p != '\\') {
            ok = str_append(out, p, 1);
        } else if (escape) {
            ok = str_append(out, &meaning[escape - escapes], 1);
            p++;
        } else if (p[1] == 'u') {
            c = hex4(p + 2);
            p += 5;
            if (c >= 0xd800 && c < 0xdc00 && p[1] == '\\') {
                c = 0x10000 + ((c - 0xd800) << 10) + (hex4(p + 3) - 0xdc00);
                p += 6;
            }
            ok = add_utf8(out, c);
        }
    }
    *at = p;
    return ok && *p == '"';
}

static int check_ids(const struct tokenizer *t, const struct str *text, const cJSON *item,
                     const char *key, const struct tokenizer_options *options, struct err *err)
{
    const cJSON *want = cJSON_GetObjectItemCaseSensitive(item, key);
    struct token_list got = {0};
    int rc = tokenizer_encode(t, str_get(text), text->len, options, &got, err);

    if (rc == ERR_OK && (!cJSON_IsArray(want) || cJSON_GetArraySize(want) != got.n)) {
        rc = golden_mismatch(err, "'%.100s': %lld %s, expected %d", str_get(text), (long long)got.n,
                             key, cJSON_GetArraySize(want));
    }
    for (int64_t i = 0; i < got.n && rc == ERR_OK; i++) {
        const int expected = cJSON_GetArrayItem(want, (int)i)->valueint;

        if (got.ids[i] != expected) {
            rc = golden_mismatch(err, "'%.100s': %s[%lld] is %d, expected %d", str_get(text), key,
                                 (long long)i, got.ids[i], expected);
        }
    }
    token_list_done(&got);
    return rc;
}

static int check_string(const struct tokenizer *t, const char **at, const cJSON *item,
                        struct err *err)
{
    static const struct tokenizer_options raw = {.no_bos = true, .no_special = true};
    static const struct tokenizer_options bos = {.no_special = true};
    static const char key[] = "\"text\":";
    const char *found = strstr(*at, key);
    struct str text;
    int rc = ERR_OK;

    str_init(&text, JSON_MAX_BYTES);
    if (found) {
        *at = found + strlen(key);
    }
    if (!found || !read_text(at, &text)) {
        rc = golden_mismatch(err, "the case file has fewer texts than items");
    }
    if (rc == ERR_OK) {
        rc = check_ids(t, &text, item, "ids", &raw, err);
    }
    if (rc == ERR_OK) {
        rc = check_ids(t, &text, item, "ids_bos", &bos, err);
    }
    if (rc == ERR_OK) {
        rc = check_ids(t, &text, item, "ids_hf_bos", NULL, err);
    }
    str_done(&text);
    return rc;
}

static int check_strings(const struct golden_case *c, const struct tokenizer *t, const char *json,
                         size_t len, struct err *err)
{
    cJSON *root;
    const cJSON *items;
    const cJSON *item;
    const char *at = json;
    int rc = json_parse_object(&root, json, len, JSON_MAX_VALUES, c->file, err);

    if (rc != ERR_OK) {
        return rc;
    }
    items = cJSON_GetObjectItemCaseSensitive(root, "items");
    if (cJSON_GetArraySize(items) < 1) {
        rc = golden_mismatch(err, "%s: no items", c->file);
    }
    cJSON_ArrayForEach(item, items)
    {
        if (rc == ERR_OK) {
            rc = check_string(t, &at, item, err);
        }
    }
    cJSON_Delete(root);
    return rc;
}

int golden_tokenizer(struct golden_case *c, struct err *err)
{
    struct tokenizer *t = NULL;
    char path[PATH_LEN];
    char *json = NULL;
    size_t len = 0;
    int rc = tokenizer_open(&t, c->model->tokenizer_path, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (tokenizer_vocab_size(t) != c->model->text_encoder.vocab_size) {
        rc = golden_mismatch(err, "%lld pieces for a vocabulary of %lld",
                             (long long)tokenizer_vocab_size(t),
                             (long long)c->model->text_encoder.vocab_size);
    }
    snprintf(path, sizeof(path), "%s/%s", c->dir, c->file);
    if (rc == ERR_OK) {
        rc = json_read_file(&json, &len, path, JSON_MAX_BYTES, err);
    }
    if (rc == ERR_OK) {
        rc = check_strings(c, t, json, len, err);
    }
    free(json);
    tokenizer_close(t);
    return rc;
}

/* ---- prompts ---- */

struct prompt_check {
    struct tokenizer *tokenizer;
    struct text_encoder *encoder;
    struct prompt_options options;
    const struct prompt_tokens *tokens;
    float *embeds; /* [max_tokens, hidden], zeros behind the valid ones */
};

static int encode_prompt(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct prompt_check *check = ctx;
    struct tensor out;
    int rc = WORKSPACE_F32(&b->ws, &out, err, check->tokens->n_valid,
                           b->c->model->text_encoder.hidden_size);

    if (rc == ERR_OK) {
        rc = prompt_encode(check->encoder, check->tokens, &b->ws, &out, err);
    }
    return rc != ERR_OK ? rc : device_download(b->c->dev, check->embeds, &out, err);
}

/* The ids padded with <pad> (0), and where the gathering starts. */
static int compare_ids(struct golden_bench *b, const struct prompt_tokens *tokens, struct err *err)
{
    const int64_t n = (int64_t)golden_number(b->c, "max_length_all", 0);
    const int64_t n_chi = (int64_t)golden_number(b->c, "n_chi_tokens_with_bos", 0);
    float *ids = golden_floats(b, n > tokens->list.n ? n : tokens->list.n);

    if (tokens->gather_start != n_chi - 1) {
        return golden_mismatch(err, "the instruction has %lld tokens, expected %lld",
                               (long long)tokens->gather_start + 1, (long long)n_chi);
    }
    for (int64_t i = 0; i < tokens->list.n; i++) {
        ids[i] = (float)tokens->list.ids[i];
    }
    return golden_compare(b->c, "out.ids_padded", ids, n > tokens->list.n ? n : tokens->list.n,
                          err);
}

static int check_tokens(struct golden_bench *b, struct prompt_check *check, const char *embeds_name,
                        const char *mask_name, struct err *err)
{
    const int64_t slots = check->options.max_tokens;
    const int64_t hidden = b->c->model->text_encoder.hidden_size;
    float *mask = golden_floats(b, slots);
    int rc;

    check->embeds = golden_floats(b, slots * hidden);
    if (check->tokens->n_valid > slots) {
        return golden_mismatch(err, "%lld embeddings for %lld slots",
                               (long long)check->tokens->n_valid, (long long)slots);
    }
    for (int64_t i = 0; i < check->tokens->n_valid; i++) {
        mask[i] = 1;
    }
    rc = golden_run(b, encode_prompt, check, err);
    if (rc == ERR_OK) {
        rc = golden_compare(b->c, embeds_name, check->embeds, slots * hidden, err);
    }
    return rc != ERR_OK ? rc : golden_compare(b->c, mask_name, mask, slots, err);
}

static int check_text(struct golden_bench *b, struct prompt_check *check, const char *text,
                      size_t len, bool negative, struct err *err)
{
    struct prompt_tokens tokens = {.truncated = false};
    int rc = prompt_tokenize(check->tokenizer, text, len, &check->options, &tokens, err);

    check->tokens = &tokens;
    if (rc == ERR_OK && !negative && has_output(b->c, "out.ids_padded")) {
        rc = compare_ids(b, &tokens, err);
    }
    if (rc == ERR_OK) {
        rc = negative ? check_tokens(b, check, "out.negative_embeds", "out.negative_mask", err)
                      : check_tokens(b, check, "out.prompt_embeds", "out.prompt_mask", err);
    }
    check->tokens = NULL;
    prompt_tokens_done(&tokens);
    return rc;
}

static int check_prompts(struct golden_bench *b, struct prompt_check *check, struct err *err)
{
    const char *negative = golden_string(b->c, "negative_prompt", "");
    struct tensor utf8;
    struct tensor stored_len;
    int64_t len;
    int rc = golden_tensor(b->c, "in.prompt_utf8", &utf8, err);

    if (rc != ERR_OK) {
        return rc;
    }
    len = utf8.dim[0];
    if (has_output(b->c, "in.prompt_len")) { /* an empty text is stored as one byte */
        rc = golden_tensor(b->c, "in.prompt_len", &stored_len, err);
        len = rc == ERR_OK ? *(const int64_t *)stored_len.data : 0;
    }
    check->options.lower_case = true;
    check->options.max_tokens = (int64_t)golden_number(b->c, "max_sequence_length", 300);
    check->options.chi =
        golden_bool(b->c, "complex_human_instruction", true) ? CHI_VIDEO : CHI_NONE;
    if (rc == ERR_OK) {
        rc = check_text(b, check, utf8.data, (size_t)len, false, err);
    }
    if (rc == ERR_OK && has_output(b->c, "out.negative_embeds")) {
        check->options.chi = CHI_NONE;
        rc = check_text(b, check, negative, strlen(negative), true, err);
    }
    return rc;
}

int golden_prompt(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct prompt_check check = {.tokenizer = NULL};
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK) {
        rc = tokenizer_open(&check.tokenizer, c->model->tokenizer_path, err);
    }
    if (rc == ERR_OK) {
        rc = text_encoder_open(&check.encoder, &c->model->text_encoder,
                               c->model->text_encoder_weights, c->dev, err);
    }
    if (rc == ERR_OK) {
        text_encoder_round_rope_frequencies(check.encoder, c->rope_bf16);
        rc = check_prompts(&b, &check, err);
    }
    text_encoder_close(check.encoder);
    tokenizer_close(check.tokenizer);
    golden_bench_close(&b);
    return rc;
}
