/*
 * A tile is `rows` x `cols` output pixels of one frame, for `chan` output channels. Its input patch
 * lies in the thread's scratch with a pitch of cols + kw - 1 cells, so for a tap (b, c) the tile's
 * inputs are the patch from cell b * pitch + c on, one cell after the other: that is a matrix with
 * no copying, and the kw - 1 products per row that wrap around fall into cells nobody reads.
 *
 * Few input channels make such products too short for a GEMM, and a stride breaks the rule "one
 * cell after the other". Then a patch cell holds the kw cells of its window ("wide" cells), and a
 * tap is a whole row of the kernel.
 *
 * Tried: im2col of whole windows. It copies 27 times the input instead of 1 to 3 times, and the
 * GEMM, which packs its operands anyway, is not faster for it.
 */
#include "kernels/conv3d.h"

#include <cblas.h>
#include <string.h>

#include "base/size.h"
#include "kernels/dispatch.h"

enum {
    WIDE_BELOW_CHANNELS = 24, /* fewer input channels than this: wide cells */
    TILE_COLS = 128,
    TILE_PIXELS_MAX = 1024,
    TILE_PIXELS_MIN = 64,
    TILE_CHANNELS = 512,
    TILES_WANTED = 8,         /* per frame */
    PATCH_FLOATS = 512 << 10, /* patch and sums: larger tiles read the weights less often */
};

struct conv3d_job {
    struct device *dev;
    const struct conv3d_params *p;
    float *y;
    const float *x, *w;
    int64_t h, w_in, ci; /* a stored input frame */
    int64_t up;          /* 1 or 2 */
    int64_t ho, wo, co;  /* an output frame */
    int64_t kt, kh, kw;
    int64_t st, ss;
    int64_t n_zero, n_history; /* frames before x */
    int64_t cell;              /* floats in a patch cell: ci, or kw * ci when wide */
    bool wide;
    bool direct;              /* 1 x 1 kernels read the frame itself, seen as one long row */
    int64_t rows, cols, chan; /* of a tile */
    int64_t tiles_y, tiles_x, tiles_n;
};

struct tile {
    int64_t t, i0, j0, o0; /* first output frame, row, column, channel */
    int64_t rows, cols, chan;
    int64_t pitch; /* cells in a patch row and in a row of sums */
    int64_t patch_rows;
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t pitch_of(const struct conv3d_job *job, int64_t cols)
{
    return job->wide ? cols : cols + job->kw - 1;
}

static int64_t patch_rows_of(const struct conv3d_job *job, int64_t rows)
{
    return (rows - 1) * job->ss + job->kh;
}

/* The sums follow the patch, at a cache line. */
static int64_t patch_floats(const struct conv3d_job *job, int64_t rows, int64_t cols)
{
    const int64_t floats = patch_rows_of(job, rows) * pitch_of(job, cols) * job->cell;

    return job->direct ? 0 : div_ceil(floats, 16) * 16;
}

static int64_t scratch_floats(const struct conv3d_job *job, int64_t rows, int64_t cols)
{
    return patch_floats(job, rows, cols) + rows * pitch_of(job, cols) * job->chan;
}

/* By the frame's shape only. */
static void choose_tiles(struct conv3d_job *job)
{
    const int64_t most = job->direct ? TILE_PIXELS_MAX : TILE_COLS;
    int64_t cols = div_ceil(job->wo, div_ceil(job->wo, most));
    int64_t rows = 1;

    job->chan = div_ceil(job->co, div_ceil(job->co, TILE_CHANNELS));
    while (cols > 8 && scratch_floats(job, 1, cols) > PATCH_FLOATS) {
        cols = (cols + 1) / 2;
    }
    while (rows < job->ho && (rows + 1) * cols <= TILE_PIXELS_MAX &&
           scratch_floats(job, rows + 1, cols) <= PATCH_FLOATS) {
        rows++;
    }
    while (div_ceil(job->ho, rows) * div_ceil(job->wo, cols) < TILES_WANTED &&
           rows * cols > TILE_PIXELS_MIN) {
        if (rows > 1) {
            rows = (rows + 1) / 2;
        } else {
            cols = (cols + 1) / 2;
        }
    }
    job->rows = rows;
    job->cols = cols;
    job->tiles_y = div_ceil(job->ho, rows);
    job->tiles_x = div_ceil(job->wo, cols);
    job->tiles_n = div_ceil(job->co, job->chan);
}

/* The stored index behind padded coordinate u (0 is the first pixel), or -1 for a zero. */
static int64_t source_of(const struct conv3d_job *job, int64_t u, int64_t n)
{
    n *= job->up;
    if (u < 0 || u >= n) {
        if (!job->p->reflect) {
            return -1;
        }
        u = u < 0 ? -u : 2 * (n - 1) - u;
    }
    return u / job->up;
}

/* n cells of a stored row from padded column u on. */
static void gather_cells(const struct conv3d_job *job, float *to, const float *row, int64_t u,
                         int64_t n)
{
    const int64_t ci = job->ci;
    int64_t i = 0;

    while (i < n) {
        const int64_t from = source_of(job, u + i, job->w_in);
        int64_t run = 1;

        if (from < 0) {
            memset(to + i * ci, 0, (size_t)ci * sizeof(float));
        } else {
            if (job->up == 1 && u + i >= 0) {
                run = u + i < job->w_in ? min64(n - i, job->w_in - from) : 1;
            }
            memcpy(to + i * ci, row + from * ci, (size_t)(run * ci) * sizeof(float));
        }
        i += run;
    }
}

static void gather_row(const struct conv3d_job *job, const struct tile *tile, float *to,
                       const float *row)
{
    const int64_t u0 = tile->j0 * job->ss - job->p->pad_left;

    if (!job->wide) {
        gather_cells(job, to, row, u0, tile->pitch);
        return;
    }
    for (int64_t j = 0; j < tile->cols; j++) {
        gather_cells(job, to + j * job->cell, row, u0 + j * job->ss, job->kw);
    }
}

static void gather_patch(const struct conv3d_job *job, const struct tile *tile, float *patch,
                         const float *frame)
{
    const int64_t row_floats = tile->pitch * job->cell;

    for (int64_t r = 0; r < tile->patch_rows; r++) {
        const int64_t from = source_of(job, tile->i0 * job->ss + r - job->p->pad_top, job->h);

        if (from < 0) {
            memset(patch + r * row_floats, 0, (size_t)row_floats * sizeof(float));
        } else {
            gather_row(job, tile, patch + r * row_floats, frame + from * job->w_in * job->ci);
        }
    }
}

/* Input frame f, counted from the first zero frame on; NULL is zeros. */
static const float *frame_at(const struct conv3d_job *job, int64_t f)
{
    const int64_t floats = job->h * job->w_in * job->ci;

    f -= job->n_zero;
    if (f < 0) {
        return NULL;
    }
    if (f < job->n_history) {
        return (const float *)job->p->history->data + f * floats;
    }
    return job->x + (f - job->n_history) * floats;
}

/* sums (+)= the tile's cells from `from` on, times one tap. */
static void multiply(const struct conv3d_job *job, const struct tile *tile, float *sums,
                     const float *from, const float *w, float beta)
{
    const int64_t kernel = job->kt * job->kh * job->kw * job->ci;
    const bool one_piece = job->ss == 1;
    const int64_t pieces = one_piece ? 1 : tile->rows;
    const int64_t m = one_piece ? (tile->rows - 1) * tile->pitch + tile->cols : tile->cols;

    for (int64_t i = 0; i < pieces; i++) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)tile->chan,
                    (int)job->cell, 1.0F, from + i * job->ss * tile->pitch * job->cell,
                    (int)job->cell, w, (int)kernel, beta, sums + i * tile->pitch * tile->chan,
                    (int)tile->chan);
    }
}

/* The taps of one frame of the kernel. */
static void add_frame(const struct conv3d_job *job, const struct tile *tile, float *sums,
                      const float *patch, int64_t a, bool first)
{
    const int64_t taps = job->wide ? 1 : job->kw;
    const float *w = job->w + (tile->o0 * job->kt + a) * job->kh * job->kw * job->ci;

    for (int64_t b = 0; b < job->kh; b++) {
        for (int64_t c = 0; c < taps; c++) {
            multiply(job, tile, sums, patch + (b * tile->pitch + c) * job->cell,
                     w + (b * job->kw + c) * job->ci, first ? 0.0F : 1.0F);
            first = false;
        }
    }
}

static void finish_cells(const struct conv3d_job *job, float *y, const float *sums, int64_t n,
                         int64_t o0, int64_t chan, const float *residual)
{
    const float *bias = job->p->bias ? (const float *)job->p->bias->data + o0 : NULL;

    for (int64_t j = 0; j < n; j++) {
        float *out = y + j * job->co;
        const float *sum = sums + j * chan;

        if (bias && residual) {
            const float *add = residual + j * job->co;

            for (int64_t o = 0; o < chan; o++) {
                out[o] = sum[o] + bias[o] + add[o];
            }
        } else if (bias) {
            for (int64_t o = 0; o < chan; o++) {
                out[o] = sum[o] + bias[o];
            }
        } else {
            for (int64_t o = 0; o < chan; o++) {
                out[o] = sum[o] + (residual ? residual[j * job->co + o] : 0.0F);
            }
        }
        for (int64_t o = 0; job->p->clamp && o < chan; o++) {
            const float v = out[o] + (out[o] - out[o]); /* infinity becomes NaN, which stays */
            const float low = v < job->p->clamp_min ? job->p->clamp_min : v;

            out[o] = low > job->p->clamp_max ? job->p->clamp_max : low;
        }
    }
}

static void finish(const struct conv3d_job *job, const struct tile *tile, const float *sums)
{
    for (int64_t r = 0; r < tile->rows; r++) {
        const int64_t pixel = (tile->t * job->ho + tile->i0 + r) * job->wo + tile->j0;
        const int64_t at = pixel * job->co + tile->o0;
        const float *residual =
            job->p->residual ? (const float *)job->p->residual->data + at : NULL;

        finish_cells(job, job->y + at, sums + r * tile->pitch * tile->chan, tile->cols, tile->o0,
                     tile->chan, residual);
    }
}

static void run_tile(void *ctx, int64_t task, int thread)
{
    const struct conv3d_job *job = ctx;
    float *patch = device_scratch(job->dev, thread);
    struct tile tile;
    bool first = true;
    float *sums;

    tile.o0 = task % job->tiles_n * job->chan;
    task /= job->tiles_n;
    tile.j0 = task % job->tiles_x * job->cols;
    task /= job->tiles_x;
    tile.i0 = task % job->tiles_y * job->rows;
    tile.t = task / job->tiles_y;
    tile.rows = min64(job->rows, job->ho - tile.i0);
    tile.cols = min64(job->cols, job->wo - tile.j0);
    tile.chan = min64(job->chan, job->co - tile.o0);
    tile.pitch = pitch_of(job, tile.cols);
    tile.patch_rows = patch_rows_of(job, tile.rows);
    sums = patch + patch_floats(job, tile.rows, tile.cols);

    for (int64_t a = 0; a < job->kt; a++) {
        const float *frame = frame_at(job, tile.t * job->st + a);

        if (frame && job->direct) {
            add_frame(job, &tile, sums, frame + tile.j0 * job->ci, a, first);
            first = false;
        } else if (frame) {
            gather_patch(job, &tile, patch, frame);
            add_frame(job, &tile, sums, patch, a, first);
            first = false;
        }
    }
    if (first) { /* all its frames were zeros */
        memset(sums, 0, (size_t)(tile.rows * tile.pitch * tile.chan) * sizeof(float));
    }
    finish(job, &tile, sums);
}

/* (have - kernel) / stride + 1, 0 when the kernel does not fit */
static int64_t out_size(int64_t have, int64_t kernel, int64_t stride)
{
    return have < kernel ? 0 : (have - kernel) / stride + 1;
}

static struct conv3d_job job_of(struct device *dev, const struct tensor *y, const struct tensor *x,
                                const struct tensor *w, const struct conv3d_params *p)
{
    struct conv3d_job job = {.dev = dev, .p = p, .y = y->data, .x = x->data, .w = w->data};

    job.h = x->dim[1];
    job.w_in = x->dim[2];
    job.ci = x->dim[3];
    job.co = w->dim[0];
    job.kt = w->dim[1];
    job.kh = w->dim[2];
    job.kw = w->dim[3];
    job.st = p->stride_t == 0 ? 1 : p->stride_t;
    job.ss = p->stride_s == 0 ? 1 : p->stride_s;
    job.up = p->upsample ? 2 : 1;
    job.n_zero = p->zero_frames;
    job.n_history = p->history ? p->history->dim[0] : 0;
    job.ho = out_size(job.h * job.up + p->pad_top + p->pad_bottom, job.kh, job.ss);
    job.wo = out_size(job.w_in * job.up + p->pad_left + p->pad_right, job.kw, job.ss);
    job.wide = job.ss > 1 || (job.kw > 1 && job.ci < WIDE_BELOW_CHANNELS);
    job.cell = job.wide ? job.kw * job.ci : job.ci;
    return job;
}

static int conv3d_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                      const struct tensor *w, const struct conv3d_params *p, struct err *err)
{
    struct conv3d_job job = job_of(dev, y, x, w, p);

    if (tensor_count(y) == 0) {
        return ERR_OK;
    }
    job.direct = job.kh == 1 && job.kw == 1 && job.ss == 1 && job.up == 1 && job.ho == job.h &&
                 job.wo == job.w_in;
    if (job.direct) {
        job.w_in *= job.h;
        job.h = 1;
        job.wo = job.w_in;
        job.ho = 1;
    }
    choose_tiles(&job);
    if ((size_t)scratch_floats(&job, job.rows, job.cols) * sizeof(float) > DEVICE_SCRATCH_BYTES) {
        return err_set(err, ERR_INVALID, "conv3d: %lld channels are too many", (long long)job.ci);
    }
    device_parallel(dev, y->dim[0] * job.tiles_y * job.tiles_x * job.tiles_n, run_tile, &job);
    return ERR_OK;
}

static int check_padding(const struct conv3d_job *job, struct err *err)
{
    const struct conv3d_params *p = job->p;
    const int64_t most_h = p->pad_top > p->pad_bottom ? p->pad_top : p->pad_bottom;
    const int64_t most_w = p->pad_left > p->pad_right ? p->pad_left : p->pad_right;

    if (p->pad_top < 0 || p->pad_bottom < 0 || p->pad_left < 0 || p->pad_right < 0 || job->st < 1 ||
        job->ss < 1 || p->zero_frames < 0) {
        return err_set(err, ERR_INVALID, "conv3d: negative padding or stride");
    }
    if (p->reflect && (most_h >= job->h * job->up || most_w >= job->w_in * job->up)) {
        return err_set(err, ERR_INVALID, "conv3d: a frame of %lld x %lld cannot be reflected",
                       (long long)job->h, (long long)job->w_in);
    }
    return ERR_OK;
}

/* With weights in F32 all is; else each is of the one type or the other. */
static bool types_go_together(const struct tensor *y, const struct tensor *x,
                              const struct tensor *w, const struct conv3d_params *p)
{
    return w->dtype != DTYPE_F32 || (y->dtype == DTYPE_F32 && x->dtype == DTYPE_F32 &&
                                     (!p->history || p->history->dtype == DTYPE_F32));
}

static int check_params(const struct conv3d_job *job, const struct tensor *y, struct err *err)
{
    const struct conv3d_params *p = job->p;

    if (p->history && !DEVICE_ACT(job->dev, p->history, -1, job->h, job->w_in, job->ci)) {
        return device_shape_err(err, "conv3d", "history", p->history);
    }
    if (p->bias && !TENSOR_IS(p->bias, DTYPE_F32, job->co)) {
        return device_shape_err(err, "conv3d", "bias", p->bias);
    }
    if (p->residual && !(p->residual->dtype == y->dtype && tensor_same_shape(p->residual, y))) {
        return device_shape_err(err, "conv3d", "residual", p->residual);
    }
    return check_padding(job, err);
}

int op_conv3d(struct device *dev, const struct tensor *y, const struct tensor *x,
              const struct tensor *w, const struct conv3d_params *params, struct err *err)
{
    static const struct conv3d_params plain;
    const struct conv3d_params *p = params ? params : &plain;
    struct conv3d_job job;
    int64_t frames;
    int rc;

    if (!DEVICE_ACT(dev, x, -1, -1, -1, -1) || tensor_count(x) == 0) {
        return device_shape_err(err, "conv3d", "x", x);
    }
    if (!DEVICE_ACT(dev, w, -1, -1, -1, -1, x->dim[3]) || tensor_count(w) == 0 ||
        !types_go_together(y, x, w, p)) {
        return device_shape_err(err, "conv3d", "w", w);
    }
    job = job_of(dev, y, x, w, p);
    rc = check_params(&job, y, err);
    if (rc != ERR_OK) {
        return rc;
    }
    frames = out_size(job.n_zero + job.n_history + x->dim[0], job.kt, job.st);
    if (!DEVICE_ACT(dev, y, frames, job.ho, job.wo, job.co)) {
        return device_shape_err(err, "conv3d", "y", y);
    }
    return DEVICE_CALL(dev, conv3d, y, x, w, p, err);
}
