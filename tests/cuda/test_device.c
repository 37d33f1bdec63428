/*
 * The device itself: opening, memory, copies, streams, marks, graphs, and what is found wrong.
 */
#include "kernels/device.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/cuda_api.h"
#include "kernels/elementwise.h"
#include "tests/support/test.h"

enum {
    COUNT = 1000
};

static struct err err;

static void open_with(struct device *dev, struct device_cuda_options options)
{
    options.deterministic = true;
    EXPECT_OK(device_open_cuda(dev, &options, &err));
}

static void open_gpu(struct device *dev)
{
    open_with(dev, (struct device_cuda_options){.f32 = true});
}

static struct tensor floats(struct device *dev, int64_t n)
{
    struct tensor t = TENSOR_F32(NULL, n);

    EXPECT_OK(device_alloc(dev, tensor_bytes(&t), &t.data, &err));
    return t;
}

static void fill(struct device *dev, const struct tensor *t, float value)
{
    EXPECT_OK(op_fill(dev, t, value, &err));
}

/* The first of them; all are the same. */
static float value_of(struct device *dev, const struct tensor *t)
{
    float *x = test_alloc(tensor_bytes(t));
    float first;

    EXPECT_OK(device_download(dev, x, t, &err));
    first = x[0];
    for (int64_t i = 0; i < tensor_count(t); i++) {
        EXPECT(x[i] == first);
    }
    free(x);
    return first;
}

/* ---- opening ---- */

TEST(gpu_opens_and_says_what_it_is)
{
    struct device dev;
    struct device_memory m;

    open_gpu(&dev);
    EXPECT(dev.kind == DEVICE_CUDA && dev.act == DTYPE_F32);
    EXPECT(strncmp(dev.name, "cuda:0, ", 8) == 0);
    EXPECT_STR(strrchr(dev.name, ','), ", f32");
    device_memory(&dev, &m);
    EXPECT(m.total > 0 && m.free > 0 && m.free <= m.total && m.used == 0 && m.peak == 0);
    device_close(&dev);
    EXPECT(dev.kind == DEVICE_CPU && !dev.cuda);
    device_close(&dev);
    open_with(&dev, (struct device_cuda_options){.f32 = false});
    EXPECT(dev.act == DTYPE_BF16);
    EXPECT_STR(strrchr(dev.name, ','), ", bf16");
    device_close(&dev);
}

TEST(gpu_probe_lists_what_is_there)
{
    struct cuda_probe probe;
    struct device dev;

    open_gpu(&dev);
    EXPECT_OK(dev.cuda->probe(&probe, &err));
    EXPECT(probe.n_devices > 0 && probe.devices[0].name[0] != '\0' && probe.devices[0].major >= 8 &&
           probe.devices[0].bytes > 0);
    EXPECT(dev.cuda->build[0] != '\0');
    device_close(&dev);
}

static void expect_no_device(const struct device_cuda_options *options, int code, const char *says)
{
    struct device dev;

    err.msg[0] = '\0';
    EXPECT_INT(device_open_cuda(&dev, options, &err), code);
    EXPECT_CONTAINS(err.msg, says);
    EXPECT(!dev.gpu && !dev.cuda && !dev.plugin);
}

TEST(gpu_that_is_not_there_is_refused)
{
    expect_no_device(&(struct device_cuda_options){.index = 99}, ERR_INVALID, "cuda:99: there ");
    expect_no_device(&(struct device_cuda_options){.index = -1}, ERR_INVALID, "counted from 0");
}

TEST(plugin_that_cannot_be_used_is_refused)
{
    struct device_cuda_options options = {.plugin = "/nowhere/libsanad_cuda.so"};
    char path[256];
    FILE *f;

    expect_no_device(&options, ERR_NOT_FOUND, "/nowhere/libsanad_cuda.so");
    snprintf(path, sizeof(path), "%s/text.so", test_dir());
    f = fopen(path, "w");
    EXPECT(f && fputs("not a library\n", f) >= 0 && fclose(f) == 0);
    options.plugin = path;
    expect_no_device(&options, ERR_UNSUPPORTED, "text.so");
    options.plugin = "libm.so.6";
    expect_no_device(&options, ERR_UNSUPPORTED, "sanad_cuda_get");
}

TEST(plugin_of_another_version_gives_no_table)
{
    struct device dev;
    cuda_get_fn get;

    open_gpu(&dev);
    *(void **)&get = dlsym(dev.plugin, "sanad_cuda_get");
    EXPECT(get && get(CUDA_API_VERSION) == dev.cuda);
    EXPECT(!get(CUDA_API_VERSION + 1) && !get(0));
    device_close(&dev);
}

/* Only one of the two was built again after a struct had changed. */
TEST(plugin_of_another_layout_is_refused)
{
    struct cuda_api table;
    struct device dev;

    open_gpu(&dev);
    EXPECT_OK(cuda_table_check(dev.cuda, &err));
    for (int i = 0; i < CUDA_LAYOUT_NUMBERS; i++) {
        table = *dev.cuda;
        EXPECT(table.layout[i] > 0);
        table.layout[i]++;
        EXPECT_INT(cuda_table_check(&table, &err), ERR_UNSUPPORTED);
    }
    EXPECT_CONTAINS(err.msg, "build and install both together");
    EXPECT_INT(cuda_table_check(NULL, &err), ERR_UNSUPPORTED);
    device_close(&dev);
}

/* ---- memory ---- */

TEST(memory_is_aligned_and_counted)
{
    static const size_t size[] = {0, 1, 255, 256, 257, 100000};
    struct device dev;
    struct device_memory m;
    void *p[ARRAY_LEN(size)];
    size_t sum = 0;

    open_gpu(&dev);
    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        EXPECT_OK(device_alloc(&dev, size[i], &p[i], &err));
        EXPECT_INT((uintptr_t)p[i] % 256, 0);
        sum += size[i];
    }
    device_memory(&dev, &m);
    EXPECT(m.used == sum && m.peak == sum);
    for (size_t i = 0; i < ARRAY_LEN(size); i++) { /* not in the order of a stack */
        device_free(&dev, p[i]);
    }
    device_free(&dev, NULL);
    device_memory(&dev, &m);
    EXPECT(m.used == 0 && m.peak == sum);
    device_close(&dev);
}

TEST(memory_that_is_not_there_is_an_error_that_says_how_much_is)
{
    static const size_t size[] = {(size_t)1 << 60, SIZE_MAX, SIZE_MAX - 255};
    struct device_memory m;
    struct device dev;
    void *p = NULL;

    open_gpu(&dev);
    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        EXPECT_INT(device_alloc(&dev, size[i], &p, &err), ERR_NO_VRAM);
        EXPECT_CONTAINS(err.msg, "cuda:0: ");
        EXPECT_CONTAINS(err.msg, "MiB are free");
        EXPECT(!p);
    }
    device_memory(&dev, &m);
    EXPECT(m.used == 0 && m.peak == 0);
    EXPECT_OK(device_alloc(&dev, 1 << 20, &p, &err)); /* it goes on */
    device_free(&dev, p);
    device_close(&dev);
}

TEST(memory_keeps_to_a_limit)
{
    struct device dev;
    struct device_memory m;
    void *p = NULL;
    void *q = NULL;

    open_with(&dev, (struct device_cuda_options){.memory_limit = (size_t)256 << 20});
    device_memory(&dev, &m);
    EXPECT(m.free > 0 && m.free < (size_t)256 << 20); /* the device needs some itself */
    EXPECT_OK(device_alloc(&dev, m.free, &p, &err));
    EXPECT_INT(device_alloc(&dev, 1, &q, &err), ERR_NO_VRAM);
    EXPECT_CONTAINS(err.msg, "0.0 of the limit of 256.0 MiB are left");
    device_free(&dev, p);
    EXPECT_OK(device_alloc(&dev, m.free, &p, &err));
    device_free(&dev, p);
    device_close(&dev);
}

TEST(a_limit_below_what_the_device_needs_is_refused)
{
    expect_no_device(&(struct device_cuda_options){.memory_limit = 1}, ERR_NO_VRAM,
                     "of the limit of 0.0 MiB are left");
}

/* ---- copies ---- */

static void check_round_trip(struct device *dev, size_t bytes)
{
    struct tensor t = TENSOR_OF(NULL, DTYPE_U8, (int64_t)bytes);
    unsigned char *from = test_alloc(bytes);
    unsigned char *back = test_alloc(bytes);

    EXPECT_OK(device_alloc(dev, bytes, &t.data, &err));
    for (size_t i = 0; i < bytes; i++) {
        from[i] = (unsigned char)(i * 31 + i / 253);
    }
    EXPECT_OK(device_upload(dev, &t, from, &err));
    memset(from, 0xEE, bytes); /* it may be reused at once */
    memset(back, 0, bytes);
    EXPECT_OK(device_download(dev, back, &t, &err));
    for (size_t i = 0; i < bytes; i++) {
        EXPECT(back[i] == (unsigned char)(i * 31 + i / 253));
    }
    device_free(dev, t.data);
    free(from);
    free(back);
}

TEST(copies_of_any_size_arrive)
{
    static const size_t size[] = {0,     1,        65535,          65536,
                                  65537, 16 << 20, (16 << 20) + 1, (33 << 20) + 7};
    struct device dev;

    open_gpu(&dev);
    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        check_round_trip(&dev, size[i]);
    }
    device_close(&dev);
}

/* More than the small pieces there are, none of them waited for; each is used before the next comes. */
TEST(many_small_uploads_keep_their_order)
{
    float *host = test_alloc(COUNT * sizeof(float));
    struct device dev;
    struct tensor sum;
    struct tensor step;

    open_gpu(&dev);
    sum = floats(&dev, COUNT);
    step = floats(&dev, COUNT);
    fill(&dev, &sum, 0);
    for (int i = 1; i <= 300; i++) {
        for (int k = 0; k < COUNT; k++) {
            host[k] = (float)i;
        }
        EXPECT_OK(device_upload(&dev, &step, host, &err));
        EXPECT_OK(op_add(&dev, &sum, &sum, &step, &err));
    }
    EXPECT(value_of(&dev, &sum) == 300.0F * 301 / 2);
    device_free(&dev, sum.data);
    device_free(&dev, step.data);
    device_close(&dev);
    free(host);
}

TEST(uploads_convert_as_on_the_cpu)
{
    static const enum dtype from_type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    static const enum dtype to_type[] = {DTYPE_F32, DTYPE_BF16};
    const int64_t n = (9 << 20) + 3; /* more than a piece of it as F32 */
    char *want = test_alloc((size_t)n * 4);
    char *got = test_alloc((size_t)n * 4);
    uint32_t *from = test_alloc((size_t)n * 4);
    struct device dev;

    for (int64_t i = 0; i < n; i++) { /* all kinds of numbers, in every type */
        from[i] = (uint32_t)i * 2654435761U;
    }
    open_gpu(&dev);
    for (size_t k = 0; k < ARRAY_LEN(from_type) * ARRAY_LEN(to_type); k++) {
        struct tensor t = TENSOR_OF(NULL, to_type[k % 2], n);

        EXPECT_OK(device_alloc(&dev, tensor_bytes(&t), &t.data, &err));
        EXPECT_OK(device_upload_as(&dev, &t, from, from_type[k / 2], &err));
        EXPECT_OK(device_download(&dev, got, &t, &err));
        convert_floats(want, t.dtype, from, from_type[k / 2], n);
        EXPECT(memcmp(got, want, tensor_bytes(&t)) == 0);
        device_free(&dev, t.data);
    }
    device_close(&dev);
    free(want);
    free(got);
    free(from);
}

TEST(a_dry_run_touches_nothing)
{
    struct tensor t = TENSOR_F32(NULL, COUNT); /* no memory behind it */
    struct device dev;
    bool replayed = true;

    open_gpu(&dev);
    dev.dry_run = true;
    EXPECT_OK(device_upload(&dev, &t, NULL, &err));
    EXPECT_OK(device_download(&dev, NULL, &t, &err));
    EXPECT_OK(device_download_start(&dev, NULL, &t, &err));
    device_select(&dev, DEVICE_STREAM_COPY);
    EXPECT_OK(device_mark(&dev, DEVICE_MARK_STEP_A, &err));
    EXPECT_OK(device_follow(&dev, DEVICE_MARK_STEP_A, &err));
    EXPECT_OK(device_wait(&dev, DEVICE_MARK_STEP_A, &err));
    EXPECT_OK(device_graph_begin(&dev, 5, &replayed, &err));
    EXPECT(!replayed);
    EXPECT_OK(device_graph_end(&dev, &err));
    device_graph_abort(&dev);
    device_close(&dev);
}

/* ---- streams and marks ---- */

TEST(a_download_is_there_after_its_mark)
{
    struct device dev;
    struct tensor t;
    void *host = NULL;

    open_gpu(&dev);
    t = floats(&dev, COUNT);
    EXPECT_OK(device_host_alloc(&dev, tensor_bytes(&t), &host, &err));
    EXPECT_OK(device_wait(&dev, DEVICE_MARK_FRAMES_A, &err)); /* never set */
    for (int i = 1; i < 5; i++) {
        device_select(&dev, DEVICE_STREAM_DECODE);
        EXPECT_OK(device_follow(&dev, DEVICE_MARK_FRAMES_A, &err)); /* t was read */
        fill(&dev, &t, (float)i);
        EXPECT_OK(device_mark(&dev, DEVICE_MARK_YUV_A, &err));
        device_select(&dev, DEVICE_STREAM_COPY);
        EXPECT_OK(device_follow(&dev, DEVICE_MARK_YUV_A, &err));
        EXPECT_OK(device_download_start(&dev, host, &t, &err));
        EXPECT_OK(device_mark(&dev, DEVICE_MARK_FRAMES_A, &err));
        EXPECT_OK(device_wait(&dev, DEVICE_MARK_FRAMES_A, &err));
        EXPECT(((float *)host)[0] == (float)i && ((float *)host)[COUNT - 1] == (float)i);
    }
    device_select(&dev, DEVICE_STREAM_MAIN);
    device_host_free(&dev, host);
    device_host_free(&dev, NULL);
    device_free(&dev, t.data);
    device_close(&dev);
}

TEST(streams_follow_each_other_by_marks)
{
    struct device dev;
    struct tensor latents;
    struct tensor sum;

    open_gpu(&dev);
    latents = floats(&dev, COUNT);
    sum = floats(&dev, COUNT);
    device_select(&dev, DEVICE_STREAM_DECODE);
    fill(&dev, &sum, 0);
    for (int i = 1; i <= 20; i++) {
        device_select(&dev, DEVICE_STREAM_MAIN);
        EXPECT_OK(device_follow(&dev, DEVICE_MARK_STEP_A, &err));
        fill(&dev, &latents, (float)i);
        EXPECT_OK(device_mark(&dev, DEVICE_MARK_LATENTS, &err));
        device_select(&dev, DEVICE_STREAM_DECODE);
        EXPECT_OK(device_follow(&dev, DEVICE_MARK_LATENTS, &err));
        EXPECT_OK(op_add(&dev, &sum, &sum, &latents, &err));
        EXPECT_OK(device_mark(&dev, DEVICE_MARK_STEP_A, &err));
    }
    EXPECT(value_of(&dev, &sum) == 210);
    device_free(&dev, latents.data);
    device_free(&dev, sum.data);
    device_close(&dev);
}

/* ---- what went wrong ---- */

static void check_finite(struct device *dev, const struct tensor *t, const char *stage)
{
    EXPECT_OK(op_check_finite(dev, t, stage, &err));
}

TEST(the_first_stage_that_went_wrong_is_told_once)
{
    struct device dev;
    struct tensor good;
    struct tensor bad;
    float x[COUNT];

    open_gpu(&dev);
    good = floats(&dev, COUNT);
    bad = floats(&dev, COUNT);
    fill(&dev, &good, 1);
    fill(&dev, &bad, NAN);
    check_finite(&dev, &good, "the first");
    EXPECT_OK(device_mark(&dev, DEVICE_MARK_STEP_A, &err));
    check_finite(&dev, &bad, "the second");
    check_finite(&dev, &bad, "the third");
    check_finite(&dev, &good, "the fourth");
    EXPECT_OK(device_mark(&dev, DEVICE_MARK_STEP_B, &err));
    EXPECT_OK(device_wait(&dev, DEVICE_MARK_STEP_A, &err)); /* before it all was well */
    EXPECT_INT(device_wait(&dev, DEVICE_MARK_STEP_B, &err), ERR_NUMERIC);
    EXPECT_STR(err.msg, "the second produced NaN or infinity");
    EXPECT_OK(device_wait(&dev, DEVICE_MARK_STEP_B, &err));
    EXPECT_OK(device_download(&dev, x, &good, &err));
    fill(&dev, &bad, INFINITY);
    check_finite(&dev, &bad, "the fifth");
    EXPECT_INT(device_download(&dev, x, &good, &err), ERR_NUMERIC);
    EXPECT_STR(err.msg, "the fifth produced NaN or infinity");
    EXPECT_OK(device_download(&dev, x, &good, &err));
    device_free(&dev, good.data);
    device_free(&dev, bad.data);
    device_close(&dev);
}

TEST(one_bad_number_anywhere_is_found)
{
    static const int64_t at[] = {0, 1, 31, 32, 255, 256, COUNT - 1};
    float x[COUNT];
    struct device dev;
    struct tensor t;

    open_gpu(&dev);
    t = floats(&dev, COUNT);
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        memset(x, 0, sizeof(x));
        x[at[i]] = i % 2 ? NAN : -INFINITY;
        EXPECT_OK(device_upload(&dev, &t, x, &err));
        check_finite(&dev, &t, "it");
        EXPECT_INT(device_download(&dev, x, &t, &err), ERR_NUMERIC);
    }
    device_free(&dev, t.data);
    device_close(&dev);
}

TEST(stages_may_be_many)
{
    struct device dev;
    struct tensor good;
    struct tensor bad;
    char stage[200];
    float x[COUNT];

    open_gpu(&dev);
    good = floats(&dev, COUNT);
    bad = floats(&dev, COUNT);
    fill(&dev, &good, 1);
    fill(&dev, &bad, NAN);
    for (int i = 0; i < 600; i++) {
        snprintf(stage, sizeof(stage), "stage %d", i);
        check_finite(&dev, i == 300 ? &bad : &good, stage);
        if (i == 400) {
            EXPECT_INT(device_download(&dev, x, &good, &err), ERR_NUMERIC);
            EXPECT_STR(err.msg, "stage 300 produced NaN or infinity");
        }
    }
    memset(stage, 'x', sizeof(stage) - 1); /* too long: it is cut */
    stage[sizeof(stage) - 1] = '\0';
    check_finite(&dev, &bad, stage);
    for (int i = 0; i < 300; i++) {
        check_finite(&dev, &good, "later");
    }
    EXPECT_INT(device_download(&dev, x, &good, &err), ERR_NUMERIC);
    EXPECT_STR(err.msg, "an earlier stage produced NaN or infinity");
    device_free(&dev, good.data);
    device_free(&dev, bad.data);
    device_close(&dev);
}

/* ---- graphs ---- */

/* sum += step, and one more, under a key. */
static bool add_once(struct device *dev, uint64_t key, const struct tensor *sum,
                     const struct tensor *step)
{
    bool replayed = false;

    EXPECT_OK(device_graph_begin(dev, key, &replayed, &err));
    if (!replayed) {
        EXPECT_OK(op_add(dev, sum, sum, step, &err));
        EXPECT_OK(op_add(dev, sum, sum, step, &err));
        EXPECT_OK(device_graph_end(dev, &err));
    }
    return replayed;
}

struct adding {
    struct device dev;
    struct tensor sum, step;
};

static void adding_open(struct adding *a)
{
    open_gpu(&a->dev);
    a->sum = floats(&a->dev, COUNT);
    a->step = floats(&a->dev, COUNT);
    fill(&a->dev, &a->sum, 0);
    fill(&a->dev, &a->step, 1);
}

static void adding_close(struct adding *a)
{
    device_graphs_clear(&a->dev);
    device_free(&a->dev, a->sum.data);
    device_free(&a->dev, a->step.data);
    device_close(&a->dev);
}

TEST(a_sequence_is_recorded_at_its_second_run)
{
    struct adding a;

    adding_open(&a);
    for (int i = 0; i < 5; i++) {
        EXPECT_INT(add_once(&a.dev, 7, &a.sum, &a.step), i >= 2);
        EXPECT(value_of(&a.dev, &a.sum) == 2.0F * (float)(i + 1));
    }
    fill(&a.dev, &a.step, 10); /* a recording reads what is there when it runs */
    EXPECT(add_once(&a.dev, 7, &a.sum, &a.step));
    EXPECT(value_of(&a.dev, &a.sum) == 30);
    device_graphs_clear(&a.dev);
    EXPECT(!add_once(&a.dev, 7, &a.sum, &a.step));
    EXPECT(!add_once(&a.dev, 0, &a.sum, &a.step)); /* never recorded */
    EXPECT(!add_once(&a.dev, 0, &a.sum, &a.step));
    EXPECT(!add_once(&a.dev, 0, &a.sum, &a.step));
    EXPECT(value_of(&a.dev, &a.sum) == 110);
    adding_close(&a);
}

TEST(the_sequence_not_used_for_longest_is_forgotten)
{
    struct adding a;

    adding_open(&a);
    for (uint64_t key = 1; key <= 64; key++) {
        EXPECT(!add_once(&a.dev, key, &a.sum, &a.step));
        EXPECT(!add_once(&a.dev, key, &a.sum, &a.step));
    }
    EXPECT(add_once(&a.dev, 1, &a.sum, &a.step));
    EXPECT(!add_once(&a.dev, 65, &a.sum, &a.step)); /* in the place of 2 */
    EXPECT(add_once(&a.dev, 1, &a.sum, &a.step));
    EXPECT(add_once(&a.dev, 64, &a.sum, &a.step));
    EXPECT(!add_once(&a.dev, 2, &a.sum, &a.step));
    EXPECT(value_of(&a.dev, &a.sum) == 2 * 133);
    adding_close(&a);
}

TEST(an_aborted_sequence_leaves_nothing)
{
    struct adding a;
    bool replayed = false;

    adding_open(&a);
    for (int i = 0; i < 3; i++) {
        EXPECT(!add_once(&a.dev, 7, &a.sum, &a.step));
        EXPECT_OK(device_graph_begin(&a.dev, 7, &replayed, &err));
        EXPECT(!replayed);
        EXPECT_OK(op_add(&a.dev, &a.sum, &a.sum, &a.step, &err)); /* recorded, not run */
        device_graph_abort(&a.dev);
        EXPECT(value_of(&a.dev, &a.sum) == 2.0F * (float)(i + 1));
        device_graphs_clear(&a.dev);
    }
    device_graph_abort(&a.dev); /* there is none */
    adding_close(&a);
}

TEST(a_graph_holds_operations_only)
{
    struct adding a;
    float x[COUNT] = {0};
    bool replayed = false;
    void *p = NULL;

    adding_open(&a);
    EXPECT(!add_once(&a.dev, 7, &a.sum, &a.step));
    EXPECT_OK(device_graph_begin(&a.dev, 7, &replayed, &err));
    EXPECT_INT(device_upload(&a.dev, &a.step, x, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "inside a graph");
    EXPECT_INT(device_download(&a.dev, x, &a.step, &err), ERR_INVALID);
    EXPECT_INT(device_download_start(&a.dev, x, &a.step, &err), ERR_INVALID);
    EXPECT_INT(device_mark(&a.dev, DEVICE_MARK_STEP_A, &err), ERR_INVALID);
    EXPECT_INT(device_follow(&a.dev, DEVICE_MARK_STEP_A, &err), ERR_INVALID);
    EXPECT_INT(device_wait(&a.dev, DEVICE_MARK_STEP_A, &err), ERR_INVALID);
    EXPECT_INT(device_alloc(&a.dev, 1, &p, &err), ERR_INVALID);
    device_graph_abort(&a.dev);
    EXPECT(!add_once(&a.dev, 7, &a.sum, &a.step)); /* it can still be recorded */
    EXPECT(add_once(&a.dev, 7, &a.sum, &a.step));
    EXPECT(value_of(&a.dev, &a.sum) == 6);
    adding_close(&a);
}
