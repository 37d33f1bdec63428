#include "kernels/rope_half.h"

#include <math.h>

#include "tests/support/cuda_test.h"

static struct err err;

struct table {
    struct cuda_pair table;
    bool bf16;
};

static void run_table(struct device *dev, void *ctx, int side)
{
    const struct table *t = ctx;

    EXPECT_OK(op_rope_half_table(dev, &t->table.on[side], 10000, t->bf16, &err));
}

CUDA_TEST(rope_half_table_is_the_cpus)
{
    (void)act;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct table t = {.table = cuda_pair_output(DTYPE_F32, CUDA_DIMS(301, 2, 13)),
                          .bf16 = bf16 != 0};
        const float *got;

        cuda_test_run(run_table, &t);
        got = cuda_pair_download(&t.table);
        for (int64_t i = 0; i < tensor_count(&t.table.on[CUDA_CPU]); i++) {
            EXPECT(fabsf(got[i] - ((const float *)t.table.on[CUDA_CPU].data)[i]) <= 1e-6F);
        }
    }
}

struct rope {
    struct cuda_pair x, table;
};

static void run(struct device *dev, void *ctx, int side)
{
    const struct rope *r = ctx;

    EXPECT_OK(op_rope_half(dev, &r->x.on[side], &r->table.on[side], &err));
}

static void check(enum dtype act, int64_t rows, int64_t heads, int64_t half)
{
    struct rope r = {.x = cuda_pair_inout(act, 1, 2, CUDA_DIMS(rows, heads * 2 * half)),
                     .table = cuda_pair_random(DTYPE_F32, 2, 1, CUDA_DIMS(rows, 2, half))};

    cuda_test_run(run, &r);
    cuda_pair_expect(&r.x, act == DTYPE_BF16 ? 4e-3 : 1e-6);
}

CUDA_TEST(rope_half_matches)
{
    check(act, 0, 1, 4);
    check(act, 1, 1, 1);
    check(act, 5, 3, 7);
    check(act, 7, 2, 16);
    check(act, 4, 3, 6);
    check(act, 3, 4, 128);
}

CUDA_TEST(rope_half_refuses_the_other_types)
{
    struct device *dev = cuda_test_device(CUDA_GPU);
    float data[16];
    const struct tensor table = TENSOR_F32(data, 2, 2, 2);
    const struct tensor half_table = TENSOR_OF(data, DTYPE_BF16, 2, 2, 2);
    const struct tensor f32 = TENSOR_F32(data, 2, 4);
    const struct tensor f16 = TENSOR_OF(data, DTYPE_F16, 2, 4);

    (void)act;
    EXPECT_INT(op_rope_half(dev, &f16, &table, &err), ERR_INVALID);
    EXPECT_INT(op_rope_half(dev, &f32, &half_table, &err), ERR_INVALID);
}
