/*
 * model_inspect.h - what a model directory holds, compared with what its configurations ask for.
 *
 * Reads names, types and shapes only: weights are not touched, so it is quick for any size.
 *
 *   struct model_report report;
 *   rc = model_inspect(dir, &report, &err);
 *   if (rc == ERR_OK) { model_report_print(&report, stdout); model_report_done(&report); }
 */
#ifndef ENGINE_MODEL_INSPECT_H
#define ENGINE_MODEL_INSPECT_H

#include <stdio.h>

#include "base/arena.h"
#include "base/str.h"
#include "engine/model_dir.h"

enum model_part {
    PART_TRANSFORMER,
    PART_TEXT_ENCODER,
    PART_VAE,
    PART_COUNT
};

enum {
    REPORT_DTYPES = DTYPE_U8 + 1,
    REPORT_MAX_FINDINGS = 64, /* listed for each part; all are counted */
};

enum finding_kind {
    FINDING_MISSING,     /* the model cannot run */
    FINDING_WRONG_SHAPE, /* likewise */
    FINDING_WRONG_TYPE,  /* likewise: not F32, BF16 or F16 */
    FINDING_UNEXPECTED,  /* not used; harmless */
    FINDING_KINDS,
};

struct finding {
    enum finding_kind kind;
    const char *name; /* of the tensor; owned by the report */
    const char *text; /* "is F32[3, 4], expected [4, 4]"; owned by the report */
};

struct part_report {
    const char *name;                 /* the folder: "transformer" */
    size_t n_tensors;                 /* in the files */
    size_t n_expected;                /* by the configuration */
    int64_t n_parameters;             /* of the expected tensors that are there with their shape */
    size_t bytes;                     /* of all tensors of the files, as stored */
    size_t n_of_dtype[REPORT_DTYPES]; /* tensors */
    size_t n_findings[FINDING_KINDS];
    struct finding findings[REPORT_MAX_FINDINGS];
    size_t n_listed;
};

struct model_report {
    const struct model_dir *dir; /* borrowed */
    struct arena arena;          /* holds the texts */
    struct part_report part[PART_COUNT];
    int64_t n_parameters;
    size_t weight_bytes; /* memory for the weights as stored; activations come on top */
    bool complete;       /* nothing missing, no wrong shape or type */
};

/* dir must live as long as the report. A directory that is not complete is not an error here.
 * Errors: ERR_NO_MEMORY. */
MUST_CHECK int model_inspect(const struct model_dir *dir, struct model_report *ret,
                             struct err *err);

void model_report_done(struct model_report *report);

/* For people. */
void model_report_print(const struct model_report *report, FILE *out);

/* One line per tensor: part, name, type and shape, in file order. */
void model_report_print_tensors(const struct model_report *report, FILE *out);

/* For programs: appends one JSON object. Errors: ERR_NO_MEMORY (also when `ret` is full). */
MUST_CHECK int model_report_json(const struct model_report *report, struct str *ret,
                                 struct err *err);

const char *model_finding_name(enum finding_kind kind);

#endif
