#include "tests/support/renders.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "media/preview.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"
#include "tests/support/video_check.h"

static int take_part(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                     struct err *err)
{
    struct render_watch *w = ctx;

    w->parts++;
    if ((part == FMP4_INIT) != (w->parts == 1)) {
        return err_set(err, ERR_INVALID, "part %d has the wrong kind", w->parts);
    }
    if (w->parts == w->fail_at_part) {
        return err_set(err, ERR_NO_SPACE, "the disk of the test is full");
    }
    if (!str_append(&w->file, data, len)) {
        return err_set(err, ERR_NO_MEMORY, "the file");
    }
    w->end[(w->parts - 1) % (RENDERS_MAX_BLOCKS + 1)] = w->file.len;
    return ERR_OK;
}

static void take_block(void *ctx, const struct render_block *block)
{
    struct render_watch *w = ctx;

    w->blocks++;
    w->last = *block;
    w->block_on_engine = w->block_on_engine || pthread_equal(pthread_self(), w->engine);
    if (block->latents) {
        EXPECT(str_append(&w->latents, block->latents, block->n_latents * sizeof(float)));
    }
}

static void take_first_picture(void *ctx, const uint8_t *i420)
{
    struct render_watch *w = ctx;

    EXPECT(i420);
    w->first_pictures++;
    w->first_picture_late = w->parts != 1;
}

static void take_state(void *ctx, const void *data, size_t len)
{
    struct render_watch *w = ctx;

    EXPECT(w->states < RENDERS_MAX_STATES);
    EXPECT(pthread_equal(pthread_self(), w->engine));
    EXPECT(str_append(&w->state[w->states++], data, len));
}

static void take_step(void *ctx, const struct session_progress *p)
{
    static const struct timespec two_ms = {.tv_nsec = 2000000};
    struct render_watch *w = ctx;

    w->steps++;
    w->work += p->phase == SESSION_DENOISE || p->phase == SESSION_DECODE;
    w->denoised += p->phase == SESSION_DENOISE;
    w->step_elsewhere = w->step_elsewhere || !pthread_equal(pthread_self(), w->engine);
    w->progress_fell = w->progress_fell || p->fraction < w->fraction;
    w->fraction = p->fraction;
    w->first_fraction = w->steps == 1 ? p->fraction : w->first_fraction;
    if (w->steps == w->cancel_at_step) {
        atomic_store(&w->cancel, true);
    }
    if (w->pause_at_work > 0 && w->work == w->pause_at_work) {
        atomic_store(&w->pause, true);
    }
    if (w->slowly) {
        nanosleep(&two_ms, NULL);
    }
}

struct render_options render_options_of(int frames)
{
    return (struct render_options){.request = {.prompt = "a ship \"at\" sea",
                                               .width = 48,
                                               .height = 32,
                                               .frames = frames,
                                               .seed = 3,
                                               .exact_size = true}};
}

void render_watch_init(struct render_watch *w)
{
    *w = (struct render_watch){.engine = pthread_self()};
    str_init(&w->file, RENDERS_FILE_MAX);
    str_init(&w->latents, RENDERS_FILE_MAX);
    for (int i = 0; i < RENDERS_MAX_STATES; i++) {
        str_init(&w->state[i], RENDERS_FILE_MAX);
    }
}

void render_watch_done(struct render_watch *w)
{
    str_done(&w->file);
    str_done(&w->latents);
    for (int i = 0; i < RENDERS_MAX_STATES; i++) {
        str_done(&w->state[i]);
    }
}

struct render_callbacks render_callbacks_of(struct render_watch *w)
{
    return (struct render_callbacks){.ctx = w,
                                     .on_part = take_part,
                                     .on_block = take_block,
                                     .on_first_picture = take_first_picture,
                                     .on_state = take_state,
                                     .on_progress = take_step,
                                     .cancel = &w->cancel,
                                     .pause = &w->pause};
}

int render_bed_run(struct video_bed *b, const struct render_options *options,
                   struct render_watch *w, struct err *err)
{
    const struct render_callbacks callbacks = render_callbacks_of(w);
    struct render *r = NULL;
    int rc = render_open(&r, b->model, options, &callbacks, err);

    if (rc == ERR_OK) {
        w->first_block = render_first_block(r);
        rc = render_run(r, err);
        w->paused = render_paused(r);
        w->blocks_done = render_blocks_done(r);
        render_times(r, &w->times);
    }
    render_close(r);
    return rc;
}

void render_bed_open(struct video_bed *b, const char *model)
{
    video_bed_open(b, model, 1);
    b->model->dir->defaults.block_latent_frames = 2;
}

struct render_options render_options_for(const char *model)
{
    struct render_options options = render_options_of(RENDERS_FRAMES);

    options.request.steps = strcmp(model, RENDER_CLIP) == 0 ? RENDERS_STEPS : 0;
    return options;
}

void render_make_whole(struct render_watch *w, struct video_bed *b,
                       const struct render_options *options)
{
    struct render_options whole = *options;
    struct err err;

    render_watch_init(w);
    whole.state_interval_ms = 1;
    w->slowly = true;
    EXPECT_OK(render_bed_run(b, &whole, w, &err));
    EXPECT_INT(w->blocks, RENDERS_BLOCKS);
    EXPECT_INT(w->blocks_done, RENDERS_BLOCKS);
    EXPECT_INT(w->first_pictures, 1);
    EXPECT(!w->first_picture_late && !w->paused);
}

void render_expect_rest(const struct render_watch *w, const struct render_watch *whole,
                        int64_t first)
{
    const size_t init = whole->end[0];
    const size_t rest = whole->file.len - whole->end[first];

    EXPECT_INT(w->first_block, first);
    EXPECT_INT(w->blocks, RENDERS_BLOCKS - first);
    EXPECT_INT(w->blocks_done, RENDERS_BLOCKS);
    EXPECT_INT(w->first_pictures, first == 0);
    EXPECT_INT(w->file.len, init + rest);
    EXPECT(memcmp(w->file.data, whole->file.data, init) == 0);
    EXPECT(memcmp(w->file.data + init, whole->file.data + whole->end[first], rest) == 0);
}

void render_expect_refused(struct video_bed *b, const struct render_options *options, int code,
                           const char *part)
{
    struct render_watch w;
    struct err err = {0};

    render_watch_init(&w);
    EXPECT_INT(render_bed_run(b, options, &w, &err), code);
    EXPECT_CONTAINS(err.msg, part);
    EXPECT_INT(w.parts, 0);
    render_watch_done(&w);
}

const char *render_write_picture(void)
{
    const char *path = files_path(test_dir(), "reference.jpg");
    uint8_t *picture = test_alloc((size_t)64 * 48 * 3 / 2);
    const uint8_t *frames[1] = {picture};
    struct str jpeg;
    struct err err;

    video_check_picture(picture, 64, 48, 0);
    str_init(&jpeg, 1 << 20);
    EXPECT_OK(preview_sheet(&jpeg, NULL, frames, 1, 64, 48, 64, &err));
    files_write(path, jpeg.data, jpeg.len);
    str_done(&jpeg);
    free(picture);
    return path;
}

/* Like take_block and take_state, but without allocations of their own. */
static void ignore_block(void *ctx, const struct render_block *block)
{
    (void)ctx;
    (void)block;
}

static void ignore_state(void *ctx, const void *data, size_t len)
{
    (void)ctx;
    (void)data;
    (void)len;
}

static int plan_and_render(struct video_bed *b, const struct render_options *options,
                           const struct render_callbacks *callbacks, struct err *err)
{
    struct render_plan plan;
    struct render *r = NULL;
    int rc = render_plan(b->model, options, &plan, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = render_open(&r, b->model, options, callbacks, err);
    if (rc == ERR_OK) {
        rc = render_run(r, err);
    }
    render_close(r);
    render_plan_done(&plan);
    return rc;
}

void render_check_allocations(struct video_bed *b, const struct render_options *options)
{
    bool fired = true;
    long n;

    alloc_fail_hook_cjson();
    for (n = 1; fired; n++) {
        struct render_callbacks callbacks;
        struct render_watch w;
        struct err err;
        int rc;

        render_watch_init(&w);
        callbacks = render_callbacks_of(&w);
        callbacks.on_block = ignore_block;
        callbacks.on_state = ignore_state;
        alloc_fail_at(n);
        rc = plan_and_render(b, options, &callbacks, &err);
        fired = alloc_fail_stop();
        render_watch_done(&w);
        if (rc != (fired ? ERR_NO_MEMORY : ERR_OK) && rc != ERR_NO_VRAM) {
            test_fail(__FILE__, __LINE__, "allocation %ld: %d %s", n, rc, err.msg);
        }
    }
    EXPECT(n > 20);
}
