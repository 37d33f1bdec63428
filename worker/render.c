#include "worker/render.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/queue.h"
#include "media/image.h"
#include "media/image_resize.h"

/* Pictures in flight between the threads: one decoder call's worth, twice. */
enum {
    N_BUFFERS = 16,
    N_TAGS = 3,
    FPS_DEN = 1000
};

/* What goes through the queue; end_block has no picture. */
struct picture {
    bool end_block;
    struct geometry_block block;
    uint8_t i420[];
};

struct render {
    struct session *session; /* owned */
    struct render_callbacks callbacks;
    struct fmp4 *writer; /* owned; encoder thread while it runs */
    float *image;        /* owned */
    struct mp4_tag tags[N_TAGS];
    char *prompt;                        /* owned; tags */
    char *comment;                       /* owned; tags */
    struct queue *filled;                /* to the encoder thread */
    struct queue *empty;                 /* back */
    struct picture *pictures[N_BUFFERS]; /* owned */
    size_t picture_bytes;
    pthread_t encoder;
    bool in_block;
    size_t part_bytes;
    int64_t blocks_done;
    int encoder_rc; /* after the join */
    struct err encoder_err;
};

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

/* NULL when out of memory. */
static char *settings_json(const struct session_settings *set, const struct model *model)
{
    const int steps =
        set->sampler.kind == SAMPLER_LONGLIVE ? set->sampler.n_renoise : set->sampler.steps;
    cJSON *o = cJSON_CreateObject();
    const bool ok = cJSON_AddStringToObject(o, "model", model->dir->defaults.id) &&
                    cJSON_AddNumberToObject(o, "seed", (double)set->seed) &&
                    cJSON_AddStringToObject(o, "sampler", model_sampler_name(set->sampler.kind)) &&
                    cJSON_AddNumberToObject(o, "steps", steps) &&
                    cJSON_AddNumberToObject(o, "guidance_scale", set->guidance_scale) &&
                    cJSON_AddNumberToObject(o, "flow_shift", set->sampler.flow_shift) &&
                    cJSON_AddNumberToObject(o, "motion_score", set->motion_score) &&
                    cJSON_AddStringToObject(o, "sanad", SANAD_VERSION);
    char *text = ok ? cJSON_PrintUnformatted(o) : NULL;

    cJSON_Delete(o);
    return text;
}

static int make_tags(struct render *r, const char *prompt, const struct model *model,
                     struct err *err)
{
    r->prompt = strdup(prompt);
    r->comment = settings_json(session_settings(r->session), model);
    if (!r->prompt || !r->comment) {
        return err_set(err, ERR_NO_MEMORY, "metadata of the video");
    }
    r->tags[0] = (struct mp4_tag){"title", r->prompt};
    r->tags[1] = (struct mp4_tag){"comment", r->comment};
    r->tags[2] = (struct mp4_tag){"encoder", "sanad " SANAD_VERSION};
    return ERR_OK;
}

static int on_part(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len, struct err *err)
{
    struct render *r = ctx;

    r->part_bytes = len;
    return r->callbacks.on_part(r->callbacks.ctx, part, data, len, err);
}

static int open_writer(struct render *r, const struct render_options *options, struct err *err)
{
    const struct session_settings *set = session_settings(r->session);
    const struct fmp4_options fmp4 = {
        .video = {.width = (int)set->size.width,
                  .height = (int)set->size.height,
                  .fps_num = (int)lround(set->fps * FPS_DEN),
                  .fps_den = FPS_DEN,
                  .crf = options->crf,
                  .n_threads = options->encoder_threads},
        .total_frames = set->frames,
        .tags = r->tags,
        .n_tags = N_TAGS,
    };

    return fmp4_open(&r->writer, &fmp4, on_part, r, err);
}

static int open_queues(struct render *r, struct err *err)
{
    const struct session_settings *set = session_settings(r->session);
    int rc = queue_create(&r->filled, N_BUFFERS, err);

    if (rc == ERR_OK) {
        rc = queue_create(&r->empty, N_BUFFERS, err);
    }
    r->picture_bytes = (size_t)(set->size.width * set->size.height) * 3 / 2;
    for (int i = 0; i < N_BUFFERS && rc == ERR_OK; i++) {
        r->pictures[i] = malloc(sizeof(struct picture) + r->picture_bytes);
        if (!r->pictures[i]) {
            return err_set(err, ERR_NO_MEMORY, "%d pictures between engine and encoder", N_BUFFERS);
        }
        CHECK_BUG(queue_try_push(r->empty, r->pictures[i]));
    }
    return rc;
}

static int send_picture(void *ctx, const uint8_t *i420, int64_t index, struct err *err)
{
    struct render *r = ctx;
    struct picture *p = queue_pop(r->empty);

    (void)index;
    if (!p) { /* the encoder gave up; its error is the one that counts */
        return err_set(err, ERR_IO, "the encoder has stopped");
    }
    p->end_block = false;
    memcpy(p->i420, i420, r->picture_bytes);
    if (!queue_push(r->filled, p)) {
        return err_set(err, ERR_IO, "the encoder has stopped");
    }
    return ERR_OK;
}

static void forward_progress(void *ctx, const struct session_progress *p)
{
    struct render *r = ctx;

    if (r->callbacks.on_progress) {
        r->callbacks.on_progress(r->callbacks.ctx, p);
    }
}

int render_open(struct render **ret, struct model *model, const struct render_options *options,
                const struct render_callbacks *callbacks, struct err *err)
{
    struct session_request request = options->request;
    struct render *r = calloc(1, sizeof(*r));
    int rc = ERR_OK;

    if (!r) {
        return err_set(err, ERR_NO_MEMORY, "rendering");
    }
    r->callbacks = *callbacks;
    if (options->image_path) {
        rc = load_image(r, model, options->image_path, &request, err);
    }
    if (rc == ERR_OK) {
        const struct session_callbacks session = {.ctx = r,
                                                  .on_frame = send_picture,
                                                  .on_progress = forward_progress,
                                                  .cancel = callbacks->cancel};

        rc = session_open(&r->session, model, &request, &session, err);
    }
    if (rc == ERR_OK) {
        rc = make_tags(r, request.prompt, model, err);
    }
    if (rc == ERR_OK) {
        rc = open_queues(r, err);
    }
    if (rc == ERR_OK) {
        rc = open_writer(r, options, err);
    }
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
    for (int i = 0; i < N_BUFFERS; i++) {
        free(r->pictures[i]);
    }
    cJSON_free(r->comment);
    free(r->prompt);
    free(r->image);
    free(r);
}

const struct session_settings *render_settings(const struct render *r)
{
    return session_settings(r->session);
}

size_t render_memory(const struct render *r)
{
    return session_memory(r->session) + N_BUFFERS * r->picture_bytes;
}

int64_t render_blocks_done(const struct render *r)
{
    return r->blocks_done;
}

/* ---- encoder thread ---- */

static void report_block(struct render *r, const struct geometry_block *block)
{
    const struct render_block done = {
        .index = r->blocks_done,
        .count = session_settings(r->session)->blocks,
        .first_picture = block->first_picture,
        .n_pictures = block->n_pictures,
        .bytes = r->part_bytes,
    };

    r->blocks_done++;
    if (r->callbacks.on_block) {
        r->callbacks.on_block(r->callbacks.ctx, &done);
    }
}

static int encode(struct render *r, const struct picture *p, struct err *err)
{
    int rc = ERR_OK;

    if (p->end_block) {
        rc = fmp4_end_block(r->writer, err);
        r->in_block = false;
        if (rc == ERR_OK) {
            report_block(r, &p->block);
        }
        return rc;
    }
    if (!r->in_block) {
        rc = fmp4_begin_block(r->writer, err);
        r->in_block = rc == ERR_OK;
    }
    return rc != ERR_OK ? rc : fmp4_frame(r->writer, p->i420, err);
}

static void *encoder_main(void *ctx)
{
    struct render *r = ctx;
    struct picture *p;

    while (r->encoder_rc == ERR_OK && (p = queue_pop(r->filled))) {
        r->encoder_rc = encode(r, p, &r->encoder_err);
        CHECK_BUG(queue_try_push(r->empty, p)); /* there is room for all buffers */
    }
    if (r->encoder_rc != ERR_OK) { /* wakes an engine that waits for a buffer or for room */
        queue_close(r->empty);
        queue_close(r->filled);
    }
    return NULL;
}

/* ---- engine thread ---- */

static int send_end_of_block(struct render *r, const struct geometry_block *block, struct err *err)
{
    struct picture *p = queue_pop(r->empty);

    if (!p) {
        return err_set(err, ERR_IO, "the encoder has stopped");
    }
    p->end_block = true;
    p->block = *block;
    return queue_push(r->filled, p) ? ERR_OK : err_set(err, ERR_IO, "the encoder has stopped");
}

static int make_blocks(struct render *r, struct err *err)
{
    int rc = ERR_OK;

    while (rc == ERR_OK && !session_finished(r->session)) {
        struct geometry_block block;

        rc = session_next_block(r->session, &block, err);
        if (rc == ERR_OK) {
            rc = send_end_of_block(r, &block, err);
        }
    }
    return rc;
}

int render_run(struct render *r, struct err *err)
{
    int rc;

    if (pthread_create(&r->encoder, NULL, encoder_main, r) != 0) {
        return err_set(err, ERR_NO_MEMORY, "the encoder thread could not be started");
    }
    rc = make_blocks(r, err);
    queue_close(r->filled); /* the encoder finishes what it has */
    pthread_join(r->encoder, NULL);
    if (r->encoder_rc != ERR_OK) {
        *err = r->encoder_err;
        return r->encoder_rc;
    }
    return rc;
}
