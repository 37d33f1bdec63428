#include "kernels/cuda_blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SANAD_HOSTSIM

/* The simulated GPU has no cuBLASLt. */
int cuda_blas_open(struct cuda_blas **ret, const struct device *dev,
                   const struct device_cuda_options *options, struct err *err)
{
    (void)dev;
    (void)options;
    (void)err;
    *ret = NULL;
    return ERR_OK;
}

void cuda_blas_close(struct cuda_blas *blas)
{
    (void)blas;
}

size_t cuda_blas_describe(const struct cuda_blas *blas, char *text, size_t size)
{
    (void)blas;
    return (size_t)snprintf(text, size, "no cuBLASLt in this build: own kernels\n");
}

size_t cuda_blas_workspace(const struct cuda_blas *blas)
{
    (void)blas;
    return 0;
}

int cuda_blas_plan(struct cuda_blas *blas, const struct cuda_blas_gemm *gemm, cudaStream_t stream,
                   struct cuda_blas_plan **ret, struct err *err)
{
    (void)blas;
    (void)gemm;
    (void)stream;
    (void)err;
    *ret = NULL;
    return ERR_OK;
}

int cuda_blas_run(struct cuda_blas *blas, struct cuda_blas_plan *plan,
                  const struct cuda_blas_gemm *gemm, cudaStream_t stream, bool *ret_done,
                  struct err *err)
{
    (void)blas;
    (void)plan;
    (void)gemm;
    (void)stream;
    (void)err;
    *ret_done = false;
    return ERR_OK;
}

#else

#include <stdarg.h>
#include <unistd.h>

#include "kernels/cuda_blas_recipe.h"

enum {
    MAX_PLANS = 256,    /* the least recently used one makes room */
    MAX_MEASURED = 128, /* of them; these stay */
    CANDIDATES = 16,
    RUNS = 5, /* of each candidate, after one that is not counted */
    TEXT_MAX = 160,
    PATH_MAX_BYTES = 4096
};

/* Below this (about 25 us on an H200) the library's first choice is taken: texts have many lengths. */
static const double measured_from_flop = 1.7e10;

enum plan_state {
    PLAN_NONE,
    PLAN_KEPT,   /* its algorithm comes from the file and was not looked at yet */
    PLAN_READY,  /* can run */
    PLAN_REFUSED /* own kernel; note says why */
};

struct cuda_blas_plan {
    struct blas_recipe recipe;
    enum plan_state state;
    bool measured; /* by us, or by who wrote the file */
    cublasLtMatmulAlgo_t algo;
    struct blas_setup setup;
    char note[TEXT_MAX]; /* how chosen */
    uint64_t used;
    uint64_t calls;
};

struct cuda_blas {
    struct blas_library lib;
    cublasLtHandle_t handle; /* NULL: not there */
    char why[TEXT_MAX];      /* ... because */
    char gpu[256];
    char *algos; /* owned; NULL: nothing is measured */
    size_t workspace;
    uint64_t clock;
    int n_measured;
    struct cuda_blas_plan plans[MAX_PLANS];
};

/* ---- errors ---- */

static int blas_err(const struct cuda_blas *blas, cublasStatus_t status, const char *what,
                    struct err *err)
{
    return err_set(err, status == CUBLAS_STATUS_ALLOC_FAILED ? ERR_NO_MEMORY : ERR_DEVICE,
                   "cuBLASLt: %s: %s (%d)", what, blas->lib.status_name(status), (int)status);
}

/* Not for this product, library or GPU: nothing was done and nothing is broken. */
static bool is_refusal(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH ||
           status == CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- the file of algorithms ---- */

static const char *const file_head = "sanad cuBLASLt algorithms 1";

/* What must be the same for an algorithm to be used again. */
static void head_text(const struct cuda_blas *blas, char text[512])
{
    snprintf(text, 512, "%s, library %zu, %s\n", file_head, blas->lib.version(), blas->gpu);
}

static void keep(struct cuda_blas *blas, const char *line)
{
    struct cuda_blas_plan *plan = &blas->plans[blas->n_measured];

    if (!blas_line_read(line, &plan->recipe, &plan->algo)) {
        return;
    }
    for (int i = 0; i < blas->n_measured; i++) {
        if (blas_recipe_equal(&blas->plans[i].recipe, &plan->recipe)) {
            return;
        }
    }
    plan->state = PLAN_KEPT;
    plan->measured = true;
    blas->n_measured++;
}

/* Lines that are not understood, and files of other GPUs and libraries, count as absent. */
static void load(struct cuda_blas *blas)
{
    FILE *f = fopen(blas->algos, "re");
    char head[512];
    char line[512];

    if (!f) {
        return;
    }
    head_text(blas, head);
    if (fgets(line, sizeof(line), f) && strcmp(line, head) == 0) {
        while (blas->n_measured < MAX_MEASURED && fgets(line, sizeof(line), f)) {
            keep(blas, line);
        }
    }
    fclose(f);
}

static bool write_plans(const struct cuda_blas *blas, FILE *f)
{
    char line[512];

    head_text(blas, line);
    fputs(line, f);
    for (int i = 0; i < MAX_PLANS; i++) {
        const struct cuda_blas_plan *plan = &blas->plans[i];

        if (plan->measured) {
            blas_line_write(line, &plan->recipe, &plan->algo);
            fputs(line, f);
        }
    }
    return fflush(f) == 0 && !ferror(f);
}

/* The whole file anew, under its name only when it is complete. */
static bool save(const struct cuda_blas *blas)
{
    char path[PATH_MAX_BYTES];
    bool ok = false;
    FILE *f = NULL;
    int fd = -1;

    if (snprintf(path, sizeof(path), "%s.XXXXXX", blas->algos) < (int)sizeof(path)) {
        fd = mkstemp(path);
    }
    if (fd < 0) {
        return false;
    }
    f = fdopen(fd, "w");
    if (f) {
        ok = write_plans(blas, f);
        ok = fclose(f) == 0 && ok;
    } else {
        close(fd);
    }
    ok = ok && rename(path, blas->algos) == 0;
    if (!ok) {
        unlink(path);
    }
    return ok;
}

/* A choice that cannot be kept would not be the same at the next start: then nothing is measured. */
static void open_algos(struct cuda_blas *blas)
{
    load(blas);
    if (save(blas)) {
        return;
    }
    free(blas->algos);
    blas->algos = NULL;
    blas->n_measured = 0;
    memset(blas->plans, 0, sizeof(blas->plans));
}

/* ---- open, close ---- */

static void find_library(struct cuda_blas *blas, const char *wanted)
{
    static const char *const places[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                         "/usr/local/cuda/lib64/libcublasLt.so.13",
                                         "/usr/local/cuda/lib64/libcublasLt.so.12"};
    const char *why;

    if (!wanted) {
        wanted = getenv("SANAD_CUBLASLT");
    }
    if (wanted) {
        if (!blas_library_open(&blas->lib, wanted)) {
            why = dlerror();
            snprintf(blas->why, sizeof(blas->why), "%s", why ? why : wanted);
        }
        return;
    }
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !blas->lib.handle; i++) {
        blas_library_open(&blas->lib, places[i]);
    }
    if (!blas->lib.handle) {
        snprintf(blas->why, sizeof(blas->why), "no libcublasLt.so.13 or .12 found");
    }
}

static void open_handle(struct cuda_blas *blas)
{
    const cublasStatus_t status = blas->lib.create(&blas->handle);

    if (status != CUBLAS_STATUS_SUCCESS) {
        blas->handle = NULL;
        snprintf(blas->why, sizeof(blas->why), "cublasLtCreate: %s", blas->lib.status_name(status));
    }
}

int cuda_blas_open(struct cuda_blas **ret, const struct device *dev,
                   const struct device_cuda_options *options, struct err *err)
{
    struct cudaDeviceProp prop;
    struct cuda_blas *blas = (struct cuda_blas *)calloc(1, sizeof(*blas));
    int rc;

    (void)dev;
    *ret = NULL;
    if (!blas) {
        return err_set(err, ERR_NO_MEMORY, "cuBLASLt's plans");
    }
    rc = cuda_check(cudaGetDeviceProperties(&prop, options->index), "cudaGetDeviceProperties", err);
    if (rc != ERR_OK) {
        goto out;
    }
    snprintf(blas->gpu, sizeof(blas->gpu), "%s", prop.name);
    blas->workspace = (size_t)(prop.major >= 9 ? 32 : 8)
                      << 20; /* what its kernels ask for at most */
    find_library(blas, options->cublaslt);
    if (blas->lib.handle) {
        open_handle(blas);
    }
    if (blas->handle && options->algos && !options->deterministic) {
        blas->algos = strdup(options->algos);
        if (!blas->algos) {
            rc = err_set(err, ERR_NO_MEMORY, "cuBLASLt's plans");
            goto out;
        }
        open_algos(blas);
    }
    *ret = blas;
    blas = NULL;
out:
    cuda_blas_close(blas);
    return rc;
}

void cuda_blas_close(struct cuda_blas *blas)
{
    if (!blas) {
        return;
    }
    if (blas->lib.handle) {
        for (int i = 0; i < MAX_PLANS; i++) {
            blas_setup_done(&blas->lib, &blas->plans[i].setup);
        }
        if (blas->handle) {
            blas->lib.destroy(blas->handle);
        }
        dlclose(blas->lib.handle);
    }
    free(blas->algos);
    free(blas);
}

size_t cuda_blas_workspace(const struct cuda_blas *blas)
{
    return blas->handle ? blas->workspace : 0;
}

/* ---- plans ---- */

/* 16 .. 256: what all pointers are multiples of; less where one is not even that. */
static uint32_t alignment(const struct cuda_blas_gemm *gemm)
{
    const uintptr_t bits = (uintptr_t)gemm->x | (uintptr_t)gemm->w | (uintptr_t)gemm->y |
                           (uintptr_t)gemm->bias | BLAS_ALIGN_MAX;

    return (uint32_t)(bits & (~bits + 1));
}

static struct blas_recipe recipe_of(const struct cuda_blas_gemm *gemm)
{
    struct blas_recipe recipe;

    memset(&recipe, 0, sizeof(recipe));
    recipe.m = gemm->m;
    recipe.n = gemm->n;
    recipe.k = gemm->k;
    recipe.flags = (uint32_t)((gemm->y_bf16 ? BLAS_Y_BF16 : 0) | (gemm->bias ? BLAS_BIAS : 0) |
                              (gemm->gelu ? BLAS_GELU : 0) | (gemm->residual ? BLAS_RESIDUAL : 0));
    recipe.align = alignment(gemm);
    return recipe;
}

static struct cuda_blas_plan *find_plan(struct cuda_blas *blas, const struct blas_recipe *recipe)
{
    for (int i = 0; i < MAX_PLANS; i++) {
        struct cuda_blas_plan *plan = &blas->plans[i];

        if (plan->state != PLAN_NONE && blas_recipe_equal(&plan->recipe, recipe)) {
            return plan;
        }
    }
    return NULL;
}

/* The place of a new plan: a free one, or that of the least recently used that was not measured. */
static struct cuda_blas_plan *make_place(struct cuda_blas *blas)
{
    struct cuda_blas_plan *oldest = NULL;

    for (int i = 0; i < MAX_PLANS; i++) {
        struct cuda_blas_plan *plan = &blas->plans[i];

        if (plan->state == PLAN_NONE) {
            return plan;
        }
        if (!plan->measured && (!oldest || plan->used < oldest->used)) {
            oldest = plan;
        }
    }
    blas_setup_done(&blas->lib, &oldest->setup);
    memset(oldest, 0, sizeof(*oldest));
    return oldest;
}

static cublasStatus_t multiply(const struct cuda_blas *blas, const struct cuda_blas_plan *plan,
                               const cublasLtMatmulAlgo_t *algo, const struct cuda_blas_gemm *gemm,
                               cudaStream_t stream)
{
    const float alpha = 1.0F;
    const float beta = gemm->residual ? 1.0F : 0.0F;

    return blas->lib.matmul(blas->handle, plan->setup.desc, &alpha, gemm->w, plan->setup.a, gemm->x,
                            plan->setup.b, &beta, gemm->y, plan->setup.d, gemm->y, plan->setup.d,
                            algo, gemm->workspace, blas->workspace, stream);
}

/* Partial sums in the workspace were ruled out, and fit or not, this holds for kept algorithms too. */
static bool may_use(const struct cuda_blas *blas, const cublasLtMatmulHeuristicResult_t *result)
{
    int32_t split = 0;
    size_t written = 0;

    if (result->state != CUBLAS_STATUS_SUCCESS || result->workspaceSize > blas->workspace) {
        return false;
    }
    return blas->lib.algo_get(&result->algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof(split),
                              &written) == CUBLAS_STATUS_SUCCESS &&
           split <= 1;
}

static int ask_heuristic(struct cuda_blas *blas, struct cuda_blas_plan *plan,
                         cublasLtMatmulHeuristicResult_t results[CANDIDATES], int *ret_n,
                         struct err *err)
{
    const struct blas_setup *s = &plan->setup;
    int found = 0;
    const cublasStatus_t status = blas->lib.heuristic(blas->handle, s->desc, s->a, s->b, s->d, s->d,
                                                      s->pref, CANDIDATES, results, &found);

    *ret_n = 0;
    if (is_refusal(status)) {
        return ERR_OK;
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        return blas_err(blas, status, "cublasLtMatmulAlgoGetHeuristic", err);
    }
    for (int i = 0; i < found; i++) {
        if (may_use(blas, &results[i])) {
            results[(*ret_n)++] = results[i];
        }
    }
    return ERR_OK;
}

/* *ret_us < 0: the library refuses to run it after all. */
static int time_algo(struct cuda_blas *blas, const struct cuda_blas_plan *plan,
                     const cublasLtMatmulAlgo_t *algo, const struct cuda_blas_gemm *gemm,
                     cudaStream_t stream, cudaEvent_t const events[2], float *ret_us,
                     struct err *err)
{
    float ms = 0.0F;
    int rc = ERR_OK;

    *ret_us = -1.0F;
    for (int i = 0; i <= RUNS && rc == ERR_OK; i++) {
        const cublasStatus_t status = multiply(blas, plan, algo, gemm, stream);

        if (is_refusal(status)) {
            return ERR_OK;
        }
        if (status != CUBLAS_STATUS_SUCCESS) {
            return blas_err(blas, status, "cublasLtMatmul", err);
        }
        if (i == 0 || i == RUNS) {
            rc = cuda_check(cudaEventRecord(events[i == RUNS], stream), "cudaEventRecord", err);
        }
    }
    if (rc == ERR_OK) {
        rc = cuda_check(cudaEventSynchronize(events[1]), "cudaEventSynchronize", err);
    }
    if (rc == ERR_OK) {
        rc = cuda_check(cudaEventElapsedTime(&ms, events[0], events[1]), "cudaEventElapsedTime",
                        err);
    }
    *ret_us = ms * 1000.0F / RUNS;
    return rc;
}

/* The same product, in a way that leaves y as it is if it is an input: zeros are added to it. */
static int prepare_measuring(const struct blas_library *lib, const struct cuda_blas_plan *plan,
                             struct cuda_blas_gemm *gemm, cudaStream_t stream, struct err *err)
{
    int rc = ERR_OK;

    if (gemm->residual) {
        rc = cuda_check(
            cudaMemsetAsync(gemm->spare_w, 0, (size_t)gemm->n * (size_t)gemm->k * 2, stream),
            "cudaMemsetAsync", err);
        gemm->w = gemm->spare_w;
    }
    if (rc == ERR_OK && gemm->residual && gemm->bias) {
        rc = cuda_check(
            cudaMemsetAsync(gemm->spare_bias, 0, (size_t)gemm->n * sizeof(float), stream),
            "cudaMemsetAsync", err);
        gemm->bias = gemm->spare_bias;
        (void)blas_set_bias(lib, &plan->setup, gemm->bias); /* as it was accepted before */
    }
    return rc;
}

/* The fastest of the n candidates; keeps it in the file. */
static int measure(struct cuda_blas *blas, struct cuda_blas_plan *plan,
                   const cublasLtMatmulHeuristicResult_t *results, int n,
                   const struct cuda_blas_gemm *wanted, cudaStream_t stream, struct err *err)
{
    struct cuda_blas_gemm gemm = *wanted;
    cudaEvent_t events[2] = {};
    float best = -1.0F;
    float first = -1.0F;
    int rc = prepare_measuring(&blas->lib, plan, &gemm, stream, err);

    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        rc = cuda_check(cudaEventCreate(&events[i]), "cudaEventCreate", err);
    }
    for (int i = 0; i < n && rc == ERR_OK; i++) {
        float us = -1.0F;

        rc = time_algo(blas, plan, &results[i].algo, &gemm, stream, events, &us, err);
        if (us >= 0.0F && (best < 0.0F || us < best)) {
            best = us;
            plan->algo = results[i].algo;
        }
        first = i == 0 ? us : first;
    }
    for (int i = 0; i < 2; i++) {
        if (events[i]) {
            cudaEventDestroy(events[i]);
        }
    }
    if (rc == ERR_OK && best >= 0.0F) {
        snprintf(plan->note, sizeof(plan->note), "%.1f us, fastest of %d; the first: %.1f us",
                 (double)best, n, (double)first);
        plan->measured = true;
        blas->n_measured++;
        if (!save(blas)) {
            snprintf(plan->note + strlen(plan->note), sizeof(plan->note) - strlen(plan->note),
                     "; could not be kept");
        }
    }
    return rc;
}

static bool worth_measuring(const struct cuda_blas *blas, const struct blas_recipe *r,
                            cudaStream_t stream)
{
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;

    return blas->algos && blas->n_measured < MAX_MEASURED &&
           2.0 * (double)r->m * (double)r->n * (double)r->k >= measured_from_flop &&
           cudaStreamIsCapturing(stream, &capture) == cudaSuccess &&
           capture == cudaStreamCaptureStatusNone;
}

static void refuse(struct cuda_blas_plan *plan, const char *why)
{
    plan->state = PLAN_REFUSED;
    snprintf(plan->note, sizeof(plan->note), "%s", why);
}

static int choose(struct cuda_blas *blas, struct cuda_blas_plan *plan,
                  const struct cuda_blas_gemm *gemm, cudaStream_t stream, struct err *err)
{
    cublasLtMatmulHeuristicResult_t results[CANDIDATES];
    int n;
    int rc = ask_heuristic(blas, plan, results, &n, err);

    if (rc != ERR_OK) {
        return rc;
    }
    if (n == 0) {
        refuse(plan, "cuBLASLt has no algorithm without split sums");
        return ERR_OK;
    }
    plan->algo = results[0].algo;
    plan->state = PLAN_READY;
    snprintf(plan->note, sizeof(plan->note), "the first of %d", n);
    return worth_measuring(blas, &plan->recipe, stream)
               ? measure(blas, plan, results, n, gemm, stream, err)
               : ERR_OK;
}

/* An algorithm from the file, if the library still agrees. */
static bool check_kept(struct cuda_blas *blas, struct cuda_blas_plan *plan)
{
    const struct blas_setup *s = &plan->setup;
    cublasLtMatmulHeuristicResult_t result;

    memset(&result, 0, sizeof(result));
    if (blas->lib.algo_check(blas->handle, s->desc, s->a, s->b, s->d, s->d, &plan->algo, &result) !=
        CUBLAS_STATUS_SUCCESS) {
        return false;
    }
    result.algo = plan->algo;
    if (!may_use(blas, &result)) {
        return false;
    }
    plan->state = PLAN_READY;
    snprintf(plan->note, sizeof(plan->note), "as kept");
    return true;
}

static int make_ready(struct cuda_blas *blas, struct cuda_blas_plan *plan,
                      const struct cuda_blas_gemm *gemm, cudaStream_t stream, struct err *err)
{
    cublasStatus_t status =
        blas_setup_make(&blas->lib, &plan->recipe, blas->workspace, &plan->setup);

    if (gemm->bias) {
        blas_try(&status, status == CUBLAS_STATUS_SUCCESS
                              ? blas_set_bias(&blas->lib, &plan->setup, gemm->bias)
                              : status);
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        return blas_err(blas, status, "descriptors", err);
    }
    if (plan->state == PLAN_KEPT) {
        if (check_kept(blas, plan)) {
            return ERR_OK;
        }
        plan->measured = false;
        blas->n_measured--;
    }
    return choose(blas, plan, gemm, stream, err);
}

static void forget(struct cuda_blas *blas, struct cuda_blas_plan *plan)
{
    blas->n_measured -= plan->measured;
    blas_setup_done(&blas->lib, &plan->setup);
    memset(plan, 0, sizeof(*plan));
}

int cuda_blas_plan(struct cuda_blas *blas, const struct cuda_blas_gemm *gemm, cudaStream_t stream,
                   struct cuda_blas_plan **ret, struct err *err)
{
    const struct blas_recipe recipe = recipe_of(gemm);
    struct cuda_blas_plan *plan;
    int rc = ERR_OK;

    *ret = NULL;
    if (!blas->handle || !blas_recipe_is_valid(&recipe)) {
        return ERR_OK;
    }
    plan = find_plan(blas, &recipe);
    if (!plan) {
        plan = make_place(blas);
        plan->recipe = recipe;
    }
    if (plan->state == PLAN_NONE || plan->state == PLAN_KEPT) {
        rc = make_ready(blas, plan, gemm, stream, err);
    }
    if (rc != ERR_OK) {
        forget(blas, plan);
        return rc;
    }
    plan->used = ++blas->clock;
    plan->calls++;
    *ret = plan->state == PLAN_READY ? plan : NULL;
    return ERR_OK;
}

int cuda_blas_run(struct cuda_blas *blas, struct cuda_blas_plan *plan,
                  const struct cuda_blas_gemm *gemm, cudaStream_t stream, bool *ret_done,
                  struct err *err)
{
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;

    *ret_done = false;
    if (gemm->bias) {
        status = blas_set_bias(&blas->lib, &plan->setup, gemm->bias);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = multiply(blas, plan, &plan->algo, gemm, stream);
    }
    if (is_refusal(status)) {
        blas->n_measured -= plan->measured;
        plan->measured = false;
        refuse(plan, "cuBLASLt refused to run its own algorithm");
        return ERR_OK;
    }
    if (status != CUBLAS_STATUS_SUCCESS) {
        return blas_err(blas, status, "cublasLtMatmul", err);
    }
    *ret_done = true;
    return ERR_OK;
}

/* ---- what runs what ---- */

struct report {
    char *text;
    size_t size, length;
};

static void PRINTF_LIKE(2, 3) report(struct report *r, const char *format, ...)
{
    const size_t left = r->length < r->size ? r->size - r->length : 0;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(left ? r->text + r->length : NULL, left, format, args);
    va_end(args);
    r->length += n > 0 ? (size_t)n : 0;
}

static void report_plan(struct report *r, const struct cuda_blas_plan *plan)
{
    const uint32_t flags = plan->recipe.flags;

    report(r, "%lld x %lld x %lld %s%s%s%s, aligned to %u: %s, %s; %llu calls\n",
           (long long)plan->recipe.m, (long long)plan->recipe.n, (long long)plan->recipe.k,
           flags & BLAS_Y_BF16 ? "bf16" : "f32", flags & BLAS_BIAS ? " bias" : "",
           flags & BLAS_GELU ? " gelu" : "", flags & BLAS_RESIDUAL ? " residual" : "",
           plan->recipe.align, plan->state == PLAN_READY ? "cuBLASLt" : "own kernel", plan->note,
           (unsigned long long)plan->calls);
}

size_t cuda_blas_describe(const struct cuda_blas *blas, char *text, size_t size)
{
    struct report r = {text, size, 0};

    if (!blas || !blas->handle) {
        report(&r, "no cuBLASLt: own kernels (%s)\n", blas ? blas->why : "device not open");
        return r.length;
    }
    report(&r, "cuBLASLt %zu; %s%s\n", blas->lib.version(),
           blas->algos ? "large products measured, kept in " : "its first choice everywhere",
           blas->algos ? blas->algos : "");
    for (int i = 0; i < MAX_PLANS; i++) {
        const struct cuda_blas_plan *plan = &blas->plans[i];

        if (plan->state == PLAN_READY || plan->state == PLAN_REFUSED) {
            report_plan(&r, plan);
        }
    }
    return r.length;
}

#endif
