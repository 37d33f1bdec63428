/*
 * A transformer of the published width (20 heads of 112), two layers deep, on made-up weights: one
 * forward over 2 latent frames of 480x480 with a prompt of 300 tokens.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "bench/random_weights.h"
#include "engine/transformer.h"

enum {
    FRAMES = 2,
    SIDE = 60, /* latent cells */
    KEYS = 300,
    REPEATS = 3
};

static const struct transformer_config config = {
    .in_channels = 16,
    .out_channels = 16,
    .heads = 20,
    .head_dim = 112,
    .layers = 2,
    .cross_heads = 20,
    .cross_head_dim = 112,
    .caption_channels = 64,
    .mlp_hidden = 6720,
    .patch_size = 2,
    .sample_size = 30,
    .norm_eps = 1e-6F,
};

static bool enumerate(void *c, model_expect_fn fn, void *ctx)
{
    return model_expect_transformer(c, fn, ctx);
}

/* MODEL 9.1's count, for the layers only. */
static double flop(void)
{
    const double d = (double)(config.heads * config.head_dim);
    const double m = (double)config.mlp_hidden;
    const double hd = (double)config.head_dim;
    const double tokens = FRAMES * (SIDE / 2.0) * (SIDE / 2.0);
    const double per_token = 2 * 4 * d * d + 4 * d * hd + 2 * d + 2 * 2 * d * d + 4 * d * KEYS +
                             2 * d * 2 * m + 2 * 9 * 2 * m + 2 * m * d + 2 * 3 * d * d;

    return per_token * tokens * (double)config.layers;
}

struct forward {
    struct tensor x, embeds;
    double best;
};

static int run(struct transformer *tf, struct workspace *ws, struct forward *f, struct err *err)
{
    float times[FRAMES] = {500, 500};
    struct transformer_text text;
    struct tensor v;
    const struct transformer_item item = {.x = &f->x, .v = &v, .text = &text};
    const struct transformer_call call = {.n_items = 1, .items = &item, .timesteps = times};
    int rc = transformer_encode_text(tf, ws, &f->embeds, &text, err);

    if (rc == ERR_OK) {
        rc = workspace_tensor(ws, &v, DTYPE_F32, 4, f->x.dim, err);
    }
    for (int i = 0; i < REPEATS && rc == ERR_OK; i++) {
        const int64_t start = clock_now_ns();
        double seconds;

        rc = transformer_forward(tf, ws, &call, err);
        seconds = clock_seconds(clock_now_ns() - start);
        f->best = i == 0 || seconds < f->best ? seconds : f->best;
    }
    return rc;
}

static int plan_and_run(struct transformer *tf, struct device *dev, struct forward *f,
                        struct err *err)
{
    struct workspace ws;
    int rc;

    workspace_init(&ws, dev);
    dev->dry_run = true;
    rc = run(tf, &ws, f, err);
    dev->dry_run = false;
    if (rc == ERR_OK) {
        rc = workspace_commit(&ws, 0, err);
    }
    if (rc == ERR_OK) {
        rc = run(tf, &ws, f, err);
    }
    workspace_done(&ws);
    return rc;
}

int bench_transformer(struct device *dev, double *ret_gflops, struct err *err)
{
    const int64_t n = (int64_t)FRAMES * SIDE * SIDE * config.in_channels;
    const int64_t m = KEYS * config.caption_channels;
    float *data = malloc((size_t)(n + m) * sizeof(float));
    struct weights *weights = NULL;
    struct transformer *tf = NULL;
    struct forward f;
    int rc;

    if (!data) {
        return err_set(err, ERR_NO_MEMORY, "latents");
    }
    for (int64_t i = 0; i < n + m; i++) {
        data[i] = (float)(i * 37 % 101) / 50.0F - 1.0F;
    }
    f.x = TENSOR_F32(data, FRAMES, SIDE, SIDE, config.in_channels);
    f.embeds = TENSOR_F32(data + n, KEYS, config.caption_channels);
    rc = random_weights_open(&weights, enumerate, (void *)(uintptr_t)&config, err);
    if (rc == ERR_OK) {
        rc = transformer_open(&tf, &config, weights, dev, err);
    }
    if (rc == ERR_OK) {
        rc = plan_and_run(tf, dev, &f, err);
    }
    if (rc == ERR_OK) {
        *ret_gflops = flop() / f.best * 1e-9;
    }
    transformer_close(tf);
    weights_close(weights);
    free(data);
    return rc;
}
