#include "kernels/channel_affine.h"

#include <string.h>

#include "tests/support/test.h"

TEST(channel_affine_computes_by_hand_and_in_place)
{
    float x[] = {1, 2, 3, 4, 5, 6};
    float a[] = {2, 0.5F, -1};
    float b[] = {0, 1, 10};
    const float want[] = {2, 2, 7, 8, 3.5F, 4};
    float y[6];
    struct tensor tx = TENSOR_F32(x, 1, 2, 1, 3);
    struct tensor ty = TENSOR_F32(y, 1, 2, 1, 3);
    struct tensor scale = TENSOR_F32(a, 3);
    struct tensor shift = TENSOR_F32(b, 3);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 2, &err));
    EXPECT_OK(op_channel_affine(&dev, &ty, &tx, &scale, &shift, &err));
    EXPECT_CLOSE(y, want, 6, 0, 0);
    EXPECT_OK(op_channel_affine(&dev, &tx, &tx, &scale, &shift, &err));
    EXPECT_CLOSE(x, want, 6, 0, 0);
    dev.dry_run = true;
    EXPECT_OK(op_channel_affine(&dev, &tx, &tx, &scale, &shift, &err));
    EXPECT_CLOSE(x, want, 6, 0, 0);
    device_close(&dev);
}

TEST(channel_affine_refuses_what_does_not_fit)
{
    float data[6] = {0};
    struct tensor x = TENSOR_F32(data, 2, 3);
    struct tensor y = TENSOR_F32(data, 3, 2);
    struct tensor three = TENSOR_F32(data, 3);
    struct tensor two = TENSOR_F32(data, 2);
    struct device dev;
    struct err err;

    EXPECT_OK(device_open_cpu(&dev, 1, &err));
    EXPECT_INT(op_channel_affine(&dev, &y, &x, &three, &three, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "y is F32[3, 2]");
    EXPECT_INT(op_channel_affine(&dev, &x, &x, &two, &three, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "scale is F32[2]");
    EXPECT_INT(op_channel_affine(&dev, &x, &x, &three, &two, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "shift is F32[2]");
    x.dtype = DTYPE_I32;
    EXPECT_INT(op_channel_affine(&dev, &x, &x, &three, &three, &err), ERR_INVALID);
    device_close(&dev);
}
