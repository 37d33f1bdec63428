/*
 * Checkers of whole videos: prompts through a session, with recorded noise, to frames in [0, 1].
 */
#include <stdio.h>
#include <string.h>

#include "engine/session_internal.h"
#include "tests/golden_runner/support.h"

enum {
    MAX_PROMPTS = 8,
    MAX_CHUNKS = 16,
    MAX_LIST = 16
};

struct e2e_check {
    struct golden_bench *b;
    struct tensor noise; /* [T, h, w, C] */
    int chunks;          /* of the causal form; 0 otherwise */
    int64_t starts[MAX_CHUNKS + 1];
    float *frames; /* [F, 3, H, W] in [0, 1] */
    int64_t n_frames, width, height;
    float *latents; /* [T, h, w, C] */
};

static int recorded_noise(void *ctx, int64_t first, int step, const struct tensor *y,
                          struct err *err)
{
    struct e2e_check *k = ctx;
    struct tensor noise = k->noise;
    int chunk = 0;
    char key[64];
    int rc = ERR_OK;

    while (chunk + 1 < k->chunks && k->starts[chunk + 1] <= first) {
        chunk++;
    }
    if (step < 0) {
        noise = tensor_slice(&k->noise, first, y->dim[0]);
    } else {
        snprintf(key, sizeof(key), "in.chunk%d.noise%d", chunk, step);
        rc = golden_latents(k->b, key, 0, &noise, err);
    }
    return rc != ERR_OK ? rc : device_upload(k->b->c->dev, y, noise.data, err);
}

static int keep_rgb(void *ctx, const struct tensor *rgb, int64_t first, struct err *err)
{
    struct e2e_check *k = ctx;
    const int64_t hw = k->width * k->height;
    struct tensor host;

    if (rgb->dim[1] != k->height || rgb->dim[2] != k->width) {
        return golden_mismatch(err, "frames of another size");
    }
    if (golden_host(k->b, rgb, &host, err) != ERR_OK) {
        return err->code;
    }
    for (int64_t f = 0; f < rgb->dim[0] && first + f < k->n_frames; f++) {
        const float *in = (const float *)host.data + f * hw * 3;
        float *out = k->frames + (first + f) * hw * 3;

        golden_to_channels_first(out, in, 3, hw);
        for (int64_t i = 0; i < 3 * hw; i++) {
            const float v = out[i] * 0.5F + 0.5F;

            out[i] = v < 0.0F ? 0.0F : v > 1.0F ? 1.0F : v;
        }
    }
    return ERR_OK;
}

static int ignore_frame(void *ctx, const uint8_t *i420, int64_t index, struct err *err)
{
    (void)ctx;
    (void)i420;
    (void)index;
    (void)err;
    return ERR_OK;
}

/* The model's defaults become the case's. */
static void set_defaults(const struct golden_case *c, struct model_defaults *d)
{
    int64_t list[MAX_LIST];
    const int n = golden_ints(c, "denoising_step_list", list, MAX_LIST);

    d->max_prompt_tokens = (int64_t)golden_number(c, "max_sequence_length", 300);
    d->motion_score = 0;
    d->bf16_timesteps = false;
    d->block_latent_frames = (int64_t)golden_number(c, "base_chunk_frames", 5);
    d->flow_shift = golden_number(c, "flow_shift", d->flow_shift);
    for (int i = 0; i < n; i++) {
        d->renoise[i] = (double)list[i];
    }
    d->n_renoise = n > 0 ? n : d->n_renoise;
}

/* Prompts by block: params.prompts and chunk_prompt, or params.prompt alone. */
static void read_prompts(const struct golden_case *c, struct session_request *r,
                         struct session_switch *switches)
{
    const cJSON *prompts = cJSON_GetObjectItemCaseSensitive(c->params, "prompts");
    int64_t of[MAX_CHUNKS];
    const int n = golden_ints(c, "chunk_prompt", of, MAX_CHUNKS);

    r->prompt = golden_string(c, "prompt", "");
    r->negative_prompt = golden_string(c, "negative_prompt", "");
    r->switches = switches;
    if (!cJSON_IsArray(prompts)) {
        return;
    }
    r->prompt = cJSON_GetArrayItem(prompts, 0)->valuestring;
    for (int i = 1; i < n; i++) {
        if (of[i] != of[i - 1] && r->n_switches < MAX_PROMPTS) {
            switches[r->n_switches++] = (struct session_switch){
                .block = i, .text = cJSON_GetArrayItem(prompts, (int)of[i])->valuestring};
        }
    }
}

static int run_session(struct e2e_check *k, struct model *model,
                       const struct session_request *request, struct err *err)
{
    const struct session_callbacks callbacks = {.on_frame = ignore_frame};
    const struct session_hooks hooks = {.ctx = k, .noise = recorded_noise, .on_rgb = keep_rgb};
    struct session *s = NULL;
    int rc = session_open(&s, model, request, &callbacks, err);

    if (rc == ERR_OK) {
        session_set_hooks(s, &hooks);
    }
    while (rc == ERR_OK && !session_finished(s)) {
        struct geometry_block block;

        rc = session_next_block(s, &block, err);
        if (rc == ERR_OK) {
            rc = session_latents(s, k->latents + block.first * session_latent_frame_size(s), err);
        }
    }
    session_close(s);
    return rc;
}

static int check_video(struct golden_bench *b, struct model *model, struct err *err)
{
    const struct golden_case *c = b->c;
    struct session_switch switches[MAX_PROMPTS];
    struct session_request request = {.exact_size = true,
                                      .has_guidance = true,
                                      .guidance_scale = golden_number(c, "guidance_scale", 1),
                                      .steps = (int)golden_number(c, "steps", 0),
                                      .nvlabs_recache = true};
    struct e2e_check k = {.b = b};
    struct tensor frames;
    struct tensor latents;
    struct tensor image = {0};
    int rc = golden_tensor(c, "out.frames", &frames, err);

    if (rc == ERR_OK) {
        rc = golden_latents(b, safetensors_find(c->data, "in.noise") ? "in.noise" : "in.latents", 0,
                            &k.noise, err);
    }
    if (rc == ERR_OK) {
        rc = golden_image(b, &image, err);
        request.image = image.data;
    }
    if (rc != ERR_OK) {
        return rc;
    }
    read_prompts(c, &request, switches);
    k.chunks = golden_ints(c, "chunk_starts", k.starts, MAX_CHUNKS + 1) - 1;
    k.n_frames = request.frames = frames.dim[0];
    k.height = request.height = frames.dim[2];
    k.width = request.width = frames.dim[3];
    k.frames = golden_floats(b, tensor_count(&frames));
    k.latents = golden_floats(b, tensor_count(&k.noise));
    rc = run_session(&k, model, &request, err);
    if (rc == ERR_OK) {
        latents = k.noise;
        latents.data = k.latents;
        rc = golden_compare_latents(b, "out.latents", &latents, 1, err);
    }
    return rc != ERR_OK ? rc
                        : golden_compare(b->c, "out.frames", k.frames, tensor_count(&frames), err);
}

int golden_e2e(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct model *model = NULL;
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK) {
        rc = model_open(&model, c->model->path, c->dev, err);
    }
    if (rc == ERR_OK) {
        set_defaults(c, &model->dir->defaults);
        transformer_round_rope_tables(model->transformer, c->rope_bf16);
        text_encoder_round_rope_frequencies(model->text_encoder, c->rope_bf16);
        rc = check_video(&b, model, err);
    }
    model_close(model);
    golden_bench_close(&b);
    return rc;
}
