/*
 * sampler.h - from velocities to clean latents: schedules and solver steps
 *
 * Flow convention: x_sigma = (1 - sigma) x0 + sigma noise, the model predicts v = noise - x0, so
 * x0 = x - sigma v. Four samplers (MODEL 5): DPM-Solver++ 2M, FlowMatch Euler, UniPC (bh2, order
 * 2), and LongSANA's re-noising at a list of timesteps.
 *
 * Scalars are computed on the host in double from f32 sigmas as the reference stores them; the
 * device sees linear combinations only. Source: [diffusers schedulers/], NVlabs
 * longlive_flow_euler_sampler.py. Engine thread.
 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "engine/model_config.h"
#include "kernels/workspace.h"

struct sampler_schedule {
    enum sampler_kind kind;
    int steps;
    double sigma[SAMPLER_MAX_STEPS + 1];     /* f32 values; sigma[steps] is 0 */
    float timestep[SAMPLER_MAX_STEPS];       /* what the model is told */
    double renoise_sigma[RENOISE_MAX_STEPS]; /* LongLive: level a step starts at */
};

/* What a schedule is made from. */
struct sampler_options {
    enum sampler_kind kind;
    int steps;         /* 1..SAMPLER_MAX_STEPS; LongLive: ignored */
    double flow_shift; /* > 0 */
    int n_renoise;     /* LongLive: 1..RENOISE_MAX_STEPS timesteps, falling, in (0, 1000] */
    double renoise[RENOISE_MAX_STEPS];
    bool bf16_timesteps; /* LongLive: timesteps rounded to bf16 as NVlabs does (MODEL 5.6) */
};

/* Errors: ERR_INVALID names the option and its range. */
MUST_CHECK int sampler_schedule_init(struct sampler_schedule *ret,
                                     const struct sampler_options *options, struct err *err);

/* LongLive's table: 1000 sigmas shifted by `shift`, in f32; index of the nearest timestep. */
enum {
    LONGLIVE_TABLE = 1000
};
void sampler_longlive_table(float sigma[LONGLIVE_TABLE], double shift);
int sampler_longlive_index(const float sigma[LONGLIVE_TABLE], double timestep);

/* Fresh noise for LongLive's step: fills y [T, h, w, C]. */
typedef int (*sampler_noise_fn)(void *ctx, int step, const struct tensor *y, struct err *err);

enum {
    SAMPLER_MAX_HISTORY = 4
};

/* A solver in flight. Its history are tensors like x, in the workspace. */
struct sampler {
    struct sampler_schedule schedule;
    struct device *dev;     /* borrowed */
    int step;               /* next */
    int order;              /* UniPC: of the previous predictor */
    struct tensor m[3];     /* x0 estimates: this step's, the last one's, the one before */
    struct tensor last;     /* UniPC: sample before the last predictor. LongLive: noise */
    sampler_noise_fn noise; /* LongLive */
    void *noise_ctx;
};

/* Allocates what the kind needs from ws for samples shaped like x. Starts at step 0. */
MUST_CHECK int sampler_init(struct sampler *s, const struct sampler_schedule *schedule,
                            struct workspace *ws, const struct tensor *x, struct err *err);

bool sampler_finished(const struct sampler *s);

/* One step: x [..] in/out, v [..] the model's output at timestep[s->step]. */
MUST_CHECK int sampler_step(struct sampler *s, const struct tensor *x, const struct tensor *v,
                            struct err *err);

/* Continues behind `step` steps; the caller fills the history and x with what was saved then. */
void sampler_resume(struct sampler *s, int step, int order);

/* The history tensors, for saving and restoring between steps; returns how many. Together with
 * step, order and x they are everything. */
int sampler_history(const struct sampler *s, const struct tensor *ret[SAMPLER_MAX_HISTORY]);

#endif
