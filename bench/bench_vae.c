/*
 * The Wan decoder on made-up weights: a third of the published width, at 208x120 pixels.
 */

#include "base/clock.h"
#include "bench/bench.h"
#include "bench/random_weights.h"
#include "engine/model_expect.h"
#include "engine/vae_wan.h"

enum {
    LATENT_H = 15,
    LATENT_W = 26,
    STEADY_FRAMES = 3
};

static const struct vae_config config = {
    .kind = VAE_WAN,
    .latent_channels = 16,
    .stride_t = 4,
    .stride_s = 8,
    .wan = {.base_dim = 32,
            .decoder_base_dim = 32,
            .z_dim = 16,
            .levels = 4,
            .dim_mult = {1, 2, 4, 4},
            .num_res_blocks = 2,
            .temporal_downsample = {false, true, true},
            .latents_std = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
};

/* Multiplications and additions of one latent frame behind the first: MODEL 9.4's count. */
static double flop_per_latent(void)
{
    const struct vae_wan_config *c = &config.wan;
    const int64_t cells = LATENT_H * (int64_t)LATENT_W;
    const int64_t deepest = c->decoder_base_dim * c->dim_mult[c->levels - 1];
    double macs = (double)cells * (double)(c->z_dim * c->z_dim + 27 * c->z_dim * deepest +
                                           108 * deepest * deepest + 4 * deepest * deepest) +
                  2.0 * (double)cells * (double)cells * (double)deepest;
    int64_t ci = deepest;
    int64_t pixels = cells; /* of all frames */
    int64_t co = deepest;

    for (int l = 0; l < c->levels; l++) {
        const bool last = l + 1 == c->levels;

        co = c->decoder_base_dim * c->dim_mult[c->levels - 1 - l];
        macs += (double)pixels * (double)(27 * co * (ci + (2 * c->num_res_blocks + 1) * co) +
                                          (ci != co ? ci * co : 0));
        if (!last && c->temporal_downsample[c->levels - 2 - l]) {
            macs += (double)pixels * (double)(6 * co * co);
            pixels *= 2;
        }
        if (!last) {
            pixels *= 4;
            macs += (double)pixels * 4.5 * (double)(co * co);
            ci = co / 2;
        }
    }
    return 2.0 * (macs + (double)pixels * (double)(27 * co * 3));
}

/* The second latent frame plans the workspace; the ones after it are timed. */
static int time_decode(struct vae_wan *vae, struct device *dev, struct workspace *ws,
                       double *ret_seconds, struct err *err)
{
    const int64_t frames[] = {1, config.stride_t};
    static float z_data[LATENT_H * LATENT_W * 16];
    const int64_t h = LATENT_H;
    const int64_t w = LATENT_W;
    struct tensor z = TENSOR_F32(z_data, 1, h, w, 16);
    struct vae_wan_stream *stream = NULL;
    double best = 1e9;
    int rc = vae_wan_stream_open(&stream, vae, h, w, err);

    for (size_t i = 0; i < ARRAY_LEN(z_data); i++) {
        z_data[i] = (float)(i * 37 % 101) / 50.0F - 1.0F;
    }
    for (int t = 0; t < 2 + STEADY_FRAMES && rc == ERR_OK; t++) {
        const size_t mark = workspace_mark(ws);
        const int64_t start = clock_now_ns();
        struct tensor out;

        rc = WORKSPACE_F32(ws, &out, err, frames[t > 0], 8 * h, 8 * w, 3);
        if (rc == ERR_OK) {
            rc = vae_wan_decode(stream, &z, VAE_NORMALISED, ws, &out, err);
        }
        if (t > 1) {
            const double seconds = clock_seconds(clock_now_ns() - start);

            best = seconds < best ? seconds : best;
        }
        workspace_rewind(ws, mark);
    }
    vae_wan_stream_close(stream);
    *ret_seconds = dev->dry_run ? 0 : best;
    return rc;
}

static int run(struct weights *weights, struct device *dev, double *ret_seconds, struct err *err)
{
    struct vae_wan *vae = NULL;
    struct workspace ws;
    int rc = vae_wan_open(&vae, &config.wan, weights, dev, VAE_DECODER, err);

    workspace_init(&ws, dev);
    if (rc == ERR_OK) {
        dev->dry_run = true;
        rc = time_decode(vae, dev, &ws, ret_seconds, err);
        dev->dry_run = false;
    }
    if (rc == ERR_OK) {
        rc = workspace_commit(&ws, 0, err);
    }
    if (rc == ERR_OK) {
        rc = time_decode(vae, dev, &ws, ret_seconds, err);
    }
    workspace_done(&ws);
    vae_wan_close(vae);
    return rc;
}

static bool enumerate(void *config_, model_expect_fn fn, void *ctx)
{
    return model_expect_vae(config_, fn, ctx);
}

int bench_wan_decode(struct device *dev, double *ret_gflops, struct err *err)
{
    struct weights *weights = NULL;
    double seconds = 0;
    int rc = random_weights_open(&weights, enumerate, (void *)(uintptr_t)&config, err);

    if (rc == ERR_OK) {
        rc = run(weights, dev, &seconds, err);
    }
    weights_close(weights);
    if (rc == ERR_OK) {
        *ret_gflops = flop_per_latent() / seconds * 1e-9;
    }
    return rc;
}
