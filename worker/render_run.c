/*
 * The two threads of a rendering: the engine's (the caller's) and the encoder's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "worker/render_internal.h"

static bool is_set(const atomic_bool *flag)
{
    return flag && atomic_load(flag);
}

/* ---- encoder thread ---- */

int render_on_part(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len, struct err *err)
{
    struct render *r = ctx;
    const int64_t start_ns = clock_now_ns();
    const int rc = r->callbacks.on_part(r->callbacks.ctx, part, data, len, err);

    r->part_bytes = len;
    atomic_fetch_sub(&r->encode_ns, clock_now_ns() - start_ns); /* the sink's time, not ours */
    return rc;
}

static void report_block(struct render *r, const struct picture *end)
{
    const int64_t now_ns = clock_now_ns();
    const struct render_block done = {
        .index = r->blocks_done,
        .count = session_settings(r->session)->blocks,
        .first_picture = end->block.first_picture,
        .n_pictures = end->block.n_pictures,
        .bytes = r->part_bytes,
        .latents = end->latents,
        .n_latents = end->n_latents,
        .seconds = clock_seconds(now_ns - r->block_ns),
    };

    r->block_ns = now_ns;
    r->blocks_done++;
    if (r->callbacks.on_block) {
        r->callbacks.on_block(r->callbacks.ctx, &done);
    }
}

static int begin_block(struct render *r, const struct picture *first, struct err *err)
{
    if (r->blocks_done == 0 && r->callbacks.on_first_picture) {
        r->callbacks.on_first_picture(r->callbacks.ctx, first->i420);
    }
    r->in_block = true;
    return fmp4_begin_block(r->writer, err);
}

static int encode(struct render *r, const struct picture *p, struct err *err)
{
    const int64_t start_ns = clock_now_ns();
    int rc = ERR_OK;

    if (p->end_block) {
        r->in_block = false;
        rc = fmp4_end_block(r->writer, err);
    } else {
        if (!r->in_block) {
            rc = begin_block(r, p, err);
        }
        if (rc == ERR_OK) {
            rc = fmp4_frame(r->writer, p->i420, err);
        }
    }
    atomic_fetch_add(&r->encode_ns, clock_now_ns() - start_ns);
    if (rc == ERR_OK && p->end_block) {
        report_block(r, p);
    }
    return rc;
}

static void *encoder_main(void *ctx)
{
    struct render *r = ctx;
    struct picture *p;

    while (r->encoder_rc == ERR_OK && (p = queue_pop(r->filled))) {
        r->encoder_rc = encode(r, p, &r->encoder_err);
        free(p->latents);
        p->latents = NULL;
        CHECK_BUG(queue_try_push(r->empty, p)); /* there is room for all buffers */
    }
    if (r->encoder_rc != ERR_OK) { /* wakes an engine that waits for a buffer or for room */
        queue_close(r->empty);
        queue_close(r->filled);
    }
    return NULL;
}

/* ---- engine thread: what the session calls ---- */

/* A buffer; NULL: the encoder gave up, and its error is the one that counts. Waiting is no work. */
static struct picture *take_buffer(struct render *r)
{
    const int64_t start_ns = clock_now_ns();
    struct picture *p = queue_pop(r->empty);

    r->since_ns += clock_now_ns() - start_ns;
    return p;
}

static int encoder_stopped(struct err *err)
{
    return err_set(err, ERR_IO, "the encoder has stopped");
}

int render_on_frame(void *ctx, const uint8_t *i420, int64_t index, struct err *err)
{
    struct render *r = ctx;
    struct picture *p = take_buffer(r);

    (void)index;
    if (!p) {
        return encoder_stopped(err);
    }
    p->end_block = false;
    memcpy(p->i420, i420, r->picture_bytes);
    return queue_push(r->filled, p) ? ERR_OK : encoder_stopped(err);
}

static int save_state(struct render *r, struct err *err)
{
    struct str state;
    int rc;

    str_init(&state, SIZE_MAX / 4); /* as large as the session, whose memory has been granted */
    rc = session_save(r->session, &state, err);
    if (rc == ERR_OK) {
        r->callbacks.on_state(r->callbacks.ctx, state.data, state.len);
    }
    str_done(&state);
    r->state_ns = clock_now_ns();
    return rc;
}

/* The clock only decides when a snapshot is taken; what is made does not depend on it. */
static bool state_is_due(const struct render *r)
{
    return r->state_interval_ms > 0 &&
           (clock_now_ns() - r->state_ns) / 1000000 >= r->state_interval_ms;
}

/* After a step of a bidirectional clip. */
static void after_step(struct render *r)
{
    const bool pause = is_set(r->callbacks.pause);

    if (!r->callbacks.on_state || !(pause || state_is_due(r))) {
        return;
    }
    r->state_rc = save_state(r, &r->state_err);
    r->paused = pause && r->state_rc == ERR_OK;
    if (pause || r->state_rc != ERR_OK) {
        session_stop(r->session);
    }
}

void render_on_progress(void *ctx, const struct session_progress *p)
{
    struct render *r = ctx;

    r->spent_ns[p->phase] += clock_now_ns() - r->since_ns;
    if (r->callbacks.on_progress) {
        r->callbacks.on_progress(r->callbacks.ctx, p);
    }
    if (!r->causal && p->phase == SESSION_DENOISE) {
        after_step(r);
    }
    r->since_ns = clock_now_ns();
}

/* ---- engine thread: blocks ---- */

static bool all_made(const struct render *r)
{
    return r->first_block == session_settings(r->session)->blocks || session_finished(r->session);
}

static int take_latents(struct render *r, struct picture *end, struct err *err)
{
    const int64_t n = end->block.count * session_latent_frame_size(r->session);

    end->latents = malloc((size_t)n * sizeof(float));
    if (!end->latents) {
        return err_set(err, ERR_NO_MEMORY, "latents of a block");
    }
    end->n_latents = (size_t)n;
    return session_latents(r->session, end->latents, err);
}

static int send_end_of_block(struct render *r, const struct geometry_block *block, struct err *err)
{
    struct picture *p = take_buffer(r);
    int rc = ERR_OK;

    if (!p) {
        return encoder_stopped(err);
    }
    p->end_block = true;
    p->block = *block;
    p->n_latents = 0;
    if (r->causal && r->callbacks.on_block) {
        rc = take_latents(r, p, err);
    }
    if (rc == ERR_OK && !queue_push(r->filled, p)) {
        rc = encoder_stopped(err);
    }
    return rc;
}

/* The clean clip, once: from here on nothing needs to be denoised again. */
static int save_clean(struct render *r, struct err *err)
{
    if (r->causal || r->clean_saved || !r->callbacks.on_state ||
        session_blocks_done(r->session) == 0) {
        return ERR_OK;
    }
    r->clean_saved = true;
    return save_state(r, err);
}

static int make_block(struct render *r, struct err *err)
{
    struct geometry_block block;
    int rc;

    r->since_ns = clock_now_ns();
    rc = session_next_block(r->session, &block, err);
    if (r->state_rc != ERR_OK) {
        *err = r->state_err;
        return r->state_rc;
    }
    if (rc == ERR_CANCELLED && r->paused && !is_set(r->callbacks.cancel)) {
        return ERR_OK;
    }
    if (rc == ERR_OK) {
        rc = send_end_of_block(r, &block, err);
    }
    if (rc == ERR_OK && r->state_interval_ms > 0 && !all_made(r)) {
        rc = save_clean(r, err);
    }
    return rc;
}

static int make_blocks(struct render *r, struct err *err)
{
    int rc = ERR_OK;

    while (rc == ERR_OK && !r->paused && !all_made(r)) {
        if (is_set(r->callbacks.pause)) {
            r->paused = true;
            rc = save_clean(r, err);
        } else {
            rc = make_block(r, err);
        }
    }
    return rc;
}

int render_run(struct render *r, struct err *err)
{
    int rc;

    r->state_ns = clock_now_ns();
    r->block_ns = r->state_ns;
    if (pthread_create(&r->encoder, NULL, encoder_main, r) != 0) {
        return err_set(err, ERR_NO_MEMORY, "the encoder thread could not be started");
    }
    rc = make_blocks(r, err);
    queue_close(r->filled); /* the encoder finishes what it has */
    pthread_join(r->encoder, NULL);
    if (r->encoder_rc != ERR_OK) {
        *err = r->encoder_err;
        rc = r->encoder_rc;
    }
    r->paused = r->paused && rc == ERR_OK;
    return rc;
}
