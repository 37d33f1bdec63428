#include "jobs/video_id.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum {
    TIME_BYTES = 6,
    RANDOM_BYTES = 10,
};

static int get_random(void *to, size_t len, struct err *err)
{
    ssize_t n;

    do {
        n = getrandom(to, len, 0); /* so few bytes come whole */
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)len ? ERR_OK : err_set(err, ERR_IO, "getrandom: %m");
}

/* Adds step + 1 to the random part; false when it overflows. */
static bool count_up(uint8_t random[RANDOM_BYTES], uint32_t step)
{
    uint64_t carry = (uint64_t)step + 1;

    for (int i = RANDOM_BYTES - 1; i >= 0 && carry > 0; i--) {
        carry += random[i];
        random[i] = (uint8_t)carry;
        carry >>= 8;
    }
    return carry == 0;
}

/* 128 bits as 26 digits of 5, the first of which has two bits that are always 0. */
static void encode(char *to, const uint8_t bytes[TIME_BYTES + RANDOM_BYTES])
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    unsigned bits = 0;
    int n_bits = 2;

    for (int i = 0; i < TIME_BYTES + RANDOM_BYTES; i++) {
        bits = (bits << 8 | bytes[i]) & 0xfff;
        n_bits += 8;
        while (n_bits >= 5) {
            n_bits -= 5;
            *to++ = digits[bits >> n_bits & 31];
        }
    }
    *to = '\0';
}

int video_id_next(struct video_id_generator *g, int64_t now_ms, char ret[VIDEO_ID_LENGTH + 1],
                  struct err *err)
{
    struct video_id_generator next = *g;
    uint8_t bytes[TIME_BYTES + RANDOM_BYTES];
    uint32_t step = 0;
    bool fresh = now_ms > g->last_ms;
    int rc = get_random(&step, sizeof(step), err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (fresh) {
        next.last_ms = now_ms;
    } else if (!count_up(next.random, step)) { /* by a random step: the next one is not guessable */
        next.last_ms++;
        fresh = true;
    }
    if (fresh) {
        rc = get_random(next.random, sizeof(next.random), err);
        if (rc != ERR_OK) {
            return rc;
        }
    }
    for (int i = 0; i < TIME_BYTES; i++) {
        bytes[i] = (uint8_t)(next.last_ms >> (8 * (TIME_BYTES - 1 - i)));
    }
    memcpy(bytes + TIME_BYTES, next.random, RANDOM_BYTES);
    memcpy(ret, "video_", sizeof("video_"));
    encode(ret + 6, bytes);
    *g = next;
    return ERR_OK;
}

bool video_id_acceptable(const char *id)
{
    const size_t n = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

    return n >= 1 && n <= VIDEO_ID_MAX && id[n] == '\0';
}
