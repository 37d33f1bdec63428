#include "worker/wire.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

static const char *const type_names[] = {
    [WIRE_PREPARE] = "PREPARE",   [WIRE_START] = "START",       [WIRE_FINISH] = "FINISH",
    [WIRE_CANCEL] = "CANCEL",     [WIRE_PAUSE] = "PAUSE",       [WIRE_PING] = "PING",
    [WIRE_SHUTDOWN] = "SHUTDOWN", [WIRE_READY] = "READY",       [WIRE_INIT] = "INIT",
    [WIRE_PREPARED] = "PREPARED", [WIRE_STARTED] = "STARTED",   [WIRE_STEP] = "STEP",
    [WIRE_PREVIEW] = "PREVIEW",   [WIRE_FRAGMENT] = "FRAGMENT", [WIRE_LATENTS] = "LATENTS",
    [WIRE_BLOCK] = "BLOCK",       [WIRE_STATE] = "STATE",       [WIRE_CHECKPOINT] = "CHECKPOINT",
    [WIRE_PAUSED] = "PAUSED",     [WIRE_RENDERED] = "RENDERED", [WIRE_FINISHED] = "FINISHED",
    [WIRE_FAIL] = "FAIL",         [WIRE_PONG] = "PONG",
};

/* NULL: there is no such type. */
static const char *find_name(uint32_t type)
{
    return type < ARRAY_LEN(type_names) ? type_names[type] : NULL;
}

const char *wire_type_name(uint32_t type)
{
    const char *name = find_name(type);

    return name ? name : "?";
}

/* ---- the header ---- */

static void put16(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *to, uint32_t value)
{
    put16(to, value);
    put16(to + 2, value >> 16);
}

static uint32_t get16(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8;
}

static uint32_t get32(const uint8_t *from)
{
    return get16(from) | get16(from + 2) << 16;
}

void wire_encode_header(uint8_t ret[WIRE_HEADER], const struct wire_header *header)
{
    put32(ret, WIRE_MAGIC);
    put16(ret + 4, header->type);
    put16(ret + 6, 0);
    put32(ret + 8, header->length);
    put32(ret + 12, header->job);
}

int wire_decode_header(struct wire_header *ret, const uint8_t data[WIRE_HEADER], struct err *err)
{
    const uint32_t flags = get16(data + 6);
    const struct wire_header header = {
        .type = get16(data + 4), .length = get32(data + 8), .job = get32(data + 12)};

    if (get32(data) != WIRE_MAGIC) {
        return err_set(err, ERR_FORMAT, "message: begins with %08x, not with %08x", get32(data),
                       (unsigned)WIRE_MAGIC);
    }
    if (!find_name(header.type)) {
        return err_set(err, ERR_FORMAT, "message: unknown type %u", header.type);
    }
    if (flags != 0) {
        return err_set(err, ERR_FORMAT, "%s: flags %04x are set, none is known",
                       wire_type_name(header.type), flags);
    }
    if (header.length > WIRE_MAX_PAYLOAD) {
        return err_set(err, ERR_FORMAT, "%s: payload of %u bytes, the limit is %d",
                       wire_type_name(header.type), header.length, WIRE_MAX_PAYLOAD);
    }
    *ret = header;
    return ERR_OK;
}

/* ---- receiving ---- */

/* need: WIRE_HEADER, then that and the payload; 0 after an error. */
void wire_decoder_init(struct wire_decoder *d)
{
    *d = (struct wire_decoder){.need = WIRE_HEADER};
    str_init(&d->buffer, WIRE_HEADER + WIRE_MAX_PAYLOAD);
}

void wire_decoder_done(struct wire_decoder *d)
{
    str_done(&d->buffer);
}

/* Moves bytes to the buffer, at most what it still needs. */
static int take(struct wire_decoder *d, const uint8_t *data, size_t len, size_t *used,
                struct err *err)
{
    const size_t want = d->need - d->buffer.len;
    const size_t n = want < len - *used ? want : len - *used;

    if (!str_append(&d->buffer, data + *used, n)) {
        return err_set(err, ERR_NO_MEMORY, "message of %zu bytes", d->need);
    }
    *used += n;
    return ERR_OK;
}

static int decode(struct wire_decoder *d, const uint8_t *data, size_t len, size_t *used,
                  struct wire_header *header, struct err *err)
{
    int rc = ERR_OK;

    if (d->buffer.len < WIRE_HEADER) {
        rc = take(d, data, len, used, err);
    }
    if (rc != ERR_OK || d->buffer.len < WIRE_HEADER) {
        return rc;
    }
    rc = wire_decode_header(header, (const uint8_t *)d->buffer.data, err);
    if (rc != ERR_OK) {
        return rc;
    }
    d->need = WIRE_HEADER + (size_t)header->length;
    return take(d, data, len, used, err);
}

int wire_decode(struct wire_decoder *d, const uint8_t *data, size_t len, size_t *ret_used,
                struct wire_frame *ret, bool *ret_complete, struct err *err)
{
    struct wire_header header = {0};
    size_t used = 0;
    int rc;

    if (d->need == 0) {
        return err_set(err, ERR_FORMAT, "message: comes after a malformed one");
    }
    if (d->buffer.len == d->need) { /* given out by the call before */
        d->buffer.len = 0;
        d->need = WIRE_HEADER;
    }
    rc = decode(d, data, len, &used, &header, err);
    if (rc != ERR_OK) {
        d->need = 0;
        return rc;
    }
    *ret_used = used;
    *ret_complete = d->buffer.len >= WIRE_HEADER && d->buffer.len == d->need;
    if (*ret_complete) {
        *ret = (struct wire_frame){.header = header,
                                   .payload = (const uint8_t *)d->buffer.data + WIRE_HEADER};
    }
    return ERR_OK;
}

/* ---- sending ---- */

struct wire_sender {
    int fd;                /* borrowed */
    pthread_mutex_t mutex; /* held while a message is written */
    bool broken;           /* a frame was cut off: nothing may follow it */
};

int wire_sender_create(struct wire_sender **ret, int fd, struct err *err)
{
    struct wire_sender *s = calloc(1, sizeof(*s));

    if (!s) {
        return err_set(err, ERR_NO_MEMORY, "sender of messages");
    }
    s->fd = fd;
    pthread_mutex_init(&s->mutex, NULL);
    *ret = s;
    return ERR_OK;
}

void wire_sender_free(struct wire_sender *s)
{
    if (!s) {
        return;
    }
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

/* Header and payload with one call where the socket takes them. */
static int send_frame(int fd, const struct wire_header *header, const uint8_t *payload,
                      struct err *err)
{
    uint8_t head[WIRE_HEADER];
    const size_t total = WIRE_HEADER + (size_t)header->length;
    size_t done = 0;

    wire_encode_header(head, header);
    while (done < total) {
        const size_t head_done = done < WIRE_HEADER ? done : WIRE_HEADER;
        const size_t payload_done = done - head_done;
        struct iovec part[2] = {
            {head + head_done, WIRE_HEADER - head_done},
            {(void *)(payload ? payload + payload_done : NULL), header->length - payload_done}};
        const struct msghdr message = {.msg_iov = part, .msg_iovlen = 2};
        const ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);

        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            return err_set(err, ERR_IO, "send %s to the daemon: %m", wire_type_name(header->type));
        }
    }
    return ERR_OK;
}

static int send_locked(struct wire_sender *s, enum wire_type type, uint32_t job,
                       const uint8_t *payload, size_t len, struct err *err)
{
    size_t done = 0;
    int rc = ERR_OK;

    if (s->broken) {
        return err_set(err, ERR_IO, "send %s to the daemon: an earlier message was cut off",
                       wire_type_name(type));
    }
    do {
        const size_t n = len - done < WIRE_MAX_PAYLOAD ? len - done : WIRE_MAX_PAYLOAD;
        const struct wire_header header = {.type = type, .length = (uint32_t)n, .job = job};

        rc = send_frame(s->fd, &header, payload ? payload + done : NULL, err);
        done += n;
    } while (rc == ERR_OK && done < len);
    s->broken = rc != ERR_OK;
    return rc;
}

int wire_send(struct wire_sender *s, enum wire_type type, uint32_t job, const void *payload,
              size_t len, struct err *err)
{
    int rc;

    pthread_mutex_lock(&s->mutex);
    rc = send_locked(s, type, job, payload, len, err);
    pthread_mutex_unlock(&s->mutex);
    return rc;
}
