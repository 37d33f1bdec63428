/*
 * cli_options.h - command line options from one table: parsing, ranges and --help.
 *
 * "--name VALUE", "--name=VALUE", "-x VALUE"; flags take no value; "--" ends options; everything
 * else is a positional argument. Errors name the option, what was given and what is allowed.
 */
#ifndef DAEMON_CLI_OPTIONS_H
#define DAEMON_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum cli_type {
    CLI_FLAG,   /* bool * */
    CLI_TEXT,   /* const char ** */
    CLI_INT,    /* int64_t *, within [min, max] */
    CLI_NUMBER, /* double *, within [min, max] */
    CLI_BYTES,  /* int64_t *, within [min, max], "24GiB" */
    CLI_SIZE,   /* int64_t[2] *, "832x480" */
    CLI_LIST,   /* struct cli_list *, may be repeated */
};

enum {
    CLI_LIST_MAX = 64
};

struct cli_list {
    int n;
    const char *text[CLI_LIST_MAX];
};

struct cli_option {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    enum cli_type type;
    void *to;
    double min, max;   /* CLI_INT, CLI_NUMBER, CLI_BYTES */
    const char *value; /* as --help shows it, "N"; NULL for flags */
    const char *help;
    bool given; /* set by parsing */
};

/* argv[0] is the command's name. Positional arguments go to ret_positional, at most max.
 * Errors: ERR_INVALID. */
MUST_CHECK int cli_parse(struct cli_option *options, int n_options, int argc, char **argv,
                         const char **ret_positional, int max_positional, int *ret_n,
                         struct err *err);

/* The options as an indented list. */
void cli_print_options(const struct cli_option *options, int n_options, FILE *out);

/* Was --NAME given? */
bool cli_given(const struct cli_option *options, int n_options, const char *name);

/* The shell's view of an error code: 2 for a wrong command line, 130 after an interrupt, else 1. */
int cli_exit_status(int rc, bool usage);

#endif
