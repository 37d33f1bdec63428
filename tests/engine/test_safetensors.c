#include "engine/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

/* A file in memory of exactly its size, so that a sanitizer sees a read past its end. */
struct image {
    unsigned char *bytes;
    size_t size;
};

static struct image make_image(const char *header, uint64_t claimed_len, size_t data_bytes)
{
    struct image im = {.size = 8 + strlen(header) + data_bytes};

    im.bytes = test_alloc(im.size);
    for (int i = 0; i < 8; i++) {
        im.bytes[i] = (unsigned char)(claimed_len >> (8 * i));
    }
    memcpy(im.bytes + 8, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++) {
        im.bytes[8 + strlen(header) + i] = (unsigned char)i;
    }
    return im;
}

/* What opening such a file returns. */
static int try_header(const char *header, size_t data_bytes, struct err *err)
{
    struct image im = make_image(header, strlen(header), data_bytes);
    struct safetensors *st = NULL;
    const int rc = safetensors_open_memory(&st, im.bytes, im.size, "f", err);

    safetensors_close(st);
    free(im.bytes);
    return rc;
}

#define EXPECT_REFUSED(header, data_bytes, want_rc, want_text)                                     \
    do {                                                                                           \
        struct err err_ = {0};                                                                     \
        EXPECT_INT(try_header((header), (data_bytes), &err_), (want_rc));                          \
        EXPECT_CONTAINS(err_.msg, (want_text));                                                    \
    } while (0)

static const char two_tensors[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
    "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}  ";

TEST(safetensors_reads_names_types_shapes_and_places)
{
    struct image im = make_image(two_tensors, strlen(two_tensors), 20);
    const struct safetensors_entry *b;
    const struct safetensors_entry *a;
    struct safetensors *st = NULL;
    struct err err = {0};

    EXPECT_OK(safetensors_open_memory(&st, im.bytes, im.size, "f", &err));
    EXPECT_STR(safetensors_path(st), "f");
    EXPECT_INT(safetensors_count(st), 2);
    b = safetensors_at(st, 0); /* the header's order */
    a = safetensors_find(st, "a");
    EXPECT(a == safetensors_at(st, 1));
    EXPECT(b == safetensors_find(st, "b.weight"));
    EXPECT(TENSOR_IS(&b->tensor, DTYPE_BF16, 2, 3));
    EXPECT_INT(b->tensor.rank, 2);
    EXPECT_INT(b->tensor.dim[2], 1);
    EXPECT_INT(a->tensor.rank, 0);
    EXPECT_INT(tensor_count(&a->tensor), 1);
    EXPECT_INT(a->tensor.dtype, DTYPE_I64);
    EXPECT_INT(*(const unsigned char *)b->tensor.data, 8);
    EXPECT_INT(*(const unsigned char *)a->tensor.data, 0);
    EXPECT(!safetensors_find(st, "c"));
    EXPECT(!safetensors_find(st, ""));
    EXPECT(!safetensors_find(st, "__metadata__"));
    safetensors_close(st);
    free(im.bytes);
}

TEST(safetensors_reads_a_golden_file)
{
    struct safetensors *st = NULL;
    const struct safetensors_entry *e;
    struct err err = {0};

    EXPECT_OK(safetensors_open(
        &st, "tests/golden/tiny-480p/transformer/diffusion_pytorch_model.safetensors", &err));
    EXPECT_INT(safetensors_count(st), 88);
    e = safetensors_find(st, "patch_embedding.weight");
    EXPECT(e && TENSOR_IS(&e->tensor, DTYPE_F32, 80, 16, 1, 2, 2));
    for (size_t i = 0; i < safetensors_count(st); i++) {
        e = safetensors_at(st, i);
        EXPECT(safetensors_find(st, e->name) == e);
    }
    safetensors_close(st);
}

TEST(safetensors_knows_all_dtypes_and_empty_tensors)
{
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                         "\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[4,6]},"
                         "\"c\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[6,10]},"
                         "\"d\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[10,13]},"
                         "\"e\":{\"dtype\":\"F32\",\"shape\":[5,0,2],\"data_offsets\":[2,2]},"
                         "\"f\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1],"
                         "\"data_offsets\":[16,20]}}";
    struct err err = {0};

    EXPECT_OK(try_header(header, 20, &err));
    EXPECT_OK(try_header("{}", 0, &err));
    EXPECT_REFUSED("{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8,
                   ERR_UNSUPPORTED, "f: tensor a: dtype F64");
    EXPECT_REFUSED("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                   ERR_UNSUPPORTED, "F8_E4M3");
}

TEST(safetensors_refuses_header_lengths_that_lie)
{
    static const uint64_t lies[] = {0,
                                    1,
                                    20,                           /* cut the JSON short */
                                    sizeof(two_tensors) - 1 + 21, /* one byte more than there is */
                                    sizeof(two_tensors) - 1 + 5,  /* swallow data */
                                    UINT64_C(1) << 31,
                                    UINT64_C(1) << 63,
                                    UINT64_MAX,
                                    UINT64_MAX - 7};
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct image im = make_image(two_tensors, lies[i], 20);
        struct safetensors *st = NULL;

        EXPECT_INT(safetensors_open_memory(&st, im.bytes, im.size, "f", &err), ERR_FORMAT);
        EXPECT_CONTAINS(err.msg, "f: ");
        free(im.bytes);
    }
}

TEST(safetensors_refuses_every_truncation)
{
    struct image im = make_image(two_tensors, strlen(two_tensors), 20);
    struct err err = {0};

    for (size_t size = 0; size < im.size; size++) {
        struct safetensors *st = NULL;
        unsigned char *cut = test_alloc(size);

        memcpy(cut, im.bytes, size);
        EXPECT_INT(safetensors_open_memory(&st, cut, size, "f", &err), ERR_FORMAT);
        free(cut);
    }
    free(im.bytes);
}

TEST(safetensors_refuses_headers_that_are_not_tables_of_tensors)
{
    EXPECT_REFUSED("", 0, ERR_FORMAT, "JSON");
    EXPECT_REFUSED("[]", 0, ERR_FORMAT, "not a JSON object");
    EXPECT_REFUSED("{} x", 0, ERR_FORMAT, "after the JSON");
    EXPECT_REFUSED("{\"a\":", 0, ERR_FORMAT, "not valid JSON");
    EXPECT_REFUSED("{\"a\":1,", 0, ERR_FORMAT, "not valid JSON");
    EXPECT_REFUSED("{\"a\":3}", 8, ERR_FORMAT, "tensor a: not an object");
    EXPECT_REFUSED("{\"__metadata__\":3}", 8, ERR_FORMAT, "__metadata__");
    EXPECT_REFUSED("{\"a\":{}}", 8, ERR_FORMAT, "tensor a: no dtype");
    EXPECT_REFUSED("{\"a\":{\"dtype\":7}}", 8, ERR_FORMAT, "no dtype");
    EXPECT_REFUSED("{\"a\":{\"dtype\":\"F32\"}}", 8, ERR_FORMAT, "no shape");
    EXPECT_REFUSED("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, ERR_FORMAT, "data_offsets");
    EXPECT_REFUSED("{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 8, ERR_FORMAT,
                   "printable");
    EXPECT_REFUSED("{\"a\\n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 8,
                   ERR_FORMAT, "printable");
}

/* {"a": F32 of that shape at those offsets}, 64 bytes of data */
static int try_tensor(const char *shape, const char *offsets, struct err *err)
{
    char header[512];

    snprintf(header, sizeof(header), "{\"a\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":%s}}",
             shape, offsets);
    return try_header(header, 64, err);
}

TEST(safetensors_refuses_impossible_shapes)
{
    static const char *const shapes[] = {
        "[-2]",
        "[2.5]",
        "[\"2\"]",
        "[null]",
        "2",
        "[1e999]",
        "[-1e999]",
        "[1,1,1,1,1,1,2]",
        "[3]",
        "[9007199254740994]",
        "[[2]]",
        "[1e300]",
        "[4294967296,4294967296]",
        "[true]",
        "[9007199254740992,9007199254740992,0]",
    };
    struct err err = {0};

    EXPECT_OK(try_tensor("[2]", "[0,8]", &err));
    EXPECT_OK(try_tensor("[2.0]", "[0,8]", &err));
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        if (try_tensor(shapes[i], "[0,8]", &err) != ERR_FORMAT) {
            test_fail(__FILE__, __LINE__, "shape %s was taken", shapes[i]);
        }
        EXPECT_CONTAINS(err.msg, "f: tensor a: ");
    }
}

TEST(safetensors_refuses_impossible_offsets)
{
    static const char *const offsets[] = {
        "[0,4]",
        "[8,0]",
        "[60,68]",
        "[-8,0]",
        "[0]",
        "[0,8,16]",
        "[]",
        "[0.5,8.5]",
        "{}",
        "[1e18,1e18]",
        "null",
        "[0,\"8\"]",
        "[9007199254740984,9007199254740992]",
        "[18446744073709551608,18446744073709551616]",
    };
    struct err err = {0};

    EXPECT_OK(try_tensor("[2]", "[56,64]", &err));
    for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
        if (try_tensor("[2]", offsets[i], &err) != ERR_FORMAT) {
            test_fail(__FILE__, __LINE__, "offsets %s were taken", offsets[i]);
        }
        EXPECT_CONTAINS(err.msg, "tensor a");
    }
}

TEST(safetensors_refuses_overlaps_and_duplicates)
{
    EXPECT_REFUSED("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]},"
                   "\"y\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]}}",
                   8, ERR_FORMAT, "f: tensors y and x overlap");
    EXPECT_REFUSED("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
                   8, ERR_FORMAT, "overlap");
    /* an empty tensor in between must not hide it */
    EXPECT_REFUSED("{\"x\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
                   "\"n\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
                   "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
                   8, ERR_FORMAT, "tensors x and y overlap");
    EXPECT_REFUSED("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
                   8, ERR_FORMAT, "tensor x: listed twice");
}

TEST(safetensors_bounds_depth_and_number_of_values)
{
    enum {
        N = (1 << 20) + 10
    };
    char *text = test_alloc(2 * N + 16);
    struct err err = {0};

    memset(text, '[', 1000);
    text[1000] = '\0';
    EXPECT_INT(try_header(text, 0, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "nested deeper");
    strncpy(text, "{\"a\":[0", 8);
    for (size_t i = 0; i < N; i++) {
        memcpy(text + 7 + 2 * i, ",0", 2);
    }
    memcpy(text + 7 + 2 * (size_t)N, "]}", 3);
    EXPECT_INT(try_header(text, 0, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "values");
    free(text);
}

TEST(safetensors_open_names_what_it_cannot_open)
{
    const char *dir = files_dir("open");
    const char *path = files_path(dir, "short.safetensors");
    struct safetensors *st = NULL;
    struct err err = {0};

    EXPECT_INT(safetensors_open(&st, files_path(dir, "none.safetensors"), &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "none.safetensors");
    EXPECT_INT(safetensors_open(&st, dir, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "not a regular file");
    files_write(path, "", 0);
    EXPECT_INT(safetensors_open(&st, path, &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "short.safetensors: 0 bytes");
}

TEST(safetensors_open_survives_every_failed_allocation)
{
    struct safetensors *st = NULL;
    struct err err = {0};
    long n;
    int rc;

    alloc_fail_hook_cjson();
    for (n = 1;; n++) {
        alloc_fail_at(n);
        rc = safetensors_open(&st, "tests/golden/tiny-720p/vae/diffusion_pytorch_model.safetensors",
                              &err);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
        EXPECT(!st);
    }
    EXPECT_OK(rc);
    safetensors_close(st);
    EXPECT(n > 100);
}
