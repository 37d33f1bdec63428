/*
 * Weights that are not numbers: whichever tensor has one, a session ends with ERR_NUMERIC and
 * names the stage. Every clamp, maximum and rectifier on the way has to let it through.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/safetensors.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"
#include "tests/support/videos.h"

enum {
    FRAMES = 5, /* two latent frames: the first's and the later ones' ways through the decoder */
    IMAGE_FLOATS = 64 * 64 * 3
};

/* A weights file of a model's copy, in which one number at a time is replaced. */
struct patient {
    const char *dir;
    const char *path;
    char *data; /* owned; the file as it should be */
    size_t len;
    struct safetensors *tensors; /* of data */
};

static void patient_open(struct patient *p, const char *dir, const char *file)
{
    struct err err;

    *p = (struct patient){.dir = dir, .path = files_path(dir, file)};
    p->data = files_read(p->path, &p->len);
    EXPECT_OK(safetensors_open_memory(&p->tensors, p->data, p->len, p->path, &err));
}

static void patient_close(struct patient *p)
{
    safetensors_close(p->tensors);
    free(p->data);
}

static void overwrite(const struct patient *p, size_t at, const void *bytes, size_t n)
{
    FILE *f = fopen(p->path, "r+be");

    EXPECT(f && fseek(f, (long)at, SEEK_SET) == 0 && fwrite(bytes, 1, n, f) == n);
    EXPECT(fclose(f) == 0);
}

/* Element `index` (-1: the last one) becomes `value`, NaN or infinity, in the tensor's own type.
 * Returns where. */
static size_t plant(const struct patient *p, const struct tensor *t, int64_t index, float value)
{
    const uint16_t bf16 = isnan(value) ? 0x7fc0 : 0x7f80;
    const int64_t i = index < 0 ? tensor_count(t) - 1 : index;
    const size_t at = (size_t)((const char *)t->data - p->data) + (size_t)i * dtype_size(t->dtype);

    EXPECT(t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16);
    if (t->dtype == DTYPE_F32) {
        overwrite(p, at, &value, sizeof(value));
    } else {
        overwrite(p, at, &bf16, sizeof(bf16));
    }
    return at;
}

static int make_video(const char *dir, const float *image, struct err *err)
{
    struct geometry_block block;
    struct session_request r;
    struct video_bed b;
    struct video v;
    int rc = ERR_OK;

    video_bed_open(&b, dir, 1);
    b.model->dir->defaults.n_renoise = 1;
    r = video_request(&b, FRAMES);
    r.image = image;
    r.steps = b.model->dir->defaults.sampler == SAMPLER_LONGLIVE ? 0 : 1;
    video_open(&v, &b, &r);
    while (rc == ERR_OK && !session_finished(v.session)) {
        rc = session_next_block(v.session, &block, err);
    }
    video_close(&v);
    video_bed_close(&b);
    return rc;
}

static void check_value(const struct patient *p, const struct safetensors_entry *e, int64_t index,
                        float value, const float *image, const char *stage)
{
    const size_t at = plant(p, &e->tensor, index, value);
    struct err err = {0};
    const int rc = make_video(p->dir, image, &err);

    overwrite(p, at, p->data + at, dtype_size(e->tensor.dtype));
    if (rc != ERR_NUMERIC || strncmp(err.msg, stage, strlen(stage)) != 0) {
        test_fail(__FILE__, __LINE__, "%g in %s of %s: %d \"%s\"", (double)value, e->name, p->path,
                  rc, err.msg);
    }
}

/* NaN, and infinity where it is added or scales, so that it can arrive somewhere as infinity. */
static void check_tensor(const struct patient *p, const struct safetensors_entry *e, int64_t index,
                         const float *image, const char *stage)
{
    check_value(p, e, index, NAN, image, stage);
    if (strstr(e->name, "bias") || strstr(e->name, "norm")) {
        check_value(p, e, index, INFINITY, image, stage);
    }
}

/* Each tensor of the file whose name begins with one of the parts (NULL ends them), its number
 * `index`. */
static void check_file(const char *dir, const char *file, const char *const *parts, int64_t index,
                       const float *image, const char *stage)
{
    struct patient p;

    patient_open(&p, dir, file);
    for (; *parts; parts++) {
        int found = 0;

        for (size_t i = 0; i < safetensors_count(p.tensors); i++) {
            const struct safetensors_entry *e = safetensors_at(p.tensors, i);

            if (strncmp(e->name, *parts, strlen(*parts)) == 0) {
                check_tensor(&p, e, index, image, stage);
                found++;
            }
        }
        EXPECT(found > 0);
    }
    patient_close(&p);
}

static const char *copy_of(const char *model, const char *name)
{
    const char *path = files_path(test_dir(), name);

    files_copy_dir(files_path("tests/golden", model), path);
    return path;
}

TEST(session_numeric_names_the_text_encoder)
{
    static const char *const parts[] = {"layers.1.", "norm.", NULL};
    static const char *const embeddings[] = {"embed_tokens.", NULL};
    const char *f32 = copy_of("tiny-480p", "text-f32");
    const char *bf16 = copy_of("tiny-720p", "text-bf16");

    check_file(f32, "text_encoder/model.safetensors", parts, 0, NULL, "the text encoder produced");
    check_file(f32, "text_encoder/model.safetensors", embeddings, (int64_t)2 * 72 /* <bos> */, NULL,
               "the text encoder produced");
    check_file(bf16, "text_encoder/model.safetensors", parts, 0, NULL, "the text encoder produced");
}

TEST(session_numeric_names_the_transformer_and_the_step)
{
    static const char *const parts[] = {
        "transformer_blocks.1.", "caption_", "patch_embedding.", "proj_out.", "scale_shift_table",
        "time_embed.",           NULL};

    check_file(copy_of("tiny-480p", "transformer"),
               "transformer/diffusion_pytorch_model.safetensors", parts, 0, NULL,
               "the transformer in block 1, step 1 of 1 produced NaN or infinity");
}

TEST(session_numeric_names_the_vae_decoder)
{
    static const char *const wan[] = {"decoder.conv_in.",       "decoder.mid_block.",
                                      "decoder.up_blocks.0.",   "decoder.up_blocks.3.resnets.2.",
                                      "decoder.norm_out.",      "decoder.conv_out.",
                                      "post_quant_conv.weight", NULL};
    static const char *const ltx2[] = {"decoder.conv_in.", "decoder.mid_block.",
                                       "decoder.up_blocks.2.", "decoder.conv_out.", NULL};

    check_file(copy_of("tiny-480p", "wan"), "vae/diffusion_pytorch_model.safetensors", wan, 0, NULL,
               "the vae decoder produced");
    check_file(copy_of("tiny-720p", "ltx2"), "vae/diffusion_pytorch_model.safetensors", ltx2, 0,
               NULL, "the vae decoder produced");
}

TEST(session_numeric_names_the_vae_encoder)
{
    static const char *const wan[] = {"encoder.conv_in.", "encoder.down_blocks.3.",
                                      "encoder.mid_block.", "encoder.conv_out.", NULL};
    static const char *const quant[] = {"quant_conv.", NULL};
    const char *dir = copy_of("tiny-480p", "wan-image");
    float *image = test_alloc(IMAGE_FLOATS * sizeof(float));

    test_fill(image, IMAGE_FLOATS, 1);
    /* Of three taps in time one picture meets the last; of the moments only the mean is used. */
    check_file(dir, "vae/diffusion_pytorch_model.safetensors", wan, -1, image,
               "the vae encoder produced");
    check_file(dir, "vae/diffusion_pytorch_model.safetensors", quant, 0, image,
               "the vae encoder produced");
    free(image);
}

/* Numbers of an image are the caller's; they too are caught. */
TEST(session_numeric_catches_an_image_that_is_none)
{
    float *image = test_alloc(IMAGE_FLOATS * sizeof(float));
    struct err err = {0};

    test_fill(image, IMAGE_FLOATS, 1);
    image[7] = NAN;
    EXPECT_INT(make_video("tests/golden/tiny-480p", image, &err), ERR_NUMERIC);
    EXPECT_CONTAINS(err.msg, "the vae encoder");
    EXPECT_INT(make_video("tests/golden/tiny-720p", image, &err), ERR_NUMERIC);
    EXPECT_CONTAINS(err.msg, "the vae encoder");
    free(image);
}
