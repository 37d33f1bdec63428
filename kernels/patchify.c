#include "kernels/patchify.h"

#include "kernels/dispatch.h"

struct patch_job {
    float *to;
    const float *from;
    int64_t height, width, channels; /* of x */
    int64_t patch;
    bool split; /* x -> u, else u -> x */
};

/* One pixel of a patch: number ij of p * p, at `pixel` in x, in the token at `token` in u. */
static void move_pixel(const struct patch_job *job, int64_t pixel, int64_t token, int64_t ij)
{
    const int64_t area = job->patch * job->patch;

    if (job->split) {
        for (int64_t c = 0; c < job->channels; c++) {
            job->to[token + c * area + ij] = job->from[pixel + c];
        }
    } else {
        for (int64_t c = 0; c < job->channels; c++) {
            job->to[pixel + c] = job->from[token + ij * job->channels + c];
        }
    }
}

/* One row of tokens. */
static void patch_task(void *ctx, int64_t task, int thread)
{
    const struct patch_job *job = ctx;
    const int64_t p = job->patch;
    const int64_t tokens = job->width / p;

    (void)thread;
    for (int64_t x = 0; x < tokens; x++) {
        const int64_t token = (task * tokens + x) * p * p * job->channels;

        for (int64_t ij = 0; ij < p * p; ij++) {
            const int64_t row = task * p + ij / p;
            const int64_t column = x * p + ij % p;

            move_pixel(job, (row * job->width + column) * job->channels, token, ij);
        }
    }
}

static int patch_cpu(struct device *dev, const struct tensor *x, const struct tensor *u,
                     int64_t patch, bool split, struct err *err)
{
    struct patch_job job = {.height = x->dim[1], .width = x->dim[2], .channels = x->dim[3]};

    (void)err;
    job.patch = patch;
    job.split = split;
    job.to = split ? u->data : x->data;
    job.from = split ? x->data : u->data;
    device_parallel(dev, x->dim[0] * job.height / patch, patch_task, &job);
    return ERR_OK;
}

static int check(const char *op, const struct tensor *x, const struct tensor *u, int64_t patch,
                 enum dtype u_dtype, struct err *err)
{
    if (!TENSOR_IS(x, DTYPE_F32, -1, -1, -1, -1) || patch < 1 || x->dim[1] % patch != 0 ||
        x->dim[2] % patch != 0) {
        return device_shape_err(err, op, "x", x);
    }
    if (!TENSOR_IS(u, u_dtype, x->dim[0] * (x->dim[1] / patch) * (x->dim[2] / patch),
                   patch * patch * x->dim[3])) {
        return device_shape_err(err, op, "u", u);
    }
    return ERR_OK;
}

int op_patchify(struct device *dev, const struct tensor *u, const struct tensor *x, int64_t patch,
                struct err *err)
{
    const enum dtype u_dtype = u->dtype == dev->act ? dev->act : DTYPE_F32;
    const int rc = check("patchify", x, u, patch, u_dtype, err);

    return rc != ERR_OK ? rc : DEVICE_CALL(dev, patch, x, u, patch, true, err);
}

int op_unpatchify(struct device *dev, const struct tensor *x, const struct tensor *u, int64_t patch,
                  struct err *err)
{
    const int rc = check("unpatchify", x, u, patch, DTYPE_F32, err);

    return rc != ERR_OK ? rc : DEVICE_CALL(dev, patch, x, u, patch, false, err);
}
