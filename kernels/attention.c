#include "kernels/attention.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>

#include "base/size.h"
#include "kernels/dispatch.h"
#include "kernels/vec_math.h"

/*
 * A task is one head and QUERY_TILE queries. It goes over the keys KEY_TILE at a time and keeps,
 * for each query, the running maximum, the running sum and the running weighted values (the online
 * softmax of Milakov & Gimelshein 2018), so that its memory does not grow with Lk and the scores
 * stay in the second level cache. The weighted values live in scratch until the end: o may alias q.
 */
enum {
    QUERY_TILE = 128,
    KEY_TILE = 512,
    HEAD_DIM_MAX = 8192
};

_Static_assert(sizeof(float) * QUERY_TILE * (KEY_TILE + HEAD_DIM_MAX) <= DEVICE_SCRATCH_BYTES,
               "scores and weighted values of a task fit a thread's scratch");

struct attention_job {
    struct device *dev;
    float *o;
    const float *q;
    const float *k;
    const float *v;
    const struct attention_params *params;
    int64_t lq, lk;
    int64_t q_width, kv_width; /* row strides */
    int64_t head_dim;
    int64_t query_tiles;
};

struct softmax_row {
    float max;
    double sum;
};

struct tile {
    int64_t head;
    int64_t q0, m; /* queries [q0, q0 + m) */
    struct softmax_row state[QUERY_TILE];
    float *scores; /* [m, KEY_TILE] */
    float *acc;    /* [m, head_dim] weighted values so far */
};

/* Keys [first, end) are visible to query i. */
static int64_t visible_first(const struct attention_job *job, int64_t i)
{
    const int64_t window = job->params->window;

    return job->params->causal && window > 0 && i >= window ? i - window + 1 : 0;
}

static int64_t visible_end(const struct attention_job *job, int64_t i)
{
    return job->params->causal ? i + 1 : job->lk;
}

static float row_max(const float *row, int64_t n)
{
    float part[8];
    int64_t i = 0;

    for (int j = 0; j < 8; j++) {
        part[j] = -INFINITY;
    }
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) {
            part[j] = row[i + j] > part[j] ? row[i + j] : part[j];
        }
    }
    for (; i < n; i++) {
        part[0] = row[i] > part[0] ? row[i] : part[0];
    }
    for (int j = 1; j < 8; j++) {
        part[0] = part[j] > part[0] ? part[j] : part[0];
    }
    return part[0];
}

/* row[0..n) becomes the weights of keys [key, key + n) for query i, relative to the new maximum.
 * Returns what the earlier weighted values must be multiplied with. */
static float weigh_row(const struct attention_job *job, struct softmax_row *state, float *row,
                       int64_t i, int64_t key, int64_t n)
{
    const int64_t first = visible_first(job, i) - key;
    const int64_t end = visible_end(job, i) - key;
    const int64_t a = first > 0 ? (first < n ? first : n) : 0;
    const int64_t b = end < n ? (end > a ? end : a) : n;
    const float softcap = job->params->softcap;
    float correction;
    float max;

    memset(row, 0, (size_t)a * sizeof(*row));
    memset(row + b, 0, (size_t)(n - b) * sizeof(*row));
    if (a == b) {
        return 1.0F;
    }
    if (softcap > 0.0F) {
        const float inverse = 1.0F / softcap;

        for (int64_t j = a; j < b; j++) {
            row[j] = softcap * vec_tanh1(row[j] * inverse);
        }
    }
    max = row_max(row + a, b - a);
    max = max > state->max ? max : state->max;
    correction = vec_exp1(state->max - max); /* 0 at the first visible keys: e^-inf */
    for (int64_t j = a; j < b; j++) {
        row[j] = vec_exp1(row[j] - max);
    }
    state->sum = state->sum * (double)correction + vec_sum(row + a, b - a);
    state->max = max;
    return correction;
}

/* Adds keys [key, key + n) to the tile's queries. */
static void add_keys(const struct attention_job *job, struct tile *t, int64_t key, int64_t n)
{
    const int64_t kv_head = t->head / (job->params->heads / job->params->kv_heads);
    const int64_t d = job->head_dim;
    const int64_t kv_offset = key * job->kv_width + kv_head * d;

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)t->m, (int)n, (int)d,
                job->params->scale, job->q + t->q0 * job->q_width + t->head * d, (int)job->q_width,
                job->k + kv_offset, (int)job->kv_width, 0.0F, t->scores, (int)n);
    for (int64_t i = 0; i < t->m; i++) {
        const float correction = weigh_row(job, &t->state[i], t->scores + i * n, t->q0 + i, key, n);

        for (int64_t c = 0; c < d && correction != 1.0F; c++) {
            t->acc[i * d + c] *= correction;
        }
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)t->m, (int)d, (int)n, 1.0F,
                t->scores, (int)n, job->v + kv_offset, (int)job->kv_width, 1.0F, t->acc, (int)d);
}

static void run_tile(void *ctx, int64_t task, int thread)
{
    const struct attention_job *job = ctx;
    const int64_t d = job->head_dim;
    float *scratch = device_scratch(job->dev, thread);
    struct tile t = {.head = task / job->query_tiles,
                     .q0 = task % job->query_tiles * QUERY_TILE,
                     .scores = scratch,
                     .acc = scratch + (ptrdiff_t)QUERY_TILE * KEY_TILE};
    int64_t key_end;

    t.m = job->lq - t.q0 < QUERY_TILE ? job->lq - t.q0 : QUERY_TILE;
    memset(t.acc, 0, (size_t)(t.m * d) * sizeof(*t.acc));
    for (int64_t i = 0; i < t.m; i++) {
        t.state[i].max = -INFINITY;
    }
    key_end = visible_end(job, t.q0 + t.m - 1);
    for (int64_t key = visible_first(job, t.q0) / KEY_TILE * KEY_TILE; key < key_end;
         key += KEY_TILE) {
        add_keys(job, &t, key, key_end - key < KEY_TILE ? key_end - key : KEY_TILE);
    }
    for (int64_t i = 0; i < t.m; i++) {
        const float inverse = (float)(1.0 / t.state[i].sum);
        float *o = job->o + (t.q0 + i) * job->q_width + t.head * d;

        for (int64_t c = 0; c < d; c++) {
            o[c] = t.acc[i * d + c] * inverse;
        }
    }
}

static int attention_cpu(struct device *dev, const struct tensor *o, const struct tensor *q,
                         const struct tensor *k, const struct tensor *v,
                         const struct attention_params *params, struct err *err)
{
    struct attention_job job = {.dev = dev,
                                .o = o->data,
                                .q = q->data,
                                .k = k->data,
                                .v = v->data,
                                .params = params,
                                .lq = q->dim[0],
                                .lk = k->dim[0],
                                .q_width = q->dim[1],
                                .kv_width = k->dim[1]};

    (void)err;
    job.head_dim = job.q_width / params->heads;
    job.query_tiles = div_ceil(job.lq, QUERY_TILE);
    device_parallel(dev, params->heads * job.query_tiles, run_tile, &job);
    return ERR_OK;
}

int op_attention(struct device *dev, const struct tensor *o, const struct tensor *q,
                 const struct tensor *k, const struct tensor *v,
                 const struct attention_params *params, struct err *err)
{
    const int64_t heads = params->heads;
    const int64_t kv_heads = params->kv_heads;
    int64_t head_dim;

    if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0) {
        return err_set(err, ERR_INVALID, "attention: %lld heads over %lld key/value heads",
                       (long long)heads, (long long)kv_heads);
    }
    if (!DEVICE_ACT(dev, q, -1, -1) || q->dim[1] < heads || q->dim[1] % heads != 0 ||
        q->dim[1] / heads > HEAD_DIM_MAX || q->dim[1] > INT_MAX) {
        return device_shape_err(err, "attention", "q", q);
    }
    head_dim = q->dim[1] / heads;
    if (!TENSOR_IS(k, q->dtype, -1, kv_heads * head_dim) || k->dim[0] < 1 ||
        (params->causal && k->dim[0] != q->dim[0])) {
        return device_shape_err(err, "attention", "k", k);
    }
    if (!tensor_same_shape(v, k)) {
        return device_shape_err(err, "attention", "v", v);
    }
    if (!tensor_same_shape(o, q)) {
        return device_shape_err(err, "attention", "o", o);
    }
    return DEVICE_CALL(dev, attention, o, q, k, v, params, err);
}
