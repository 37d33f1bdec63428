/*
 * One task is one row of coarse pixels. The innermost loop runs over the channels of one fine
 * pixel: it writes or reads one side with the stride of a cell.
 */
#include "kernels/space_time.h"

#include <string.h>

#include "base/size.h"
#include "kernels/dispatch.h"

struct space_time_job {
    const struct space_time_params *p;
    float *y;
    const float *x, *add;
    int64_t t, h, w; /* of the coarse grid */
    int64_t c, ca;   /* channels of the fine x or y, and of add */
    int64_t cell;    /* st * sh * sw */
};

/* q of the cell's (a, b, d) for channel 0; channel c is c * cell further. */
static int64_t offset_in_cell(const struct space_time_params *p, int64_t a, int64_t b, int64_t d)
{
    return p->columns_first ? (a * p->sw + d) * p->sh + b : (a * p->sh + b) * p->sw + d;
}

/* The pixel of the fine grid, frames counted from f0 of its tensor. */
static int64_t fine_pixel(const struct space_time_job *job, int64_t f, int64_t i, int64_t j)
{
    return (f * job->h * job->p->sh + i) * job->w * job->p->sw + j;
}

static void split_pixel(const struct space_time_job *job, float *to, const float *from,
                        const float *add, int64_t q)
{
    for (int64_t c = 0; c < job->c; c++) {
        to[c] = from[c * job->cell + q];
    }
    for (int64_t c0 = 0; add && c0 < job->c; c0 += job->ca) {
        for (int64_t c = 0; c < job->ca; c++) {
            to[c0 + c] += add[c * job->cell + q];
        }
    }
}

/* Where number k of a row of cells, counted pixel by pixel of the fine grid, stands in both grids. */
struct place {
    int64_t coarse; /* cell */
    int64_t q;      /* offset in it */
    int64_t f;      /* frame of the fine grid */
    int64_t row, column;
};

static struct place place_of(const struct space_time_job *job, int64_t task, int64_t k)
{
    const struct space_time_params *p = job->p;
    const int64_t j = k / job->cell;
    const int64_t a = k % job->cell / (p->sh * p->sw);
    const int64_t b = k / p->sw % p->sh;
    const int64_t d = k % p->sw;

    return (struct place){.coarse = task * job->w + j,
                          .q = offset_in_cell(p, a, b, d),
                          .f = task / job->h * p->st + a,
                          .row = task % job->h * p->sh + b,
                          .column = j * p->sw + d};
}

static void split_row(void *ctx, int64_t task, int thread)
{
    const struct space_time_job *job = ctx;

    (void)thread;
    for (int64_t k = 0; k < job->w * job->cell; k++) {
        const struct place at = place_of(job, task, k);
        const int64_t f = at.f - job->p->drop_frames;

        if (f >= 0) {
            split_pixel(job, job->y + fine_pixel(job, f, at.row, at.column) * job->c,
                        job->x + at.coarse * job->c * job->cell,
                        job->add ? job->add + at.coarse * job->ca * job->cell : NULL, at.q);
        }
    }
}

/* One number of the group sum has channel q / cell of the fine pixel that q % cell says. */
static void add_group_means(const struct space_time_job *job, float *to, int64_t t, int64_t i,
                            int64_t j)
{
    const struct space_time_params *p = job->p;
    const int64_t group = job->ca / job->c;

    for (int64_t k = 0; k < job->c * job->cell; k++) {
        double sum = 0;

        for (int64_t q = k * group; q < (k + 1) * group; q++) {
            const int64_t in_cell = q % job->cell;
            const int64_t a = in_cell / (p->sh * p->sw);
            const int64_t minor = in_cell % (p->sh * p->sw);
            const int64_t b = p->columns_first ? minor % p->sh : minor / p->sw;
            const int64_t d = p->columns_first ? minor / p->sh : minor % p->sw;
            const int64_t lead = t * p->st + a - p->lead_frames;
            const int64_t f = lead < 0 ? 0 : lead;
            const int64_t pixel = fine_pixel(job, f, i * p->sh + b, j * p->sw + d);

            sum += (double)job->add[pixel * job->ca + q / job->cell];
        }
        to[k] += (float)(sum / (double)group);
    }
}

static void merge_row(void *ctx, int64_t task, int thread)
{
    const struct space_time_job *job = ctx;
    const int64_t t = task / job->h;
    const int64_t i = task % job->h;

    (void)thread;
    for (int64_t k = 0; k < job->w * job->cell; k++) {
        const struct place at = place_of(job, task, k);
        const float *from = job->x + fine_pixel(job, at.f, at.row, at.column) * job->c;
        float *to = job->y + at.coarse * job->c * job->cell;

        for (int64_t c = 0; c < job->c; c++) {
            to[c * job->cell + at.q] = from[c];
        }
    }
    for (int64_t j = 0; job->add && j < job->w; j++) {
        add_group_means(job, job->y + (task * job->w + j) * job->c * job->cell, t, i, j);
    }
}

static struct space_time_job job_of(const struct tensor *y, const struct tensor *x,
                                    const struct tensor *coarse, const struct tensor *fine,
                                    const struct space_time_params *p)
{
    struct space_time_job job = {.p = p, .y = y->data, .x = x->data};

    job.add = p->add ? p->add->data : NULL;
    job.t = coarse->dim[0];
    job.h = coarse->dim[1];
    job.w = coarse->dim[2];
    job.c = fine->dim[3];
    job.cell = p->st * p->sh * p->sw;
    return job;
}

static int space_time_split_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                                const struct space_time_params *p, struct err *err)
{
    struct space_time_job job = job_of(y, x, x, y, p);

    (void)err;
    job.ca = p->add ? p->add->dim[3] / job.cell : 0;
    device_parallel(dev, job.t * job.h, split_row, &job);
    return ERR_OK;
}

static int space_time_merge_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                                const struct space_time_params *p, struct err *err)
{
    struct space_time_job job = job_of(y, x, y, x, p);

    (void)err;
    job.ca = p->add ? p->add->dim[3] : 0;
    device_parallel(dev, job.t * job.h, merge_row, &job);
    return ERR_OK;
}

/* fine is the coarse grid, refined; extra frames and dropped ones allowed for by the caller. */
static bool fits(const struct device *dev, const struct tensor *fine, const struct tensor *coarse,
                 int64_t frames, const struct space_time_params *p)
{
    return DEVICE_ACT(dev, coarse, -1, -1, -1, -1) &&
           DEVICE_ACT(dev, fine, frames, coarse->dim[1] * p->sh, coarse->dim[2] * p->sw, -1);
}

int op_space_time_split(struct device *dev, const struct tensor *y, const struct tensor *x,
                        const struct space_time_params *p, struct err *err)
{
    const int64_t cell = p->st * p->sh * p->sw;

    if (p->st < 1 || p->sh < 1 || p->sw < 1 || p->drop_frames < 0 || p->drop_frames >= p->st) {
        return err_set(err, ERR_INVALID, "space_time_split: bad parameters");
    }
    if (!fits(dev, y, x, x->dim[0] * p->st - p->drop_frames, p) || x->dim[3] != y->dim[3] * cell) {
        return device_shape_err(err, "space_time_split", "x", x);
    }
    if (p->add &&
        (!TENSOR_IS(p->add, x->dtype, x->dim[0], x->dim[1], x->dim[2], -1) ||
         p->add->dim[3] < cell || p->add->dim[3] % cell != 0 || x->dim[3] % p->add->dim[3] != 0)) {
        return device_shape_err(err, "space_time_split", "add", p->add);
    }
    return DEVICE_CALL(dev, space_time_split, y, x, p, err);
}

int op_space_time_merge(struct device *dev, const struct tensor *y, const struct tensor *x,
                        const struct space_time_params *p, struct err *err)
{
    const int64_t cell = p->st * p->sh * p->sw;

    if (p->st < 1 || p->sh < 1 || p->sw < 1 || p->lead_frames < 0 || p->lead_frames >= p->st) {
        return err_set(err, ERR_INVALID, "space_time_merge: bad parameters");
    }
    if (!fits(dev, x, y, y->dim[0] * p->st, p) || y->dim[3] != x->dim[3] * cell) {
        return device_shape_err(err, "space_time_merge", "x", x);
    }
    if (p->add && (!fits(dev, p->add, y, x->dim[0] - p->lead_frames, p) ||
                   p->add->dtype != x->dtype || x->dim[3] < 1 || p->add->dim[3] % x->dim[3] != 0)) {
        return device_shape_err(err, "space_time_merge", "add", p->add);
    }
    return DEVICE_CALL(dev, space_time_merge, y, x, p, err);
}

struct interleave_job {
    float *y;
    const float *x;
    int64_t pixels; /* of a frame */
    int64_t channels;
};

enum {
    INTERLEAVE_PIXELS = 256
};

static void interleave_run(void *ctx, int64_t task, int thread)
{
    const struct interleave_job *job = ctx;
    const int64_t tasks = div_ceil(job->pixels, INTERLEAVE_PIXELS);
    const int64_t t = task / tasks;
    const int64_t first = task % tasks * INTERLEAVE_PIXELS;
    const int64_t c = job->channels;

    (void)thread;
    for (int64_t i = first; i < first + INTERLEAVE_PIXELS && i < job->pixels; i++) {
        const float *from = job->x + (t * job->pixels + i) * 2 * c;
        float *even = job->y + (2 * t * job->pixels + i) * c;

        memcpy(even, from, (size_t)c * sizeof(float));
        memcpy(even + job->pixels * c, from + c, (size_t)c * sizeof(float));
    }
}

static int frame_interleave_cpu(struct device *dev, const struct tensor *y, const struct tensor *x,
                                struct err *err)
{
    struct interleave_job job = {.y = y->data, .x = x->data};

    (void)err;
    job.pixels = x->dim[1] * x->dim[2];
    job.channels = y->dim[3];
    device_parallel(dev, x->dim[0] * div_ceil(job.pixels, INTERLEAVE_PIXELS), interleave_run, &job);
    return ERR_OK;
}

int op_frame_interleave(struct device *dev, const struct tensor *y, const struct tensor *x,
                        struct err *err)
{
    if (!DEVICE_ACT(dev, x, -1, -1, -1, -1) || x->dim[3] % 2 != 0) {
        return device_shape_err(err, "frame_interleave", "x", x);
    }
    if (!TENSOR_IS(y, x->dtype, 2 * x->dim[0], x->dim[1], x->dim[2], x->dim[3] / 2)) {
        return device_shape_err(err, "frame_interleave", "y", y);
    }
    return DEVICE_CALL(dev, frame_interleave, y, x, err);
}
