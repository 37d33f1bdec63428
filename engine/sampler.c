#include "engine/sampler.h"

#include <math.h>

#include "kernels/convert.h"
#include "kernels/elementwise.h"

static double shifted(double shift, double s)
{
    return shift * s / (1.0 + (shift - 1.0) * s);
}

/* ---- schedules (MODEL 5.1, 5.3, 5.4, 5.6) ---- */

static void dpm_schedule(struct sampler_schedule *s, double shift)
{
    for (int i = 0; i < s->steps; i++) {
        const double plain = (double)(s->steps - i) * 0.999 / s->steps;
        const double sigma = shifted(shift, plain);

        s->sigma[i] = (double)(float)sigma;
        s->timestep[i] = (float)trunc(sigma * 1000.0);
    }
}

static void unipc_schedule(struct sampler_schedule *s, double shift)
{
    for (int i = 0; i < s->steps; i++) {
        double sigma = shifted(shift, 1.0 - (double)i * 0.999 / s->steps);

        if (fabs(sigma - 1.0) < 1e-6) {
            sigma -= 1e-6; /* lambda must stay finite */
        }
        s->sigma[i] = (double)(float)sigma;
        s->timestep[i] = (float)trunc(sigma * 1000.0);
    }
}

/* The lower end is shifted when the scheduler is made and again here (GOLDEN trap 15). */
static void euler_schedule(struct sampler_schedule *s, double shift)
{
    const double low = (double)(float)shifted(shift, 0.001);

    for (int i = 0; i < s->steps; i++) {
        const double part = s->steps > 1 ? (double)i / (s->steps - 1) : 0.0;
        const double t = 1000.0 + part * (low * 1000.0 - 1000.0);

        s->sigma[i] = (double)(float)shifted(shift, (double)(float)(t / 1000.0));
        s->timestep[i] = (float)(s->sigma[i] * 1000.0);
    }
}

void sampler_longlive_table(float sigma[LONGLIVE_TABLE], double shift)
{
    for (int j = 0; j < LONGLIVE_TABLE; j++) {
        const float s = (float)(1.0 - (double)j / LONGLIVE_TABLE);

        sigma[j] = (float)shift * s / (1.0F + (float)(shift - 1.0) * s);
    }
}

int sampler_longlive_index(const float sigma[LONGLIVE_TABLE], double timestep)
{
    int best = 0;

    for (int j = 1; j < LONGLIVE_TABLE; j++) {
        if (fabs((double)(sigma[j] * 1000.0F) - timestep) <
            fabs((double)(sigma[best] * 1000.0F) - timestep)) {
            best = j;
        }
    }
    return best;
}

/* sigma[i], for x0, belongs to what the model is told; the level a step is re-noised to belongs to
 * the list itself. With bf16 timesteps the two differ by up to a thousandth (MODEL 5.6). */
static void longlive_schedule(struct sampler_schedule *s, const struct sampler_options *o)
{
    float table[LONGLIVE_TABLE];

    sampler_longlive_table(table, o->flow_shift);
    s->steps = o->n_renoise;
    for (int i = 0; i < s->steps; i++) {
        float t = (float)o->renoise[i];

        if (o->bf16_timesteps) {
            convert_round_bf16(&t, 1);
        }
        s->timestep[i] = t;
        s->sigma[i] = (double)table[sampler_longlive_index(table, (double)t)];
        s->renoise_sigma[i] = (double)table[sampler_longlive_index(table, o->renoise[i])];
    }
}

static int check_renoise(const struct sampler_options *o, struct err *err)
{
    if (o->n_renoise < 1 || o->n_renoise > RENOISE_MAX_STEPS) {
        return err_set(err, ERR_INVALID, "renoise_timesteps: %d entries are not in 1..%d",
                       o->n_renoise, RENOISE_MAX_STEPS);
    }
    for (int i = 0; i < o->n_renoise; i++) {
        if (!(o->renoise[i] > 0.0 && o->renoise[i] <= 1000.0) ||
            (i > 0 && o->renoise[i] >= o->renoise[i - 1])) {
            return err_set(err, ERR_INVALID,
                           "renoise_timesteps: entry %d is %g; they must fall within (0, 1000]", i,
                           o->renoise[i]);
        }
    }
    return ERR_OK;
}

int sampler_schedule_init(struct sampler_schedule *ret, const struct sampler_options *options,
                          struct err *err)
{
    *ret = (struct sampler_schedule){.kind = options->kind, .steps = options->steps};
    if (!(options->flow_shift > 0.0 && options->flow_shift <= 1000.0)) {
        return err_set(err, ERR_INVALID, "flow_shift: %g is not in (0, 1000]", options->flow_shift);
    }
    if (options->kind == SAMPLER_LONGLIVE) {
        const int rc = check_renoise(options, err);

        if (rc == ERR_OK) {
            longlive_schedule(ret, options);
        }
        return rc;
    }
    if (options->steps < 1 || options->steps > SAMPLER_MAX_STEPS) {
        return err_set(err, ERR_INVALID, "steps: %d is not in 1..%d", options->steps,
                       SAMPLER_MAX_STEPS);
    }
    if (options->kind == SAMPLER_DPM) {
        dpm_schedule(ret, options->flow_shift);
    } else if (options->kind == SAMPLER_UNIPC) {
        unipc_schedule(ret, options->flow_shift);
    } else {
        euler_schedule(ret, options->flow_shift);
    }
    return ERR_OK;
}

/* ---- steps ---- */

int sampler_init(struct sampler *s, const struct sampler_schedule *schedule, struct workspace *ws,
                 const struct tensor *x, struct err *err)
{
    static const int history[] = {
        [SAMPLER_DPM] = 2, [SAMPLER_EULER] = 0, [SAMPLER_UNIPC] = 3, [SAMPLER_LONGLIVE] = 1};
    const bool last = schedule->kind == SAMPLER_UNIPC || schedule->kind == SAMPLER_LONGLIVE;
    int rc = ERR_OK;

    *s = (struct sampler){.schedule = *schedule, .dev = ws->dev};
    for (int i = 0; i < history[schedule->kind] && rc == ERR_OK; i++) {
        rc = workspace_tensor(ws, &s->m[i], DTYPE_F32, x->rank, x->dim, err);
    }
    if (rc == ERR_OK && last) {
        rc = workspace_tensor(ws, &s->last, DTYPE_F32, x->rank, x->dim, err);
    }
    return rc;
}

bool sampler_finished(const struct sampler *s)
{
    return s->step >= s->schedule.steps;
}

int sampler_history(const struct sampler *s, const struct tensor *ret[SAMPLER_MAX_HISTORY])
{
    int n = 0;

    for (int i = 0; i < 3; i++) {
        if (s->m[i].data) {
            ret[n++] = &s->m[i];
        }
    }
    if (s->last.data) {
        ret[n++] = &s->last;
    }
    return n;
}

void sampler_resume(struct sampler *s, int step, int order)
{
    s->step = step;
    s->order = order;
}

/* The newest estimate becomes m[0]; the others move up. Views rotate, data stays. */
static void rotate_history(struct sampler *s, int n)
{
    const struct tensor oldest = s->m[n - 1];

    for (int i = n - 1; i > 0; i--) {
        s->m[i] = s->m[i - 1];
    }
    s->m[0] = oldest;
}

/* y = x - sigma v */
static int estimate(struct sampler *s, const struct tensor *y, const struct tensor *x,
                    const struct tensor *v, double sigma, struct err *err)
{
    const float coef[2] = {1.0F, (float)-sigma};
    const struct tensor *const terms[2] = {x, v};

    return op_linear_combine(s->dev, y, 2, coef, terms, err);
}

static double lambda(double sigma)
{
    return log(1.0 - sigma) - log(sigma);
}

static int step_euler(struct sampler *s, const struct tensor *x, const struct tensor *v,
                      struct err *err)
{
    const double *sigma = s->schedule.sigma + s->step;

    return estimate(s, x, x, v, sigma[0] - sigma[1], err);
}

/* DPM-Solver++ 2M, midpoint: first order at the first and the last step (MODEL 5.1). */
static int step_dpm(struct sampler *s, const struct tensor *x, const struct tensor *v,
                    struct err *err)
{
    const double *sigma = s->schedule.sigma;
    const int k = s->step;
    const struct tensor *terms[3];
    double ratio;
    double gain;
    float coef[3];
    int rc;

    rotate_history(s, 2);
    rc = estimate(s, &s->m[0], x, v, sigma[k], err);
    if (rc != ERR_OK || k == s->schedule.steps - 1) {
        return rc != ERR_OK ? rc : op_copy(s->dev, x, &s->m[0], err);
    }
    ratio = sigma[k + 1] / sigma[k];
    gain = -(1.0 - sigma[k + 1]) * expm1(-(lambda(sigma[k + 1]) - lambda(sigma[k])));
    terms[0] = x;
    terms[1] = &s->m[0];
    terms[2] = &s->m[1];
    coef[0] = (float)ratio;
    coef[1] = (float)gain;
    if (k > 0) {
        const double h = lambda(sigma[k + 1]) - lambda(sigma[k]);
        const double r = (lambda(sigma[k]) - lambda(sigma[k - 1])) / h;

        coef[1] = (float)(gain + 0.5 * gain / r);
        coef[2] = (float)(-0.5 * gain / r);
    }
    return op_linear_combine(s->dev, x, k > 0 ? 3 : 2, coef, terms, err);
}

/* Both halves of UniPC start from (sigma_t / sigma_s) x - alpha_t phi1 m. */
struct unipc_base {
    double ratio, alpha, h, phi1;
};

static struct unipc_base unipc_base(double sigma_s, double sigma_t)
{
    struct unipc_base b = {.ratio = sigma_t / sigma_s, .alpha = 1.0 - sigma_t};

    b.h = lambda(sigma_t) - lambda(sigma_s);
    b.phi1 = expm1(-b.h);
    return b;
}

/* x = corrected sample at sigma[k], from the sample before the last predictor (MODEL 5.4). m[0] is
 * the estimate from the uncorrected x. */
static int unipc_correct(struct sampler *s, const struct tensor *x, struct err *err)
{
    const double *sigma = s->schedule.sigma;
    const int k = s->step;
    const struct unipc_base b = unipc_base(sigma[k - 1], sigma[k]);
    const double step = b.alpha * b.phi1;
    const struct tensor *terms[4] = {&s->last, &s->m[1], &s->m[0], &s->m[2]};
    float coef[4] = {(float)b.ratio};

    if (s->order == 1) {
        coef[1] = (float)(-step + 0.5 * step);
        coef[2] = (float)(-0.5 * step);
        return op_linear_combine(s->dev, x, 3, coef, terms, err);
    }
    {
        const double hh = -b.h;
        const double psi1 = b.phi1 / hh - 1.0;
        const double b1 = psi1 / b.phi1;
        const double b2 = 2.0 * (psi1 / hh - 0.5) / b.phi1;
        const double r1 = (lambda(sigma[k - 2]) - lambda(sigma[k - 1])) / b.h;
        const double rho1 = (b1 - b2) / (1.0 - r1);
        const double rho2 = b1 - rho1;

        coef[1] = (float)(-step + step * (rho1 / r1 + rho2));
        coef[2] = (float)(-step * rho2);
        coef[3] = (float)(-step * rho1 / r1);
    }
    return op_linear_combine(s->dev, x, 4, coef, terms, err);
}

static int unipc_predict(struct sampler *s, const struct tensor *x, struct err *err)
{
    const double *sigma = s->schedule.sigma;
    const int k = s->step;
    const struct unipc_base b = unipc_base(sigma[k], sigma[k + 1]);
    const double step = b.alpha * b.phi1;
    const struct tensor *terms[3] = {x, &s->m[0], &s->m[1]};
    float coef[3] = {(float)b.ratio, (float)-step};

    if (s->order == 2) {
        const double r1 = (lambda(sigma[k - 1]) - lambda(sigma[k])) / b.h;

        coef[1] = (float)(-step + 0.5 * step / r1);
        coef[2] = (float)(-0.5 * step / r1);
    }
    return op_linear_combine(s->dev, x, s->order == 2 ? 3 : 2, coef, terms, err);
}

static int step_unipc(struct sampler *s, const struct tensor *x, const struct tensor *v,
                      struct err *err)
{
    const int k = s->step;
    const int left = s->schedule.steps - k;
    int rc;

    rotate_history(s, 3);
    rc = estimate(s, &s->m[0], x, v, s->schedule.sigma[k], err);
    if (rc == ERR_OK && k > 0) {
        rc = unipc_correct(s, x, err);
    }
    if (rc == ERR_OK) {
        rc = op_copy(s->dev, &s->last, x, err);
    }
    if (rc != ERR_OK) {
        return rc;
    }
    s->order = left < 2 || k == 0 ? 1 : 2;
    return left == 1 ? op_copy(s->dev, x, &s->m[0], err) : unipc_predict(s, x, err);
}

/* x0, then either the end or fresh noise at the next level (MODEL 5.6). */
static int step_longlive(struct sampler *s, const struct tensor *x, const struct tensor *v,
                         struct err *err)
{
    const int k = s->step;
    const struct tensor *terms[2] = {&s->m[0], &s->last};
    double next;
    float coef[2];
    int rc = estimate(s, &s->m[0], x, v, s->schedule.sigma[k], err);

    if (rc != ERR_OK || k == s->schedule.steps - 1) {
        return rc != ERR_OK ? rc : op_copy(s->dev, x, &s->m[0], err);
    }
    next = s->schedule.renoise_sigma[k + 1];
    coef[0] = (float)(1.0 - next);
    coef[1] = (float)next;
    rc = s->noise(s->noise_ctx, k, &s->last, err);
    return rc != ERR_OK ? rc : op_linear_combine(s->dev, x, 2, coef, terms, err);
}

int sampler_step(struct sampler *s, const struct tensor *x, const struct tensor *v, struct err *err)
{
    static int (*const step[])(struct sampler *, const struct tensor *, const struct tensor *,
                               struct err *) = {
        [SAMPLER_DPM] = step_dpm,
        [SAMPLER_EULER] = step_euler,
        [SAMPLER_UNIPC] = step_unipc,
        [SAMPLER_LONGLIVE] = step_longlive,
    };
    int rc;

    CHECK_BUG(!sampler_finished(s));
    rc = step[s->schedule.kind](s, x, v, err);
    s->step++;
    return rc;
}
