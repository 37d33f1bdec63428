/*
 * Opening and closing; render_run.c has the work, render_plan.c what is known before.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "media/image.h"
#include "media/image_resize.h"
#include "worker/render_internal.h"

/* ---- opening ---- */

/* Pillow's Lanczos to exactly the generated size, then [-1, 1] (MODEL 1.6). */
static int load_image(struct render *r, const struct model *model, const char *path,
                      struct session_request *request, struct err *err)
{
    struct image picture = {0};
    struct image resized = {0};
    struct geometry_size size;
    size_t n;
    int rc = session_plan_size(model, request, &size, err);

    if (rc == ERR_OK) {
        rc = image_read_file(&picture, path, err);
    }
    if (rc == ERR_OK) {
        rc = image_resize(&resized, &picture, (int)size.gen_width, (int)size.gen_height, err);
    }
    if (rc != ERR_OK) {
        goto out;
    }
    n = (size_t)(size.gen_width * size.gen_height) * 3;
    r->image = malloc(n * sizeof(float));
    if (!r->image) {
        rc = err_set(err, ERR_NO_MEMORY, "reference image '%s'", path);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        r->image[i] = (float)resized.rgb[i] / 255.0F * 2.0F - 1.0F;
    }
    request->image = r->image;
out:
    image_done(&resized);
    image_done(&picture);
    return rc;
}

static int open_session(struct render *r, struct model *model, const struct render_options *options,
                        struct err *err)
{
    const struct session_callbacks callbacks = {.ctx = r,
                                                .on_frame = render_on_frame,
                                                .on_progress = render_on_progress,
                                                .cancel = r->callbacks.cancel};
    struct session_request request = options->request;
    int rc = ERR_OK;

    if (options->image_path) {
        rc = load_image(r, model, options->image_path, &request, err);
    }
    return rc == ERR_OK ? session_open(&r->session, model, &request, &callbacks, err) : rc;
}

static int open_queues(struct render *r, struct err *err)
{
    const struct session_settings *set = session_settings(r->session);
    int rc = queue_create(&r->filled, RENDER_BUFFERS, err);

    if (rc == ERR_OK) {
        rc = queue_create(&r->empty, RENDER_BUFFERS, err);
    }
    r->picture_bytes = (size_t)(set->size.width * set->size.height) * 3 / 2;
    for (int i = 0; i < RENDER_BUFFERS && rc == ERR_OK; i++) {
        r->pictures[i] = calloc(1, sizeof(struct picture) + r->picture_bytes);
        if (!r->pictures[i]) {
            return err_set(err, ERR_NO_MEMORY, "%d pictures between engine and encoder",
                           RENDER_BUFFERS);
        }
        CHECK_BUG(queue_try_push(r->empty, r->pictures[i]));
    }
    return rc;
}

static int resume_causal(struct render *r, const struct render_resume *from, struct err *err)
{
    if (from->state) {
        return err_set(err, ERR_INVALID,
                       "resume: this model's videos continue from latents, not from a snapshot");
    }
    if (from->blocks > 0 && !from->latents) {
        return err_set(err, ERR_INVALID, "resume: no latents of the %lld finished blocks",
                       (long long)from->blocks);
    }
    r->first_block = from->blocks;
    return from->blocks > 0 ? session_replay(r->session, from->latents, from->blocks, err) : ERR_OK;
}

/* A clean clip goes on at any block. Noisy latents, or nothing at all, become the whole clip once
 * more; its pictures do not depend on which. */
static int resume_clip(struct render *r, const struct render_resume *from, struct err *err)
{
    int rc;

    if (from->latents) {
        return err_set(err, ERR_INVALID,
                       "resume: this model's videos continue from a snapshot, not from latents");
    }
    if (!from->state) {
        return ERR_OK;
    }
    rc = session_restore(r->session, from->state, from->state_bytes, NULL, 0, err);
    if (rc == ERR_OK && session_blocks_done(r->session) > 0) {
        r->clean_saved = true;
        r->first_block = from->blocks;
        rc = session_seek(r->session, from->blocks, err);
    }
    return rc;
}

static int resume(struct render *r, const struct render_resume *from, struct err *err)
{
    const int64_t blocks = session_settings(r->session)->blocks;

    if (from->blocks < 0 || from->blocks > blocks) {
        return err_set(err, ERR_INVALID, "resume: %lld finished blocks of %lld",
                       (long long)from->blocks, (long long)blocks);
    }
    r->resumed_blocks = from->blocks;
    if (from->blocks == blocks) {
        r->first_block = blocks; /* nothing will be made */
        return ERR_OK;
    }
    r->since_ns = clock_now_ns();
    return r->causal ? resume_causal(r, from, err) : resume_clip(r, from, err);
}

/* With everything done there is no place to go on from; the init segment is the same from the start. */
static void set_position(struct fmp4_options *fmp4, const struct render *r,
                         const struct model *model)
{
    const struct session_settings *set = session_settings(r->session);

    if (r->first_block < set->blocks) {
        fmp4->first_fragment = r->first_block;
        fmp4->first_frame = geometry_block(set->frames, model->dir->vae.stride_t,
                                           set->block_latent_frames, r->first_block)
                                .first_picture;
    }
}

static int open_parts(struct render *r, struct model *model, const struct render_options *options,
                      struct err *err)
{
    struct fmp4_options fmp4;
    int rc = open_session(r, model, options, err);

    if (rc == ERR_OK) {
        rc = render_head_init(&r->head, options->request.prompt, session_settings(r->session),
                              model, err);
    }
    if (rc == ERR_OK) {
        rc = render_fmp4_options(&fmp4, options, session_settings(r->session), &r->head, err);
    }
    if (rc == ERR_OK) {
        rc = open_queues(r, err);
    }
    if (rc == ERR_OK) {
        rc = resume(r, &options->resume, err);
    }
    if (rc == ERR_OK) {
        set_position(&fmp4, r, model);
        r->blocks_done = r->first_block;
        rc = fmp4_open(&r->writer, &fmp4, render_on_part, r, err);
    }
    atomic_store(&r->encode_ns, 0);
    return rc;
}

int render_open(struct render **ret, struct model *model, const struct render_options *options,
                const struct render_callbacks *callbacks, struct err *err)
{
    struct render *r = calloc(1, sizeof(*r));
    int rc;

    if (!r) {
        return err_set(err, ERR_NO_MEMORY, "rendering");
    }
    r->callbacks = *callbacks;
    r->causal = model->dir->family == FAMILY_LONGSANA;
    r->state_interval_ms = options->state_interval_ms;
    rc = open_parts(r, model, options, err);
    if (rc != ERR_OK) {
        render_close(r);
        return rc;
    }
    *ret = r;
    return ERR_OK;
}

static void drain(struct queue *q)
{
    if (!q) {
        return;
    }
    queue_close(q);
    while (queue_pop(q)) {
    }
    queue_free(q);
}

void render_close(struct render *r)
{
    if (!r) {
        return;
    }
    fmp4_free(r->writer);
    session_close(r->session);
    drain(r->filled);
    drain(r->empty);
    for (int i = 0; i < RENDER_BUFFERS; i++) {
        if (r->pictures[i]) {
            free(r->pictures[i]->latents);
        }
        free(r->pictures[i]);
    }
    render_head_done(&r->head);
    free(r->image);
    free(r);
}

/* ---- asking ---- */

const struct session_settings *render_settings(const struct render *r)
{
    return session_settings(r->session);
}

size_t render_memory(const struct render *r)
{
    return session_memory(r->session) + RENDER_BUFFERS * r->picture_bytes;
}

int64_t render_first_block(const struct render *r)
{
    return r->first_block;
}

bool render_paused(const struct render *r)
{
    return r->paused;
}

int64_t render_blocks_done(const struct render *r)
{
    return r->blocks_done > r->resumed_blocks ? r->blocks_done : r->resumed_blocks;
}

void render_times(const struct render *r, struct render_times *ret)
{
    *ret = (struct render_times){
        .text = clock_seconds(r->spent_ns[SESSION_TEXT]),
        .image = clock_seconds(r->spent_ns[SESSION_IMAGE]),
        .denoise = clock_seconds(r->spent_ns[SESSION_DENOISE]),
        .cache = clock_seconds(r->spent_ns[SESSION_CACHE]),
        .decode = clock_seconds(r->spent_ns[SESSION_DECODE]),
        .encode = clock_seconds(atomic_load(&r->encode_ns)),
    };
}
