/*
 * bench-engine [--json FILE] [--sanad BINARY] [--model DIR]
 *
 * Measures, compares with what the figures should reach, prints a table and writes JSON. The exit
 * status says whether everything could be measured, not whether a figure was reached: that depends
 * on what else the machine does.
 */
#include <cblas.h>
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "engine/model.h"

enum {
    SGEMM_SIDE = 1024,
    SGEMM_REPEATS = 4,
    SGEMM_CALLS = 4,
    SHORT_VIDEO = 81,
    LONG_VIDEO = 961
};

/* ---- measurements that need no file of their own ---- */

struct sgemm_job {
    float *a, *b, *c; /* one c for each task */
};

static void sgemm_task(void *ctx, int64_t task, int thread)
{
    const struct sgemm_job *job = ctx;
    const int n = SGEMM_SIDE;

    (void)thread;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, n, 1.0F, job->a, n, job->b, n, 0.0F,
                job->c + task * n * n, n);
}

int bench_sgemm(struct device *dev, double *ret_gflops, struct err *err)
{
    const int64_t tasks = (int64_t)thread_pool_size(dev->pool) * SGEMM_CALLS;
    const int64_t n = (int64_t)SGEMM_SIDE * SGEMM_SIDE;
    float *data = malloc((size_t)((2 + tasks) * n) * sizeof(float));
    struct sgemm_job job;
    double best = 0;

    if (!data) {
        return err_set(err, ERR_NO_MEMORY, "matrices");
    }
    job = (struct sgemm_job){.a = data, .b = data + n, .c = data + 2 * n};
    for (int64_t i = 0; i < 2 * n; i++) {
        data[i] = (float)(i % 7) - 3.0F;
    }
    for (int i = 0; i < SGEMM_REPEATS; i++) {
        const int64_t start = clock_now_ns();
        double rate;

        device_parallel(dev, tasks, sgemm_task, &job);
        rate = 2.0 * (double)n * SGEMM_SIDE * (double)tasks / (double)(clock_now_ns() - start);
        best = rate > best ? rate : best;
    }
    free(data);
    *ret_gflops = best;
    return ERR_OK;
}

int bench_model_open(struct device *dev, const char *dir, double *ret_ms, struct err *err)
{
    double best = 1e9;

    for (int i = 0; i < 3; i++) { /* the first reads the files into the page cache */
        const int64_t start = clock_now_ns();
        struct model *model;
        const int rc = model_open(&model, dir, dev, err);
        const double ms = 1e3 * clock_seconds(clock_now_ns() - start);

        if (rc != ERR_OK) {
            return rc;
        }
        model_close(model);
        best = ms < best ? ms : best;
    }
    *ret_ms = best;
    return ERR_OK;
}

/* In the child: sanad generate, silent. */
static void exec_sanad(const char *sanad, const char *model, int frames)
{
    char count[16];
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    snprintf(count, sizeof(count), "%d", frames);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execl(sanad, sanad, "generate", "a ship at sea", "--model", model, "--exact-size", "--size",
          "160x96", "--seed", "1", "--frames", count, "-o", "-", (char *)NULL);
    _exit(127);
}

int bench_peak_memory(const char *sanad, const char *model, int frames, double *ret_bytes,
                      struct err *err)
{
    struct rusage usage;
    int status;
    const pid_t pid = fork();

    if (pid < 0) {
        return err_set(err, ERR_IO, "fork: %m");
    }
    if (pid == 0) {
        exec_sanad(sanad, model, frames);
    }
    if (wait4(pid, &status, 0, &usage) != pid || status != 0) {
        return err_set(err, ERR_IO, "%s generate: wait status %d", sanad, status);
    }
    *ret_bytes = (double)usage.ru_maxrss * 1024.0;
    return ERR_OK;
}

/* ---- report ---- */

struct figure {
    const char *name, *unit;
    double value;
    double ratio;   /* 0: none */
    const char *to; /* what the ratio is to */
    double target;  /* of the ratio if there is one, else of the value */
    bool at_most;
};

static void print_figure(const struct figure *f)
{
    const double judged = f->ratio > 0 ? f->ratio : f->value;
    const bool reached = f->at_most ? judged <= f->target : judged >= f->target;
    char ratio[64] = "";

    if (f->ratio > 0) {
        snprintf(ratio, sizeof(ratio), "%.3f of %s", f->ratio, f->to);
    }
    printf("%-44s %10.1f %-9s %-26s", f->name, f->value, f->unit, ratio);
    if (f->target > 0) {
        printf(" %s %g: %s", f->at_most ? "at most" : "at least", f->target,
               reached ? "reached" : "NOT reached");
    }
    printf("\n");
}

static void add_json(cJSON *array, const struct figure *f)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "name", f->name);
    cJSON_AddStringToObject(o, "unit", f->unit);
    cJSON_AddNumberToObject(o, "value", f->value);
    if (f->ratio > 0) {
        cJSON_AddNumberToObject(o, "ratio", f->ratio);
        cJSON_AddStringToObject(o, "ratio_to", f->to);
    }
    if (f->target > 0) {
        cJSON_AddNumberToObject(o, "target", f->target);
    }
    cJSON_AddItemToArray(array, o);
}

struct bench {
    struct device dev;
    const char *sanad, *model, *json;
    struct figure figures[24];
    int n;
};

static void add(struct bench *b, const struct figure *f)
{
    b->figures[b->n++] = *f;
    print_figure(f);
    fflush(stdout);
}

static int measure(struct bench *b, struct err *err)
{
    double sgemm = 0;
    double v = 0;
    double short_video = 0;
    int rc = bench_sgemm(&b->dev, &sgemm, err);

    if (rc == ERR_OK) {
        add(b, &(struct figure){"sgemm 1024^3, all threads", "GFLOP/s", sgemm, 0, NULL, 0, false});
        rc = bench_transformer(&b->dev, &v, err);
    }
    if (rc == ERR_OK) {
        add(b, &(struct figure){"transformer forward, width 2240", "GFLOP/s", v, v / sgemm, "sgemm",
                                0.6, false});
        rc = bench_wan_decode(&b->dev, &v, err);
    }
    if (rc == ERR_OK) {
        add(b,
            &(struct figure){"Wan decode, base 32", "GFLOP/s", v, v / sgemm, "sgemm", 0.45, false});
        rc = bench_encoder(&v, err);
    }
    if (rc == ERR_OK) {
        add(b,
            &(struct figure){"H.264 encoder, 832x480 veryfast", "frames/s", v, 0, NULL, 45, false});
        rc = bench_model_open(&b->dev, b->model, &v, err);
    }
    if (rc == ERR_OK) {
        add(b,
            &(struct figure){"model open (tiny-long, files cached)", "ms", v, 0, NULL, 50, true});
        rc = bench_peak_memory(b->sanad, b->model, SHORT_VIDEO, &short_video, err);
    }
    if (rc == ERR_OK) {
        add(b, &(struct figure){"peak memory, 81 frames of tiny-long", "MiB",
                                short_video / 1048576.0, 0, NULL, 0, false});
        rc = bench_peak_memory(b->sanad, b->model, LONG_VIDEO, &v, err);
    }
    if (rc == ERR_OK) {
        add(b, &(struct figure){"peak memory, 961 frames of tiny-long", "MiB", v / 1048576.0,
                                v / short_video, "81 frames'", 1.05, true});
    }
    return rc;
}

static int measure_demo(struct bench *b, struct err *err)
{
    double fps = 0;
    double first_block_s = 0;
    const int rc = bench_demo(b->sanad, &fps, &first_block_s, err);

    if (rc == ERR_OK) {
        add(b, &(struct figure){"bundled model: 10 s, start to finished file", "frames/s", fps, 0,
                                NULL, 8, false});
        add(b, &(struct figure){"bundled model: start to the first block", "s", first_block_s, 0,
                                NULL, 2, true});
    }
    return rc;
}

static int measure_daemon(struct bench *b, struct err *err)
{
    const struct bench_paths paths = {.sanad = b->sanad, .model = b->model};
    double v = 0;
    double w = 0;
    int rc = bench_daemon_start(&paths, &v, &w, err);

    if (rc == ERR_OK) {
        add(b,
            &(struct figure){"daemon: start to /readyz, median of 5", "ms", v, 0, NULL, 300, true});
        add(b, &(struct figure){"daemon: resident memory, idle", "MiB", w / 1048576.0, 0, NULL, 30,
                                true});
        rc = bench_daemon_requests(&paths, &v, &w, err);
    }
    if (rc == ERR_OK) {
        add(b, &(struct figure){"GET /v1/videos/{id} while it is made", "req/s", v, 0, NULL, 30000,
                                false});
        add(b, &(struct figure){"... p99", "ms", w, 0, NULL, 5, true});
        rc = bench_daemon_fanout(&paths, &v, err);
    }
    if (rc == ERR_OK) {
        add(b, &(struct figure){"an event to 1000 readers, p99 of the last", "ms", v, 0, NULL, 50,
                                true});
        rc = bench_daemon_block(&paths, &v, err);
    }
    if (rc == ERR_OK) {
        add(b,
            &(struct figure){"a block from worker to viewer, median", "ms", v, 0, NULL, 20, true});
    }
    return rc;
}

static int write_json(const struct bench *b)
{
    cJSON *o = cJSON_CreateObject();
    cJSON *array = cJSON_AddArrayToObject(o, "figures");
    char date[32];
    const time_t now = time(NULL);
    struct tm utc;
    FILE *f = fopen(b->json, "we");
    char *text;

    gmtime_r(&now, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
    cJSON_AddStringToObject(o, "version", SANAD_VERSION);
    cJSON_AddStringToObject(o, "date", date);
    cJSON_AddStringToObject(o, "device", b->dev.name);
    cJSON_AddStringToObject(o, "blas", openblas_get_config());
    for (int i = 0; i < b->n; i++) {
        add_json(array, &b->figures[i]);
    }
    text = cJSON_Print(o);
    cJSON_Delete(o);
    if (!f || !text || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0) {
        fprintf(stderr, "bench-engine: cannot write %s: %m\n", b->json);
        return 1;
    }
    cJSON_free(text);
    printf("%s\n", b->json);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.sanad = "build/release/sanad",
                      .model = "tests/golden/tiny-long",
                      .json = "build/release/bench.json"};
    struct err err = {0};
    int status = 1;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--json") == 0) {
            b.json = argv[i + 1];
        } else if (strcmp(argv[i], "--sanad") == 0) {
            b.sanad = argv[i + 1];
        } else if (strcmp(argv[i], "--model") == 0) {
            b.model = argv[i + 1];
        }
    }
    if (device_open_cpu(&b.dev, 0, &err) != ERR_OK || measure(&b, &err) != ERR_OK ||
        measure_demo(&b, &err) != ERR_OK || measure_daemon(&b, &err) != ERR_OK) {
        fprintf(stderr, "bench-engine: %s\n", err.msg);
    } else {
        status = write_json(&b);
    }
    device_close(&b.dev);
    return status;
}
