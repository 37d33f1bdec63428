#include "kernels/workspace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/op_test.h"

/* A stage of two tensors, rewound, then one larger: what a pipeline does. */
static void run_plan(struct workspace *ws, struct tensor ret[3])
{
    const size_t mark = workspace_mark(ws);
    struct err err;

    EXPECT_OK(WORKSPACE_F32(ws, &ret[0], &err, 3, 5)); /* 60 bytes: 256 */
    EXPECT_OK(workspace_tensor(ws, &ret[1], DTYPE_U8, 1, (const int64_t[]){65}, &err)); /* 512 */
    workspace_rewind(ws, mark);
    EXPECT_OK(WORKSPACE_F32(ws, &ret[2], &err, 256)); /* 1024, the peak */
}

TEST(workspace_plans_commits_exactly_the_peak_and_runs)
{
    struct tensor plan[3];
    struct tensor t[3];
    struct workspace ws;
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    workspace_init(&ws, &dev);
    run_plan(&ws, plan);
    EXPECT_INT(ws.peak, 1024);
    EXPECT(plan[0].data == plan[2].data && plan[0].data != NULL);
    workspace_rewind(&ws, 0);
    EXPECT_OK(workspace_commit(&ws, 0, &err));
    EXPECT_INT(ws.capacity, 1024);
    run_plan(&ws, t);
    EXPECT(TENSOR_IS(&t[0], DTYPE_F32, 3, 5) && TENSOR_IS(&t[1], DTYPE_U8, 65));
    EXPECT(t[0].data == ws.base && t[2].data == ws.base);
    EXPECT((char *)t[1].data == ws.base + 256);
    EXPECT_INT((uintptr_t)ws.base % 64, 0);
    memset(t[2].data, 0, tensor_bytes(&t[2]));
    EXPECT_INT(workspace_mark(&ws), 1024);
    workspace_done(&ws);
    workspace_done(&ws);
    device_close(&dev);
}

TEST(workspace_tensors_of_nothing_take_nothing)
{
    struct workspace ws;
    struct device dev;
    struct tensor t;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    workspace_init(&ws, &dev);
    EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, 0, INT64_MAX, INT64_MAX));
    EXPECT_INT(tensor_count(&t), 0);
    EXPECT_INT(ws.peak, 0);
    EXPECT_OK(workspace_commit(&ws, 0, &err));
    EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, 0, INT64_MAX, INT64_MAX));
    workspace_done(&ws);
    device_close(&dev);
}

TEST(workspace_refuses_sizes_that_overflow)
{
    struct workspace ws;
    struct device dev;
    struct tensor t = {0};
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    workspace_init(&ws, &dev);
    EXPECT_REFUSED(WORKSPACE_F32(&ws, &t, &err, INT64_MAX, 2), "too many elements");
    EXPECT_REFUSED(WORKSPACE_F32(&ws, &t, &err, 3, -1), "too many elements");
    EXPECT_INT(WORKSPACE_F32(&ws, &t, &err, INT64_MAX), ERR_NO_VRAM);
    EXPECT_INT(WORKSPACE_F32(&ws, &t, &err, INT64_MAX / 4), ERR_NO_VRAM); /* rounded up, 2^63 */
    EXPECT(!t.data);
    EXPECT_INT(ws.peak, 0);
    EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, INT64_MAX / 8));
    EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, INT64_MAX / 8 - 63));
    EXPECT_INT(WORKSPACE_F32(&ws, &t, &err, 1), ERR_NO_VRAM); /* all together */
    workspace_done(&ws);
    device_close(&dev);
}

TEST(workspace_commit_keeps_to_the_limit)
{
    struct workspace ws;
    struct device dev;
    struct tensor t;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    workspace_init(&ws, &dev);
    EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, 5 << 18)); /* 5 MiB */
    EXPECT_INT(workspace_commit(&ws, 4 << 20, &err), ERR_NO_VRAM);
    EXPECT_CONTAINS(err.msg, "the limit is 4 MiB");
    EXPECT_INT(workspace_commit(&ws, (5 << 20) - 1, &err), ERR_NO_VRAM);
    EXPECT_OK(workspace_commit(&ws, 5 << 20, &err));
    workspace_done(&ws);
    device_close(&dev);
}

TEST(workspace_commit_reports_a_failed_allocation)
{
    struct workspace ws;
    struct device dev;
    struct tensor t;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    workspace_init(&ws, &dev);
    EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, 1 << 18));
    alloc_fail_at(1);
    EXPECT_INT(workspace_commit(&ws, 0, &err), ERR_NO_MEMORY);
    EXPECT(alloc_fail_stop());
    EXPECT_STR(err.msg, "working memory of the session: 1.0 MiB on the cpu device");
    EXPECT(!ws.base);
    EXPECT_OK(workspace_commit(&ws, 0, &err)); /* the plan is still there */
    workspace_done(&ws);
    device_close(&dev);
}

#ifdef SANAD_POISON
TEST(workspace_poisons_what_nobody_wrote)
{
    struct workspace ws;
    struct device dev;
    struct tensor t;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    workspace_init(&ws, &dev);
    EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, 31));
    workspace_rewind(&ws, 0);
    EXPECT_OK(workspace_commit(&ws, 0, &err));
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(WORKSPACE_F32(&ws, &t, &err, 31));
        EXPECT(isnan(((float *)t.data)[0]) && isnan(((float *)t.data)[30]));
        memset(t.data, 0, tensor_bytes(&t));
        workspace_rewind(&ws, 0); /* what was there is gone with it */
    }
    workspace_done(&ws);
    device_close(&dev);
}
#endif
