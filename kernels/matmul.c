/*
 * y is cut into tiles by shape alone; a tile is one single-threaded sgemm over all of K, then the
 * epilogue while the tile is in cache. bf16/f16 weights: the tile's rows of w are widened into the
 * thread's scratch first, 1 conversion for 2 * tile_m products.
 */
#include "kernels/matmul.h"

#include <cblas.h>
#include <math.h>

#include "base/size.h"
#include "kernels/convert.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

enum {
    TILE_M_MAX = 512,
    TILE_N_MAX = 256,
    TILE_MIN = 8, /* so many rows of w fill half the scratch at the largest K */
    TILES_WANTED = 8
};

struct matmul_job {
    struct device *dev;
    float *y;
    const float *x;
    const struct tensor *w;
    const struct matmul_epilogue *ep;
    int64_t m, n, k;
    int64_t tile_m, tile_n;
    int64_t tiles_n;
};

/* Larger tiles re-read less; smaller ones feed more threads. Decided by the shape only. */
static void choose_tiles(struct matmul_job *job)
{
    const size_t row_bytes = (size_t)job->k * sizeof(float);
    int64_t tile_n_max = TILE_N_MAX;

    while (tile_n_max > TILE_MIN && (size_t)tile_n_max * row_bytes > DEVICE_SCRATCH_BYTES / 2) {
        tile_n_max /= 2;
    }
    job->tile_m = TILE_M_MAX;
    job->tile_n = tile_n_max;
    while (div_ceil(job->m, job->tile_m) * div_ceil(job->n, job->tile_n) < TILES_WANTED) {
        if (job->tile_n > 64) {
            job->tile_n /= 2;
        } else if (job->tile_m > 64) {
            job->tile_m /= 2;
        } else {
            break;
        }
    }
    job->tiles_n = div_ceil(job->n, job->tile_n);
}

static void activate(float *row, int64_t n, enum matmul_act act)
{
    if (act == MATMUL_GELU_TANH) {
        vec_gelu_tanh(row, row, n);
    } else if (act == MATMUL_SILU) {
        vec_silu(row, row, n);
    }
}

static void finish_row(const struct matmul_job *job, float *row, int64_t n0, int64_t n)
{
    if (job->ep->bias) {
        const float *bias = (const float *)job->ep->bias->data + n0;

        for (int64_t i = 0; i < n; i++) {
            row[i] += bias[i];
        }
    }
    activate(row, n, job->ep->act);
}

static void add_gated_row(const struct matmul_job *job, const float *row, int64_t m, int64_t n0,
                          int64_t n)
{
    float *y = job->y + m * job->n + n0;

    if (job->ep->gate) {
        const int32_t *group = job->ep->group->data;
        const float *gate =
            (const float *)job->ep->gate->data + group[m / job->ep->rows_per_group] * job->n + n0;

        for (int64_t i = 0; i < n; i++) {
            y[i] += gate[i] * row[i];
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            y[i] += row[i];
        }
    }
}

static void run_tile(void *ctx, int64_t task, int thread)
{
    const struct matmul_job *job = ctx;
    const int64_t m0 = task / job->tiles_n * job->tile_m;
    const int64_t n0 = task % job->tiles_n * job->tile_n;
    const int64_t m = job->m - m0 < job->tile_m ? job->m - m0 : job->tile_m;
    const int64_t n = job->n - n0 < job->tile_n ? job->n - n0 : job->tile_n;
    const struct tensor wt = tensor_slice(job->w, n0, n);
    float *scratch = device_scratch(job->dev, thread);
    const float *w = wt.data;
    float *out = job->y + m0 * job->n + n0;
    int64_t ld = job->n;

    if (wt.dtype != DTYPE_F32) {
        convert_to_f32(scratch, wt.data, wt.dtype, n * job->k);
        w = scratch;
        scratch += n * job->k;
    }
    if (job->ep->residual) {
        out = scratch;
        ld = n;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)job->k, 1.0F,
                job->x + m0 * job->k, (int)job->k, w, (int)job->k, 0.0F, out, (int)ld);
    for (int64_t i = 0; i < m; i++) {
        finish_row(job, out + i * ld, n0, n);
        if (job->ep->residual) {
            add_gated_row(job, out + i * ld, m0 + i, n0, n);
        }
    }
}

static int matmul_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                      const struct tensor *w, const struct matmul_epilogue *ep, struct err *err)
{
    struct matmul_job job = {.dev = dev, .y = y->data, .x = x->data, .w = w, .ep = ep};

    (void)err;
    job.m = x->dim[0];
    job.k = x->dim[1];
    job.n = w->dim[0];
    if (job.m == 0 || job.n == 0) {
        return ERR_OK;
    }
    choose_tiles(&job);
    device_parallel(dev, div_ceil(job.m, job.tile_m) * job.tiles_n, run_tile, &job);
    return ERR_OK;
}

static int check_epilogue(const struct matmul_epilogue *ep, int64_t m, int64_t n, struct err *err)
{
    if (ep->bias && !TENSOR_IS(ep->bias, DTYPE_F32, n)) {
        return device_shape_err(err, "matmul", "bias", ep->bias);
    }
    if (!ep->gate) {
        return ERR_OK;
    }
    if (!ep->residual || !TENSOR_IS(ep->gate, DTYPE_F32, -1, n)) {
        return device_shape_err(err, "matmul", "gate", ep->gate);
    }
    if (!ep->group || ep->rows_per_group <= 0 || m % ep->rows_per_group != 0 ||
        !TENSOR_IS(ep->group, DTYPE_I32, m / ep->rows_per_group)) {
        return err_set(err, ERR_INVALID, "matmul: gate without fitting groups");
    }
    return ERR_OK;
}

/* The CPU widens halves piece by piece; a GPU gets its weights in its own types. */
static bool weights_fit(const struct device *dev, const struct tensor *w, int64_t k)
{
    if (dev->kind == DEVICE_CPU) {
        return w->dtype <= DTYPE_F16 && TENSOR_IS(w, w->dtype, -1, k);
    }
    return DEVICE_ACT(dev, w, -1, k);
}

int op_matmul(struct device *dev, const struct tensor *y, const struct tensor *x,
              const struct tensor *w, const struct matmul_epilogue *ep, struct err *err)
{
    static const struct matmul_epilogue plain;
    int rc;

    if (!DEVICE_ACT(dev, x, -1, -1) || x->dim[1] < 1 ||
        (dev->kind == DEVICE_CPU && (size_t)x->dim[1] * 64 > DEVICE_SCRATCH_BYTES)) {
        return device_shape_err(err, "matmul", "x", x);
    }
    if (!weights_fit(dev, w, x->dim[1])) {
        return device_shape_err(err, "matmul", "w", w);
    }
    if (!DEVICE_ACT(dev, y, x->dim[0], w->dim[0])) {
        return device_shape_err(err, "matmul", "y", y);
    }
    ep = ep ? ep : &plain;
    rc = check_epilogue(ep, x->dim[0], w->dim[0], err);
    if (rc != ERR_OK) {
        return rc;
    }
    return DEVICE_CALL(dev, matmul, y, x, w, ep, err);
}
