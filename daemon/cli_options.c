#include "daemon/cli_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_value.h"

static struct cli_option *find_option(struct cli_option *options, int n, const char *name,
                                      size_t len)
{
    for (int i = 0; i < n; i++) {
        if (strlen(options[i].name) == len && strncmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static struct cli_option *find_letter(struct cli_option *options, int n, char letter)
{
    for (int i = 0; i < n; i++) {
        if (options[i].letter == letter) {
            return &options[i];
        }
    }
    return NULL;
}

static int parse_int(const struct cli_option *o, const char *text, struct err *err)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || (double)v < o->min || (double)v > o->max) {
        return err_set(err, ERR_INVALID, "--%s: '%s' is not a whole number in %.0f..%.0f", o->name,
                       text, o->min, o->max);
    }
    *(int64_t *)o->to = v;
    return ERR_OK;
}

static int parse_number(const struct cli_option *o, const char *text, struct err *err)
{
    char *end;
    double v;

    errno = 0;
    v = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(v >= o->min && v <= o->max)) {
        return err_set(err, ERR_INVALID, "--%s: '%s' is not a number in %g..%g", o->name, text,
                       o->min, o->max);
    }
    *(double *)o->to = v;
    return ERR_OK;
}

static int parse_bytes(const struct cli_option *o, const char *text, struct err *err)
{
    const struct config_row row = {.type = CONFIG_BYTES, .min = o->min, .max = o->max, .unit = ""};

    if (config_value_set(o->to, &row, text)) {
        return ERR_OK;
    }
    config_value_refuse(&row, text, err);
    return err_prefix(err, "--%s", o->name);
}

static int parse_size(const struct cli_option *o, const char *text, struct err *err)
{
    int64_t *to = o->to;
    const char *rest;
    char *end;
    long long w;
    long long h;

    errno = 0;
    w = strtoll(text, &end, 10);
    if (end == text || *end != 'x') {
        return err_set(err, ERR_INVALID, "--%s: '%s' is not WIDTHxHEIGHT, such as 832x480", o->name,
                       text);
    }
    rest = end + 1;
    h = strtoll(rest, &end, 10);
    if (end == rest || *end != '\0' || errno != 0 || w < 1 || h < 1) {
        return err_set(err, ERR_INVALID, "--%s: '%s' is not WIDTHxHEIGHT, such as 832x480", o->name,
                       text);
    }
    to[0] = w;
    to[1] = h;
    return ERR_OK;
}

static int add_to_list(const struct cli_option *o, const char *text, struct err *err)
{
    struct cli_list *list = o->to;

    if (list->n == CLI_LIST_MAX) {
        return err_set(err, ERR_INVALID, "--%s: given more than %d times", o->name, CLI_LIST_MAX);
    }
    list->text[list->n++] = text;
    return ERR_OK;
}

static int set_option(struct cli_option *o, const char *text, struct err *err)
{
    if (o->given && o->type != CLI_LIST && o->type != CLI_FLAG) {
        return err_set(err, ERR_INVALID, "--%s: given twice", o->name);
    }
    o->given = true;
    switch (o->type) {
    case CLI_FLAG:
        *(bool *)o->to = true;
        return ERR_OK;
    case CLI_TEXT:
        *(const char **)o->to = text;
        return ERR_OK;
    case CLI_INT:
        return parse_int(o, text, err);
    case CLI_NUMBER:
        return parse_number(o, text, err);
    case CLI_BYTES:
        return parse_bytes(o, text, err);
    case CLI_SIZE:
        return parse_size(o, text, err);
    case CLI_LIST:
        return add_to_list(o, text, err);
    }
    return ERR_OK;
}

/* Handles argv[*i], which starts with a dash; advances *i over a separate value. */
static int parse_one(struct cli_option *options, int n, int argc, char **argv, int *i,
                     struct err *err)
{
    const char *arg = argv[*i];
    const char *value = NULL;
    struct cli_option *o;

    if (arg[1] == '-') {
        const size_t len = strcspn(arg + 2, "=");

        o = find_option(options, n, arg + 2, len);
        value = arg[2 + len] == '=' ? arg + 3 + len : NULL;
    } else {
        o = find_letter(options, n, arg[1]);
        value = arg[2] != '\0' ? arg + 2 : NULL;
    }
    if (!o) {
        return err_set(err, ERR_INVALID, "unknown option '%s'; see 'sanad %s --help'", arg,
                       argv[0]);
    }
    if (o->type == CLI_FLAG) {
        return value ? err_set(err, ERR_INVALID, "--%s takes no value", o->name)
                     : set_option(o, NULL, err);
    }
    if (!value) {
        if (*i + 1 >= argc) {
            return err_set(err, ERR_INVALID, "--%s needs a value: %s", o->name, o->value);
        }
        value = argv[++*i];
    }
    return set_option(o, value, err);
}

int cli_parse(struct cli_option *options, int n_options, int argc, char **argv,
              const char **ret_positional, int max_positional, int *ret_n, struct err *err)
{
    bool options_end = false;

    *ret_n = 0;
    for (int i = 1; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && argv[i][0] == '-' && argv[i][1] != '\0') {
            const int rc = parse_one(options, n_options, argc, argv, &i, err);

            if (rc != ERR_OK) {
                return rc;
            }
        } else if (*ret_n == max_positional) {
            return err_set(err, ERR_INVALID, "unexpected argument '%s'; see 'sanad %s --help'",
                           argv[i], argv[0]);
        } else {
            ret_positional[(*ret_n)++] = argv[i];
        }
    }
    return ERR_OK;
}

void cli_print_options(const struct cli_option *options, int n_options, FILE *out)
{
    for (int i = 0; i < n_options; i++) {
        const struct cli_option *o = &options[i];
        char left[48];

        snprintf(left, sizeof(left), "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        fprintf(out, "  %-28s %s\n", left, o->help);
    }
}

bool cli_given(const struct cli_option *options, int n_options, const char *name)
{
    for (int i = 0; i < n_options; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return options[i].given;
        }
    }
    return false;
}

int cli_exit_status(int rc, bool usage)
{
    if (rc == ERR_OK) {
        return 0;
    }
    return usage ? 2 : rc == ERR_CANCELLED ? 130 : 1;
}
