#include "tests/support/videos.h"

#include <stdlib.h>
#include <string.h>

#include "engine/session_internal.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

static void open_model(struct video_bed *b, const char *model)
{
    const char *path = strchr(model, '/') ? model : files_path("tests/golden", model);
    struct err err;

    EXPECT_OK(model_open(&b->model, path, &b->dev, &err));
    b->model->dir->defaults.chi = CHI_NONE;
}

void video_bed_open(struct video_bed *b, const char *model, int threads)
{
    struct err err;

    *b = (struct video_bed){0};
    EXPECT_OK(device_open_cpu(&b->dev, threads, &err));
    open_model(b, model);
}

void video_bed_open_cuda(struct video_bed *b, const char *model,
                         const struct device_cuda_options *options)
{
    struct err err;

    *b = (struct video_bed){0};
    EXPECT_OK(device_open_cuda(&b->dev, options, &err));
    open_model(b, model);
}

void video_bed_close(struct video_bed *b)
{
    model_close(b->model);
    device_close(&b->dev);
}

struct session_request video_request(const struct video_bed *b, int64_t frames)
{
    const bool ltx2 = b->model->dir->family == FAMILY_SANA_VIDEO_LTX2;

    return (struct session_request){
        .prompt = "a red fox runs over snow",
        .negative_prompt = "blurry",
        .width = ltx2 ? 64 : 32,
        .height = ltx2 ? 64 : 32,
        .frames = frames,
        .seed = 7,
        .steps = b->model->dir->defaults.sampler == SAMPLER_LONGLIVE ? 0 : 3,
        .has_guidance = true,
        .guidance_scale = 1,
        .exact_size = true,
    };
}

static int keep_frame(void *ctx, const uint8_t *i420, int64_t index, struct err *err)
{
    struct video *v = ctx;

    if (index == v->refuse) {
        return err_set(err, ERR_NO_SPACE, "no room for picture %lld", (long long)index);
    }
    if (index != v->next || index >= video_frames(v)) {
        v->out_of_order = true;
        return ERR_OK;
    }
    memcpy(v->pictures + (size_t)index * v->picture_bytes, i420, v->picture_bytes);
    v->next++;
    v->delivered++;
    return ERR_OK;
}

static void watch_progress(void *ctx, const struct session_progress *p)
{
    struct video *v = ctx;

    v->fell = v->fell || !(p->fraction >= v->fraction && p->fraction <= 1.0);
    v->fraction = p->fraction;
    v->reports++;
    if (v->on_progress) {
        v->on_progress(v, p);
    }
}

int video_try_open(struct video *v, struct video_bed *b, const struct session_request *request,
                   struct err *err)
{
    const struct session_callbacks callbacks = {
        .ctx = v, .on_frame = keep_frame, .on_progress = watch_progress, .cancel = &v->cancel};
    const struct session_settings *set;
    int rc;

    *v = (struct video){.refuse = -1};
    rc = session_open(&v->session, b->model, request, &callbacks, err);
    if (rc != ERR_OK) {
        return rc;
    }
    set = session_settings(v->session);
    EXPECT(set->frames <= VIDEO_MAX_FRAMES);
    v->picture_bytes = (size_t)(set->size.width * set->size.height) / 2 * 3;
    v->pictures = test_alloc((size_t)set->frames * v->picture_bytes);
    memset(v->pictures, 0, (size_t)set->frames * v->picture_bytes);
    return ERR_OK;
}

void video_open(struct video *v, struct video_bed *b, const struct session_request *request)
{
    struct err err;

    EXPECT_OK(video_try_open(v, b, request, &err));
}

void video_refused(struct video_bed *b, const struct session_request *request, int code,
                   const char *part)
{
    struct video v;
    struct err err = {0};
    const int rc = video_try_open(&v, b, request, &err);

    video_close(&v);
    EXPECT_INT(rc, code);
    EXPECT_CONTAINS(err.msg, part);
    EXPECT(!b->dev.dry_run);
}

struct geometry_block video_block(struct video *v)
{
    const int64_t before = v->delivered;
    struct geometry_block block;
    struct err err;

    EXPECT_OK(session_next_block(v->session, &block, &err));
    EXPECT_INT(v->delivered - before, block.n_pictures);
    EXPECT_INT(v->next, block.first_picture + block.n_pictures);
    return block;
}

void video_run(struct video *v)
{
    while (!session_finished(v->session)) {
        video_block(v);
    }
    EXPECT(!v->out_of_order);
    EXPECT(!v->fell);
    EXPECT_INT(v->next, video_frames(v));
}

void video_make(struct video *v, struct video_bed *b, const struct session_request *request)
{
    video_open(v, b, request);
    video_run(v);
}

void video_close(struct video *v)
{
    session_close(v->session);
    free(v->pictures);
    v->session = NULL;
    v->pictures = NULL;
}

bool video_same(const struct video *a, const struct video *b, int64_t first, int64_t end)
{
    const size_t at = (size_t)first * a->picture_bytes;

    return a->picture_bytes == b->picture_bytes &&
           memcmp(a->pictures + at, b->pictures + at, (size_t)(end - first) * a->picture_bytes) ==
               0;
}

int64_t video_block_start(const struct video *v, int64_t index)
{
    if (index >= session_settings(v->session)->blocks) {
        return video_frames(v);
    }
    return session_block(v->session, index).first_picture;
}

int64_t video_frames(const struct video *v)
{
    return session_settings(v->session)->frames;
}
