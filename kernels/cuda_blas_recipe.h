/*
 * cuda_blas_recipe.h - what cuda_blas.cu tells cuBLASLt of a product, and how a chosen algorithm is
 * written down. Apart from it so that tests/cuda/test_blas_recipes.c can show it to the real library
 * where there is no GPU. Needs cublasLt.h; C and C++.
 *
 * Row-major y[m,n] = x[m,k] w[n,k]^T is, in the library's column-major words, D [n x m] = A^T B with
 * A = w (k x n), B = x (k x m): the form ("TN") that every type and GPU has.
 */
#ifndef KERNELS_CUDA_BLAS_RECIPE_H
#define KERNELS_CUDA_BLAS_RECIPE_H

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* X(member, symbol) */
#define BLAS_FUNCTIONS(X)                                                                          \
    X(create, cublasLtCreate)                                                                      \
    X(destroy, cublasLtDestroy)                                                                    \
    X(version, cublasLtGetVersion)                                                                 \
    X(status_name, cublasLtGetStatusName)                                                          \
    X(desc_create, cublasLtMatmulDescCreate)                                                       \
    X(desc_destroy, cublasLtMatmulDescDestroy)                                                     \
    X(desc_set, cublasLtMatmulDescSetAttribute)                                                    \
    X(layout_create, cublasLtMatrixLayoutCreate)                                                   \
    X(layout_destroy, cublasLtMatrixLayoutDestroy)                                                 \
    X(pref_create, cublasLtMatmulPreferenceCreate)                                                 \
    X(pref_destroy, cublasLtMatmulPreferenceDestroy)                                               \
    X(pref_set, cublasLtMatmulPreferenceSetAttribute)                                              \
    X(heuristic, cublasLtMatmulAlgoGetHeuristic)                                                   \
    X(algo_check, cublasLtMatmulAlgoCheck)                                                         \
    X(algo_get, cublasLtMatmulAlgoConfigGetAttribute)                                              \
    X(matmul, cublasLtMatmul)

struct blas_library {
    void *handle; /* dlopen's */
#define BLAS_MEMBER(member, symbol)                                                                \
    __typeof__(&(symbol)) member; /* NOLINT(bugprone-macro-parentheses) */
    BLAS_FUNCTIONS(BLAS_MEMBER)
#undef BLAS_MEMBER
};

/* False: there is no such file, or a function is missing; dlerror() says which. */
static inline bool blas_library_open(struct blas_library *lib, const char *path)
{
    lib->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!lib->handle) {
        return false;
    }
#define BLAS_LOOK_UP(member, symbol)                                                               \
    *(void **)&lib->member = dlsym(lib->handle, #symbol);                                          \
    if (!lib->member) {                                                                            \
        goto out;                                                                                  \
    }
    BLAS_FUNCTIONS(BLAS_LOOK_UP)
#undef BLAS_LOOK_UP
    return true;
out:
    dlclose(lib->handle);
    lib->handle = NULL;
    return false;
}

/* What a plan is for; two of the same bytes are the same. */
struct blas_recipe {
    int64_t m, n, k;
    uint32_t flags; /* BLAS_... */
    uint32_t align; /* of every pointer, bytes: 16, 32 .. 256 */
};
enum {
    BLAS_Y_BF16 = 1, /* else F32 */
    BLAS_BIAS = 2,   /* of y's type: the library takes no other */
    BLAS_GELU = 4,   /* the tanh form */
    BLAS_RESIDUAL = 8,
    BLAS_FLAGS_ALL = 15
};
enum {
    BLAS_ALIGN_MIN = 16,
    BLAS_ALIGN_MAX = 256
};

/* GELU would be taken of the sum with the residual. */
static inline bool blas_recipe_is_valid(const struct blas_recipe *r)
{
    const int64_t max = INT32_MAX;

    return r->m > 0 && r->n > 0 && r->k > 0 && r->m <= max && r->n <= max && r->k <= max &&
           r->k % 8 == 0 && r->n % 8 == 0 && r->flags <= BLAS_FLAGS_ALL &&
           !((r->flags & BLAS_RESIDUAL) && (r->flags & (BLAS_GELU | BLAS_Y_BF16))) &&
           r->align >= BLAS_ALIGN_MIN && r->align <= BLAS_ALIGN_MAX &&
           (r->align & (r->align - 1)) == 0;
}

static inline bool blas_recipe_equal(const struct blas_recipe *a, const struct blas_recipe *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->flags == b->flags &&
           a->align == b->align;
}

/* The library's objects for a recipe; C has D's layout. */
struct blas_setup {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t pref;
};

static inline void blas_setup_done(const struct blas_library *lib, struct blas_setup *s)
{
    if (s->pref) {
        lib->pref_destroy(s->pref);
    }
    if (s->d) {
        lib->layout_destroy(s->d);
    }
    if (s->b) {
        lib->layout_destroy(s->b);
    }
    if (s->a) {
        lib->layout_destroy(s->a);
    }
    if (s->desc) {
        lib->desc_destroy(s->desc);
    }
    memset(s, 0, sizeof(*s));
}

/* The first status that is not CUBLAS_STATUS_SUCCESS stays. */
static inline void blas_try(cublasStatus_t *status, cublasStatus_t next)
{
    if (*status == CUBLAS_STATUS_SUCCESS) {
        *status = next;
    }
}

/* Also the alignment of a bias is seen from its pointer. */
static inline cublasStatus_t blas_set_bias(const struct blas_library *lib,
                                           const struct blas_setup *s, const void *bias)
{
    return lib->desc_set(s->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
}

static inline cublasStatus_t blas_set_desc(const struct blas_library *lib,
                                           const struct blas_recipe *r, const struct blas_setup *s)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasOperation_t plain = CUBLAS_OP_N;
    const int32_t bias_type = r->flags & BLAS_Y_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const bool bias = r->flags & BLAS_BIAS;
    uint32_t epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;

    if (r->flags & BLAS_GELU) {
        epilogue = bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    }
    blas_try(&status,
             lib->desc_set(s->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)));
    blas_try(&status, lib->desc_set(s->desc, CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof(plain)));
    blas_try(&status,
             lib->desc_set(s->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)));
    if (bias) {
        blas_try(&status, lib->desc_set(s->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type,
                                        sizeof(bias_type)));
    }
    return status;
}

/* No algorithm that adds up partial sums: the same inputs must give the same bits. */
static inline cublasStatus_t blas_set_pref(const struct blas_library *lib, uint32_t align,
                                           uint64_t workspace, const struct blas_setup *s)
{
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;

    blas_try(&status, lib->pref_set(s->pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                    sizeof(workspace)));
    blas_try(&status, lib->pref_set(s->pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                    sizeof(schemes)));
    for (int i = 0; i < 4; i++) {
        blas_try(&status, lib->pref_set(s->pref, aligned[i], &align, sizeof(align)));
    }
    return status;
}

/* blas_setup_done() in any case. */
static inline cublasStatus_t blas_setup_make(const struct blas_library *lib,
                                             const struct blas_recipe *r, uint64_t workspace,
                                             struct blas_setup *ret)
{
    const uint64_t m = (uint64_t)r->m;
    const uint64_t n = (uint64_t)r->n;
    const uint64_t k = (uint64_t)r->k;
    const cudaDataType_t y_type = r->flags & BLAS_Y_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasStatus_t status;

    memset(ret, 0, sizeof(*ret));
    status = lib->desc_create(&ret->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = blas_set_desc(lib, r, ret);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = lib->layout_create(&ret->a, CUDA_R_16BF, k, n, (int64_t)k);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = lib->layout_create(&ret->b, CUDA_R_16BF, k, m, (int64_t)k);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = lib->layout_create(&ret->d, y_type, n, m, (int64_t)n);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = lib->pref_create(&ret->pref);
    }
    return status == CUBLAS_STATUS_SUCCESS ? blas_set_pref(lib, r->align, workspace, ret) : status;
}

/* ---- an algorithm as a line of text: recipe, the 64 bytes, a checksum ---- */

enum {
    BLAS_LINE_NUMBERS = 13, /* m n k flags align, 8 words */
    BLAS_LINE_MAX = 16 * BLAS_LINE_NUMBERS + 32
};

static inline uint64_t blas_line_sum(const uint64_t *number)
{
    uint64_t sum = 0xcbf29ce484222325U; /* FNV-1a, a word at a time */

    for (int i = 0; i < BLAS_LINE_NUMBERS; i++) {
        sum = (sum ^ number[i]) * 0x100000001b3U;
        sum ^= sum >> 29;
    }
    return sum;
}

static inline void blas_line_write(char line[BLAS_LINE_MAX], const struct blas_recipe *r,
                                   const cublasLtMatmulAlgo_t *algo)
{
    uint64_t number[BLAS_LINE_NUMBERS] = {(uint64_t)r->m, (uint64_t)r->n, (uint64_t)r->k, r->flags,
                                          r->align};
    int at = 0;

    memcpy(&number[5], algo->data, sizeof(algo->data));
    for (int i = 0; i < BLAS_LINE_NUMBERS; i++) {
        at += snprintf(line + at, (size_t)(BLAS_LINE_MAX - at), i < 5 ? "%llu " : "%016llx ",
                       (unsigned long long)number[i]);
    }
    snprintf(line + at, (size_t)(BLAS_LINE_MAX - at), "%016llx\n",
             (unsigned long long)blas_line_sum(number));
}

/* False: not a line of blas_line_write(). */
static inline bool blas_line_read(const char *line, struct blas_recipe *ret_recipe,
                                  cublasLtMatmulAlgo_t *ret_algo)
{
    uint64_t number[BLAS_LINE_NUMBERS + 1];
    char *end;

    for (int i = 0; i <= BLAS_LINE_NUMBERS; i++) {
        number[i] = strtoull(line, &end, i < 5 ? 10 : 16);
        if (end == line || *end != (i < BLAS_LINE_NUMBERS ? ' ' : '\n')) {
            return false;
        }
        line = end + 1;
    }
    if (*line || number[BLAS_LINE_NUMBERS] != blas_line_sum(number)) {
        return false;
    }
    ret_recipe->m = (int64_t)number[0];
    ret_recipe->n = (int64_t)number[1];
    ret_recipe->k = (int64_t)number[2];
    ret_recipe->flags = (uint32_t)number[3];
    ret_recipe->align = (uint32_t)number[4];
    memcpy(ret_algo->data, &number[5], sizeof(ret_algo->data));
    return blas_recipe_is_valid(ret_recipe);
}

#endif
