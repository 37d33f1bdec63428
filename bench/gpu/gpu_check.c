/*
 * gpu-check PART [--json FILE] [--dir DIR] [--quick] [--tiny]
 *
 *   facts       what the GPU and the plugin are
 *   figures     `sanad bench`'s figures, and: a step of a clip, no graph, the LTX-2 decoder
 *   precision   each component in bf16 against f32
 *   same        a video made twice
 *   dump        inputs and outputs of the transformer and the Wan decoder, for pytorch.py
 *
 * Exit status 0: ran, and all checks held. 1: not. 2: the command line.
 */
#include "bench/gpu/gpu_check.h"

#include <string.h>

#include "kernels/cuda_api.h"

enum {
    LINE_MAX_LEN = 4096
};

int gpu_check_open(struct device *dev, bool f32, bool deterministic, struct err *err)
{
    const struct device_cuda_options options = {.f32 = f32, .deterministic = deterministic};

    return device_open_cuda(dev, &options, err);
}

struct model_synthetic_options gpu_check_model(const struct gpu_check *c, enum model_family family)
{
    return (struct model_synthetic_options){.family = family, .tiny = c->tiny};
}

static void append(struct gpu_check *c, const char *what, const struct str *object)
{
    if (c->json && !object->failed) {
        fprintf(c->json, "{\"step\":\"%s\",\"%s\":%s}\n", c->part, what, str_get(object));
        fflush(c->json);
    }
}

void gpu_check_note(struct gpu_check *c, const struct err *err)
{
    struct str text;

    printf("FAIL %s\n", err->msg);
    fflush(stdout);
    c->failed++;
    str_init(&text, LINE_MAX_LEN);
    figures_json_text(&text, err->msg);
    append(c, "error", &text);
    str_done(&text);
}

void gpu_check_figure(void *ctx, const struct figure *figure)
{
    struct gpu_check *c = ctx;
    struct str text;

    figure_print(figure, stdout);
    str_init(&text, LINE_MAX_LEN);
    figure_json(&text, figure);
    append(c, "figure", &text);
    str_done(&text);
}

void gpu_check_limit(struct gpu_check *c, const struct figure *figure, double limit)
{
    const bool holds = figure->at_most ? figure->value <= limit : figure->value >= limit;

    gpu_check_figure(c, figure);
    if (!holds) {
        printf("FAIL %s: %.6g, the limit is %.6g\n", figure->key, figure->value, limit);
        c->failed++;
    }
}

int gpu_check_facts(struct gpu_check *c, struct err *err)
{
    struct device dev;
    struct cuda_probe probe;
    struct device_memory memory;
    struct str text;
    char products[160];
    int rc = gpu_check_open(&dev, false, false, err);

    if (rc != ERR_OK) {
        return rc;
    }
    rc = dev.cuda->probe(&probe, err);
    if (rc == ERR_OK) {
        device_memory(&dev, &memory);
        device_describe(&dev, products, sizeof(products));
        products[strcspn(products, "\n")] = '\0';
        printf("%s, sm_%d%d, %.1f GB (%.1f GB free), %d GPU%s; plugin: %s; %s\n",
               probe.devices[0].name, probe.devices[0].major, probe.devices[0].minor,
               (double)memory.total / 1e9, (double)memory.free / 1e9, probe.n_devices,
               probe.n_devices == 1 ? "" : "s", dev.cuda->build, products);
        str_init(&text, LINE_MAX_LEN);
        str_add(&text, "{\"name\":");
        figures_json_text(&text, probe.devices[0].name);
        str_addf(&text,
                 ",\"capability\":\"%d.%d\",\"bytes\":%zu,\"plugin\":", probe.devices[0].major,
                 probe.devices[0].minor, memory.total);
        figures_json_text(&text, dev.cuda->build);
        str_add(&text, ",\"products\":");
        figures_json_text(&text, products);
        str_add(&text, "}");
        append(c, "device", &text);
        str_done(&text);
    }
    device_close(&dev);
    return rc;
}

/* ---- figures ---- */

static int time_clip_forward(struct figures *f, struct model *model, bool unrecorded,
                             struct err *err)
{
    const int64_t side = f->options.tiny ? 4 : 0;
    const struct figures_forward block = {.n_items = 1,
                                          .frames = f->options.tiny ? 2 : 10,
                                          .h = side ? side : 60,
                                          .w = side ? side : 104,
                                          .unrecorded = unrecorded};
    const struct figures_forward clip = {
        .n_items = 2, .frames = f->options.tiny ? 3 : 21, .h = block.h, .w = block.w};
    const struct figures_forward *shape = unrecorded ? &block : &clip;
    double ms = 0;
    const int rc = figures_time_forward(f, model, shape, &ms, err);

    if (rc == ERR_OK) {
        figures_report(
            f, &(struct figure){.key = unrecorded ? "forward.ungraphed" : "forward.clip",
                                .name = unrecorded ? "transformer, 15,600 tokens, without a graph"
                                                   : "transformer, 2 x 32,760 tokens",
                                .unit = "ms",
                                .value = ms,
                                .bound = figures_forward_bound(f, shape),
                                .at_most = true});
    }
    return rc;
}

static int more_forwards(struct gpu_check *c, struct figures *f, struct err *err)
{
    const struct model_synthetic_options o = gpu_check_model(c, FAMILY_LONGSANA);
    struct model *model = NULL;
    int rc = model_synthetic_open(&model, &o, f->dev, err);

    if (rc == ERR_OK) {
        rc = time_clip_forward(f, model, true, err);
    }
    if (rc == ERR_OK) {
        rc = time_clip_forward(f, model, false, err);
    }
    model_close(model);
    return rc;
}

/* 17 pictures of 640 x 352. */
static int ltx2_decode(struct gpu_check *c, struct figures *f, struct err *err)
{
    const struct model_synthetic_options o = gpu_check_model(c, FAMILY_SANA_VIDEO_LTX2);
    struct model *model = NULL;
    double ms = 0;
    int rc = model_synthetic_open(&model, &o, f->dev, err);

    if (rc == ERR_OK) {
        rc = c->tiny ? figures_time_decode(f, model, 1, 2, 2, &ms, err)
                     : figures_time_decode(f, model, 3, 11, 20, &ms, err);
    }
    if (rc == ERR_OK) {
        figures_report(f, &(struct figure){.key = "decode.ltx2",
                                           .name = "LTX-2 VAE, 17 pictures of 640x352",
                                           .unit = "ms",
                                           .value = ms,
                                           .at_most = true});
    }
    model_close(model);
    return rc;
}

/* Each for itself: what one cannot do says nothing of the next. */
static int measure(struct gpu_check *c, struct figures *f, int part, struct err *err)
{
    switch (part) {
    case 0:
        return figures_ceilings(f, err);
    case 1:
        return more_forwards(c, f, err);
    case 2:
        return figures_longsana(f, err);
    case 3:
        return figures_clip(f, err);
    case 4:
        figures_memory(f); /* before the other family */
        return ERR_OK;
    default:
        return ltx2_decode(c, f, err);
    }
}

/* Which kernel multiplied what, so that no choice of one is silent. */
static void print_products(struct device *dev)
{
    static char text[1 << 16];

    device_describe(dev, text, sizeof(text));
    fputs(text, stdout);
}

int gpu_check_figures(struct gpu_check *c, struct err *err)
{
    enum {
        MEASUREMENTS = 6
    };
    const struct figures_options options = {
        .quick = c->quick, .tiny = c->tiny, .ctx = c, .on_figure = gpu_check_figure};
    struct figures f;
    struct device dev;
    int rc = gpu_check_open(&dev, false, false, err);

    if (rc != ERR_OK) {
        return rc;
    }
    figures_init(&f, &dev, &options);
    figures_print_head(stdout);
    for (int i = 0; i < MEASUREMENTS && rc != ERR_DEVICE; i++) {
        rc = measure(c, &f, i, err);
        if (rc != ERR_OK) {
            gpu_check_note(c, err);
        }
    }
    print_products(&dev);
    device_close(&dev);
    return rc == ERR_DEVICE ? rc : ERR_OK;
}

/* ---- the command line ---- */

static const struct {
    const char *name;
    int (*run)(struct gpu_check *c, struct err *err);
} parts[] = {
    {"facts", gpu_check_facts}, {"figures", gpu_check_figures}, {"precision", gpu_check_precision},
    {"same", gpu_check_same},   {"dump", gpu_check_dump},
};

static int run_part(struct gpu_check *c)
{
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (strcmp(parts[i].name, c->part) == 0) {
            if (parts[i].run(c, &err) != ERR_OK) {
                fprintf(stderr, "gpu-check %s: %s\n", c->part, err.msg);
                return 1;
            }
            return c->failed > 0;
        }
    }
    fprintf(stderr, "gpu-check: no part '%s'\n", c->part);
    return 2;
}

int main(int argc, char **argv)
{
    struct gpu_check c = {.part = argc > 1 ? argv[1] : "", .dir = "."};
    const char *json = NULL;
    int status;

    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            c.quick = true;
        } else if (strcmp(argv[i], "--tiny") == 0) {
            c.tiny = true;
        } else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            json = argv[++i];
        } else if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc) {
            c.dir = argv[++i];
        } else {
            fprintf(stderr, "gpu-check: what is '%s'?\n", argv[i]);
            return 2;
        }
    }
    c.json = json ? fopen(json, "ae") : NULL;
    if (json && !c.json) {
        fprintf(stderr, "gpu-check: cannot write '%s': %m\n", json);
        return 2;
    }
    status = run_part(&c);
    if (c.json && fclose(c.json) != 0) {
        fprintf(stderr, "gpu-check: '%s' could not be written: %m\n", json);
        return 1;
    }
    return status;
}
