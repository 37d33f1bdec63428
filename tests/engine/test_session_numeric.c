/*
 * Weights that are not numbers: whatever tensor has one, a session ends with ERR_NUMERIC and names the
 * stage. Each clamp, maximum and rectifier on the way must let NaN through.
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
    FRAMES = 5 /* two latent frames: both the first's and the later ones' way through the decoder */
};

/* One component's file of a model that is copied to `dir`. */
struct patient {
    const char *dir;
    const char *file;
    char *data; /* owned; the file as it should be */
    size_t len;
};

static void patient_open(struct patient *p, const char *dir, const char *file)
{
    *p = (struct patient){.dir = dir, .file = files_path(dir, file)};
    p->data = files_read(p->file, &p->len);
}

static void patient_done(struct patient *p)
{
    files_write(p->file, p->data, p->len);
    free(p->data);
}

/* The bytes of element `index` of the tensor are replaced by `value` in its own type. */
static void plant(struct patient *p, const char *name, int64_t index, float value)
{
    const uint16_t bf16 = isnan(value) ? 0x7fc0 : 0x7f80;
    struct safetensors *st = NULL;
    const struct safetensors_entry *e;
    char *data = test_alloc(p->len);
    size_t at;
    struct err err;

    memcpy(data, p->data, p->len);
    EXPECT_OK(safetensors_open_memory(&st, data, p->len, p->file, &err));
    e = safetensors_find(st, name);
    EXPECT(e && (e->tensor.dtype == DTYPE_F32 || e->tensor.dtype == DTYPE_BF16));
    at = (size_t)((const char *)e->tensor.data - data);
    if (e->tensor.dtype == DTYPE_F32) {
        memcpy(data + at + (size_t)index * sizeof(value), &value, sizeof(value));
    } else {
        memcpy(data + at + (size_t)index * sizeof(bf16), &bf16, sizeof(bf16));
    }
    safetensors_close(st);
    files_write(p->file, data, p->len);
    free(data);
}

static int make_video(const char *dir, const float *image, struct err *err)
{
    struct session_request r;
    struct geometry_block block;
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
static void scan(const char *model, const char *file, const char *part, float value)
{
    static int k;
    char n[32];
    const char *dir;
    struct patient p;
    struct safetensors *st = NULL;
    struct err err;
    snprintf(n, 32, "m%d", k++);
    dir = files_path(test_dir(), n);
    files_copy_dir(files_path("tests/golden", model), dir);
    patient_open(&p, dir, file);
    EXPECT_OK(safetensors_open_memory(&st, p.data, p.len, "x", &err));
    for (size_t i = 0; i < safetensors_count(st); i++) {
        const struct safetensors_entry *e = safetensors_at(st, i);
        if (strncmp(e->name, part, strlen(part)) != 0) continue;
        int64_t c = tensor_count(&e->tensor);
        int64_t at[3] = {0, c / 2, c - 1};
        for (int j = 0; j < 3; j++) {
        err.msg[0]=0;
        plant(&p, e->name, at[j], value);
        int rc = make_video(dir, NULL, &err);
        if (rc != ERR_NUMERIC) printf("%s %s %s [%ld] %g: rc %d %s\n", model, file, e->name, (long)at[j],(double)value, rc, err.msg);
        else if (j==0 && i%20==0) printf("   %s: %s\n", e->name, err.msg);
        }
    }
    safetensors_close(st);
    patient_done(&p);
}
TEST(scan_all)
{
    for (int k = 0; k < 2; k++) {
        float v = k ? INFINITY : NAN;
    scan("tiny-480p", "transformer/diffusion_pytorch_model.safetensors", "", v);
    scan("tiny-480p", "text_encoder/model.safetensors", "", v);
    scan("tiny-480p", "vae/diffusion_pytorch_model.safetensors", "", v);
    scan("tiny-720p", "vae/diffusion_pytorch_model.safetensors", "", v);
    scan("tiny-720p", "text_encoder/model.safetensors", "", v);
    scan("tiny-720p", "transformer/diffusion_pytorch_model.safetensors", "", v);
    }
}
