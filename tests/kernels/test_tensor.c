#include "kernels/tensor.h"

#include <string.h>

#include "tests/support/test.h"

TEST(tensor_types_have_sizes_and_names)
{
    static const size_t size[] = {4, 2, 2, 4, 8, 1};
    static const char *const name[] = {"F32", "BF16", "F16", "I32", "I64", "U8"};

    for (int t = DTYPE_F32; t <= DTYPE_U8; t++) {
        EXPECT_INT(dtype_size((enum dtype)t), size[t]);
        EXPECT_STR(dtype_name((enum dtype)t), name[t]);
    }
}

TEST(tensor_make_sets_the_dimensions_beyond_its_rank_to_one)
{
    static const int64_t dims[] = {3, 4, 5, 6, 7, 8};
    float x = 0;

    for (int i = 0; i < 7 * TENSOR_MAX_RANK; i++) {
        const int rank = i / TENSOR_MAX_RANK;
        const int axis = i % TENSOR_MAX_RANK;
        const struct tensor t = tensor_make(&x, DTYPE_F16, rank, dims);

        EXPECT(t.data == &x && t.dtype == DTYPE_F16 && t.rank == rank);
        EXPECT(t.dim[axis] == (axis < rank ? dims[axis] : 1));
    }
}

TEST(tensor_counts_elements_and_bytes)
{
    const struct tensor scalar = tensor_make(NULL, DTYPE_I64, 0, NULL);
    const struct tensor t = TENSOR_OF(NULL, DTYPE_BF16, 3, 1, 257);
    const struct tensor none = TENSOR_F32(NULL, 5, 0, 7);
    const struct tensor large = TENSOR_F32(NULL, 100000, 100000);

    EXPECT_INT(tensor_count(&scalar), 1);
    EXPECT_INT(tensor_bytes(&scalar), 8);
    EXPECT_INT(tensor_count(&t), 771);
    EXPECT_INT(tensor_bytes(&t), 1542);
    EXPECT_INT(tensor_count(&none), 0);
    EXPECT_INT(tensor_bytes(&none), 0);
    EXPECT_INT(tensor_count(&large), 10000000000); /* over 2^32 */
    EXPECT_INT(tensor_bytes(&large), 40000000000);
}

TEST(tensor_slice_takes_rows_of_the_first_dimension)
{
    float x[24];
    const struct tensor t = TENSOR_F32(x, 4, 2, 3);
    const struct tensor s = tensor_slice(&t, 1, 2);
    const struct tensor all = tensor_slice(&t, 0, 4);
    const struct tensor end = tensor_slice(&t, 4, 0);
    uint8_t bytes[10];
    const struct tensor u = TENSOR_OF(bytes, DTYPE_U8, 10);

    EXPECT(s.data == x + 6);
    EXPECT(TENSOR_IS(&s, DTYPE_F32, 2, 2, 3));
    EXPECT(all.data == x && tensor_same_shape(&all, &t));
    EXPECT(end.data == x + 24 && tensor_count(&end) == 0);
    EXPECT(tensor_slice(&u, 7, 1).data == bytes + 7);
}

TEST(tensor_reshape_keeps_memory_and_count)
{
    float x[24];
    const struct tensor t = TENSOR_F32(x, 4, 2, 3);
    const struct tensor r = TENSOR_RESHAPE(&t, 8, 3);

    EXPECT(r.data == x);
    EXPECT(TENSOR_IS(&r, DTYPE_F32, 8, 3));
    EXPECT_INT(r.dim[2], 1);
}

TEST(tensor_is_compares_type_rank_and_dimensions)
{
    float elsewhere = 0;
    const struct tensor t = TENSOR_F32(NULL, 4, 2, 3);
    const struct tensor same = TENSOR_F32(&elsewhere, 4, 2, 3);
    const struct tensor other = TENSOR_OF(NULL, DTYPE_I32, 4, 2, 3);
    const struct tensor longer = TENSOR_F32(NULL, 4, 2, 3, 1);

    EXPECT(TENSOR_IS(&t, DTYPE_F32, 4, 2, 3));
    EXPECT(TENSOR_IS(&t, DTYPE_F32, -1, 2, -1));
    EXPECT(!TENSOR_IS(&t, DTYPE_F32, 4, 2, 4));
    EXPECT(!TENSOR_IS(&t, DTYPE_F32, 0, 2, 3));
    EXPECT(!TENSOR_IS(&t, DTYPE_F32, 4, 2));
    EXPECT(!TENSOR_IS(&t, DTYPE_F32, 4, 2, 3, 1));
    EXPECT(!TENSOR_IS(&t, DTYPE_BF16, 4, 2, 3));
    EXPECT(tensor_same_shape(&t, &same));
    EXPECT(!tensor_same_shape(&t, &other));
    EXPECT(!tensor_same_shape(&t, &longer));
}

TEST(tensor_describe_writes_type_and_shape_and_stays_in_its_buffer)
{
    static const int64_t huge[] = {INT64_MAX, INT64_MAX, INT64_MAX,
                                   INT64_MAX, INT64_MAX, INT64_MAX};
    char text[TENSOR_TEXT_MAX + 1];
    struct tensor t = TENSOR_F32(NULL, 3, 4);

    EXPECT_STR(tensor_describe(&t, text), "F32[3, 4]");
    t = tensor_make(NULL, DTYPE_U8, 0, NULL);
    EXPECT_STR(tensor_describe(&t, text), "U8[]");
    t = TENSOR_OF(NULL, DTYPE_BF16, 0);
    EXPECT_STR(tensor_describe(&t, text), "BF16[0]");
    text[TENSOR_TEXT_MAX] = 77;
    t = tensor_make(NULL, DTYPE_BF16, TENSOR_MAX_RANK, huge);
    EXPECT_CONTAINS(tensor_describe(&t, text), "BF16[9223372036854775807, 9223372036854775807, ");
    EXPECT(strlen(text) < TENSOR_TEXT_MAX);
    EXPECT(text[TENSOR_TEXT_MAX] == 77);
}
