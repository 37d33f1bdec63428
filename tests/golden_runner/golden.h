/*
 * golden.h - one case of manifest.json, as the checkers see it.
 *
 * A checker reads inputs by name, runs the engine, and compares outputs by name; every output of
 * the case must be compared (golden_compare marks it), else the case fails. Tensors in files are
 * channels-first [B, C, T, H, W]; the engine's are channels-last.
 */
#ifndef TESTS_GOLDEN_RUNNER_GOLDEN_H
#define TESTS_GOLDEN_RUNNER_GOLDEN_H

#include <cjson/cJSON.h>

#include "engine/model_dir.h"
#include "engine/safetensors.h"
#include "kernels/device.h"

struct golden_case {
    const char *name;
    const char *component;
    const cJSON *params;      /* object */
    const char *dir;          /* the golden directory */
    const char *file;         /* its file, relative to dir; for cases that are not safetensors */
    struct safetensors *data; /* NULL for those */
    struct model_dir *model;  /* NULL when the case has none; opened once per run */
    struct device *dev;
    double tolerance;
    bool rope_bf16;       /* run with rope tables (text: frequencies) rounded to bf16 */
    bool bf16;            /* the device keeps activations in BF16: rms counts, not worst */
    double worst;         /* max over outputs of max|a-b| / max|b| */
    char worst_name[128]; /* the output that was worst */
    double rms;           /* max over outputs of rms(a-b) / rms(b) */
    int n_compared;
};

/* Input or output as it is stored. Ends the case with an error when it is missing. */
MUST_CHECK int golden_tensor(const struct golden_case *c, const char *name, struct tensor *ret,
                             struct err *err);

/* Compares got[n] with output `name` (F32, or I64 as numbers). NaN is an error. */
MUST_CHECK int golden_compare(struct golden_case *c, const char *name, const float *got, int64_t n,
                              struct err *err);

/* For exact cases (integers, text): a difference found by the checker itself. */
int golden_mismatch(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

double golden_number(const struct golden_case *c, const char *key, double fallback);
const char *golden_string(const struct golden_case *c, const char *key, const char *fallback);
bool golden_bool(const struct golden_case *c, const char *key, bool fallback);

/* [C, T, H, W] <-> [T, H, W, C], both owned by the caller. */
void golden_to_channels_last(float *out, const float *in, int64_t c, int64_t thw);
void golden_to_channels_first(float *out, const float *in, int64_t c, int64_t thw);

/* Checkers, one function per component; each file of this folder holds some. */
typedef int (*golden_fn)(struct golden_case *c, struct err *err);

int golden_time_embed(struct golden_case *c, struct err *err);
int golden_rope(struct golden_case *c, struct err *err);
int golden_caption(struct golden_case *c, struct err *err);
int golden_block(struct golden_case *c, struct err *err);
int golden_forward(struct golden_case *c, struct err *err);
int golden_causal(struct golden_case *c, struct err *err);
int golden_scheduler(struct golden_case *c, struct err *err);
int golden_longlive(struct golden_case *c, struct err *err);
int golden_sampler(struct golden_case *c, struct err *err);
int golden_long(struct golden_case *c, struct err *err);
int golden_e2e(struct golden_case *c, struct err *err);
int golden_misc(struct golden_case *c, struct err *err);
int golden_wan_decode(struct golden_case *c, struct err *err);
int golden_wan_encode(struct golden_case *c, struct err *err);
int golden_ltx2_decode(struct golden_case *c, struct err *err);
int golden_ltx2_encode(struct golden_case *c, struct err *err);
int golden_text_encoder(struct golden_case *c, struct err *err);
int golden_tokenizer(struct golden_case *c, struct err *err);
int golden_prompt(struct golden_case *c, struct err *err);

#endif
