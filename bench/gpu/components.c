#include "bench/gpu/components.h"

#include <math.h>
#include <stdlib.h>

#include "engine/prompt.h"
#include "kernels/noise.h"

enum {
    MAX_FRAMES = 32
};

static const float TIMESTEP = 900;

struct job {
    struct model *model;
    struct component_shape shape;
    struct workspace ws;
    struct vae_stream *stream;        /* owned */
    struct tensor input, embeds, out; /* without data: there is none */
};

/* ---- the components; each is run dry first ---- */

static int encode_text(struct job *j, struct err *err)
{
    const struct model_dir *dir = j->model->dir;
    struct prompt_tokens tokens = {0};
    int rc = prompt_synthetic(dir->defaults.max_prompt_tokens, dir->text_encoder.vocab_size,
                              &tokens, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&j->ws, &j->out, err, tokens.n_valid, dir->text_encoder.hidden_size);
    }
    if (rc == ERR_OK) {
        rc = prompt_encode(j->model->text_encoder, &tokens, &j->ws, &j->out, err);
    }
    prompt_tokens_done(&tokens);
    return rc;
}

static int noisy(struct job *j, struct tensor *ret, uint64_t seed, const int64_t dims[4],
                 struct err *err)
{
    const int rc = workspace_tensor(&j->ws, ret, DTYPE_F32, 4, dims, err);

    return rc == ERR_OK ? op_noise(j->ws.dev, ret, seed, 0, 0, err) : rc;
}

static int forward(struct job *j, const struct transformer_text *text, struct err *err)
{
    float times[MAX_FRAMES];
    const struct transformer_item item = {.x = &j->input, .v = &j->out, .text = text};
    const struct transformer_call call = {.n_items = 1, .items = &item, .timesteps = times};

    for (int i = 0; i < MAX_FRAMES; i++) {
        times[i] = TIMESTEP;
    }
    return transformer_forward(j->model->transformer, &j->ws, &call, err);
}

static int transform(struct job *j, struct err *err)
{
    const struct model_dir *dir = j->model->dir;
    const int64_t x[4] = {j->shape.frames, j->shape.h, j->shape.w, dir->transformer.in_channels};
    const int64_t text[4] = {1, 1, dir->defaults.max_prompt_tokens,
                             dir->transformer.caption_channels};
    struct transformer_text encoded;
    struct tensor rows;
    int rc = noisy(j, &j->input, 11, x, err);

    if (rc == ERR_OK) {
        rc = noisy(j, &j->embeds, 12, text, err);
    }
    if (rc == ERR_OK) {
        rc = workspace_tensor(&j->ws, &j->out, DTYPE_F32, 4, x, err);
    }
    if (rc == ERR_OK) {
        rows = TENSOR_RESHAPE(&j->embeds, text[2], text[3]);
        rc = transformer_encode_text(j->model->transformer, &j->ws, &rows, &encoded, err);
    }
    return rc == ERR_OK ? forward(j, &encoded, err) : rc;
}

static int decode(struct job *j, struct err *err)
{
    const struct vae_config *c = &j->model->dir->vae;
    const int64_t z[4] = {j->shape.frames, j->shape.h, j->shape.w, c->latent_channels};
    int rc = noisy(j, &j->input, 13, z, err);

    if (rc == ERR_OK) {
        rc = vae_stream_open(&j->stream, j->model->vae, j->shape.h, j->shape.w, err);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&j->ws, &j->out, err, vae_stream_frames(j->stream, j->shape.frames),
                           j->shape.h * c->stride_s, j->shape.w * c->stride_s, 3);
    }
    return rc == ERR_OK ? vae_decode(j->stream, &j->input, &j->ws, &j->out, err) : rc;
}

static int encode(struct job *j, struct err *err)
{
    const struct vae_config *c = &j->model->dir->vae;
    const int64_t picture[4] = {1, j->shape.h * c->stride_s, j->shape.w * c->stride_s, 3};
    int rc = noisy(j, &j->input, 14, picture, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&j->ws, &j->out, err, 1, j->shape.h, j->shape.w, c->latent_channels);
    }
    return rc == ERR_OK ? vae_encode_image(j->model->vae, &j->input, &j->ws, &j->out, err) : rc;
}

static int issue(struct job *j, enum component which, struct err *err)
{
    int (*const components[])(struct job *, struct err *) = {[COMPONENT_TEXT] = encode_text,
                                                             [COMPONENT_TRANSFORMER] = transform,
                                                             [COMPONENT_DECODER] = decode,
                                                             [COMPONENT_ENCODER] = encode};

    return components[which](j, err);
}

/* ---- around them ---- */

static int fetch(struct job *j, const struct tensor *t, float **ret, int64_t *ret_n,
                 struct err *err)
{
    if (!t->data) {
        return ERR_OK;
    }
    *ret_n = tensor_count(t);
    *ret = malloc(tensor_bytes(t));
    return *ret ? device_download(j->ws.dev, *ret, t, err)
                : err_set(err, ERR_NO_MEMORY, "%zu bytes of results", tensor_bytes(t));
}

static int plan(struct job *j, enum component which, struct err *err)
{
    int rc;

    j->ws.dev->dry_run = true;
    rc = issue(j, which, err);
    j->ws.dev->dry_run = false;
    vae_stream_close(j->stream);
    j->stream = NULL;
    return rc == ERR_OK ? workspace_commit(&j->ws, 0, err) : rc;
}

int component_run(struct component_run *ret, enum component which, struct model *model,
                  const struct component_shape *shape, struct err *err)
{
    struct job j = {.model = model, .shape = *shape};
    int rc;

    *ret = (struct component_run){0};
    CHECK_BUG(shape->frames <= MAX_FRAMES);
    workspace_init(&j.ws, model->dev);
    rc = plan(&j, which, err);
    if (rc == ERR_OK) {
        rc = issue(&j, which, err);
    }
    if (rc == ERR_OK) {
        rc = fetch(&j, &j.input, &ret->input, &ret->n_input, err);
    }
    if (rc == ERR_OK) {
        rc = fetch(&j, &j.embeds, &ret->embeds, &ret->n_embeds, err);
    }
    if (rc == ERR_OK) {
        rc = fetch(&j, &j.out, &ret->output, &ret->n_output, err);
    }
    for (int i = 0; i < 4; i++) {
        ret->output_dims[i] = j.out.dim[i];
    }
    vae_stream_close(j.stream);
    workspace_done(&j.ws);
    return rc;
}

void component_run_done(struct component_run *run)
{
    free(run->input);
    free(run->embeds);
    free(run->output);
    *run = (struct component_run){0};
}

double component_cosine(const struct component_run *a, const struct component_run *b)
{
    double ab = 0;
    double aa = 0;
    double bb = 0;

    if (a->n_output != b->n_output) {
        return NAN;
    }
    for (int64_t i = 0; i < a->n_output; i++) {
        ab += (double)a->output[i] * (double)b->output[i];
        aa += (double)a->output[i] * (double)a->output[i];
        bb += (double)b->output[i] * (double)b->output[i];
    }
    return ab / sqrt(aa * bb);
}

double component_psnr(const struct component_run *a, const struct component_run *b)
{
    double sum = 0;

    if (a->n_output != b->n_output) {
        return NAN;
    }
    for (int64_t i = 0; i < a->n_output; i++) {
        const double d = (double)a->output[i] - (double)b->output[i];

        sum += d * d;
    }
    return 10 * log10(4 * (double)a->n_output / sum);
}
