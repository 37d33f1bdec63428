#include "bench/gpu/bare/cblas.h"

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    COLUMNS = 16, /* of C, held in registers */
    DEPTH = 256   /* of B, packed on the stack */
};

struct factors {
    const float *a, *b;
    int64_t a_row, a_col, b_row, b_col; /* steps */
};

/* B[k0.., j0..] -> packed[depth][COLUMNS], behind the last column zeros. */
static void pack(float packed[DEPTH][COLUMNS], const struct factors *f, int64_t k0, int64_t depth,
                 int64_t j0, int64_t columns)
{
    for (int64_t k = 0; k < depth; k++) {
        for (int64_t j = 0; j < COLUMNS; j++) {
            packed[k][j] = j < columns ? f->b[(k0 + k) * f->b_row + (j0 + j) * f->b_col] : 0.0F;
        }
    }
}

static void add_row(float *c, int64_t columns, float packed[DEPTH][COLUMNS], const float *a,
                    int64_t a_step, int64_t depth, float alpha)
{
    float sum[COLUMNS] = {0};

    for (int64_t k = 0; k < depth; k++) {
        const float x = a[k * a_step];

        for (int j = 0; j < COLUMNS; j++) {
            sum[j] += x * packed[k][j];
        }
    }
    for (int64_t j = 0; j < columns; j++) {
        c[j] += alpha * sum[j];
    }
}

static void scale(float *c, int64_t m, int64_t n, int64_t ldc, float beta)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            c[i * ldc + j] = beta == 0.0F ? 0.0F : beta * c[i * ldc + j];
        }
    }
}

/* NOLINTNEXTLINE(readability-function-size): CBLAS has its parameters */
void cblas_sgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans_a, enum CBLAS_TRANSPOSE trans_b,
                 int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                 float beta, float *c, int ldc)
{
    const bool ta = trans_a == CblasTrans;
    const bool tb = trans_b == CblasTrans;
    const struct factors f = {.a = a,
                              .b = b,
                              .a_row = ta ? 1 : lda,
                              .a_col = ta ? lda : 1,
                              .b_row = tb ? 1 : ldb,
                              .b_col = tb ? ldb : 1};
    float packed[DEPTH][COLUMNS];

    CHECK_BUG(order == CblasRowMajor);
    scale(c, m, n, ldc, beta);
    for (int64_t j0 = 0; j0 < n; j0 += COLUMNS) {
        const int64_t columns = n - j0 < COLUMNS ? n - j0 : COLUMNS;

        for (int64_t k0 = 0; k0 < k; k0 += DEPTH) {
            const int64_t depth = k - k0 < DEPTH ? k - k0 : DEPTH;

            pack(packed, &f, k0, depth, j0, columns);
            for (int64_t i = 0; i < m; i++) {
                add_row(c + i * ldc + j0, columns, packed, a + i * f.a_row + k0 * f.a_col, f.a_col,
                        depth, alpha);
            }
        }
    }
}

void openblas_set_num_threads(int n)
{
    (void)n;
}
