/*
 * What cuda_blas.cu asks of cuBLASLt, shown to the real library: its descriptors can be made and filled
 * without a GPU. Where there is one, each recipe must also have an algorithm. Needs a toolkit to be
 * compiled with and libcublasLt.so ($SANAD_CUBLASLT, or where cuda_blas.cu looks); else skipped.
 */
#include "tests/support/test.h"

#if defined(__has_include) && __has_include(<cublasLt.h>)

#include "kernels/cuda_blas_recipe.h"

enum {
    WORKSPACE = 32 << 20
};

/* Creating a handle where there is no GPU loses 192 bytes of the library's. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:cublasLtCreate\n";
}

static void open_library(struct blas_library *lib)
{
    const char *const places[] = {getenv("SANAD_CUBLASLT"),
                                  "libcublasLt.so.13",
                                  "libcublasLt.so.12",
                                  "/usr/local/cuda/lib64/libcublasLt.so.13",
                                  "/usr/local/cuda/lib/libcublasLt.so.13",
                                  "/usr/local/cuda/lib64/libcublasLt.so.12"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (places[i] && blas_library_open(lib, places[i])) {
            return;
        }
    }
    test_skip("no libcublasLt.so");
}

/* Every valid set of flags, at the real widths. */
static int make_recipes(struct blas_recipe recipes[64])
{
    static const int64_t shape[][3] = {{15600, 6720, 2240}, {15600, 2240, 6720}, {300, 9216, 2304}};
    int n = 0;

    for (size_t s = 0; s < ARRAY_LEN(shape); s++) {
        for (uint32_t flags = 0; flags <= BLAS_FLAGS_ALL; flags++) {
            const struct blas_recipe r = {.m = shape[s][0],
                                          .n = shape[s][1],
                                          .k = shape[s][2],
                                          .flags = flags,
                                          .align = BLAS_ALIGN_MIN << (n % 5)};

            if (blas_recipe_is_valid(&r)) {
                recipes[n++] = r;
            }
        }
    }
    return n;
}

static uint32_t epilogue_of(const struct blas_library *lib, const struct blas_setup *s)
{
    cublasStatus_t (*get)(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, void *, size_t,
                          size_t *);
    uint32_t epilogue = 0;
    size_t written = 0;

    *(void **)&get = dlsym(lib->handle, "cublasLtMatmulDescGetAttribute");
    EXPECT(get != NULL);
    EXPECT_INT(get(s->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue), &written),
               CUBLAS_STATUS_SUCCESS);
    return epilogue;
}

/* Pointers stand for memory that is never read. */
static void check_recipe(const struct blas_library *lib, cublasLtHandle_t handle,
                         const struct blas_recipe *r)
{
    static const cublasLtEpilogue_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT,
                                                   CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU,
                                                   CUBLASLT_EPILOGUE_GELU_BIAS};
    const int which = (r->flags & BLAS_BIAS ? 1 : 0) + (r->flags & BLAS_GELU ? 2 : 0);
    cublasLtMatmulHeuristicResult_t results[4];
    struct blas_setup s;
    int found = 0;

    EXPECT_INT(blas_setup_make(lib, r, WORKSPACE, &s), CUBLAS_STATUS_SUCCESS);
    if (r->flags & BLAS_BIAS) {
        EXPECT_INT(blas_set_bias(lib, &s, results), CUBLAS_STATUS_SUCCESS);
    }
    EXPECT_INT(epilogue_of(lib, &s), epilogues[which]);
    if (handle) {
        EXPECT_INT(lib->heuristic(handle, s.desc, s.a, s.b, s.d, s.d, s.pref, 4, results, &found),
                   CUBLAS_STATUS_SUCCESS);
        EXPECT(found > 0);
    }
    blas_setup_done(lib, &s);
    EXPECT(!s.desc && !s.a && !s.b && !s.d && !s.pref);
}

TEST(blas_recipes_are_accepted_by_the_library)
{
    struct blas_recipe recipes[64];
    const int n = make_recipes(recipes);
    struct blas_library lib;
    cublasLtHandle_t handle = NULL;
    cublasStatus_t status;

    open_library(&lib);
    status = lib.create(&handle);
    EXPECT(status == CUBLAS_STATUS_SUCCESS || status == CUBLAS_STATUS_NOT_INITIALIZED);
    EXPECT_INT(n, 3 * 10); /* without residual 2 x 2 x 2, with it 2 */
    for (int i = 0; i < n; i++) {
        check_recipe(&lib, status == CUBLAS_STATUS_SUCCESS ? handle : NULL, &recipes[i]);
    }
    printf("cuBLASLt %zu, %s GPU: %d recipes\n", lib.version(), handle ? "with a" : "without a", n);
    if (status == CUBLAS_STATUS_SUCCESS) {
        lib.destroy(handle);
    } /* stays loaded: what it keeps for itself is no leak while it is there */
}

TEST(blas_library_open_says_no)
{
    struct blas_library lib;

    EXPECT(!blas_library_open(&lib, "libsanad-has-no-such-file.so"));
    EXPECT(!blas_library_open(&lib, "libm.so.6")); /* a library without the functions */
    EXPECT(!lib.handle);
}

TEST(blas_recipes_are_valid_only_in_the_library_s_limits)
{
    const struct blas_recipe good = {.m = 1, .n = 8, .k = 8, .align = 16};
    struct blas_recipe r = good;

    EXPECT(blas_recipe_is_valid(&r));
    r.m = 0;
    EXPECT(!blas_recipe_is_valid(&r));
    r.m = (int64_t)INT32_MAX + 1;
    EXPECT(!blas_recipe_is_valid(&r));
    r = good;
    r.n = 9;
    EXPECT(!blas_recipe_is_valid(&r));
    r = good;
    r.k = 4;
    EXPECT(!blas_recipe_is_valid(&r));
    r = good;
    r.flags = BLAS_FLAGS_ALL + 1;
    EXPECT(!blas_recipe_is_valid(&r));
    r.flags = BLAS_RESIDUAL | BLAS_Y_BF16;
    EXPECT(!blas_recipe_is_valid(&r));
    r = good;
    r.align = 8;
    EXPECT(!blas_recipe_is_valid(&r));
    r.align = 48;
    EXPECT(!blas_recipe_is_valid(&r));
    r.align = 512;
    EXPECT(!blas_recipe_is_valid(&r));
}

static void make_line(char line[BLAS_LINE_MAX], struct blas_recipe *r, cublasLtMatmulAlgo_t *algo)
{
    *r = (struct blas_recipe){
        .m = 15600, .n = 6720, .k = 2240, .flags = BLAS_Y_BF16 | BLAS_BIAS, .align = 128};
    for (int i = 0; i < 8; i++) {
        algo->data[i] = UINT64_MAX / (uint64_t)(i + 1);
    }
    blas_line_write(line, r, algo);
}

TEST(blas_lines_come_back_as_they_were_written)
{
    char line[BLAS_LINE_MAX];
    struct blas_recipe r;
    struct blas_recipe r2;
    cublasLtMatmulAlgo_t algo;
    cublasLtMatmulAlgo_t algo2;

    make_line(line, &r, &algo);
    EXPECT(strlen(line) < sizeof(line) - 1);
    EXPECT(blas_line_read(line, &r2, &algo2));
    EXPECT(blas_recipe_equal(&r, &r2));
    EXPECT(memcmp(&algo, &algo2, sizeof(algo)) == 0);
    EXPECT_CONTAINS(line, "15600 6720 2240 3 128 ffffffffffffffff 7fffffffffffffff ");
}

TEST(blas_lines_that_changed_are_refused)
{
    char line[BLAS_LINE_MAX];
    struct blas_recipe r;
    cublasLtMatmulAlgo_t algo;
    size_t length;

    make_line(line, &r, &algo);
    length = strlen(line);
    for (size_t i = 0; i < length; i++) {
        const char was = line[i];

        line[i] = was == '1' ? '2' : '1';
        EXPECT(!blas_line_read(line, &r, &algo));
        line[i] = '\0';
        EXPECT(!blas_line_read(line, &r, &algo));
        line[i] = was;
    }
    EXPECT(blas_line_read(line, &r, &algo));
    EXPECT(!blas_line_read("", &r, &algo));
    EXPECT(!blas_line_read("-1 x\n", &r, &algo));
}

#else

TEST(blas_recipes)
{
    test_skip("compiled without cublasLt.h");
}

#endif
