#include "kernels/embed.h"

#include <string.h>

#include "tests/support/test.h"

TEST(embed_gathers_and_scales_rows)
{
    float table[] = {1, 2, 3, 4, 5, 6};
    int32_t ids[] = {2, 0, 2};
    float y[7] = {0, 0, 0, 0, 0, 0, 77};
    const float want[] = {15, 18, 3, 6, 15, 18};
    struct tensor tt = TENSOR_F32(table, 3, 2);
    struct tensor ti = TENSOR_OF(ids, DTYPE_I32, 3);
    struct tensor ty = TENSOR_F32(y, 3, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_OK(op_embed(&dev, &ty, &tt, &ti, 3, &err));
    EXPECT_CLOSE(y, want, 6, 0, 0);
    EXPECT(y[6] == 77);
    device_close(&dev);
}

TEST(embed_reads_half_tables_where_they_lie)
{
    /* 1.5 and -2 in bf16 and in f16, at an odd address. */
    static const uint16_t bits[2][4] = {{0, 0, 0x3fc0, 0xc000}, {0, 0, 0x3e00, 0xc000}};
    static const enum dtype dtype[] = {DTYPE_BF16, DTYPE_F16};
    const float want[] = {6, -8};
    int32_t id = 1;
    float y[2];
    char table[9];
    struct tensor ti = TENSOR_OF(&id, DTYPE_I32, 1);
    struct tensor ty = TENSOR_F32(y, 1, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    for (int i = 0; i < 2; i++) {
        struct tensor tt = TENSOR_OF(table + 1, dtype[i], 2, 2);

        memcpy(table + 1, bits[i], sizeof(bits[i]));
        EXPECT_OK(op_embed(&dev, &ty, &tt, &ti, 4, &err));
        EXPECT_CLOSE(y, want, 2, 0, 0);
    }
    device_close(&dev);
}

TEST(embed_refuses_what_does_not_fit_and_computes_nothing_dry)
{
    float data[6] = {0};
    float y[2] = {77, 77};
    int32_t id = 5;
    struct tensor tt = TENSOR_F32(data, 3, 2);
    struct tensor ti = TENSOR_OF(&id, DTYPE_I32, 1);
    struct tensor ty = TENSOR_F32(y, 1, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_INT(op_embed(&dev, &tt, &tt, &ti, 1, &err), ERR_INVALID);
    EXPECT_INT(op_embed(&dev, &ty, &ti, &ti, 1, &err), ERR_INVALID);
    EXPECT_INT(op_embed(&dev, &ty, &tt, &ty, 1, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "ids is F32[1, 2]");
    dev.dry_run = true;
    EXPECT_OK(op_embed(&dev, &ty, &tt, &ti, 1, &err));
    EXPECT(y[0] == 77);
    device_close(&dev);
}
