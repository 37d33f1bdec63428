#include "engine/spm_model.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>

enum {
    PIECES_MAX = 1 << 20,
    PIECE_BYTES_MAX = 512,
    /* The library builds a trie of the user-defined pieces, at some 10 bytes a byte. */
    USER_DEFINED_BYTES_MAX = 1 << 20,
    /* The library collects the user-defined pieces that match at a position in an array of 64. */
    PREFIX_CHAIN_MAX = 64,
};

/* Protobuf wire types. The groups (3, 4) were given up long before this format began. */
enum wire {
    WIRE_VARINT = 0,
    WIRE_64 = 1,
    WIRE_BYTES = 2,
    WIRE_32 = 5
};

enum piece_type {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_BYTE = 6,
};

/* Field numbers of sentencepiece_model.proto. */
enum {
    MODEL_PIECE = 1,
    MODEL_TRAINER = 2,
    MODEL_NORMALIZER = 3
};
enum {
    PIECE_TEXT = 1,
    PIECE_SCORE = 2,
    PIECE_TYPE = 3
};
enum {
    TRAINER_TYPE = 3,
    TRAINER_SUFFIX = 24,
    TRAINER_BYTE_FALLBACK = 35,
    TRAINER_TYPE_BPE = 2
};
enum {
    NORM_CHARSMAP = 2,
    NORM_DUMMY_PREFIX = 3,
    NORM_REMOVE_SPACES = 4,
    NORM_ESCAPE = 5
};

struct bytes {
    const uint8_t *p;
    size_t n;
};

struct field {
    uint32_t number;
    enum wire wire;
    uint64_t value; /* WIRE_VARINT, WIRE_64, WIRE_32 */
    struct bytes bytes;
};

struct reading {
    struct spm_model *model;
    const char *name;
    struct err *err;
    bool has_trainer, has_normalizer;
    int n_unknown;
    bool has_byte[256];
    struct bytes *user_defined; /* owned */
    size_t n_user_defined, user_defined_capacity, user_defined_bytes;
};

const char *spm_special_text(enum spm_special special)
{
    static const char *const text[] = {"<pad>", "<eos>", "<bos>", "<unk>"};

    return text[special];
}

static bool read_varint(struct bytes *in, uint64_t *ret)
{
    uint64_t value = 0;

    for (int shift = 0; shift < 64 && in->n > 0; shift += 7) {
        const uint8_t byte = *in->p;

        in->p++;
        in->n--;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct bytes *in, size_t n, uint64_t *ret)
{
    uint64_t value = 0;

    if (in->n < n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        value |= (uint64_t)in->p[i] << (8 * i);
    }
    in->p += n;
    in->n -= n;
    *ret = value;
    return true;
}

/* False when the bytes are no protobuf field. */
static bool read_field(struct bytes *in, struct field *ret)
{
    uint64_t tag;
    uint64_t n;

    if (!read_varint(in, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) {
        return false;
    }
    *ret = (struct field){.number = (uint32_t)(tag >> 3), .wire = (enum wire)(tag & 7)};
    switch (ret->wire) {
    case WIRE_VARINT:
        return read_varint(in, &ret->value);
    case WIRE_64:
        return read_fixed(in, 8, &ret->value);
    case WIRE_32:
        return read_fixed(in, 4, &ret->value);
    case WIRE_BYTES:
        if (!read_varint(in, &n) || n > in->n) {
            return false;
        }
        ret->bytes = (struct bytes){in->p, (size_t)n};
        in->p += n;
        in->n -= (size_t)n;
        return true;
    }
    return false;
}

static bool write_varint(struct str *out, uint64_t value)
{
    uint8_t byte[10];
    size_t n = 0;

    while (value >= 128) {
        byte[n++] = (uint8_t)(value | 128);
        value >>= 7;
    }
    byte[n++] = (uint8_t)value;
    return str_append(out, byte, n);
}

static bool write_tag(struct str *out, uint32_t number, enum wire wire)
{
    return write_varint(out, (uint64_t)number << 3 | (uint64_t)wire);
}

static bool write_number(struct str *out, uint32_t number, uint64_t value)
{
    return write_tag(out, number, WIRE_VARINT) && write_varint(out, value);
}

static int damaged(const struct reading *r, const char *what)
{
    return err_set(r->err, ERR_FORMAT, "%s: not a SentencePiece model: %s is damaged", r->name,
                   what);
}

static int bad_piece(const struct reading *r, const char *what)
{
    return err_set(r->err, ERR_FORMAT, "%s: piece %lld %s", r->name, (long long)r->model->n_pieces,
                   what);
}

static int unsupported(const struct reading *r, const char *what)
{
    return err_set(r->err, ERR_UNSUPPORTED, "%s: %s; expected Gemma's SentencePiece model", r->name,
                   what);
}

static int write_piece(const struct reading *r, struct bytes text, uint32_t score,
                       enum piece_type type)
{
    const uint8_t score_bytes[4] = {(uint8_t)score, (uint8_t)(score >> 8), (uint8_t)(score >> 16),
                                    (uint8_t)(score >> 24)};
    /* Three tags and the type take 1 byte each, the length of the text 1 or 2. */
    const size_t n = 4 + (text.n < 128 ? 1 : 2) + text.n + sizeof(score_bytes);
    struct str *out = &r->model->proto;

    if (!write_tag(out, MODEL_PIECE, WIRE_BYTES) || !write_varint(out, n) ||
        !write_tag(out, PIECE_TEXT, WIRE_BYTES) || !write_varint(out, text.n) ||
        !str_append(out, text.p, text.n) || !write_tag(out, PIECE_SCORE, WIRE_32) ||
        !str_append(out, score_bytes, sizeof(score_bytes)) ||
        !write_number(out, PIECE_TYPE, (uint64_t)type)) {
        return err_set(r->err, ERR_NO_MEMORY, "%s: %zu bytes of pieces", r->name, out->len);
    }
    return ERR_OK;
}

static int keep_user_defined(struct reading *r, struct bytes text)
{
    r->user_defined_bytes += text.n;
    if (r->user_defined_bytes > USER_DEFINED_BYTES_MAX) {
        return bad_piece(r, "is one too many: user-defined pieces are limited to 1 MiB of text");
    }
    if (r->n_user_defined == r->user_defined_capacity) {
        const size_t capacity = r->user_defined_capacity ? 2 * r->user_defined_capacity : 256;
        struct bytes *grown = realloc(r->user_defined, capacity * sizeof(*grown));

        if (!grown) {
            return err_set(r->err, ERR_NO_MEMORY, "%s: %zu user-defined pieces", r->name, capacity);
        }
        r->user_defined = grown;
        r->user_defined_capacity = capacity;
    }
    r->user_defined[r->n_user_defined++] = text;
    return ERR_OK;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x00>" to "<0xFF>" */
static int keep_byte(struct reading *r, struct bytes text)
{
    int high;
    int low;

    if (text.n != 6 || memcmp(text.p, "<0x", 3) != 0 || text.p[5] != '>') {
        return bad_piece(r, "is a byte that is not written <0xNN>");
    }
    high = hex_digit(text.p[3]);
    low = hex_digit(text.p[4]);
    if (high < 0 || low < 0) {
        return bad_piece(r, "is a byte that is not written <0xNN>");
    }
    r->has_byte[16 * high + low] = true;
    return ERR_OK;
}

/* Notes what kind of piece it is. */
static int sort_piece(struct reading *r, struct bytes text, uint64_t type)
{
    switch (type) {
    case PIECE_NORMAL:
        return ERR_OK;
    case PIECE_USER_DEFINED:
        return keep_user_defined(r, text);
    case PIECE_BYTE:
        return keep_byte(r, text);
    case PIECE_UNKNOWN:
        r->n_unknown++;
        break;
    case PIECE_CONTROL:
        break;
    default:
        return bad_piece(r, "has a type that is not supported");
    }
    for (int i = 0; i < SPM_SPECIALS; i++) {
        const char *special = spm_special_text((enum spm_special)i);

        if (text.n == strlen(special) && memcmp(text.p, special, text.n) == 0) {
            r->model->special[i] = (int32_t)r->model->n_pieces;
        }
    }
    return ERR_OK;
}

static int read_piece(struct reading *r, struct bytes in)
{
    struct bytes text = {0};
    uint32_t score = 0;
    uint64_t type = PIECE_NORMAL;
    float score_value;
    struct field f;
    int rc;

    while (in.n > 0) {
        if (!read_field(&in, &f)) {
            return bad_piece(r, "is damaged");
        }
        if (f.number == PIECE_TEXT && f.wire == WIRE_BYTES) {
            text = f.bytes;
        } else if (f.number == PIECE_SCORE && f.wire == WIRE_32) {
            score = (uint32_t)f.value;
        } else if (f.number == PIECE_TYPE && f.wire == WIRE_VARINT) {
            type = f.value;
        } else if (f.number <= PIECE_TYPE) {
            return bad_piece(r, "has a field of another type");
        }
    }
    memcpy(&score_value, &score, sizeof(score_value));
    if (text.n < 1 || text.n > PIECE_BYTES_MAX) {
        return bad_piece(r, "is empty or longer than 512 bytes");
    }
    if (u8_check(text.p, text.n) || memchr(text.p, 0, text.n)) {
        return bad_piece(r, "is not UTF-8, or has a NUL");
    }
    if (!isfinite(score_value)) {
        return bad_piece(r, "has a score that is not a number");
    }
    if (r->model->n_pieces >= PIECES_MAX) {
        return bad_piece(r, "is one too many: the limit is 1048576");
    }
    rc = sort_piece(r, text, type);
    if (rc == ERR_OK) {
        rc = write_piece(r, text, score, (enum piece_type)type);
    }
    r->model->n_pieces++;
    return rc;
}

static int read_trainer(struct reading *r, struct bytes in)
{
    uint64_t type = 1; /* unigram: the format's default */
    uint64_t byte_fallback = 0;
    uint64_t suffix = 0;
    struct field f;

    if (r->has_trainer) {
        return damaged(r, "trainer_spec");
    }
    r->has_trainer = true;
    while (in.n > 0) {
        if (!read_field(&in, &f)) {
            return damaged(r, "trainer_spec");
        }
        if (f.number == TRAINER_TYPE) {
            type = f.value;
        } else if (f.number == TRAINER_BYTE_FALLBACK) {
            byte_fallback = f.value;
        } else if (f.number == TRAINER_SUFFIX) {
            suffix = f.value;
        }
    }
    if (type != TRAINER_TYPE_BPE) {
        return unsupported(r, "model_type is not BPE");
    }
    if (!byte_fallback) {
        return unsupported(r, "byte_fallback is off");
    }
    if (suffix) {
        return unsupported(r, "treat_whitespace_as_suffix is on");
    }
    return ERR_OK;
}

static int read_normalizer(struct reading *r, struct bytes in)
{
    size_t charsmap = 0;
    uint64_t dummy_prefix = 1; /* the format's defaults */
    uint64_t remove_spaces = 1;
    uint64_t escape = 1;
    struct field f;

    if (r->has_normalizer) {
        return damaged(r, "normalizer_spec");
    }
    r->has_normalizer = true;
    while (in.n > 0) {
        if (!read_field(&in, &f)) {
            return damaged(r, "normalizer_spec");
        }
        if (f.number == NORM_CHARSMAP) {
            charsmap = f.bytes.n;
        } else if (f.number == NORM_DUMMY_PREFIX) {
            dummy_prefix = f.value;
        } else if (f.number == NORM_REMOVE_SPACES) {
            remove_spaces = f.value;
        } else if (f.number == NORM_ESCAPE) {
            escape = f.value;
        }
    }
    if (charsmap > 0) {
        return unsupported(r, "the normaliser has a precompiled_charsmap");
    }
    if (dummy_prefix) {
        return unsupported(r, "the normaliser has add_dummy_prefix on");
    }
    if (remove_spaces) {
        return unsupported(r, "the normaliser has remove_extra_whitespaces on");
    }
    if (!escape) {
        return unsupported(r, "the normaliser has escape_whitespaces off");
    }
    return ERR_OK;
}

static int read_all(struct reading *r, struct bytes in)
{
    struct field f;

    while (in.n > 0) {
        int rc = ERR_OK;

        if (!read_field(&in, &f)) {
            return damaged(r, "the file");
        }
        if (f.number <= MODEL_NORMALIZER && f.wire != WIRE_BYTES) {
            return damaged(r, "the file");
        }
        if (f.number == MODEL_PIECE) {
            rc = read_piece(r, f.bytes);
        } else if (f.number == MODEL_TRAINER) {
            rc = read_trainer(r, f.bytes);
        } else if (f.number == MODEL_NORMALIZER) {
            rc = read_normalizer(r, f.bytes);
        }
        if (rc != ERR_OK) {
            return rc;
        }
    }
    return ERR_OK;
}

static int compare_bytes(const void *a, const void *b)
{
    const struct bytes *x = a;
    const struct bytes *y = b;
    const int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

    if (order != 0) {
        return order;
    }
    return x->n < y->n ? -1 : x->n > y->n;
}

static bool is_prefix(struct bytes a, struct bytes b)
{
    return a.n <= b.n && memcmp(a.p, b.p, a.n) == 0;
}

/* In sorted order a piece follows its prefixes, so the open ones form a stack. */
static int check_prefixes(const struct reading *r)
{
    struct bytes open[PREFIX_CHAIN_MAX];
    size_t n = 0;

    if (r->n_user_defined > 0) {
        qsort(r->user_defined, r->n_user_defined, sizeof(*r->user_defined), compare_bytes);
    }
    for (size_t i = 0; i < r->n_user_defined; i++) {
        while (n > 0 && !is_prefix(open[n - 1], r->user_defined[i])) {
            n--;
        }
        if (n == PREFIX_CHAIN_MAX) {
            return unsupported(r, "more than 64 user-defined pieces begin one another");
        }
        open[n++] = r->user_defined[i];
    }
    return ERR_OK;
}

static int check_whole(const struct reading *r)
{
    if (!r->has_trainer || !r->has_normalizer) {
        return unsupported(r, "trainer_spec or normalizer_spec is missing");
    }
    if (r->n_unknown != 1) {
        return unsupported(r, "there is not one unknown piece");
    }
    if (memchr(r->has_byte, false, sizeof(r->has_byte))) {
        return unsupported(r, "there are not 256 byte pieces");
    }
    for (int i = 0; i < SPM_SPECIALS; i++) {
        if (r->model->special[i] < 0) {
            return err_set(r->err, ERR_UNSUPPORTED, "%s: there is no piece %s", r->name,
                           spm_special_text((enum spm_special)i));
        }
    }
    return check_prefixes(r);
}

/* trainer_spec and normalizer_spec as they were just checked. */
static int write_specs(const struct reading *r)
{
    struct str *out = &r->model->proto;
    const uint64_t trainer_bytes = 5; /* the second tag takes 2 */
    const uint64_t normalizer_bytes = 6;

    if (!write_tag(out, MODEL_TRAINER, WIRE_BYTES) || !write_varint(out, trainer_bytes) ||
        !write_number(out, TRAINER_TYPE, TRAINER_TYPE_BPE) ||
        !write_number(out, TRAINER_BYTE_FALLBACK, 1) ||
        !write_tag(out, MODEL_NORMALIZER, WIRE_BYTES) || !write_varint(out, normalizer_bytes) ||
        !write_number(out, NORM_DUMMY_PREFIX, 0) || !write_number(out, NORM_REMOVE_SPACES, 0) ||
        !write_number(out, NORM_ESCAPE, 1)) {
        return err_set(r->err, ERR_NO_MEMORY, "%s: %zu bytes of pieces", r->name, out->len);
    }
    return ERR_OK;
}

int spm_model_read(struct spm_model *ret, const void *data, size_t size, const char *name,
                   struct err *err)
{
    struct spm_model model = {.special = {-1, -1, -1, -1}};
    struct reading r = {.model = &model, .name = name, .err = err};
    int rc;

    /* A piece of 1 byte takes at least 5 bytes in the file and 12 here. */
    str_init(&model.proto, size > SIZE_MAX / 4 ? SIZE_MAX / 2 : 4 * size + 64);
    rc = read_all(&r, (struct bytes){data, size});
    if (rc == ERR_OK) {
        rc = check_whole(&r);
    }
    if (rc == ERR_OK) {
        rc = write_specs(&r);
    }
    free(r.user_defined);
    if (rc != ERR_OK) {
        spm_model_done(&model);
        return rc;
    }
    *ret = model;
    return ERR_OK;
}

void spm_model_done(struct spm_model *model)
{
    str_done(&model->proto);
}
