#include "daemon/progress.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    BAR_WIDTH = 28
};

static const int64_t REDRAW_NS = 100000000;

static const char *const phase_names[] = {
    [SESSION_TEXT] = "text",   [SESSION_IMAGE] = "image",   [SESSION_DENOISE] = "denoise",
    [SESSION_CACHE] = "cache", [SESSION_DECODE] = "decode",
};

static double seconds_since(int64_t ns)
{
    return clock_seconds(clock_now_ns() - ns);
}

void progress_init(struct progress *p, bool json)
{
    *p = (struct progress){.start_ns = clock_now_ns(), .phase = SESSION_TEXT};
    p->style = json ? PROGRESS_JSON : isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_LINES;
}

/* Prints and frees. */
static void print_event(cJSON *event)
{
    char *text = cJSON_PrintUnformatted(event);

    if (text) {
        printf("%s\n", text);
        fflush(stdout);
        cJSON_free(text);
    }
    cJSON_Delete(event);
}

static cJSON *new_event(const char *name)
{
    cJSON *event = cJSON_CreateObject();

    cJSON_AddStringToObject(event, "event", name);
    return event;
}

void progress_start(struct progress *p, const struct session_settings *set, const char *model_id,
                    const char *device, size_t memory_bytes, const char *path)
{
    const double duration = (double)set->frames / set->fps;

    p->pictures = set->frames;
    if (p->style == PROGRESS_JSON) {
        cJSON *e = new_event("start");

        cJSON_AddStringToObject(e, "model", model_id);
        cJSON_AddStringToObject(e, "device", device);
        cJSON_AddNumberToObject(e, "width", (double)set->size.width);
        cJSON_AddNumberToObject(e, "height", (double)set->size.height);
        cJSON_AddNumberToObject(e, "frames", (double)set->frames);
        cJSON_AddNumberToObject(e, "fps", set->fps);
        cJSON_AddNumberToObject(e, "blocks", (double)set->blocks);
        cJSON_AddNumberToObject(e, "seed", (double)set->seed);
        cJSON_AddNumberToObject(e, "memory_bytes", (double)memory_bytes);
        cJSON_AddBoolToObject(e, "prompt_truncated", set->prompt_truncated);
        print_event(e);
        return;
    }
    fprintf(stderr,
            "%s on %s: %" PRId64 "x%" PRId64 ", %" PRId64 " frames (%.2f s at %g/s) in %" PRId64
            " block%s, seed %" PRIu64 ", %.0f MiB -> %s\n",
            model_id, device, set->size.width, set->size.height, set->frames, duration, set->fps,
            set->blocks, set->blocks == 1 ? "" : "s", set->seed, (double)memory_bytes / 1048576.0,
            path);
    if (set->prompt_truncated) {
        fprintf(stderr, "the prompt is longer than the model reads; its end was cut off\n");
    }
}

static void draw_bar(const struct progress *p, const struct session_progress *s)
{
    const double elapsed = seconds_since(p->start_ns);
    const double left = s->fraction > 0.02 ? elapsed / s->fraction - elapsed : -1;
    const double rate = (double)atomic_load(&p->pictures_done) / elapsed;
    char bar[BAR_WIDTH + 1];
    char eta[32] = "";

    for (int i = 0; i < BAR_WIDTH; i++) {
        bar[i] = (double)i < s->fraction * BAR_WIDTH ? '#' : '.';
    }
    bar[BAR_WIDTH] = '\0';
    if (left >= 0) {
        snprintf(eta, sizeof(eta), ", %.0f s left", left);
    }
    fprintf(stderr,
            "\r[%s] %3.0f %%  block %" PRId64 "/%" PRId64 " %s %" PRId64 "/%" PRId64
            "  %.1f frames/s%s\033[K",
            bar, 100.0 * s->fraction, s->block + 1, s->blocks, phase_names[s->phase], s->step,
            s->steps, rate, eta);
}

static void step_event(const struct session_progress *s)
{
    cJSON *e = new_event("progress");

    cJSON_AddStringToObject(e, "phase", phase_names[s->phase]);
    cJSON_AddNumberToObject(e, "step", (double)s->step);
    cJSON_AddNumberToObject(e, "steps", (double)s->steps);
    cJSON_AddNumberToObject(e, "block", (double)s->block);
    cJSON_AddNumberToObject(e, "blocks", (double)s->blocks);
    cJSON_AddNumberToObject(e, "fraction", s->fraction);
    print_event(e);
}

void progress_step(struct progress *p, const struct session_progress *step)
{
    const int64_t now = clock_now_ns();

    if (p->style == PROGRESS_JSON) {
        step_event(step);
    } else if (p->style == PROGRESS_BAR && now - p->last_ns >= REDRAW_NS) {
        p->last_ns = now;
        draw_bar(p, step);
    } else if (p->style == PROGRESS_LINES && step->phase != p->phase &&
               step->phase != SESSION_CACHE) {
        fprintf(stderr, "block %" PRId64 "/%" PRId64 ": %s (%.0f %%)\n", step->block + 1,
                step->blocks, phase_names[step->phase], 100.0 * step->fraction);
    }
    p->phase = step->phase;
}

void progress_block(struct progress *p, const struct render_block *block)
{
    const int64_t done = atomic_fetch_add(&p->pictures_done, block->n_pictures) + block->n_pictures;
    const double elapsed = seconds_since(p->start_ns);

    if (p->style == PROGRESS_JSON) {
        cJSON *e = new_event("block");

        cJSON_AddNumberToObject(e, "index", (double)block->index);
        cJSON_AddNumberToObject(e, "blocks", (double)block->count);
        cJSON_AddNumberToObject(e, "first_frame", (double)block->first_picture);
        cJSON_AddNumberToObject(e, "frames", (double)block->n_pictures);
        cJSON_AddNumberToObject(e, "bytes", (double)block->bytes);
        cJSON_AddNumberToObject(e, "elapsed_s", elapsed);
        print_event(e);
    } else if (p->style == PROGRESS_LINES) {
        fprintf(stderr,
                "block %" PRId64 "/%" PRId64 " written: %" PRId64 " of %" PRId64
                " frames, %.1f frames/s\n",
                block->index + 1, block->count, done, p->pictures, (double)done / elapsed);
    }
}

void progress_done(struct progress *p, const char *path, int64_t bytes)
{
    const double elapsed = seconds_since(p->start_ns);

    if (p->style == PROGRESS_JSON) {
        cJSON *e = new_event("done");

        cJSON_AddStringToObject(e, "path", path);
        cJSON_AddNumberToObject(e, "bytes", (double)bytes);
        cJSON_AddNumberToObject(e, "frames", (double)p->pictures);
        cJSON_AddNumberToObject(e, "elapsed_s", elapsed);
        print_event(e);
        return;
    }
    fprintf(stderr, "%s%s: %" PRId64 " frames in %.1f s (%.1f frames/s)\n",
            p->style == PROGRESS_BAR ? "\r\033[K" : "", path, p->pictures, elapsed,
            (double)p->pictures / elapsed);
}

void progress_failed(struct progress *p, const struct err *err)
{
    if (p->style == PROGRESS_JSON) {
        cJSON *e = new_event("error");

        cJSON_AddStringToObject(e, "code", err_code_name(err->code));
        cJSON_AddStringToObject(e, "message", err->msg);
        print_event(e);
    }
    fprintf(stderr, "%ssanad generate: %s\n", p->style == PROGRESS_BAR ? "\r\033[K" : "", err->msg);
}
