/*
 * model.h - a model directory, loaded: everything that stays resident between videos.
 *
 * Sessions borrow it. Loading checks every tensor; what the device can read as it lies in the
 * mapped files is not copied. Engine thread.
 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "engine/model_dir.h"
#include "engine/text_encoder.h"
#include "engine/tokenizer.h"
#include "engine/transformer.h"
#include "engine/vae.h"

struct model {
    struct device *dev;          /* borrowed */
    struct model_dir *dir;       /* owned, as are all below */
    struct tokenizer *tokenizer; /* NULL: synthetic (model_synthetic.h) */
    struct text_encoder *text_encoder;
    struct transformer *transformer;
    struct vae *vae;
};

/* Errors: those of the parts, each naming its file and tensor or field. */
MUST_CHECK int model_open(struct model **ret, const char *path, struct device *dev,
                          struct err *err);

/* The same for a directory that is open already; it belongs to the model from now on, also after an error. A
 * directory without tokenizer_path gives a model without a tokenizer. */
MUST_CHECK int model_open_dir(struct model **ret, struct model_dir *dir, struct device *dev,
                              struct err *err);

/* Accepts NULL. No session may be open. */
void model_close(struct model *model);

#endif
