/*
 * model_config_internal.h - what the parsers of the model configurations share.
 */
#ifndef ENGINE_MODEL_CONFIG_INTERNAL_H
#define ENGINE_MODEL_CONFIG_INTERNAL_H

#include "engine/json_read.h"
#include "engine/model_dir.h"

enum {
    CONFIG_MAX_BYTES = 1 << 20,
    CONFIG_MAX_VALUES = 20000
};

/* A configuration while it is being read. */
struct config {
    cJSON *root; /* owned */
    struct json_fields f;
};

MUST_CHECK int config_open(struct config *c, const char *text, size_t len, const char *file,
                           struct err *err);

/* Returns the first error of the fields. */
MUST_CHECK int config_close(struct config *c);

/* ERR_UNSUPPORTED if one of these flags is true. */
void config_refuse_true(struct json_fields *f, const char *const *keys, size_t n);

/* ERR_UNSUPPORTED if one of these is there and not null. */
void config_refuse_value(struct json_fields *f, const char *const *keys, size_t n);

/* ERR_UNSUPPORTED unless the value is `want`; `def` stands for a missing one. */
void config_want_text(struct json_fields *f, const char *key, const char *def, const char *want);
void config_want_int(struct json_fields *f, const char *key, int64_t def, int64_t want);

enum {
    CLASS_NAME_MAX = 63
};

/* model_index.json: that the pipeline and its components are of known kinds. The transformer's and
 * the VAE's classes are for comparison with their own configurations. */
struct model_index {
    char transformer[CLASS_NAME_MAX + 1];
    char vae[CLASS_NAME_MAX + 1];
};
MUST_CHECK int model_parse_index(struct model_index *ret, const char *text, size_t len,
                                 const char *file, struct err *err);

/* What a family member is run with when nobody says otherwise. Cannot fail. */
void model_defaults_init(struct model_defaults *d, enum model_family family,
                         const struct transformer_config *transformer,
                         const struct scheduler_config *scheduler);

#endif
