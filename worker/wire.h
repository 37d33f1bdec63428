/*
 * wire.h - the messages between the daemon and a worker: framing, and putting pieces together.
 *
 * A frame is a 16-byte header (little endian) and a payload:
 *
 *   u32 magic   u16 type   u16 flags (0)   u32 length of the payload   u32 job (sequence number of
 *   the job on this worker, 0: of none)
 *
 * Payloads are JSON (one object, UTF-8) or bytes. A payload is at most WIRE_MAX_PAYLOAD; longer byte
 * strings (a fragment, latents) travel as several frames of the same type, which the receiver joins
 * until the message that uses them comes (BLOCK uses FRAGMENT and LATENTS, CHECKPOINT uses STATE, ...).
 *
 * The decoder takes bytes in any pieces and gives whole frames; a bad magic, unknown type, set flag or
 * too long a length is an error after which the peer is not believed any more. Both ends use this file.
 * Any thread, one at a time.
 */
#ifndef WORKER_WIRE_H
#define WORKER_WIRE_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    WIRE_MAGIC = 0x44414e53, /* "SNAD" */
    WIRE_HEADER = 16,
    WIRE_MAX_PAYLOAD = 1 << 20,
};

enum wire_type {
    /* Daemon to worker. */
    WIRE_PREPARE =
        1,         /* JSON job: resolve it, and give its init segment (any time, also while busy) */
    WIRE_START,    /* JSON job + resume point: make it */
    WIRE_FINISH,   /* JSON paths: from the fragments make the download file and the previews */
    WIRE_CANCEL,   /* the job with this sequence number; empty payload */
    WIRE_PAUSE,    /* likewise, at the next block boundary (bidirectional: at the next step) */
    WIRE_PING,     /* answered by PONG at once */
    WIRE_SHUTDOWN, /* finish nothing, exit 0 */

    /* Worker to daemon. */
    WIRE_READY = 32, /* JSON model facts; once */
    WIRE_INIT,       /* bytes of an init segment, before PREPARED */
    WIRE_PREPARED,   /* JSON: the job's settings */
    WIRE_STARTED,    /* JSON: at which block the work begins */
    WIRE_STEP,       /* JSON: phase, step, steps, block, fraction */
    WIRE_PREVIEW,    /* bytes of a JPEG of the first picture, before the first BLOCK */
    WIRE_FRAGMENT,   /* bytes, before BLOCK */
    WIRE_LATENTS,    /* bytes, before BLOCK */
    WIRE_BLOCK,      /* JSON: a block is made */
    WIRE_STATE,      /* bytes, before CHECKPOINT */
    WIRE_CHECKPOINT, /* JSON: a snapshot between steps */
    WIRE_PAUSED,     /* JSON: stopped as asked; continue from what was sent */
    WIRE_RENDERED,   /* JSON: all blocks were made; figures */
    WIRE_FINISHED,   /* JSON: the download file is there, durable; its size, digest, frames */
    WIRE_FAIL,       /* JSON: code, message; the job is over on this worker */
    WIRE_PONG,
};

/* "BLOCK"; "?" for others. */
const char *wire_type_name(uint32_t type);

struct wire_header {
    uint32_t type;
    uint32_t length;
    uint32_t job;
};

void wire_encode_header(uint8_t ret[WIRE_HEADER], const struct wire_header *header);

/* Errors: ERR_FORMAT. */
MUST_CHECK int wire_decode_header(struct wire_header *ret, const uint8_t data[WIRE_HEADER],
                                  struct err *err);

/* ---- receiving ---- */

struct wire_frame {
    struct wire_header header;
    const uint8_t *payload; /* [length], borrowed until the next call; followed by a NUL */
};

struct wire_decoder {
    struct str buffer; /* owned: an incomplete frame */
    size_t need;
};

void wire_decoder_init(struct wire_decoder *d);
void wire_decoder_done(struct wire_decoder *d);

/* Takes from data[0, len) what the frame in work needs; *ret_used says how much. true in *ret_complete:
 * *ret is a frame; call again with the rest. Errors: ERR_FORMAT, ERR_NO_MEMORY; then it is over. */
MUST_CHECK int wire_decode(struct wire_decoder *d, const uint8_t *data, size_t len,
                           size_t *ret_used, struct wire_frame *ret, bool *ret_complete,
                           struct err *err);

/* ---- sending, blocking (the worker's side) ---- */

struct wire_sender;

/* Borrows fd. Several threads may send; a message's frames stay together. */
MUST_CHECK int wire_sender_create(struct wire_sender **ret, int fd, struct err *err);
void wire_sender_free(struct wire_sender *s);

/* Splits what is over WIRE_MAX_PAYLOAD. Errors: ERR_IO (the daemon is gone). */
MUST_CHECK int wire_send(struct wire_sender *s, enum wire_type type, uint32_t job,
                         const void *payload, size_t len, struct err *err);

#endif
