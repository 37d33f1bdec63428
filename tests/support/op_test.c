#include "tests/support/op_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    GUARD = 64,
    FILL = 0xFF /* NaN, so that a read behind the end shows too */
};

/* In front of the first guard. */
struct head {
    size_t bytes;
    void *frozen; /* owned copy, or NULL */
    char pad[GUARD - sizeof(size_t) - sizeof(void *)];
};

static struct head *head_of(void *p)
{
    return (struct head *)(void *)((char *)p - GUARD - sizeof(struct head));
}

void *op_test_buffer(size_t bytes)
{
    struct head *h = test_alloc(sizeof(*h) + bytes + 2 * (size_t)GUARD);
    char *p = (char *)(h + 1) + GUARD;

    *h = (struct head){.bytes = bytes};
    memset(p - GUARD, FILL, GUARD);
    memset(p, FILL, bytes);
    memset(p + bytes, FILL, GUARD);
    return p;
}

float *op_test_floats(int64_t n, uint64_t seed)
{
    float *p = op_test_buffer((size_t)n * sizeof(*p));

    test_fill(p, n, seed);
    return p;
}

void op_test_freeze(void *p)
{
    struct head *h = head_of(p);

    EXPECT(!h->frozen);
    h->frozen = test_alloc(h->bytes);
    memcpy(h->frozen, p, h->bytes);
}

static bool is_guard(const char *p)
{
    for (int i = 0; i < GUARD; i++) {
        if ((unsigned char)p[i] != FILL) {
            return false;
        }
    }
    return true;
}

void op_test_free(void *p)
{
    struct head *h = head_of(p);

    EXPECT(is_guard((char *)p - GUARD));
    EXPECT(is_guard((char *)p + h->bytes));
    if (h->frozen) {
        EXPECT(memcmp(h->frozen, p, h->bytes) == 0);
    }
    free(h->frozen);
    free(h);
}

uint16_t *op_test_bf16(float *x, int64_t n)
{
    uint16_t *half = op_test_buffer((size_t)n * sizeof(*half));

    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &x[i], sizeof(bits));
        bits = (bits + 0x8000) & 0xffff0000; /* near enough: any bf16 will do */
        memcpy(&x[i], &bits, sizeof(bits));
        half[i] = (uint16_t)(bits >> 16);
    }
    return half;
}

void op_test_run(op_test_fn fn, void *ctx, void *out)
{
    const size_t bytes = head_of(out)->bytes;
    char *start = test_alloc(bytes);
    char *first = test_alloc(bytes);
    struct device dev;
    struct err err;

    memcpy(start, out, bytes);
    for (int threads = 1; threads <= 3; threads++) {
        EXPECT_OK(device_open_cpu(&dev, threads, &err));
        dev.dry_run = true;
        fn(&dev, ctx);
        EXPECT(memcmp(start, out, bytes) == 0);
        dev.dry_run = false;
        fn(&dev, ctx);
        if (threads == 1) {
            memcpy(first, out, bytes);
        }
        EXPECT(memcmp(first, out, bytes) == 0);
        if (threads < 3) {
            memcpy(out, start, bytes);
        }
        device_close(&dev);
    }
    free(start);
    free(first);
}
