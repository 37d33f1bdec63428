#include "worker/worker_facts.h"

#include <stdio.h>

#include "engine/geometry.h"

enum {
    SIZE_TEXT = 48,
    API_SIDE_MIN = 64
};

static bool add_text(cJSON *list, const char *text)
{
    cJSON *item = cJSON_CreateString(text);

    if (item && cJSON_AddItemToArray(list, item)) {
        return true;
    }
    cJSON_Delete(item);
    return false;
}

static bool add_size(cJSON *list, int64_t width, int64_t height)
{
    char text[SIZE_TEXT];

    snprintf(text, sizeof(text), "%lldx%lld", (long long)width, (long long)height);
    return add_text(list, text);
}

static bool add_names(cJSON *o, const struct model_defaults *d)
{
    cJSON *list =
        cJSON_AddStringToObject(o, "id", d->id) ? cJSON_AddArrayToObject(o, "aliases") : NULL;
    bool ok = list != NULL;

    for (int i = 0; ok && i < d->n_aliases; i++) {
        ok = add_text(list, d->aliases[i]);
    }
    return ok;
}

/* The API's lower limit, unless the model itself is made for less. */
static int64_t smallest_side(const struct model_defaults *d)
{
    const int64_t side = d->width < d->height ? d->width : d->height;

    return side < API_SIDE_MIN ? side : API_SIDE_MIN;
}

static bool add_sizes(cJSON *o, const struct model_dir *dir)
{
    const struct model_defaults *d = &dir->defaults;
    const int64_t unit = dir->vae.stride_s * dir->transformer.patch_size;
    cJSON *list = cJSON_AddArrayToObject(o, "native_sizes");
    bool ok = list != NULL;

    for (int i = 0; ok && i < d->n_sizes; i++) {
        const struct trained_size *size = &d->sizes[i];

        if (size->width % unit == 0 && size->height % unit == 0) { /* else it cannot be made */
            ok = add_size(list, size->width, size->height);
        }
    }
    if (ok && d->n_sizes == 0) {
        ok = add_size(list, d->width, d->height);
    }
    return ok && cJSON_AddBoolToObject(o, "any_size", d->n_sizes == 0) &&
           cJSON_AddNumberToObject(o, "size_multiple", (double)unit) &&
           cJSON_AddNumberToObject(o, "default_width", (double)d->width) &&
           cJSON_AddNumberToObject(o, "default_height", (double)d->height) &&
           cJSON_AddNumberToObject(o, "min_side", (double)smallest_side(d)) &&
           cJSON_AddNumberToObject(o, "max_side", SIDE_MAX) &&
           cJSON_AddNumberToObject(o, "max_pixels", PIXELS_MAX);
}

static bool add_lengths(cJSON *o, const struct model *model)
{
    const struct model_defaults *d = &model->dir->defaults;
    const int64_t stride = model->dir->vae.stride_t;
    const int64_t block = vae_streams(model->vae) ? d->block_latent_frames * stride : d->frames;

    return cJSON_AddNumberToObject(o, "fps", d->fps) &&
           cJSON_AddNumberToObject(o, "frame_multiple", (double)stride) &&
           cJSON_AddNumberToObject(o, "frame_offset", 1) &&
           cJSON_AddNumberToObject(o, "default_frames", (double)d->frames) &&
           cJSON_AddNumberToObject(o, "max_frames", FRAMES_MAX) &&
           cJSON_AddNumberToObject(o, "block_frames", (double)block);
}

static bool add_numbers(cJSON *o, const struct model_defaults *d)
{
    const bool fixed = d->sampler == SAMPLER_LONGLIVE; /* as many steps as its list has */

    return cJSON_AddNumberToObject(o, "default_steps", fixed ? d->n_renoise : d->steps) &&
           cJSON_AddNumberToObject(o, "min_steps", fixed ? d->n_renoise : 1) &&
           cJSON_AddNumberToObject(o, "max_steps", fixed ? d->n_renoise : SAMPLER_MAX_STEPS) &&
           cJSON_AddNumberToObject(o, "guidance_scale", d->guidance_scale) &&
           cJSON_AddNumberToObject(o, "flow_shift", d->flow_shift) &&
           cJSON_AddNumberToObject(o, "motion_score", d->motion_score) &&
           cJSON_AddNumberToObject(o, "max_prompt_tokens", (double)d->max_prompt_tokens);
}

cJSON *worker_facts(const struct model *model)
{
    const struct model_dir *dir = model->dir;
    const double weights = (double)weights_total_bytes(dir->transformer_weights) +
                           (double)weights_total_bytes(dir->text_encoder_weights) +
                           (double)weights_total_bytes(dir->vae_weights);
    cJSON *o = cJSON_CreateObject();

    if (add_names(o, &dir->defaults) &&
        cJSON_AddStringToObject(o, "family", model_family_name(dir->family)) &&
        cJSON_AddBoolToObject(o, "causal", dir->transformer.causal) &&
        cJSON_AddBoolToObject(o, "image", true) && /* model_open() loads every VAE's encoder */
        cJSON_AddStringToObject(o, "device", model->dev->name) &&
        cJSON_AddNumberToObject(o, "weights_bytes", weights) && add_sizes(o, dir) &&
        add_lengths(o, model) && add_numbers(o, &dir->defaults)) {
        return o;
    }
    cJSON_Delete(o);
    return NULL;
}
