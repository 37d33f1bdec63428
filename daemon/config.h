/*
 * config.h - the daemon's settings: one table (config.def), from which all of this follows.
 *
 * Precedence: default < /etc/sanad/sanad.conf < /etc/sanad/conf.d/NAME.conf in the order of their names
 * < environment < command line. For the key "http.max_connections" these are SANAD_HTTP_MAX_CONNECTIONS
 * and --http-max-connections VALUE (or =VALUE). "--config FILE" stands in for the files under /etc.
 *
 * A file has lines "key = value", UTF-8, and comments from a "#" at the beginning or after a blank. Values
 * may stand in "quotes", in which \" and \\ are escapes. Whatever is not understood is refused, with its place
 * and what is allowed: an unknown key, a value out of range, a key twice in one file. "listen" may be repeated;
 * its first mention in each source replaces what came before.
 *
 * Plain data, about 20 KiB; copy it freely. Any thread; the environment is read by config_load and
 * config_reload only.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "daemon/config_value.h"

enum {
    CONFIG_ORIGIN_SIZE = 256,
    CONFIG_MAX_FILE_BYTES = 1 << 20,
    CONFIG_MAX_LINE_BYTES = 4096,
};

/* Choices are numbers, in the order in which the row names them; log_level is an enum log_level. */
enum config_text_encoder {
    CONFIG_TEXT_ENCODER_AUTO,
    CONFIG_TEXT_ENCODER_GPU,
    CONFIG_TEXT_ENCODER_HOST,
};

enum config_precision {
    CONFIG_PRECISION_BF16,
    CONFIG_PRECISION_F32,
};

#define CONFIG_FIELD_TEXT(field, max)      char field[(max) + 1];
#define CONFIG_FIELD_PATH(field, max)      char field[(max) + 1];
#define CONFIG_FIELD_INT(field, max)       int64_t field;
#define CONFIG_FIELD_NUMBER(field, max)    double field;
#define CONFIG_FIELD_BOOL(field, max)      bool field;
#define CONFIG_FIELD_CHOICE(field, max)    int field;
#define CONFIG_FIELD_DURATION(field, max)  int64_t field;
#define CONFIG_FIELD_BYTES(field, max)     int64_t field;
#define CONFIG_FIELD_ADDRESSES(field, max) struct config_addresses field;

enum {
#define ROW(type, field, key, default_, min, max, unit, when, doc) CONFIG_ROW_##field,
#include "daemon/config.def"
#undef ROW
    CONFIG_N_ROWS
};

struct config {
#define ROW(type, field, key, default_, min, max, unit, when, doc) CONFIG_FIELD_##type(field, max)
#include "daemon/config.def"
#undef ROW
    char origin[CONFIG_N_ROWS][CONFIG_ORIGIN_SIZE]; /* "default", "FILE:LINE", variable or option */
};

extern const struct config_row config_rows[CONFIG_N_ROWS];

/* Where to look, for tests; the strings are borrowed during the call. */
struct config_sources {
    const char *file;   /* need not exist */
    const char *folder; /* likewise */
    char *const *env;   /* "NAME=VALUE", then NULL */
    bool root;          /* for the default of data_dir */
};

/* argv: options only, without program and subcommand: settings and --config. sources NULL: this machine's. On
 * failure *ret stays as it was. ERR_INVALID, ERR_IO, ERR_NO_MEMORY. */
MUST_CHECK int config_load(struct config *ret, const struct config_sources *sources, int argc,
                           char *const *argv, struct err *err);

/* applied: the new value is in *current; else it is used at the next start. */
typedef void (*config_changed_fn)(void *ctx, const char *key, bool applied);

/* Loads again and takes over what can change while running; changed() is called for each key whose value is
 * another one. On failure nothing changes. */
MUST_CHECK int config_reload(struct config *current, const struct config_sources *sources, int argc,
                             char *const *argv, config_changed_fn changed, void *ctx,
                             struct err *err);

/* All defaults; data_dir stays empty. */
void config_init(struct config *ret);

/* One file's text on top of *config; name is for messages. On failure *config is partly changed. */
MUST_CHECK int config_parse(struct config *config, const char *text, size_t len, const char *name,
                            struct err *err);

/* The values in use as a file, with their origins as comments. */
void config_print(const struct config *config, FILE *out);

/* A commented file with all defaults: docs/sanad.conf. */
void config_sample(FILE *out);

/* The options for --help. */
void config_help(FILE *out);

#endif
