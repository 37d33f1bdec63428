#include "kernels/device.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/op_test.h"

TEST(device_opens_with_the_threads_asked_for)
{
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_STR(dev.name, "cpu, 1 thread");
    EXPECT_INT(thread_pool_size(dev.pool), 1);
    EXPECT(dev.kind == DEVICE_CPU && !dev.dry_run);
    device_close(&dev);
    EXPECT_OK(device_open_cpu(&dev, 3, &err));
    EXPECT_STR(dev.name, "cpu, 3 threads");
    EXPECT_INT(thread_pool_size(dev.pool), 3);
    device_close(&dev);
    device_close(&dev); /* it is a zeroed struct now */
}

TEST(device_takes_the_cores_of_this_process_when_not_told)
{
    struct device dev;
    struct err err;
    cpu_set_t set;

    EXPECT(sched_getaffinity(0, sizeof(set), &set) == 0);
    EXPECT_OK(device_open_cpu(&dev, 0, &err));
    EXPECT_INT(thread_pool_size(dev.pool), CPU_COUNT(&set));
    device_close(&dev);
}

TEST(device_refuses_a_number_of_threads_out_of_range)
{
    struct device dev;
    struct err err;

    EXPECT_REFUSED(device_open_cpu(&dev, -1, &err), "threads: -1 is not in 0..1024");
    EXPECT_REFUSED(device_open_cpu(&dev, 1025, &err), "threads: 1025");
}

static bool open_failing_at(long n)
{
    struct device dev;
    struct err err;
    bool failed;
    int rc;

    alloc_fail_at(n);
    rc = device_open_cpu(&dev, 2, &err);
    failed = alloc_fail_stop();
    EXPECT_INT(rc, failed ? ERR_NO_MEMORY : ERR_OK);
    if (failed) {
        EXPECT_CONTAINS(err.msg, "2 threads");
        EXPECT(!dev.pool && !dev.scratch);
    }
    device_close(&dev); /* harmless after a failure */
    return failed;
}

TEST(device_open_survives_every_failed_allocation)
{
    long n = 1;

    while (open_failing_at(n)) {
        n++;
    }
    EXPECT_INT(n, 3); /* the pool and the scratch */
}

TEST(device_allocates_aligned_memory_of_any_size)
{
    static const size_t size[] = {0, 1, 63, 64, 65, 100000};
    struct device dev;
    struct err err;
    void *p = NULL;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        EXPECT_OK(device_alloc(&dev, size[i], &p, &err));
        EXPECT_INT((uintptr_t)p % 64, 0);
        memset(p, 1, size[i]);
        device_free(&dev, p);
    }
    device_free(&dev, NULL);
    device_close(&dev);
}

TEST(device_alloc_reports_what_it_cannot_get)
{
    struct device dev;
    struct err err;
    void *p = NULL;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    alloc_fail_at(1);
    EXPECT_INT(device_alloc(&dev, 3 << 20, &p, &err), ERR_NO_MEMORY);
    EXPECT(alloc_fail_stop());
    EXPECT_STR(err.msg, "3.0 MiB on the cpu device");
    EXPECT_INT(device_alloc(&dev, SIZE_MAX, &p, &err), ERR_NO_MEMORY);
    EXPECT_INT(device_alloc(&dev, SIZE_MAX - 63, &p, &err), ERR_NO_MEMORY);
    EXPECT(!p);
    device_close(&dev);
}

TEST(device_copies_between_host_and_tensor_but_not_in_a_dry_run)
{
    static const uint16_t from[] = {1, 2, 3, 4, 5, 6};
    uint16_t *memory = op_test_buffer(sizeof(from));
    uint16_t *back = op_test_buffer(sizeof(from));
    const struct tensor t = TENSOR_OF(memory, DTYPE_BF16, 2, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    dev.dry_run = true;
    EXPECT_OK(device_upload(&dev, &t, from, &err));
    EXPECT(memory[0] == 0xffff && memory[5] == 0xffff);
    dev.dry_run = false;
    EXPECT_OK(device_upload(&dev, &t, from, &err));
    EXPECT(memcmp(memory, from, sizeof(from)) == 0);
    dev.dry_run = true;
    EXPECT_OK(device_download(&dev, back, &t, &err));
    EXPECT(back[0] == 0xffff && back[5] == 0xffff);
    dev.dry_run = false;
    EXPECT_OK(device_download(&dev, back, &t, &err));
    EXPECT(memcmp(back, from, sizeof(from)) == 0);
    device_close(&dev);
    op_test_free(memory);
    op_test_free(back);
}

TEST(device_upload_as_converts_floats_and_nothing_else)
{
    static const float from[] = {1, -2.5F, 3.00390625F,
                                 1e30F}; /* the third lies between two bf16 */
    uint16_t half[4] = {0};
    float back[4] = {0};
    const struct tensor as_bf16 = TENSOR_OF(half, DTYPE_BF16, 4);
    const struct tensor as_f32 = TENSOR_F32(back, 4);
    const struct tensor as_i32 = TENSOR_OF(back, DTYPE_I32, 4);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    dev.dry_run = true;
    EXPECT_OK(device_upload_as(&dev, &as_bf16, from, DTYPE_F32, &err));
    EXPECT(half[0] == 0);
    dev.dry_run = false;
    EXPECT_OK(device_upload_as(&dev, &as_bf16, from, DTYPE_F32, &err));
    EXPECT(half[0] == 0x3f80 && half[1] == 0xc020 && half[2] == 0x4040);
    EXPECT_OK(device_upload_as(&dev, &as_f32, half, DTYPE_BF16, &err));
    EXPECT(back[0] == 1 && back[1] == -2.5F && back[2] == 3);
    EXPECT_OK(device_upload_as(&dev, &as_i32, from, DTYPE_I32, &err));
    EXPECT_REFUSED(device_upload_as(&dev, &as_i32, from, DTYPE_F32, &err), "upload: I32 from F32");
    EXPECT_REFUSED(device_upload_as(&dev, &as_f32, from, DTYPE_U8, &err), "upload: F32 from U8");
    device_close(&dev);
}

TEST(device_without_a_gpu_does_everything_at_once)
{
    struct tensor t = TENSOR_F32(NULL, 3);
    const float x[] = {1, 2, 3};
    struct device_memory m = {.used = 1};
    bool replayed = true;
    struct device dev;
    struct err err;
    void *host = NULL;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT(dev.act == DTYPE_F32);
    EXPECT_OK(device_alloc(&dev, sizeof(x), &t.data, &err));
    EXPECT_OK(device_host_alloc(&dev, sizeof(x), &host, &err));
    device_select(&dev, DEVICE_STREAM_COPY);
    EXPECT_OK(device_follow(&dev, DEVICE_MARK_STEP_A, &err));
    EXPECT_OK(device_upload(&dev, &t, x, &err));
    EXPECT_OK(device_download_start(&dev, host, &t, &err));
    EXPECT_CLOSE((const float *)host, x, 3, 0, 0);
    EXPECT_OK(device_mark(&dev, DEVICE_MARK_STEP_A, &err));
    EXPECT_OK(device_wait(&dev, DEVICE_MARK_STEP_A, &err));
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(device_graph_begin(&dev, 7, &replayed, &err));
        EXPECT(!replayed);
        EXPECT_OK(device_graph_end(&dev, &err));
    }
    device_graph_abort(&dev);
    device_graphs_clear(&dev);
    device_memory(&dev, &m);
    EXPECT(m.total == 0 && m.free == 0 && m.used == 0 && m.peak == 0);
    device_host_free(&dev, host);
    device_host_free(&dev, NULL);
    device_free(&dev, t.data);
    device_close(&dev);
}

struct scratch_job {
    struct device *dev;
    atomic_int busy[3]; /* tasks now in the scratch of a thread */
    atomic_int wrong;
};

/* Fills all of its scratch; nobody else may write there meanwhile. */
static void use_scratch(void *ctx, int64_t task, int thread)
{
    struct scratch_job *job = ctx;
    unsigned char *p = device_scratch(job->dev, thread);

    if (atomic_fetch_add(&job->busy[thread], 1) != 0 || (uintptr_t)p % 64 != 0) {
        atomic_fetch_add(&job->wrong, 1);
    }
    memset(p, (int)task, DEVICE_SCRATCH_BYTES);
    for (size_t i = 0; i < DEVICE_SCRATCH_BYTES; i += 4093) {
        if (p[i] != (unsigned char)task) {
            atomic_fetch_add(&job->wrong, 1);
        }
    }
    atomic_fetch_sub(&job->busy[thread], 1);
}

TEST(device_gives_each_thread_its_own_scratch)
{
    struct scratch_job job = {0};
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 3, &err));
    job.dev = &dev;
    device_parallel(&dev, 12, use_scratch, &job);
    EXPECT_INT(job.wrong, 0);
    device_close(&dev);
}

TEST(device_shape_err_names_operation_argument_and_shape)
{
    const struct tensor t = TENSOR_F32(NULL, 3, 4);
    struct err err;

    EXPECT_REFUSED(device_shape_err(&err, "matmul", "w", &t), "matmul: w is F32[3, 4]");
}
