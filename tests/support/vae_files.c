#include "tests/support/vae_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model_dir.h"
#include "engine/model_expect.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

static const char *golden_file(const char *model, const char *name)
{
    return files_path(files_path(files_path("tests/golden", model), "vae"), name);
}

void vae_files_config(const char *model, struct vae_config *ret)
{
    size_t len;
    char *text = files_read(golden_file(model, "config.json"), &len);
    struct err err;

    EXPECT_OK(model_parse_vae(ret, text, len, "config.json", &err));
    free(text);
}

struct weights *vae_files_golden(const char *model)
{
    struct weights *w = NULL;
    struct err err;

    EXPECT_OK(weights_open(&w, files_path(files_path("tests/golden", model), "vae"),
                           "diffusion_pytorch_model", NULL, &err));
    return w;
}

static bool add_header(void *ctx, const char *name, int rank, const int64_t *dims)
{
    header_add(ctx, name, "F32", 4, rank, dims);
    return true;
}

/* Kernels that keep the size of what they multiply; vectors near one. */
static bool add_data(void *ctx, const char *name, int rank, const int64_t *dims)
{
    int64_t n = 1;
    int64_t fan_in = 1;
    float *data;

    for (int i = 0; i < rank; i++) {
        n *= dims[i];
        fan_in *= i > 0 ? dims[i] : 1;
    }
    data = test_alloc((size_t)n * sizeof(*data));
    test_fill(data, n, strlen(name) + (uint64_t)n);
    for (int64_t i = 0; i < n; i++) {
        data[i] = fan_in == 1 ? 1 + 0.1F * data[i] : data[i] * sqrtf(3.0F / (float)fan_in);
    }
    EXPECT(fwrite(data, sizeof(*data), (size_t)n, ctx) == (size_t)n);
    free(data);
    return true;
}

struct weights *vae_files_random(const char *name, const struct vae_config *config)
{
    const char *dir = files_dir(name);
    const char *path = files_path(dir, "diffusion_pytorch_model.safetensors");
    struct header_writer header;
    struct weights *w = NULL;
    struct err err;
    uint64_t header_len;
    FILE *f;

    header_init(&header);
    EXPECT(model_expect_vae(config, add_header, &header));
    header_write_sparse(&header, path);
    header_done(&header);
    f = fopen(path, "r+be");
    EXPECT(f && fread(&header_len, sizeof(header_len), 1, f) == 1);
    EXPECT(fseek(f, (long)header_len, SEEK_CUR) == 0);
    EXPECT(model_expect_vae(config, add_data, f));
    EXPECT(fclose(f) == 0);
    EXPECT_OK(weights_open(&w, dir, "diffusion_pytorch_model", NULL, &err));
    return w;
}

void vae_files_run(struct device *dev, vae_files_fn fn, void *ctx)
{
    struct workspace ws;
    struct err err;

    workspace_init(&ws, dev);
    dev->dry_run = true;
    fn(&ws, ctx);
    EXPECT_INT(workspace_mark(&ws), 0);
    dev->dry_run = false;
    EXPECT_OK(workspace_commit(&ws, 0, &err));
    fn(&ws, ctx);
    EXPECT_INT(workspace_mark(&ws), 0);
    workspace_done(&ws);
}
