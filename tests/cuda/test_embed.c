#include "kernels/embed.h"

#include "tests/support/cuda_test.h"

static struct err err;

struct embed {
    struct cuda_pair y, table, ids;
    float scale;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct embed *e = ctx;

    EXPECT_OK(op_embed(dev, &e->y.on[side], &e->table.on[side], &e->ids.on[side], e->scale, &err));
}

static void check(enum dtype dtype, int64_t cols)
{
    const int32_t ids[] = {6, 0, 3, 6, 1};
    struct embed e = {.scale = 1.75F};

    e.y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(5, cols));
    e.table = cuda_pair_random(dtype, 1, 1, CUDA_DIMS(7, cols));
    e.ids = cuda_pair_i32(ids, CUDA_DIMS(5));
    cuda_test_run(run, &e);
    cuda_pair_expect(&e.y, 0);
}

CUDA_TEST(embed_matches)
{
    check(act, 1);
    check(act, 7);
    check(act, 48);
    check(act, 2304);
}

CUDA_TEST(embed_takes_either_type_in_either_mode)
{
    (void)act;
    check(DTYPE_F32, 36);
    check(DTYPE_BF16, 36);
}

CUDA_TEST(embed_of_nothing_is_nothing)
{
    struct embed e = {.scale = 1};

    e.y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(0, 8));
    e.table = cuda_pair_random(act, 1, 1, CUDA_DIMS(7, 8));
    e.ids = cuda_pair_i32(NULL, CUDA_DIMS(0));
    cuda_test_run(run, &e);
}

CUDA_TEST(embed_refuses_f16_on_a_gpu)
{
    float data[8];
    const int32_t ids[] = {0};
    const struct tensor table = TENSOR_OF(data, DTYPE_F16, 2, 4);
    const struct cuda_pair id = cuda_pair_i32(ids, CUDA_DIMS(1));
    const struct cuda_pair y = cuda_pair_output(DTYPE_F32, CUDA_DIMS(1, 4));

    (void)act;
    EXPECT_INT(
        op_embed(cuda_test_device(CUDA_GPU), &y.on[CUDA_GPU], &table, &id.on[CUDA_GPU], 1, &err),
        ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "embed: table is F16[2, 4]");
}
