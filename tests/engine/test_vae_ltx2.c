#include "engine/vae_ltx2.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/vae_files.h"

enum {
    H = 2,
    W = 3
};

/* A VAE on a device. */
struct bed {
    struct device dev;
    struct weights *weights;
    struct vae_config config;
    struct vae_ltx2 *vae;
};

static void bed_open(struct bed *b, int threads, struct weights *weights,
                     const struct vae_config *config)
{
    struct err err;

    *b = (struct bed){.weights = weights, .config = *config};
    EXPECT_OK(device_open_cpu(&b->dev, threads, &err));
    EXPECT_OK(
        vae_ltx2_open(&b->vae, &config->ltx2, weights, &b->dev, VAE_DECODER | VAE_ENCODER, &err));
}

static void bed_open_golden(struct bed *b, int threads)
{
    struct vae_config config;

    vae_files_config("tiny-720p", &config);
    bed_open(b, threads, vae_files_golden("tiny-720p"), &config);
}

static void bed_close(struct bed *b)
{
    vae_ltx2_close(b->vae);
    weights_close(b->weights);
    device_close(&b->dev);
}

static int64_t picture_floats(const struct bed *b)
{
    return b->config.stride_s * b->config.stride_s * H * W * 3;
}

/* Decodes z, or encodes pictures to z. */
struct job {
    struct bed *b;
    struct tensor z, pictures;
    struct vae_ltx2_decode how;
    bool encode;
};

static void run_job(struct workspace *ws, void *ctx)
{
    struct job *j = ctx;
    const struct vae_ltx2_posterior p = {.normalised = &j->z};
    struct err err;

    if (j->encode) {
        EXPECT_OK(vae_ltx2_encode(j->b->vae, &j->pictures, ws, &p, &err));
    } else {
        EXPECT_OK(vae_ltx2_decode(j->b->vae, &j->z, &j->how, ws, &j->pictures, &err));
    }
}

/* t latent frames and their pictures, both random to begin with. */
static void job_init(struct job *j, struct bed *b, int64_t t, bool encode)
{
    const int64_t f = 1 + (t - 1) * b->config.stride_t;
    const int64_t s = b->config.stride_s;
    const int64_t c = b->config.latent_channels;
    const int64_t n = t * H * W * c;

    *j = (struct job){.b = b, .encode = encode};
    j->z = TENSOR_F32(test_alloc((size_t)n * sizeof(float)), t, H, W, c);
    j->pictures =
        TENSOR_F32(test_alloc((size_t)(f * picture_floats(b)) * sizeof(float)), f, H * s, W * s, 3);
    test_fill(j->z.data, n, 41);
    test_fill(j->pictures.data, f * picture_floats(b), 42);
}

static void job_done(struct job *j)
{
    free(j->z.data);
    free(j->pictures.data);
}

/* The same job once more. */
static void expect_same(const struct job *first, int threads)
{
    struct job again;
    struct bed b;

    bed_open_golden(&b, threads);
    job_init(&again, &b, 2, first->encode);
    vae_files_run(&b.dev, run_job, &again);
    EXPECT(memcmp(first->z.data, again.z.data, tensor_bytes(&again.z)) == 0);
    EXPECT(memcmp(first->pictures.data, again.pictures.data, tensor_bytes(&again.pictures)) == 0);
    job_done(&again);
    bed_close(&b);
}

TEST(vae_ltx2_gives_the_same_bytes_with_any_number_of_threads)
{
    for (int encode = 0; encode < 2; encode++) {
        struct job first;
        struct bed b;

        bed_open_golden(&b, 1);
        job_init(&first, &b, 2, encode);
        vae_files_run(&b.dev, run_job, &first);
        bed_close(&b);
        for (int threads = 1; threads <= 3; threads++) {
            expect_same(&first, threads);
        }
        job_done(&first);
    }
}

/* Does the decode of two latent frames begin like that of three? */
static bool begins_alike(struct bed *b, bool causal)
{
    struct job two;
    struct job three;
    bool alike;

    job_init(&two, b, 2, false);
    job_init(&three, b, 3, false);
    two.how.causal = three.how.causal = causal;
    vae_files_run(&b->dev, run_job, &two);
    vae_files_run(&b->dev, run_job, &three);
    alike = memcmp(two.pictures.data, three.pictures.data, tensor_bytes(&two.pictures)) == 0;
    job_done(&two);
    job_done(&three);
    return alike;
}

TEST(vae_ltx2_looks_ahead_unless_causal)
{
    struct bed b;

    bed_open_golden(&b, 2);
    EXPECT(begins_alike(&b, true));
    EXPECT(!begins_alike(&b, false));
    bed_close(&b);
}

TEST(vae_ltx2_encodes_causally)
{
    struct job one;
    struct job two;
    struct bed b;

    bed_open_golden(&b, 2);
    job_init(&one, &b, 1, true);
    job_init(&two, &b, 2, true);
    vae_files_run(&b.dev, run_job, &one);
    vae_files_run(&b.dev, run_job, &two);
    EXPECT(memcmp(one.z.data, two.z.data, tensor_bytes(&one.z)) == 0);
    job_done(&one);
    job_done(&two);
    bed_close(&b);
}

/* A level without a sampler, other widths, no residual; both padding modes the other way round. */
TEST(vae_ltx2_runs_other_configurations)
{
    static const struct vae_config config = {
        .kind = VAE_LTX2,
        .latent_channels = 4,
        .stride_t = 2,
        .stride_s = 4,
        .ltx2 = {.latent_channels = 4,
                 .encoder_levels = 3,
                 .block_out_channels = {8, 8, 16},
                 .layers_per_block = {1, 2, 1, 1},
                 .downsample = {LTX2_SPATIAL, LTX2_SPATIAL, LTX2_TEMPORAL},
                 .scaling = {true, false, true},
                 .decoder_levels = 2,
                 .decoder_block_out_channels = {4, 8},
                 .decoder_layers_per_block = {1, 2, 1},
                 .decoder_scaling = {false, true},
                 .upsample_factor = {1, 2},
                 .upsample_residual = {true, false},
                 .patch_size = 2,
                 .scaling_factor = 0.5F,
                 .decoder_causal = true,
                 .encoder_reflect = true},
    };
    struct job decode;
    struct job encode;
    struct bed b;

    bed_open(&b, 2, vae_files_random("ltx2", &config), &config);
    EXPECT_INT(weights_unused(b.weights, NULL, 0), 0);
    EXPECT_INT(vae_ltx2_stride_t(b.vae), 2);
    EXPECT_INT(vae_ltx2_stride_s(b.vae), 4);
    job_init(&decode, &b, 3, false);
    job_init(&encode, &b, 3, true);
    vae_files_run(&b.dev, run_job, &decode);
    vae_files_run(&b.dev, run_job, &encode);
    for (int64_t i = 0; i < tensor_count(&decode.pictures); i++) {
        EXPECT(isfinite(((float *)decode.pictures.data)[i]));
    }
    for (int64_t i = 0; i < tensor_count(&encode.z); i++) {
        EXPECT(isfinite(((float *)encode.z.data)[i]));
    }
    EXPECT(begins_alike(&b, false)); /* the config says causal */
    job_done(&decode);
    job_done(&encode);
    bed_close(&b);
}

/* normalised = (mean - latents_mean) * scaling_factor / latents_std, and back */
TEST(vae_ltx2_scales_latents_with_the_statistics_of_the_file)
{
    struct vae_config config;
    struct tensor mean;
    struct tensor std;
    struct job j[2];
    struct bed b;
    struct err err;

    vae_files_config("tiny-720p", &config);
    config.ltx2.scaling_factor = 0.5F;
    bed_open(&b, 2, vae_files_golden("tiny-720p"), &config);
    EXPECT_OK(WEIGHTS_GET(b.weights, &mean, &err, "latents_mean", 128));
    EXPECT_OK(WEIGHTS_GET(b.weights, &std, &err, "latents_std", 128));
    for (int i = 0; i < 2; i++) {
        job_init(&j[i], &b, 1, false);
    }
    for (int64_t i = 0; i < tensor_count(&j[0].z); i++) {
        ((float *)j[1].z.data)[i] =
            ((float *)j[0].z.data)[i] * ((float *)std.data)[i % 128] / 0.5F +
            ((float *)mean.data)[i % 128];
    }
    j[1].how.space = VAE_RAW;
    for (int i = 0; i < 2; i++) {
        vae_files_run(&b.dev, run_job, &j[i]);
    }
    EXPECT_CLOSE(j[0].pictures.data, j[1].pictures.data, tensor_count(&j[0].pictures), 0, 1e-4);
    job_done(&j[0]);
    job_done(&j[1]);
    bed_close(&b);
}

TEST(vae_ltx2_refuses_what_does_not_fit)
{
    static float data[3 * 64 * 96 * 9];
    const struct vae_ltx2_decode how = {.space = VAE_RAW};
    struct tensor z = TENSOR_F32(data, 1, 1, 3, 128);
    struct tensor out = TENSOR_F32(data, 1, 32, 96, 3);
    struct tensor video = TENSOR_F32(data, 8, 64, 96, 3);
    const struct vae_ltx2_posterior p = {.mean = &z};
    struct workspace ws;
    struct bed b;
    struct err err;

    bed_open_golden(&b, 1);
    workspace_init(&ws, &b.dev);
    b.dev.dry_run = true; /* all of these are refused before anything runs */
    EXPECT_INT(vae_ltx2_decode(b.vae, &z, &how, &ws, &out, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "cannot be reflected");
    out.dim[0] = 9;
    EXPECT_INT(vae_ltx2_decode(b.vae, &z, &how, &ws, &out, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "out is");
    z.dim[3] = 16;
    EXPECT_INT(vae_ltx2_decode(b.vae, &z, &how, &ws, &out, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "z is F32[1, 1, 3, 16]");
    EXPECT_INT(vae_ltx2_encode(b.vae, &video, &ws, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "video is");
    video.dim[0] = 9;
    EXPECT_INT(vae_ltx2_encode(b.vae, &video, &ws, &p, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "mean is");
    b.dev.dry_run = false;
    bed_close(&b);
}

TEST(vae_ltx2_takes_every_tensor_whichever_half_is_loaded)
{
    static const unsigned halves[] = {VAE_DECODER, VAE_ENCODER, VAE_DECODER | VAE_ENCODER};
    struct vae_config config;
    struct device dev;
    struct err err;

    vae_files_config("tiny-720p", &config);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (size_t i = 0; i < ARRAY_LEN(halves); i++) {
        struct weights *w = vae_files_golden("tiny-720p");
        struct vae_ltx2 *vae = NULL;

        EXPECT_OK(vae_ltx2_open(&vae, &config.ltx2, w, &dev, halves[i], &err));
        EXPECT_INT(weights_unused(w, NULL, 0), 0);
        vae_ltx2_close(vae);
        weights_close(w);
    }
    device_close(&dev);
}

TEST(vae_ltx2_survives_failed_allocations)
{
    struct weights *w = vae_files_golden("tiny-720p");
    struct vae_config config;
    struct device dev;
    bool failed;
    long n = 1;
    struct err err;

    vae_files_config("tiny-720p", &config);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (failed = true; failed; n++) {
        struct vae_ltx2 *vae = NULL;
        int rc;

        alloc_fail_at(n);
        rc = vae_ltx2_open(&vae, &config.ltx2, w, &dev, VAE_DECODER | VAE_ENCODER, &err);
        failed = alloc_fail_stop();
        EXPECT_INT(rc, failed ? ERR_NO_MEMORY : ERR_OK);
        vae_ltx2_close(vae);
    }
    EXPECT(n > 60);
    device_close(&dev);
    weights_close(w);
}
