#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

enum {
    COUNT = 37, /* numbers in a sample; odd, so that vector loops have a rest */
    MAX_STEPS = 50
};

static const double published_list[] = {1000, 960, 889, 727};

static struct sampler_options options_of(enum sampler_kind kind, int steps)
{
    struct sampler_options o = {.kind = kind, .steps = steps, .flow_shift = 8};

    if (kind == SAMPLER_LONGLIVE) {
        memcpy(o.renoise, published_list, sizeof(published_list));
        o.n_renoise = ARRAY_LEN(published_list);
        o.steps = 0;
        o.flow_shift = 7;
        o.bf16_timesteps = true;
    }
    return o;
}

static struct sampler_schedule schedule_of(enum sampler_kind kind, int steps)
{
    const struct sampler_options o = options_of(kind, steps);
    struct sampler_schedule s;
    struct err err;

    EXPECT_OK(sampler_schedule_init(&s, &o, &err));
    EXPECT(s.kind == kind);
    return s;
}

/* ---- schedules ---- */

/* MODEL 5.7: whole numbers for the solvers that truncate, two decimals for Euler. */
static void check_timesteps(enum sampler_kind kind, int n, const double *want, double tolerance)
{
    const struct sampler_schedule s = schedule_of(kind, n);

    EXPECT_INT(s.steps, n);
    for (int i = 0; i < n; i++) {
        if (!(fabs((double)s.timestep[i] - want[i]) <= tolerance)) {
            test_fail(__FILE__, __LINE__, "timestep %d of %d is %g, expected %g", i, n,
                      (double)s.timestep[i], want[i]);
        }
        EXPECT(s.sigma[i + 1] < s.sigma[i]);
        EXPECT(s.sigma[i] == (double)(float)s.sigma[i]);
    }
    EXPECT(s.sigma[n] == 0.0);
}

TEST(sampler_dpm_timesteps_are_the_published_ones)
{
    static const double n8[] = {999, 982, 959, 930, 888, 827, 727, 533};
    static const double n20[] = {999, 993, 986, 978, 969, 959, 948, 936, 922, 907,
                                 888, 867, 841, 811, 773, 727, 666, 585, 470, 296};
    static const double n50[] = {999, 997, 994, 991, 989, 986, 983, 979, 976, 973, 969, 965, 961,
                                 957, 953, 948, 944, 939, 934, 928, 922, 916, 910, 903, 896, 888,
                                 880, 871, 862, 852, 841, 830, 817, 804, 789, 773, 756, 737, 716,
                                 692, 666, 636, 603, 565, 521, 470, 409, 337, 249, 140};

    check_timesteps(SAMPLER_DPM, 8, n8, 0);
    check_timesteps(SAMPLER_DPM, 20, n20, 0);
    check_timesteps(SAMPLER_DPM, 50, n50, 0);
}

TEST(sampler_unipc_timesteps_are_the_published_ones)
{
    static const double n8[] = {999, 982, 960, 930, 889, 827, 728, 535};
    static const double n20[] = {999, 993, 986, 978, 969, 960, 949, 937, 923, 907,
                                 889, 867, 842, 812, 774, 728, 667, 586, 473, 300};
    static const double n50[] = {999, 997, 994, 992, 989, 986, 983, 980, 976, 973, 969, 965, 962,
                                 957, 953, 949, 944, 939, 934, 928, 923, 917, 910, 903, 896, 889,
                                 880, 872, 863, 853, 842, 830, 818, 805, 790, 774, 757, 738, 717,
                                 693, 667, 638, 605, 567, 523, 473, 413, 341, 254, 146};

    check_timesteps(SAMPLER_UNIPC, 8, n8, 0);
    check_timesteps(SAMPLER_UNIPC, 20, n20, 0);
    check_timesteps(SAMPLER_UNIPC, 50, n50, 0);
}

TEST(sampler_euler_timesteps_are_the_published_ones)
{
    static const double n8[] = {1000.00, 979.78, 952.88, 915.37, 859.39, 766.88, 584.73, 60.21};
    static const double n20[] = {1000.00, 993.16, 985.63, 977.31, 968.06, 957.70, 946.05,
                                 932.83,  917.71, 900.24, 879.83, 855.68, 826.63, 791.05,
                                 746.46,  688.91, 611.81, 503.17, 338.65, 60.21};
    static const double n50[] = {
        1000.00, 997.42, 994.75, 991.98, 989.10, 986.12, 983.01, 979.78, 976.41, 972.90,
        969.24,  965.42, 961.43, 957.26, 952.88, 948.30, 943.49, 938.44, 933.12, 927.52,
        921.61,  915.37, 908.77, 901.77, 894.34, 886.44, 878.01, 869.02, 859.39, 849.07,
        837.96,  825.98, 813.02, 798.95, 783.63, 766.88, 748.50, 728.22, 705.74, 680.69,
        652.59,  620.86, 584.73, 543.23, 495.06, 438.48, 371.06, 289.38, 188.35, 60.21};

    check_timesteps(SAMPLER_EULER, 8, n8, 0.0051);
    check_timesteps(SAMPLER_EULER, 20, n20, 0.0051);
    check_timesteps(SAMPLER_EULER, 50, n50, 0.0051);
}

TEST(sampler_dpm_sigmas_are_the_published_ones)
{
    static const double want[] = {
        .999875, .997328, .994690, .991953, .989114, .986166, .983103, .979917, .976602, .973149,
        .969550, .965795, .961873, .957774, .953484, .948992, .944280, .939334, .934136, .928665,
        .922899, .916815, .910384, .903576, .896358, .888691, .880532, .871831, .862534, .852575,
        .841883, .830374, .817949, .804495, .789879, .773944, .756501, .737327, .716150, .692640,
        .666389, .636886, .603489, .565371, .521455, .470311, .409993, .337790, .249805, .140228};
    const struct sampler_schedule s = schedule_of(SAMPLER_DPM, 50);

    for (int i = 0; i < 50; i++) {
        EXPECT(fabs(s.sigma[i] - want[i]) <= 1.01e-6);
    }
}

TEST(sampler_schedules_of_one_step_are_sound)
{
    struct sampler_schedule s = schedule_of(SAMPLER_DPM, 1);

    EXPECT(s.timestep[0] == 999.0F && fabs(s.sigma[0] - 0.999875) < 1e-6 && s.sigma[1] == 0);
    s = schedule_of(SAMPLER_UNIPC, 1);
    EXPECT(s.timestep[0] == 999.0F && s.sigma[0] < 1 && s.sigma[0] > 0.99999 && s.sigma[1] == 0);
    s = schedule_of(SAMPLER_EULER, 1);
    EXPECT(s.timestep[0] == 1000.0F && s.sigma[0] == 1 && s.sigma[1] == 0);
}

/* ---- LongLive's constants (MODEL 5.6) ---- */

TEST(sampler_longlive_table_has_the_published_sigmas)
{
    static const double timestep[] = {1000, 960, 889, 727};
    static const struct {
        double shift;
        double sigma[4];
    } want[] = {{7, {1.0, 0.959957, 0.889153, 0.727410}}, {8, {1.0, 0.960000, 0.888889, 0.727273}}};

    for (size_t w = 0; w < ARRAY_LEN(want); w++) {
        float table[LONGLIVE_TABLE];

        sampler_longlive_table(table, want[w].shift);
        for (int i = 0; i < 4; i++) {
            const int at = sampler_longlive_index(table, timestep[i]);

            EXPECT(fabs((double)table[at] - want[w].sigma[i]) < 6e-7);
        }
        for (int j = 1; j < LONGLIVE_TABLE; j++) {
            EXPECT(table[j] < table[j - 1]);
            EXPECT_INT(sampler_longlive_index(table, (double)(table[j] * 1000.0F)), j);
        }
    }
}

/* x0 is taken at the sigma of what the model is told, the noise level from the list itself. */
TEST(sampler_longlive_rounds_timesteps_as_released)
{
    static const float told[] = {1000, 960, 888, 728};
    static const double sigma[] = {1.0, 0.959957, 0.887960, 0.728400};
    static const double level[] = {1.0, 0.959957, 0.889153, 0.727410};
    const struct sampler_schedule s = schedule_of(SAMPLER_LONGLIVE, 0);

    EXPECT_INT(s.steps, 4);
    for (int i = 0; i < 4; i++) {
        EXPECT(s.timestep[i] == told[i]);
        EXPECT(fabs(s.sigma[i] - sigma[i]) < 6e-7);
        EXPECT(fabs(s.renoise_sigma[i] - level[i]) < 6e-7);
    }
}

TEST(sampler_longlive_keeps_exact_timesteps_when_asked)
{
    struct sampler_options o = options_of(SAMPLER_LONGLIVE, 0);
    struct sampler_schedule s;
    struct err err;

    o.bf16_timesteps = false;
    EXPECT_OK(sampler_schedule_init(&s, &o, &err));
    for (int i = 0; i < 4; i++) {
        EXPECT(s.timestep[i] == (float)published_list[i]);
        EXPECT(s.sigma[i] == s.renoise_sigma[i]);
    }
}

/* ---- options ---- */

static void expect_refused(const struct sampler_options *o, const char *part)
{
    struct sampler_schedule s;
    struct err err = {0};

    EXPECT_INT(sampler_schedule_init(&s, o, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, part);
}

TEST(sampler_refuses_steps_out_of_range)
{
    static const int steps[] = {0, -1, SAMPLER_MAX_STEPS + 1};

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        for (int kind = SAMPLER_DPM; kind <= SAMPLER_UNIPC; kind++) {
            const struct sampler_options o = options_of((enum sampler_kind)kind, steps[i]);

            expect_refused(&o, "steps: ");
        }
    }
    EXPECT_INT(schedule_of(SAMPLER_DPM, SAMPLER_MAX_STEPS).steps, SAMPLER_MAX_STEPS);
}

TEST(sampler_refuses_flow_shift_out_of_range)
{
    static const double shift[] = {0, -1, 1001, INFINITY, NAN};

    for (size_t i = 0; i < ARRAY_LEN(shift); i++) {
        struct sampler_options o = options_of(SAMPLER_EULER, 4);

        o.flow_shift = shift[i];
        expect_refused(&o, "flow_shift: ");
        o = options_of(SAMPLER_LONGLIVE, 0);
        o.flow_shift = shift[i];
        expect_refused(&o, "flow_shift: ");
    }
}

TEST(sampler_refuses_a_list_that_does_not_fall)
{
    static const double bad[] = {0, -5, 1000.5, 960, 970, INFINITY, NAN};
    struct sampler_options o = options_of(SAMPLER_LONGLIVE, 0);

    o.n_renoise = 0;
    expect_refused(&o, "renoise_timesteps: 0 entries");
    o.n_renoise = RENOISE_MAX_STEPS + 1;
    expect_refused(&o, "renoise_timesteps: 17 entries");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        o = options_of(SAMPLER_LONGLIVE, 0);
        o.renoise[2] = bad[i]; /* behind 1000 and 960 */
        expect_refused(&o, "renoise_timesteps: entry 2");
    }
}

/* ---- steps ---- */

/* A sampler on a device; noise for LongLive is a function of the step. */
struct bed {
    struct device dev;
    struct workspace ws;
    struct sampler sampler;
    struct tensor x, v;
    int noise_calls;
    bool noise_fails;
};

static void fill_noise(float *out, int step)
{
    test_fill(out, COUNT, 100 + (uint64_t)step);
}

static int give_noise(void *ctx, int step, const struct tensor *y, struct err *err)
{
    struct bed *b = ctx;

    if (b->noise_fails) {
        return err_set(err, ERR_DEVICE, "no noise");
    }
    EXPECT_INT(step, b->sampler.step);
    b->noise_calls++;
    fill_noise(y->data, step);
    return ERR_OK;
}

static void set_up(struct bed *b, const struct sampler_schedule *schedule)
{
    struct err err;

    EXPECT_OK(WORKSPACE_F32(&b->ws, &b->x, &err, COUNT));
    EXPECT_OK(WORKSPACE_F32(&b->ws, &b->v, &err, COUNT));
    EXPECT_OK(sampler_init(&b->sampler, schedule, &b->ws, &b->x, &err));
    b->sampler.noise = give_noise;
    b->sampler.noise_ctx = b;
}

static void bed_open(struct bed *b, const struct sampler_schedule *schedule)
{
    struct err err;

    *b = (struct bed){0};
    EXPECT_OK(device_open_cpu(&b->dev, 1, &err));
    workspace_init(&b->ws, &b->dev);
    b->dev.dry_run = true;
    set_up(b, schedule);
    b->dev.dry_run = false;
    EXPECT_OK(workspace_commit(&b->ws, 0, &err));
    set_up(b, schedule);
}

static void bed_close(struct bed *b)
{
    workspace_done(&b->ws);
    device_close(&b->dev);
}

static void step(struct bed *b)
{
    struct err err;

    EXPECT_OK(sampler_step(&b->sampler, &b->x, &b->v, &err));
}

/* x = (1 - sigma) x0 + sigma noise, and v = noise - x0 all the way. */
static void check_constant_velocity(const struct sampler_schedule *s)
{
    float x0[COUNT];
    float noise[COUNT];
    struct bed b;

    bed_open(&b, s);
    test_fill(x0, COUNT, 1);
    test_fill(noise, COUNT, 2);
    for (int i = 0; i < COUNT; i++) {
        ((float *)b.x.data)[i] =
            (float)((1 - s->sigma[0]) * (double)x0[i] + s->sigma[0] * (double)noise[i]);
    }
    while (!sampler_finished(&b.sampler)) {
        for (int i = 0; i < COUNT; i++) {
            ((float *)b.v.data)[i] = noise[i] - x0[i];
        }
        if (s->kind == SAMPLER_LONGLIVE) { /* the next step's noise */
            fill_noise(noise, b.sampler.step);
        }
        step(&b);
    }
    EXPECT_CLOSE((const float *)b.x.data, x0, COUNT, 0, 3e-6);
    EXPECT_INT(b.noise_calls, s->kind == SAMPLER_LONGLIVE ? s->steps - 1 : 0);
    bed_close(&b);
}

TEST(sampler_constant_velocity_gives_x0_back)
{
    static const int steps[] = {1, 2, 3, 8, 50};

    for (int kind = SAMPLER_DPM; kind <= SAMPLER_UNIPC; kind++) {
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            const struct sampler_schedule s = schedule_of((enum sampler_kind)kind, steps[i]);

            check_constant_velocity(&s);
        }
    }
}

TEST(sampler_longlive_constant_velocity_gives_x0_back)
{
    for (int n = 1; n <= RENOISE_MAX_STEPS; n++) {
        struct sampler_options o = options_of(SAMPLER_LONGLIVE, 0);
        struct sampler_schedule s;
        struct err err;

        o.bf16_timesteps = false;
        o.n_renoise = n;
        for (int i = 0; i < n; i++) {
            o.renoise[i] = 1000.0 * (n - i) / n;
        }
        EXPECT_OK(sampler_schedule_init(&s, &o, &err));
        check_constant_velocity(&s);
    }
}

/* ---- against the formulas of MODEL 5, in double, for one number ---- */

/* A field that bends: solvers of second order need all their terms. */
static double field(double x, double sigma)
{
    return sin(2 * x) + 0.7 * x - sigma * sigma;
}

static double lambda(double sigma)
{
    return log((1 - sigma) / sigma);
}

static double reference_euler(const double *sigma, int n, double x)
{
    for (int k = 0; k < n; k++) {
        x += (sigma[k + 1] - sigma[k]) * field(x, sigma[k]);
    }
    return x;
}

static double reference_dpm(const double *sigma, int n, double x)
{
    double before = 0;

    for (int k = 0; k < n; k++) {
        const double m = x - sigma[k] * field(x, sigma[k]);
        const double alpha = 1 - sigma[k + 1];
        double e; /* e^-h - 1 */

        if (k == n - 1) {
            return m;
        }
        e = exp(-(lambda(sigma[k + 1]) - lambda(sigma[k]))) - 1;
        x = sigma[k + 1] / sigma[k] * x - alpha * e * m;
        if (k > 0) {
            const double h = lambda(sigma[k + 1]) - lambda(sigma[k]);
            const double r = (lambda(sigma[k]) - lambda(sigma[k - 1])) / h;

            x -= 0.5 * alpha * e * (m - before) / r;
        }
        before = m;
    }
    return x;
}

/* One half of UniPC: from x at sigma[s] to sigma[t] with the estimate m[s]. */
static double unipc_half(const double *sigma, int s, double x, const double *m, int order,
                         bool correct)
{
    const double alpha = 1 - sigma[s + 1];
    const double h = lambda(sigma[s + 1]) - lambda(sigma[s]);
    const double phi1 = expm1(-h);
    const double psi1 = phi1 / -h - 1;
    const double b1 = psi1 / phi1;
    const double b2 = 2 * (psi1 / -h - 0.5) / phi1;
    double base = sigma[s + 1] / sigma[s] * x - alpha * phi1 * m[s];
    double r1;
    double d1;

    if (order == 1) {
        return correct ? base - alpha * phi1 * 0.5 * (m[s + 1] - m[s]) : base;
    }
    r1 = (lambda(sigma[s - 1]) - lambda(sigma[s])) / h;
    d1 = (m[s - 1] - m[s]) / r1;
    if (correct) { /* rho of [[1, 1], [r1, 1]] rho = b, by Cramer's rule */
        const double det = 1 - r1;
        const double rho1 = (b1 - b2) / det;
        const double rho2 = (b2 - r1 * b1) / det;

        return base - alpha * phi1 * (rho1 * d1 + rho2 * (m[s + 1] - m[s]));
    }
    return base - alpha * phi1 * 0.5 * d1;
}

static double reference_unipc(const double *sigma, int n, double x)
{
    double m[MAX_STEPS];
    double before = 0; /* sample before the last predictor */
    int order = 0;

    for (int k = 0; k < n; k++) {
        m[k] = x - sigma[k] * field(x, sigma[k]);
        if (k > 0) {
            x = unipc_half(sigma, k - 1, before, m, order, true);
        }
        if (k == n - 1) {
            return m[k];
        }
        before = x;
        order = k + 1 < 2 ? k + 1 : 2;
        order = n - k < order ? n - k : order;
        x = unipc_half(sigma, k, x, m, order, false);
    }
    return x;
}

static void check_bent_field(enum sampler_kind kind, int steps)
{
    static double (*const reference[])(const double *, int, double) = {
        [SAMPLER_DPM] = reference_dpm,
        [SAMPLER_EULER] = reference_euler,
        [SAMPLER_UNIPC] = reference_unipc,
    };
    const struct sampler_schedule s = schedule_of(kind, steps);
    float want[COUNT];
    struct bed b;
    float *x;

    bed_open(&b, &s);
    x = b.x.data;
    test_fill(x, COUNT, 5);
    for (int i = 0; i < COUNT; i++) {
        want[i] = (float)reference[kind](s.sigma, s.steps, (double)x[i]);
    }
    while (!sampler_finished(&b.sampler)) {
        for (int i = 0; i < COUNT; i++) {
            ((float *)b.v.data)[i] = (float)field((double)x[i], s.sigma[b.sampler.step]);
        }
        step(&b);
    }
    EXPECT_CLOSE(x, want, COUNT, 0, 2e-5);
    bed_close(&b);
}

TEST(sampler_follows_the_formulas_in_a_bent_field)
{
    static const int steps[] = {1, 2, 3, 4, 8, 20, 50};

    for (int kind = SAMPLER_DPM; kind <= SAMPLER_UNIPC; kind++) {
        for (size_t n = 0; n < ARRAY_LEN(steps); n++) {
            check_bent_field((enum sampler_kind)kind, steps[n]);
        }
    }
}

/* Each step written out: x0 at the told timestep's sigma, fresh noise at the listed level. */
TEST(sampler_longlive_follows_its_formula)
{
    const struct sampler_schedule s = schedule_of(SAMPLER_LONGLIVE, 0);
    double want[COUNT];
    float result[COUNT];
    struct bed b;
    float *x;

    bed_open(&b, &s);
    x = b.x.data;
    test_fill(x, COUNT, 6);
    for (int i = 0; i < COUNT; i++) {
        want[i] = (double)x[i];
    }
    for (int k = 0; k < s.steps; k++) {
        float noise[COUNT];

        fill_noise(noise, k);
        for (int i = 0; i < COUNT; i++) {
            ((float *)b.v.data)[i] = (float)field((double)x[i], s.sigma[k]);
            want[i] -= s.sigma[k] * field(want[i], s.sigma[k]);
            if (k + 1 < s.steps) {
                want[i] = (1 - s.renoise_sigma[k + 1]) * want[i] +
                          s.renoise_sigma[k + 1] * (double)noise[i];
            }
            result[i] = (float)want[i];
        }
        step(&b);
    }
    EXPECT(sampler_finished(&b.sampler));
    EXPECT_CLOSE(x, result, COUNT, 0, 2e-5);
    bed_close(&b);
}

TEST(sampler_passes_on_what_the_noise_source_says)
{
    const struct sampler_schedule s = schedule_of(SAMPLER_LONGLIVE, 0);
    struct err err = {0};
    struct bed b;

    bed_open(&b, &s);
    test_fill(b.x.data, COUNT, 1);
    test_fill(b.v.data, COUNT, 2);
    b.noise_fails = true;
    EXPECT_INT(sampler_step(&b.sampler, &b.x, &b.v, &err), ERR_DEVICE);
    EXPECT_STR(err.msg, "no noise");
    bed_close(&b);
}

/* ---- saving and restoring between steps ---- */

static void run_to(struct bed *b, int end)
{
    while (b->sampler.step < end) {
        for (int i = 0; i < COUNT; i++) {
            ((float *)b->v.data)[i] = (float)field((double)((float *)b->x.data)[i], 0.5);
        }
        step(b);
    }
}

static void carry_over(const struct bed *from, struct bed *to)
{
    const struct tensor *a[SAMPLER_MAX_HISTORY];
    const struct tensor *b[SAMPLER_MAX_HISTORY];
    const int n = sampler_history(&from->sampler, a);

    sampler_resume(&to->sampler, from->sampler.step, from->sampler.order);
    EXPECT_INT(sampler_history(&to->sampler, b), n);
    for (int i = 0; i < n; i++) {
        memcpy(b[i]->data, a[i]->data, tensor_bytes(a[i]));
    }
    memcpy(to->x.data, from->x.data, tensor_bytes(&from->x));
}

TEST(sampler_continues_bit_for_bit_from_its_history)
{
    for (int kind = SAMPLER_DPM; kind <= SAMPLER_LONGLIVE; kind++) {
        const struct sampler_schedule s = schedule_of((enum sampler_kind)kind, 6);

        for (int stop = 0; stop <= s.steps; stop++) {
            struct bed whole;
            struct bed first;
            struct bed second;

            bed_open(&whole, &s);
            bed_open(&first, &s);
            bed_open(&second, &s);
            test_fill(whole.x.data, COUNT, 9);
            test_fill(first.x.data, COUNT, 9);
            test_fill(second.v.data, COUNT, 10); /* nothing of it may matter */
            run_to(&whole, s.steps);
            run_to(&first, stop);
            carry_over(&first, &second);
            run_to(&second, s.steps);
            EXPECT(memcmp(whole.x.data, second.x.data, tensor_bytes(&whole.x)) == 0);
            bed_close(&whole);
            bed_close(&first);
            bed_close(&second);
        }
    }
}
