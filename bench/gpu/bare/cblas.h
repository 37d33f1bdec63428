/*
 * cblas.h - what the CPU operations need of a BLAS, for machines that have none: the reference that kernels are
 * compared with on a bare GPU machine. Right, and fast enough for small shapes. Any thread.
 */
#ifndef BENCH_GPU_BARE_CBLAS_H
#define BENCH_GPU_BARE_CBLAS_H

enum CBLAS_ORDER {
    CblasRowMajor = 101
};

enum CBLAS_TRANSPOSE {
    CblasNoTrans = 111,
    CblasTrans = 112
};

/* C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C; beta 0: C is not read. */
void cblas_sgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans_a, enum CBLAS_TRANSPOSE trans_b,
                 int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                 float beta, float *c, int ldc);

/* There is one. */
void openblas_set_num_threads(int n);

#endif
