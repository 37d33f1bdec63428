/*
 * GET /v1/models and /v1/models/{id}: the one model that is loaded, and what it can do (API.md 3.15).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"
#include "jobs/job_spec.h"

/* Of the contract (API.md 3.3), as create_request_parse has them. */
enum {
    OUTPUT_MAX_PIXELS = 1920 * 1088, /* any model's pictures are resized up to this */
};

/* A tree being built: the first failure, which is want of memory, stays. */
struct tree {
    cJSON *o;
    bool *ok;
};

static void add(struct tree t, const char *name, cJSON *item)
{
    if (!item || !cJSON_AddItemToObject(t.o, name, item)) {
        cJSON_Delete(item);
        *t.ok = false;
    }
}

static void add_text(struct tree t, const char *name, const char *text)
{
    add(t, name, cJSON_CreateString(text));
}

static void add_number(struct tree t, const char *name, double value)
{
    add(t, name, cJSON_CreateNumber(value));
}

/* NULL when out of memory. */
static cJSON *strings(const char *const *text, int n)
{
    return n > 0 ? cJSON_CreateStringArray(text, n) : cJSON_CreateArray();
}

static cJSON *aliases(const struct model_facts *facts)
{
    static const char *const everywhere[] = {"sora-2", "sora-2-pro"};
    const char *name[FACTS_MAX_ALIASES + ARRAY_LEN(everywhere)];
    int n = 0;

    for (int i = 0; i < facts->n_aliases; i++) {
        name[n++] = facts->aliases[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(everywhere); i++) {
        bool known = strcmp(facts->id, everywhere[i]) == 0;

        for (int k = 0; k < facts->n_aliases; k++) {
            known = known || strcmp(facts->aliases[k], everywhere[i]) == 0;
        }
        if (!known) {
            name[n++] = everywhere[i];
        }
    }
    return strings(name, n);
}

static cJSON *native_sizes(const struct model_facts *facts)
{
    const struct model_size standard = {facts->default_width, facts->default_height};
    const struct model_size *sizes = facts->n_sizes > 0 ? facts->sizes : &standard;
    const int n = facts->n_sizes > 0 ? facts->n_sizes : 1;
    char text[FACTS_MAX_SIZES][24];
    const char *pointers[FACTS_MAX_SIZES];

    for (int i = 0; i < n; i++) {
        snprintf(text[i], sizeof(text[i]), "%dx%d", sizes[i].width, sizes[i].height);
        pointers[i] = text[i];
    }
    return strings(pointers, n);
}

static void add_grid(struct tree t, const struct model_facts *facts)
{
    struct tree grid = {cJSON_CreateObject(), t.ok};

    add_number(grid, "multiple", facts->frame_multiple);
    add_number(grid, "offset", facts->frame_offset);
    add(t, "frame_grid", grid.o);
}

static void add_limits(struct tree t, const char *name, double standard, double min, double max)
{
    struct tree limits = {cJSON_CreateObject(), t.ok};

    add_number(limits, "default", standard);
    add_number(limits, "min", min);
    add_number(limits, "max", max);
    add(t, name, limits.o);
}

static void add_lengths(struct tree t, const struct api_limits *l, const struct model_facts *facts)
{
    const int64_t max_frames =
        facts->max_frames < l->max_frames ? facts->max_frames : l->max_frames;
    const int64_t frames = llround(FACTS_DEFAULT_SECONDS * facts->fps);
    const struct job_spec standard = {
        .num_frames = frames < max_frames ? frames : max_frames,
        .fps = facts->fps,
    };
    char seconds[24];

    job_spec_seconds(&standard, seconds);
    add_number(t, "fps_default", facts->fps);
    add_grid(t, facts);
    add_text(t, "seconds_default", seconds);
    add_number(t, "max_seconds", l->max_seconds);
    add_number(t, "max_frames", (double)max_frames);
    add_number(t, "block_frames", (double)facts->block_frames);
}

static void add_capabilities(struct tree model, const struct api_limits *l,
                             const struct model_facts *facts)
{
    static const char *const tasks[] = {"t2v", "i2v"};
    static const char *const pictures[] = {"image/png", "image/jpeg", "image/webp"};
    static const char *const containers[] = {"mp4", "cmaf", "hls"};
    struct tree t = {cJSON_CreateObject(), model.ok};

    add(t, "tasks", strings(tasks, facts->image ? 2 : 1));
    add(t, "native_sizes", native_sizes(facts));
    add_number(t, "max_pixels", facts->any_size ? (double)facts->max_pixels : OUTPUT_MAX_PIXELS);
    add_lengths(t, l, facts);
    add(t, "streaming", cJSON_CreateBool(facts->causal));
    add_limits(t, "steps", facts->default_steps, facts->min_steps, facts->max_steps);
    add_limits(t, "guidance_scale", facts->guidance_scale, 0, 20);
    add(t, "input_reference", strings(pictures, facts->image ? 3 : 0));
    add_number(t, "max_upload_bytes", (double)l->upload);
    add(t, "container", strings(containers, 3));
    add_text(t, "codec", "avc1");
    add(t, "audio", cJSON_CreateBool(false));
    add(model, "video_capabilities", t.o);
}

/* Into t, which is an empty object. */
static void fill_model(struct tree t, struct api *api)
{
    const struct model_facts *facts = jobs_facts(api->jobs);

    add_text(t, "id", facts->id);
    add_text(t, "object", "model");
    add_number(t, "created", (double)jobs_model_created(api->jobs));
    add_text(t, "owned_by", "sanad");
    add(t, "aliases", aliases(facts));
    add_capabilities(t, &api->limits, facts);
}

static bool is_loaded(struct api *api, struct http_request *req)
{
    if (!jobs_facts(api->jobs)) {
        api_refuse(req, API_MODEL_LOADING, "", "The model is being loaded.");
        return false;
    }
    return true;
}

void models_list(struct api *api, struct http_request *req, const char *id)
{
    bool ok = true;
    struct tree list;
    struct tree model = {NULL, &ok};
    cJSON *data;

    (void)id;
    if (!is_loaded(api, req)) {
        return;
    }
    list = (struct tree){cJSON_CreateObject(), &ok};
    add_text(list, "object", "list");
    data = cJSON_CreateArray();
    model.o = cJSON_CreateObject();
    fill_model(model, api);
    if (!cJSON_AddItemToArray(data, model.o)) {
        cJSON_Delete(model.o);
        ok = false;
    }
    add(list, "data", data);
    api_respond_tree(req, 200, list.o, ok);
}

void models_retrieve(struct api *api, struct http_request *req, const char *id)
{
    bool ok = true;
    struct tree model = {NULL, &ok};

    if (!is_loaded(api, req)) {
        return;
    }
    if (!model_facts_is_called(jobs_facts(api->jobs), id)) {
        api_refuse(req, API_MODEL_NOT_FOUND, "model", "There is no model '%s' here; it is '%s'.",
                   id, jobs_facts(api->jobs)->id);
        return;
    }
    model.o = cJSON_CreateObject();
    fill_model(model, api);
    api_respond_tree(req, 200, model.o, ok);
}
