/*
 * sanad inspect DIR: components, tensors, types, parameters, memory.
 */
#include "daemon/commands.h"

#include <stdio.h>

#include "base/str.h"
#include "daemon/cli_options.h"
#include "engine/model_inspect.h"

enum {
    JSON_MAX = 16 << 20
};

struct inspect_options {
    bool json, tensors, help;
};

static int print_json(const struct model_report *report, struct err *err)
{
    struct str text;
    int rc;

    str_init(&text, JSON_MAX);
    rc = model_report_json(report, &text, err);
    if (rc == ERR_OK) {
        printf("%s\n", str_get(&text));
    }
    str_done(&text);
    return rc;
}

static int inspect(const char *path, const struct inspect_options *o, struct err *err)
{
    struct model_report report;
    struct model_dir *dir = NULL;
    int rc = model_dir_open(&dir, path, err);

    if (rc == ERR_OK) {
        rc = model_inspect(dir, &report, err);
        if (rc == ERR_OK) {
            if (o->json) {
                rc = print_json(&report, err);
            } else if (o->tensors) {
                model_report_print_tensors(&report, stdout);
            } else {
                model_report_print(&report, stdout);
            }
            if (rc == ERR_OK && !report.complete) {
                rc = err_set(err, ERR_FORMAT, "%s: the model is not complete", path);
            }
            model_report_done(&report);
        }
    }
    model_dir_close(dir);
    return rc;
}

int cmd_inspect(int argc, char **argv)
{
    struct inspect_options o = {0};
    struct cli_option options[] = {
        {.name = "json", .type = CLI_FLAG, .to = &o.json, .help = "print one JSON object"},
        {.name = "tensors",
         .type = CLI_FLAG,
         .to = &o.tensors,
         .help = "print each tensor's name, type and shape"},
        {.name = "help", .letter = 'h', .type = CLI_FLAG, .to = &o.help, .help = "print this"},
    };
    const char *path = NULL;
    struct err err = {0};
    bool usage = true;
    int n;
    int rc = cli_parse(options, ARRAY_LEN(options), argc, argv, &path, 1, &n, &err);

    if (rc == ERR_OK && o.help) {
        printf("usage: sanad inspect DIR [OPTIONS]\n\n"
               "Says what a model directory holds, and compares its tensors with what its\n"
               "configuration asks for. Exit status 0 only if the model is complete.\n\n");
        cli_print_options(options, ARRAY_LEN(options), stdout);
        return 0;
    }
    if (rc == ERR_OK && n == 0) {
        rc = err_set(&err, ERR_INVALID, "no model directory given; see 'sanad inspect --help'");
    }
    if (rc == ERR_OK) {
        usage = false;
        rc = inspect(path, &o, &err);
    }
    if (rc != ERR_OK) {
        fprintf(stderr, "sanad inspect: %s\n", err.msg);
    }
    return cli_exit_status(rc, usage);
}
