/*
 * create_request.h - POST /v1/videos: from fields to a job, by the rules of the contract (API.md 3.3, 3.4).
 *
 * Aliases, extra_body / extra_json / extra_params, no-ops (warned of), refusals, unknown parameters. Each
 * error names its parameter, the value and the limit.
 */
#ifndef API_CREATE_REQUEST_H
#define API_CREATE_REQUEST_H

#include "api/fields.h"
#include "jobs/job_spec.h"
#include "jobs/model_facts.h"

struct create_limits {
    double max_seconds;  /* 60 */
    int64_t max_frames;  /* of the server; the model's own limit counts, too */
    bool lenient;        /* Prefer: handling=lenient: unknown parameters are warnings */
    bool may_prioritise; /* priority > 0; else it becomes 0 with a warning */
};

enum reference_kind {
    REFERENCE_NONE,
    REFERENCE_FILE,  /* the spooled file files[reference_file] of the fields */
    REFERENCE_BYTES, /* decoded from a data URL */
};

struct create_request {
    struct job_spec spec;
    char model[FACTS_ID]; /* canonical */
    bool seed_given;
    int priority;
    char *group; /* owned; NULL: none */
    char *user;
    char *tags;              /* JSON array */
    char *metadata;          /* JSON object */
    int64_t cancel_after_ms; /* 0: none */
    enum reference_kind reference;
    int reference_file;
    uint8_t *reference_data; /* owned */
    size_t reference_bytes;
    char fingerprint
        [65]; /* SHA-256 of all this in canonical form, the picture's bytes included; the seed only
                             if it was given */
};

/* f is changed (merged). The picture is probed (media/image_probe.h), not decoded. cancel_after: the header's
 * value or NULL. random_seed is used when none is given. False: *e says why, and ret is empty. */
bool create_request_parse(struct create_request *ret, struct fields *f,
                          const struct model_facts *facts, const struct create_limits *limits,
                          const char *cancel_after, uint64_t random_seed, struct api_error *e);

void create_request_done(struct create_request *r);

/* Rules shared with POST /v1/videos/{id}: JSON of the checked values, owned by the caller; *ret_... stay NULL
 * when the field is absent. */
bool create_request_tags(const cJSON *value, char **ret_tags, struct api_error *e);
bool create_request_metadata(const cJSON *value, char **ret_metadata, struct api_error *e);
bool create_request_priority(const cJSON *value, int *ret, struct api_error *e);

#endif
