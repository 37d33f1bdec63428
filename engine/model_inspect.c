#include "engine/model_inspect.h"

#include <stdlib.h>
#include <string.h>

#include "engine/model_expect.h"

enum {
    REPORT_ARENA_MAX = 64 << 20
};

const char *model_finding_name(enum finding_kind kind)
{
    static const char *const name[] = {
        [FINDING_MISSING] = "missing",
        [FINDING_WRONG_SHAPE] = "wrong shape",
        [FINDING_WRONG_TYPE] = "wrong type",
        [FINDING_UNEXPECTED] = "unexpected",
    };

    return name[kind];
}

/* A tensor of the files, and whether the configuration asked for it. */
struct seen {
    const struct safetensors_entry *entry;
    bool expected;
};

struct comparison {
    struct model_report *report;
    struct part_report *part;
    struct seen *seen; /* n_tensors, sorted by name */
    bool no_memory;
};

static int compare_seen(const void *a, const void *b)
{
    const struct seen *x = a;
    const struct seen *y = b;

    return strcmp(x->entry->name, y->entry->name);
}

static void add_finding(struct comparison *c, enum finding_kind kind, const char *name,
                        const char *text)
{
    struct part_report *part = c->part;
    struct finding *f = &part->findings[part->n_listed];

    part->n_findings[kind]++;
    if (part->n_listed == REPORT_MAX_FINDINGS) {
        return;
    }
    f->kind = kind;
    f->name = arena_strdup(&c->report->arena, name);
    f->text = arena_strdup(&c->report->arena, text);
    if (!f->name || !f->text) {
        c->no_memory = true;
        return;
    }
    part->n_listed++;
}

/* One tensor that the configuration asks for. */
static bool compare_expected(void *ctx, const char *name, int rank, const int64_t *dims)
{
    struct comparison *c = ctx;
    const struct safetensors_entry entry = {.name = name};
    const struct seen key = {.entry = &entry};
    struct seen *s = bsearch(&key, c->seen, c->part->n_tensors, sizeof(*s), compare_seen);
    char has[TENSOR_TEXT_MAX];
    char want[TENSOR_TEXT_MAX];
    char text[2 * TENSOR_TEXT_MAX + 32];
    struct tensor expected = tensor_make(NULL, DTYPE_F32, rank, dims);
    const struct tensor *t;

    c->part->n_expected++;
    if (!s) {
        snprintf(text, sizeof(text), "expected %s", tensor_describe(&expected, want) + 3);
        add_finding(c, FINDING_MISSING, name, text);
        return !c->no_memory;
    }
    s->expected = true;
    t = &s->entry->tensor;
    expected.dtype = t->dtype;
    if (!tensor_same_shape(t, &expected)) {
        snprintf(text, sizeof(text), "is %s, expected %s", tensor_describe(t, has),
                 tensor_describe(&expected, want));
        add_finding(c, FINDING_WRONG_SHAPE, name, text);
    } else if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16 && t->dtype != DTYPE_F16) {
        snprintf(text, sizeof(text), "is %s, expected F32, BF16 or F16", tensor_describe(t, has));
        add_finding(c, FINDING_WRONG_TYPE, name, text);
    } else {
        c->part->n_parameters += tensor_count(t);
    }
    return !c->no_memory;
}

static bool walk_expected(const struct model_dir *dir, enum model_part part, struct comparison *c)
{
    switch (part) {
    case PART_TRANSFORMER:
        return model_expect_transformer(&dir->transformer, compare_expected, c);
    case PART_TEXT_ENCODER:
        return model_expect_gemma2(&dir->text_encoder, compare_expected, c);
    case PART_VAE:
        return model_expect_vae(&dir->vae, compare_expected, c);
    case PART_COUNT:
        break;
    }
    CHECK_BUG(!"part");
}

static const struct weights *part_weights(const struct model_dir *dir, enum model_part part)
{
    const struct weights *const weights[] = {
        [PART_TRANSFORMER] = dir->transformer_weights,
        [PART_TEXT_ENCODER] = dir->text_encoder_weights,
        [PART_VAE] = dir->vae_weights,
    };

    return weights[part];
}

static int inspect_part(struct model_report *report, enum model_part which, struct err *err)
{
    static const char *const names[] = {"transformer", "text_encoder", "vae"};
    const struct weights *weights = part_weights(report->dir, which);
    struct part_report *part = &report->part[which];
    struct comparison c = {.report = report, .part = part};
    char text[TENSOR_TEXT_MAX];

    part->name = names[which];
    part->n_tensors = weights_tensor_count(weights);
    part->bytes = weights_total_bytes(weights);
    c.seen = calloc(part->n_tensors + 1, sizeof(*c.seen));
    if (!c.seen) {
        return err_set(err, ERR_NO_MEMORY, "report on %zu tensors", part->n_tensors);
    }
    for (size_t i = 0; i < part->n_tensors; i++) {
        c.seen[i].entry = weights_at(weights, i);
        part->n_of_dtype[c.seen[i].entry->tensor.dtype]++;
    }
    qsort(c.seen, part->n_tensors, sizeof(*c.seen), compare_seen);
    if (walk_expected(report->dir, which, &c)) {
        for (size_t i = 0; i < part->n_tensors && !c.no_memory; i++) {
            const struct safetensors_entry *e = c.seen[i].entry;

            if (!c.seen[i].expected) {
                add_finding(&c, FINDING_UNEXPECTED, e->name, tensor_describe(&e->tensor, text));
            }
        }
    }
    free(c.seen);
    if (c.no_memory) {
        return err_set(err, ERR_NO_MEMORY, "report on %s", weights_dir(weights));
    }
    report->n_parameters += part->n_parameters;
    report->weight_bytes += part->bytes;
    report->complete = report->complete && part->n_findings[FINDING_MISSING] == 0 &&
                       part->n_findings[FINDING_WRONG_SHAPE] == 0 &&
                       part->n_findings[FINDING_WRONG_TYPE] == 0;
    return ERR_OK;
}

int model_inspect(const struct model_dir *dir, struct model_report *ret, struct err *err)
{
    struct model_report report = {.dir = dir, .complete = true};
    int rc = ERR_OK;

    arena_init(&report.arena, REPORT_ARENA_MAX);
    for (int i = 0; i < PART_COUNT && rc == ERR_OK; i++) {
        rc = inspect_part(&report, (enum model_part)i, err);
    }
    if (rc != ERR_OK) {
        arena_done(&report.arena);
        return rc;
    }
    *ret = report;
    return ERR_OK;
}

void model_report_done(struct model_report *report)
{
    arena_done(&report->arena);
}

static void print_configs(const struct model_dir *dir, FILE *out)
{
    const struct transformer_config *t = &dir->transformer;
    const struct gemma2_config *g = &dir->text_encoder;
    const struct model_defaults *d = &dir->defaults;
    const int64_t width = t->heads * t->head_dim;

    fprintf(out, "%s\n", dir->path);
    fprintf(out, "  family        %s\n", model_family_name(dir->family));
    fprintf(out, "  id            %s\n", d->id);
    fprintf(out,
            "  transformer   %lld layers, width %lld (%lld heads of %lld), feed-forward %lld, "
            "patch %lld, %s\n",
            (long long)t->layers, (long long)width, (long long)t->heads, (long long)t->head_dim,
            (long long)t->mlp_hidden, (long long)t->patch_size,
            t->causal ? "block-causal" : "bidirectional");
    fprintf(out,
            "  text encoder  Gemma 2, %lld layers, width %lld, %lld heads (%lld of keys), "
            "vocabulary %lld\n",
            (long long)g->layers, (long long)g->hidden_size, (long long)g->heads,
            (long long)g->kv_heads, (long long)g->vocab_size);
    fprintf(out,
            "  vae           %s, %lld channels, a latent cell is %lld frames of %lldx%lld "
            "pixels\n",
            dir->vae.kind == VAE_WAN ? "Wan 2.1" : "LTX-2", (long long)dir->vae.latent_channels,
            (long long)dir->vae.stride_t, (long long)dir->vae.stride_s,
            (long long)dir->vae.stride_s);
    fprintf(out,
            "  defaults      %lldx%lld, %lld frames, %g frames/s, sampler %s, %d steps, shift "
            "%g, guidance %g\n\n",
            (long long)d->width, (long long)d->height, (long long)d->frames, d->fps,
            model_sampler_name(d->sampler), d->steps, d->flow_shift, d->guidance_scale);
}

/* "F32 x 496, BF16 x 3" */
static void print_dtypes(const struct part_report *part, FILE *out)
{
    const char *separator = "";

    for (int i = 0; i < REPORT_DTYPES; i++) {
        if (part->n_of_dtype[i] > 0) {
            fprintf(out, "%s%zu %s", separator, part->n_of_dtype[i], dtype_name((enum dtype)i));
            separator = ", ";
        }
    }
    fprintf(out, "\n");
}

static void print_findings(const struct model_report *report, FILE *out)
{
    for (int p = 0; p < PART_COUNT; p++) {
        const struct part_report *part = &report->part[p];
        size_t all = 0;

        for (int k = 0; k < FINDING_KINDS; k++) {
            all += part->n_findings[k];
        }
        for (size_t i = 0; i < part->n_listed; i++) {
            const struct finding *f = &part->findings[i];

            fprintf(out, "  %s: %s: %s: %s\n", model_finding_name(f->kind), part->name, f->name,
                    f->text);
        }
        if (all > part->n_listed) {
            fprintf(out, "  ... and %zu more in %s\n", all - part->n_listed, part->name);
        }
    }
}

void model_report_print(const struct model_report *report, FILE *out)
{
    print_configs(report->dir, out);
    fprintf(out, "  %-13s %8s %13s %9s  %s\n", "part", "tensors", "parameters", "GB", "stored as");
    for (int i = 0; i < PART_COUNT; i++) {
        const struct part_report *part = &report->part[i];

        fprintf(out, "  %-13s %8zu %13lld %9.3f  ", part->name, part->n_tensors,
                (long long)part->n_parameters, (double)part->bytes * 1e-9);
        print_dtypes(part, out);
    }
    fprintf(out, "  %-13s %8s %13lld %9.3f\n\n", "all", "", (long long)report->n_parameters,
            (double)report->weight_bytes * 1e-9);
    fprintf(out,
            "  memory        %.3f GB for the weights as stored (mapped, shared between processes); "
            "what a\n                generation needs on top depends on its size and block "
            "length\n",
            (double)report->weight_bytes * 1e-9);
    fprintf(out, "  complete      %s\n", report->complete ? "yes" : "no");
    print_findings(report, out);
}

void model_report_print_tensors(const struct model_report *report, FILE *out)
{
    for (int p = 0; p < PART_COUNT; p++) {
        const struct weights *weights = part_weights(report->dir, (enum model_part)p);

        for (size_t i = 0; i < weights_tensor_count(weights); i++) {
            const struct safetensors_entry *e = weights_at(weights, i);
            char text[TENSOR_TEXT_MAX];

            fprintf(out, "%s %s %s\n", report->part[p].name, e->name,
                    tensor_describe(&e->tensor, text));
        }
    }
}

/* A JSON string. */
static void add_text(struct str *s, const char *text)
{
    str_add(s, "\"");
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            str_addf(s, "\\%c", *text);
        } else if ((unsigned char)*text < ' ') {
            str_addf(s, "\\u%04x", (unsigned)*text);
        } else {
            str_append(s, text, 1);
        }
    }
    str_add(s, "\"");
}

static void add_findings(struct str *s, const struct part_report *part)
{
    str_add(s, "\"findings\":[");
    for (size_t i = 0; i < part->n_listed; i++) {
        const struct finding *f = &part->findings[i];

        str_addf(s, "%s{\"kind\":\"%s\",\"tensor\":", i ? "," : "", model_finding_name(f->kind));
        add_text(s, f->name);
        str_add(s, ",\"text\":");
        add_text(s, f->text);
        str_add(s, "}");
    }
    str_add(s, "]");
}

static void add_part(struct str *s, const struct part_report *part)
{
    const char *separator = "";

    str_addf(s, "{\"name\":\"%s\",\"tensors\":%zu,\"expected\":%zu,\"parameters\":%lld,",
             part->name, part->n_tensors, part->n_expected, (long long)part->n_parameters);
    str_addf(s, "\"bytes\":%zu,\"dtypes\":{", part->bytes);
    for (int i = 0; i < REPORT_DTYPES; i++) {
        if (part->n_of_dtype[i] > 0) {
            str_addf(s, "%s\"%s\":%zu", separator, dtype_name((enum dtype)i), part->n_of_dtype[i]);
            separator = ",";
        }
    }
    str_addf(s, "},\"missing\":%zu,\"wrong_shape\":%zu,\"wrong_type\":%zu,\"unexpected\":%zu,",
             part->n_findings[FINDING_MISSING], part->n_findings[FINDING_WRONG_SHAPE],
             part->n_findings[FINDING_WRONG_TYPE], part->n_findings[FINDING_UNEXPECTED]);
    add_findings(s, part);
    str_add(s, "}");
}

static void add_configs(struct str *s, const struct model_dir *dir)
{
    const struct transformer_config *t = &dir->transformer;
    const struct gemma2_config *g = &dir->text_encoder;
    const struct model_defaults *d = &dir->defaults;
    const int64_t width = t->heads * t->head_dim;

    str_addf(s,
             ",\"transformer\":{\"causal\":%s,\"layers\":%lld,\"width\":%lld,\"heads\":%lld,"
             "\"head_dim\":%lld,\"mlp_hidden\":%lld,\"patch_size\":%lld,\"channels\":%lld}",
             t->causal ? "true" : "false", (long long)t->layers, (long long)width,
             (long long)t->heads, (long long)t->head_dim, (long long)t->mlp_hidden,
             (long long)t->patch_size, (long long)t->in_channels);
    str_addf(s,
             ",\"text_encoder\":{\"layers\":%lld,\"width\":%lld,\"heads\":%lld,\"kv_heads\":%lld,"
             "\"vocabulary\":%lld}",
             (long long)g->layers, (long long)g->hidden_size, (long long)g->heads,
             (long long)g->kv_heads, (long long)g->vocab_size);
    str_addf(s, ",\"vae\":{\"kind\":\"%s\",\"channels\":%lld,\"stride_t\":%lld,\"stride_s\":%lld}",
             dir->vae.kind == VAE_WAN ? "wan" : "ltx2", (long long)dir->vae.latent_channels,
             (long long)dir->vae.stride_t, (long long)dir->vae.stride_s);
    str_addf(s,
             ",\"defaults\":{\"size\":\"%lldx%lld\",\"frames\":%lld,\"fps\":%.17g,"
             "\"sampler\":\"%s\",\"steps\":%d,\"flow_shift\":%.17g,\"guidance_scale\":%.17g}",
             (long long)d->width, (long long)d->height, (long long)d->frames, d->fps,
             model_sampler_name(d->sampler), d->steps, d->flow_shift, d->guidance_scale);
}

int model_report_json(const struct model_report *report, struct str *ret, struct err *err)
{
    str_add(ret, "{\"path\":");
    add_text(ret, report->dir->path);
    str_addf(ret, ",\"id\":\"%s\",\"family\":\"%s\"", report->dir->defaults.id,
             model_family_name(report->dir->family));
    add_configs(ret, report->dir);
    str_add(ret, ",\"parts\":[");
    for (int i = 0; i < PART_COUNT; i++) {
        str_add(ret, i ? "," : "");
        add_part(ret, &report->part[i]);
    }
    str_addf(ret, "],\"parameters\":%lld,\"weight_bytes\":%zu,\"complete\":%s}",
             (long long)report->n_parameters, report->weight_bytes,
             report->complete ? "true" : "false");
    if (ret->failed) {
        return err_set(err, ERR_NO_MEMORY, "report on %s", report->dir->path);
    }
    return ERR_OK;
}
