#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/create_internal.h"
#include "api/json.h"

enum {
    SIDE_MAX = 1920,
    SIDE_MIN = 64, /* or the model's own, if that is less */
};

#define UPSCALED_FROM 1.6 /* times the generated area */

struct sides {
    int64_t min, max;
};

static struct sides allowed_sides(const struct model_facts *f)
{
    return (struct sides){
        .min = f->min_side < SIDE_MIN ? f->min_side : SIDE_MIN,
        .max = f->max_side < SIDE_MAX ? f->max_side : SIDE_MAX,
    };
}

/* Two numbers of at most five digits with one of `separators` between them. */
static bool parse_pair(const char *text, const char *separators, int64_t *ret_a, int64_t *ret_b)
{
    const size_t a = strspn(text, "0123456789");
    size_t b;

    if (a < 1 || a > 5 || text[a] == '\0' || !strchr(separators, text[a])) {
        return false;
    }
    b = strspn(text + a + 1, "0123456789");
    if (b < 1 || b > 5 || text[a + 1 + b] != '\0') {
        return false;
    }
    *ret_a = strtol(text, NULL, 10);
    *ret_b = strtol(text + a + 1, NULL, 10);
    return true;
}

static bool check_size(struct create_parse *p, const char *param, int64_t w, int64_t h)
{
    const struct sides side = allowed_sides(p->facts);
    const long long width = w;
    const long long height = h;

    if (w % 2 != 0 || h % 2 != 0) {
        return api_fail(p->e, API_INVALID_SIZE, param,
                        "Invalid value: '%lldx%lld'. Width and height must be even.", width,
                        height);
    }
    if (w < side.min || h < side.min || w > side.max || h > side.max) {
        return api_fail(p->e, API_UNSUPPORTED_SIZE, param,
                        "Unsupported size: '%lldx%lld'. Width and height must be in %lld..%lld.",
                        width, height, (long long)side.min, (long long)side.max);
    }
    if (w > 2 * h || h > 2 * w) {
        return api_fail(p->e, API_UNSUPPORTED_SIZE, param,
                        "Unsupported size: '%lldx%lld'. The aspect ratio must be in 0.5..2.", width,
                        height);
    }
    if (w * h > p->facts->max_pixels) {
        return api_fail(p->e, API_UNSUPPORTED_SIZE, param,
                        "Unsupported size: '%lldx%lld'. It has more than %lld pixels.", width,
                        height, (long long)p->facts->max_pixels);
    }
    p->r->spec.width = w;
    p->r->spec.height = h;
    return true;
}

/* Without limits: check_size knows them better. */
static bool get_sides(struct create_parse *p, int64_t *width, int64_t *height)
{
    const struct create_value *w = &p->given[FIELD_WIDTH];
    const struct create_value *h = &p->given[FIELD_HEIGHT];

    if (!w->value != !h->value) {
        return api_fail(p->e, API_MISSING_REQUIRED_PARAMETER, w->value ? "height" : "width",
                        "'%s' is given without '%s'; give both or neither.",
                        w->value ? "width" : "height", w->value ? "height" : "width");
    }
    return create_get_int(p, FIELD_WIDTH, 1, 99999, width) &&
           create_get_int(p, FIELD_HEIGHT, 1, 99999, height);
}

/* Sides near short_edge in that ratio, even. */
static bool size_by_ratio(struct create_parse *p)
{
    const struct create_value *g = &p->given[FIELD_ASPECT_RATIO];
    const struct model_facts *f = p->facts;
    const struct sides side = allowed_sides(f);
    int64_t a = f->default_width;
    int64_t b = f->default_height;
    int64_t edge = a < b ? a : b;
    int64_t other;
    char show[64];

    if (g->value && !json_to_text(g->value)) {
        return api_fail(p->e, API_INVALID_TYPE, g->name, "'%s' must be a string like '16:9'.",
                        g->name);
    }
    if (g->value && (!parse_pair(g->value->valuestring, ":", &a, &b) || a == 0 || b == 0)) {
        return api_fail(p->e, API_INVALID_VALUE, g->name, "Invalid '%s': %s is not like '16:9'.",
                        g->name, create_show(g->value, show));
    }
    if (a > 2 * b || b > 2 * a) {
        return api_fail(p->e, API_UNSUPPORTED_SIZE, "aspect_ratio",
                        "Unsupported aspect ratio: %lld:%lld is not in 0.5..2.", (long long)a,
                        (long long)b);
    }
    if (!create_get_int(p, FIELD_SHORT_EDGE, side.min, side.max, &edge)) {
        return false;
    }
    edge -= edge % 2;
    other = 2 * llround((double)edge * (double)(a > b ? a : b) / (double)(a > b ? b : a) / 2);
    return check_size(p, g->value ? "aspect_ratio" : "short_edge", a >= b ? other : edge,
                      a >= b ? edge : other);
}

static bool size_by_text(struct create_parse *p, int64_t *width, int64_t *height)
{
    const struct create_value *g = &p->given[FIELD_SIZE];
    char show[64];

    if (!json_to_text(g->value)) {
        return api_fail(p->e, API_INVALID_TYPE, g->name, "'%s' must be a string like '832x480'.",
                        g->name);
    }
    if (!parse_pair(g->value->valuestring, "xX", width, height)) {
        return api_fail(p->e, API_INVALID_SIZE, g->name,
                        "Invalid value: %s. A size is like '832x480'.",
                        create_show(g->value, show));
    }
    return true;
}

static bool choose_size(struct create_parse *p)
{
    const struct create_value *size = &p->given[FIELD_SIZE];
    const struct create_value *ratio = &p->given[FIELD_ASPECT_RATIO];
    const struct create_value *width = &p->given[FIELD_WIDTH];
    int64_t w = 0;
    int64_t h = 0;
    int64_t text_w = 0;
    int64_t text_h = 0;

    if (!ratio->value) {
        ratio = &p->given[FIELD_SHORT_EDGE];
    }
    if (!get_sides(p, &w, &h)) {
        return false;
    }
    if (ratio->value && (size->value || width->value)) {
        return api_fail(p->e, API_CONFLICTING_PARAMETERS, ratio->name,
                        "'%s' is only for requests without a size.", ratio->name);
    }
    if (ratio->value) {
        return size_by_ratio(p);
    }
    if (size->value && !size_by_text(p, &text_w, &text_h)) {
        return false;
    }
    if (size->value && width->value && (w != text_w || h != text_h)) {
        return api_fail(p->e, API_CONFLICTING_PARAMETERS, "size",
                        "'size' is %lldx%lld, but 'width' and 'height' are %lld and %lld.",
                        (long long)text_w, (long long)text_h, (long long)w, (long long)h);
    }
    if (size->value) {
        return check_size(p, "size", text_w, text_h);
    }
    if (width->value) {
        return check_size(p, w % 2 == 0 && h % 2 != 0 ? "height" : "width", w, h);
    }
    p->r->spec.width = p->facts->default_width;
    p->r->spec.height = p->facts->default_height;
    return true;
}

/* ^\d{1,4}(\.\d{1,3})?$ in ms; -1: it is not like that. */
static int64_t parse_seconds(const cJSON *value)
{
    const char *text = json_to_text(value);
    size_t whole;
    size_t part;
    double ms;

    if (text) {
        whole = strspn(text, "0123456789");
        part = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
        if (whole < 1 || whole > 4 || part > 3 || (text[whole] == '.' && part < 1) ||
            text[whole + (part > 0 ? 1 + part : 0)] != '\0') {
            return -1;
        }
        return llround(strtod(text, NULL) * 1000);
    }
    ms = value->valuedouble * 1000;
    return ms >= 0 && ms < 1e7 && fabs(ms - round(ms)) < 1e-6 ? llround(ms) : -1;
}

/* Frames of `seconds`, 0 if absent. */
static bool frames_of_seconds(struct create_parse *p, int64_t *ret)
{
    const struct create_value *g = &p->given[FIELD_SECONDS];
    const double limit = p->limits->max_seconds;
    char show[64];
    int64_t ms;

    if (!g->value) {
        return true;
    }
    if (!json_to_text(g->value) && !cJSON_IsNumber(g->value)) {
        return api_fail(p->e, API_INVALID_TYPE, g->name, "'%s' must be a string or a number.",
                        g->name);
    }
    ms = parse_seconds(g->value);
    if (ms < 0) {
        return api_fail(p->e, API_INVALID_SECONDS, g->name,
                        "Invalid '%s': %s. It is a number with at most three decimals.", g->name,
                        create_show(g->value, show));
    }
    if (ms == 0 || (double)ms > limit * 1000) {
        return api_fail(p->e, API_INVALID_SECONDS, g->name,
                        "Invalid '%s': %s. It must be above 0 and at most %g.", g->name,
                        create_show(g->value, show), limit);
    }
    *ret = llround((double)ms * p->r->spec.fps / 1000);
    *ret = *ret < 1 ? 1 : *ret;
    return true;
}

/* num_frames wins over seconds. */
static bool choose_length(struct create_parse *p)
{
    struct job_spec *spec = &p->r->spec;
    const int64_t max =
        p->facts->max_frames < p->limits->max_frames ? p->facts->max_frames : p->limits->max_frames;
    int64_t frames = 0;

    spec->fps = p->facts->fps;
    if (!create_get_real(p, FIELD_FPS, 1, 60, &spec->fps) || !frames_of_seconds(p, &frames)) {
        return false;
    }
    if (frames > max && !p->given[FIELD_NUM_FRAMES].value) {
        return api_fail(p->e, API_INVALID_SECONDS, p->given[FIELD_SECONDS].name,
                        "Invalid 'seconds': at %g frames per second these are %lld frames; at most "
                        "%lld are allowed.",
                        spec->fps, (long long)frames, (long long)max);
    }
    if (!create_get_int(p, FIELD_NUM_FRAMES, 1, max, &frames)) {
        return false;
    }
    if (frames == 0) {
        frames = llround(FACTS_DEFAULT_SECONDS * spec->fps);
        frames = frames > max ? max : frames;
    }
    spec->num_frames = frames;
    spec->generated_frames = model_facts_generated(p->facts, frames);
    return true;
}

bool create_shape(struct create_parse *p)
{
    struct job_spec *spec = &p->r->spec;
    struct model_size native;

    if (!choose_size(p) || !choose_length(p)) {
        return false;
    }
    native = model_facts_native(p->facts, (int)spec->width, (int)spec->height);
    if ((double)(spec->width * spec->height) >
        UPSCALED_FROM * (double)native.width * (double)native.height) {
        job_spec_warn(spec, "upscaled", "size");
    }
    return true;
}
