/*
 * create_internal.h - the steps of create_request_parse. Each reads what was given and fills a part of the
 * request; false: *p->e says why.
 */
#ifndef API_CREATE_INTERNAL_H
#define API_CREATE_INTERNAL_H

#include "api/create_request.h"

/* What a request can ask for, by its first name. */
enum create_field {
    FIELD_PROMPT,
    FIELD_MODEL,
    FIELD_SECONDS,
    FIELD_SIZE,
    FIELD_WIDTH,
    FIELD_HEIGHT,
    FIELD_ASPECT_RATIO,
    FIELD_SHORT_EDGE,
    FIELD_FPS,
    FIELD_NUM_FRAMES,
    FIELD_STEPS,
    FIELD_GUIDANCE_SCALE,
    FIELD_NEGATIVE_PROMPT,
    FIELD_SEED,
    FIELD_FLOW_SHIFT,
    FIELD_MOTION_SCORE,
    FIELD_INPUT_REFERENCE,
    FIELD_IMAGE_REFERENCE,
    FIELD_REFERENCE_URL,
    FIELD_STREAM_BLOCK_FRAMES,
    FIELD_METADATA,
    FIELD_TAGS,
    FIELD_GROUP,
    FIELD_PRIORITY,
    FIELD_CANCEL_AFTER,
    FIELD_USER,
    FIELD_QUALITY,
    FIELD_EXTRA_BODY,
    FIELD_EXTRA_JSON,
    FIELD_EXTRA_PARAMS,
    FIELD_COUNT,
};

/* A value and the name it was given by; NULL: absent. Borrowed from the fields. */
struct create_value {
    const cJSON *value;
    const char *name;
};

struct create_parse {
    const struct fields *fields;
    const struct model_facts *facts;
    const struct create_limits *limits;
    struct create_request *r;
    struct api_error *e;
    struct create_value given[FIELD_COUNT]; /* merged */
    cJSON *extra[3];                        /* owned: extra_* that came as text */
};

/* create_fields.c: names, aliases, merging, no-ops and refusals. Parts end with create_fields_done. */
bool create_fields_read(struct create_parse *p);
void create_fields_done(struct create_parse *p);

/* Judges a file part by its name: a reference picture, to be ignored, or wrong. */
bool create_fields_check_file(struct create_parse *p, const char *name, bool *ret_reference);

/* An absent value leaves *ret alone. */
bool create_get_int(struct create_parse *p, enum create_field field, int64_t min, int64_t max,
                    int64_t *ret);
bool create_get_real(struct create_parse *p, enum create_field field, double min, double max,
                     double *ret);
/* Trimmed of blanks, at most max code points; owned. An empty one is absent: *ret stays as it is. */
bool create_get_text(struct create_parse *p, enum create_field field, size_t max, char **ret);

/* A value as it may stand in a message: at most 40 characters of it. Returns `to`. */
const char *create_show(const cJSON *value, char to[64]);

bool create_no_memory(struct api_error *e);

/* create_shape.c: width, height, fps, num_frames, generated_frames. */
bool create_shape(struct create_parse *p);

/* create_reference.c. Writes the SHA-256 of the picture, "" if there is none. */
bool create_reference(struct create_parse *p, char ret_sha256[65]);

/* create_labels.c: "90s", "2m", "1h", "90" of the Cancel-After header. */
bool create_cancel_after(struct create_parse *p, const char *header);

#endif
