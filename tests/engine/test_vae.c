#include "engine/vae.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"
#include "tests/support/vae_files.h"

enum {
    H = 2,
    W = 2,
    T = 2
};

/* A picture to a latent frame, then T frames of it to pictures. */
struct trip {
    struct vae *vae;
    struct tensor image, z, pictures;
};

static void run_trip(struct workspace *ws, void *ctx)
{
    struct trip *trip = ctx;
    const struct tensor first = tensor_slice(&trip->z, 0, 1);
    struct vae_stream *s = NULL;
    struct err err;

    EXPECT_OK(vae_encode_image(trip->vae, &trip->image, ws, &first, &err));
    EXPECT_OK(vae_stream_open(&s, trip->vae, H, W, &err));
    EXPECT_INT(vae_stream_frames(s, 0), 0);
    EXPECT_INT(vae_stream_frames(s, T), trip->pictures.dim[0]);
    EXPECT_OK(vae_stream_reset(s, false, &err));
    EXPECT_OK(vae_decode(s, &trip->z, ws, &trip->pictures, &err));
    vae_stream_close(s);
}

static void check(const char *model, bool streams)
{
    struct weights *weights = vae_files_golden(model);
    struct vae_config config;
    struct trip trip;
    struct device dev;
    struct err err;
    int64_t side_h;
    int64_t side_w;
    int64_t frames;

    vae_files_config(model, &config);
    side_h = H * config.stride_s;
    side_w = W * config.stride_s;
    frames = 1 + (T - 1) * config.stride_t;
    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    EXPECT_OK(vae_open(&trip.vae, &config, weights, &dev, VAE_DECODER | VAE_ENCODER, &err));
    EXPECT(vae_streams(trip.vae) == streams);
    EXPECT_INT(vae_memory(trip.vae) > 0, streams);
    EXPECT_INT(vae_stream_bytes(trip.vae, H, W) > 0, streams);
    trip.image =
        TENSOR_F32(test_alloc((size_t)(side_h * side_w * 3) * sizeof(float)), 1, side_h, side_w, 3);
    trip.pictures = TENSOR_F32(test_alloc((size_t)(frames * side_h * side_w * 3) * sizeof(float)),
                               frames, side_h, side_w, 3);
    trip.z = TENSOR_F32(test_alloc((size_t)(config.latent_channels * T * H * W) * sizeof(float)), T,
                        H, W, config.latent_channels);
    test_fill(trip.image.data, tensor_count(&trip.image), 1);
    test_fill(trip.z.data, tensor_count(&trip.z), 2);
    vae_files_run(&dev, run_trip, &trip);
    for (int64_t i = 0; i < tensor_count(&trip.pictures); i++) {
        const float v = ((float *)trip.pictures.data)[i];

        EXPECT(v > -100 && v < 100);
    }
    free(trip.image.data);
    free(trip.pictures.data);
    free(trip.z.data);
    vae_close(trip.vae);
    device_close(&dev);
    weights_close(weights);
}

TEST(vae_serves_both_kinds)
{
    check("tiny-480p", true);
    check("tiny-720p", false);
}

TEST(vae_refuses_what_does_not_fit)
{
    static float data[4096];
    struct weights *weights = vae_files_golden("tiny-720p");
    struct tensor z = TENSOR_F32(data, 1, 3, 2, 128);
    struct tensor two = TENSOR_F32(data, 2, 1, 1, 3);
    struct vae_stream *s = NULL;
    struct vae_config config;
    struct workspace ws;
    struct device dev;
    struct vae *vae = NULL;
    struct err err;

    vae_files_config("tiny-720p", &config);
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    workspace_init(&ws, &dev);
    EXPECT_OK(vae_open(&vae, &config, weights, &dev, VAE_DECODER, &err));
    EXPECT_OK(vae_stream_open(&s, vae, H, W, &err));
    EXPECT_INT(vae_decode(s, &z, &ws, &two, &err), ERR_INVALID); /* not the stream's grid */
    EXPECT_CONTAINS(err.msg, "z is F32[1, 3, 2, 128]");
    EXPECT_INT(vae_encode_image(vae, &two, &ws, &z, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "image is F32[2, 1, 1, 3]");
    vae_stream_close(s);
    vae_close(vae);
    device_close(&dev);
    weights_close(weights);
}

/* Opens a VAE and a stream while the n-th allocation fails; false: there are not that many. */
static bool fails_at(long n, const struct vae_config *config, struct weights *w, struct device *dev)
{
    struct vae_stream *s = NULL;
    struct vae *vae = NULL;
    struct err err;
    bool failed;
    int rc;

    alloc_fail_at(n);
    rc = vae_open(&vae, config, w, dev, VAE_DECODER, &err);
    if (rc == ERR_OK) {
        rc = vae_stream_open(&s, vae, H, W, &err);
    }
    failed = alloc_fail_stop();
    EXPECT_INT(rc, failed ? ERR_NO_MEMORY : ERR_OK);
    vae_stream_close(s);
    vae_close(vae);
    return failed;
}

TEST(vae_survives_failed_allocations)
{
    static const char *const models[] = {"tiny-480p", "tiny-720p"};
    struct vae_config config;
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (int m = 0; m < 2; m++) {
        struct weights *w = vae_files_golden(models[m]);
        bool failed = true;

        vae_files_config(models[m], &config);
        for (long n = 1; failed; n++) {
            failed = fails_at(n, &config, w, &dev);
        }
        weights_close(w);
    }
    device_close(&dev);
}
