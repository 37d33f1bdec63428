/*
 * Latents to pictures to the caller. On a GPU each batch of pictures is converted there, copied to the
 * host while the next one is decoded, and handed on one batch later; on the CPU at once.
 */
#include "engine/session_internal.h"

#include "kernels/elementwise.h"
#include "kernels/resize.h"
#include "kernels/yuv420.h"

enum {
    PICTURES_AT_ONCE = 8 /* of a clip that is decoded whole */
};

static int slots(const struct session *s)
{
    return s->dev->kind == DEVICE_CPU ? 1 : SESSION_SLOTS;
}

struct workspace *session_decoder_ws(struct session *s)
{
    return s->overlaps ? &s->decoder_ws : &s->ws;
}

/* Pictures of one decoder call, at most. */
static int64_t pictures_of_call(const struct session *s)
{
    const int64_t latents = vae_streams(s->model->vae) ? 1 : session_block(s, 0).count;
    const int64_t stride = s->model->dir->vae.stride_t;

    return latents == 1 ? stride : 1 + stride * (latents - 1);
}

int session_set_up_pictures(struct session *s, struct err *err)
{
    const struct geometry_size *size = &s->set.size;
    const int64_t n = pictures_of_call(s);
    const int64_t batch = n < PICTURES_AT_ONCE ? n : PICTURES_AT_ONCE;
    const bool resize = size->gen_width != size->width || size->gen_height != size->height;
    const int64_t yuv[2] = {batch, size->width * size->height / 2 * 3};
    struct workspace *ws = session_decoder_ws(s);
    int rc = WORKSPACE_F32(ws, &s->rgb, err, n, size->gen_height, size->gen_width, 3);

    s->resized = (struct tensor){0};
    if (rc == ERR_OK && resize) {
        rc = WORKSPACE_F32(ws, &s->resized, err, batch, size->height, size->width, 3);
    }
    for (int i = 0; i < slots(s) && rc == ERR_OK; i++) {
        rc = workspace_tensor(ws, &s->yuv[i], DTYPE_U8, 2, yuv, err);
        s->batch[i] = (struct session_batch){0};
        if (rc == ERR_OK && !s->host_yuv[i]) {
            void *host = NULL;

            rc = device_host_alloc(s->dev, tensor_bytes(&s->yuv[i]), &host, err);
            s->host_yuv[i] = host;
        }
    }
    s->slot = 0;
    return rc;
}

/* Waits for a batch and hands its pictures on. */
static int deliver(struct session *s, int slot, struct err *err)
{
    const struct session_batch b = s->batch[slot];
    const size_t bytes = (size_t)s->yuv[slot].dim[1];
    int rc;

    s->batch[slot] = (struct session_batch){0};
    if (b.count == 0) {
        return ERR_OK;
    }
    rc = device_wait(s->dev, DEVICE_MARK_FRAMES_A + slot, err);
    for (int64_t i = 0; i < b.count && b.first + i < s->set.frames && rc == ERR_OK; i++) {
        if (!s->dev->dry_run) {
            rc = s->callbacks.on_frame(s->callbacks.ctx, s->host_yuv[slot] + (size_t)i * bytes,
                                       b.first + i, err);
        }
    }
    if (rc == ERR_OK && b.steps > 0) {
        session_report(s, SESSION_DECODE, b.step, b.steps, b.work);
    }
    return rc;
}

int session_flush(struct session *s, struct err *err)
{
    int rc = ERR_OK;

    for (int i = 0; i < slots(s) && rc == ERR_OK; i++) { /* s->slot is the oldest */
        rc = deliver(s, (s->slot + i) % slots(s), err);
    }
    return rc;
}

/* rgb [n, ..] -> the slot's yuv, at the size that was asked for. */
static int convert(struct session *s, const struct tensor *rgb, int slot, int64_t first,
                   struct err *err)
{
    const struct tensor yuv = tensor_slice(&s->yuv[slot], 0, rgb->dim[0]);
    struct tensor out = *rgb;
    int rc = ERR_OK;

    if (s->resized.data) {
        out = tensor_slice(&s->resized, 0, rgb->dim[0]);
        rc = op_resize_crop(s->dev, &out, rgb, err);
    }
    if (rc == ERR_OK && s->hooks.on_rgb && !s->dev->dry_run) {
        rc = s->hooks.on_rgb(s->hooks.ctx, &out, first, err);
    }
    return rc != ERR_OK ? rc : op_rgb_to_yuv420(s->dev, &yuv, &out, err);
}

/* Converts a batch and starts its way to the host, beside what is decoded next. */
static int send(struct session *s, const struct tensor *rgb, const struct session_batch *batch,
                struct err *err)
{
    const int slot = s->slot;
    const struct tensor yuv = tensor_slice(&s->yuv[slot], 0, rgb->dim[0]);
    int rc = deliver(s, slot, err); /* what was there before */

    if (rc == ERR_OK) {
        rc = convert(s, rgb, slot, batch->first, err);
    }
    if (rc == ERR_OK) {
        rc = device_mark(s->dev, DEVICE_MARK_YUV_A + slot, err);
    }
    device_select(s->dev, DEVICE_STREAM_COPY);
    if (rc == ERR_OK) {
        rc = device_follow(s->dev, DEVICE_MARK_YUV_A + slot, err);
    }
    if (rc == ERR_OK) {
        rc = device_download_start(s->dev, s->host_yuv[slot], &yuv, err);
    }
    if (rc == ERR_OK) {
        rc = device_mark(s->dev, DEVICE_MARK_FRAMES_A + slot, err);
    }
    device_select(s->dev, DEVICE_STREAM_DECODE);
    if (rc != ERR_OK) {
        return rc;
    }
    s->batch[slot] = *batch;
    s->slot = (slot + 1) % slots(s);
    return slots(s) == 1 ? deliver(s, slot, err) : ERR_OK;
}

static int send_all(struct session *s, const struct tensor *rgb, int64_t first, int64_t done,
                    int64_t latents, struct err *err)
{
    const int64_t n = rgb->dim[0];
    const int64_t room = s->yuv[0].dim[0];
    int rc = ERR_OK;

    for (int64_t i = 0; i < n && rc == ERR_OK; i += room) {
        const int64_t count = n - i < room ? n - i : room;
        const struct tensor part = tensor_slice(rgb, i, count);
        struct session_batch batch = {.first = first + i, .count = count};

        if (i + count == n) {
            batch.step = done + latents;
            batch.steps = session_block(s, s->next).count;
            batch.work = (double)latents * SESSION_DECODE_WORK;
        }
        rc = send(s, &part, &batch, err);
    }
    return rc;
}

int session_decode(struct session *s, int64_t done, int64_t *picture, struct err *err)
{
    const struct tensor x = session_block_latents(s, s->next);
    const int64_t piece = vae_streams(s->model->vae) ? 1 : x.dim[0];
    const struct tensor z = tensor_slice(&x, done, piece);
    const int64_t n = vae_stream_frames(s->stream, piece);
    const struct tensor rgb = tensor_slice(&s->rgb, 0, n);
    int rc = session_check_cancel(s, err);

    if (rc == ERR_OK) {
        rc = vae_decode(s->stream, &z, session_decoder_ws(s), &rgb, err);
    }
    if (rc == ERR_OK) {
        rc = op_check_finite(s->dev, &rgb, "the vae decoder", err);
    }
    if (rc == ERR_OK) {
        rc = send_all(s, &rgb, *picture, done, piece, err);
    }
    *picture += n;
    return rc;
}

int session_rewarm(struct session *s, const struct tensor *z, struct err *err)
{
    int rc = ERR_OK;

    for (int64_t f = 0; f < z->dim[0] && rc == ERR_OK; f++) {
        const struct tensor one = tensor_slice(z, f, 1);
        const struct tensor rgb = tensor_slice(&s->rgb, 0, vae_stream_frames(s->stream, 1));

        rc = session_check_cancel(s, err);
        if (rc == ERR_OK) {
            rc = vae_decode(s->stream, &one, session_decoder_ws(s), &rgb, err);
        }
    }
    return rc;
}
