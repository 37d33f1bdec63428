#include "media/deflate_size.h"

#include <stdbool.h>
#include <string.h>

enum {
    MAX_BITS = 15, /* of a code */
    N_LENGTH = 288,
    N_DISTANCE = 32,
    END_OF_BLOCK = 256,
};

/* A canonical Huffman code: how many codes of each length, and their symbols in order of the codes. */
struct code {
    uint16_t count[MAX_BITS + 1];
    uint16_t symbol[N_LENGTH];
};

struct stream {
    const uint8_t *data;
    size_t len;
    size_t at;
    uint32_t bits; /* read and not yet used, from the lowest */
    int n_bits;
    bool bad; /* damaged, or over */
    uint64_t size;
    uint64_t enough;
};

static uint32_t get_bits(struct stream *s, int n)
{
    uint32_t v;

    while (s->n_bits < n) {
        if (s->at == s->len) {
            s->bad = true;
            return 0;
        }
        s->bits |= (uint32_t)s->data[s->at++] << s->n_bits;
        s->n_bits += 8;
    }
    v = s->bits & ((1U << n) - 1);
    s->bits >>= n;
    s->n_bits -= n;
    return v;
}

/* Bit by bit: codes of one length are consecutive numbers, so being among the first `count` of them
 * decides. */
static int get_symbol(struct stream *s, const struct code *c)
{
    int code = 0;
    int first = 0; /* code of this length */
    int index = 0; /* its symbol */

    for (int len = 1; len <= MAX_BITS && !s->bad; len++) {
        code |= (int)get_bits(s, 1);
        if (code - first < c->count[len]) {
            return c->symbol[index + code - first];
        }
        index += c->count[len];
        first = (first + c->count[len]) << 1;
        code <<= 1;
    }
    s->bad = true;
    return END_OF_BLOCK;
}

/* False when more codes are asked for than there can be. */
static bool make_code(struct code *c, const uint8_t *lengths, int n)
{
    uint16_t next[MAX_BITS + 1] = {0};
    int left = 1;

    memset(c, 0, sizeof(*c));
    for (int i = 0; i < n; i++) {
        c->count[lengths[i]]++;
    }
    c->count[0] = 0;
    for (int len = 1; len <= MAX_BITS; len++) {
        left = left * 2 - c->count[len];
        if (left < 0) {
            return false;
        }
        next[len] = (uint16_t)(next[len - 1] + c->count[len - 1]);
    }
    for (int i = 0; i < n; i++) {
        if (lengths[i] > 0) {
            c->symbol[next[lengths[i]]++] = (uint16_t)i;
        }
    }
    return true;
}

static void fixed_codes(struct code *length, struct code *distance)
{
    uint8_t lengths[N_LENGTH];

    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 256 - 144);
    memset(lengths + 256, 7, 280 - 256);
    memset(lengths + 280, 8, N_LENGTH - 280);
    (void)make_code(length, lengths, N_LENGTH);
    memset(lengths, 5, N_DISTANCE);
    (void)make_code(distance, lengths, N_DISTANCE);
}

/* RFC 1951 3.2.7: the codes' own lengths, run-length and Huffman coded. */
static bool read_codes(struct stream *s, struct code *length, struct code *distance)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                      11, 4,  12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[N_LENGTH + N_DISTANCE] = {0};
    const int n_length = (int)get_bits(s, 5) + 257;
    const int n_distance = (int)get_bits(s, 5) + 1;
    const int n_order = (int)get_bits(s, 4) + 4;
    int n = 0;

    for (int i = 0; i < n_order; i++) {
        lengths[order[i]] = (uint8_t)get_bits(s, 3);
    }
    if (s->bad || n_length > N_LENGTH || !make_code(length, lengths, 19)) {
        return false;
    }
    while (n < n_length + n_distance && !s->bad) {
        const int symbol = get_symbol(s, length);
        uint8_t value = 0;
        int repeat = 1;

        if (symbol < 16) {
            value = (uint8_t)symbol;
        } else if (symbol == 16) {
            if (n == 0) {
                return false;
            }
            value = lengths[n - 1];
            repeat = 3 + (int)get_bits(s, 2);
        } else {
            repeat = symbol == 17 ? 3 + (int)get_bits(s, 3) : 11 + (int)get_bits(s, 7);
        }
        if (repeat > n_length + n_distance - n) {
            return false;
        }
        memset(lengths + n, value, (size_t)repeat);
        n += repeat;
    }
    return !s->bad && make_code(length, lengths, n_length) &&
           make_code(distance, lengths + n_length, n_distance);
}

/* Adds up what literals and copies give, until the block's end. */
static void coded_block(struct stream *s, const struct code *length, const struct code *distance)
{
    static const uint16_t base[29] = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                      15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                      67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                      2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};

    while (s->size < s->enough) {
        const int symbol = get_symbol(s, length);
        uint32_t copied;
        int far;

        if (s->bad || symbol == END_OF_BLOCK) {
            return;
        }
        if (symbol < END_OF_BLOCK) {
            s->size++;
            continue;
        }
        if (symbol - 257 >= 29) {
            s->bad = true;
            return;
        }
        copied = base[symbol - 257] + get_bits(s, extra[symbol - 257]);
        far = get_symbol(s, distance);
        if (far >= 30) {
            s->bad = true;
        } else if (far >= 4) {
            (void)get_bits(s, far / 2 - 1); /* how far exactly does not matter */
        }
        if (s->bad) {
            return;
        }
        s->size += copied;
    }
}

static void stored_block(struct stream *s)
{
    uint32_t n;
    uint32_t check;

    s->bits = 0;
    s->n_bits = 0;
    n = get_bits(s, 16);
    check = get_bits(s, 16);
    if (s->bad || (n ^ check) != 0xffff) {
        s->bad = true;
        return;
    }
    if (n > s->len - s->at) {
        n = (uint32_t)(s->len - s->at);
        s->bad = true;
    }
    s->at += n;
    s->size += n;
}

uint64_t deflate_size(const uint8_t *zlib, size_t len, uint64_t enough)
{
    struct stream s = {.data = zlib, .len = len, .at = 2, .enough = enough};
    struct code length[2]; /* fixed, and of the block */
    struct code distance[2];
    bool last = false;

    /* method 8, no preset dictionary, header checksum */
    if (len < 2 || (zlib[0] & 15) != 8 || (zlib[1] & 32) != 0 ||
        (zlib[0] * 256 + zlib[1]) % 31 != 0) {
        return 0;
    }
    fixed_codes(&length[0], &distance[0]);
    while (!last && !s.bad && s.size < enough) {
        last = get_bits(&s, 1) != 0;
        switch (get_bits(&s, 2)) {
        case 0:
            stored_block(&s);
            break;
        case 1:
            coded_block(&s, &length[0], &distance[0]);
            break;
        case 2:
            s.bad = !read_codes(&s, &length[1], &distance[1]);
            if (!s.bad) {
                coded_block(&s, &length[1], &distance[1]);
            }
            break;
        default:
            s.bad = true;
        }
    }
    return s.size < enough ? s.size : enough;
}
