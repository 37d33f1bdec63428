#include "engine/vae_wan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/vae_files.h"

enum {
    H = 2,
    W = 3,
    MAX_CALLS = 8
};

/* A VAE on a device. */
struct bed {
    struct device dev;
    struct weights *weights;
    struct vae_config config;
    struct vae_wan *vae;
};

static void bed_open(struct bed *b, int threads, struct weights *weights,
                     const struct vae_config *config)
{
    struct err err;

    *b = (struct bed){.weights = weights, .config = *config};
    EXPECT_OK(device_open_cpu(&b->dev, threads, &err));
    EXPECT_OK(
        vae_wan_open(&b->vae, &config->wan, weights, &b->dev, VAE_DECODER | VAE_ENCODER, &err));
}

static void bed_open_golden(struct bed *b, int threads)
{
    struct vae_config config;

    vae_files_config("tiny-480p", &config);
    bed_open(b, threads, vae_files_golden("tiny-480p"), &config);
}

static void bed_close(struct bed *b)
{
    vae_wan_close(b->vae);
    weights_close(b->weights);
    device_close(&b->dev);
}

/* A decode of latents z[t] in calls of given sizes; `skip` latents are passed over at the start. */
struct decode {
    struct bed *b;
    const float *z;
    int64_t skip;
    bool steady;
    enum vae_space space;
    int64_t calls[MAX_CALLS]; /* ends with 0 */
    float *out;               /* all pictures, one after the other */
    int64_t frames;           /* that were made */
};

static int64_t picture_floats(const struct bed *b)
{
    return b->config.stride_s * b->config.stride_s * H * W * 3;
}

static void run_decode(struct workspace *ws, void *ctx)
{
    struct decode *d = ctx;
    const int64_t c = d->b->config.latent_channels;
    const int64_t s = d->b->config.stride_s;
    struct vae_wan_stream *stream = NULL;
    int64_t at = d->skip;
    struct err err;

    d->frames = 0;
    EXPECT_OK(vae_wan_stream_open(&stream, d->b->vae, H, W, &err));
    if (d->steady) {
        EXPECT_OK(vae_wan_stream_reset(stream, true, &err));
    }
    for (int i = 0; d->calls[i] > 0; i++) {
        const int64_t n = vae_wan_stream_frames(stream, d->calls[i]);
        struct tensor z = TENSOR_F32((float *)d->z + at * H * W * c, d->calls[i], H, W, c);
        struct tensor out =
            TENSOR_F32(d->out + d->frames * picture_floats(d->b), n, H * s, W * s, 3);

        EXPECT_OK(vae_wan_decode(stream, &z, d->space, ws, &out, &err));
        at += d->calls[i];
        d->frames += n;
    }
    vae_wan_stream_close(stream);
}

/* Returns the pictures; free() them. */
static float *decode(struct decode *d)
{
    int64_t t = 0;

    for (int i = 0; d->calls[i] > 0; i++) {
        t += d->calls[i];
    }
    d->out = test_alloc((size_t)(t * d->b->config.stride_t * picture_floats(d->b)) * sizeof(float));
    vae_files_run(&d->b->dev, run_decode, d);
    return d->out;
}

static float *random_latents(const struct bed *b, int64_t t)
{
    const int64_t n = t * H * W * b->config.latent_channels;
    float *z = test_alloc((size_t)n * sizeof(*z));

    test_fill(z, n, 21);
    return z;
}

static bool same_pictures(const struct bed *b, const float *x, const float *y, int64_t n)
{
    return memcmp(x, y, (size_t)(n * picture_floats(b)) * sizeof(float)) == 0;
}

TEST(vae_wan_knows_its_strides_memory_and_counts)
{
    struct vae_wan_stream *s = NULL;
    struct bed b;
    struct err err;

    bed_open_golden(&b, 1);
    EXPECT_INT(vae_wan_stride_t(b.vae), 4);
    EXPECT_INT(vae_wan_stride_s(b.vae), 8);
    EXPECT_INT(vae_wan_memory(b.vae), 38); /* MODEL 6.3: about 37.5 */
    /* MODEL 6.3: 944286720 elements at base 96; conv_in's 2 x 16 channels do not shrink with it */
    EXPECT_INT(vae_wan_stream_bytes(b.vae, 60, 104), ((944286720L - 199680) / 12 + 199680) * 4);
    EXPECT_OK(vae_wan_stream_open(&s, b.vae, H, W, &err));
    EXPECT_INT(vae_wan_stream_frames(s, 0), 0);
    EXPECT_INT(vae_wan_stream_frames(s, 1), 1);
    EXPECT_INT(vae_wan_stream_frames(s, 21), 81);
    EXPECT_OK(vae_wan_stream_reset(s, true, &err));
    EXPECT_INT(vae_wan_stream_frames(s, 10), 40);
    vae_wan_stream_close(s);
    bed_close(&b);
}

/* All ways to cut the latents into calls against the pictures of one. */
static void expect_same_in_pieces(struct bed *b, const float *z, const float *first)
{
    static const int64_t calls[][MAX_CALLS] = {{6}, {1, 1, 1, 1, 1, 1}, {1, 5}, {2, 3, 1}, {3, 3}};

    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct decode d = {.b = b, .z = z};
        float *out;

        memcpy(d.calls, calls[i], sizeof(d.calls));
        out = decode(&d);
        EXPECT_INT(d.frames, 21);
        EXPECT(same_pictures(b, out, first, 21));
        free(out);
    }
}

TEST(vae_wan_decodes_the_same_bytes_in_any_pieces_and_threads)
{
    struct bed b;
    struct decode d = {.b = &b, .calls = {6}};
    float *first;
    float *z;

    bed_open_golden(&b, 1);
    d.z = z = random_latents(&b, 6);
    first = decode(&d);
    bed_close(&b);
    for (int threads = 1; threads <= 3; threads++) {
        bed_open_golden(&b, threads);
        expect_same_in_pieces(&b, z, first);
        bed_close(&b);
    }
    free(first);
    free(z);
}

/* How many of the last two latent frames' pictures a resumed decode gets right to the last bit,
 * when it has seen `seen` frames before them from a steady start. */
static int64_t right_after_resume(struct bed *b, const float *z, const float *whole, int64_t t,
                                  int64_t seen)
{
    const int64_t n = 2 * b->config.stride_t;
    struct decode d = {.b = b, .z = z, .skip = t - 2 - seen, .steady = true, .calls = {seen, 2}};
    float *out = decode(&d);
    int64_t right = 0;

    EXPECT_INT(d.frames, (seen + 2) * b->config.stride_t);
    for (int64_t i = 0; i < n; i++) {
        right += same_pictures(
            b, out + (d.frames - n + i) * picture_floats(b),
            whole + (1 + (t - 1) * b->config.stride_t - n + i) * picture_floats(b), 1);
    }
    free(out);
    return right;
}

static void check_steady_start(struct bed *b, bool exact)
{
    const int64_t memory = vae_wan_memory(b->vae);
    const int64_t t = memory + 6;
    float *z = random_latents(b, t);
    struct decode d = {.b = b, .z = z, .calls = {t}};
    float *whole = decode(&d);

    EXPECT_INT(right_after_resume(b, z, whole, t, memory), 2 * b->config.stride_t);
    if (exact) { /* one frame less is too little, or the test would prove nothing */
        EXPECT(right_after_resume(b, z, whole, t, memory - 1) < 2 * b->config.stride_t);
    }
    free(whole);
    free(z);
}

TEST(vae_wan_rebuilds_its_caches_from_a_steady_start)
{
    struct bed b;

    bed_open_golden(&b, 2);
    check_steady_start(&b, true);
    bed_close(&b);
}

/* Shapes of network that are not published: their streaming must be exact too. */
TEST(vae_wan_runs_other_configurations)
{
    static const struct vae_wan_config wan[] = {
        {.base_dim = 4, .decoder_base_dim = 6, .levels = 1, .dim_mult = {2}, .num_res_blocks = 1},
        {.base_dim = 4,
         .decoder_base_dim = 4,
         .levels = 2,
         .dim_mult = {1, 3},
         .num_res_blocks = 1,
         .temporal_downsample = {true}},
        {.base_dim = 5,
         .decoder_base_dim = 4,
         .levels = 3,
         .dim_mult = {1, 2, 2},
         .num_res_blocks = 1,
         .temporal_downsample = {true, false}},
        {.base_dim = 2,
         .decoder_base_dim = 2,
         .levels = 2,
         .dim_mult = {1, 1},
         .num_res_blocks = 2},
    };
    static const char *const names[] = {"wan0", "wan1", "wan2", "wan3"};

    for (size_t i = 0; i < ARRAY_LEN(wan); i++) {
        struct vae_config config = {
            .kind = VAE_WAN, .latent_channels = 3, .stride_t = 1, .stride_s = 1, .wan = wan[i]};
        struct bed b;

        config.wan.z_dim = 3;
        for (int c = 0; c < 3; c++) {
            config.wan.latents_std[c] = 1.5F;
        }
        for (int l = 0; l + 1 < wan[i].levels; l++) {
            config.stride_s *= 2;
            config.stride_t *= wan[i].temporal_downsample[l] ? 2 : 1;
        }
        bed_open(&b, 2, vae_files_random(names[i], &config), &config);
        EXPECT_INT(weights_unused(b.weights, NULL, 0), 0);
        EXPECT_INT(vae_wan_stride_t(b.vae), config.stride_t);
        check_steady_start(&b, false);
        bed_close(&b);
    }
}

TEST(vae_wan_decodes_normalised_and_raw_latents)
{
    struct bed b;
    float *z;
    float *raw;
    float *out[2];

    bed_open_golden(&b, 1);
    z = random_latents(&b, 2);
    raw = random_latents(&b, 2);
    for (int64_t i = 0; i < 2L * H * W * 16; i++) {
        raw[i] = z[i] * b.config.wan.latents_std[i % 16] + b.config.wan.latents_mean[i % 16];
    }
    for (int i = 0; i < 2; i++) {
        struct decode d = {
            .b = &b, .z = i ? raw : z, .space = i ? VAE_RAW : VAE_NORMALISED, .calls = {2}};

        out[i] = decode(&d);
    }
    EXPECT_CLOSE(out[0], out[1], 5 * picture_floats(&b), 0, 1e-5);
    for (int64_t i = 0; i < 5 * picture_floats(&b); i++) {
        EXPECT(fabsf(out[0][i]) <= 1);
    }
    free(out[0]);
    free(out[1]);
    free(raw);
    free(z);
    bed_close(&b);
}

struct encode {
    struct bed *b;
    struct tensor video;
    struct vae_wan_posterior p;
};

static void run_encode(struct workspace *ws, void *ctx)
{
    struct encode *e = ctx;
    struct err err;

    EXPECT_OK(vae_wan_encode(e->b->vae, &e->video, ws, &e->p, &err));
}

enum {
    CLIP = 9,
    CLIP_LATENTS = 3,
    CELLS = H * W * 16,
    PIXELS = H * W * 64 * 3,
};

/* What a clip was encoded to. */
struct encoded {
    float normalised[CLIP_LATENTS * CELLS];
    float mean[CLIP_LATENTS * CELLS];
    float logvar[CLIP_LATENTS * CELLS];
};

static bool same_bytes(const void *x, const void *y, size_t n)
{
    return memcmp(x, y, n) == 0;
}

static void encode(struct bed *b, float *video, int64_t frames, struct encoded *ret)
{
    const int64_t t = (frames - 1) / 4 + 1;
    struct tensor normalised = TENSOR_F32(ret->normalised, t, H, W, 16);
    struct tensor mean = TENSOR_F32(ret->mean, t, H, W, 16);
    struct tensor logvar = TENSOR_F32(ret->logvar, t, H, W, 16);
    struct encode e = {.b = b, .p = {&normalised, &mean, &logvar}};

    e.video = TENSOR_F32(video, frames, 8L * H, 8L * W, 3);
    vae_files_run(&b->dev, run_encode, &e);
}

TEST(vae_wan_encodes_the_same_bytes_with_any_number_of_threads)
{
    static float video[CLIP * PIXELS];
    static struct encoded first;
    static struct encoded again;

    test_fill(video, ARRAY_LEN(video), 31);
    for (int threads = 1; threads <= 3; threads++) {
        struct bed b;

        bed_open_golden(&b, threads);
        encode(&b, video, CLIP, threads == 1 ? &first : &again);
        bed_close(&b);
        EXPECT(threads == 1 || same_bytes(&first, &again, sizeof(first)));
    }
}

TEST(vae_wan_encodes_a_picture_like_the_first_of_a_clip)
{
    static float video[CLIP * PIXELS];
    static struct encoded clip;
    static struct encoded picture;
    struct bed b;

    test_fill(video, ARRAY_LEN(video), 31);
    bed_open_golden(&b, 2);
    encode(&b, video, CLIP, &clip);
    encode(&b, video, 1, &picture);
    EXPECT(same_bytes(clip.normalised, picture.normalised, CELLS * sizeof(float)));
    for (int i = 0; i < CLIP_LATENTS * CELLS; i++) {
        const float want =
            (clip.mean[i] - b.config.wan.latents_mean[i % 16]) / b.config.wan.latents_std[i % 16];

        EXPECT(fabsf(clip.normalised[i] - want) < 1e-5F);
        EXPECT(clip.logvar[i] >= -30 && clip.logvar[i] <= 20);
    }
    bed_close(&b);
}

TEST(vae_wan_refuses_what_does_not_fit)
{
    static float data[8 * 48 * 64];
    struct tensor z = TENSOR_F32(data, 2, H, W, 16);
    struct tensor out = TENSOR_F32(data, 5, 8L * H, 8L * W, 3);
    struct tensor video = TENSOR_F32(data, 3, 8L * H, 8L * W, 3);
    const struct vae_wan_posterior p = {.mean = &z};
    struct vae_wan_stream *s = NULL;
    struct workspace ws;
    struct bed b;
    struct err err;

    bed_open_golden(&b, 1);
    workspace_init(&ws, &b.dev);
    EXPECT_INT(vae_wan_stream_open(&s, b.vae, 0, 4, &err), ERR_INVALID);
    EXPECT_INT(vae_wan_stream_open(&s, b.vae, 4, 1 << 20, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "4 x 1048576 latents");
    EXPECT_OK(vae_wan_stream_open(&s, b.vae, H, W, &err));
    out.dim[0] = 8;
    EXPECT_INT(vae_wan_decode(s, &z, VAE_RAW, &ws, &out, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "out is F32[8, 16, 24, 3]");
    z.dim[2] = 4;
    EXPECT_INT(vae_wan_decode(s, &z, VAE_RAW, &ws, &out, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "z is F32[2, 2, 4, 16]");
    EXPECT_INT(vae_wan_encode(b.vae, &video, &ws, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "video is");
    video.dim[0] = 5;
    EXPECT_INT(vae_wan_encode(b.vae, &video, &ws, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "mean is");
    vae_wan_stream_close(s);
    bed_close(&b);
}

TEST(vae_wan_takes_every_tensor_whichever_half_is_loaded)
{
    static const unsigned halves[] = {VAE_DECODER, VAE_ENCODER, VAE_DECODER | VAE_ENCODER};
    struct vae_config config;
    struct device dev;
    struct err err;

    vae_files_config("tiny-480p", &config);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (size_t i = 0; i < ARRAY_LEN(halves); i++) {
        struct weights *w = vae_files_golden("tiny-480p");
        struct vae_wan *vae = NULL;

        EXPECT_OK(vae_wan_open(&vae, &config.wan, w, &dev, halves[i], &err));
        EXPECT_INT(weights_unused(w, NULL, 0), 0);
        vae_wan_close(vae);
        weights_close(w);
    }
    config.wan.num_res_blocks = 3; /* the file has two */
    {
        struct weights *w = vae_files_golden("tiny-480p");
        struct vae_wan *vae = NULL;

        EXPECT_INT(vae_wan_open(&vae, &config.wan, w, &dev, VAE_DECODER, &err), ERR_FORMAT);
        EXPECT_CONTAINS(err.msg, "decoder.up_blocks.0.resnets.3.norm1.gamma is missing");
        EXPECT(!vae);
        weights_close(w);
    }
    device_close(&dev);
}

TEST(vae_wan_survives_failed_allocations)
{
    struct weights *w = vae_files_golden("tiny-480p");
    struct vae_config config;
    struct device dev;
    bool failed;
    long n = 1;
    struct err err;

    vae_files_config("tiny-480p", &config);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (failed = true; failed; n++) {
        struct vae_wan_stream *s = NULL;
        struct vae_wan *vae = NULL;
        int rc;

        alloc_fail_at(n);
        rc = vae_wan_open(&vae, &config.wan, w, &dev, VAE_DECODER | VAE_ENCODER, &err);
        if (rc == ERR_OK) {
            rc = vae_wan_stream_open(&s, vae, H, W, &err);
        }
        failed = alloc_fail_stop();
        EXPECT_INT(rc, failed ? ERR_NO_MEMORY : ERR_OK);
        vae_wan_stream_close(s);
        vae_wan_close(vae);
    }
    EXPECT(n > 100);
    device_close(&dev);
    weights_close(w);
}
