#include "kernels/embed.h"

#include "kernels/convert.h"
#include "kernels/dispatch.h"

/* A few hundred rows: not worth cutting into tasks. */
static int embed_cpu(struct device *dev, const struct tensor *y, const struct tensor *table,
                     const struct tensor *ids, float scale, struct err *err)
{
    const int32_t *id = ids->data;
    const int64_t cols = table->dim[1];
    const size_t row_bytes = (size_t)cols * dtype_size(table->dtype);

    (void)dev;
    (void)err;
    for (int64_t i = 0; i < ids->dim[0]; i++) {
        float *row = (float *)y->data + i * cols;

        CHECK_BUG(id[i] >= 0 && id[i] < table->dim[0]);
        convert_to_f32(row, (const char *)table->data + (size_t)id[i] * row_bytes, table->dtype,
                       cols);
        for (int64_t c = 0; c < cols; c++) {
            row[c] *= scale;
        }
    }
    return ERR_OK;
}

int op_embed(struct device *dev, const struct tensor *y, const struct tensor *table,
             const struct tensor *ids, float scale, struct err *err)
{
    if (!TENSOR_IS(table, table->dtype, -1, -1) ||
        table->dtype > (dev->kind == DEVICE_CPU ? DTYPE_F16 : DTYPE_BF16)) {
        return device_shape_err(err, "embed", "table", table);
    }
    if (!TENSOR_IS(ids, DTYPE_I32, -1)) {
        return device_shape_err(err, "embed", "ids", ids);
    }
    if (!TENSOR_IS(y, DTYPE_F32, ids->dim[0], table->dim[1])) {
        return device_shape_err(err, "embed", "y", y);
    }
    return DEVICE_CALL(dev, embed, y, table, ids, scale, err);
}
