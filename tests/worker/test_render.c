#include "worker/render.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

enum {
    FILE_MAX = 64 << 20
};

static const char *const long_model = "tests/golden/tiny-long";

/* What a test wants to happen, and what happened. */
struct watch {
    struct str file;
    int parts, blocks, steps;
    int fail_at_part;   /* 0: never */
    int cancel_at_step; /* 0: never */
    atomic_bool cancel;
    struct render_block last;
    double fraction;
    bool progress_fell;
    pthread_t engine;
    bool block_on_engine, step_elsewhere; /* each written by one thread */
};

static int take_part(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                     struct err *err)
{
    struct watch *w = ctx;

    w->parts++;
    if ((part == FMP4_INIT) != (w->parts == 1)) {
        return err_set(err, ERR_INVALID, "part %d has the wrong kind", w->parts);
    }
    if (w->parts == w->fail_at_part) {
        return err_set(err, ERR_NO_SPACE, "the disk of the test is full");
    }
    return str_append(&w->file, data, len) ? ERR_OK : err_set(err, ERR_NO_MEMORY, "the file");
}

static void take_block(void *ctx, const struct render_block *block)
{
    struct watch *w = ctx;

    w->blocks++;
    w->last = *block;
    w->block_on_engine = w->block_on_engine || pthread_equal(pthread_self(), w->engine);
}

static void take_step(void *ctx, const struct session_progress *p)
{
    struct watch *w = ctx;

    w->steps++;
    w->step_elsewhere = w->step_elsewhere || !pthread_equal(pthread_self(), w->engine);
    w->progress_fell = w->progress_fell || p->fraction < w->fraction;
    w->fraction = p->fraction;
    if (w->steps == w->cancel_at_step) {
        atomic_store(&w->cancel, true);
    }
}

static struct render_options options_of(int frames)
{
    return (struct render_options){.request = {.prompt = "a ship \"at\" sea",
                                               .width = 48,
                                               .height = 32,
                                               .frames = frames,
                                               .seed = 3,
                                               .exact_size = true}};
}

static void watch_init(struct watch *w)
{
    *w = (struct watch){.engine = pthread_self()};
    str_init(&w->file, FILE_MAX);
}

/* Opens, runs and closes; the code of whichever failed. */
static int render_video(const char *path, const struct render_options *options, struct watch *w,
                        struct err *err)
{
    const struct render_callbacks callbacks = {.ctx = w,
                                               .on_part = take_part,
                                               .on_block = take_block,
                                               .on_progress = take_step,
                                               .cancel = &w->cancel};
    struct device dev = {0};
    struct model *model = NULL;
    struct render *r = NULL;
    int rc = device_open_cpu(&dev, 2, err);

    if (rc == ERR_OK) {
        rc = model_open(&model, path, &dev, err);
    }
    if (rc == ERR_OK) {
        rc = render_open(&r, model, options, &callbacks, err);
    }
    if (rc == ERR_OK) {
        rc = render_run(r, err);
    }
    render_close(r);
    model_close(model);
    device_close(&dev);
    return rc;
}

TEST(render_gives_init_and_one_fragment_per_block)
{
    const struct render_options options = options_of(90);
    struct watch w;
    struct err err;

    watch_init(&w);
    EXPECT_OK(render_video(long_model, &options, &w, &err));
    EXPECT_INT(w.parts, 3); /* 24 latent frames: blocks of 14 and 10 */
    EXPECT_INT(w.blocks, 2);
    EXPECT_INT(w.last.index, 1);
    EXPECT_INT(w.last.first_picture + w.last.n_pictures, 90);
    EXPECT(w.last.bytes > 100);
    EXPECT(!w.block_on_engine && !w.step_elsewhere && !w.progress_fell);
    EXPECT(w.fraction > 0.99 && w.fraction <= 1.0);
    str_done(&w.file);
}

TEST(render_puts_prompt_and_settings_into_the_file)
{
    const struct render_options options = options_of(5);
    struct watch w;
    struct err err;

    watch_init(&w);
    EXPECT_OK(render_video(long_model, &options, &w, &err));
    EXPECT(memmem(w.file.data, w.file.len, "a ship \"at\" sea", 15));
    EXPECT(memmem(w.file.data, w.file.len, "\"seed\":3,", 9));
    EXPECT(memmem(w.file.data, w.file.len, "sanad " SANAD_VERSION, 7));
    str_done(&w.file);
}

TEST(render_twice_gives_the_same_bytes)
{
    const struct render_options options = options_of(50);
    struct watch a;
    struct watch b;
    struct err err;

    watch_init(&a);
    watch_init(&b);
    EXPECT_OK(render_video(long_model, &options, &a, &err));
    EXPECT_OK(render_video(long_model, &options, &b, &err));
    EXPECT_INT(a.file.len, b.file.len);
    EXPECT(memcmp(a.file.data, b.file.data, a.file.len) == 0);
    str_done(&a.file);
    str_done(&b.file);
}

TEST(render_passes_the_sinks_error_on)
{
    struct render_options options = options_of(200);
    struct watch w;
    struct err err;

    for (int part = 1; part <= 3; part++) {
        watch_init(&w);
        w.fail_at_part = part;
        EXPECT_INT(render_video(long_model, &options, &w, &err), ERR_NO_SPACE);
        EXPECT_STR(err.msg, "the disk of the test is full");
        EXPECT_INT(w.parts, part);
        EXPECT_INT(w.blocks, part > 1 ? part - 2 : 0);
        str_done(&w.file);
    }
}

TEST(render_cancelled_keeps_whole_fragments)
{
    const struct render_options options = options_of(300);
    struct watch w;
    struct err err;

    watch_init(&w);
    w.cancel_at_step = 25; /* in the second block: 1 text, 4 steps and 14 pictures before it */
    EXPECT_INT(render_video(long_model, &options, &w, &err), ERR_CANCELLED);
    EXPECT_INT(w.parts, 2);
    EXPECT_INT(w.blocks, 1);
    EXPECT_INT(w.steps, 25);
    str_done(&w.file);
}

TEST(render_names_a_missing_image)
{
    struct render_options options = options_of(9);
    struct watch w;
    struct err err;

    watch_init(&w);
    options.image_path = "tests/no-such-picture.png";
    EXPECT_INT(render_video(long_model, &options, &w, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "no-such-picture.png");
    EXPECT_INT(w.parts, 0);
    str_done(&w.file);
}

/* Every allocation of our own in opening and running a video of one frame fails once. */
TEST(render_survives_every_failed_allocation)
{
    const struct render_options options = options_of(1);
    const struct render_callbacks callbacks = {.on_part = take_part};
    struct device dev = {0};
    struct model *model = NULL;
    struct err err;
    bool fired = true;

    alloc_fail_hook_cjson();
    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(model_open(&model, long_model, &dev, &err));
    for (long n = 1; fired; n++) {
        struct render_callbacks c = callbacks;
        struct render *r = NULL;
        struct watch w;
        int rc;

        watch_init(&w);
        c.ctx = &w;
        alloc_fail_at(n);
        rc = render_open(&r, model, &options, &c, &err);
        if (rc == ERR_OK) {
            rc = render_run(r, &err);
        }
        fired = alloc_fail_stop();
        render_close(r);
        str_done(&w.file);
        EXPECT_INT(rc, fired ? ERR_NO_MEMORY : ERR_OK);
    }
    model_close(model);
    device_close(&dev);
}
