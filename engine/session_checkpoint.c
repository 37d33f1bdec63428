/*
 * Saving and continuing. A snapshot is
 *
 *   header   magic, format, fingerprint of the request and model, next block, blocks in the
 *            history, solver step and order, counts; checksum of all else
 *   tensors  raw f32, in a fixed order: the solver's or the history's, then latents
 *
 * written and read on the same machine type (it is a checkpoint, not an exchange format). It comes
 * from a file, so it is checked before it is used: sizes, fingerprint, checksum.
 */
#include "engine/session_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum {
    SNAPSHOT_FORMAT = 1,
    SNAPSHOT_DENOISING = 1,
    SNAPSHOT_BLOCKS = 2
};

static const char SNAPSHOT_MAGIC[8] = "sanadcp";

struct snapshot_header {
    char magic[8];
    uint32_t format;
    uint32_t kind;
    uint64_t fingerprint;
    int64_t next;
    int64_t history_blocks;
    int32_t step;
    int32_t order;
    uint64_t payload;  /* bytes behind the header */
    uint64_t checksum; /* of the header, with 0 here, and the payload */
};

_Static_assert(sizeof(struct snapshot_header) == 64, "written as it is");

enum {
    MAX_TENSORS = 2 * HISTORY_MAX_TENSORS + SAMPLER_MAX_HISTORY + 1
};

static uint64_t checksum(const struct snapshot_header *header, const void *payload)
{
    struct snapshot_header h = *header;

    h.checksum = 0;
    return hash_bytes(hash_bytes(HASH_START, &h, sizeof(h)), payload, h.payload);
}

/* What a snapshot of that kind consists of, in order. */
static int snapshot_tensors(const struct session *s, uint32_t kind, int64_t history_blocks,
                            int64_t next, const struct tensor *ret[MAX_TENSORS],
                            struct tensor *latents)
{
    int n = 0;

    if (kind == SNAPSHOT_DENOISING) {
        n = sampler_history(&s->denoiser.sampler, ret);
    } else if (s->causal) {
        n = history_tensors(&s->history[0], history_blocks, ret);
        if (s->guided) {
            n += history_tensors(&s->history[1], history_blocks, ret + n);
        }
    }
    *latents = s->causal ? session_block_latents(s, next - 1) : s->x[0];
    ret[n++] = latents;
    return n;
}

static size_t tensors_bytes(const struct tensor *const *t, int n)
{
    size_t bytes = 0;

    for (int i = 0; i < n; i++) {
        bytes += tensor_bytes(t[i]);
    }
    return bytes;
}

static int download_all(struct session *s, const struct tensor *const *t, int n, uint8_t *to,
                        struct err *err)
{
    int rc = ERR_OK;

    for (int i = 0; i < n && rc == ERR_OK; i++) {
        rc = device_download(s->dev, to, t[i], err);
        to += tensor_bytes(t[i]);
    }
    return rc;
}

int session_save(struct session *s, struct str *out, struct err *err)
{
    struct snapshot_header h = {
        .format = SNAPSHOT_FORMAT,
        .kind = s->denoising ? SNAPSHOT_DENOISING : SNAPSHOT_BLOCKS,
        .fingerprint = s->fingerprint,
        .next = s->next,
        .history_blocks = s->causal ? s->history[0].blocks : 0,
        .step = s->denoising ? s->denoiser.sampler.step : 0,
        .order = s->denoising ? s->denoiser.sampler.order : 0,
    };
    const struct tensor *t[MAX_TENSORS];
    struct tensor latents;
    uint8_t *payload;
    int n;
    int rc;

    if (s->failed || !s->ready || (!s->denoising && (s->busy || s->next == 0))) {
        return err_set(err, ERR_BUSY, "a snapshot can be taken between blocks or between steps");
    }
    memcpy(h.magic, SNAPSHOT_MAGIC, sizeof(h.magic));
    n = snapshot_tensors(s, h.kind, h.history_blocks, h.next, t, &latents);
    h.payload = tensors_bytes(t, n);
    payload = malloc(h.payload);
    if (!payload) {
        return err_set(err, ERR_NO_MEMORY, "snapshot of %llu bytes", (unsigned long long)h.payload);
    }
    rc = download_all(s, t, n, payload, err);
    h.checksum = checksum(&h, payload);
    if (rc == ERR_OK && (!str_append(out, &h, sizeof(h)) || !str_append(out, payload, h.payload))) {
        rc = err_set(err, ERR_NO_MEMORY, "snapshot of %llu bytes", (unsigned long long)h.payload);
    }
    free(payload);
    return rc;
}

/* UniPC's order after `step` steps: the solver follows it into its history. */
static int order_after(const struct sampler_schedule *schedule, int step)
{
    if (schedule->kind != SAMPLER_UNIPC || step == 0) {
        return 0;
    }
    return step == 1 || step == schedule->steps ? 1 : 2;
}

/* Block next - 1 is in the history only where the next block was begun early. */
static bool history_fits(const struct session *s, const struct snapshot_header *h)
{
    if (!s->causal) {
        return h->history_blocks == 0;
    }
    return h->history_blocks == h->next - 1 || (s->overlaps && h->history_blocks == h->next);
}

static int check_header(const struct session *s, const struct snapshot_header *h, size_t size,
                        struct err *err)
{
    if (memcmp(h->magic, SNAPSHOT_MAGIC, sizeof(h->magic)) != 0 || h->format != SNAPSHOT_FORMAT ||
        h->payload != size - sizeof(*h) ||
        (h->kind != SNAPSHOT_DENOISING && h->kind != SNAPSHOT_BLOCKS)) {
        return err_set(err, ERR_FORMAT, "snapshot: not a snapshot of this version, or cut short");
    }
    if (h->fingerprint != s->fingerprint) {
        return err_set(err, ERR_INVALID, "snapshot: made for another request or model");
    }
    if (h->kind == SNAPSHOT_DENOISING
            ? s->causal || h->next != 0 || h->history_blocks != 0 || h->step < 0 ||
                  h->step > s->schedule.steps || h->order != order_after(&s->schedule, h->step)
            : h->next < 1 || h->next > s->set.blocks || !history_fits(s, h)) {
        return err_set(err, ERR_FORMAT, "snapshot: its numbers contradict each other");
    }
    return ERR_OK;
}

static int upload_all(struct session *s, const struct tensor *const *t, int n, const uint8_t *from,
                      struct err *err)
{
    int rc = ERR_OK;

    for (int i = 0; i < n && rc == ERR_OK; i++) {
        rc = device_upload(s->dev, t[i], from, err);
        from += tensor_bytes(t[i]);
    }
    return rc;
}

/* The solver in flight, or the history, and the latents. */
static int restore_tensors(struct session *s, const struct snapshot_header *h,
                           const uint8_t *payload, struct err *err)
{
    const struct tensor *t[MAX_TENSORS];
    struct tensor latents;
    int n;
    int rc = h->kind == SNAPSHOT_DENOISING ? session_begin_clip(s, err) : ERR_OK;

    if (rc != ERR_OK) {
        return rc;
    }
    if (h->kind == SNAPSHOT_DENOISING) {
        sampler_resume(&s->denoiser.sampler, h->step, h->order);
    }
    n = snapshot_tensors(s, h->kind, h->history_blocks, h->next, t, &latents);
    if (tensors_bytes(t, n) != h->payload) {
        return err_set(err, ERR_FORMAT, "snapshot: %llu bytes, expected %zu",
                       (unsigned long long)h->payload, tensors_bytes(t, n));
    }
    rc = upload_all(s, t, n, payload, err);
    s->history[0].blocks = h->history_blocks;
    s->history[1].blocks = h->history_blocks;
    s->clip_done = !s->causal && h->kind == SNAPSHOT_BLOCKS;
    s->next = h->next;
    return rc;
}

/* Copies latents from the host into scratch and decodes them for the caches. */
static int rewarm_from_host(struct session *s, const float *latents, int64_t n, struct err *err)
{
    const size_t mark = workspace_mark(&s->ws);
    int rc = ERR_OK;

    for (int64_t i = 0; i < n && rc == ERR_OK; i++) {
        struct tensor z = tensor_slice(&s->x[0], 0, 1); /* only for its shape */

        rc = workspace_tensor(&s->ws, &z, DTYPE_F32, z.rank, z.dim, err);
        if (rc == ERR_OK && !s->dev->dry_run) {
            rc = device_upload(s->dev, &z, latents + i * session_latent_frame_size(s), err);
        }
        if (rc == ERR_OK) {
            rc = session_rewarm(s, &z, err);
        }
        workspace_rewind(&s->ws, mark);
    }
    return rc;
}

int session_plan_restore(struct session *s, struct err *err)
{
    return vae_streams(s->model->vae) ? rewarm_from_host(s, NULL, 1, err) : ERR_OK;
}

/* The decoder's caches behind `next` blocks. `before`: the finished frames before the last block
 * (block-causal), of which at least the decoder's memory or all must be given. */
static int restore_decoder(struct session *s, const float *before, int64_t n_before,
                           struct err *err)
{
    const struct geometry_block last = session_block(s, s->next - 1);
    const int64_t memory = session_memory_frames(s);
    const int64_t done = last.first + last.count;
    const int64_t from = done > memory ? done - memory : 0; /* first frame that matters */
    int64_t skip;
    struct tensor z;
    int rc;

    if (!vae_streams(s->model->vae)) {
        return ERR_OK;
    }
    rc = vae_stream_reset(s->stream, from > 0, err);
    if (rc != ERR_OK) {
        return rc;
    }
    if (!s->causal) {
        z = tensor_slice(&s->x[0], from, done - from);
        return session_rewarm(s, &z, err);
    }
    if (n_before < (last.first > from ? last.first - from : 0) || n_before > last.first) {
        return err_set(err, ERR_INVALID,
                       "snapshot: %lld latent frames before the last block, %lld are needed",
                       (long long)n_before, (long long)(last.first - from));
    }
    skip = last.first > from ? n_before - (last.first - from) : n_before;
    rc = rewarm_from_host(s, before ? before + skip * session_latent_frame_size(s) : NULL,
                          n_before - skip, err);
    if (rc != ERR_OK) {
        return rc;
    }
    z = session_block_latents(s, s->next - 1);
    if (from > last.first) {
        z = tensor_slice(&z, from - last.first, done - from);
    }
    return session_rewarm(s, &z, err);
}

/* `step` steps of a bidirectional clip in the units of work_done. */
static double clip_work(const struct session *s, int step)
{
    const int64_t n = geometry_latent_frames(s->set.frames, s->model->dir->vae.stride_t);

    return (double)n * step * (s->guided ? 2 : 1);
}

/* work: what was done before, so that progress goes on from there. */
static int start_restoring(struct session *s, double work, struct err *err)
{
    if (s->ready || s->failed) {
        return err_set(err, ERR_BUSY, "the session has begun already");
    }
    s->failed = true; /* until all is in place */
    s->work_done = work;
    return session_set_up(s, err);
}

static int finish_restoring(struct session *s, int rc)
{
    s->failed = rc != ERR_OK;
    if (rc == ERR_OK) {
        s->work_done =
            s->next > 0 ? session_work(s, s->next)
                        : clip_work(s, s->denoising ? s->denoiser.sampler.step : s->schedule.steps);
        if (s->causal && s->history[0].blocks == s->next) { /* its last block's state, too */
            s->work_done += (double)session_block(s, s->next - 1).count;
        }
    }
    return rc;
}

int session_restore(struct session *s, const void *data, size_t size, const float *latents,
                    int64_t n_latent_frames, struct err *err)
{
    const uint8_t *payload = (const uint8_t *)data + sizeof(struct snapshot_header);
    struct snapshot_header h;
    int rc;

    if (size < sizeof(h)) {
        return err_set(err, ERR_FORMAT, "snapshot: %zu bytes are too few", size);
    }
    memcpy(&h, data, sizeof(h));
    rc = check_header(s, &h, size, err);
    if (rc == ERR_OK && checksum(&h, payload) != h.checksum) {
        rc = err_set(err, ERR_FORMAT, "snapshot: its checksum does not match");
    }
    if (rc == ERR_OK) {
        const int steps = h.kind == SNAPSHOT_DENOISING ? h.step : s->schedule.steps;

        rc = start_restoring(s, s->causal ? session_work(s, h.next) : clip_work(s, steps), err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    rc = restore_tensors(s, &h, payload, err);
    if (rc == ERR_OK && h.kind == SNAPSHOT_BLOCKS) {
        rc = restore_decoder(s, latents, n_latent_frames, err);
    }
    return finish_restoring(s, rc);
}

int session_seek(struct session *s, int64_t block, struct err *err)
{
    int rc = ERR_OK;

    if (s->causal || !s->clip_done || s->failed || s->busy) {
        return err_set(err, ERR_UNSUPPORTED, "only a clip that is denoised has all blocks at hand");
    }
    if (block < 0 || block > s->set.blocks) {
        return err_set(err, ERR_INVALID, "block %lld of %lld", (long long)block,
                       (long long)s->set.blocks);
    }
    s->next = block;
    if (block > 0) {
        rc = restore_decoder(s, NULL, 0, err);
    } else if (vae_streams(s->model->vae)) {
        rc = vae_stream_reset(s->stream, false, err);
    }
    return finish_restoring(s, rc);
}

/* Block `block` as if it had just been made: its latents in x, and all before it in the history. */
static int replay_block(struct session *s, int64_t block, const float *latents, struct err *err)
{
    const struct tensor x = session_block_latents(s, block);
    int rc = block > 0 ? session_push_block(s, block - 1, err) : ERR_OK;

    return rc != ERR_OK ? rc : device_upload(s->dev, &x, latents, err);
}

int session_replay(struct session *s, const float *latents, int64_t blocks, struct err *err)
{
    const float *from = latents;
    struct geometry_block last;
    bool pushed;
    int rc;

    if (!s->causal) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a bidirectional video continues from a snapshot, not from its blocks");
    }
    if (blocks < 1 || blocks > s->set.blocks) {
        return err_set(err, ERR_INVALID, "%lld finished blocks of %lld", (long long)blocks,
                       (long long)s->set.blocks);
    }
    last = session_block(s, blocks - 1);
    pushed = s->overlaps && blocks < s->set.blocks; /* the next block would have begun */
    /* all but the states, which are computed again */
    rc = start_restoring(s, session_work(s, blocks) - (double)last.first, err);
    for (int64_t i = 0; i < blocks && rc == ERR_OK; i++) {
        rc = replay_block(s, i, from, err);
        from += session_block(s, i).count * session_latent_frame_size(s);
    }
    s->next = blocks;
    if (rc == ERR_OK && pushed) {
        rc = session_push_block(s, blocks - 1, err);
    }
    if (rc == ERR_OK) {
        rc = restore_decoder(s, latents, last.first, err);
    }
    return finish_restoring(s, rc);
}
