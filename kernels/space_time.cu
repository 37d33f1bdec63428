/*
 * Only LTX-2's VAE splits and merges, and only Wan's small levels interleave: none of this is hot. What
 * counts is that neighbouring threads write neighbouring numbers, and that what they read in strides is
 * read by the rest of the block too, from L1.
 */
#include "kernels/space_time.h"

#include "kernels/cuda_map.cuh"

struct space_time_shape {
    int64_t h, w;  /* of the coarse grid */
    int64_t c, ca; /* channels of the fine tensor, and of add */
    int64_t shift; /* frames dropped, or missing before add */
    int st, sh, sw;
    bool columns_first;
};

/* The fine grid's column, row and frame of one number of a cell, counted from the cell's. */
struct cell_place {
    int a, b, d;
};

static __device__ __forceinline__ struct cell_place cell_place_of(const struct space_time_shape &s,
                                                                  int q)
{
    const int minor = q % (s.sh * s.sw);
    struct cell_place at;

    at.a = q / (s.sh * s.sw);
    at.b = s.columns_first ? minor % s.sh : minor / s.sw;
    at.d = s.columns_first ? minor / s.sh : minor % s.sw;
    return at;
}

/* The fine pixel of a coarse one and a place in its cell; frames before the first are the first. */
static __device__ __forceinline__ int64_t fine_pixel(const struct space_time_shape &s,
                                                     int64_t coarse, const struct cell_place &at,
                                                     int64_t shift)
{
    const int64_t j = coarse % s.w;
    const int64_t i = coarse / s.w % s.h;
    const int64_t f = coarse / s.w / s.h * s.st + at.a - shift;

    return ((f < 0 ? 0 : f) * s.h * s.sh + i * s.sh + at.b) * s.w * s.sw + j * s.sw + at.d;
}

/* Element i: channel i % c of the cell of coarse pixel i / c. Its numbers stand side by side in x. */
template <typename Y, typename X> struct split_op {
    Y *y;
    const X *x, *add;
    struct space_time_shape s;

    __device__ void at(int64_t i) const
    {
        const int cell = s.st * s.sh * s.sw;
        const int64_t coarse = i / s.c;
        const int64_t c = i - coarse * s.c;
        const int64_t t = coarse / s.w / s.h;

        for (int q = 0; q < cell; q++) {
            const struct cell_place at = cell_place_of(s, q);
            float v = to_float(x[i * cell + q]);

            if (t * s.st + at.a < s.shift) {
                continue;
            }
            if (add) {
                v += to_float(add[(coarse * s.ca + c % s.ca) * cell + q]);
            }
            y[fine_pixel(s, coarse, at, s.shift) * s.c + c] = from_float<Y>(v);
        }
    }
};

/* Element i of y. */
template <typename Y, typename X> struct merge_op {
    Y *y;
    const X *x, *add;
    struct space_time_shape s;

    __device__ void at(int64_t i) const
    {
        const int cell = s.st * s.sh * s.sw;
        const int64_t coarse = i / (s.c * cell);
        const int64_t k = i - coarse * s.c * cell;
        const int64_t c = k / cell;
        const struct cell_place at = cell_place_of(s, (int)(k - c * cell));
        const float v = to_float(x[fine_pixel(s, coarse, at, 0) * s.c + c]);

        y[i] = from_float<Y>(add ? v + mean_of_group(coarse, k) : v);
    }

    /* Of the add's numbers that y's number k of the cell stands for. */
    __device__ float mean_of_group(int64_t coarse, int64_t k) const
    {
        const int cell = s.st * s.sh * s.sw;
        const int64_t group = s.ca / s.c;
        float sum = 0.0F;

        for (int64_t q = k * group; q < (k + 1) * group; q++) {
            const int64_t c = q / cell;
            const struct cell_place at = cell_place_of(s, (int)(q - c * cell));

            sum += to_float(add[fine_pixel(s, coarse, at, s.shift) * s.ca + c]);
        }
        return sum / (float)group;
    }
};

/* Element i of x. */
template <typename T> struct interleave_op {
    T *y;
    const T *x;
    int64_t pixels; /* of a frame */
    int64_t c;      /* channels of y */

    template <int N> __device__ void at(int64_t i) const
    {
        const int64_t half = i / c; /* pixel and half */
        const int64_t pixel = half / 2;
        const int64_t t = pixel / pixels;
        const int64_t frame = 2 * t + half % 2;

        store_pack<N>(y + (frame * pixels + pixel - t * pixels) * c + i - half * c,
                      load_pack<N>(x + i));
    }
};

static struct space_time_shape shape_of(const struct tensor *coarse, const struct tensor *fine,
                                        const struct space_time_params *p, int64_t shift)
{
    struct space_time_shape s;

    s.h = coarse->dim[1];
    s.w = coarse->dim[2];
    s.c = fine->dim[3];
    s.ca = 0;
    s.shift = shift;
    s.st = (int)p->st;
    s.sh = (int)p->sh;
    s.sw = (int)p->sw;
    s.columns_first = p->columns_first;
    return s;
}

template <typename Op, typename Y, typename X>
static int run(struct device *dev, const struct tensor *y, const struct tensor *x,
               const struct tensor *add, const struct space_time_shape &s, int64_t n,
               const char *name, struct err *err)
{
    const Op op = {(Y *)y->data, (const X *)x->data, add ? (const X *)add->data : (const X *)NULL,
                   s};

    return cuda_each(dev, op, n, name, err);
}

/* Op<Y, X> of the tensors' types. */
template <template <typename, typename> class Op>
static int run_any(struct device *dev, const struct tensor *y, const struct tensor *x,
                   const struct tensor *add, const struct space_time_shape &s, int64_t n,
                   const char *name, struct err *err)
{
    typedef struct bf16 B;

    if (x->dtype == DTYPE_BF16) {
        return y->dtype == DTYPE_BF16
                   ? run<Op<B, B>, B, B>(dev, y, x, add, s, n, name, err)
                   : run<Op<float, B>, float, B>(dev, y, x, add, s, n, name, err);
    }
    return y->dtype == DTYPE_BF16
               ? run<Op<B, float>, B, float>(dev, y, x, add, s, n, name, err)
               : run<Op<float, float>, float, float>(dev, y, x, add, s, n, name, err);
}

int space_time_split_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                          const struct space_time_params *p, struct err *err)
{
    struct space_time_shape s = shape_of(x, y, p, p->drop_frames);

    s.ca = p->add ? p->add->dim[3] / (p->st * p->sh * p->sw) : 0;
    return run_any<split_op>(dev, y, x, p->add, s, x->dim[0] * s.h * s.w * s.c, "space_time_split",
                             err);
}

int space_time_merge_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                          const struct space_time_params *p, struct err *err)
{
    struct space_time_shape s = shape_of(y, x, p, p->lead_frames);

    s.ca = p->add ? p->add->dim[3] : 0;
    return run_any<merge_op>(dev, y, x, p->add, s, tensor_count(y), "space_time_merge", err);
}

template <typename T>
static int interleave(struct device *dev, const struct tensor *y, const struct tensor *x,
                      struct err *err)
{
    const interleave_op<T> op = {(T *)y->data, (const T *)x->data, x->dim[1] * x->dim[2],
                                 y->dim[3]};
    const bool packed = y->dim[3] % MAP_PACK == 0 && tensor_packed(x) && tensor_packed(y);

    return cuda_map(dev, op, tensor_count(x), packed, "frame_interleave", err);
}

int frame_interleave_cuda(struct device *dev, const struct tensor *y, const struct tensor *x,
                          struct err *err)
{
    return x->dtype == DTYPE_BF16 ? interleave<struct bf16>(dev, y, x, err)
                                  : interleave<float>(dev, y, x, err);
}
