#include "engine/weights.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc_fail.h"
#include "tests/support/model_files.h"
#include "tests/support/test.h"

/* One tensor in a file; data are the numbers 0, 1, 2, ... as bytes. pad moves the data. */
static void write_one(const char *dir, const char *file, const char *name, const char *dtype,
                      const char *shape, size_t bytes, size_t pad)
{
    struct str s;
    unsigned char length[8] = {0};
    size_t header;

    str_init(&s, 1 << 20);
    EXPECT(str_append(&s, length, 8));
    EXPECT(str_addf(&s, "{\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[0,%zu]}}", name,
                    dtype, shape, bytes));
    while ((s.len + 8 - pad) % 8 != 0) {
        EXPECT(str_add(&s, " "));
    }
    header = s.len - 8;
    for (size_t i = 0; i < 8; i++) {
        s.data[i] = (char)(header >> (8 * i));
    }
    for (size_t i = 0; i < bytes; i++) {
        const char byte = (char)i;

        EXPECT(str_append(&s, &byte, 1));
    }
    files_write(files_path(dir, file), s.data, s.len);
    str_done(&s);
}

static void write_text(const char *dir, const char *file, const char *text)
{
    files_write(files_path(dir, file), text, strlen(text));
}

TEST(weights_opens_a_single_file_and_marks_what_was_taken)
{
    const char *dir = "tests/golden/tiny-480p/transformer";
    const char *names[100] = {NULL};
    struct weights *w = NULL;
    struct tensor t;
    struct err err = {0};

    EXPECT_OK(weights_open(&w, dir, "diffusion_pytorch_model", NULL, &err));
    EXPECT_STR(weights_dir(w), dir);
    EXPECT_INT(weights_tensor_count(w), 88);
    EXPECT_INT(weights_parameter_count(w), 492304);
    EXPECT_INT(weights_total_bytes(w), 4 * 492304);
    EXPECT(weights_has(w, "caption_norm.weight"));
    EXPECT(!weights_has(w, "caption_norm"));
    EXPECT_INT(weights_unused(w, names, 3), 88);
    EXPECT_STR(names[0], weights_at(w, 0)->name);
    EXPECT(names[2] && !names[3]);

    EXPECT_OK(WEIGHTS_GET(w, &t, &err, "patch_embedding.weight", 80, -1, 1, 2, 2));
    EXPECT(TENSOR_IS(&t, DTYPE_F32, 80, 16, 1, 2, 2));
    EXPECT_INT(weights_unused(w, names, 100), 87);
    for (size_t i = 0; i < 87; i++) {
        EXPECT(strcmp(names[i], "patch_embedding.weight") != 0);
    }
    weights_ignore(w, "caption_norm.weight");
    weights_ignore(w, "no such tensor");
    EXPECT_INT(weights_unused(w, NULL, 0), 86);
    weights_close(w);
}

TEST(weights_get_names_what_is_wrong)
{
    const char *dir = files_dir("get");
    struct weights *w = NULL;
    struct tensor t;
    struct err err = {0};

    write_one(dir, "model.safetensors", "ids", "I64", "[2]", 16, 0);
    EXPECT_OK(weights_open(&w, dir, "model", NULL, &err));
    EXPECT_INT(WEIGHTS_GET(w, &t, &err, "ids", 2), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "get: tensor ids is I64, expected F32, BF16 or F16");
    EXPECT_INT(WEIGHTS_GET(w, &t, &err, "idx", 2), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "get: tensor idx is missing");
    weights_close(w);

    EXPECT_OK(weights_open(&w, "tests/golden/tiny-480p/transformer", "diffusion_pytorch_model",
                           NULL, &err));
    EXPECT_INT(WEIGHTS_GET(w, &t, &err, "proj_out.weight", 80, 64), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "tensor proj_out.weight is F32[64, 80], expected F32[80, 64]");
    EXPECT_INT(WEIGHTS_GET(w, &t, &err, "proj_out.weight", 64), ERR_FORMAT);
    EXPECT_INT(WEIGHTS_GET(w, &t, &err, "proj_out.weight", 64, 80, 1), ERR_FORMAT);
    EXPECT_INT(weights_unused(w, NULL, 0), 88); /* a refused tensor is not taken */
    weights_close(w);
}

TEST(weights_opens_variants)
{
    static const char *const files[] = {"m.safetensors", "m.fp16.safetensors",
                                        "m.bf16.safetensors"};

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char name[16];
        const char *dir;
        struct weights *w = NULL;
        struct err err = {0};

        snprintf(name, sizeof(name), "variant%zu", i);
        dir = files_dir(name);
        write_one(dir, files[i], "x", "BF16", "[4]", 8, 0);
        EXPECT_OK(weights_open(&w, dir, "m", NULL, &err));
        EXPECT(weights_has(w, "x"));
        weights_close(w);
    }
}

TEST(weights_opens_shards_by_their_index)
{
    struct weights *w = NULL;
    struct tensor t;
    struct err err = {0};

    EXPECT_OK(weights_open(&w, "tests/golden/tiny-long/transformer", "diffusion_pytorch_model",
                           NULL, &err));
    EXPECT_INT(weights_tensor_count(w), 88);
    EXPECT_INT(weights_parameter_count(w), 323200);
    EXPECT_OK(WEIGHTS_GET(w, &t, &err, "transformer_blocks.0.attn1.norm_q.weight", 64));
    EXPECT_OK(WEIGHTS_GET(w, &t, &err, "transformer_blocks.2.attn1.norm_q.weight", 64));
    weights_close(w);
}

TEST(weights_prefix_is_dropped_on_both_sides)
{
    const char *with = files_dir("with");
    const char *without = files_dir("without");
    const char *const dirs[] = {with, without};
    struct weights *w = NULL;
    struct tensor t;
    struct err err = {0};

    write_one(with, "model.safetensors", "model.norm.weight", "F32", "[2]", 8, 0);
    write_one(without, "model.safetensors", "norm.weight", "F32", "[2]", 8, 0);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        EXPECT_OK(weights_open(&w, dirs[i], "model", "model.", &err));
        EXPECT_OK(WEIGHTS_GET(w, &t, &err, "norm.weight", 2));
        EXPECT_OK(WEIGHTS_GET(w, &t, &err, "model.norm.weight", 2));
        EXPECT_STR(weights_at(w, 0)->name, "norm.weight");
        weights_close(w);
    }
    EXPECT_OK(weights_open(&w, with, "model", NULL, &err));
    EXPECT(!weights_has(w, "norm.weight"));
    weights_close(w);
}

/* Opens a folder that holds one good shard "s1.safetensors" {"x"} and this index. */
static int try_index(const char *index, struct err *err)
{
    const char *dir = files_dir("index");
    struct weights *w = NULL;
    int rc;

    write_one(dir, "s1.safetensors", "x", "F32", "[2]", 8, 0);
    write_text(dir, "m.safetensors.index.json", index);
    rc = weights_open(&w, dir, "m", "model.", err);
    weights_close(w);
    return rc;
}

TEST(weights_refuses_indexes_that_lie)
{
    static const struct {
        const char *index;
        int rc;
        const char *text;
    } cases[] = {
        {"{\"weight_map\":{\"x\":\"s2.safetensors\"}}", ERR_NOT_FOUND, "s2.safetensors"},
        {"{\"weight_map\":{\"x\":\"s1.safetensors\",\"y\":\"s1.safetensors\"}}", ERR_FORMAT,
         "s1.safetensors: tensor y is not in it"},
        {"{\"weight_map\":{\"x\":\"../s1.safetensors\"}}", ERR_FORMAT, "'../s1.safetensors'"},
        {"{\"weight_map\":{\"x\":\"/etc/s1.safetensors\"}}", ERR_FORMAT, "not the name"},
        {"{\"weight_map\":{\"x\":\"..\"}}", ERR_FORMAT, "not the name"},
        {"{\"weight_map\":{\"x\":\".safetensors\"}}", ERR_FORMAT, "not the name"},
        {"{\"weight_map\":{\"x\":\"a b.safetensors\"}}", ERR_FORMAT, "not the name"},
        {"{\"weight_map\":{\"x\":\"s1.bin\"}}", ERR_FORMAT, "'s1.bin'"},
        {"{\"weight_map\":{\"x\":\"\"}}", ERR_FORMAT, "not the name"},
        {"{\"weight_map\":{\"x\":7}}", ERR_FORMAT, "not the name"},
        {"{\"weight_map\":{}}", ERR_FORMAT, "weight_map is empty"},
        {"{\"weight_map\":[]}", ERR_FORMAT, "weight_map is missing"},
        {"{\"metadata\":{}}", ERR_FORMAT, "weight_map is missing"},
        {"[]", ERR_FORMAT, "not a JSON object"},
        {"{\"weight_map\":", ERR_FORMAT, "not valid JSON"},
    };
    struct err err = {0};

    EXPECT_OK(try_index("{\"weight_map\":{\"x\":\"s1.safetensors\"}}", &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (try_index(cases[i].index, &err) != cases[i].rc) {
            test_fail(__FILE__, __LINE__, "%s: %d %s", cases[i].index, err.code, err.msg);
        }
        EXPECT_CONTAINS(err.msg, cases[i].text);
    }
}

TEST(weights_bounds_the_number_of_shards)
{
    struct str s;
    struct err err = {0};

    str_init(&s, 1 << 20);
    EXPECT(str_add(&s, "{\"weight_map\":{\"x\":\"s1.safetensors\""));
    for (int i = 0; i < 300; i++) {
        EXPECT(str_addf(&s, ",\"t%d\":\"t%d.safetensors\"", i, i));
    }
    EXPECT(str_add(&s, "}}"));
    EXPECT_INT(try_index(str_get(&s), &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "more than 256 shards");
    str_done(&s);
}

TEST(weights_refuses_a_tensor_in_two_shards)
{
    const char *dir = files_dir("twice");
    struct weights *w = NULL;
    struct err err = {0};

    write_one(dir, "s1.safetensors", "x", "F32", "[2]", 8, 0);
    write_one(dir, "s2.safetensors", "model.x", "F32", "[2]", 8, 0);
    write_text(dir, "m.safetensors.index.json",
               "{\"weight_map\":{\"x\":\"s1.safetensors\",\"model.x\":\"s2.safetensors\"}}");
    EXPECT_INT(weights_open(&w, dir, "m", "model.", &err), ERR_FORMAT);
    EXPECT_CONTAINS(err.msg, "tensor x is there twice");
    EXPECT_OK(weights_open(&w, dir, "m", NULL, &err));
    weights_close(w);
}

TEST(weights_names_the_folder_and_the_files_it_looked_for)
{
    struct weights *w = NULL;
    struct err err = {0};

    EXPECT_INT(weights_open(&w, files_path(test_dir(), "nowhere"), "m", NULL, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "nowhere");
    EXPECT_INT(weights_open(&w, files_dir("empty"), "m", NULL, &err), ERR_NOT_FOUND);
    EXPECT_CONTAINS(err.msg, "m.safetensors.index.json");
}

TEST(weight_pool_borrows_what_is_aligned_and_copies_the_rest)
{
    const char *dir = files_dir("pool");
    struct device dev = {.kind = DEVICE_CPU};
    struct weight_pool pool;
    struct weights *w = NULL;
    struct tensor from;
    struct tensor to;
    struct err err = {0};

    for (size_t pad = 0; pad < 8; pad++) {
        write_one(dir, "m.safetensors", "x", "F32", "[2,3]", 24, pad);
        weight_pool_init(&pool, &dev);
        EXPECT_OK(weights_open(&w, dir, "m", NULL, &err));
        EXPECT_OK(WEIGHTS_GET(w, &from, &err, "x", 2, 3));
        EXPECT_INT((uintptr_t)from.data % 8, pad);
        EXPECT_OK(weight_pool_keep(&pool, &from, &to, &err));
        EXPECT_INT(to.data == from.data, pad % 4 == 0);
        EXPECT_INT(pool.bytes, pad % 4 == 0 ? 0 : 24);
        EXPECT(tensor_same_shape(&to, &from));
        EXPECT(memcmp(to.data, from.data, 24) == 0);
        EXPECT_OK(weight_pool_f32(&pool, &from, &to, &err));
        EXPECT_INT(pool.bytes, pad % 4 == 0 ? 0 : 48);
        EXPECT(memcmp(to.data, from.data, 24) == 0);
        weight_pool_done(&pool);
        weights_close(w);
    }
}

TEST(weight_pool_f32_converts_every_element)
{
    enum {
        N = 10000
    }; /* more than the pieces it works in */
    uint16_t *bits = test_alloc(N * sizeof(*bits));
    struct device dev = {.kind = DEVICE_CPU};
    struct weight_pool pool;
    struct tensor from = TENSOR_OF(bits, DTYPE_BF16, 100, 100);
    struct tensor to;
    struct err err = {0};

    for (int i = 0; i < N; i++) {
        bits[i] = (uint16_t)(0x3f80 + i % 128); /* 1 + k/128 */
    }
    weight_pool_init(&pool, &dev);
    EXPECT_OK(weight_pool_keep(&pool, &from, &to, &err));
    EXPECT(to.data == bits);
    EXPECT_OK(weight_pool_f32(&pool, &from, &to, &err));
    EXPECT(TENSOR_IS(&to, DTYPE_F32, 100, 100));
    EXPECT_INT(pool.bytes, 4 * N);
    for (int i = 0; i < N; i++) {
        EXPECT(((const float *)to.data)[i] == 1.0F + (float)(i % 128) / 128.0F);
    }
    bits[0] = 0xc000;
    bits[N - 1] = 0x5640;
    from.dtype = DTYPE_F16;
    EXPECT_OK(weight_pool_f32(&pool, &from, &to, &err));
    EXPECT(((const float *)to.data)[0] == -2.0F);
    EXPECT(((const float *)to.data)[N - 1] == 100.0F);
    weight_pool_done(&pool);
    EXPECT_INT(pool.bytes, 0);
    free(bits);
}

TEST(weight_pool_copy_keeps_its_own_numbers)
{
    float host[6] = {1, 2, 3, 4, 5, 6};
    const int64_t dims[] = {3, 2};
    const int64_t huge[] = {INT64_C(1) << 40, INT64_C(1) << 40};
    const int64_t negative[] = {-1, 2};
    struct device dev = {.kind = DEVICE_CPU};
    struct weight_pool pool;
    struct tensor t;
    struct err err = {0};

    weight_pool_init(&pool, &dev);
    for (int i = 0; i < 100; i++) { /* the list of blocks grows */
        EXPECT_OK(weight_pool_copy(&pool, DTYPE_F32, 2, dims, host, &t, &err));
    }
    host[5] = 0;
    EXPECT(TENSOR_IS(&t, DTYPE_F32, 3, 2));
    EXPECT(((const float *)t.data)[5] == 6);
    EXPECT_INT(weight_pool_copy(&pool, DTYPE_F32, 2, huge, host, &t, &err), ERR_INVALID);
    EXPECT_INT(weight_pool_copy(&pool, DTYPE_F32, 2, negative, host, &t, &err), ERR_INVALID);
    weight_pool_done(&pool);
}

TEST(weights_open_survives_every_failed_allocation)
{
    struct weights *w = NULL;
    struct err err = {0};
    long n;
    int rc;

    alloc_fail_hook_cjson();
    for (n = 1;; n++) {
        alloc_fail_at(n);
        rc = weights_open(&w, "tests/golden/tiny-long/text_encoder", "model", "model.", &err);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
        EXPECT(!w);
    }
    EXPECT_OK(rc);
    weights_close(w);
    EXPECT(n > 100);
}

TEST(weight_pool_survives_every_failed_allocation)
{
    uint16_t half[4] = {0x3f80, 0, 0, 0};
    const struct tensor from = TENSOR_OF(half, DTYPE_BF16, 4);
    const float host[4] = {0};
    struct device dev = {.kind = DEVICE_CPU};
    struct err err = {0};
    long n;
    int rc;

    for (n = 1;; n++) {
        struct weight_pool pool;
        struct tensor t;

        weight_pool_init(&pool, &dev);
        alloc_fail_at(n);
        rc = weight_pool_f32(&pool, &from, &t, &err);
        if (rc == ERR_OK) {
            rc = weight_pool_copy(&pool, DTYPE_F32, 1, from.dim, host, &t, &err);
        }
        weight_pool_done(&pool);
        if (!alloc_fail_stop()) {
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
    }
    EXPECT_OK(rc);
    EXPECT_INT(n, 4); /* the list and two blocks */
}
