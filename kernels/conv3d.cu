#include "kernels/conv3d.h"

#include "kernels/conv3d_gpu.cuh"

enum {
    MAX_STRIDE = 1024
};

/* Half of what an int holds: room for a tile beyond the end. */
static const int64_t most = INT32_MAX / 2;

static bool dims_fit(const struct tensor *t, int first, int end)
{
    for (int i = first; i < end; i++) {
        if (t->dim[i] > most) {
            return false;
        }
    }
    return true;
}

static bool fits(const struct tensor *y, const struct tensor *x, const struct tensor *w,
                 const struct conv3d_params *p)
{
    const int64_t up = p->upsample ? 2 : 1;

    return dims_fit(y, 1, 4) && dims_fit(x, 1, 4) && dims_fit(w, 0, 5) &&
           x->dim[2] <= most / x->dim[3] && p->stride_s <= MAX_STRIDE && p->pad_top <= most &&
           p->pad_bottom <= most && p->pad_left <= most && p->pad_right <= most &&
           x->dim[1] * up + p->pad_top + p->pad_bottom <= most &&
           x->dim[2] * up + p->pad_left + p->pad_right <= most;
}

static bool in_fours(const struct tensor *t)
{
    return t->dim[3] % 4 == 0 && (uintptr_t)t->data % (4 * dtype_size(t->dtype)) == 0;
}

static void set_shape(struct conv3d_gpu *c, const struct tensor *y, const struct tensor *x,
                      const struct tensor *w, const struct conv3d_params *p)
{
    c->up = p->upsample ? 1 : 0;
    c->h = (int)x->dim[1];
    c->w_in = (int)x->dim[2];
    c->ci = (int)x->dim[3];
    c->padded_h = (c->h << c->up) + (int)(p->pad_top + p->pad_bottom);
    c->padded_w = (c->w_in << c->up) + (int)(p->pad_left + p->pad_right);
    c->pad_top = (int)p->pad_top;
    c->pad_left = (int)p->pad_left;
    c->frames = y->dim[0];
    c->ho = (int)y->dim[1];
    c->wo = (int)y->dim[2];
    c->co = (int)y->dim[3];
    c->kt = (int)w->dim[1];
    c->kh = (int)w->dim[2];
    c->kw = (int)w->dim[3];
    c->stride_s = p->stride_s == 0 ? 1 : (int)p->stride_s;
    c->stride_t = p->stride_t == 0 ? 1 : p->stride_t;
    c->n_zero = p->zero_frames;
    c->n_history = p->history ? p->history->dim[0] : 0;
}

static void set_data(struct conv3d_gpu *c, const struct tensor *y, const struct tensor *x,
                     const struct tensor *w, const struct conv3d_params *p)
{
    c->x = x->data;
    c->x_f32 = x->dtype == DTYPE_F32;
    c->history = p->history ? p->history->data : NULL;
    c->history_f32 = p->history && p->history->dtype == DTYPE_F32;
    c->w = w->data;
    c->y = y->data;
    c->bias = p->bias ? (const float *)p->bias->data : NULL;
    c->residual = p->residual ? p->residual->data : NULL;
    c->packed = in_fours(y) && (!p->residual || in_fours(p->residual));
    c->reflect = p->reflect;
    c->clamp = p->clamp;
    c->clamp_min = p->clamp_min;
    c->clamp_max = p->clamp_max;
}

int conv3d_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                const struct tensor *w, const struct conv3d_params *params, struct err *err)
{
    struct conv3d_gpu conv = {};

    if (tensor_count(y) == 0) {
        return ERR_OK;
    }
    if (!fits(y, x, w, params)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "conv3d: a frame or a stride is too large for the GPU");
    }
    set_shape(&conv, y, x, w, params);
    set_data(&conv, y, x, w, params);
    return w->dtype == DTYPE_F32 ? conv3d_f32_cuda(dev, &conv, err)
                                 : conv3d_mma_cuda(dev, &conv, y->dtype == DTYPE_F32, err);
}
