/*
 * config_value.h - one setting's value: from text, to text, and what is allowed.
 *
 * field points to the row's field in struct config (config.h). Values print as text that reads back to the
 * same value. Any thread.
 */
#ifndef DAEMON_CONFIG_VALUE_H
#define DAEMON_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum {
    CONFIG_MAX_ADDRESSES = 16,
    CONFIG_ADDRESS_SIZE = 264,
    CONFIG_RANGE_SIZE = 160,
};

/* Each "HOST:PORT", "[IPV6]:PORT" or "unix:/PATH"; port 0: any that is free. */
struct config_addresses {
    int n;
    char text[CONFIG_MAX_ADDRESSES][CONFIG_ADDRESS_SIZE];
};

enum config_type {
    CONFIG_TEXT,
    CONFIG_PATH,
    CONFIG_INT,
    CONFIG_NUMBER,
    CONFIG_BOOL,
    CONFIG_CHOICE,
    CONFIG_DURATION,
    CONFIG_BYTES,
    CONFIG_ADDRESSES,
};

struct config_row {
    enum config_type type;
    const char *key;
    const char *default_text;
    double min, max; /* whole numbers stay below 2^53 */
    const char *unit;
    bool reload;
    const char *doc;
    size_t offset, size; /* of the field in struct config */
};

/* UTF-8 without control characters; tabs are blanks. */
bool config_value_is_text(const char *text, size_t len);
bool config_value_is_blank(char c);

/* False: the text is not what the row allows; *field is then as it was, except that addresses are added one by one
 * to those that are there. */
MUST_CHECK bool config_value_set(void *field, const struct config_row *r, const char *text);

/* The sentence for that. */
int config_value_refuse(const struct config_row *r, const char *text, struct err *err);

/* What a row allows: "16..65536 connections". */
void config_value_range(char to[CONFIG_RANGE_SIZE], const struct config_row *r);

/* In quotes where a file needs them. index: which address; of other types there is one. */
void config_value_print(const void *field, const struct config_row *r, int index, FILE *out);
void config_value_print_text(const char *text, FILE *out);

#endif
