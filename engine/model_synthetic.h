/*
 * model_synthetic.h - a published model's shapes with synthetic weights: what is measured where there are no
 * model files (`sanad bench`, `make gpu-check`).
 *
 * It has no tokenizer: whatever the prompt, the text is max_prompt_tokens tokens long. Its pictures are noise.
 * Engine thread.
 */
#ifndef ENGINE_MODEL_SYNTHETIC_H
#define ENGINE_MODEL_SYNTHETIC_H

#include "engine/model.h"

struct model_synthetic_options {
    enum model_family family;
    bool tiny; /* a few channels everywhere, to try the program out */
};

/* Errors: ERR_NO_MEMORY, ERR_NO_VRAM, ERR_DEVICE. Closed by model_close(). */
MUST_CHECK int model_synthetic_open(struct model **ret,
                                    const struct model_synthetic_options *options,
                                    struct device *dev, struct err *err);

#endif
