/*
 * What a request comes to, and the file's head: the same code for the plan and for the rendering, so
 * that an init segment that was given out before the work began is the one the work goes on from.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/render_internal.h"

enum {
    FPS_MAX = 240, /* the encoder's */
    FPS_DEN = 1000,
    INIT_MAX_BYTES = 1 << 20
};

/* NULL when out of memory. */
static char *settings_json(const struct session_settings *set, const struct model *model)
{
    const int steps =
        set->sampler.kind == SAMPLER_LONGLIVE ? set->sampler.n_renoise : set->sampler.steps;
    cJSON *o = cJSON_CreateObject();
    char seed[24]; /* cJSON would round it to 15 digits */
    const bool ok = snprintf(seed, sizeof(seed), "%" PRIu64, set->seed) > 0 &&
                    cJSON_AddStringToObject(o, "model", model->dir->defaults.id) &&
                    cJSON_AddRawToObject(o, "seed", seed) &&
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

int render_head_init(struct render_head *h, const char *prompt, const struct session_settings *set,
                     const struct model *model, struct err *err)
{
    h->prompt = strdup(prompt);
    h->comment = settings_json(set, model);
    if (!h->prompt || !h->comment) {
        render_head_done(h);
        return err_set(err, ERR_NO_MEMORY, "metadata of the video");
    }
    h->tags[0] = (struct mp4_tag){"title", h->prompt};
    h->tags[1] = (struct mp4_tag){"comment", h->comment};
    h->tags[2] = (struct mp4_tag){"encoder", "sanad " SANAD_VERSION};
    return ERR_OK;
}

void render_head_done(struct render_head *h)
{
    cJSON_free(h->comment);
    free(h->prompt);
    *h = (struct render_head){0};
}

static double frame_rate(const struct render_options *options, const struct session_settings *set)
{
    return options->fps != 0 ? options->fps : set->fps;
}

int render_fmp4_options(struct fmp4_options *ret, const struct render_options *options,
                        const struct session_settings *set, const struct render_head *head,
                        struct err *err)
{
    const double fps = frame_rate(options, set);

    if (!(fps >= 1 && fps <= FPS_MAX)) {
        return err_set(err, ERR_INVALID, "fps: %g is not in 1..%d", fps, FPS_MAX);
    }
    *ret = (struct fmp4_options){
        .video = {.width = (int)set->size.width,
                  .height = (int)set->size.height,
                  .fps_num = (int)lround(fps * FPS_DEN),
                  .fps_den = FPS_DEN,
                  .crf = options->crf,
                  .n_threads = options->encoder_threads},
        .total_frames = set->frames,
        .tags = head->tags,
        .n_tags = RENDER_TAGS,
    };
    return ERR_OK;
}

static int keep_init(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                     struct err *err)
{
    struct str *init = ctx;

    (void)part; /* a writer that gets no pictures gives nothing else */
    return str_append(init, data, len)
               ? ERR_OK
               : err_set(err, ERR_NO_MEMORY, "init segment of %zu bytes", len);
}

static int make_init(struct str *init, const struct model *model,
                     const struct render_options *options, const struct session_settings *set,
                     struct err *err)
{
    struct render_head head = {0};
    struct fmp4_options fmp4;
    struct fmp4 *writer = NULL;
    int rc = render_head_init(&head, options->request.prompt, set, model, err);

    if (rc == ERR_OK) {
        rc = render_fmp4_options(&fmp4, options, set, &head, err);
    }
    if (rc == ERR_OK) {
        rc = fmp4_open(&writer, &fmp4, keep_init, init, err);
    }
    fmp4_free(writer);
    render_head_done(&head);
    return rc;
}

int render_plan(const struct model *model, const struct render_options *options,
                struct render_plan *ret, struct err *err)
{
    static const float some_image; /* that there is one is all that counts */
    const int64_t stride = model->dir->vae.stride_t;
    struct session_request request = options->request;
    struct render_plan plan = {0};
    int rc;

    str_init(&plan.init, INIT_MAX_BYTES);
    request.image = options->image_path ? &some_image : NULL;
    rc = session_resolve(model, &request, &plan.settings, err);
    if (rc == ERR_OK) {
        rc = make_init(&plan.init, model, options, &plan.settings, err);
    }
    if (rc != ERR_OK) {
        render_plan_done(&plan);
        return rc;
    }
    plan.fps = frame_rate(options, &plan.settings);
    plan.generated_frames = 1 + stride * (geometry_latent_frames(plan.settings.frames, stride) - 1);
    *ret = plan;
    return ERR_OK;
}

void render_plan_done(struct render_plan *plan)
{
    str_done(&plan->init);
}
