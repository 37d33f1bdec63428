/*
 * sanad bench: what a GPU makes of the published models, without their files.
 */
#include "daemon/commands.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "daemon/cache_path.h"
#include "daemon/cli_options.h"
#include "engine/figures.h"
#include "kernels/cuda_api.h"
#include "worker/device_choice.h"

enum {
    JSON_MAX = 1 << 20,
    PATH_LEN = 4096
};

struct bench {
    /* As given. */
    struct device_choice device;
    const char *json;
    bool quick, tiny, help;
    /* While it runs. */
    char algos[PATH_LEN];
    struct device dev;
    struct str rows; /* JSON objects, each behind a comma */
};

/* ---- output ---- */

static void add_figure(void *ctx, const struct figure *figure)
{
    struct bench *b = ctx;

    figure_print(figure, stdout);
    str_add(&b->rows, b->rows.len > 0 ? ",\n" : "\n"); /* a failure is seen at the end */
    figure_json(&b->rows, figure);
}

static bool add_head(struct bench *b, struct str *out)
{
    struct device_memory memory;
    char date[32];
    const time_t now = time(NULL);
    struct tm utc;

    device_memory(&b->dev, &memory);
    gmtime_r(&now, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
    return str_addf(out, "{\"version\":\"%s\",\"date\":\"%s\",\"device\":", SANAD_VERSION, date) &&
           figures_json_text(out, b->dev.name) && str_add(out, ",\"plugin\":") &&
           figures_json_text(out, b->dev.cuda->build) &&
           str_addf(out, ",\"device_bytes\":%zu,\"quick\":%s,\"tiny\":%s,\"figures\":[",
                    memory.total, b->quick ? "true" : "false", b->tiny ? "true" : "false");
}

static int write_json(struct bench *b, FILE *f, struct err *err)
{
    struct str text;
    int rc = ERR_OK;

    str_init(&text, JSON_MAX);
    if (b->rows.failed || !add_head(b, &text) || !str_append(&text, b->rows.data, b->rows.len) ||
        !str_add(&text, "\n]}\n")) {
        rc = err_set(err, ERR_NO_MEMORY, "the figures as JSON");
    } else if (fwrite(text.data, 1, text.len, f) != text.len || fflush(f) != 0) {
        rc = err_set(err, ERR_IO, "'%s' could not be written: %m", b->json);
    }
    str_done(&text);
    return rc;
}

/* ---- work ---- */

static int open_device(struct bench *b, struct err *err)
{
    int rc;

    if (cache_path(b->algos, sizeof(b->algos), "gpu-algorithms")) {
        b->device.algos = b->algos;
    }
    rc = device_choice_open(&b->dev, &b->device, err);
    if (rc == ERR_OK && b->dev.kind == DEVICE_CPU) {
        rc = err_set(err, ERR_NOT_FOUND, "a GPU is needed, and this is the CPU");
    }
    return rc;
}

/* What does not fit this GPU does not keep the rest from being measured. */
static bool goes_on(struct err *first, int rc, const struct err *err)
{
    if (rc != ERR_OK && first->code == ERR_OK) {
        *first = *err;
    }
    if (rc == ERR_NO_VRAM) {
        printf("%s\n", err->msg);
    }
    return rc == ERR_OK || rc == ERR_NO_VRAM;
}

static int measure(struct bench *b, struct err *err)
{
    const struct figures_options options = {
        .quick = b->quick, .tiny = b->tiny, .ctx = b, .on_figure = add_figure};
    int (*const parts[])(struct figures *, struct err *) = {figures_ceilings, figures_longsana,
                                                            figures_clip};
    struct device_memory memory;
    struct err first = {0};
    struct figures f;
    bool on = true;

    figures_init(&f, &b->dev, &options);
    device_memory(&b->dev, &memory);
    printf("%s, %.1f GB\n", b->dev.name, (double)memory.total / 1e9);
    figures_print_head(stdout);
    for (size_t i = 0; i < ARRAY_LEN(parts) && on; i++) {
        struct err why = {0};

        on = goes_on(&first, parts[i](&f, &why), &why);
    }
    if (on) {
        figures_memory(&f);
    }
    *err = first;
    return first.code;
}

static int bench(struct bench *b, struct err *err)
{
    FILE *f = b->json ? fopen(b->json, "we") : NULL;
    struct err late = {0};
    int rc;

    if (b->json && !f) {
        return err_set(err, ERR_IO, "cannot write '%s': %m", b->json);
    }
    rc = open_device(b, err);
    if (rc == ERR_OK) {
        str_init(&b->rows, JSON_MAX);
        rc = measure(b, err);
        if (f && write_json(b, f, &late) != ERR_OK && rc == ERR_OK) {
            *err = late;
            rc = late.code;
        }
        str_done(&b->rows);
    }
    if (f && fclose(f) != 0 && rc == ERR_OK) {
        rc = err_set(err, ERR_IO, "'%s' could not be written: %m", b->json);
    }
    device_close(&b->dev);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    struct bench b = {0};
    struct cli_option options[] = {
        {"device", 0, CLI_TEXT, &b.device.device, 0, 0, "NAME",
         "auto, cuda or cuda:N: which GPU [auto]", 0},
        {"precision", 0, CLI_TEXT, &b.device.precision, 0, 0, "bf16|f32",
         "of weights and activations [bf16]", 0},
        {"quick", 0, CLI_FLAG, &b.quick, 0, 0, NULL, "fewer repetitions", 0},
        {"json", 0, CLI_TEXT, &b.json, 0, 0, "FILE", "write the figures there too", 0},
        {"tiny", 0, CLI_FLAG, &b.tiny, 0, 0, NULL, "a model of a few channels, to try the program",
         0},
        {"help", 'h', CLI_FLAG, &b.help, 0, 0, NULL, "print this", 0},
    };
    const char *none[1];
    struct err err = {0};
    struct err why;
    bool usage = true;
    int n;
    int rc = cli_parse(options, ARRAY_LEN(options), argc, argv, none, 0, &n, &err);

    if (rc == ERR_OK && b.help) {
        printf(
            "usage: sanad bench [OPTIONS]\n\n"
            "Measures a GPU with models of the published shapes and synthetic weights; about a\n"
            "minute. No model files are needed. The bound beside a figure is what the GPU's own\n"
            "speed of copying and multiplying allows.\n\n");
        cli_print_options(options, ARRAY_LEN(options), stdout);
        return 0;
    }
    if (rc == ERR_OK && device_choice_check(&b.device, &why) != ERR_OK) {
        rc = err_set(&err, ERR_INVALID, "--%s", why.msg);
    }
    if (rc == ERR_OK) {
        usage = false;
        rc = bench(&b, &err);
    }
    if (rc != ERR_OK) {
        fprintf(stderr, "sanad bench: %s\n", err.msg);
    }
    return cli_exit_status(rc, usage);
}
