/*
 * What the GPU computes, rather than how fast: bf16 against f32, the same video twice, and numbers for another
 * program to compare with.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "bench/gpu/components.h"
#include "bench/gpu/gpu_check.h"

enum {
    PATH_LEN = 4096,
    BLOCKS = 2
};

/* ---- bf16 against f32 ---- */

struct pair {
    const char *key, *name;
    enum component which;
    enum model_family family;
    struct component_shape shape, tiny;
    bool pictures;
    struct component_run run[2]; /* bf16, f32 */
    bool ran[2];
};

/* By family: its model is opened once for each precision. */
#define PAIRS                                                                                      \
    {                                                                                              \
        {"precision.text",                                                                         \
         "text encoder, bf16 against f32",                                                         \
         COMPONENT_TEXT,                                                                           \
         FAMILY_LONGSANA,                                                                          \
         {1, 1, 1},                                                                                \
         {1, 1, 1},                                                                                \
         false,                                                                                    \
         {{0}},                                                                                    \
         {0}},                                                                                     \
            {"precision.transformer",                                                              \
             "transformer, bf16 against f32",                                                      \
             COMPONENT_TRANSFORMER,                                                                \
             FAMILY_LONGSANA,                                                                      \
             {4, 30, 52},                                                                          \
             {2, 4, 4},                                                                            \
             false,                                                                                \
             {{0}},                                                                                \
             {0}},                                                                                 \
            {"precision.wan.decoder",                                                              \
             "Wan decoder, bf16 against f32",                                                      \
             COMPONENT_DECODER,                                                                    \
             FAMILY_LONGSANA,                                                                      \
             {3, 30, 52},                                                                          \
             {2, 2, 2},                                                                            \
             true,                                                                                 \
             {{0}},                                                                                \
             {0}},                                                                                 \
            {"precision.wan.encoder",                                                              \
             "Wan encoder, bf16 against f32",                                                      \
             COMPONENT_ENCODER,                                                                    \
             FAMILY_LONGSANA,                                                                      \
             {1, 30, 52},                                                                          \
             {1, 2, 2},                                                                            \
             false,                                                                                \
             {{0}},                                                                                \
             {0}},                                                                                 \
            {"precision.ltx2.decoder",                                                             \
             "LTX-2 decoder, bf16 against f32",                                                    \
             COMPONENT_DECODER,                                                                    \
             FAMILY_SANA_VIDEO_LTX2,                                                               \
             {2, 8, 12},                                                                           \
             {1, 2, 2},                                                                            \
             true,                                                                                 \
             {{0}},                                                                                \
             {0}},                                                                                 \
    }

static int run_family(struct gpu_check *c, struct pair *pairs, size_t n, enum model_family family,
                      int side, struct err *err)
{
    const struct model_synthetic_options o = gpu_check_model(c, family);
    struct model *model = NULL;
    struct device dev;
    int rc = gpu_check_open(&dev, side == 1, true, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = model_synthetic_open(&model, &o, &dev, err);
    for (size_t i = 0; i < n && model && rc != ERR_DEVICE; i++) {
        struct pair *p = &pairs[i];

        if (p->family == family) {
            rc = component_run(&p->run[side], p->which, model, c->tiny ? &p->tiny : &p->shape, err);
            p->ran[side] = rc == ERR_OK;
        }
        if (p->family == family && rc != ERR_OK) {
            err_prefix(err, "%s", p->name);
            gpu_check_note(c, err);
        }
    }
    model_close(model);
    device_close(&dev);
    return model && rc != ERR_DEVICE ? ERR_OK : rc;
}

static void compare(struct gpu_check *c, const struct pair *p)
{
    const double cosine = component_cosine(&p->run[0], &p->run[1]);

    gpu_check_limit(
        c, &(struct figure){.key = p->key, .name = p->name, .unit = "cosine", .value = cosine},
        c->tiny ? 0.999 : 0.9999);
    if (p->pictures) {
        gpu_check_limit(c,
                        &(struct figure){.key = p->key,
                                         .name = p->name,
                                         .unit = "dB PSNR",
                                         .value = component_psnr(&p->run[0], &p->run[1])},
                        45);
    }
}

int gpu_check_precision(struct gpu_check *c, struct err *err)
{
    struct pair pairs[] = PAIRS;
    const enum model_family families[] = {FAMILY_LONGSANA, FAMILY_SANA_VIDEO_LTX2};
    int rc = ERR_OK;

    for (int i = 0; i < 4 && rc == ERR_OK; i++) {
        rc = run_family(c, pairs, ARRAY_LEN(pairs), families[i / 2], i % 2, err);
    }
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (pairs[i].ran[0] && pairs[i].ran[1]) {
            compare(c, &pairs[i]);
        }
        component_run_done(&pairs[i].run[0]);
        component_run_done(&pairs[i].run[1]);
    }
    return rc;
}

/* ---- the same video ---- */

static int hash_frame(void *ctx, const uint8_t *i420, int64_t index, struct err *err)
{
    uint64_t *h = ctx;

    (void)index;
    (void)err;
    h[0] = hash_bytes(h[0], i420, (size_t)h[1]); /* h[1]: bytes of a picture */
    return ERR_OK;
}

static int make_video(const struct gpu_check *c, struct model *model, uint64_t *ret,
                      struct err *err)
{
    const int64_t side = c->tiny ? SIDE_MIN : 0;
    const int64_t per_block = c->tiny ? 2 : model->dir->defaults.block_latent_frames;
    const struct session_request r = {.prompt = "a ship at sea",
                                      .width = side,
                                      .height = side,
                                      .exact_size = c->tiny,
                                      .frames = 1 + 4 * (per_block * BLOCKS - 1)};
    uint64_t state[2] = {HASH_START, 0};
    const struct session_callbacks callbacks = {.ctx = state, .on_frame = hash_frame};
    struct session *s = NULL;
    struct geometry_block block;
    int rc;

    model->dir->defaults.block_latent_frames = per_block;
    rc = session_open(&s, model, &r, &callbacks, err);
    if (rc == ERR_OK) {
        const struct geometry_size *size = &session_settings(s)->size;

        state[1] = (uint64_t)(size->width * size->height / 2 * 3);
    }
    while (rc == ERR_OK && !session_finished(s)) {
        rc = session_next_block(s, &block, err);
    }
    session_close(s);
    *ret = state[0];
    return rc;
}

/* Twice with one model. */
static int make_two(const struct gpu_check *c, uint64_t ret[2], struct err *err)
{
    const struct model_synthetic_options o = gpu_check_model(c, FAMILY_LONGSANA);
    struct model *model = NULL;
    struct device dev;
    int rc = gpu_check_open(&dev, false, true, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = model_synthetic_open(&model, &o, &dev, err);
    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        rc = make_video(c, model, &ret[i], err);
    }
    model_close(model);
    device_close(&dev);
    return rc;
}

int gpu_check_same(struct gpu_check *c, struct err *err)
{
    uint64_t hash[4] = {0};
    double others = 0;
    int rc = make_two(c, hash, err);

    if (rc == ERR_OK) { /* and with a device that has forgotten everything */
        rc = make_two(c, hash + 2, err);
    }
    for (int i = 1; i < 4; i++) {
        others += hash[i] != hash[0];
    }
    if (rc == ERR_OK) {
        gpu_check_limit(c,
                        &(struct figure){.key = "same",
                                         .name = "a video made four times: others than the first",
                                         .unit = "videos",
                                         .value = others,
                                         .at_most = true},
                        0);
    }
    return rc;
}

/* ---- for pytorch.py ---- */

static int write_floats(const struct gpu_check *c, const char *name, const float *data, int64_t n,
                        struct err *err)
{
    char path[PATH_LEN];
    FILE *f;
    bool ok;

    snprintf(path, sizeof(path), "%s/%s.f32", c->dir, name);
    f = fopen(path, "wbe");
    if (!f) {
        return err_set(err, ERR_IO, "cannot write '%s': %m", path);
    }
    ok = fwrite(data, sizeof(*data), (size_t)n, f) == (size_t)n;
    ok = fclose(f) == 0 && ok;
    return ok ? ERR_OK : err_set(err, ERR_IO, "'%s' could not be written: %m", path);
}

static int write_shapes(const struct gpu_check *c, const struct model *m,
                        const struct component_shape *forward, const struct component_shape *decode,
                        struct err *err)
{
    const struct transformer_config *t = &m->dir->transformer;
    const struct vae_wan_config *v = &m->dir->vae.wan;
    char path[PATH_LEN];
    FILE *f;
    int n;

    snprintf(path, sizeof(path), "%s/shapes.json", c->dir);
    f = fopen(path, "we");
    if (!f) {
        return err_set(err, ERR_IO, "cannot write '%s': %m", path);
    }
    n = fprintf(
        f,
        "{\"forward\":[%lld,%lld,%lld],\"decode\":[%lld,%lld,%lld],\"timestep\":900,"
        "\"text\":%lld,\"channels\":%lld,\"heads\":%lld,\"head_dim\":%lld,\"layers\":%lld,"
        "\"caption\":%lld,\"mlp\":%lld,\"patch\":%lld,\"vae_dim\":%lld,\"vae_blocks\":%lld}\n",
        (long long)forward->frames, (long long)forward->h, (long long)forward->w,
        (long long)decode->frames, (long long)decode->h, (long long)decode->w,
        (long long)m->dir->defaults.max_prompt_tokens, (long long)t->in_channels,
        (long long)t->heads, (long long)t->head_dim, (long long)t->layers,
        (long long)t->caption_channels, (long long)t->mlp_hidden, (long long)t->patch_size,
        (long long)v->decoder_base_dim, (long long)v->num_res_blocks);
    return fclose(f) == 0 && n > 0 ? ERR_OK
                                   : err_set(err, ERR_IO, "'%s' could not be written: %m", path);
}

static int dump_component(const struct gpu_check *c, struct model *model, enum component which,
                          const struct component_shape *shape, struct err *err)
{
    const bool transformer = which == COMPONENT_TRANSFORMER;
    struct component_run run;
    int rc = component_run(&run, which, model, shape, err);

    if (rc == ERR_OK) {
        rc = write_floats(c, transformer ? "latents" : "z", run.input, run.n_input, err);
    }
    if (rc == ERR_OK && transformer) {
        rc = write_floats(c, "embeds", run.embeds, run.n_embeds, err);
    }
    if (rc == ERR_OK) {
        rc = write_floats(c, transformer ? "velocity" : "pixels", run.output, run.n_output, err);
    }
    component_run_done(&run);
    return rc;
}

int gpu_check_dump(struct gpu_check *c, struct err *err)
{
    const struct model_synthetic_options o = gpu_check_model(c, FAMILY_SANA_VIDEO_WAN);
    const struct component_shape forward = {c->tiny ? 2 : 10, c->tiny ? 4 : 60, c->tiny ? 6 : 104};
    const struct component_shape decode = {2, c->tiny ? 2 : 60, c->tiny ? 2 : 104};
    struct model *model = NULL;
    struct device dev;
    int rc = gpu_check_open(&dev, false, false, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = model_synthetic_open(&model, &o, &dev, err);
    if (rc == ERR_OK) {
        rc = write_shapes(c, model, &forward, &decode, err);
    }
    if (rc == ERR_OK) {
        rc = dump_component(c, model, COMPONENT_TRANSFORMER, &forward, err);
    }
    if (rc == ERR_OK) {
        rc = dump_component(c, model, COMPONENT_DECODER, &decode, err);
    }
    model_close(model);
    device_close(&dev);
    return rc;
}
