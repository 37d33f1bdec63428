#include "worker/wire.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

enum {
    STREAM_MAX = 64 << 20
};

/* ---- the header ---- */

TEST(wire_header_is_these_bytes)
{
    static const uint8_t want[WIRE_HEADER] = {'S', 'N', 'A', 'D', 38, 0, 0, 0,
                                              1,   2,   3,   0,   4,  5, 6, 7};
    const struct wire_header header = {
        .type = WIRE_FRAGMENT, .length = 0x00030201, .job = 0x07060504};
    struct wire_header back = {0};
    uint8_t head[WIRE_HEADER];
    struct err err;

    wire_encode_header(head, &header);
    EXPECT(memcmp(head, want, WIRE_HEADER) == 0);
    EXPECT_OK(wire_decode_header(&back, head, &err));
    EXPECT_INT(back.type, WIRE_FRAGMENT);
    EXPECT_INT(back.length, 0x00030201);
    EXPECT_INT(back.job, 0x07060504);
}

TEST(wire_header_refuses_what_is_not_one)
{
    static const struct {
        int at;
        uint8_t byte;
        const char *says;
    } wrong[] = {
        {0, 'T', "begins with"},
        {3, 0, "begins with"},
        {4, 0, "unknown type 0"},
        {4, 8, "unknown type 8"},
        {4, 31, "unknown type 31"},
        {4, 48, "unknown type 48"},
        {5, 1, "unknown type 262"},
        {6, 1, "PING: flags 0001"},
        {7, 128, "flags 8000"},
        {11, 1, "limit is 1048576"},
        {10, 17, "PING: payload of 1114112 bytes"},
    };
    const struct wire_header ping = {.type = WIRE_PING};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct wire_header back;
        uint8_t head[WIRE_HEADER];
        struct err err;

        wire_encode_header(head, &ping);
        head[wrong[i].at] = wrong[i].byte;
        EXPECT_INT(wire_decode_header(&back, head, &err), ERR_FORMAT);
        EXPECT_CONTAINS(err.msg, wrong[i].says);
    }
}

TEST(wire_type_names_are_those_of_the_enum)
{
    EXPECT_STR(wire_type_name(WIRE_PREPARE), "PREPARE");
    EXPECT_STR(wire_type_name(WIRE_SHUTDOWN), "SHUTDOWN");
    EXPECT_STR(wire_type_name(WIRE_READY), "READY");
    EXPECT_STR(wire_type_name(WIRE_PONG), "PONG");
    EXPECT_STR(wire_type_name(0), "?");
    EXPECT_STR(wire_type_name(8), "?");
    EXPECT_STR(wire_type_name(WIRE_PONG + 1), "?");
    EXPECT_STR(wire_type_name(UINT32_MAX), "?");
}

/* ---- receiving ---- */

static void add_frame(struct str *to, uint32_t type, uint32_t job, const void *payload, size_t len)
{
    const struct wire_header header = {.type = type, .length = (uint32_t)len, .job = job};
    uint8_t head[WIRE_HEADER];

    wire_encode_header(head, &header);
    EXPECT(str_append(to, head, WIRE_HEADER) && str_append(to, payload, len));
}

/* Three frames: none, some, and as many bytes as allowed. */
static void three_frames(struct str *stream)
{
    char *big = test_alloc(WIRE_MAX_PAYLOAD);

    for (int i = 0; i < WIRE_MAX_PAYLOAD; i++) {
        big[i] = (char)(i * 7);
    }
    str_init(stream, STREAM_MAX);
    add_frame(stream, WIRE_PING, 0, NULL, 0);
    add_frame(stream, WIRE_START, 3, "{\"seed\":1}", 10);
    add_frame(stream, WIRE_FRAGMENT, 4, big, WIRE_MAX_PAYLOAD);
    free(big);
}

static void check_frame(const struct wire_frame *f, int index)
{
    static const struct wire_header want[] = {
        {WIRE_PING, 0, 0}, {WIRE_START, 10, 3}, {WIRE_FRAGMENT, WIRE_MAX_PAYLOAD, 4}};

    EXPECT(index < 3);
    EXPECT_INT(f->header.type, want[index].type);
    EXPECT_INT(f->header.length, want[index].length);
    EXPECT_INT(f->header.job, want[index].job);
    EXPECT_INT(f->payload[f->header.length], 0);
    if (index == 1) {
        EXPECT_STR((const char *)f->payload, "{\"seed\":1}");
    }
    for (uint32_t i = 0; index == 2 && i < f->header.length; i++) {
        if (f->payload[i] != (uint8_t)(i * 7)) {
            test_fail(__FILE__, __LINE__, "byte %u differs", i);
        }
    }
}

TEST(wire_decode_gives_the_same_frames_from_any_pieces)
{
    static const size_t piece[] = {1, 2, 15, 16, 17, 27, 4096, STREAM_MAX};
    struct str stream;

    three_frames(&stream);
    for (size_t p = 0; p < ARRAY_LEN(piece); p++) {
        struct wire_decoder d;
        size_t at = 0;
        int n = 0;

        wire_decoder_init(&d);
        while (at < stream.len) {
            const size_t len = stream.len - at < piece[p] ? stream.len - at : piece[p];
            struct wire_frame frame;
            bool complete = false;
            size_t used = 0;
            struct err err;

            EXPECT_OK(wire_decode(&d, (const uint8_t *)stream.data + at, len, &used, &frame,
                                  &complete, &err));
            EXPECT(used > 0 && used <= len && (complete || used == len));
            at += used;
            if (complete) {
                check_frame(&frame, n);
                n++;
            }
        }
        EXPECT_INT(n, 3);
        wire_decoder_done(&d);
    }
    str_done(&stream);
}

TEST(wire_decode_without_bytes_gives_nothing)
{
    struct wire_decoder d;
    struct wire_frame frame;
    bool complete = true;
    size_t used = 1;
    struct err err;

    wire_decoder_init(&d);
    EXPECT_OK(wire_decode(&d, NULL, 0, &used, &frame, &complete, &err));
    EXPECT_INT(used, 0);
    EXPECT(!complete);
    wire_decoder_done(&d);
}

TEST(wire_decode_believes_nothing_after_an_error)
{
    struct wire_decoder d;
    struct wire_frame frame;
    struct str stream;
    bool complete;
    size_t used;
    struct err err;

    str_init(&stream, STREAM_MAX);
    add_frame(&stream, WIRE_PING, 0, NULL, 0);
    wire_decoder_init(&d);
    EXPECT_INT(wire_decode(&d, (const uint8_t *)"an HTTP request, say", 20, &used, &frame,
                           &complete, &err),
               ERR_FORMAT);
    EXPECT_INT(
        wire_decode(&d, (const uint8_t *)stream.data, stream.len, &used, &frame, &complete, &err),
        ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "after a malformed one");
    wire_decoder_done(&d);
    str_done(&stream);
}

/* A length that lies reserves nothing: only what came is kept. */
TEST(wire_decode_reserves_only_what_came)
{
    const struct wire_header header = {.type = WIRE_STATE, .length = WIRE_MAX_PAYLOAD};
    struct wire_decoder d;
    struct wire_frame frame;
    uint8_t head[WIRE_HEADER];
    bool complete;
    size_t used;
    struct err err;

    wire_encode_header(head, &header);
    wire_decoder_init(&d);
    EXPECT_OK(wire_decode(&d, head, sizeof(head), &used, &frame, &complete, &err));
    EXPECT(!complete);
    EXPECT(d.buffer.capacity < 1024);
    wire_decoder_done(&d);
}

TEST(wire_decode_survives_every_failed_allocation)
{
    struct str stream;
    bool fired = true;

    three_frames(&stream);
    for (long n = 1; fired; n++) {
        struct wire_decoder d;
        struct err err;
        size_t at = 0;
        int rc = ERR_OK;

        wire_decoder_init(&d);
        alloc_fail_at(n);
        while (rc == ERR_OK && at < stream.len) {
            struct wire_frame frame;
            bool complete;
            size_t used = 0;

            rc = wire_decode(&d, (const uint8_t *)stream.data + at, stream.len - at, &used, &frame,
                             &complete, &err);
            at += used;
        }
        fired = alloc_fail_stop();
        EXPECT_INT(rc, fired ? ERR_NO_MEMORY : ERR_OK);
        wire_decoder_done(&d);
    }
    str_done(&stream);
}

/* ---- sending ---- */

struct reader {
    int fd;
    struct str stream;
};

static void *read_all(void *ctx)
{
    struct reader *r = ctx;
    char buffer[10000];
    ssize_t n;

    while ((n = read(r->fd, buffer, sizeof(buffer))) > 0) {
        EXPECT(str_append(&r->stream, buffer, (size_t)n));
    }
    return NULL;
}

/* The next frame of what was read; ends the test where there is none. */
static void next_frame(struct wire_decoder *d, const struct str *stream, size_t *at,
                       struct wire_frame *ret)
{
    bool complete = false;
    size_t used = 0;
    struct err err;

    EXPECT_OK(wire_decode(d, (const uint8_t *)stream->data + *at, stream->len - *at, &used, ret,
                          &complete, &err));
    EXPECT(complete);
    *at += used;
}

struct pair {
    int fd[2];
    struct wire_sender *sender; /* to fd[0] */
    struct reader reader;       /* of fd[1] */
    pthread_t thread;
};

static void pair_open(struct pair *p)
{
    struct err err;

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->fd) == 0);
    p->reader.fd = p->fd[1];
    str_init(&p->reader.stream, STREAM_MAX);
    EXPECT(pthread_create(&p->thread, NULL, read_all, &p->reader) == 0);
    EXPECT_OK(wire_sender_create(&p->sender, p->fd[0], &err));
}

/* All that was sent has been read when this returns. */
static void pair_finish(struct pair *p)
{
    close(p->fd[0]);
    pthread_join(p->thread, NULL);
    close(p->fd[1]);
    wire_sender_free(p->sender);
}

TEST(wire_send_splits_what_is_long)
{
    static const size_t lengths[] = {0, 1, WIRE_MAX_PAYLOAD, WIRE_MAX_PAYLOAD + 1,
                                     3 * (size_t)WIRE_MAX_PAYLOAD};
    static const int frames[] = {1, 1, 1, 2, 3};
    char *data = test_alloc(3 * (size_t)WIRE_MAX_PAYLOAD);
    struct wire_decoder d;
    struct pair p;
    struct err err;
    size_t at = 0;

    for (size_t i = 0; i < 3 * (size_t)WIRE_MAX_PAYLOAD; i++) {
        data[i] = (char)(i / 1000);
    }
    pair_open(&p);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        EXPECT_OK(wire_send(p.sender, WIRE_LATENTS, (uint32_t)i, data, lengths[i], &err));
    }
    pair_finish(&p);
    wire_decoder_init(&d);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        size_t done = 0;

        for (int f = 0; f < frames[i]; f++) {
            struct wire_frame frame;

            next_frame(&d, &p.reader.stream, &at, &frame);
            EXPECT_INT(frame.header.type, WIRE_LATENTS);
            EXPECT_INT(frame.header.job, i);
            EXPECT(memcmp(frame.payload, data + done, frame.header.length) == 0);
            done += frame.header.length;
        }
        EXPECT_INT(done, lengths[i]);
    }
    EXPECT_INT(at, p.reader.stream.len);
    wire_decoder_done(&d);
    str_done(&p.reader.stream);
    free(data);
}

struct talker {
    struct wire_sender *sender;
    uint32_t job;
    int rc;
};

enum {
    MESSAGES = 20,
    MESSAGE_BYTES = WIRE_MAX_PAYLOAD + 100
};

static void *talk(void *ctx)
{
    struct talker *t = ctx;
    char *data = test_alloc(MESSAGE_BYTES);
    struct err err;

    memset(data, (int)t->job, MESSAGE_BYTES);
    for (int i = 0; i < MESSAGES && t->rc == ERR_OK; i++) {
        t->rc = wire_send(t->sender, WIRE_FRAGMENT, t->job, data, MESSAGE_BYTES, &err);
    }
    free(data);
    return NULL;
}

TEST(wire_send_keeps_the_frames_of_a_message_together)
{
    struct talker talker[2];
    pthread_t thread[2];
    struct wire_decoder d;
    struct pair p;
    size_t at = 0;

    pair_open(&p);
    for (int i = 0; i < 2; i++) {
        talker[i] = (struct talker){.sender = p.sender, .job = (uint32_t)i + 1};
        EXPECT(pthread_create(&thread[i], NULL, talk, &talker[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        EXPECT_INT(talker[i].rc, ERR_OK);
    }
    pair_finish(&p);
    wire_decoder_init(&d);
    for (int i = 0; i < 2 * MESSAGES; i++) {
        struct wire_frame frame;
        uint32_t job;

        next_frame(&d, &p.reader.stream, &at, &frame);
        EXPECT_INT(frame.header.length, WIRE_MAX_PAYLOAD);
        job = frame.header.job;
        next_frame(&d, &p.reader.stream, &at, &frame);
        EXPECT_INT(frame.header.length, MESSAGE_BYTES - WIRE_MAX_PAYLOAD);
        EXPECT_INT(frame.header.job, job);
        EXPECT_INT(frame.payload[0], job);
    }
    EXPECT_INT(at, p.reader.stream.len);
    wire_decoder_done(&d);
    str_done(&p.reader.stream);
}

/* No signal ends the process (the test would not come back). */
TEST(wire_send_says_that_the_other_end_is_gone)
{
    struct wire_sender *s = NULL;
    struct err err;
    int fd[2];

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
    EXPECT_OK(wire_sender_create(&s, fd[0], &err));
    close(fd[1]);
    EXPECT_INT(wire_send(s, WIRE_PONG, 0, NULL, 0, &err), ERR_IO);
    EXPECT_CONTAINS(err.msg, "send PONG to the daemon");
    EXPECT_INT(wire_send(s, WIRE_PONG, 0, NULL, 0, &err), ERR_IO);
    EXPECT_CONTAINS(err.msg, "cut off");
    wire_sender_free(s);
    close(fd[0]);
}

TEST(wire_sender_names_failed_memory)
{
    struct wire_sender *s = NULL;
    struct err err;

    alloc_fail_at(1);
    EXPECT_INT(wire_sender_create(&s, -1, &err), ERR_NO_MEMORY);
    EXPECT(alloc_fail_stop());
    wire_sender_free(s);
}
