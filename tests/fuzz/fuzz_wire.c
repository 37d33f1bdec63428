/*
 * fuzz_wire.c - bytes from the other end of the socket. In whatever pieces they come (the first byte
 * chooses), the same frames come out, and each is the bytes that went in.
 */
#include <string.h>

#include "worker/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    int rc, frames;
    size_t framed; /* bytes that became whole frames */
};

static bool same_bytes(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

/* The frame is what stands at data[0, left). Returns its length. */
static size_t check_frame(const struct wire_frame *f, const uint8_t *data, size_t left)
{
    const size_t len = WIRE_HEADER + (size_t)f->header.length;
    uint8_t head[WIRE_HEADER];

    wire_encode_header(head, &f->header);
    CHECK_BUG(len <= left && same_bytes(head, data, WIRE_HEADER));
    CHECK_BUG(same_bytes(f->payload, data + WIRE_HEADER, f->header.length));
    CHECK_BUG(f->payload[f->header.length] == '\0');
    return len;
}

static struct result decode_all(const uint8_t *data, size_t size, size_t piece)
{
    struct result r = {0};
    struct wire_decoder d;
    size_t at = 0;

    wire_decoder_init(&d);
    while (at < size && r.rc == ERR_OK) {
        const size_t n = size - at < piece ? size - at : piece;
        struct wire_frame frame;
        struct err err;
        bool complete = false;
        size_t used = 0;

        r.rc = wire_decode(&d, data + at, n, &used, &frame, &complete, &err);
        at += used;
        if (complete) {
            r.framed += check_frame(&frame, data + r.framed, size - r.framed);
            r.frames++;
        }
        CHECK_BUG(r.rc != ERR_OK || r.framed == at || (!complete && used == n));
    }
    wire_decoder_done(&d);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct result whole;
    struct result pieces;

    if (size == 0) {
        return 0;
    }
    whole = decode_all(data + 1, size - 1, size);
    pieces = decode_all(data + 1, size - 1, 1 + (size_t)data[0]);
    CHECK_BUG(whole.rc == pieces.rc && whole.frames == pieces.frames &&
              whole.framed == pieces.framed);
    return 0;
}
