/*
 * One head's rows are normed, rectified and rotated tile by tile into scratch, then meet v or S in a
 * small sgemm. The state is summed by one task per head over tiles in order: a fixed order.
 */
#include "kernels/linear_attention.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

enum {
    TILE = 256,
    ROWS_PER_TASK = 64
};

struct rstd_job {
    float *rstd;
    const float *x;
    int64_t rows, dim;
    float eps;
};

static void rms_rstd_task(void *ctx, int64_t task, int thread)
{
    const struct rstd_job *job = ctx;
    int64_t end = (task + 1) * ROWS_PER_TASK;

    (void)thread;
    end = end < job->rows ? end : job->rows;
    for (int64_t m = task * ROWS_PER_TASK; m < end; m++) {
        const double mean = vec_sum_squares(job->x + m * job->dim, job->dim) / (double)job->dim;

        job->rstd[m] = (float)(1.0 / sqrt(mean + (double)job->eps));
    }
}

static int rms_rstd_cpu(struct device *dev, const struct tensor *rstd, const struct tensor *x,
                        float eps, struct err *err)
{
    struct rstd_job job = {
        .rstd = rstd->data, .x = x->data, .rows = x->dim[0], .dim = x->dim[1], .eps = eps};

    (void)err;
    device_parallel(dev, div_ceil(job.rows, ROWS_PER_TASK), rms_rstd_task, &job);
    return ERR_OK;
}

int op_rms_rstd(struct device *dev, const struct tensor *rstd, const struct tensor *x, float eps,
                struct err *err)
{
    if (!DEVICE_ACT(dev, x, -1, -1) || x->dim[1] < 1) {
        return device_shape_err(err, "rms_rstd", "x", x);
    }
    if (!TENSOR_IS(rstd, DTYPE_F32, x->dim[0])) {
        return device_shape_err(err, "rms_rstd", "rstd", rstd);
    }
    return DEVICE_CALL(dev, rms_rstd, rstd, x, eps, err);
}

struct linear_job {
    struct device *dev;
    const struct linear_attention_qk *qk;
    const float *x; /* k or q */
    const float *v;
    float *o;
    float *s;
    float *k_sum;
    float eps;
    int64_t n, heads, d;
    int64_t tiles;
};

static void rotate_axis(float *out, const float *in, const struct tensor *table, int64_t position)
{
    const int64_t pairs = table->dim[1];
    const float *cs = (const float *)table->data + position * pairs * 2;

    for (int64_t j = 0; j < pairs; j++) {
        const float a = in[2 * j];
        const float b = in[2 * j + 1];

        out[2 * j] = a * cs[2 * j] - b * cs[2 * j + 1];
        out[2 * j + 1] = a * cs[2 * j + 1] + b * cs[2 * j];
    }
}

static void rotate(float *out, const float *in, const struct rope3d *rope, int64_t token)
{
    const int64_t x = token % rope->width;
    const int64_t y = token / rope->width % rope->height;
    const int64_t t = token / (rope->width * rope->height);
    const int64_t t_dim = 2 * rope->t.dim[1];
    const int64_t hw_dim = 2 * rope->h.dim[1];

    rotate_axis(out, in, &rope->t, t);
    rotate_axis(out + t_dim, in + t_dim, &rope->h, y);
    rotate_axis(out + t_dim + hw_dim, in + t_dim + hw_dim, &rope->w, x);
}

/* Rows first..first+n-1 of one head: plain[n, d] = relu(rms(x)), rotated[n, d] = rope(plain). */
static void norm_relu_rope(const struct linear_job *job, int64_t head, int64_t first, int64_t n,
                           float *plain, float *rotated)
{
    const float *rstd = job->qk->rstd->data;
    const float *weight = (const float *)job->qk->weight->data + head * job->d;

    for (int64_t i = 0; i < n; i++) {
        const int64_t token = first + i;
        const float *x = job->x + (token * job->heads + head) * job->d;
        float *p = plain + i * job->d;

        for (int64_t c = 0; c < job->d; c++) {
            const float r = x[c] * rstd[token] * weight[c];

            p[c] = r > 0.0F ? r : r * 0.0F; /* relu; NaN stays NaN, and -inf becomes NaN */
        }
        rotate(rotated + i * job->d, p, job->qk->rope, token);
    }
}

static void add_rows(double *sum, const float *rows, int64_t n, int64_t d)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < d; c++) {
            sum[c] += (double)rows[i * d + c];
        }
    }
}

static void linear_attention_state_task(void *ctx, int64_t head, int thread)
{
    const struct linear_job *job = ctx;
    const int64_t d = job->d;
    const int64_t width = job->heads * d;
    double *sum = device_scratch(job->dev, thread);
    float *plain = (float *)(sum + d);
    float *rotated = plain + TILE * d;
    float *s = job->s + head * d * d;
    float *k_sum = job->k_sum + head * d;

    for (int64_t c = 0; c < d; c++) {
        sum[c] = (double)k_sum[c];
    }
    for (int64_t first = 0; first < job->n; first += TILE) {
        const int64_t n = job->n - first < TILE ? job->n - first : TILE;

        norm_relu_rope(job, head, first, n, plain, rotated);
        add_rows(sum, plain, n, d);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)d, (int)d, (int)n, 1.0F,
                    job->v + first * width + head * d, (int)width, rotated, (int)d, 1.0F, s,
                    (int)d);
    }
    for (int64_t c = 0; c < d; c++) {
        k_sum[c] = (float)sum[c];
    }
}

static int linear_attention_state_cpu(struct device *dev, const struct tensor *s,
                                      const struct tensor *k_sum, const struct tensor *k,
                                      const struct tensor *v, const struct linear_attention_qk *kn,
                                      struct err *err)
{
    struct linear_job job = {.dev = dev, .qk = kn, .x = k->data, .v = v->data, .s = s->data};

    (void)err;
    job.k_sum = k_sum->data;
    job.n = k->dim[0];
    job.heads = s->dim[0];
    job.d = s->dim[1];
    device_parallel(dev, job.heads, linear_attention_state_task, &job);
    return ERR_OK;
}

static void linear_attention_out_task(void *ctx, int64_t task, int thread)
{
    const struct linear_job *job = ctx;
    const int64_t d = job->d;
    const int64_t width = job->heads * d;
    const int64_t head = task / job->tiles;
    const int64_t first = task % job->tiles * TILE;
    const int64_t n = job->n - first < TILE ? job->n - first : TILE;
    float *plain = device_scratch(job->dev, thread);
    float *rotated = plain + TILE * d;
    float *o = job->o + first * width + head * d;
    const float *k_sum = job->k_sum + head * d;

    norm_relu_rope(job, head, first, n, plain, rotated);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)d, (int)d, 1.0F, rotated,
                (int)d, job->s + head * d * d, (int)d, 0.0F, o, (int)width);
    for (int64_t i = 0; i < n; i++) {
        double den = (double)job->eps;
        float z;

        for (int64_t c = 0; c < d; c++) {
            den += (double)k_sum[c] * (double)plain[i * d + c];
        }
        z = (float)(1.0 / den);
        for (int64_t c = 0; c < d; c++) {
            o[i * width + c] *= z;
        }
    }
}

static int linear_attention_out_cpu(struct device *dev, const struct tensor *o,
                                    const struct tensor *q, const struct tensor *s,
                                    const struct tensor *k_sum, float eps,
                                    const struct linear_attention_qk *qn, struct err *err)
{
    struct linear_job job = {.dev = dev, .qk = qn, .x = q->data, .o = o->data, .s = s->data};

    (void)err;
    job.k_sum = k_sum->data;
    job.eps = eps;
    job.n = q->dim[0];
    job.heads = s->dim[0];
    job.d = s->dim[1];
    job.tiles = div_ceil(job.n, TILE);
    device_parallel(dev, job.heads * job.tiles, linear_attention_out_task, &job);
    return ERR_OK;
}

static int check_state(const char *op, const struct tensor *s, const struct tensor *k_sum,
                       struct err *err)
{
    const int64_t d = s->dim[1];

    if (!TENSOR_IS(s, DTYPE_F32, -1, -1, d) || d < 2 || d % 2 != 0 ||
        (size_t)d * ((size_t)2 * TILE * sizeof(float) + sizeof(double)) > DEVICE_SCRATCH_BYTES) {
        return device_shape_err(err, op, "s", s);
    }
    if (!TENSOR_IS(k_sum, DTYPE_F32, s->dim[0], d)) {
        return device_shape_err(err, op, "k_sum", k_sum);
    }
    return ERR_OK;
}

static int check_qk(const struct device *dev, const char *op, const char *arg,
                    const struct tensor *x, const struct tensor *s,
                    const struct linear_attention_qk *qk, struct err *err)
{
    const struct rope3d *r = qk->rope;
    const int64_t d = s->dim[1];

    if (!DEVICE_ACT(dev, x, -1, s->dim[0] * d)) {
        return device_shape_err(err, op, arg, x);
    }
    if (!TENSOR_IS(qk->rstd, DTYPE_F32, x->dim[0])) {
        return device_shape_err(err, op, "rstd", qk->rstd);
    }
    if (!TENSOR_IS(qk->weight, DTYPE_F32, x->dim[1])) {
        return device_shape_err(err, op, "weight", qk->weight);
    }
    if (r->frames * r->height * r->width != x->dim[0] ||
        !TENSOR_IS(&r->t, DTYPE_F32, r->frames, rope3d_t_pairs(d), 2) ||
        !TENSOR_IS(&r->h, DTYPE_F32, r->height, rope3d_hw_pairs(d), 2) ||
        !TENSOR_IS(&r->w, DTYPE_F32, r->width, rope3d_hw_pairs(d), 2)) {
        return device_shape_err(err, op, "rope", &r->t);
    }
    return ERR_OK;
}

int op_linear_attention_state(struct device *dev, const struct tensor *s,
                              const struct tensor *k_sum, const struct tensor *k,
                              const struct tensor *v, const struct linear_attention_qk *kn,
                              struct err *err)
{
    int rc = check_state("linear_attention_state", s, k_sum, err);

    if (rc == ERR_OK) {
        rc = check_qk(dev, "linear_attention_state", "k", k, s, kn, err);
    }
    if (rc == ERR_OK && !tensor_same_shape(v, k)) {
        rc = device_shape_err(err, "linear_attention_state", "v", v);
    }
    return rc != ERR_OK ? rc : DEVICE_CALL(dev, linear_attention_state, s, k_sum, k, v, kn, err);
}

int op_linear_attention_out(struct device *dev, const struct tensor *o, const struct tensor *q,
                            const struct tensor *s, const struct tensor *k_sum, float eps,
                            const struct linear_attention_qk *qn, struct err *err)
{
    int rc = check_state("linear_attention_out", s, k_sum, err);

    if (rc == ERR_OK) {
        rc = check_qk(dev, "linear_attention_out", "q", q, s, qn, err);
    }
    if (rc == ERR_OK && !tensor_same_shape(o, q)) {
        rc = device_shape_err(err, "linear_attention_out", "o", o);
    }
    return rc != ERR_OK ? rc : DEVICE_CALL(dev, linear_attention_out, o, q, s, k_sum, eps, qn, err);
}
