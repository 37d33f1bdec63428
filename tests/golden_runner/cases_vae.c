/*
 * Checkers of the two VAEs. A decoder is given the recorded latents in each form they were recorded
 * in, normalised and raw: both must give the recorded pictures.
 */
#include <stdio.h>
#include <string.h>

#include "engine/vae_ltx2.h"
#include "engine/vae_wan.h"
#include "tests/golden_runner/support.h"

enum {
    MAX_TAPS = VAE_MAX_LEVELS + 1,
    TAP_NAME_LEN = 24
};

/* What left one stage of the decoder, gathered over the calls. */
struct gathered {
    char name[TAP_NAME_LEN]; /* "out.mid" */
    struct tensor all;       /* [T, H, W, C], T as recorded */
    int64_t frames;          /* so far */
};

struct vae_case {
    struct golden_bench *b;
    struct vae_wan *wan;
    struct vae_ltx2 *ltx2;
    struct tensor input; /* latents or video, channels last, host memory */
    enum vae_space space;
    bool causal;
    int n_taps;
    struct gathered tap[MAX_TAPS];
};

/* Copies x behind what `name` already has; a stage that was not recorded is passed over. */
static int gather(void *ctx, const char *stage, const struct tensor *x, struct err *err)
{
    struct vae_case *vc = ctx;
    char name[TAP_NAME_LEN];
    struct gathered *g = NULL;
    struct tensor to;
    struct tensor recorded;

    snprintf(name, sizeof(name), "out.%s", stage);
    for (int i = 0; i < vc->n_taps; i++) {
        g = strcmp(vc->tap[i].name, name) == 0 ? &vc->tap[i] : g;
    }
    if (!g) {
        if (golden_tensor(vc->b->c, name, &recorded, err) != ERR_OK) {
            return ERR_OK;
        }
        CHECK_BUG(vc->n_taps < MAX_TAPS && recorded.rank == 5);
        g = &vc->tap[vc->n_taps++];
        snprintf(g->name, sizeof(g->name), "%s", name);
        g->all = TENSOR_F32(golden_floats(vc->b, tensor_count(&recorded)), recorded.dim[2],
                            recorded.dim[3], recorded.dim[4], recorded.dim[1]);
    }
    if (x->rank != 4 || x->dim[1] != g->all.dim[1] || x->dim[2] != g->all.dim[2] ||
        x->dim[3] != g->all.dim[3] || g->frames + x->dim[0] > g->all.dim[0]) {
        return device_shape_err(err, name, "x", x);
    }
    to = tensor_slice(&g->all, g->frames, x->dim[0]);
    g->frames += x->dim[0];
    if (golden_host(vc->b, x, &recorded, err) != ERR_OK) {
        return err->code;
    }
    memcpy(to.data, recorded.data, tensor_bytes(&to));
    return ERR_OK;
}

static int compare_taps(struct vae_case *vc, struct err *err)
{
    int rc = ERR_OK;

    for (int i = 0; i < vc->n_taps && rc == ERR_OK; i++) {
        if (vc->tap[i].frames != vc->tap[i].all.dim[0]) {
            return golden_mismatch(err, "%s: %lld frames", vc->tap[i].name,
                                   (long long)vc->tap[i].frames);
        }
        rc = golden_compare_latents(vc->b, vc->tap[i].name, &vc->tap[i].all, 1, err);
    }
    return rc;
}

static int run_wan_decode(struct golden_bench *b, void *ctx, struct err *err)
{
    struct vae_case *vc = ctx;
    const struct tensor *z = &vc->input;
    const int64_t s = vae_wan_stride_s(vc->wan);
    struct vae_wan_stream *stream = NULL;
    struct tensor on_device;
    struct tensor out;
    int rc = vae_wan_stream_open(&stream, vc->wan, z->dim[1], z->dim[2], err);

    if (rc == ERR_OK) {
        vae_wan_stream_tap(stream, gather, vc);
        rc = golden_place(b, z, &on_device, err);
    }
    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &out, err, vae_wan_stream_frames(stream, z->dim[0]),
                           z->dim[1] * s, z->dim[2] * s, 3);
    }
    if (rc == ERR_OK) {
        rc = vae_wan_decode(stream, &on_device, vc->space, &b->ws, &out, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_on_device(b, "out.video", &out, 1, err);
    }
    if (rc == ERR_OK) {
        rc = compare_taps(vc, err);
    }
    vae_wan_stream_close(stream);
    return rc;
}

static int run_ltx2_decode(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct vae_case *vc = ctx;
    const struct tensor *z = &vc->input;
    const struct vae_ltx2_decode how = {.space = vc->space, .causal = vc->causal};
    const int64_t s = vae_ltx2_stride_s(vc->ltx2);
    struct tensor on_device;
    struct tensor out;
    int rc = golden_place(b, z, &on_device, err);

    if (rc == ERR_OK) {
        rc = WORKSPACE_F32(&b->ws, &out, err, 1 + (z->dim[0] - 1) * vae_ltx2_stride_t(vc->ltx2),
                           z->dim[1] * s, z->dim[2] * s, 3);
    }
    if (rc == ERR_OK) {
        rc = vae_ltx2_decode(vc->ltx2, &on_device, &how, &b->ws, &out, err);
    }
    return rc != ERR_OK ? rc : golden_compare_on_device(b, "out.video", &out, 1, err);
}

/* Runs fn on each form of the latents that the case has. */
static int decode_each(struct vae_case *vc, golden_run_fn fn, struct err *err)
{
    static const struct {
        const char *name;
        enum vae_space space;
    } forms[] = {{"in.z_normalised", VAE_NORMALISED}, {"in.z", VAE_RAW}};
    struct tensor unused;
    int ran = 0;
    int rc = ERR_OK;

    for (size_t i = 0; i < ARRAY_LEN(forms) && rc == ERR_OK; i++) {
        if (golden_tensor(vc->b->c, forms[i].name, &unused, err) != ERR_OK) {
            continue;
        }
        rc = golden_latents(vc->b, forms[i].name, 0, &vc->input, err);
        vc->space = forms[i].space;
        vc->n_taps = 0;
        if (rc == ERR_OK) {
            rc = golden_run(vc->b, fn, vc, err);
        }
        ran++;
    }
    return rc == ERR_OK && ran == 0 ? golden_mismatch(err, "no latents") : rc;
}

int golden_wan_decode(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct vae_case vc = {.b = &b};
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK) {
        rc = vae_wan_open(&vc.wan, &c->model->vae.wan, c->model->vae_weights, c->dev, VAE_DECODER,
                          err);
    }
    if (rc == ERR_OK) {
        rc = decode_each(&vc, run_wan_decode, err);
    }
    vae_wan_close(vc.wan);
    golden_bench_close(&b);
    return rc;
}

int golden_ltx2_decode(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct vae_case vc = {.b = &b, .causal = golden_bool(c, "causal", false)};
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK) {
        rc = vae_ltx2_open(&vc.ltx2, &c->model->vae.ltx2, c->model->vae_weights, c->dev,
                           VAE_DECODER, err);
    }
    if (rc == ERR_OK) {
        rc = decode_each(&vc, run_ltx2_decode, err);
    }
    vae_ltx2_close(vc.ltx2);
    golden_bench_close(&b);
    return rc;
}

/* [T, h, w, C] in the workspace, for a video */
static int latents_of(struct golden_bench *b, const struct tensor *video, int64_t stride_t,
                      int64_t stride_s, struct tensor *ret, struct err *err)
{
    return WORKSPACE_F32(&b->ws, ret, err, (video->dim[0] - 1) / stride_t + 1,
                         video->dim[1] / stride_s, video->dim[2] / stride_s,
                         b->c->model->vae.latent_channels);
}

static int run_wan_encode(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct vae_case *vc = ctx;
    struct tensor out[3];
    const struct vae_wan_posterior p = {&out[0], &out[1], &out[2]};
    struct tensor video;
    int rc = golden_place(b, &vc->input, &video, err);

    for (int i = 0; i < 3 && rc == ERR_OK; i++) {
        rc = latents_of(b, &video, vae_wan_stride_t(vc->wan), vae_wan_stride_s(vc->wan), &out[i],
                        err);
    }
    if (rc == ERR_OK) {
        rc = vae_wan_encode(vc->wan, &video, &b->ws, &p, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_on_device(b, "out.normalised", p.normalised, 1, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_on_device(b, "out.mean", p.mean, 1, err);
    }
    return rc != ERR_OK ? rc : golden_compare_on_device(b, "out.logvar", p.logvar, 1, err);
}

static int run_ltx2_encode(struct golden_bench *b, void *ctx, struct err *err)
{
    const struct vae_case *vc = ctx;
    struct tensor out[2];
    const struct vae_ltx2_posterior p = {&out[0], &out[1]};
    struct tensor video;
    int rc = golden_place(b, &vc->input, &video, err);

    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        rc = latents_of(b, &video, vae_ltx2_stride_t(vc->ltx2), vae_ltx2_stride_s(vc->ltx2),
                        &out[i], err);
    }
    if (rc == ERR_OK) {
        rc = vae_ltx2_encode(vc->ltx2, &video, &b->ws, &p, err);
    }
    if (rc == ERR_OK) {
        rc = golden_compare_on_device(b, "out.normalised", p.normalised, 1, err);
    }
    return rc != ERR_OK ? rc : golden_compare_on_device(b, "out.mean", p.mean, 1, err);
}

int golden_wan_encode(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct vae_case vc = {.b = &b};
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK) {
        rc = vae_wan_open(&vc.wan, &c->model->vae.wan, c->model->vae_weights, c->dev, VAE_ENCODER,
                          err);
    }
    if (rc == ERR_OK) {
        rc = golden_latents(&b, "in.video", 0, &vc.input, err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_wan_encode, &vc, err);
    }
    vae_wan_close(vc.wan);
    golden_bench_close(&b);
    return rc;
}

int golden_ltx2_encode(struct golden_case *c, struct err *err)
{
    struct golden_bench b;
    struct vae_case vc = {.b = &b};
    int rc = golden_bench_open(&b, c, false, err);

    if (rc == ERR_OK) {
        rc = vae_ltx2_open(&vc.ltx2, &c->model->vae.ltx2, c->model->vae_weights, c->dev,
                           VAE_ENCODER, err);
    }
    if (rc == ERR_OK) {
        rc = golden_latents(&b, "in.video", 0, &vc.input, err);
    }
    if (rc == ERR_OK) {
        rc = golden_run(&b, run_ltx2_encode, &vc, err);
    }
    vae_ltx2_close(vc.ltx2);
    golden_bench_close(&b);
    return rc;
}
