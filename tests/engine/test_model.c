#include "engine/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

static void expect_refused(const char *path, int code, const char *part)
{
    struct device dev;
    struct model *m = NULL;
    struct err err = {0};

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_INT(model_open(&m, path, &dev, &err), code);
    EXPECT(m == NULL);
    EXPECT_CONTAINS(err.msg, part);
    device_close(&dev);
}

static const char *copy_of(const char *model, const char *name)
{
    const char *path = files_path(test_dir(), name);

    files_copy_dir(files_path("tests/golden", model), path);
    return path;
}

TEST(model_opens_all_members_of_the_family)
{
    static const struct {
        const char *name;
        enum model_family family;
    } models[] = {{"tiny-480p", FAMILY_SANA_VIDEO_WAN},
                  {"tiny-720p", FAMILY_SANA_VIDEO_LTX2},
                  {"tiny-long", FAMILY_LONGSANA}};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct model *m = NULL;

        EXPECT_OK(model_open(&m, files_path("tests/golden", models[i].name), &dev, &err));
        EXPECT(m->dir->family == models[i].family);
        EXPECT(m->dev == &dev && m->tokenizer && m->text_encoder && m->transformer && m->vae);
        EXPECT(transformer_device(m->transformer) == &dev);
        EXPECT(vae_streams(m->vae) == (models[i].family != FAMILY_SANA_VIDEO_LTX2));
        model_close(m);
    }
    device_close(&dev);
}

/* What the parts take is everything there is, but for what is known to be unused. */
TEST(model_leaves_no_tensor_unexplained)
{
    static const char *const models[] = {"tiny-480p", "tiny-720p", "tiny-long"};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct model *m = NULL;
        const char *name = "";

        EXPECT_OK(model_open(&m, files_path("tests/golden", models[i]), &dev, &err));
        if (weights_unused(m->dir->transformer_weights, &name, 1) > 0 ||
            weights_unused(m->dir->text_encoder_weights, &name, 1) > 0 ||
            weights_unused(m->dir->vae_weights, &name, 1) > 0) {
            test_fail(__FILE__, __LINE__, "%s: nobody took %s", models[i], name);
        }
        model_close(m);
    }
    device_close(&dev);
}

/* Matrices are read where they lie; only what is rearranged is copied. */
TEST(model_borrows_most_of_the_transformer)
{
    struct device dev;
    struct model *m = NULL;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(model_open(&m, "tests/golden/tiny-long", &dev, &err));
    EXPECT(transformer_copied_bytes(m->transformer) <
           weights_total_bytes(m->dir->transformer_weights) / 4);
    model_close(m);
    device_close(&dev);
}

TEST(model_close_accepts_nothing)
{
    model_close(NULL);
}

TEST(model_names_what_is_missing)
{
    const char *dir;

    expect_refused("tests/golden/no-such-model", ERR_NOT_FOUND, "no-such-model");
    dir = copy_of("tiny-long", "no-tokenizer");
    EXPECT(unlink(files_path(dir, "tokenizer/tokenizer.model")) == 0);
    expect_refused(dir, ERR_NOT_FOUND, "tokenizer.model");
    dir = copy_of("tiny-long", "no-shard");
    EXPECT(unlink(files_path(dir, "text_encoder/model-00002-of-00002.safetensors")) == 0);
    expect_refused(dir, ERR_NOT_FOUND, "model-00002-of-00002.safetensors");
}

/* A tensor of each part under another name: the part's loader says which one it misses. */
TEST(model_names_the_tensor_it_misses)
{
    static const struct {
        const char *model, *file, *from, *to;
    } cases[] = {
        {"tiny-480p", "transformer/diffusion_pytorch_model.safetensors", "\"caption_norm.weight\"",
         "\"caption_norm.weighs\""},
        {"tiny-480p", "vae/diffusion_pytorch_model.safetensors", "\"decoder.conv_out.bias\"",
         "\"decoder.conv_out.bios\""},
        {"tiny-480p", "vae/diffusion_pytorch_model.safetensors", "\"encoder.conv_in.bias\"",
         "\"encoder.conv_in.bios\""},
        {"tiny-480p", "text_encoder/model.safetensors", "norm.weight\"", "norm.weighs\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char name[32];
        const char *dir;

        snprintf(name, sizeof(name), "renamed-%zu", i);
        dir = copy_of(cases[i].model, name);
        files_replace(files_path(dir, cases[i].file), cases[i].from, cases[i].to);
        expect_refused(dir, ERR_FORMAT, "is missing");
    }
}

/* A tokenizer with more pieces than the encoder has embeddings would read behind the table. */
TEST(model_refuses_a_tokenizer_of_another_encoder)
{
    const char *dir = copy_of("tiny-720p", "other-tokenizer");
    const char *to = files_path(dir, "tokenizer/tokenizer.model");
    size_t len;
    char *data = files_read("tests/golden/tiny-480p/tokenizer/tokenizer.model", &len);

    files_write(to, data, len);
    free(data);
    expect_refused(dir, ERR_FORMAT, "tokenizer.model: 1200 pieces");
}

/* Allocations that reading the directory makes, without the parts. */
static long allocations_of_directory(void)
{
    long few = 0;
    long many = 1 << 20;

    while (many - few > 1) {
        const long n = few + (many - few) / 2;
        struct model_dir *dir = NULL;
        struct err err;

        alloc_fail_at(n);
        if (model_dir_open(&dir, "tests/golden/tiny-long", &err) == ERR_OK) {
            model_dir_close(dir);
        }
        if (alloc_fail_stop()) {
            few = n;
        } else {
            many = n;
        }
    }
    return few;
}

/* Each allocation of the parts; some of the directory's, which has a test of its own. */
TEST(model_open_survives_each_failing_allocation)
{
    enum {
        DIRECTORY_STEP = 7
    };
    struct device dev;
    struct err err = {0};
    long directory;

    alloc_fail_hook_cjson();
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    directory = allocations_of_directory();
    for (long n = 1;; n += n + DIRECTORY_STEP < directory ? DIRECTORY_STEP : 1) {
        struct model *m = NULL;
        int rc;

        alloc_fail_at(n);
        rc = model_open(&m, "tests/golden/tiny-long", &dev, &err);
        if (!alloc_fail_stop()) {
            EXPECT_INT(rc, ERR_OK);
            EXPECT(n > directory + 100);
            model_close(m);
            break;
        }
        if (rc != ERR_NO_MEMORY && rc != ERR_NO_VRAM) {
            test_fail(__FILE__, __LINE__, "allocation %ld: %d %s", n, rc, err.msg);
        }
        EXPECT(m == NULL && err.msg[0] != '\0');
    }
    device_close(&dev);
}
