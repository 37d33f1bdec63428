/*
 * model_dir.h - a published diffusers directory, opened as it is: configs parsed, weights mapped.
 *
 *   model_index.json  scheduler/  tokenizer/  text_encoder/  transformer/  vae/  [sanad.json]
 *
 * Says which member of the SANA-Video family it is and refuses, with the reason, what this program
 * cannot run (other pipelines, SANA-Video 2.0, DC-AE, unknown VAEs). Opening maps files and reads
 * JSON; it does not touch weights.
 */
#ifndef ENGINE_MODEL_DIR_H
#define ENGINE_MODEL_DIR_H

#include "engine/model_config.h"
#include "engine/weights.h"

enum model_family {
    FAMILY_SANA_VIDEO_WAN,  /* bidirectional, Wan 2.1 VAE: the 480p model */
    FAMILY_SANA_VIDEO_LTX2, /* bidirectional, LTX-2 VAE: the 720p model */
    FAMILY_LONGSANA,        /* block-causal, Wan 2.1 VAE */
};

struct model_dir {
    char *path; /* owned */
    enum model_family family;
    struct transformer_config transformer;
    struct gemma2_config text_encoder;
    struct vae_config vae;
    struct scheduler_config scheduler;
    struct model_defaults defaults;
    char *tokenizer_path;                /* owned; tokenizer/tokenizer.model */
    struct weights *transformer_weights; /* owned */
    struct weights *text_encoder_weights;
    struct weights *vae_weights;
};

/* Errors: ERR_NOT_FOUND (directory or a file of it, named), ERR_FORMAT (file and field or tensor),
 * ERR_UNSUPPORTED (what, and why), ERR_IO, ERR_NO_MEMORY. */
MUST_CHECK int model_dir_open(struct model_dir **ret, const char *path, struct err *err);

/* Accepts NULL. Nothing may use the weights any more. */
void model_dir_close(struct model_dir *dir);

/* "SANA-Video (Wan 2.1 VAE)", ... */
const char *model_family_name(enum model_family family);

/* As in sanad.json: "dpm", "euler", "unipc", "longlive". */
const char *model_sampler_name(enum sampler_kind kind);

/* The config parsers, for fuzzing: text need not be NUL-terminated; file is for messages. */
MUST_CHECK int model_parse_transformer(struct transformer_config *ret, const char *text, size_t len,
                                       const char *file, struct err *err);
MUST_CHECK int model_parse_gemma2(struct gemma2_config *ret, const char *text, size_t len,
                                  const char *file, struct err *err);
MUST_CHECK int model_parse_vae(struct vae_config *ret, const char *text, size_t len,
                               const char *file, struct err *err);
MUST_CHECK int model_parse_scheduler(struct scheduler_config *ret, const char *text, size_t len,
                                     const char *file, struct err *err);
/* ret holds the family's defaults on entry. */
MUST_CHECK int model_parse_sanad(struct model_defaults *ret, const char *text, size_t len,
                                 const char *file, struct err *err);

#endif
