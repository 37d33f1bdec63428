/*
 * sanad generate "PROMPT" -o out.mp4: one video, in this process, with the same rendering that the
 * daemon's workers do.
 */
#include "daemon/commands.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/log.h"
#include "daemon/cache_path.h"
#include "daemon/cli_options.h"
#include "daemon/model_path.h"
#include "daemon/output_file.h"
#include "daemon/progress.h"
#include "worker/device_choice.h"

enum {
    MAX_SEED_BITS = 53,
    MODEL_PATH_LEN = 1200
};

struct generate {
    /* As given. */
    const char *prompt, *output, *model, *image, *negative;
    struct device_choice device;
    int64_t size[2], frames, seed, steps, motion_score, crf, memory_mib;
    double seconds, guidance, flow_shift;
    struct cli_list prompt_at;
    bool exact_size, json, help;
    /* Made from it. */
    struct session_switch switches[CLI_LIST_MAX];
    struct render_options render;
    char default_model[MODEL_PATH_LEN];
    char algos[MODEL_PATH_LEN];
    /* While it runs. */
    struct progress progress;
    struct output_file file;
};

static atomic_bool interrupted;

static void on_signal(int signal_number)
{
    (void)signal_number;
    atomic_store(&interrupted, true);
}

/* The first Ctrl-C ends the video after the step in progress; the second one ends the program. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action = (struct sigaction){.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL); /* a file size limit is a full disk */
}

/* ---- from options to a request ---- */

static int parse_prompt_at(struct generate *g, struct err *err)
{
    for (int i = 0; i < g->prompt_at.n; i++) {
        const char *text = g->prompt_at.text[i];
        char *end;
        long long block;

        errno = 0;
        block = strtoll(text, &end, 10);
        if (end == text || *end != ':' || errno != 0 || end[1] == '\0') {
            return err_set(err, ERR_INVALID, "--prompt-at: '%s' is not BLOCK:TEXT, such as 2:a dog",
                           text);
        }
        g->switches[i] = (struct session_switch){.block = block, .text = end + 1};
    }
    g->render.request.switches = g->switches;
    g->render.request.n_switches = g->prompt_at.n;
    return ERR_OK;
}

static int choose_seed(struct generate *g, struct err *err)
{
    uint64_t seed;

    if (g->seed >= 0) {
        g->render.request.seed = (uint64_t)g->seed;
        return ERR_OK;
    }
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        return err_set(err, ERR_IO, "no random seed: %m; give one with --seed");
    }
    g->render.request.seed = seed >> (64 - MAX_SEED_BITS);
    return ERR_OK;
}

static int check_device(const struct generate *g, struct err *err)
{
    struct err why;

    return device_choice_check(&g->device, &why) == ERR_OK
               ? ERR_OK
               : err_set(err, ERR_INVALID, "--%s", why.msg);
}

/* The output is emptied before the first frame: it must not be the picture. */
static int check_image(const struct generate *g, struct err *err)
{
    struct stat image;
    struct stat output;

    if (g->image && stat(g->image, &image) == 0 && stat(g->output, &output) == 0 &&
        image.st_dev == output.st_dev && image.st_ino == output.st_ino) {
        return err_set(err, ERR_INVALID, "--output: '%s' is the file of --image", g->output);
    }
    return ERR_OK;
}

static int make_request(struct generate *g, struct cli_option *options, int n, struct err *err)
{
    struct session_request *r = &g->render.request;
    int rc = check_device(g, err);

    if (rc == ERR_OK && cli_given(options, n, "seconds") && cli_given(options, n, "frames")) {
        rc = err_set(err, ERR_INVALID, "--seconds and --frames contradict each other: give one");
    }
    if (rc == ERR_OK && g->json && strcmp(g->output, "-") == 0) {
        rc = err_set(err, ERR_INVALID, "--json and '-o -' both want standard output");
    }
    if (rc == ERR_OK) {
        rc = check_image(g, err);
    }
    if (rc == ERR_OK) {
        rc = parse_prompt_at(g, err);
    }
    if (rc == ERR_OK) {
        rc = choose_seed(g, err);
    }
    r->prompt = g->prompt;
    r->negative_prompt = g->negative;
    r->width = g->size[0];
    r->height = g->size[1];
    r->frames = g->frames;
    r->steps = (int)g->steps;
    r->has_guidance = cli_given(options, n, "guidance");
    r->guidance_scale = g->guidance;
    r->flow_shift = g->flow_shift;
    r->has_motion_score = cli_given(options, n, "motion-score");
    r->motion_score = (int)g->motion_score;
    r->exact_size = g->exact_size;
    r->memory_limit = (size_t)g->memory_mib << 20;
    g->render.image_path = g->image;
    g->render.crf = (int)g->crf;
    return rc;
}

/* ---- running ---- */

static int write_part(void *ctx, enum fmp4_part part, const uint8_t *data, size_t len,
                      struct err *err)
{
    struct generate *g = ctx;

    (void)part;
    return output_file_append(&g->file, data, len, err);
}

static void show_block(void *ctx, const struct render_block *block)
{
    struct generate *g = ctx;

    progress_block(&g->progress, block);
}

static void show_step(void *ctx, const struct session_progress *step)
{
    struct generate *g = ctx;

    progress_step(&g->progress, step);
}

/* What to do with the file when rendering ended with rc. */
static int finish_file(struct generate *g, const struct render *r, int rc, struct err *err)
{
    struct err ignored;

    if (rc == ERR_OK) {
        rc = output_file_finish(&g->file, err);
        return rc == ERR_OK
                   ? rc
                   : err_prefix(err, "'%s' is complete and plays, but stays fragmented", g->output);
    }
    if (render_blocks_done(r) == 0) {
        output_file_remove(&g->file);
    } else if (rc != ERR_NO_SPACE && output_file_finish(&g->file, &ignored) != ERR_OK) {
        log_warn("%s: %s; it stays a fragmented file", g->output, ignored.msg);
    }
    return rc; /* whole blocks are a video too */
}

static int render_to_file(struct generate *g, struct model *model, struct err *err)
{
    const struct render_callbacks callbacks = {.ctx = g,
                                               .on_part = write_part,
                                               .on_block = show_block,
                                               .on_progress = show_step,
                                               .cancel = &interrupted};
    struct render *r = NULL;
    int rc;

    if (g->seconds > 0) {
        g->render.request.frames = llround(g->seconds * model->dir->defaults.fps);
        g->render.request.frames += g->render.request.frames == 0 ? 1 : 0;
    }
    g->file = (struct output_file){.path = g->output, .fd = -1};
    rc = render_open(&r, model, &g->render, &callbacks, err);
    if (rc == ERR_OK) {
        progress_start(&g->progress, render_settings(r), model->dir->defaults.id, model->dev->name,
                       render_memory(r), g->output);
        rc = finish_file(g, r, render_run(r, err), err);
    } else {
        output_file_remove(&g->file); /* nothing whole is in it */
    }
    render_close(r);
    output_file_close(&g->file);
    return rc;
}

static int generate(struct generate *g, struct err *err)
{
    struct device dev = {0};
    struct model *model = NULL;
    int rc = ERR_OK;

    if (!g->model) {
        rc = model_path_default(g->default_model, sizeof(g->default_model), err);
        g->model = g->default_model;
    }
    if (cache_path(g->algos, sizeof(g->algos), "gpu-algorithms")) {
        g->device.algos = g->algos;
    }
    if (rc == ERR_OK) {
        rc = device_choice_open(&dev, &g->device, err);
    }
    if (rc == ERR_OK) {
        rc = model_open(&model, g->model, &dev, err);
    }
    if (rc == ERR_OK) {
        rc = render_to_file(g, model, err);
    }
    model_close(model);
    device_close(&dev);
    return rc;
}

/* ---- command line ---- */

static void print_help(const struct cli_option *options, int n)
{
    printf(
        "usage: sanad generate \"PROMPT\" [-o FILE] [--model DIR] [OPTIONS]\n\n"
        "Makes one video. The file grows block by block and can be played while it grows; at the\n"
        "end it is a normal MP4. Ctrl-C ends the video after the blocks that are done.\n\n");
    cli_print_options(options, n, stdout);
}

#define OPTION_COUNT 24
#define VRAM_MAX     ((double)(INT64_C(16) << 40))

static void fill_options(struct generate *g, struct cli_option options[OPTION_COUNT])
{
    const double seed_max = 9007199254740991.0; /* 2^53 - 1, exact in JSON */
    const struct cli_option table[OPTION_COUNT] = {
        {"output", 'o', CLI_TEXT, &g->output, 0, 0, "FILE",
         "where to write; - is standard output [out.mp4]", 0},
        {"model", 'm', CLI_TEXT, &g->model, 0, 0, "DIR",
         "diffusers directory of a SANA-Video model", 0},
        {"image", 'i', CLI_TEXT, &g->image, 0, 0, "FILE",
         "PNG, JPEG or WebP that the video starts with", 0},
        {"size", 's', CLI_SIZE, g->size, 0, 0, "WxH", "size of the video [the model's]", 0},
        {"seconds", 't', CLI_NUMBER, &g->seconds, 0.001, 900, "S", "length in seconds", 0},
        {"frames", 'n', CLI_INT, &g->frames, 1, FRAMES_MAX, "N", "length in frames [the model's]",
         0},
        {"seed", 0, CLI_INT, &g->seed, -1, seed_max, "N",
         "same seed, same video; -1 is random [-1]", 0},
        {"steps", 0, CLI_INT, &g->steps, 1, SAMPLER_MAX_STEPS, "N", "solver steps [the model's]",
         0},
        {"guidance", 'g', CLI_NUMBER, &g->guidance, 0, 20, "G",
         "guidance scale, above 1 is on [the model's]", 0},
        {"negative", 0, CLI_TEXT, &g->negative, 0, 0, "TEXT", "what the video should not show", 0},
        {"motion-score", 0, CLI_INT, &g->motion_score, 0, 100, "N",
         "how much motion; 0 says nothing of it", 0},
        {"flow-shift", 0, CLI_NUMBER, &g->flow_shift, 0.1, 30, "F",
         "shift of the noise schedule [the model's]", 0},
        {"prompt-at", 0, CLI_LIST, &g->prompt_at, 0, 0, "BLOCK:TEXT",
         "another prompt from that block on; repeatable", 0},
        {"exact-size", 0, CLI_FLAG, &g->exact_size, 0, 0, NULL,
         "generate at --size, not at the nearest trained size", 0},
        {"crf", 0, CLI_INT, &g->crf, 1, 51, "N", "H.264 quality, lower is better [18]", 0},
        {"threads", 0, CLI_INT, &g->device.threads, 0, 1024, "N",
         "CPU threads; 0: one per core [0]", 0},
        {"device", 0, CLI_TEXT, &g->device.device, 0, 0, "NAME",
         "auto, cpu, cuda or cuda:N: what computes [auto]", 0},
        {"precision", 0, CLI_TEXT, &g->device.precision, 0, 0, "bf16|f32",
         "of weights and activations on a GPU [bf16]", 0},
        {"text-encoder", 0, CLI_TEXT, &g->device.text_encoder, 0, 0, "auto|gpu|host",
         "where its weights are with a GPU [auto]", 0},
        {"deterministic", 0, CLI_FLAG, &g->device.deterministic, 0, 0, NULL,
         "on a GPU: algorithms by rule, not by measuring", 0},
        {"vram-limit", 0, CLI_BYTES, &g->device.vram_limit, 0, VRAM_MAX, "SIZE",
         "memory of the GPU that may be used; 0: all [0]", 0},
        {"memory-limit", 0, CLI_INT, &g->memory_mib, 0, 1 << 20, "MIB",
         "refuse videos that need more; 0: none [0]", 0},
        {"json", 0, CLI_FLAG, &g->json, 0, 0, NULL, "events as JSON lines on standard output", 0},
        {"help", 'h', CLI_FLAG, &g->help, 0, 0, NULL, "print this", 0},
    };

    memcpy(options, table, sizeof(table));
}

/* Known before parsing, so that a wrong command line is an event too. */
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            return true;
        }
    }
    return false;
}

int cmd_generate(int argc, char **argv)
{
    struct generate g = {.output = "out.mp4", .seed = -1};
    struct cli_option options[OPTION_COUNT];
    struct err err = {0};
    bool usage = true;
    int n;
    int rc;

    fill_options(&g, options);
    rc = cli_parse(options, OPTION_COUNT, argc, argv, &g.prompt, 1, &n, &err);
    if (rc == ERR_OK && g.help) {
        print_help(options, OPTION_COUNT);
        return 0;
    }
    progress_init(&g.progress, wants_json(argc, argv));
    if (rc == ERR_OK && n == 0) {
        rc = err_set(&err, ERR_INVALID, "no prompt given; see 'sanad generate --help'");
    }
    if (rc == ERR_OK) {
        rc = make_request(&g, options, OPTION_COUNT, &err);
    }
    if (rc == ERR_OK) {
        usage = false;
        catch_signals();
        rc = generate(&g, &err);
    }
    if (rc == ERR_OK) {
        progress_done(&g.progress, g.output, g.file.size);
    } else {
        progress_failed(&g.progress, &err);
    }
    return cli_exit_status(rc, usage);
}
